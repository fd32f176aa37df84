package pipeline

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
)

// gate lets through what an input's rate_gate options allow a second. What comes too fast waits, so that the input reads no further.
type gate struct {
	records, bytes float64 // a second; 0 for no limit
	window         time.Duration
	limited        atomic.Bool

	mu   sync.Mutex
	next time.Time // when all that was let through would be within the limit
}

// newGate reads the options; nil if there is no limit.
func newGate(o *options.Set) *gate {
	on, records, bytes := o.Bool("rate_gate"), o.Int("rate_gate.max_records"), o.Size("rate_gate.max_bytes")
	window := o.Duration("rate_window")
	if window <= 0 {
		window = time.Second
	}
	if o.Bool("rate_gate.backpressure") { // a busy output lowers no limit here, which is what off asks for
		o.Tell("rate_gate.backpressure")
	}
	o.Pass("rate_gate.resume_ratio") // the gate opens as soon as the limit allows
	if records < 0 {
		o.Failf("rate_gate.max_records", "rate_gate.max_records cannot be negative")
	}
	if !on || records <= 0 && bytes <= 0 {
		return nil
	}
	return &gate{records: float64(records), bytes: float64(bytes), window: window}
}

// reserve counts a batch and gives the time to wait before it. What a window allows may come at once.
func (g *gate) reserve(now time.Time, records, bytes int) time.Duration {
	var cost float64 // in seconds
	if g.records > 0 {
		cost = float64(records) / g.records
	}
	if g.bytes > 0 {
		cost = max(cost, float64(bytes)/g.bytes)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if start := now.Add(-g.window); g.next.Before(start) || g.next.After(now.Add(time.Hour)) { // idle, or the clock jumped back
		g.next = start
	}
	wait := g.next.Sub(now)
	g.next = g.next.Add(time.Duration(cost * float64(time.Second)))
	return max(wait, 0)
}

// pass waits until a batch is within the rate.
func (in *inputPart) pass(ctx context.Context, records, bytes int) error {
	wait := in.rate.reserve(in.engine.now(), records, bytes)
	if wait <= 0 {
		in.rate.limited.Store(false)
		return nil
	}
	if in.rate.limited.CompareAndSwap(false, true) {
		in.pauses.Add(1)
		in.log.Warn("paused: more comes in a second than rate_gate allows")
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// makeRoom drops the oldest chunks of an input with storage.type memrb that wait for an output, until size bytes more are within the limit. It
// answers false if there is no room even then, because outputs hold the rest.
func (in *inputPart) makeRoom(size int64) bool {
	over := func() bool { return in.bytes.Load()+size > in.limit }
	if !over() {
		return true
	}
	in.flush()
	waiting := in.engine.waiting(in)
	slices.SortStableFunc(waiting, func(a, b *chunk) int { return cmp.Compare(a.order, b.order) })
	for _, c := range waiting {
		if !over() {
			return true
		}
		if in.engine.forget(c) {
			in.ringChunks.Add(1)
			in.ringBytes.Add(c.size)
			in.dropped.Add(int64(c.count))
			in.log.Warn("dropped the oldest records: more than mem_buf_limit waits for outputs", "records", c.count, "tag", c.tag)
		}
	}
	return !over()
}

// forget takes a chunk from all outputs for which it waits. It answers false if one is delivering it.
func (e *Engine) forget(c *chunk) bool {
	waits := 0
	for _, o := range c.route.outputs {
		if o.takeBack(c) {
			waits++
		}
	}
	for range waits {
		c.done()
	}
	return waits > 0 && c.open.Load() <= 0
}

// takeBack takes a chunk from what waits for an output.
func (o *outputPart) takeBack(c *chunk) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.queue {
		if d.chunk == c {
			return o.remove(d)
		}
	}
	for d := range o.timers {
		if d.chunk == c {
			return o.remove(d)
		}
	}
	return false
}
