// Package buffer keeps records between the moment when an output gets them and the moment when they are delivered: in chunks by tag, time and fields,
// in memory or in files, staged while they grow and queued when they are ready, within limits (lib/fluent/plugin/buffer.rb). It knows neither
// outputs nor clocks of its own.
package buffer

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/storage"
)

// ErrFull says that as much waits as may.
var ErrFull = errors.New("the buffer is full")

// Limits bound a buffer.
type Limits struct {
	Chunk   int64   // bytes of a chunk
	Records int     // of a chunk, 0 for any number
	Full    float64 // the part of Chunk from which on a chunk is ready
	Total   int64   // bytes of all chunks
	Queued  int     // chunks of one key that may be queued before the next waits in the stage, 0 for any number
}

// Piece is records with one key.
type Piece struct {
	Key   Key
	Data  []byte // events; copied
	Count int
	Ack   *flow.Ack // may be nil
}

// Chunk is what is delivered as a whole.
type Chunk struct {
	ID      string // hexadecimal
	Key     Key
	Count   int
	Size    int64
	Created time.Time

	order   int64 // of making: the clock may stand still or jump
	encoded string
	data    []byte // without a file
	file    *storage.File
	acks    []*flow.Ack
	closed  bool // nothing may be added
}

// Content are the events of the chunk. They must not be changed.
func (c *Chunk) Content() ([]byte, error) {
	if c.file == nil {
		return c.data, nil
	}
	_, data, _, err := c.file.Read()
	return data, err
}

// Path is the chunk's file, "" without one.
func (c *Chunk) Path() string {
	if c.file == nil {
		return ""
	}
	return c.file.Name()
}

// Buffer is the chunks of one output. It may be used by several goroutines.
type Buffer struct {
	limits Limits
	now    func() time.Time
	folder *storage.Folder // nil in memory

	mu    sync.Mutex
	stage map[string]*Chunk
	held  []*Chunk // of an earlier run, not due yet
	queue []*Chunk
	taken map[*Chunk]bool
	size  int64
	made  int64         // chunks
	space chan struct{} // closed when a chunk leaves
	ready func()
}

// New makes a buffer; with a folder its chunks are files. Ready is called, without locks, when a chunk was queued.
func New(limits Limits, folder *storage.Folder, now func() time.Time, ready func()) *Buffer {
	return &Buffer{limits: limits, now: now, folder: folder, stage: map[string]*Chunk{}, taken: map[*Chunk]bool{}, space: make(chan struct{}), ready: ready}
}

