package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
)

// window is how much of a blob is read at a time when chunks are read in their order, in bytes.
const window = 4 << 20

// Content reads the content of files, chunk by chunk, and verifies each. It is used by one goroutine.
type Content struct {
	o    *Opened
	open map[uint32]*blobReader
}

// Content begins reading. Close must be called.
func (o *Opened) Content() *Content { return &Content{o: o, open: map[uint32]*blobReader{}} }

// Close closes the blobs.
func (c *Content) Close() {
	for _, b := range c.open {
		b.blob.Close()
	}
}

// blobReader reads a blob in windows and remembers the last extent.
type blobReader struct {
	blob   Blob
	size   int64
	at     int64
	buffer []byte

	extentAt int64
	extent   []byte
}

// Chunk gives the decoded, verified bytes of a chunk. They are valid until the next call.
func (c *Content) Chunk(r chunk.Ref) ([]byte, error) {
	t := c.o.Table
	ch, err := t.Chunk(r)
	if err != nil {
		return nil, err
	}
	d := &t.Devices[r.Device-1]
	b, err := c.reader(r.Device, d)
	if err != nil {
		return nil, err
	}
	if ch.Stored == 0 {
		return nil, fmt.Errorf("blob %s: where the chunk lies is only known with the blob's own table", d.Name())
	}
	if b.extent == nil || b.extentAt != ch.At || uint32(len(b.extent)) != ch.Extent {
		stored, err := b.read(ch.At, int(ch.Stored))
		if err != nil {
			return nil, fmt.Errorf("blob %s at %d: %w", d.Name(), ch.At, err)
		}
		b.extent = nil
		if b.extent, err = d.Extent(ch, stored); err != nil {
			return nil, fmt.Errorf("blob %s at %d: %w", d.Name(), ch.At, err)
		}
		b.extentAt = ch.At
	}
	part := b.extent[ch.Inner : ch.Inner+ch.Size]
	if err := t.Verify(ch, part); err != nil {
		return nil, fmt.Errorf("blob %s at %d: %w", d.Name(), ch.At, err)
	}
	return part, nil
}

func (c *Content) reader(device uint32, d *chunk.Device) (*blobReader, error) {
	if b, ok := c.open[device]; ok {
		return b, nil
	}
	if c.o.blobs == nil {
		return nil, errors.New("there are no blobs")
	}
	blob, err := c.o.blobs.Open(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the blob %s is missing: %w", d.Name(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the blob %s: %w", d.Name(), err)
	}
	b := &blobReader{blob: blob, size: d.Size}
	c.open[device] = b
	return b, nil
}

// read reads n bytes, and what follows them if they go on from the bytes before.
func (b *blobReader) read(at int64, n int) ([]byte, error) {
	if at >= b.at && at+int64(n) <= b.at+int64(len(b.buffer)) {
		return b.buffer[at-b.at:][:n], nil
	}
	want := n
	if at >= b.at && at <= b.at+int64(len(b.buffer)) {
		want = int(max(int64(n), min(window, b.size-at)))
	}
	b.extent = nil // it may lie in the buffer
	if cap(b.buffer) < want {
		b.buffer = make([]byte, want)
	}
	b.buffer, b.at = b.buffer[:want], at
	got, err := b.blob.ReadAt(b.buffer, at)
	if got < n {
		b.buffer = nil
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	b.buffer = b.buffer[:got]
	return b.buffer[:n], nil
}

// Copy writes the content of a regular file.
func (c *Content) Copy(ctx context.Context, w io.Writer, n *tree.Node) error {
	if n.Inline != nil {
		_, err := w.Write(n.Inline)
		return err
	}
	var zeros []byte
	for i, r := range n.Chunks {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := int(min(int64(n.ChunkSize), n.Size-int64(i)*int64(n.ChunkSize)))
		var part []byte
		if r.Hole() {
			if zeros == nil {
				zeros = make([]byte, n.ChunkSize)
			}
			part = zeros[:size]
		} else {
			var err error
			if part, err = c.Chunk(r); err != nil {
				return fmt.Errorf("chunk %d: %w", i, err)
			}
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// Reader is the content of a regular file as a stream.
func (c *Content) Reader(ctx context.Context, n *tree.Node) io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(c.Copy(ctx, w, n)) }()
	return r
}

// order gives the chunks of a device by their place in the blob.
func order(d *chunk.Device) []uint32 {
	all := make([]uint32, len(d.Chunks))
	for i := range all {
		all[i] = uint32(i)
	}
	slices.SortFunc(all, func(a, b uint32) int {
		x, y := &d.Chunks[a], &d.Chunks[b]
		if x.At != y.At {
			return int(min(max(x.At-y.At, -1), 1))
		}
		return int(x.Inner) - int(y.Inner)
	})
	return all
}
