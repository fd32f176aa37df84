package output

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/transport"
)

// rdkafka reads rdkafka.NAME, the options of librdkafka (its CONFIGURATION.md lists them), and makes settings of this client from them.
type rdkafka struct {
	set      *options.Set
	settings []kgo.Opt
	tls      *tls.Config
	useTLS   bool
	delivery time.Duration // for all records of a chunk, 0 without end
	dial     time.Duration

	acks                      kgo.Acks
	idempotent                bool
	protocol                  string
	mechanism, user, password string
	ca, certificate, key      string
}

// tuning are options with numbers that shape librdkafka's own queue, sockets and retries: whole chunks, each tried again by the engine, take their
// place here. The numbers are the limits of each.
var tuning = map[string][2]int64{
	"queue.buffering.max.messages": {0, 1<<31 - 1}, "queue.buffering.max.kbytes": {1, 1<<31 - 1}, "queue.buffering.max.ms": {0, 900_000}, "linger.ms": {0, 900_000},
	"queue.buffering.backpressure.threshold": {1, 1_000_000}, "batch.num.messages": {1, 1_000_000}, "batch.size": {1, 1<<31 - 1},
	"sticky.partitioning.linger.ms": {0, 900_000}, "statistics.interval.ms": {0, 86_400_000}, "socket.send.buffer.bytes": {0, 100_000_000},
	"socket.receive.buffer.bytes": {0, 100_000_000}, "socket.max.fails": {0, 1_000_000}, "broker.address.ttl": {0, 86_400_000},
	"reconnect.backoff.ms": {0, 3_600_000}, "reconnect.backoff.max.ms": {0, 3_600_000}, "retry.backoff.ms": {1, 300_000}, "retry.backoff.max.ms": {1, 300_000},
	"max.in.flight": {1, 1_000_000}, "max.in.flight.requests.per.connection": {1, 1_000_000}, "api.version.request.timeout.ms": {1, 300_000},
	"api.version.fallback.ms": {0, 604_800_000}, "topic.metadata.refresh.interval.ms": {-1, 3_600_000}, "topic.metadata.refresh.fast.interval.ms": {1, 60_000},
	"topic.metadata.propagation.max.ms": {0, 3_600_000}, "metadata.max.age.ms": {1, 86_400_000},
}

// switches are options of the same kind that are true or false.
var switches = []string{"log.connection.close", "log.thread.name", "log.queue", "socket.keepalive.enable", "socket.nagle.disable", "topic.metadata.refresh.sparse", "api.version.request"}

func readRdkafka(o *options.Set) *rdkafka {
	r := &rdkafka{set: o, delivery: 30 * time.Second, dial: 10 * time.Second, acks: kgo.AllISRAcks(), idempotent: true, protocol: "plaintext"}
	r.tls, r.useTLS = transport.TLS(o, "")
	r.settings = append(r.settings, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(consistent)))
	for _, p := range o.Prefixed("rdkafka.") {
		r.read(p, strings.ToLower(p.Key[len("rdkafka."):]))
	}
	r.settings = append(r.settings, kgo.RequiredAcks(r.acks))
	if r.acks != kgo.AllISRAcks() || !r.idempotent {
		r.settings = append(r.settings, kgo.DisableIdempotentWrite())
	}
	if r.delivery > 0 {
		r.settings = append(r.settings, kgo.RecordDeliveryTimeout(r.delivery))
	}
	r.secure()
	r.authenticate()
	return r
}

