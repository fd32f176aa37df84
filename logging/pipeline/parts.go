package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/filter"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// defaultBound is how many bytes an input may have waiting in memory when it sets no mem_buf_limit: it then pauses, and nothing is lost.
const defaultBound = 128 << 20

// inputPart is one input with the records that wait for the next flush.
type inputPart struct {
	engine     *Engine
	name       string // tail.0
	alias      string
	plugin     string
	log        *slog.Logger
	input      input.Input
	processors []*filterPart
	skip       *filterPart // the filter whose emitter this is
	limit      int64       // of bytes in memory
	filesystem bool
	backlog    bool // it stands for what an earlier run left on the disk
	pauseUp    bool // storage.pause_on_chunks_overlimit
	ring       bool // storage.type memrb: the oldest records make room for new ones
	rate       *gate

	mu     sync.Mutex
	open   map[string]*chunk
	closed bool
	bytes  atomic.Int64 // in memory
	gate   sync.Mutex   // of freed; taken after mu
	freed  *sync.Cond   // memory was given back
	paused atomic.Bool

	records, size   atomic.Int64
	pauses          atomic.Int64
	dropped         atomic.Int64
	ringChunks      atomic.Int64
	ringBytes       atomic.Int64
	storageFailures atomic.Int64
}

func (in *inputPart) title() string {
	if in.alias != "" {
		return in.alias
	}
	return in.name
}

// free gives memory back and wakes who waits for it.
func (in *inputPart) free(size int64) {
	if in.bytes.Add(-size) <= in.limit && in.paused.CompareAndSwap(true, false) {
		in.log.Info("resumed: memory is below the limit")
	}
	in.gate.Lock()
	in.freed.Broadcast()
	in.gate.Unlock()
}

// over tells whether the input has to wait.
func (in *inputPart) over() bool {
	if in.bytes.Load() > in.limit {
		return true
	}
	return in.filesystem && in.pauseUp && in.engine.up.Load() >= in.engine.maxUp
}

// wait holds the caller while the input is over its limit.
func (in *inputPart) wait(ctx context.Context) error {
	// What is open would wait for the next flush for nothing.
	in.flush()
	if in.filesystem && !in.pauseUp {
		// The files hold all: chunks that wait give their memory back.
		for _, c := range in.engine.waiting(in) {
			c.rest(true)
		}
		return nil
	}
	if in.paused.CompareAndSwap(false, true) {
		in.pauses.Add(1)
		in.log.Warn("paused: more than mem_buf_limit waits for outputs", "bytes", in.bytes.Load(), "limit", in.limit)
	}
	stop := context.AfterFunc(ctx, func() {
		in.gate.Lock()
		in.freed.Broadcast()
		in.gate.Unlock()
	})
	defer stop()
	in.gate.Lock()
	defer in.gate.Unlock()
	for in.over() && ctx.Err() == nil {
		in.freed.Wait()
	}
	return ctx.Err()
}

