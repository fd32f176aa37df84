package fluentd

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/parse"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/plugin"
)

// tail follows files, with the input of package input, and parses their lines.
type tail struct {
	part      *part
	inner     input.Input
	parser    *parse.Parser
	multiline bool
	before    string // of the tag: the * in it is the file's path
	after     string
	star      bool
	pathKey   string
	unmatched bool
	flush     time.Duration
	now       func() time.Time

	mu   sync.Mutex
	held map[string]*message // by path
}

// message is lines that wait for those that belong to them.
type message struct {
	lines []byte
	at    record.Time
	since time.Time
	tag   string
	acks  []*flow.Ack
}

// Keys of what the inner input brings.
const (
	lineKey = "line"
	pathKey = "path"
)

// longestLine bounds lines for which the configuration sets no limit, in bytes.
const longestLine = "64m"

func newTail(b *builder, p *part) (input.Input, fullPolicy) {
	o, inner := p.set, translate(p)
	t := &tail{part: p, pathKey: o.String("path_key"), unmatched: o.Bool("emit_unmatched_lines"), flush: o.Duration("multiline_flush_interval"), now: b.options.Now, held: map[string]*message{}}
	tag := o.String("tag")
	t.before, t.after, t.star = strings.Cut(tag, "*")
	if tag == "" {
		o.Failf("tag", "tail needs the option tag")
	}
	files := newTailFiles(b, p)
	path, _ := p.section.Get("path")
	inner.add("path", path.Value, path) // files come from the hooks: this one is a name for all of them
	inner.add("key", lineKey, config.Property{})
	inner.add("path_key", pathKey, config.Property{})
	inner.option(o, "pos_file", "db")
	if path := o.String("pos_file"); path != "" {
		if other := b.positions[path]; other != nil {
			o.Failf("pos_file", "%s at %s has the same pos_file; give each source one of its own", other.name, other.section.Pos)
		}
		b.positions[path] = p
	} else {
		p.log.Warn("'pos_file PATH' parameter is not set to a 'tail' source. this parameter is highly recommended to save the position to resume tailing.")
		if o.Bool("follow_inodes") {
			o.Failf("follow_inodes", "follow_inodes needs pos_file")
		}
	}
	inner.option(o, "read_from_head", "read_from_head")
	inner.option(o, "refresh_interval", "refresh_interval")
	inner.option(o, "rotate_wait", "rotate_wait")
	inner.add("skip_long_lines", "on", config.Property{})
	inner.add("watcher_interval", "0.5", config.Property{}) // positions are written as often
	if o.Has("max_line_size") {
		inner.option(o, "max_line_size", "buffer_max_size")
	} else {
		inner.add("buffer_max_size", longestLine, config.Property{})
	}
	for _, key := range []string{"encoding", "from_encoding"} {
		if v := strings.ToUpper(o.String(key)); v != "" && v != "UTF-8" && v != "ASCII-8BIT" {
			o.Failf(key, "%s %s is not built into logagent, which reads UTF-8", key, v)
		}
	}
	if !o.Bool("enable_watch_timer") && !o.Bool("enable_stat_watcher") {
		o.Failf("enable_watch_timer", "either enable_watch_timer or enable_stat_watcher must be true")
	}
	// One goroutine reads all files, by inode, when the kernel tells of a change.
	o.Ignore("follow_inodes")
	o.Pass("read_lines_limit", "enable_watch_timer", "enable_stat_watcher", "open_on_every_update")
	p.only("parse", "group")
	hooks := input.TailHooks{Files: files.list, Folders: files.folders(), Late: o.Bool("skip_refresh_on_startup"), DeniedOnce: o.Bool("ignore_repeated_permission_error"),
		Compact: o.Duration("pos_file_compaction_interval")}
	if pace := newTailPace(p); pace != nil {
		hooks.Pace = pace
	}
	t.parser = b.parser(p, "")
	t.multiline = t.parser != nil && t.parser.Type == "multiline"
	set := options.New(inner.section, plugin.FluentBit().Plugin(config.Input, "tail"), nil)
	t.inner = input.NewTail(set, b.host(p), hooks)
	if err := set.Done(); err != nil {
		o.Join(err)
	}
	return t, wait
}

func (t *tail) Run(ctx context.Context, sink flow.Sink) error {
	if !t.multiline {
		return t.inner.Run(ctx, sinkFunc(func(ctx context.Context, b flow.Batch) error { return t.lines(ctx, b, sink) }))
	}
	var ticking sync.WaitGroup
	ticks, stop := context.WithCancel(ctx)
	if t.flush > 0 {
		ticking.Go(func() { t.tick(ticks, sink) })
	}
	err := t.inner.Run(ctx, sinkFunc(func(ctx context.Context, b flow.Batch) error { return t.lines(ctx, b, sink) }))
	stop()
	ticking.Wait()
	// What waits for more lines is sent as it is: the position is behind it.
	return errors.Join(err, t.flushHeld(context.WithoutCancel(ctx), sink, func(*message) bool { return true }))
}

type sinkFunc func(ctx context.Context, b flow.Batch) error

func (f sinkFunc) Append(ctx context.Context, b flow.Batch) error { return f(ctx, b) }

