package fluentd

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/tap"
)

// part is what inputs, filters and outputs have in common.
type part struct {
	kind, plugin string
	name         string // @id, or plugin and number: stdout.0
	log          *slog.Logger
	section      *config.Section
	set          *options.Set
	worker       *worker // whose labels it sees
	hub          *tap.Hub

	records, bytes, dropped, unmatched    atomic.Int64
	errors, retries, retriesFailed, added atomic.Int64
}

func (p *part) point() tap.Point { return tap.Point{Kind: p.kind, Name: p.name} }

// show lets who watches see records that pass the part.
func (p *part) show(tag string, data []byte) {
	if p.hub.Watching() && len(data) > 0 {
		p.hub.Offer(p.point(), tag, data)
	}
}

// shown is an output whose records can be watched as they come.
type shown struct {
	target
	part *part
}

func (s *shown) emit(ctx context.Context, b flow.Batch) error {
	s.part.show(b.Tag, b.Data)
	return s.target.emit(ctx, b)
}

// child is the section of this kind inside of the part's; nil if there is none. More than one is a fault.
func (p *part) child(kind string) *config.Section {
	var found *config.Section
	for _, s := range p.section.Sections {
		if s.Kind != kind {
			continue
		}
		if found != nil {
			p.set.FailAt(s.Pos, "<%s> is there twice; write it once", kind)
		}
		found = s
	}
	return found
}

// only tells that sections of other kinds are not built in.
func (p *part) only(kinds ...string) {
	for _, s := range p.section.Sections {
		known := false
		for _, k := range kinds {
			known = known || s.Kind == k
		}
		if !known {
			p.set.FailAt(s.Pos, "<%s> is not built into logagent inside of %s %s", s.Kind, p.kind, p.plugin)
		}
	}
}

// finish ends reading the options of a section of this part: its faults are those of the part, and what is set and changes nothing is told.
func (p *part) finish(o *options.Set) {
	if o != p.set {
		if err := o.Done(); err != nil {
			p.set.Join(err)
		}
	}
	p.tell(o.Passed())
}

// tell says which options change nothing, each with its place.
func (p *part) tell(passed []config.Property) {
	for _, option := range passed {
		p.log.Info("the option changes nothing here", "option", option.Key, "at", option.Pos.String())
	}
}

// errorLabel takes records that a part cannot deal with.
const errorLabel = "@ERROR"

// reject hands a record that a part cannot deal with to the label @ERROR, or to the log.
func (p *part) reject(ctx context.Context, b flow.Batch, t record.Time, body []byte, why error) error {
	p.errors.Add(1)
	if label := p.worker.labels[errorLabel]; label != nil && b.Depth < maxDepth {
		return label.emit(ctx, flow.Batch{Tag: b.Tag, Data: record.AppendEvent(nil, t, nil, body), Count: 1, Ack: b.Ack, Depth: b.Depth})
	}
	p.dropped.Add(1)
	p.log.Warn("dump an error event", "error", why, "tag", b.Tag, "time", t.Std(), "record", string(record.AppendJSON(nil, body)))
	return nil
}

// filter changes the records of a batch.
type filter interface {
	// apply gives what becomes of the batch, which must not be changed.
	apply(ctx context.Context, b flow.Batch) (data []byte, count int, err error)
}

// filterPart is one filter.
type filterPart struct {
	*part
	filter filter
}

func (f *filterPart) run(ctx context.Context, b flow.Batch) ([]byte, int, error) {
	f.records.Add(int64(b.Count))
	f.bytes.Add(int64(len(b.Data)))
	data, count, err := f.filter.apply(ctx, b)
	f.show(b.Tag, data)
	if count < b.Count {
		f.dropped.Add(int64(b.Count - count))
	} else {
		f.added.Add(int64(count - b.Count))
	}
	return data, count, err
}
