package fluentd

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/weft-dev/weft/logging/pattern"
	"github.com/weft-dev/weft/logging/pipeline/flow"
)

// target takes batches: an output, or a router.
type target interface {
	emit(ctx context.Context, b flow.Batch) error
}

// rule is one <filter> or <match> of a label.
type rule struct {
	pattern *pattern.Pattern
	filter  *filterPart // nil for a match
	output  target
}

// router sends batches through the filters whose pattern takes the tag, in order, to the first match that takes it (lib/fluent/event_router.rb).
type router struct {
	name  string // of the label, "" at the top
	rules []rule
	part  *part // what is logged and counted for records that no match takes

	mu     sync.Mutex
	routes sync.Map // of path by tag
	known  atomic.Int64
}

// path is the way of one tag.
type path struct {
	filters []*filterPart
	output  target // nil if no match takes the tag
}

// maxRoutes bounds the memory for tags that come once and never again.
const maxRoutes = 8192

func (r *router) find(tag string) *path {
	if found, ok := r.routes.Load(tag); ok {
		return found.(*path) //nolint:forcetypeassert // nothing else is stored
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	made := &path{}
	for i := range r.rules {
		rule := &r.rules[i]
		if !rule.pattern.Match(tag) {
			continue
		}
		if rule.filter == nil {
			made.output = rule.output
			break
		}
		made.filters = append(made.filters, rule.filter)
	}
	if r.known.Add(1) > maxRoutes {
		r.routes.Clear()
		r.known.Store(1)
	}
	r.routes.Store(tag, made)
	return made
}

// matches tells whether a match takes the tag.
func (r *router) matches(tag string) bool { return r.find(tag).output != nil }

// maxDepth bounds how often records may be sent on: labels that lead to each other in a circle end there.
const maxDepth = 32

func (r *router) emit(ctx context.Context, b flow.Batch) error {
	if b.Depth++; b.Depth > maxDepth {
		r.part.log.Error("records were sent on too often; labels lead in a circle. They are dropped", "tag", b.Tag)
		r.part.dropped.Add(int64(b.Count))
		return nil
	}
	p := r.find(b.Tag)
	for _, f := range p.filters {
		var err error
		before := b
		if b.Data, b.Count, err = f.run(ctx, b); err != nil {
			return r.failed(ctx, before, err)
		}
		if b.Count == 0 {
			return nil
		}
	}
	if p.output == nil {
		// At the first, second, fourth ... and then every 512th time: a stream of such records must not fill the log.
		n := r.part.unmatched.Add(1)
		if n < 512 && bits.OnesCount64(uint64(n)) == 1 || n%512 == 0 { //nolint:gosec // a count
			r.part.log.Warn("no patterns matched", "tag", b.Tag)
		}
		r.part.dropped.Add(int64(b.Count))
		return nil
	}
	if err := p.output.emit(ctx, b); err != nil {
		return r.failed(ctx, b, err)
	}
	return nil
}

// failed hands records that a filter or an output did not take to the label @ERROR; without one the sender is told.
func (r *router) failed(ctx context.Context, b flow.Batch, why error) error {
	label := r.part.worker.labels[errorLabel]
	if label == nil || label == r || ctx.Err() != nil {
		return why
	}
	r.part.log.Warn("send an error event stream to @ERROR:", "error", why, "tag", b.Tag)
	return label.emit(ctx, b)
}
