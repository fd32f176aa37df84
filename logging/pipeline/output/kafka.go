package output

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"crypto/x509"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// kafka produces records to topics.
type kafka struct {
	host     Host
	client   *kgo.Client
	format   string
	style    jsonStyle
	topics   []string
	topicKey *record.Path
	dynamic  bool
	key      string
	keyField *record.Path
	rawKey   *record.Path
}

func newKafka(o *options.Set, h Host) Output {
	k := &kafka{host: h, format: strings.ToLower(o.StringOr("format", "json")), topics: o.Commas("topics"), dynamic: o.Bool("dynamic_topic"), key: o.String("message_key")}
	if len(k.topics) == 0 {
		k.topics = []string{"fluent-bit"}
	}
	path := func(key string) *record.Path {
		text := o.String(key)
		if text == "" {
			return nil
		}
		p, err := record.ParsePath(text)
		if err != nil {
			o.Failf(key, "%s: %v", key, err)
		}
		return &p
	}
	k.topicKey, k.keyField, k.rawKey = path("topic_key"), path("message_key_field"), path("raw_log_key")
	switch k.format {
	case "json", "msgpack":
	case "raw":
		if k.rawKey == nil {
			o.Failf("format", "Format raw needs Raw_Log_Key")
		}
	default:
		o.Failf("format", "the format %q is not built into logagent; there are json, msgpack and raw", k.format)
	}
	k.style = jsonStyle{shape: "json_stream", dateKey: o.String("timestamp_key"), date: strings.ToLower(o.StringOr("timestamp_format", "double"))}
	switch k.style.date {
	case "double", "iso8601", "iso8601_ns", "epoch":
		k.style.date = strings.TrimSuffix(k.style.date, "_ns")
	default:
		o.Failf("timestamp_format", "there is no Timestamp_Format %q; there are double, iso8601 and epoch", k.style.date)
	}
	o.Ignore("queue_full_retries", "workers", "tls.debug", "tls.vhost", "tls.verify_hostname", "tls.ca_path", "tls.min_version", "tls.max_version")
	settings := append([]kgo.Opt{kgo.SeedBrokers(o.Commas("brokers")...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.RequestTimeoutOverhead(10 * time.Second), kgo.RecordDeliveryTimeout(30 * time.Second), kgo.MaxBufferedRecords(100_000)}, k.settings(o)...)
	if id := o.String("client_id"); id != "" {
		settings = append(settings, kgo.ClientID(id))
	}
	o.Ignore("group_id")
	client, err := kgo.NewClient(settings...)
	if err != nil {
		o.Failf("brokers", "%v", err)
	}
	k.client = client
	return k
}

// settings reads rdkafka.NAME as librdkafka has it, and tls.*.
func (k *kafka) settings(o *options.Set) []kgo.Opt {
	var all []kgo.Opt
	secure := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !o.Bool("tls.verify")}
	useTLS := o.Bool("tls")
	ca, crt, key := o.String("tls.ca_file"), o.String("tls.crt_file"), o.String("tls.key_file")
	mechanism, user, password := "plain", "", ""
	acks := kgo.AllISRAcks()
	for _, p := range o.Prefixed("rdkafka.") {
		v := p.Value
		switch name := strings.ToLower(p.Key[len("rdkafka."):]); name {
		case "compression.codec", "compression.type":
			codec, ok := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
				"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}[strings.ToLower(v)]
			if !ok {
				o.Fail(p, "there is no compression %q; there are none, gzip, snappy, lz4 and zstd", v)
			}
			all = append(all, kgo.ProducerBatchCompression(codec))
		case "request.required.acks", "acks":
			switch v {
			case "0":
				acks = kgo.NoAck()
			case "1":
				acks = kgo.LeaderAck()
			case "-1", "all":
			default:
				o.Fail(p, "%s must be 0, 1 or -1", p.Key)
			}
		case "client.id":
			all = append(all, kgo.ClientID(v))
		case "security.protocol":
			switch v := strings.ToLower(v); v {
			case "plaintext", "sasl_plaintext":
			case "ssl", "sasl_ssl":
				useTLS = true
			default:
				o.Fail(p, "there is no protocol %q", v)
			}
		case "sasl.mechanism", "sasl.mechanisms":
			mechanism = strings.ToLower(v)
		case "sasl.username":
			user = v
		case "sasl.password":
			password = v
		case "ssl.ca.location":
			ca = v
		case "ssl.certificate.location":
			crt = v
		case "ssl.key.location":
			key = v
		case "enable.ssl.certificate.verification":
			if on, err := config.ParseBool(v); err == nil {
				secure.InsecureSkipVerify = !on
			}
		case "message.max.bytes":
			n, err := config.ParseSize(v)
			if err != nil || n < 1000 || n > 1<<30 {
				o.Fail(p, "%s must be from 1000 to 1000000000 bytes", p.Key)
				continue
			}
			all = append(all, kgo.ProducerBatchMaxBytes(int32(n)))
		case "log.connection.close", "queue.buffering.max.ms", "linger.ms", "queue.buffering.max.messages", "queue.buffering.max.kbytes", "batch.num.messages",
			"socket.keepalive.enable", "debug", "request.timeout.ms", "message.timeout.ms", "metadata.max.age.ms", "broker.version.fallback", "api.version.request", "statistics.interval.ms":
			// librdkafka's own queue and sockets: chunks take their place here
		default:
			o.Fail(p, "%s is not built into logagent", p.Key)
		}
	}
	all = append(all, kgo.RequiredAcks(acks))
	if acks != kgo.AllISRAcks() {
		all = append(all, kgo.DisableIdempotentWrite())
	}
	if useTLS {
		if ca != "" {
			pem, err := os.ReadFile(ca)
			secure.RootCAs = x509.NewCertPool()
			if err != nil || !secure.RootCAs.AppendCertsFromPEM(pem) {
				o.Failf("brokers", "no certificate of an authority in %s: %v", ca, err)
			}
		}
		if crt != "" {
			pair, err := tls.LoadX509KeyPair(crt, key)
			if err != nil {
				o.Failf("brokers", "the client's certificate: %v", err)
			}
			secure.Certificates = []tls.Certificate{pair}
		}
		all = append(all, kgo.DialTLSConfig(secure))
	}
	if user != "" {
		switch mechanism {
		case "plain":
			all = append(all, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
		case "scram-sha-256":
			all = append(all, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
		case "scram-sha-512":
			all = append(all, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
		default:
			o.Failf("brokers", "the SASL mechanism %q is not built into logagent; there are PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512", mechanism)
		}
	}
	return all
}

func (k *kafka) Write(ctx context.Context, c Chunk) error {
	var records []*kgo.Record
	for r := record.NewReader(c.Data); r.Next(); {
		out := &kgo.Record{Topic: k.topic(r.Body), Timestamp: r.Time.Std(), Value: k.value(&r.Event)}
		if k.key != "" {
			out.Key = []byte(k.key)
		}
		if k.keyField != nil {
			if v, ok := k.keyField.Find(r.Body); ok {
				out.Key = record.AppendText(nil, v)
			}
		}
		if out.Value != nil {
			records = append(records, out)
		}
	}
	err := k.client.ProduceSync(ctx, records...).FirstErr()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.InvalidTopicException) || errors.Is(err, kerr.TopicAuthorizationFailed):
		return Hopeless(err)
	}
	return fmt.Errorf("producing to %s: %w", strings.Join(k.topics, ","), err)
}

// topic is the one that the record names, if it is known or any may be named; else the first.
func (k *kafka) topic(body []byte) string {
	if k.topicKey == nil {
		return k.topics[0]
	}
	v, ok := k.topicKey.Find(body)
	text, isText := record.Text(v)
	if !ok || !isText {
		return k.topics[0]
	}
	for _, t := range k.topics {
		if t == string(text) {
			return t
		}
	}
	if k.dynamic && len(text) > 0 && len(text) < 250 {
		return string(text)
	}
	return k.topics[0]
}

func (k *kafka) value(e *record.Event) []byte {
	switch k.format {
	case "msgpack":
		f := record.FieldsOf(e.Body)
		b := record.AppendMapHead(nil, f.Count+1)
		b = record.AppendFloat(record.AppendString(b, k.style.dateKey), e.Time.Float())
		for f.Next() {
			b = append(b, f.Raw...)
		}
		return b
	case "raw":
		v, ok := k.rawKey.Find(e.Body)
		if !ok {
			return nil
		}
		return record.AppendText([]byte{}, v)
	}
	return k.style.appendRecord(nil, e)
}

func (k *kafka) Close() error {
	k.client.Close()
	return nil
}
