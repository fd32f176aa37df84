package output

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

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
	limit    time.Duration // for a chunk, 0 for none
	trouble  *trouble
}

func newKafka(o *options.Set, h Host) Output {
	k := &kafka{host: h, format: strings.ToLower(o.StringOr("format", "json")), topics: o.Commas("topics"), dynamic: o.Bool("dynamic_topic"), key: o.String("message_key")}
	if len(k.topics) == 0 {
		k.topics = []string{"fluent-bit"}
	}
	k.topicKey, k.keyField, k.rawKey = pathOption(o, "topic_key"), pathOption(o, "message_key_field"), pathOption(o, "raw_log_key")
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
	case "double", "iso8601", "iso8601_ns":
	default:
		o.Failf("timestamp_format", "there is no Timestamp_Format %q; there are double, iso8601 and iso8601_ns", k.style.date)
	}
	o.Pass("queue_full_retries", "group_id") // of a queue and a consumer that this output has not
	r := readRdkafka(o)
	k.limit = r.delivery
	// A broker that took records and does not answer would otherwise hold a chunk for ever. That chunk comes again: at least once.
	k.trouble = &trouble{log: h.Log}
	settings := append([]kgo.Opt{kgo.SeedBrokers(o.Commas("brokers")...), kgo.WithLogger(k.trouble), kgo.ClientID(o.StringOr("client_id", "fluent-bit")),
		kgo.MaxBufferedRecords(100_000), kgo.AllowIdempotentProduceCancellation()}, r.settings...)
	client, err := kgo.NewClient(settings...)
	if err != nil {
		o.Failf("brokers", "%v", err)
	}
	k.client = client
	return k
}

// never are the answers that the same records would always get.
var never = []*kerr.Error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidTopicException, kerr.TopicAuthorizationFailed, kerr.InvalidRecord, kerr.PolicyViolation,
	kerr.UnsupportedForMessageFormat}

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
	if k.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, k.limit)
		defer cancel()
	}
	err := k.client.ProduceSync(ctx, records...).FirstErr()
	switch {
	case err == nil:
		k.trouble.last.Store(nil)
		return nil
	case slices.ContainsFunc(never, func(e *kerr.Error) bool { return errors.Is(err, e) }):
		return Hopeless(fmt.Errorf("producing to %s: %w", strings.Join(k.topics, ","), err))
	}
	if last := k.trouble.last.Load(); last != nil {
		return fmt.Errorf("producing to %s: %w; the brokers' last fault: %s", strings.Join(k.topics, ","), err, *last)
	}
	return fmt.Errorf("producing to %s: %w", strings.Join(k.topics, ","), err)
}

// trouble remembers what the client says last about its brokers: it tries again until time is up, and only this says why that was in vain.
type trouble struct {
	log  *slog.Logger
	last atomic.Pointer[string]
}

func (t *trouble) Level() kgo.LogLevel { return kgo.LogLevelDebug }

func (t *trouble) Log(level kgo.LogLevel, what string, pairs ...any) {
	if level <= kgo.LogLevelInfo {
		t.log.Debug(what, pairs...)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		err, ok := pairs[i+1].(error)
		if !ok || pairs[i] != "err" || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrRecordTimeout) {
			continue
		}
		told := fmt.Sprintf("%s: %v", what, err)
		t.last.Store(&told)
	}
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
