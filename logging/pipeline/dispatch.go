package pipeline

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/output"
)

// noLimit as a number of retries means without end.
const noLimit = -1

// outputPart is one output with the chunks that wait for it.
type outputPart struct {
	selector
	engine     *Engine
	name       string
	alias      string
	plugin     string
	log        *slog.Logger
	output     output.Output
	processors []*filterPart
	workers    int
	retries    int   // after the first try; noLimit
	maxDisk    int64 // storage.total_limit_size, 0 for none

	mu     sync.Mutex
	queue  []*delivery
	size   int64 // of what waits, is delivered or tried again
	disk   int64 // the part of it that files hold
	wake   *sync.Cond
	closed bool
	busy   int
	timers map[*delivery]*time.Timer

	records, bytes, errors, retried, retriesFailed, dropped, chunks atomic.Int64
}

func (o *outputPart) title() string {
	if o.alias != "" {
		return o.alias
	}
	return o.name
}

// delivery is one chunk for one output.
type delivery struct {
	chunk *chunk
	tries int
}

// add queues a chunk. It drops the oldest ones on the disk if they are more than storage.total_limit_size, also those that wait for another try.
func (o *outputPart) add(c *chunk) {
	o.mu.Lock()
	var old []*delivery
	o.queue = append(o.queue, &delivery{chunk: c})
	o.count(c, 1)
	for o.maxDisk > 0 && o.disk > o.maxDisk {
		d := o.oldest(c)
		if d == nil || !o.remove(d) {
			break
		}
		old = append(old, d)
	}
	o.wake.Signal()
	o.mu.Unlock()
	for _, d := range old {
		o.dropped.Add(int64(d.chunk.count))
		o.log.Error("dropped the oldest chunk: more than storage.total_limit_size waits", "records", d.chunk.count, "tag", d.chunk.tag)
		d.chunk.done()
	}
	c.rest(false)
}

// count adds a chunk to what waits, or takes it away. The caller holds the lock.
func (o *outputPart) count(c *chunk, sign int64) {
	o.size += sign * c.size
	if c.file != nil {
		o.disk += sign * c.size
	}
}

// oldest is the oldest chunk on the disk that waits, other than the newest one. The caller holds the lock.
func (o *outputPart) oldest(newest *chunk) *delivery {
	var found *delivery
	look := func(d *delivery) {
		if d.chunk.file != nil && d.chunk != newest && (found == nil || d.chunk.order < found.chunk.order) {
			found = d
		}
	}
	for _, d := range o.queue {
		look(d)
	}
	for d := range o.timers {
		look(d)
	}
	return found
}

// remove takes a delivery from what waits; false if it is on its way. The caller holds the lock.
func (o *outputPart) remove(d *delivery) bool {
	if i := slices.Index(o.queue, d); i >= 0 {
		o.queue = slices.Delete(o.queue, i, i+1)
		o.count(d.chunk, -1)
		return true
	}
	if t := o.timers[d]; t != nil {
		t.Stop() // if it runs just now, it finds that the delivery is gone
		delete(o.timers, d)
		o.count(d.chunk, -1)
		return true
	}
	return false
}

// run delivers until the part is closed and nothing waits, or ctx ends.
func (o *outputPart) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		o.mu.Lock()
		o.wake.Broadcast()
		o.mu.Unlock()
	})
	defer stop()
	for {
		d := o.next(ctx)
		if d == nil {
			return
		}
		o.deliver(ctx, d)
		o.mu.Lock()
		o.busy--
		o.wake.Broadcast()
		o.mu.Unlock()
	}
}

func (o *outputPart) next(ctx context.Context) *delivery {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return nil
		}
		if len(o.queue) > 0 {
			d := o.queue[0]
			o.queue[0] = nil
			o.queue = o.queue[1:]
			o.busy++
			return d
		}
		if o.closed && o.busy == 0 && len(o.timers) == 0 {
			return nil
		}
		o.wake.Wait()
	}
}

func (o *outputPart) deliver(ctx context.Context, d *delivery) {
	c, err := d.chunk.content()
	if err != nil {
		o.dropped.Add(int64(d.chunk.count))
		o.engine.discard(o.log, d.chunk.file, err)
		o.finish(d)
		return
	}
	if len(o.processors) > 0 && !c.Metrics {
		c = o.process(ctx, c)
	}
	if c.Count == 0 {
		o.finish(d)
		return
	}
	if h := o.engine.tap; d.tries == 0 && h.Watching() {
		h.Offer(o.point(), c.Tag, c.Data)
	}
	err = o.output.Write(ctx, c)
	switch {
	case err == nil:
		o.records.Add(int64(c.Count))
		o.bytes.Add(int64(len(c.Data)))
		o.chunks.Add(1)
		o.finish(d)
	case output.IsHopeless(err):
		o.errors.Add(1)
		o.drop(d, err)
	case o.retries != noLimit && d.tries >= o.retries:
		o.retriesFailed.Add(1)
		o.drop(d, err)
	default:
		o.again(ctx, d, err)
	}
}

