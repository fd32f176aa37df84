package fluentd

import (
	"context"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pattern"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/options"
)

// inputs are those that are built in, each with what it does while a buffer is full.
func inputs() map[string]func(*builder, *part) (input.Input, fullPolicy) {
	return map[string]func(*builder, *part) (input.Input, fullPolicy){
		"forward": newForwardInput,
		"http":    newHTTPInput,
		"sample":  newSample,
		"tail":    newTail,
	}
}

func (b *builder) source(s *config.Section, w *worker) {
	if s.Arg != "" {
		b.fail(s.Pos, "<source %s>: a source has no argument", s.Arg)
	}
	p := b.find(s, config.Input, names(inputs()), w)
	if p == nil {
		return
	}
	made := &source{part: p, to: w.labels[""]}
	made.input, made.full = inputs()[p.plugin](b, p)
	b.done(p)
	if label, ok := s.Get("@label"); ok {
		b.later = append(b.later, func() { made.to = b.label(p, label) })
	}
	b.engine.sources = append(b.engine.sources, made)
}

// replay brings given batches, one after the other, and then ends the pipeline. They go where a source with a fitting tag would send them.
type replay struct {
	batches []flow.Batch
	to      func(tag string) *router
}

func (r *replay) Run(ctx context.Context, _ flow.Sink) error {
	for _, b := range r.batches {
		if err := r.to(b.Tag).emit(ctx, b); err != nil {
			return err
		}
	}
	return input.ErrEnd
}

func (b *builder) replay(w *worker, sections []*config.Section) {
	type way struct {
		tag *pattern.Pattern
		to  *router
	}
	var ways []way
	for _, s := range sections {
		label, ok := s.Get("@label")
		if s.Kind != "source" || !ok || w.labels[label.Value] == nil {
			continue
		}
		if p, err := pattern.Parse(strings.ReplaceAll(s.Value("tag"), "*", "**")); err == nil {
			ways = append(ways, way{p, w.labels[label.Value]})
		}
	}
	to := func(tag string) *router {
		top := w.labels[""]
		i := slices.IndexFunc(ways, func(x way) bool { return x.tag.Match(tag) })
		if i < 0 || top.matches(tag) {
			return top
		}
		return ways[i].to
	}
	p := &part{kind: "input", plugin: "lib", name: "lib.0", log: b.logger("input:lib:lib.0", "", ""), worker: w}
	b.engine.sources = []*source{{part: p, input: &replay{b.options.Records, to}, to: w.labels[""]}}
}

// translation is a section of Fluent Bit with the meaning of one of Fluentd, so that its input or output can be used.
type translation struct {
	section *config.Section
	from    *part
}

func translate(p *part) *translation {
	return &translation{&config.Section{Kind: p.kind, Pos: p.section.Pos}, p}
}

func (t *translation) add(key, value string, from config.Property) {
	pos, at := from.Pos, from.ValuePos
	if pos.Line == 0 {
		pos, at = t.section.Pos, t.section.Pos
	}
	t.section.Properties = append(t.section.Properties, config.Property{Key: key, Value: value, Pos: pos, ValuePos: at})
}

// option adds an option under another name, if it has a value.
func (t *translation) option(o *options.Set, key, other string) {
	if v := o.String(key); v != "" {
		p, _ := o.Section.Get(key)
		t.add(other, v, p)
	}
}

func (b *builder) host(p *part) input.Host {
	return input.Host{Host: flow.Host{Log: p.log, Now: b.options.Now}, Name: p.name, Positions: b.options.Positions}
}