// scratch is memory for what filters make of a batch.
type scratch struct{ a, b []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// maxTag bounds a tag in bytes; chunks on the disk hold no longer ones.
const maxTag = 4096

// maxEmits bounds how often filters may send the same records anew.
const maxEmits = 32

// Append takes a batch through the filters into the open chunk of its tag.
func (in *inputPart) Append(ctx context.Context, b flow.Batch) error {
	if len(b.Data) == 0 {
		return ctx.Err()
	}
	if len(b.Tag) > maxTag {
		in.log.Error("a tag is too long; its records are dropped", "tag", b.Tag[:100]+"...", "limit", maxTag)
		in.dropped.Add(int64(b.Count))
		return nil
	}
	if in.rate != nil {
		if err := in.pass(ctx, b.Count, len(b.Data)); err != nil {
			return err
		}
	}
	in.records.Add(int64(b.Count))
	in.size.Add(int64(len(b.Data)))
	if h := in.engine.tap; h.Watching() {
		h.Offer(in.point(), b.Tag, b.Data)
	}
	r := in.engine.router.find(b.Tag)
	if b.Metrics {
		return in.store(ctx, r.metrics, b)
	}
	if len(in.processors) == 0 && len(r.filters) == 0 {
		return in.store(ctx, r, b)
	}
	if b.Depth > maxEmits {
		in.log.Error("records were sent anew too often; rules of rewrite_tag send them in a circle. They are dropped", "tag", b.Tag)
		in.dropped.Add(int64(b.Count))
		return nil
	}
	s := scratches.Get().(*scratch)
	err := in.filter(ctx, r, b, s)
	if cap(s.a) > fullChunk {
		s.a = nil
	}
	if cap(s.b) > fullChunk {
		s.b = nil
	}
	scratches.Put(s)
	return err
}

func (in *inputPart) filter(ctx context.Context, r *route, b flow.Batch, s *scratch) error {
	for _, chain := range [][]*filterPart{in.processors, r.filters} {
		for _, f := range chain {
			if f == in.skip {
				continue
			}
			out, err := f.apply(ctx, s.a[:0], &b)
			if err != nil {
				return err
			}
			if len(out) == 0 {
				return nil
			}
			if h := in.engine.tap; h.Watching() {
				h.Offer(f.point(), b.Tag, out)
			}
			if &out[0] != &b.Data[0] {
				b.Data = out
				s.a, s.b = s.b, out[:0] // the next filter must not write where its input lies
			}
		}
	}
	return in.store(ctx, r, b)
}

func (in *inputPart) store(ctx context.Context, r *route, b flow.Batch) error {
	if len(r.outputs) == 0 {
		in.engine.unrouted.Add(int64(b.Count))
		return nil
	}
	for tries := 0; ; tries++ {
		if in.ring {
			if !in.makeRoom(int64(len(b.Data))) {
				in.dropped.Add(int64(b.Count))
				in.ringBytes.Add(int64(len(b.Data)))
				return nil
			}
		} else if in.over() {
			if err := in.wait(ctx); err != nil {
				return err
			}
		}
		err := in.put(r, b)
		if !errors.Is(err, errStorage) {
			return err
		}
		// A full disk passes: the input waits instead of losing records.
		in.storageFailures.Add(1)
		if tries%60 == 0 {
			in.log.Error("paused: the storage takes nothing; it is tried again each second", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

var errStorage = errors.New("storing a chunk")

// put adds the batch to the open chunk of its tag.
func (in *inputPart) put(r *route, b flow.Batch) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return errors.New("the pipeline is closed")
	}
	c := in.open[b.Tag]
	if c == nil {
		c = &chunk{tag: b.Tag, input: in, route: r, order: in.engine.made.Add(1), metrics: b.Metrics}
		if err := in.back(c); err != nil {
			return err
		}
		in.open[b.Tag] = c
	}
	if err := c.append(b); err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	in.bytes.Add(int64(len(b.Data)))
	if c.size >= fullChunk {
		delete(in.open, b.Tag)
		in.engine.dispatch(c)
	}
	return nil
}

// back gives a new chunk its file.
func (in *inputPart) back(c *chunk) error {
	if !in.filesystem || c.metrics {
		return nil
	}
	file, err := in.engine.folder.Create(in.title(), c.tag)
	if err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	c.file = file
	in.engine.up.Add(1)
	in.engine.down.Add(1)
	return nil
}

// flush sends the open chunks to their outputs.
func (in *inputPart) flush() {
	in.mu.Lock()
	in.flushLocked()
	in.mu.Unlock()
}

func (in *inputPart) flushLocked() {
	// The oldest first, as they were made: an output with one worker gets the records of an input in their order even when their tags differ.
	chunks := slices.SortedFunc(maps.Values(in.open), func(a, b *chunk) int { return cmp.Compare(a.order, b.order) })
	clear(in.open)
	for _, c := range chunks {
		in.engine.dispatch(c)
	}
}

// filterPart is one filter with what it takes.
type filterPart struct {
	selector
	name    string
	alias   string
	plugin  string
	filter  filter.Filter
	log     *slog.Logger
	records atomic.Int64
	bytes   atomic.Int64
	added   atomic.Int64
	removed atomic.Int64
}

func (f *filterPart) title() string {
	if f.alias != "" {
		return f.alias
	}
	return f.name
}

// apply runs the filter and counts. b.Count is what comes out of it.
func (f *filterPart) apply(ctx context.Context, dst []byte, b *flow.Batch) ([]byte, error) {
	before := b.Count
	f.records.Add(int64(before))
	f.bytes.Add(int64(len(b.Data)))
	out, err := f.filter.Apply(ctx, dst, *b)
	if err != nil || len(out) == 0 {
		f.removed.Add(int64(before))
		return nil, err
	}
	if &out[0] == &b.Data[0] && len(out) == len(b.Data) {
		return out, nil
	}
	if _, ok := f.filter.(filter.OneToOne); ok {
		return out, nil
	}
	b.Count = record.Count(out)
	if b.Count > before {
		f.added.Add(int64(b.Count - before))
	} else {
		f.removed.Add(int64(before - b.Count))
	}
	return out, nil
}
