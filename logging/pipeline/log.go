package pipeline

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Levels beside those of slog.
const (
	LevelTrace = slog.LevelDebug - 4
	LevelOff   = slog.LevelError + 100
)

// ParseLevel reads a level as Fluent Bit names it: off, error, warn, info, debug, trace.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "off":
		return LevelOff, nil
	case "error":
		return slog.LevelError, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	case "trace":
		return LevelTrace, nil
	}
	return 0, fmt.Errorf("there is no log level %q; there are off, error, warn, info, debug and trace", name)
}

// logHandler writes lines in the form of Fluent Bit: [2024/01/31 12:00:00.000000000] [ info] [part] text key=value.
type logHandler struct {
	mu    *sync.Mutex
	out   io.Writer
	level *slog.LevelVar
	part  string
	attrs string
}

// NewLogger makes a logger that writes in Fluent Bit's form.
func NewLogger(out io.Writer, level *slog.LevelVar) *slog.Logger {
	return slog.New(&logHandler{mu: new(sync.Mutex), out: out, level: level})
}

// partLogger is a logger for one part: [input:tail:tail.0].
func partLogger(log *slog.Logger, part, level string) *slog.Logger {
	h, ok := log.Handler().(*logHandler)
	if !ok {
		return log.With("part", part)
	}
	inner := *h
	inner.part = part
	if l, err := ParseLevel(level); err == nil && level != "" {
		inner.level = new(slog.LevelVar)
		inner.level.Set(l)
	}
	return slog.New(&inner)
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	name := "trace"
	switch {
	case r.Level >= slog.LevelError:
		name = "error"
	case r.Level >= slog.LevelWarn:
		name = " warn"
	case r.Level >= slog.LevelInfo:
		name = " info"
	case r.Level >= slog.LevelDebug:
		name = "debug"
	}
	t := r.Time
	if t.IsZero() {
		t = time.Now()
	}
	fmt.Fprintf(&b, "[%s] [%s] ", t.Format("2006/01/02 15:04:05.000000000"), name)
	if h.part != "" {
		b.WriteString("[" + h.part + "] ")
	}
	b.WriteString(r.Message)
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.out, b.String())
	return err
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	inner := *h
	for _, a := range attrs {
		inner.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return &inner
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }
