package fluentd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/buffer"
	"github.com/weft-dev/weft/logging/pipeline/output"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/storage"
)

// writer delivers chunks. An error means that the chunk shall be tried again, unless it is wrapped by output.Hopeless.
type writer interface {
	write(ctx context.Context, c *delivery) error
	close() error
}

// starter is a writer that has something to do before records come.
type starter interface {
	start(ctx context.Context) error
}

// delivery is a chunk with its content, which must not be changed.
type delivery struct {
	*buffer.Chunk
	data []byte
}

// tagKey is where an event of a chunk that holds several tags has its own, in its metadata.
const tagKey = "tag"

// withTag are the events of a batch with its tag in their metadata.
func withTag(b flow.Batch) []byte {
	meta := record.AppendString(record.AppendString([]byte{0x81}, tagKey), b.Tag)
	var out []byte
	for r := record.NewReader(b.Data); r.Next(); {
		out = record.AppendEvent(out, r.Time, meta, r.Body)
	}
	return out
}

// tag is the tag of one event of the chunk.
func (d *delivery) tag(e *record.Event) string {
	if v, ok := record.Get(e.Meta, tagKey); ok && d.Key.Tag == "" {
		if text, ok := record.Text(v); ok {
			return string(text)
		}
	}
	return d.Key.Tag
}

// How records are queued.
const (
	modeLazy      = "lazy"
	modeInterval  = "interval"
	modeImmediate = "immediate"
)

// buffered is an output with a buffer: records wait in chunks, are delivered by workers, and are tried again (lib/fluent/plugin/output.rb).
type buffered struct {
	*part
	writer    writer
	secondary writer
	same      bool // the secondary is of the same plugin
	inject    *injector
	keys      *chunking
	policy    buffer.Policy
	limits    buffer.Limits
	path      string // of files, "" in memory
	mode      string
	interval  time.Duration
	wait      time.Duration // timekey_wait
	threads   int
	overflow  string
	atEnd     bool    // flush_at_shutdown
	backup    *backup // nil: chunks that can never be delivered are dropped
	slow      time.Duration
	now       func() time.Time

	buffer *buffer.Buffer
	wake   chan struct{} // there is something to deliver
	ended  chan struct{} // closed when the engine ends

	mu     sync.Mutex
	retry  *buffer.Retry
	ending bool
	full   time.Time // when an overflow was told last
}

// open makes the buffer, with what an earlier run left.
func (o *buffered) open(ctx context.Context) error {
	if s, ok := o.writer.(starter); ok {
		if err := s.start(ctx); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
	}
	var folder *storage.Folder
	if o.path != "" {
		var err error
		if folder, err = storage.Open(o.path, false); err != nil {
			return fmt.Errorf("%s: the buffer's path: %w", o.name, err)
		}
	}
	o.wake, o.ended = make(chan struct{}, 1), make(chan struct{})
	made := buffer.New(o.limits, folder, o.now, o.signal)
	o.mu.Lock()
	o.buffer = made
	o.mu.Unlock()
	records, damaged, err := made.Resume()
	for _, name := range damaged {
		o.log.Error("a chunk of the buffer is damaged; it is set aside", "file", name)
	}
	if err != nil {
		return fmt.Errorf("%s: reading the buffer: %w", o.name, err)
	}
	if records > 0 {
		o.log.Info("records of an earlier run wait in the buffer", "records", records)
		o.signal()
	}
	return nil
}

// signal wakes a worker.
func (o *buffered) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *buffered) emit(ctx context.Context, b flow.Batch) error {
	if o.inject != nil {
		b.Data = o.inject.all(b.Tag, b.Data)
	}
	if !o.keys.tag {
		b.Data = withTag(b)
	}
	pieces := o.keys.pieces(b)
	for {
		large, err := o.buffer.Write(pieces, o.mode == modeImmediate)
		for _, p := range large {
			if err := o.tooLarge(ctx, b, p); err != nil {
				return err
			}
		}
		if err == nil {
			o.records.Add(int64(b.Count))
			o.bytes.Add(int64(len(b.Data)))
			return nil
		}
		if !errors.Is(err, buffer.ErrFull) {
			o.errors.Add(1)
			return err
		}
		if err := o.overflowed(ctx); err != nil {
			return err
		}
	}
}