// tick sends messages that waited long enough for another line.
func (t *tail) tick(ctx context.Context, sink flow.Sink) {
	ticker := time.NewTicker(max(t.flush/4, 50*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := t.now()
		if err := t.flushHeld(ctx, sink, func(m *message) bool { return now.Sub(m.since) >= t.flush }); err != nil {
			t.part.log.Error("flushing lines", "error", err)
		}
	}
}

func (t *tail) flushHeld(ctx context.Context, sink flow.Sink, due func(*message) bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var failed error
	for path, m := range t.held {
		if !due(m) {
			continue
		}
		delete(t.held, path)
		out := outgoing{tag: m.tag, path: path}
		t.complete(&out, m)
		failed = errors.Join(failed, out.send(ctx, sink, nil))
	}
	return failed
}

// outgoing is what becomes of lines.
type outgoing struct {
	tag, path string
	data      []byte
	count     int
	acks      []*flow.Ack
}

// send hands the records over; the positions of all lines that they were made of are told when they are safe.
func (o *outgoing) send(ctx context.Context, sink flow.Sink, own *flow.Ack) error {
	acks := o.acks
	if own != nil {
		acks = append(acks, own.Hold())
	}
	whole := flow.NewAck(func() {
		for _, a := range acks {
			a.Release()
		}
	})
	if err := sink.Append(ctx, flow.Batch{Tag: o.tag, Data: o.data, Count: o.count, Ack: whole}); err != nil && o.count > 0 {
		return err // never released: the lines come again
	}
	whole.Release()
	return nil
}

// lines parses the lines of one file.
func (t *tail) lines(ctx context.Context, b flow.Batch, sink flow.Sink) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := outgoing{}
	for r := record.NewReader(b.Data); r.Next(); {
		if out.path == "" {
			v, _ := record.Get(r.Body, pathKey)
			text, _ := record.Text(v)
			out.path = string(text)
			out.tag = t.tagOf(out.path)
		}
		v, _ := record.Get(r.Body, lineKey)
		line, _ := record.Text(v)
		if t.multiline {
			t.more(&out, line, r.Time, b.Ack)
			continue
		}
		t.parse(&out, line, r.Time)
	}
	return out.send(ctx, sink, b.Ack)
}

// tagOf puts the path into the tag, with dots for slashes.
func (t *tail) tagOf(path string) string {
	if !t.star {
		return t.before
	}
	name := strings.Trim(strings.ReplaceAll(path, "/", "."), ".")
	for strings.Contains(name, "..") {
		name = strings.ReplaceAll(name, "..", ".")
	}
	return t.before + name + t.after
}

// longestMessage bounds a message of many lines, in bytes.
const longestMessage = 16 << 20

// more adds a line to the message of its file, and parses the one before if this line begins another.
func (t *tail) more(out *outgoing, line []byte, at record.Time, ack *flow.Ack) {
	m := t.held[out.path]
	begins := t.parser.First == nil || t.parser.First(line)
	if m != nil && (t.parser.First != nil && begins || len(m.lines) > longestMessage) {
		t.complete(out, m)
		m = nil
	}
	switch {
	case m != nil:
		m.lines = append(append(m.lines, '\n'), line...)
	case !begins: // the rest of a message whose beginning was not seen
		if t.unmatched {
			t.parse(out, line, at)
		} else {
			t.part.dropped.Add(1)
			t.part.log.Warn("got incomplete line before first line", "file", out.path, "line", string(line[:min(len(line), 500)]))
		}
		return
	default:
		m = &message{lines: append([]byte(nil), line...), at: at, tag: out.tag}
		t.held[out.path] = m
	}
	m.since = t.now()
	if ack != nil && (len(m.acks) == 0 || m.acks[len(m.acks)-1] != ack) {
		m.acks = append(m.acks, ack.Hold())
	}
	if t.parser.First != nil {
		return
	}
	// Without a first line each line may be the one that completes the message.
	if found, err := t.parser.Parse(m.lines); err == nil {
		t.append(out, found, m.at)
		out.acks = append(out.acks, m.acks...)
		delete(t.held, out.path)
	}
}

func (t *tail) complete(out *outgoing, m *message) {
	t.parse(out, m.lines, m.at)
	out.acks = append(out.acks, m.acks...)
	delete(t.held, out.path)
}

func (t *tail) parse(out *outgoing, text []byte, at record.Time) {
	found, err := t.parser.Parse(text)
	if err == nil {
		t.append(out, found, at)
		return
	}
	if t.unmatched {
		body := record.AppendString(record.AppendString([]byte{0x81}, "unmatched_line"), text)
		t.append(out, []parse.Parsed{{Body: body}}, at)
		return
	}
	t.part.dropped.Add(1)
	t.part.log.Warn("pattern not matched", "file", out.path, "line", string(text[:min(len(text), 500)]), "error", err)
}

func (t *tail) append(out *outgoing, found []parse.Parsed, at record.Time) {
	for _, x := range found {
		if x.Timed {
			at = x.Time
		}
		if t.pathKey != "" {
			if _, ok := record.Get(x.Body, t.pathKey); !ok {
				x.Body = mergedMaps(x.Body, record.AppendString(record.AppendString([]byte{0x81}, t.pathKey), out.path))
			}
		}
		out.data = record.AppendEvent(out.data, at, nil, x.Body)
		out.count++
	}
}
