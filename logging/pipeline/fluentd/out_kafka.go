package fluentd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weft-dev/weft/logging/pipeline/fluentd/format"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/output"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/transport"
)

// kafka produces the records of chunks, as kafka2 of the gem fluent-plugin-kafka does (lib/fluent/plugin/out_kafka2.rb).
type kafka struct {
	part      *part
	client    *kgo.Client
	inject    *injector
	format    *format.Formatter
	topic     *template // of a chunk
	topicKey  string
	fallback  string // default_topic
	unknown   bool   // default_topic takes what another topic does not exist for
	eventTime bool
	limit     int // of a record in bytes, 0 for none
	discard   bool

	key, partition, partitionKey keyed
	headers                      [][2]string
	fromRecord                   []recordHeader
	exclude                      []record.Path
	payload                      *record.Path
}

// keyed is a field that says something about its record, which may be taken out of it.
type keyed struct {
	field  string
	other  string // if the record does not say
	remove bool
}

// take gives the field's text, and the record without it if that is asked for.
func (k *keyed) take(body []byte) (string, []byte) {
	found := text(body, k.field)
	if k.remove {
		body = record.Without(body, []record.Path{record.PathOf(k.field)})
	}
	if found == "" {
		found = k.other
	}
	return found, body
}

type recordHeader struct {
	name string
	path record.Path
}

func newKafka(b *builder, p *part) target {
	o := p.set
	k := &kafka{part: p, format: b.formatter(p, "json"), topicKey: o.StringOr("topic_key", "topic"), fallback: o.String("default_topic"), eventTime: o.Bool("use_event_time") && o.Has("use_event_time"),
		inject: b.injector(p), unknown: o.Bool("use_default_for_unknown_topic"), limit: int(o.Size("max_send_limit_bytes")), discard: o.Bool("discard_kafka_delivery_failed"),
		key:          keyed{o.StringOr("message_key_key", "message_key"), o.String("default_message_key"), o.Bool("exclude_message_key")},
		partition:    keyed{o.StringOr("partition_key", "partition"), o.String("default_partition"), o.Bool("exclude_partition")},
		partitionKey: keyed{o.StringOr("partition_key_key", "partition_key"), o.String("default_partition_key"), o.Bool("exclude_partition_key")}}
	made, ok := b.buffer(p, k, bufferDefaults{kind: "memory", keys: []string{k.topicKey}}).(*buffered)
	if !ok {
		return nil
	}
	p.only("buffer", "secondary", "format", "inject")
	k.topic = made.keys.template(p, "topic", o.String("topic"), false)
	if k.unknown && k.fallback == "" {
		o.Failf("use_default_for_unknown_topic", "use_default_for_unknown_topic needs default_topic")
	}
	k.fields(o)
	brokers := o.Array("brokers")
	if len(brokers) == 0 {
		o.Failf("brokers", "kafka2 needs brokers, such as broker-1:9092,broker-2:9092")
		return made
	}
	// A broker that cannot be reached is tried as often as upstream would; then the chunk waits for its next try.
	connect := time.Duration(max(o.IntOr("connect_timeout", 10), 1)) * time.Second
	delivery := connect * time.Duration(max(o.IntOr("max_send_retries", 2), 0)+1)
	settings := append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kafkaPartitioner(o)), kgo.RequestTimeoutOverhead(time.Duration(o.IntOr("socket_timeout", 10)) * time.Second),
		kgo.DialTimeout(connect), kgo.RecordDeliveryTimeout(delivery), kgo.MaxBufferedRecords(100_000), kgo.AllowAutoTopicCreation(),
		kgo.AllowIdempotentProduceCancellation(), kgo.ClientID(o.StringOr("client_id", "fluentd"))}, kafkaSettings(o)...)
	settings = append(settings, kafkaSecurity(o)...)
	// All brokers' addresses are tried, one client serves all threads, and with required_acks -1 it is idempotent.
	o.Pass("idempotent", "share_producer", "get_kafka_client_log", "metadata_cache_expiration", "resolve_seed_brokers")
	client, err := kgo.NewClient(settings...)
	if err != nil {
		o.Failf("brokers", "%v", err)
	}
	k.client = client
	return made
}

// fields reads which parts of a record go where.
func (k *kafka) fields(o *options.Set) {
	k.headers = o.Pairs("headers")
	for _, pair := range o.Pairs("headers_from_record") {
		k.fromRecord = append(k.fromRecord, recordHeader{pair[0], accessor(o, "headers_from_record", pair[1])})
	}
	for _, field := range o.Array("exclude_fields") {
		k.exclude = append(k.exclude, accessor(o, "exclude_fields", field))
	}
	if o.Bool("exclude_topic_key") {
		k.exclude = append(k.exclude, record.PathOf(k.topicKey))
	}
	if field := o.String("record_key"); field != "" {
		path := accessor(o, "record_key", field)
		k.payload = &path
	}
}

