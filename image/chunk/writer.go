package chunk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// Output takes the blobs of a Writer, one after the other.
type Output interface {
	// Create begins a blob.
	Create() (Blob, error)
}

// Blob is a blob being written.
type Blob interface {
	io.Writer
	// Commit ends the blob after its last chunk. It may write more, which is not part of the device, and sets the device's Blob and Size.
	Commit(d *Device) error
	// Abort drops the blob.
	Abort()
}

// Options of a Writer.
type Options struct {
	ChunkSize int       // decoded bytes, a power of two from MinSize to MaxSize; 0 means 64 KiB
	Codec     Codec     // None, LZ4 or Zstd
	Level     int       // of zstd, 0 means 3
	Algorithm Algorithm // 0 means Blake3
	Stripe    int64     // decoded bytes after which a new blob begins, at least one chunk; 0 means never
	Batch     int       // chunks below half of this size are encoded together with their neighbours until they have it; 0: never
	KeepZeros bool      // chunks of zeros are stored as others are
	Jobs      int       // goroutines that hash and encode; 0 means one for each processor
	Known     *Table    // chunks in these devices are referred to and not written; they come first in the result's devices
}

// Writer cuts files into chunks and writes those that are new to blobs. What it writes depends on the order of the files only, not on
// timing. Its memory is bounded by the number of chunks, not by their size.
type Writer struct {
	o       Options
	out     Output
	table   *Table
	dict    *Dict
	known   uint32 // devices of Options.Known
	written sync.Map
	early   map[Ref]bool // preloaded, and in no file yet
	stats   Stats

	ctx   context.Context
	stop  context.CancelCauseFunc
	work  chan *piece // to whoever hashes
	queue chan *piece // to the one who writes, in order
	free  chan []byte
	made  atomic.Int32 // buffers in existence
	limit int32
	group sync.WaitGroup
	done  chan struct{}

	blob    Blob
	at      int64  // encoded bytes of the blob
	waiting []byte // small chunks, to be encoded together
	members []int  // their indexes in the device's list
	batch   *encoder
}

// piece is a chunk on its way.
type piece struct {
	buffer []byte // n bytes are used
	n      int
	zero   bool
	digest Digest
	coded  []byte // nil: not encoded, because it is there already
	ready  chan struct{}
	to     *Ref
	early  bool   // Preload
	ended  func() // called when everything before it has its place
	cut    bool   // after it a new blob begins
}

// NewWriter begins. Close or Abort must be called.
func NewWriter(ctx context.Context, out Output, o Options) (*Writer, error) {
	if o.ChunkSize == 0 {
		o.ChunkSize = 64 << 10
	}
	if o.ChunkSize < MinSize || o.ChunkSize > MaxSize || o.ChunkSize&(o.ChunkSize-1) != 0 {
		return nil, fmt.Errorf("chunks of %d bytes: a power of two from %d to %d was expected", o.ChunkSize, MinSize, MaxSize)
	}
	if o.Batch < 0 || o.Batch > MaxSize {
		return nil, fmt.Errorf("batches of %d bytes: at most %d were expected", o.Batch, MaxSize)
	}
	if o.Batch > 0 && o.Codec == None {
		return nil, errors.New("small chunks are put together only to be compressed: choose lz4_block or zstd")
	}
	if o.Codec != None && o.Codec != LZ4 && o.Codec != Zstd {
		return nil, fmt.Errorf("%s is not written here: expected none, lz4_block or zstd", o.Codec)
	}
	if o.Algorithm == 0 {
		o.Algorithm = Blake3
	}
	if o.Stripe > 0 && o.Stripe < int64(o.ChunkSize) {
		return nil, fmt.Errorf("stripes of %d bytes are smaller than a chunk of %d", o.Stripe, o.ChunkSize)
	}
	if o.Jobs <= 0 {
		o.Jobs = runtime.GOMAXPROCS(0)
	}
	w := &Writer{o: o, out: out, table: &Table{Algorithm: o.Algorithm}, dict: NewDict(o.Known), early: map[Ref]bool{}, done: make(chan struct{})}
	if o.Known != nil && len(o.Known.Devices) > 0 {
		if o.Known.Algorithm != o.Algorithm {
			return nil, fmt.Errorf("the chunk dictionary has digests of %s: build with the same instead of %s", o.Known.Algorithm, o.Algorithm)
		}
		w.table.Devices = append(w.table.Devices, o.Known.Devices...)
		w.known = uint32(len(w.table.Devices))
	}
	for digest := range w.dict.refs {
		w.written.Store(digest, nil)
	}
	// At most about 32 MiB of chunks are under way, and never fewer than the goroutines need.
	w.limit = int32(max(o.Jobs+2, min(16*o.Jobs, (32<<20)/o.ChunkSize)))
	w.ctx, w.stop = context.WithCancelCause(ctx)
	w.work, w.queue, w.free = make(chan *piece, w.limit), make(chan *piece, w.limit), make(chan []byte, w.limit)
	var err error
	if w.batch, err = newEncoder(o.Codec, o.Level); err != nil {
		return nil, err
	}
	for range o.Jobs {
		e, err := newEncoder(o.Codec, o.Level)
		if err != nil {
			return nil, err
		}
		w.group.Go(func() { w.hash(e) })
	}
	go w.place()
	return w, nil
}

// ChunkSize is that of all chunks but the last of each file.
func (w *Writer) ChunkSize() int { return w.o.ChunkSize }

// File takes the content of a file, exactly size bytes, and gives its chunks. They are filled in later: they are valid after Close, or when
// Flush has returned.
func (w *Writer) File(r io.Reader, size int64) ([]Ref, error) {
	return w.file(r, size, false)
}

// Preload writes the chunks of a file that will come later, so that they lie before those of other files.
func (w *Writer) Preload(r io.Reader, size int64) error {
	_, err := w.file(r, size, true)
	return err
}

func (w *Writer) file(r io.Reader, size int64, early bool) ([]Ref, error) {
	count := (size + int64(w.o.ChunkSize) - 1) / int64(w.o.ChunkSize)
	refs := make([]Ref, count)
	for i := range refs {
		p := &piece{early: early, n: int(min(int64(w.o.ChunkSize), size-int64(i)*int64(w.o.ChunkSize))), ready: make(chan struct{}), to: &refs[i]}
		var err error
		if p.buffer, err = w.buffer(); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(r, p.buffer[:p.n]); err != nil {
			w.free <- p.buffer
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("it ends before its %d bytes: %w", size, io.ErrUnexpectedEOF)
			}
			return nil, err
		}
		w.work <- p
		w.queue <- p
	}
	return refs, nil
}

// Flush waits until all chunks given so far have their place.
func (w *Writer) Flush() error { return w.flush(false) }

// Cut ends the current blob: what comes next lies in another.
func (w *Writer) Cut() error { return w.flush(true) }

