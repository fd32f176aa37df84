package chunk

import (
	"bufio"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
)

const (
	tableMagic   = "WEFTCHNK"
	tableVersion = 1
	headerSize   = 64
	deviceSize   = 64
	chunkSize    = 72

	// maxChunks and maxDevices bound what a table may claim: 16 TiB in chunks of 4 KiB would be more than any image.
	maxChunks  = 1 << 28
	maxDevices = 1 << 16
)

// EncodedSize is the size of the table as a file, in bytes.
func (t *Table) EncodedSize() int64 {
	n := int64(headerSize) + int64(len(t.Devices))*deviceSize
	for i := range t.Devices {
		n += int64(len(t.Devices[i].Chunks)) * chunkSize
	}
	return n
}

// WriteTo writes the table as the package comment describes.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	hash := blake3.New()
	if err := t.body(hash); err != nil {
		return 0, err
	}
	h := make([]byte, headerSize)
	copy(h, tableMagic)
	le.PutUint32(h[8:], tableVersion)
	le.PutUint32(h[12:], uint32(t.Algorithm))
	le.PutUint32(h[16:], uint32(len(t.Devices)))
	n := 0
	for i := range t.Devices {
		n += len(t.Devices[i].Chunks)
	}
	le.PutUint64(h[24:], uint64(n))
	copy(h[32:], hash.Sum(nil))
	if _, err := w.Write(h); err != nil {
		return 0, err
	}
	if err := t.body(w); err != nil {
		return 0, err
	}
	return t.EncodedSize(), nil
}

func (t *Table) body(to io.Writer) error {
	w := bufio.NewWriterSize(to, 64<<10)
	var b [chunkSize]byte
	for i := range t.Devices {
		d := &t.Devices[i]
		clear(b[:])
		copy(b[:], d.Blob[:])
		le.PutUint64(b[32:], uint64(d.Size))
		le.PutUint64(b[40:], uint64(d.Space))
		le.PutUint32(b[48:], uint32(d.Codec))
		le.PutUint32(b[52:], uint32(len(d.Chunks)))
		if _, err := w.Write(b[:deviceSize]); err != nil {
			return err
		}
	}
	clear(b[:])
	for i := range t.Devices {
		for j := range t.Devices[i].Chunks {
			c := &t.Devices[i].Chunks[j]
			copy(b[:], c.Digest[:])
			le.PutUint64(b[32:], uint64(c.Offset))
			le.PutUint64(b[40:], uint64(c.At))
			le.PutUint32(b[48:], c.Size)
			le.PutUint32(b[52:], c.Stored)
			le.PutUint32(b[56:], c.Extent)
			le.PutUint32(b[60:], c.Inner)
			le.PutUint32(b[64:], uint32(c.Flags))
			if _, err := w.Write(b[:]); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

// ReadTable reads a table of which at most size bytes are there, verifies and checks it. What follows it is not read. A table of a newer
// version is refused.
func ReadTable(r io.Reader, size int64) (*Table, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, fmt.Errorf("%w: its header: %w", ErrTable, err)
	}
	if string(h[:8]) != tableMagic {
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrTable, tableMagic)
	}
	if v := le.Uint32(h[8:]); v != tableVersion {
		return nil, fmt.Errorf("%w: format version %d, this program reads version %d", ErrTable, v, tableVersion)
	}
	devices, chunks := le.Uint32(h[16:]), le.Uint64(h[24:])
	if devices > maxDevices || chunks > maxChunks || headerSize+int64(devices)*deviceSize+int64(chunks)*chunkSize > size {
		return nil, fmt.Errorf("%w: %d devices and %d chunks do not fit in %d bytes", ErrTable, devices, chunks, size)
	}
	hash := blake3.New()
	body := bufio.NewReaderSize(io.TeeReader(io.LimitReader(r, int64(devices)*deviceSize+int64(chunks)*chunkSize), hash), 64<<10)
	t := &Table{Algorithm: Algorithm(le.Uint32(h[12:])), Devices: make([]Device, devices)}
	counts := make([]uint32, devices)
	var b [chunkSize]byte
	total := uint64(0)
	for i := range t.Devices {
		if _, err := io.ReadFull(body, b[:deviceSize]); err != nil {
			return nil, fmt.Errorf("%w: device %d: %w", ErrTable, i+1, err)
		}
		d := &t.Devices[i]
		copy(d.Blob[:], b[:])
		d.Size, d.Space, d.Codec = int64(le.Uint64(b[32:])), int64(le.Uint64(b[40:])), Codec(le.Uint32(b[48:]))
		counts[i] = le.Uint32(b[52:])
		total += uint64(counts[i])
	}
	if total != chunks {
		return nil, fmt.Errorf("%w: its devices have %d chunks, its header says %d", ErrTable, total, chunks)
	}
	for i := range t.Devices {
		d := &t.Devices[i]
		d.Chunks = make([]Chunk, counts[i])
		for j := range d.Chunks {
			if _, err := io.ReadFull(body, b[:]); err != nil {
				return nil, fmt.Errorf("%w: chunk %d of device %d: %w", ErrTable, j, i+1, err)
			}
			c := &d.Chunks[j]
			copy(c.Digest[:], b[:])
			c.Offset, c.At = int64(le.Uint64(b[32:])), int64(le.Uint64(b[40:]))
			c.Size, c.Stored, c.Extent, c.Inner = le.Uint32(b[48:]), le.Uint32(b[52:]), le.Uint32(b[56:]), le.Uint32(b[60:])
			c.Flags, c.Number = Flags(le.Uint32(b[64:])), uint32(j)
		}
	}
	if [32]byte(hash.Sum(nil)) != [32]byte(h[32:64]) {
		return nil, fmt.Errorf("%w: its content does not match its digest", ErrTable)
	}
	return t, t.Check()
}
