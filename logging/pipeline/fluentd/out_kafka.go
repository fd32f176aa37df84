package fluentd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
)

// kafka produces the records of chunks, as kafka2 of the gem fluent-plugin-kafka does.
type kafka struct {
	client    *kgo.Client
	inject    *injector
	format    *format.Formatter
	topic     *template // of a chunk: topic, or default_topic
	topicKey  string
	fallback  string
	keyKey    string
	eventTime bool
	exclude   []record.Path
}

func newKafka(b *builder, p *part) target {
	o := p.set
	k := &kafka{format: b.formatter(p, "json"), topicKey: o.StringOr("topic_key", "topic"), fallback: o.String("default_topic"), keyKey: o.StringOr("message_key_key", "message_key"),
		eventTime: o.Bool("use_event_time"), inject: b.injector(p)}
	made, ok := b.buffer(p, k, bufferDefaults{kind: "memory", keys: []string{k.topicKey}}).(*buffered)
	if !ok {
		return nil
	}
	p.only("buffer", "secondary", "format", "inject")
	k.topic = made.keys.template(p, "topic", o.String("topic"), false)
	for key, path := range map[string]string{"exclude_topic_key": k.topicKey, "exclude_message_key": k.keyKey} {
		if o.Has(key) && o.Bool(key) {
			k.exclude = append(k.exclude, record.PathOf(path))
		}
		o.Ignore(key)
	}
	brokers := o.Array("brokers")
	if len(brokers) == 0 {
		o.Failf("brokers", "kafka2 needs brokers, such as broker-1:9092,broker-2:9092")
		return made
	}
	settings := append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.RequestTimeoutOverhead(10 * time.Second),
		kgo.RecordDeliveryTimeout(30 * time.Second), kgo.MaxBufferedRecords(100_000), kgo.AllowAutoTopicCreation(), kgo.ClientID(o.StringOr("client_id", "fluentd"))}, kafkaSettings(o)...)
	o.Ignore("max_send_retries", "max_send_limit_bytes", "ack_timeout", "discard_kafka_delivery_failed", "partition_key_key", "partition_key", "default_partition_key",
		"default_message_key", "idempotent", "share_producer", "get_kafka_client_log", "metadata_cache_expiration")
	client, err := kgo.NewClient(settings...)
	if err != nil {
		o.Failf("brokers", "%v", err)
	}
	k.client = client
	return made
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
	switch codec := strings.ToLower(o.String("compression_codec")); codec {
	case "":
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
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	useTLS := o.Bool("sasl_over_ssl") && o.Has("sasl_over_ssl")
	if ca := o.String("ssl_ca_cert"); ca != "" {
		secure.RootCAs, useTLS = authorities(o, "ssl_ca_cert", ca), true
	}
	if crt := o.String("ssl_client_cert"); crt != "" {
		pair, err := tls.LoadX509KeyPair(crt, o.String("ssl_client_cert_key"))
		if err != nil {
			o.Failf("ssl_client_cert", "the client's certificate: %v", err)
		}
		secure.Certificates, useTLS = []tls.Certificate{pair}, true
	}
	user, password, mechanism := o.String("username"), o.String("password"), strings.ToLower(o.String("scram_mechanism"))
	if user != "" {
		switch mechanism {
		case "":
			all = append(all, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
			useTLS = useTLS || !o.Has("sasl_over_ssl")
		case "sha256":
			all = append(all, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
		case "sha512":
			all = append(all, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
		default:
			o.Failf("scram_mechanism", "there is no scram_mechanism %q; there are sha256 and sha512", mechanism)
		}
	}
	if useTLS {
		all = append(all, kgo.DialTLSConfig(secure))
	}
	return all
}

func (k *kafka) write(ctx context.Context, c *delivery) error {
	fixed, err := k.topic.expand(c.Chunk)
	if err != nil {
		return err
	}
	var records []*kgo.Record
	for r := record.NewReader(c.data); r.Next(); {
		tag := c.tag(&r.Event)
		body := k.inject.apply(tag, r.Time, r.Body)
		out := &kgo.Record{Topic: fixed}
		if out.Topic == "" {
			out.Topic = text(body, k.topicKey)
		}
		if out.Topic == "" {
			out.Topic = k.fallback
		}
		if out.Topic == "" {
			out.Topic = tag
		}
		if key := text(body, k.keyKey); key != "" {
			out.Key = []byte(key)
		}
		if k.eventTime {
			out.Timestamp = r.Time.Std()
		}
		if len(k.exclude) > 0 {
			body = record.Without(body, k.exclude)
		}
		out.Value = bytes.TrimSuffix(k.format.Append(nil, tag, r.Time, body), []byte("\n"))
		records = append(records, out)
	}
	err = k.client.ProduceSync(ctx, records...).FirstErr()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.InvalidTopicException):
		return output.Hopeless(err)
	}
	return fmt.Errorf("producing: %w", err)
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
