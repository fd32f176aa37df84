package fluentd

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// logEvents makes events of what the engine says in its log: with the tags fluent.LEVEL they go to <label @FLUENT_LOG>, or to the matches at the top that take
// them (lib/fluent/fluent_log_event_router.rb). Who logs never waits for it.
type logEvents struct {
	queue   chan flow.Batch
	open    atomic.Bool // events are taken
	handing atomic.Bool // one is on its way: what is said meanwhile may be said of it, and makes none
	lost    atomic.Int64
}

// mostLogEvents may wait; more are lost.
const mostLogEvents = 1024

// logLabel is where events of the log go.
const logLabel = "@FLUENT_LOG"

// logTags are the tags that events of the log can have.
var logTags = []string{"fluent.trace", "fluent.debug", "fluent.info", "fluent.warn", "fluent.error", "fluent.fatal"}

func logTag(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "fluent.error"
	case level >= slog.LevelWarn:
		return "fluent.warn"
	case level >= slog.LevelInfo:
		return "fluent.info"
	case level >= slog.LevelDebug:
		return "fluent.debug"
	}
	return "fluent.trace"
}

// destination finds the router that takes events of the log; nil if none does.
func (l *logEvents) destination(w *worker, log *slog.Logger) *router {
	to := w.labels[logLabel]
	if to == nil {
		to = w.labels[""]
		if !slices.ContainsFunc(logTags, to.matches) {
			return nil
		}
		log.Warn("define <match fluent.**> to capture fluentd logs in top level is deprecated. Use <label @FLUENT_LOG> instead")
	}
	if missing := slices.DeleteFunc(slices.Clone(logTags), to.matches); len(missing) > 0 {
		log.Warn("match for some tags of log events are not defined (to be ignored)", "tags", strings.Join(missing, ","))
	}
	return to
}

// run hands events over until stop is called, which waits until those that came before are handed over.
func (l *logEvents) run(ctx context.Context, to *router) (stop func()) {
	l.open.Store(true)
	ended := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case b := <-l.queue:
				l.hand(ctx, to, b)
			case <-ended:
				for {
					select {
					case b := <-l.queue:
						l.hand(ctx, to, b)
					default:
						return
					}
				}
			}
		}
	})
	return func() {
		l.open.Store(false)
		close(ended)
		done.Wait()
	}
}

func (l *logEvents) hand(ctx context.Context, to *router, b flow.Batch) {
	if !to.matches(b.Tag) {
		return
	}
	l.handing.Store(true)
	defer l.handing.Store(false)
	if err := to.emit(ctx, b); err != nil {
		l.lost.Add(1)
		to.part.log.Error("failed to emit fluentd's log event", "tag", b.Tag, "error", err)
	}
}

// logger makes events of what is said to it as well. prefix stands before the text.
func (l *logEvents) logger(inner *slog.Logger, prefix string) *slog.Logger {
	return slog.New(&eventHandler{inner.Handler(), l, prefix, nil})
}

type eventHandler struct {
	slog.Handler
	events *logEvents
	prefix string
	attrs  []slog.Attr
}

func (h *eventHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.events.open.Load() && !h.events.handing.Load() {
		select {
		case h.events.queue <- h.event(r):
		default:
			h.events.lost.Add(1)
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h *eventHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &eventHandler{h.Handler.WithAttrs(attrs), h.events, h.prefix, append(slices.Clip(h.attrs), attrs...)}
}

func (h *eventHandler) WithGroup(name string) slog.Handler {
	return &eventHandler{h.Handler.WithGroup(name), h.events, h.prefix, h.attrs}
}

// event is a record with what was said: the fields, and all of it as text.
func (h *eventHandler) event(r slog.Record) flow.Batch {
	text := strings.Builder{}
	text.WriteString(h.prefix + r.Message)
	body, n := []byte{0x80}, 0
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&text, " %s=%v", a.Key, a.Value)
		body = appendAttr(record.AppendString(body, a.Key), a.Value)
		n++
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	body = record.CloseMap(record.AppendString(record.AppendString(body, "message"), text.String()), 0, n+1)
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	return flow.Batch{Tag: logTag(r.Level), Count: 1, Data: record.AppendEvent(nil, record.TimeOf(at), nil, body)}
}

func appendAttr(b []byte, v slog.Value) []byte {
	switch v = v.Resolve(); v.Kind() {
	case slog.KindInt64:
		return record.AppendInt(b, v.Int64())
	case slog.KindBool:
		return record.AppendBool(b, v.Bool())
	case slog.KindFloat64:
		return record.AppendFloat(b, v.Float64())
	}
	return record.AppendString(b, v.String())
}