func (r *rdkafka) read(p config.Property, name string) {
	v := p.Value
	switch name {
	case "compression.codec", "compression.type":
		codec, ok := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
			"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}[strings.ToLower(v)]
		if !ok {
			r.set.Fail(p, "there is no compression %q; there are none, gzip, snappy, lz4 and zstd", v)
		}
		r.settings = append(r.settings, kgo.ProducerBatchCompression(codec))
	case "request.required.acks", "acks":
		switch v {
		case "0":
			r.acks = kgo.NoAck()
		case "1":
			r.acks = kgo.LeaderAck()
		case "-1", "all":
		default:
			r.set.Fail(p, "%s must be 0, 1, or -1 for all, not %q", p.Key, v)
		}
	case "client.id":
		r.settings = append(r.settings, kgo.ClientID(v))
	case "enable.idempotence":
		r.idempotent = r.truth(p)
	case "message.max.bytes":
		r.settings = append(r.settings, kgo.ProducerBatchMaxBytes(int32(r.number(p, 1000, 1_000_000_000))))
	case "message.timeout.ms", "delivery.timeout.ms":
		r.delivery = r.milliseconds(p, 0, 1<<31-1)
	case "request.timeout.ms":
		r.settings = append(r.settings, kgo.ProduceRequestTimeout(r.milliseconds(p, 1, 900_000)))
	case "socket.timeout.ms":
		r.settings = append(r.settings, kgo.RequestTimeoutOverhead(max(r.milliseconds(p, 10, 300_000), 100*time.Millisecond)))
	case "socket.connection.setup.timeout.ms":
		r.dial = r.milliseconds(p, 1000, 1<<31-1)
	case "connections.max.idle.ms":
		if idle := r.milliseconds(p, 0, 1<<31-1); idle >= time.Second {
			r.settings = append(r.settings, kgo.ConnIdleTimeout(idle))
		}
	case "retries", "message.send.max.retries":
		r.settings = append(r.settings, kgo.RecordRetries(int(r.number(p, 0, 1<<31-1))))
	case "partitioner":
		r.partitioner(p)
	case "broker.address.family":
		if v != "any" {
			r.set.Fail(p, "%s %q is not built into logagent; there is any", p.Key, v)
		}
	case "debug", "broker.version.fallback": // what the client logs, and what only brokers older than 0.10 need
	default:
		if !r.readSecurity(p, name) {
			r.tuned(p, name)
		}
	}
}

// readSecurity reads who the client is and whom it trusts.
func (r *rdkafka) readSecurity(p config.Property, name string) bool {
	v := p.Value
	switch name {
	case "security.protocol":
		r.protocol = strings.ToLower(v)
		if !slices.Contains([]string{"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"}, r.protocol) {
			r.set.Fail(p, "there is no protocol %q; there are plaintext, ssl, sasl_plaintext and sasl_ssl", v)
		}
	case "sasl.mechanism", "sasl.mechanisms":
		r.mechanism = strings.ToUpper(v)
		if !slices.Contains([]string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}, r.mechanism) {
			r.set.Fail(p, "the SASL mechanism %q is not built into logagent; there are PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512", v)
		}
	case "sasl.username":
		r.user = v
	case "sasl.password":
		r.password = v
	case "ssl.ca.location":
		r.ca = v
	case "ssl.certificate.location":
		r.certificate = v
	case "ssl.key.location":
		r.key = v
	case "enable.ssl.certificate.verification":
		if !r.truth(p) {
			r.tls.InsecureSkipVerify, r.tls.VerifyConnection = true, nil // asked for
		}
	case "ssl.endpoint.identification.algorithm":
		switch strings.ToLower(v) {
		case "https":
		case "none":
			transport.WithoutName(r.tls)
		default:
			r.set.Fail(p, "%s must be https or none, not %q", p.Key, v)
		}
	default:
		return false
	}
	return true
}

func (r *rdkafka) tuned(p config.Property, name string) {
	if limits, ok := tuning[name]; ok {
		r.number(p, limits[0], limits[1])
		return
	}
	if slices.Contains(switches, name) {
		r.truth(p)
		return
	}
	r.set.Fail(p, "%s is not built into logagent; remove it, or use Fluent Bit for this configuration", p.Key)
}

func (r *rdkafka) truth(p config.Property) bool {
	on, err := config.ParseBool(p.Value)
	if err != nil {
		r.set.Fail(p, "%s must be true or false, not %q", p.Key, p.Value)
	}
	return on
}

func (r *rdkafka) number(p config.Property, least, most int64) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(p.Value), 10, 64)
	if err != nil || n < least || n > most {
		r.set.Fail(p, "%s must be a number from %d to %d, not %q", p.Key, least, most, p.Value)
		return least
	}
	return n
}

func (r *rdkafka) milliseconds(p config.Property, least, most int64) time.Duration {
	return time.Duration(r.number(p, least, most)) * time.Millisecond
}

// consistent is librdkafka's way from a key to a partition: its checksum, not the hash of the Java client.
func consistent(key []byte, partitions int) int {
	return int(crc32.ChecksumIEEE(key) % uint32(partitions))
}

func (r *rdkafka) partitioner(p config.Property) {
	var chosen kgo.Partitioner
	switch p.Value {
	case "consistent_random":
		return
	case "murmur2_random":
		chosen = kgo.StickyKeyPartitioner(nil)
	case "random":
		chosen = kgo.StickyPartitioner()
	default:
		r.set.Fail(p, "the partitioner %q is not built into logagent; there are consistent_random, murmur2_random and random", p.Value)
		return
	}
	r.settings = append(r.settings, kgo.RecordPartitioner(chosen))
}

// secure makes the settings of TLS, of tls.* and those of librdkafka together.
func (r *rdkafka) secure() {
	r.useTLS = r.useTLS || r.protocol == "ssl" || r.protocol == "sasl_ssl"
	if r.ca != "" {
		pem, err := os.ReadFile(r.ca)
		pool := x509.NewCertPool()
		switch {
		case err != nil:
			r.set.Failf("rdkafka.ssl.ca.location", "the certificates of authorities cannot be read: %v", err)
		case !pool.AppendCertsFromPEM(pem):
			r.set.Failf("rdkafka.ssl.ca.location", "there is no certificate of an authority in %s", r.ca)
		}
		r.tls.RootCAs = pool
	}
	if r.certificate != "" || r.key != "" {
		pair, err := tls.LoadX509KeyPair(r.certificate, r.key)
		if err != nil {
			r.set.Failf("rdkafka.ssl.certificate.location", "ssl.certificate.location and ssl.key.location cannot be used: %v", err)
		}
		r.tls.Certificates = []tls.Certificate{pair}
	}
	if !r.useTLS {
		r.settings = append(r.settings, kgo.DialTimeout(r.dial))
		return
	}
	r.settings = append(r.settings, kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, r.dial) // of the handshake too
		defer cancel()
		config := r.tls.Clone()
		if config.ServerName == "" {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			config.ServerName = host
		}
		conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, network, address)
		if err != nil {
			return nil, fmt.Errorf("TLS to %s: %w", address, err)
		}
		return conn, nil
	}))
}

// authenticate decides about SASL. What would be sent in the clear or left out without a word is refused.
func (r *rdkafka) authenticate() {
	if !strings.HasPrefix(r.protocol, "sasl_") {
		if r.user != "" || r.mechanism != "" {
			r.set.Failf("rdkafka.sasl.username", "credentials need rdkafka.security.protocol sasl_ssl (or sasl_plaintext, which sends them in the clear)")
		}
		return
	}
	if r.mechanism == "" || r.user == "" {
		r.set.Failf("rdkafka.security.protocol", "%s needs rdkafka.sasl.mechanism (PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512), rdkafka.sasl.username and rdkafka.sasl.password", r.protocol)
		return
	}
	switch r.mechanism {
	case "PLAIN":
		r.settings = append(r.settings, kgo.SASL(plain.Auth{User: r.user, Pass: r.password}.AsMechanism()))
	case "SCRAM-SHA-256":
		r.settings = append(r.settings, kgo.SASL(scram.Auth{User: r.user, Pass: r.password}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		r.settings = append(r.settings, kgo.SASL(scram.Auth{User: r.user, Pass: r.password}.AsSha512Mechanism()))
	}
}
