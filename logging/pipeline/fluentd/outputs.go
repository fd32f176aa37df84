package fluentd

import (
	"context"
	"fmt"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/plugin"
)

// outputs are those that are built in.
func outputs() map[string]func(*builder, *part) target {
	return map[string]func(*builder, *part) target{
		"copy":                      newCopy,
		"elasticsearch":             newElasticsearch,
		"elasticsearch_data_stream": newElasticsearch,
		"file":                      newFile,
		"forward":                   newForward,
		"http":                      newHTTP,
		"kafka2":                    newKafka,
		"label_router":              newLabelRouter,
		"null":                      newNull,
		"opensearch":                newElasticsearch,
		"relabel":                   newRelabel,
		"stdout":                    newStdout,
	}
}

// stdout prints records, at once or, with a <buffer>, in chunks.
type stdout struct {
	*part
	printer printer
	inject  *injector
}

func newStdout(b *builder, p *part) target {
	p.only("format", "inject", "buffer", "secondary")
	s := &stdout{p, printer{&b.engine.stdout, b.out, b.formatter(p, "stdout")}, b.injector(p)}
	p.set.Pass("use_logger") // records go to standard output, where upstream's logger writes them too
	if p.child("buffer") == nil {
		return s
	}
	return b.buffer(p, s, bufferDefaults{kind: "memory", keys: []string{"tag"}, chunk: 10 << 10, atEnd: true})
}

func (s *stdout) emit(_ context.Context, b flow.Batch) error {
	s.records.Add(int64(b.Count))
	s.bytes.Add(int64(len(b.Data)))
	s.added.Add(int64(b.Count))
	return s.printer.print(b, s.inject)
}

func (s *stdout) write(_ context.Context, c *delivery) error {
	var text []byte
	for r := record.NewReader(c.data); r.Next(); {
		tag := c.tag(&r.Event)
		text = s.printer.format.Append(text, tag, r.Time, s.inject.apply(tag, r.Time, r.Body))
	}
	return s.printer.put(text)
}

func (s *stdout) close() error { return nil }

// null takes records and forgets them.
type null struct{ *part }

func newNull(b *builder, p *part) target {
	p.only("buffer")
	if p.set.Bool("never_flush") {
		p.set.Failf("never_flush", "never_flush is not built into logagent; it exists for tests of Fluentd")
	}
	n := &null{p}
	if p.child("buffer") == nil {
		return n
	}
	return b.buffer(p, n, bufferDefaults{kind: "memory"})
}

func (n *null) emit(_ context.Context, b flow.Batch) error {
	n.records.Add(int64(b.Count))
	n.bytes.Add(int64(len(b.Data)))
	n.added.Add(int64(b.Count))
	return nil
}

func (n *null) write(context.Context, *delivery) error { return nil }
func (n *null) close() error                           { return nil }

// relabel sends records to a label.
type relabel struct {
	*part
	to *router
}

func newRelabel(b *builder, p *part) target {
	r := &relabel{part: p}
	label, ok := p.section.Get("@label")
	if !ok {
		p.set.FailAt(p.section.Pos, "relabel needs @label, the label that the records go to")
		return r
	}
	p.only()
	b.later = append(b.later, func() { r.to = b.label(p, label) })
	return r
}

func (r *relabel) emit(ctx context.Context, b flow.Batch) error {
	r.records.Add(int64(b.Count))
	r.added.Add(int64(b.Count))
	return r.to.emit(ctx, b)
}

// copies sends records to several outputs. Records are never changed in place, so that there is no need to copy them.
type copies struct {
	*part
	stores []store
}

type store struct {
	target                  target
	part                    *part
	ignoreError, onlyFailed bool
}

func newCopy(b *builder, p *part) target {
	c := &copies{part: p}
	p.set.Pass("copy_mode", "deep_copy")
	p.only("store")
	for i, s := range p.section.Sections {
		if s.Kind != "store" {
			continue
		}
		made := store{ignoreError: strings.Contains(s.Arg, "ignore_error"), onlyFailed: strings.Contains(s.Arg, "ignore_if_prev_success")}
		if made.onlyFailed && i == 0 {
			p.set.FailAt(s.Pos, "ignore_if_prev_success needs a <store> before it")
		}
		if made.target, made.part = b.output(s, p.worker); made.target != nil {
			c.stores = append(c.stores, made)
		}
	}
	if len(p.section.Sections) == 0 {
		p.set.FailAt(p.section.Pos, "copy needs at least one <store>")
	}
	return c
}

func (c *copies) emit(ctx context.Context, b flow.Batch) error {
	c.records.Add(int64(b.Count))
	c.added.Add(int64(b.Count))
	succeeded := false
	for _, s := range c.stores {
		if s.onlyFailed && succeeded {
			continue
		}
		err := s.target.emit(ctx, b)
		succeeded = err == nil
		switch {
		case err == nil:
		case s.ignoreError && ctx.Err() == nil:
			c.log.Error("ignore emit error", "output", s.part.name, "error", err)
			s.part.dropped.Add(int64(b.Count))
		default:
			return err
		}
	}
	return nil
}

// buffer makes an output whose chunks a writer delivers, with the <secondary> of its section.
func (b *builder) buffer(p *part, w writer, d bufferDefaults) target {
	made := b.buffered(p, d)
	made.writer = w
	if s := p.child("secondary"); s != nil {
		made.secondary, made.same = b.secondary(p, s, made.keys)
		made.policy.Secondary = made.secondary != nil
	}
	b.engine.buffers = append(b.engine.buffers, made)
	return made
}

// secondary makes the output that takes over from one that fails. It gets the chunks of that one and has no buffer of its own.
func (b *builder) secondary(p *part, s *config.Section, keys *chunking) (writer, bool) {
	name := s.Plugin()
	if name == "" {
		name = p.plugin
	}
	for _, inner := range s.Sections {
		if inner.Kind == "buffer" || inner.Kind == "secondary" {
			p.set.FailAt(inner.Pos, "<secondary> cannot have a <%s>", inner.Kind)
			return nil, false
		}
	}
	made := secondaries()[name]
	table := plugin.Fluentd().Plugin(config.Output, name)
	if made == nil || table == nil {
		p.set.FailAt(s.Pos, "the secondary output %q is not built into logagent, which has %s", name, strings.Join(names(secondaries()), ", "))
		return nil, false
	}
	inner := b.newPart(s, "secondary", name, table, p.worker)
	inner.name = fmt.Sprintf("%s.secondary", p.name)
	w := made(b, inner, keys)
	b.done(inner)
	return w, name == p.plugin
}

// secondaries are the outputs that can stand in <secondary>.
func secondaries() map[string]func(*builder, *part, *chunking) writer {
	return map[string]func(*builder, *part, *chunking) writer{
		"file": newFileWriter,
		"null": func(_ *builder, p *part, _ *chunking) writer { return &null{p} },
		"stdout": func(b *builder, p *part, _ *chunking) writer {
			return &stdout{p, printer{&b.engine.stdout, b.out, b.formatter(p, "stdout")}, nil}
		},
		"secondary_file": newSecondaryFile,
	}
}
