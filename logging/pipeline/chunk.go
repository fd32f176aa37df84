package pipeline

import (
	"sync"
	"sync/atomic"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/output"
	"github.com/weft-dev/weft/logging/pipeline/storage"
)

// fullChunk is the size at which a chunk is sent without waiting for the next flush, as in Fluent Bit.
const fullChunk = 2 << 20

// chunk is records of one input with one tag, on their way to one or several outputs.
type chunk struct {
	tag   string
	input *inputPart
	route *route
	size  int64
	count int
	// metrics are no records, and never lie on the disk
	metrics bool
	order   int64 // of making: the clock may jump
	acks    []*flow.Ack
	file    *storage.File // nil in memory only
	open    atomic.Int32  // outputs that are not done with it

	mu   sync.Mutex
	data []byte // nil while only the file holds it
}

// buffers keeps the memory of chunks that are done, so that a busy pipeline does not make garbage.
var buffers = sync.Pool{}

func takeBuffer(size int) []byte {
	if b, ok := buffers.Get().(*[]byte); ok && cap(*b) >= size {
		return (*b)[:0]
	}
	return make([]byte, 0, max(size, 4096))
}

func giveBuffer(b []byte) {
	if cap(b) >= 64<<10 && cap(b) <= 2*fullChunk {
		buffers.Put(&b)
	}
}

// append adds events. The caller holds the input's lock.
func (c *chunk) append(b flow.Batch) error {
	if c.file != nil {
		if err := c.file.Append(b.Data, b.Count); err != nil {
			return err
		}
	}
	if c.data == nil {
		c.data = takeBuffer(len(b.Data))
	} else if cap(c.data)-len(c.data) < len(b.Data) && cap(c.data) < fullChunk+len(b.Data) {
		// Grow by a buffer that was used before, if there is one.
		grown := takeBuffer(max(2*cap(c.data), len(c.data)+len(b.Data)))
		grown = append(grown, c.data...)
		giveBuffer(c.data)
		c.data = grown
	}
	c.data = append(c.data, b.Data...)
	c.size += int64(len(b.Data))
	c.count += b.Count
	if c.file == nil && b.Ack != nil {
		c.acks = append(c.acks, b.Ack.Hold())
	}
	return nil
}

// content gives the chunk for an output, read from its file if need be.
func (c *chunk) content() (output.Chunk, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.data == nil && c.file != nil {
		_, data, count, err := c.file.Read()
		if err != nil {
			return output.Chunk{}, err
		}
		c.data, c.count = data, count
		c.input.engine.up.Add(1)
		c.input.bytes.Add(c.size)
	}
	return output.Chunk{Tag: c.tag, Data: c.data, Count: c.count, Metrics: c.metrics}, nil
}

// rest gives the memory of a chunk that waits back, if its file has the content and too many chunks are in memory.
func (c *chunk) rest(force bool) {
	if c.file == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.input.engine; c.data != nil && (force || e.up.Load() > e.maxUp || c.input.backlog && c.input.bytes.Load() > c.input.limit) {
		c.data = nil // outputs may still read it: it is not given to the pool
		e.up.Add(-1)
		c.input.free(c.size)
	}
}

// done is called by each output that has delivered or dropped the chunk; the last one frees it.
func (c *chunk) done() {
	if c.open.Add(-1) > 0 {
		return
	}
	c.release(true)
}

// release frees memory, and the file if remove says so, and tells the input that its records are safe.
func (c *chunk) release(remove bool) {
	c.mu.Lock()
	data := c.data
	c.data = nil
	c.mu.Unlock()
	if data != nil {
		if c.file != nil {
			c.input.engine.up.Add(-1)
		}
		giveBuffer(data)
		c.input.free(c.size)
	}
	if c.file != nil {
		c.input.engine.down.Add(-1)
		if remove {
			if err := c.file.Remove(); err != nil {
				c.input.log.Error("a chunk that was delivered cannot be removed; it will be sent again", "error", err)
			}
		}
	}
	for _, a := range c.acks {
		a.Release()
	}
	c.acks = nil
}