// Resume takes over the chunks that an earlier run left in the files. Those whose file is damaged are set aside and told.
func (b *Buffer) Resume() (records int, damaged []string, err error) {
	if b.folder == nil {
		return 0, nil, nil
	}
	left, err := b.folder.Left()
	if err != nil {
		return 0, nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, file := range left {
		text, data, count, err := file.Read()
		key, bad := DecodeKey(text)
		if err != nil || bad != nil {
			damaged = append(damaged, file.Name())
			if err := file.SetAside(); err != nil {
				return records, damaged, err
			}
			continue
		}
		if count == 0 {
			if err := file.Remove(); err != nil {
				return records, damaged, err
			}
			continue
		}
		c := b.chunk(key, text)
		c.Count, c.Size, c.file, c.closed = count, int64(len(data)), file, true
		records += count
		b.size += c.Size
		if key.Timed {
			b.held = append(b.held, c)
		} else {
			b.queue = append(b.queue, c)
		}
	}
	return records, damaged, nil
}

// chunk makes an empty chunk in memory. The caller holds the lock.
func (b *Buffer) chunk(key Key, encoded string) *Chunk {
	b.made++
	return &Chunk{ID: newID(), Key: key, encoded: encoded, Created: b.now(), order: b.made}
}

func newID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// Write adds records. It fails with ErrFull, and takes nothing, if too much waits already. Events that are larger than a chunk may be are
// given back: they can never be delivered.
func (b *Buffer) Write(pieces []Piece, enqueue bool) (large []Piece, err error) {
	b.mu.Lock()
	queued := len(b.queue)
	if b.size >= b.limits.Total {
		b.mu.Unlock()
		return nil, ErrFull
	}
	for i := range pieces {
		more, failed := b.add(&pieces[i], enqueue)
		large = append(large, more...)
		if err = failed; err != nil {
			break
		}
	}
	grown := len(b.queue) > queued
	b.mu.Unlock()
	if grown {
		b.ready()
	}
	return large, err
}

// add puts one piece into as many chunks as it needs.
func (b *Buffer) add(p *Piece, enqueue bool) (large []Piece, err error) {
	key, err := p.Key.Encode()
	if err != nil {
		return []Piece{*p}, nil
	}
	for data, count := p.Data, p.Count; len(data) > 0; {
		c := b.stage[key]
		if c == nil {
			if c, err = b.create(p.Key, key); err != nil {
				return large, err
			}
			b.stage[key] = c
		}
		n, events := len(data), count
		if int64(n) > b.limits.Chunk-c.Size || b.limits.Records > 0 && events > b.limits.Records-c.Count {
			n, events = b.fitting(c, data)
		}
		switch {
		case n > 0:
			if err := b.append(c, data[:n], events, p.Ack); err != nil {
				return large, err
			}
			data, count = data[n:], count-events
			if enqueue || len(data) > 0 || b.full(c) {
				b.enqueue(c)
			}
		case c.Count > 0:
			b.enqueue(c)
		default: // not even one event fits into an empty chunk
			r := record.NewReader(data)
			if !r.Next() {
				return large, fmt.Errorf("malformed records: %w", r.Err)
			}
			n := len(r.Raw)
			large = append(large, Piece{Key: p.Key, Data: data[:n], Count: 1})
			data, count = data[n:], count-1
		}
	}
	return large, nil
}

// fitting is how many bytes and events of data the chunk can still take.
func (b *Buffer) fitting(c *Chunk, data []byte) (n, events int) {
	for r := record.NewReader(data); r.Next(); events++ {
		if c.Size+int64(n+len(r.Raw)) > b.limits.Chunk || b.limits.Records > 0 && c.Count+events >= b.limits.Records {
			break
		}
		n += len(r.Raw)
	}
	return n, events
}

func (b *Buffer) full(c *Chunk) bool {
	return float64(c.Size) >= float64(b.limits.Chunk)*b.limits.Full || b.limits.Records > 0 && float64(c.Count) >= float64(b.limits.Records)*b.limits.Full
}

func (b *Buffer) create(key Key, encoded string) (*Chunk, error) {
	c := b.chunk(key, encoded)
	if b.folder == nil {
		return c, nil
	}
	file, err := b.folder.Create("chunks", encoded)
	if err != nil {
		return nil, fmt.Errorf("the buffer: %w", err)
	}
	c.file = file
	return c, nil
}

func (b *Buffer) append(c *Chunk, data []byte, count int, ack *flow.Ack) error {
	if c.file != nil {
		if err := c.file.Append(data, count); err != nil {
			return fmt.Errorf("the buffer: %w", err)
		}
	} else {
		c.data = append(c.data, data...)
		if ack != nil && (len(c.acks) == 0 || c.acks[len(c.acks)-1] != ack) {
			c.acks = append(c.acks, ack.Hold())
		}
	}
	c.Size += int64(len(data))
	c.Count += count
	b.size += int64(len(data))
	return nil
}

// enqueue makes a staged chunk ready.
func (b *Buffer) enqueue(c *Chunk) {
	if b.stage[c.encoded] == c {
		delete(b.stage, c.encoded)
	}
	c.closed = true
	if c.file != nil {
		_ = c.file.Close() // all was written before
	}
	b.queue = append(b.queue, c)
}

// Enqueue makes ready what due says, the oldest first.
func (b *Buffer) Enqueue(due func(*Chunk) bool) {
	b.mu.Lock()
	var all []*Chunk
	for _, c := range b.stage {
		all = append(all, c)
	}
	all = append(all, b.held...)
	slices.SortFunc(all, func(x, y *Chunk) int { return cmp.Compare(x.order, y.order) })
	waiting := map[string]int{}
	for _, c := range b.queue {
		waiting[c.encoded]++
	}
	grown := false
	for _, c := range all {
		if !due(c) || b.limits.Queued > 0 && waiting[c.encoded] >= b.limits.Queued {
			continue
		}
		waiting[c.encoded]++
		if i := slices.Index(b.held, c); i >= 0 {
			b.held = slices.Delete(b.held, i, i+1)
		}
		b.enqueue(c)
		grown = true
	}
	b.mu.Unlock()
	if grown {
		b.ready()
	}
}

// EnqueueAll makes ready whatever there is.
func (b *Buffer) EnqueueAll() {
	limit := b.limits.Queued
	b.mu.Lock()
	b.limits.Queued = 0
	b.mu.Unlock()
	b.Enqueue(func(*Chunk) bool { return true })
	b.mu.Lock()
	b.limits.Queued = limit
	b.mu.Unlock()
}

// Take gives the chunk that was ready first; nil if there is none. It must be handed to Done or Back.
func (b *Buffer) Take() *Chunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return nil
	}
	c := b.queue[0]
	b.queue = b.queue[1:]
	b.taken[c] = true
	return c
}

// Back puts a chunk that was not delivered before all others.
func (b *Buffer) Back(c *Chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.taken, c)
	b.queue = append([]*Chunk{c}, b.queue...)
}

// Done forgets a chunk that was taken: it was delivered, or dropped on purpose.
func (b *Buffer) Done(c *Chunk) error {
	b.mu.Lock()
	delete(b.taken, c)
	b.size -= c.Size
	close(b.space)
	b.space = make(chan struct{})
	b.mu.Unlock()
	var err error
	if c.file != nil {
		err = c.file.Remove()
	}
	for _, a := range c.acks {
		a.Release()
	}
	c.acks, c.data = nil, nil
	return err
}

// Room waits until there is room, or ctx ends.
func (b *Buffer) Room(ctx context.Context) error {
	for {
		b.mu.Lock()
		space, ok := b.space, b.size < b.limits.Total
		b.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-space:
		}
	}
}

// Waiting are bytes, records and chunks that are not delivered, and how many chunks of them are ready or being delivered.
func (b *Buffer) Waiting() (bytes int64, records, chunks, ready int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	count := func(c *Chunk) { records, chunks = records+c.Count, chunks+1 }
	for _, c := range b.stage {
		count(c)
	}
	for _, c := range b.held {
		count(c)
	}
	for _, c := range b.queue {
		count(c)
	}
	for c := range b.taken {
		count(c)
	}
	return b.size, records, chunks, len(b.queue) + len(b.taken)
}

// Close ends writing to files. What they hold stays.
func (b *Buffer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	for _, c := range b.stage {
		if c.file != nil {
			err = errors.Join(err, c.file.Close())
		}
	}
	return err
}