// process runs the output's own processors over a chunk.
func (o *outputPart) process(ctx context.Context, c output.Chunk) output.Chunk {
	b := flow.Batch{Tag: c.Tag, Data: c.Data, Count: c.Count}
	for _, f := range o.processors {
		out, err := f.apply(ctx, nil, &b)
		if err != nil {
			o.log.Error("a processor failed; the records stay as they were", "error", err)
			continue
		}
		if b.Data = out; len(out) == 0 {
			return output.Chunk{}
		}
	}
	return output.Chunk{Tag: c.Tag, Data: b.Data, Count: b.Count}
}

func (o *outputPart) finish(d *delivery) {
	o.mu.Lock()
	o.count(d.chunk, -1)
	o.mu.Unlock()
	d.chunk.done()
}

func (o *outputPart) drop(d *delivery, err error) {
	o.dropped.Add(int64(d.chunk.count))
	o.log.Error("a chunk is dropped", "records", d.chunk.count, "tag", d.chunk.tag, "tries", d.tries+1, "error", err)
	if keep := o.engine.rejected; keep != "" && d.chunk.file != nil {
		if err := d.chunk.file.CopyTo(keep, o.engine.rejectedLimit); err != nil {
			o.log.Error("keeping the rejected chunk", "error", err)
		}
	}
	o.finish(d)
}

// again tries the chunk once more after a time that grows with each try, or at once when the pipeline is ending.
func (o *outputPart) again(ctx context.Context, d *delivery, err error) {
	o.errors.Add(1)
	o.retried.Add(1)
	d.tries++
	wait := o.engine.backoff(d.tries)
	d.chunk.rest(false)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || ctx.Err() != nil {
		// The end is near: the chunk is tried until the time of grace is over.
		wait = min(wait, time.Second)
	}
	o.log.Warn("a chunk could not be delivered", "retry_in", wait.Round(time.Millisecond), "try", d.tries, "error", err)
	o.timers[d] = time.AfterFunc(wait, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if _, waits := o.timers[d]; waits {
			delete(o.timers, d)
			o.queue = append(o.queue, d)
			o.wake.Signal()
		}
	})
}

// hurry tries at once what waits for a later try, and lets run end when all is delivered.
func (o *outputPart) hurry() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.queue = append(o.queue, o.later()...)
	o.wake.Broadcast()
}

// abandon stops the timers and gives what is left.
func (o *outputPart) abandon() []*delivery {
	o.mu.Lock()
	defer o.mu.Unlock()
	left := o.queue
	o.queue = nil
	return append(left, o.later()...)
}

// later stops the timers and gives what waited for them, the oldest first. The caller holds the lock.
func (o *outputPart) later() []*delivery {
	for _, t := range o.timers {
		t.Stop() // if it runs just now, it finds that the delivery is gone
	}
	all := slices.SortedFunc(maps.Keys(o.timers), func(a, b *delivery) int { return cmp.Compare(a.chunk.order, b.chunk.order) })
	clear(o.timers)
	return all
}

// backoff is a random time between scheduler.base and scheduler.base doubled with each try, at most scheduler.cap.
func (e *Engine) backoff(tries int) time.Duration {
	most := e.base
	for range tries {
		if most *= 2; most >= e.cap {
			most = e.cap
			break
		}
	}
	if most <= e.base {
		return e.base
	}
	return e.base + rand.N(most-e.base)
}

// dispatch hands a chunk to its outputs.
func (e *Engine) dispatch(c *chunk) {
	if c.file != nil {
		if err := c.file.Close(); err != nil {
			c.input.log.Error("closing a chunk", "error", err)
		}
	}
	c.open.Store(int32(len(c.route.outputs)))
	if len(c.route.outputs) == 0 {
		c.open.Store(1)
		c.done()
		return
	}
	for _, o := range c.route.outputs {
		o.add(c)
	}
}

// waiting are the chunks of an input that no output is delivering just now.
func (e *Engine) waiting(in *inputPart) []*chunk {
	var all []*chunk
	for _, o := range e.outputs {
		o.mu.Lock()
		for _, d := range o.queue {
			if d.chunk.input == in {
				all = append(all, d.chunk)
			}
		}
		for d := range o.timers {
			if d.chunk.input == in {
				all = append(all, d.chunk)
			}
		}
		o.mu.Unlock()
	}
	return all
}

var errGrace = errors.New("the time of grace is over")

// start makes the part ready to take chunks.
func (o *outputPart) start() { o.wake = sync.NewCond(&o.mu) }