func (o *buffered) tooLarge(ctx context.Context, b flow.Batch, p buffer.Piece) error {
	for r := record.NewReader(p.Data); r.Next(); {
		if err := o.reject(ctx, b, r.Time, r.Body, fmt.Errorf("a record of %d bytes is larger than chunk_limit_size", len(r.Raw))); err != nil {
			return err
		}
	}
	return nil
}

// overflowed does what overflow_action says; nil means that writing is tried again.
func (o *buffered) overflowed(ctx context.Context) error {
	o.mu.Lock()
	if now := o.now(); now.Sub(o.full) >= 10*time.Second {
		o.full = now
		o.log.Warn("failed to write data into buffer by buffer overflow", "action", o.overflow)
	}
	o.mu.Unlock()
	switch o.overflow {
	case "block":
		return o.buffer.Room(ctx)
	case "drop_oldest_chunk":
		c := o.buffer.Take()
		if c == nil { // nothing is queued: what is staged is
			o.buffer.Enqueue(func(*buffer.Chunk) bool { return true })
			c = o.buffer.Take()
		}
		if c == nil {
			return buffer.ErrFull
		}
		o.log.Warn("dropping oldest chunk to make space after buffer overflow", "chunk", c.ID, "records", c.Count)
		o.dropped.Add(int64(c.Count))
		return o.buffer.Done(c)
	}
	return buffer.ErrFull
}

// run delivers until ctx ends, or after end until nothing is left.
func (o *buffered) run(ctx context.Context) {
	var working sync.WaitGroup
	timer, stop := context.WithCancel(ctx)
	var ticking sync.WaitGroup
	ticking.Go(func() { o.tick(timer) })
	for range o.threads {
		working.Go(func() { o.work(ctx) })
	}
	working.Wait()
	stop()
	ticking.Wait()
}

// tick queues the chunks whose time has come.
func (o *buffered) tick(ctx context.Context) {
	span := o.interval
	if o.keys.time {
		span = min(o.keys.timekey, max(o.wait, time.Second))
	}
	ticker := time.NewTicker(min(max(span/11, 50*time.Millisecond), time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := o.now()
			o.buffer.Enqueue(func(c *buffer.Chunk) bool { return o.due(c, now) })
		}
	}
}

func (o *buffered) due(c *buffer.Chunk, now time.Time) bool {
	if o.mode == modeInterval && !c.Created.Add(o.interval).After(now) {
		return true
	}
	if !c.Key.Timed {
		return o.mode == modeImmediate
	}
	end := time.Unix(c.Key.Time, 0).Add(o.keys.timekey + o.wait)
	return !end.After(now)
}

// work delivers one chunk after the other.
func (o *buffered) work(ctx context.Context) {
	for {
		pause, end := o.pause()
		if end || ctx.Err() != nil {
			return
		}
		if pause > 0 {
			o.rest(ctx, pause)
			continue
		}
		if c := o.buffer.Take(); c != nil {
			o.signal() // there may be more for another worker
			o.deliver(ctx, c)
			continue
		}
		if o.isEnding() {
			return
		}
		select {
		case <-ctx.Done():
		case <-o.wake:
		case <-o.ended:
		}
	}
}

// rest waits for the next try; the end shortens the time.
func (o *buffered) rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	ended := o.ended
	if o.isEnding() {
		ended = nil
	}
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-ended:
	}
}

func (o *buffered) isEnding() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ending
}

// pause is how long nothing may be tried; end says that nothing will be tried any more.
func (o *buffered) pause() (pause time.Duration, end bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending && !o.atEnd {
		return 0, true
	}
	if o.retry == nil {
		return 0, false
	}
	pause = max(o.retry.Next.Sub(o.now()), 0)
	if o.ending { // the time of grace is short
		pause = min(pause, time.Second)
	}
	return pause, false
}

// end lets the workers finish: with flush_at_shutdown once all is delivered.
func (o *buffered) end() {
	if o.atEnd {
		o.buffer.EnqueueAll()
	}
	o.mu.Lock()
	o.ending = true
	o.mu.Unlock()
	close(o.ended)
}

