package filter

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/multiline"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// joinLines joins records whose texts belong together. What it holds back it sends through an emitter of its own.
type joinLines struct {
	host    Host
	parsers []*multiline.Parser
	key     string
	buffer  bool
	partial bool
	wait    time.Duration
	limit   int // of a message in bytes
	emit    flow.Sink

	mu      sync.Mutex
	streams map[string]*lineStream
}

// lineStream is the lines of one tag.
type lineStream struct {
	tag    string
	stream *multiline.Stream
	out    []byte
	count  int
	now    record.Time
	acks   []*flow.Ack
	used   time.Time
	// of partial messages
	parts map[string]*partial
}

type partial struct {
	text, body, meta []byte
	time             record.Time
	since            time.Time
}

// maxStreams bounds how many tags have lines that wait.
const maxStreams = 4096

func newMultiline(o *options.Set, h Host) Filter {
	f := &joinLines{host: h, limit: h.MaxMessage, key: o.String("multiline.key_content"), buffer: o.Bool("buffer"), streams: map[string]*lineStream{}}
	if f.limit == 0 {
		f.limit = math.MaxInt
	}
	f.partial = strings.EqualFold(o.String("mode"), "partial_message")
	for _, name := range o.Commas("multiline.parser") {
		p := h.Multiline[name]
		if p == nil {
			o.Failf("multiline.parser", "there is no multiline parser %q", name)
			continue
		}
		f.parsers = append(f.parsers, p)
	}
	switch {
	case f.partial && f.key == "":
		o.Failf("mode", "mode partial_message needs multiline.key_content")
	case !f.partial && len(f.parsers) == 0:
		o.Failf("multiline.parser", "the filter multiline needs multiline.parser")
	}
	f.wait = time.Duration(o.Int("flush_ms")) * time.Millisecond
	if f.wait <= 0 {
		f.wait = 2 * time.Second
	}
	name := o.StringOr("emitter_name", "emitter_for_"+h.Name)
	f.emit = h.Emitter(name, o.Size("emitter_mem_buf_limit"), strings.EqualFold(o.String("emitter_storage.type"), "filesystem"))
	o.Pass("debug_flush")
	return f
}

func (f *joinLines) of(tag string) *lineStream {
	if s := f.streams[tag]; s != nil {
		return s
	}
	s := &lineStream{tag: tag, parts: map[string]*partial{}}
	key := f.key
	if key == "" {
		key = "log"
	}
	s.stream = multiline.NewStream(f.parsers, key, f.limit, func(m multiline.Message) {
		at := m.Time
		if at.IsZero() {
			at = s.now
		}
		s.out = record.AppendEvent(s.out, at, m.Meta, m.Body)
		s.count++
	})
	f.streams[tag] = s
	return s
}

func (f *joinLines) Apply(ctx context.Context, dst []byte, b flow.Batch) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.host.Now()
	s := f.of(b.Tag)
	s.out, s.used = dst, now
	r := record.NewReader(b.Data)
	for r.Next() {
		s.now = r.Time
		if f.partial {
			f.addPartial(s, &r.Event, now)
			continue
		}
		s.stream.Record(r.Body, r.Meta, r.Time, f.key, 0, now)
	}
	if !f.buffer && !f.partial {
		s.stream.Flush(now, 0)
	}
	if s.holds() {
		if b.Ack != nil {
			s.acks = append(s.acks, b.Ack.Hold())
		}
	} else {
		s.release()
	}
	out := s.out
	s.out = nil
	return out, r.Err
}

func (s *lineStream) holds() bool {
	_, held := s.stream.Held()
	return held || len(s.parts) > 0
}

// release tells that no line is held back any more.
func (s *lineStream) release() {
	for _, a := range s.acks {
		a.Release()
	}
	s.acks = nil
}

// addPartial joins what Docker's log drivers have cut (partial_message, partial_id, partial_last).
func (f *joinLines) addPartial(s *lineStream, e *record.Event, now time.Time) {
	mark, _ := record.Get(e.Body, "partial_message")
	is, _ := record.Text(mark)
	if truth, ok := record.Truth(mark); string(is) != "true" && !(ok && truth) {
		s.out = append(s.out, e.Raw...)
		s.count++
		return
	}
	value, _ := record.Get(e.Body, f.key)
	text, ok := record.Text(value)
	id, _ := record.Get(e.Body, "partial_id")
	name, _ := record.Text(id)
	if !ok || len(name) == 0 {
		s.out = append(s.out, e.Raw...)
		return
	}
	p := s.parts[string(name)]
	if p == nil {
		p = &partial{body: append([]byte(nil), e.Body...), meta: append([]byte(nil), e.Meta...), time: e.Time}
		s.parts[string(name)] = p
	}
	p.since = now
	p.text = append(p.text, text[:min(len(text), max(0, f.limit-len(p.text)))]...)
	last, _ := record.Get(e.Body, "partial_last")
	is, _ = record.Text(last)
	if truth, ok := record.Truth(last); string(is) == "true" || ok && truth {
		f.sendPartial(s, string(name), p)
	}
}

func (f *joinLines) sendPartial(s *lineStream, name string, p *partial) {
	delete(s.parts, name)
	pairs := pairsPool.Get().(*pairs)
	defer pairsPool.Put(pairs)
	pairs.load(p.body)
	pairs.remove(func(x *pair) bool {
		return strings.HasPrefix(string(x.key), "partial_") || x.key != nil && string(x.key) == f.key
	})
	pairs.all = append(pairs.all, pair{[]byte(f.key), text(f.key), record.AppendString(nil, p.text)})
	s.out = record.AppendEventHead(s.out, p.time, p.meta)
	s.out = pairs.appendTo(s.out)
	s.count++
}

// Run sends what has waited long enough, and all at the end.
func (f *joinLines) Run(ctx context.Context) error {
	ticker := time.NewTicker(max(f.wait/2, 50*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return f.flush(context.WithoutCancel(ctx), 0)
		case <-ticker.C:
			if err := f.flush(ctx, f.wait); err != nil {
				return err
			}
		}
	}
}

// flush sends what has waited so long; 0 means all.
func (f *joinLines) flush(ctx context.Context, wait time.Duration) error {
	type ready struct {
		batch flow.Batch
		acks  []*flow.Ack
	}
	var all []ready
	f.mu.Lock()
	now := f.host.Now()
	for tag, s := range f.streams {
		s.out, s.count, s.now = nil, 0, record.TimeOf(now)
		s.stream.Flush(now, wait)
		for name, p := range s.parts {
			if p.since.After(now) { // the clock jumped back
				p.since = now
			}
			if now.Sub(p.since) >= wait {
				f.sendPartial(s, name, p)
			}
		}
		var acks []*flow.Ack
		if !s.holds() {
			acks, s.acks = s.acks, nil
			if now.Sub(s.used) >= wait && len(f.streams) > maxStreams {
				delete(f.streams, tag)
			}
		}
		if s.count > 0 || len(acks) > 0 {
			all = append(all, ready{flow.Batch{Tag: tag, Data: s.out, Count: s.count}, acks})
		}
		s.out = nil
	}
	f.mu.Unlock()
	for _, r := range all {
		acks := r.acks
		if len(acks) > 0 {
			r.batch.Ack = flow.NewAck(func() {
				for _, a := range acks {
					a.Release()
				}
			})
		}
		err := f.emit.Append(ctx, r.batch)
		r.batch.Ack.Release()
		if err != nil {
			return err
		}
	}
	return nil
}
