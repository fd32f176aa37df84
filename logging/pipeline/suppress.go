package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// suppressor leaves out messages that are like one that was written within an interval. As in Fluent Bit they are alike if the first half of the newer
// one is the same, so that numbers and errors at the end may differ; there the interval is 10 s whatever is set.
type suppressor struct {
	slog.Handler
	said  *said
	attrs string
}

// said is what a part has written.
type said struct {
	interval time.Duration
	now      func() time.Time

	mu   sync.Mutex
	last []*message
}

// message is one that was written, with how many like it were left out since.
type message struct {
	text string
	at   time.Time
	out  int
}

// maxSaid is how many messages are remembered, as in Fluent Bit.
const maxSaid = 10

func (s *suppressor) Handle(ctx context.Context, r slog.Record) error {
	var text strings.Builder
	text.WriteString(r.Message + s.attrs)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&text, " %s=%v", a.Key, a.Value)
		return true
	})
	out, again := s.said.take(text.String())
	if again {
		return nil
	}
	if out > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("suppressed", out))
	}
	return s.Handler.Handle(ctx, r)
}

func (s *suppressor) WithAttrs(attrs []slog.Attr) slog.Handler {
	inner := suppressor{s.Handler.WithAttrs(attrs), s.said, s.attrs}
	for _, a := range attrs {
		inner.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return &inner
}

func (s *suppressor) WithGroup(name string) slog.Handler {
	return &suppressor{s.Handler.WithGroup(name), s.said, s.attrs}
}

// take tells whether a message repeats one, or else how many like it were left out before it.
func (s *said) take(text string) (out int, again bool) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.last {
		if len(text) < 2 || !strings.HasPrefix(m.text, text[:len(text)/2]) {
			continue
		}
		if since := now.Sub(m.at); since >= 0 && since < s.interval { // unless the clock jumped back
			m.out++
			return 0, true
		}
		out, m.out, m.at = m.out, 0, now
		return out, false
	}
	if len(s.last) == maxSaid {
		oldest := 0
		for i, m := range s.last {
			if m.at.Before(s.last[oldest].at) {
				oldest = i
			}
		}
		s.last = append(s.last[:oldest], s.last[oldest+1:]...)
	}
	s.last = append(s.last, &message{text: text, at: now})
	return 0, false
}