func (o *buffered) deliver(ctx context.Context, c *buffer.Chunk) {
	data, err := c.Content()
	if err != nil {
		o.log.Error("a chunk of the buffer cannot be read; it is dropped", "chunk", c.ID, "error", err)
		o.dropped.Add(int64(c.Count))
		o.done(c)
		return
	}
	o.mu.Lock()
	second := o.secondary != nil && o.retry != nil && o.retry.InSecondary(o.now())
	o.mu.Unlock()
	w := o.writer
	if second {
		w = o.secondary
	}
	began := o.now()
	err = w.write(ctx, &delivery{c, data})
	if took := o.now().Sub(began); took > o.slow {
		o.log.Warn("buffer flush took longer time than slow_flush_log_threshold", "elapsed", took.Round(time.Millisecond), "threshold", o.slow)
	}
	switch {
	case err == nil:
		o.mu.Lock()
		if o.retry != nil {
			o.log.Info("retry succeeded", "chunk", c.ID)
			o.retry = nil
		}
		o.mu.Unlock()
		o.added.Add(int64(c.Count))
		o.done(c)
	case output.IsHopeless(err):
		o.hopeless(ctx, c, data, second, err)
	default:
		o.again(c, second, err)
	}
}

func (o *buffered) done(c *buffer.Chunk) {
	if err := o.buffer.Done(c); err != nil {
		o.log.Error("a chunk that was delivered cannot be removed; it will be sent again", "chunk", c.ID, "error", err)
	}
}

// hopeless hands a chunk that can never be delivered to the secondary output, or keeps a copy of it.
func (o *buffered) hopeless(ctx context.Context, c *buffer.Chunk, data []byte, second bool, err error) {
	o.errors.Add(1)
	if o.secondary != nil && !second && !o.same {
		o.log.Warn("got unrecoverable error in primary. Skip retry and flush chunk to secondary", "error", err)
		if err = o.secondary.write(ctx, &delivery{c, data}); err == nil {
			o.done(c)
			return
		}
	}
	o.dropped.Add(int64(c.Count))
	kept := ""
	if o.backup != nil {
		var err error
		if kept, err = o.backup.keep(c.ID+".log", data); err != nil {
			o.log.Error("the chunk cannot be kept", "error", err)
		}
	}
	o.log.Error("got unrecoverable error; the chunk is not tried again", "error", err, "records", c.Count, "kept", kept)
	o.done(c)
}

// again puts the chunk back, and gives up all that is queued if there were too many failures.
func (o *buffered) again(c *buffer.Chunk, second bool, err error) {
	o.errors.Add(1)
	o.retries.Add(1)
	o.buffer.Back(c)
	now := o.now()
	o.mu.Lock()
	if o.retry == nil {
		o.retry = buffer.NewRetry(o.policy, now, rand.Float64)
	} else {
		o.retry.Failed(now)
	}
	steps, next, over := o.retry.Steps, o.retry.Next, o.retry.Exhausted()
	if over {
		o.retry = nil
	}
	o.mu.Unlock()
	if !over {
		text := "failed to flush the buffer"
		if second {
			text = "failed to flush the buffer with secondary output"
		}
		o.log.Warn(text, "retry_times", steps, "next_retry_time", next.Format(time.RFC3339), "chunk", c.ID, "error", err)
		return
	}
	chunks, records := 0, 0
	for c := o.buffer.Take(); c != nil; c = o.buffer.Take() {
		chunks, records = chunks+1, records+c.Count
		o.done(c)
	}
	o.retriesFailed.Add(int64(chunks))
	o.dropped.Add(int64(records))
	o.log.Error("Hit limit for retries. dropping all chunks in the buffer queue.", "retry_times", steps, "records", records, "error", err)
}

// waiting is what is not delivered; it may be asked at any time.
func (o *buffered) waiting() (bytes int64, records, chunks int) {
	o.mu.Lock()
	b := o.buffer
	o.mu.Unlock()
	if b == nil {
		return 0, 0, 0
	}
	bytes, records, chunks, _ = b.Waiting()
	return bytes, records, chunks
}

// leave tells what was not delivered, and ends writing.
func (o *buffered) leave() {
	_, records, _, _ := o.buffer.Waiting()
	switch {
	case records == 0:
	case o.path != "":
		o.log.Info("records wait in the buffer for the next start", "records", records)
	default:
		o.log.Warn("records in memory were not delivered; inputs that keep positions bring them again", "records", records)
	}
	err := errors.Join(o.buffer.Close(), o.writer.close())
	if o.secondary != nil {
		err = errors.Join(err, o.secondary.close())
	}
	if err != nil {
		o.log.Error("closing", "error", err)
	}
}