func (w *Writer) flush(cut bool) error {
	done := make(chan struct{})
	p := &piece{ready: make(chan struct{}), ended: func() { close(done) }, cut: cut}
	close(p.ready)
	select {
	case w.queue <- p:
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
	select {
	case <-done:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// buffer gives a buffer for a chunk, and waits while too many are in use.
func (w *Writer) buffer() ([]byte, error) {
	select {
	case b := <-w.free:
		return b, context.Cause(w.ctx)
	default:
	}
	if w.made.Add(1) <= w.limit {
		return make([]byte, w.o.ChunkSize), context.Cause(w.ctx)
	}
	w.made.Add(-1)
	select {
	case b := <-w.free:
		return b, context.Cause(w.ctx)
	case <-w.ctx.Done():
		return nil, context.Cause(w.ctx)
	}
}

// hash hashes and encodes chunks until there are no more.
func (w *Writer) hash(e *encoder) {
	for p := range w.work {
		if b := p.buffer[:p.n]; !w.o.KeepZeros && zeros(b) {
			p.zero = true
		} else {
			p.digest = w.o.Algorithm.Sum(b)
			if _, there := w.written.Load(p.digest); !there && !w.batched(p) && w.ctx.Err() == nil {
				coded, err := e.encode(b)
				switch {
				case err != nil:
					w.stop(err)
				case len(coded) < len(b):
					p.coded = append(make([]byte, 0, len(coded)), coded...)
				default:
					p.coded = b
				}
			}
		}
		close(p.ready)
	}
}

func (w *Writer) batched(p *piece) bool { return p.n < w.o.Batch/2 }

// place gives chunks their place, in order, until there are no more. After a failure it only gives back buffers.
func (w *Writer) place() {
	defer close(w.done)
	for p := range w.queue {
		<-p.ready
		if w.ctx.Err() == nil {
			if err := w.put(p); err != nil {
				w.stop(err)
			}
		}
		if p.ended != nil {
			p.ended()
			continue
		}
		if p.buffer != nil {
			w.free <- p.buffer
		}
	}
}

// put gives one chunk its place.
func (w *Writer) put(p *piece) error {
	if p.ended != nil {
		if p.cut && w.blob != nil {
			return w.commit()
		}
		return nil
	}
	n := int64(p.n)
	if p.zero {
		if !p.early {
			w.stats.Holes += n
		}
		return nil
	}
	if !p.early {
		w.stats.Chunks++
		w.stats.Bytes += n
	}
	if r, ok := w.dict.Find(p.digest); ok {
		*p.to = r
		first := w.early[r] // it was preloaded, and this is the first file that has it
		switch {
		case p.early:
		case first:
			delete(w.early, r)
		case r.Device <= w.known:
			w.stats.KnownChunks++
			w.stats.KnownBytes += n
		default:
			w.stats.AgainChunks++
			w.stats.AgainBytes += n
		}
		return nil
	}
	d, err := w.device(n)
	if err != nil {
		return err
	}
	*p.to = Ref{uint32(len(w.table.Devices)), uint32(len(d.Chunks))}
	d.Chunks = append(d.Chunks, Chunk{Digest: p.digest, Offset: d.Space, Size: uint32(n), Extent: uint32(n), Number: uint32(len(d.Chunks))})
	d.Space += (n + Block - 1) &^ (Block - 1)
	w.dict.add(p.digest, *p.to)
	if p.early {
		w.early[*p.to] = true
	}
	w.written.Store(p.digest, nil)
	w.stats.Written++
	w.stats.Decoded += n
	if w.batched(p) {
		return w.collect(d, p)
	}
	if err := w.flushBatch(d); err != nil { // so that the blob has the order of the device
		return err
	}
	coded := p.coded
	if coded == nil {
		// It was thought to be there already, or its turn came first by another way.
		if coded, err = w.batch.encode(p.buffer[:p.n]); err != nil {
			return err
		}
	}
	c := &d.Chunks[len(d.Chunks)-1]
	c.At, c.Stored = w.at, uint32(len(coded))
	if err := w.write(coded); err != nil {
		return err
	}
	if w.o.Codec == None && n%Block != 0 {
		return w.write(make([]byte, Block-n%Block)) // so that the blob is the device
	}
	return nil
}

// device is the one to write n bytes to.
func (w *Writer) device(n int64) (*Device, error) {
	if w.blob != nil {
		d := &w.table.Devices[len(w.table.Devices)-1]
		if w.o.Stripe == 0 || d.Space+n <= w.o.Stripe {
			return d, nil
		}
		if err := w.commit(); err != nil {
			return nil, err
		}
	}
	blob, err := w.out.Create()
	if err != nil {
		return nil, err
	}
	w.blob, w.at = blob, 0
	w.table.Devices = append(w.table.Devices, Device{Codec: w.o.Codec})
	return &w.table.Devices[len(w.table.Devices)-1], nil
}

// collect adds a small chunk, the last in the device's list, to the batch.
func (w *Writer) collect(d *Device, p *piece) error {
	if len(w.waiting)+p.n > w.o.Batch {
		if err := w.flushBatch(d); err != nil {
			return err
		}
	}
	c := &d.Chunks[len(d.Chunks)-1]
	c.Inner, c.Flags = uint32(len(w.waiting)), Batched
	w.waiting = append(w.waiting, p.buffer[:p.n]...)
	w.members = append(w.members, len(d.Chunks)-1)
	return nil
}

// flushBatch writes the waiting chunks as one extent.
func (w *Writer) flushBatch(d *Device) error {
	if len(w.waiting) == 0 {
		return nil
	}
	coded, err := w.batch.encode(w.waiting)
	if err != nil {
		return err
	}
	for _, i := range w.members {
		c := &d.Chunks[i]
		c.At, c.Stored, c.Extent = w.at, uint32(len(coded)), uint32(len(w.waiting))
	}
	err = w.write(coded)
	w.waiting, w.members = w.waiting[:0], w.members[:0]
	return err
}

func (w *Writer) write(p []byte) error {
	n, err := w.blob.Write(p)
	w.at += int64(n)
	w.stats.Stored += int64(n)
	return err
}

func (w *Writer) commit() error {
	d := &w.table.Devices[len(w.table.Devices)-1]
	if err := w.flushBatch(d); err != nil {
		return err
	}
	blob := w.blob
	w.blob = nil
	d.Size = w.at
	if err := blob.Commit(d); err != nil {
		blob.Abort()
		return err
	}
	return nil
}

// end stops the goroutines.
func (w *Writer) end() {
	close(w.work)
	w.group.Wait()
	close(w.queue)
	<-w.done
}

// Close ends the last blob and gives the table of all chunks, those of Options.Known first.
func (w *Writer) Close() (*Table, Stats, error) {
	w.end()
	err := context.Cause(w.ctx)
	if err == nil && w.blob != nil {
		err = w.commit()
	}
	if w.blob != nil {
		w.blob.Abort()
		w.blob = nil
	}
	w.stop(nil)
	return w.table, w.stats, err
}

// Abort ends without a result.
func (w *Writer) Abort() {
	w.stop(context.Canceled)
	w.end()
	if w.blob != nil {
		w.blob.Abort()
		w.blob = nil
	}
}

func zeros(b []byte) bool {
	for len(b) >= 8 {
		if le.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
