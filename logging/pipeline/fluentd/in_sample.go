package fluentd

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// sample makes records again and again.
type sample struct {
	host    input.Host
	tag     string
	rate    int
	size    int
	samples [][]byte
	counter string // auto_increment_key
	next    int
	count   int64
	store   *localStore // keeps count; nil if nothing does
}

// sampleTicks is how often in a second records are made.
const sampleTicks = 10

func newSample(b *builder, p *part) (input.Input, fullPolicy) {
	o := p.set
	s := &sample{host: b.host(p), tag: o.String("tag"), rate: o.Int("rate"), size: o.Int("size"), counter: o.String("auto_increment_key")}
	key, text := "sample", `{"message":"sample"}`
	for _, name := range []string{"dummy", "sample"} {
		if o.Has(name) {
			key, text = name, o.String(name)
		}
	}
	value, n, err := record.FromJSON(nil, []byte(text))
	switch {
	case err != nil || len(strings.TrimSpace(text[n:])) > 0:
		o.Failf(key, "%s must be JSON, an object or an array of objects: %v", key, err)
	case record.KindOf(value) == record.Array:
		for i := record.ItemsOf(value); i.Next(); {
			s.samples = append(s.samples, i.Value)
		}
	default:
		s.samples = [][]byte{value}
	}
	if slices.ContainsFunc(s.samples, func(v []byte) bool { return record.KindOf(v) != record.Map }) || len(s.samples) == 0 {
		o.Failf(key, "%s must be an object or an array of objects, such as {\"message\":\"sample\"}", key)
	}
	if s.tag == "" {
		o.Failf("tag", "sample needs the option tag")
	}
	if s.rate < 1 || s.size < 1 {
		o.Failf("rate", "rate and size must be 1 or more")
	}
	o.Ignore("sample", "dummy")
	o.Pass("reuse_record", "suspend")
	p.only("storage")
	s.store = b.storage(p)
	return s, discard
}

// countKey is where upstream's storage has the number that was given last.
const countKey = "auto_increment_value"

func (s *sample) Run(ctx context.Context, sink flow.Sink) error {
	if s.store != nil && s.counter != "" {
		if err := s.store.open(); err != nil {
			return err
		}
		if last, ok := s.store.get(countKey); ok {
			s.count = last + 1
		}
		defer s.store.close()
	}
	ticker := time.NewTicker(time.Second / sampleTicks)
	defer ticker.Stop()
	for tick := 1; ; tick++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		due := s.rate*tick/sampleTicks - s.rate*(tick-1)/sampleTicks
		for range due {
			var data []byte
			now := record.TimeOf(s.host.Now())
			for range s.size {
				data = record.AppendEvent(data, now, nil, s.make())
			}
			if err := sink.Append(ctx, flow.Batch{Tag: s.tag, Data: data, Count: s.size}); err != nil {
				return err
			}
		}
		if s.store != nil && s.counter != "" && s.count > 0 {
			s.store.put(countKey, s.count-1, s.host.Now())
		}
		if tick == sampleTicks {
			tick = 0
		}
	}
}

func (s *sample) make() []byte {
	body := s.samples[s.next]
	s.next = (s.next + 1) % len(s.samples)
	if s.counter == "" {
		return body
	}
	body = mergedMaps(body, record.AppendInt(record.AppendString([]byte{0x81}, s.counter), s.count))
	s.count++
	return body
}