func accessor(o *options.Set, key, field string) record.Path {
	path, err := record.ParseAccessor(field)
	if err != nil {
		o.Failf(key, "%s: %v", key, err)
	}
	return path
}

func kafkaSettings(o *options.Set) []kgo.Opt {
	var all []kgo.Opt
	switch acks := o.IntOr("required_acks", -1); acks {
	case -1:
	case 1:
		all = append(all, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case 0:
		all = append(all, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		o.Failf("required_acks", "required_acks must be -1, 0 or 1")
	}
	if limit := o.Duration("ack_timeout"); limit > 0 {
		all = append(all, kgo.ProduceRequestTimeout(limit))
	}
	if o.Has("max_send_retries") {
		all = append(all, kgo.RecordRetries(o.Int("max_send_retries")))
	}
	switch codec := strings.ToLower(o.String("compression_codec")); codec {
	case "":
		all = append(all, kgo.ProducerBatchCompression(kgo.NoCompression()))
	case "gzip":
		all = append(all, kgo.ProducerBatchCompression(kgo.GzipCompression()))
	case "snappy":
		all = append(all, kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	case "lz4":
		all = append(all, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	case "zstd":
		all = append(all, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	default:
		o.Failf("compression_codec", "there is no compression_codec %q; there are gzip, snappy, lz4 and zstd", codec)
	}
	return all
}

// kafkaSecurity reads the options for TLS and SASL (lib/fluent/plugin/kafka_plugin_util.rb). A password goes over TLS, unless sasl_over_ssl is false.
func kafkaSecurity(o *options.Set) []kgo.Opt {
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	system := o.Bool("ssl_ca_certs_from_system")
	useTLS := system
	if files := o.Array("ssl_ca_cert"); len(files) > 0 {
		pool := x509.NewCertPool()
		if known, err := x509.SystemCertPool(); system && err == nil {
			pool = known
		}
		addAuthorities(o, pool, "ssl_ca_cert", files...)
		secure.RootCAs, useTLS = pool, true
	}
	certificate(o, secure, "ssl_client_cert", "ssl_client_cert_key")
	useTLS = useTLS || len(secure.Certificates) > 0
	if !o.Bool("ssl_verify_hostname") {
		transport.WithoutName(secure)
	}
	user, mechanism := o.String("username"), strings.ToLower(o.String("scram_mechanism"))
	var all []kgo.Opt
	if pass := o.String("password"); user != "" {
		switch mechanism {
		case "":
			all = append(all, kgo.SASL(plain.Auth{User: user, Pass: pass}.AsMechanism()))
		case "sha256":
			all = append(all, kgo.SASL(scram.Auth{User: user, Pass: pass}.AsSha256Mechanism()))
		case "sha512":
			all = append(all, kgo.SASL(scram.Auth{User: user, Pass: pass}.AsSha512Mechanism()))
		default:
			o.Failf("scram_mechanism", "there is no scram_mechanism %q; there are sha256 and sha512", mechanism)
		}
		if !useTLS && o.Bool("sasl_over_ssl") {
			o.Failf("username", "a password goes over TLS: set ssl_ca_cert, or ssl_ca_certs_from_system true; or sasl_over_ssl false, which sends it in the clear")
		}
	} else if mechanism != "" {
		o.Failf("scram_mechanism", "scram_mechanism needs username and password")
	}
	o.Ignore("sasl_over_ssl")
	if useTLS {
		all = append(all, kgo.DialTLSConfig(secure))
	}
	return all
}

// destination is where a record goes inside of its topic: to a partition, or to that of a key.
type destination struct {
	partition int // -1: the key says
	key       []byte
}

type destinationKey struct{}

// kafkaPartitioner goes by the record's destination: upstream's client takes the checksum of a key, and any partition without one.
func kafkaPartitioner(o *options.Set) kgo.Partitioner {
	hash := crc32.ChecksumIEEE
	switch name := o.StringOr("partitioner_hash_function", "crc32"); name {
	case "crc32":
	case "murmur2":
		hash = murmur2
	default:
		o.Failf("partitioner_hash_function", "there is no partitioner_hash_function %q; there are crc32 and murmur2", name)
	}
	return kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
		return func(r *kgo.Record, partitions int) int {
			to, ok := r.Context.Value(destinationKey{}).(destination)
			switch {
			case ok && to.partition >= 0:
				return to.partition
			case ok && len(to.key) > 0:
				return int(hash(to.key) % uint32(partitions)) //nolint:gosec // a number of partitions
			}
			return rand.IntN(partitions)
		}
	})
}

// murmur2 is the hash of Kafka's Java client, without its sign.
func murmur2(data []byte) uint32 {
	const m, r = 0x5bd1e995, 24
	h := uint32(0x9747b28c) ^ uint32(len(data)) //nolint:gosec // as defined
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * m
		k = (k ^ k>>r) * m
		h = h*m ^ k
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h = (h ^ h>>13) * m
	return (h ^ h>>15) & 0x7fffffff
}

func (k *kafka) write(ctx context.Context, c *delivery) error {
	topic, err := k.topic.expand(c.Chunk)
	if err != nil {
		return err
	}
	if topic == "" {
		topic = c.Key.Vars[k.topicKey]
	}
	if topic == "" {
		topic = k.fallback
	}
	records := k.records(ctx, c, topic)
	err = k.client.ProduceSync(ctx, records...).FirstErr()
	if errors.Is(err, kerr.UnknownTopicOrPartition) && k.unknown && topic != k.fallback {
		k.part.log.Warn("the topic does not exist; default_topic takes its records", "topic", topic, "default_topic", k.fallback)
		err = k.client.ProduceSync(ctx, k.records(ctx, c, k.fallback)...).FirstErr()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.InvalidTopicException):
		return output.Hopeless(err)
	case k.discard && ctx.Err() == nil:
		k.part.errors.Add(1)
		k.part.dropped.Add(int64(len(records)))
		k.part.log.Warn("delivery failed; the records are dropped, as discard_kafka_delivery_failed says", "error", err, "records", len(records))
		return nil
	}
	return fmt.Errorf("producing: %w", err)
}

// records are those of a chunk; without a topic each goes to the one of its tag.
func (k *kafka) records(ctx context.Context, c *delivery, topic string) []*kgo.Record {
	var all []*kgo.Record
	for r := record.NewReader(c.data); r.Next(); {
		tag := c.tag(&r.Event)
		out, err := k.record(ctx, tag, &r.Event)
		if err != nil {
			k.part.dropped.Add(1)
			k.part.log.Warn("a record is skipped", "error", err, "tag", tag)
			continue
		}
		if out.Topic = topic; topic == "" {
			out.Topic = tag
		}
		all = append(all, out)
	}
	return all
}

func (k *kafka) record(ctx context.Context, tag string, e *record.Event) (*kgo.Record, error) {
	body := k.inject.apply(tag, e.Time, e.Body)
	out := &kgo.Record{}
	if k.eventTime {
		out.Timestamp = e.Time.Std()
	}
	var key, partition, partitionKey string
	partitionKey, body = k.partitionKey.take(body)
	partition, body = k.partition.take(body)
	key, body = k.key.take(body)
	to := destination{partition: -1, key: []byte(partitionKey)}
	if key != "" {
		out.Key = []byte(key)
	}
	if partitionKey == "" {
		to.key = out.Key
	}
	if partition != "" {
		n, err := strconv.ParseInt(partition, 10, 32)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%.100q is no number of a partition", partition)
		}
		to.partition = int(n)
	}
	out.Context = context.WithValue(ctx, destinationKey{}, to)
	for _, h := range k.headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	for _, h := range k.fromRecord {
		if v, ok := h.path.Find(body); ok {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.name, Value: record.AppendText(nil, v)})
		}
	}
	if len(k.exclude) > 0 {
		body = record.Without(body, k.exclude)
	}
	if k.payload != nil {
		found, ok := k.payload.Find(body)
		if !ok || record.KindOf(found) != record.Map && k.format.Type != "json" {
			return nil, errors.New("it has nothing that could be sent at record_key")
		}
		body = found
	}
	out.Value = bytes.TrimSuffix(k.format.Append(nil, tag, e.Time, body), []byte("\n"))
	if k.limit > 0 && len(out.Value) > k.limit {
		return nil, fmt.Errorf("it has %d bytes, more than max_send_limit_bytes", len(out.Value))
	}
	return out, nil
}

// text is a field as text, "" if it is not there.
func text(body []byte, key string) string {
	v, ok := record.Get(body, key)
	if !ok || record.KindOf(v) == record.Nil {
		return ""
	}
	return string(record.AppendText(nil, v))
}

func (k *kafka) close() error {
	if k.client != nil {
		k.client.Close()
	}
	return nil
}
