package rafs

import (
	"fmt"
	"io"

	"github.com/weft-dev/weft/image/chunk"
)

const (
	metaMagic    = 0xb10bb10b
	metaHeader   = 4096
	infoV1Size   = 16
	infoV2Size   = 24
	batchSize    = 40
	maxMetaBytes = 24 * chunk.MaxSize
)

// Flags of a chunk in the second form of the table.
const (
	infoCompressed = 1 << 56
	infoZRan       = 2 << 56
	infoBatch      = 4 << 56
	infoEncrypted  = 8 << 56
)

// Meta is a blob's own table of chunks (storage/src/meta).
type Meta struct {
	Features Features
	Chunks   []chunk.Chunk // by their number in the blob; without digests
}

// info is a chunk in the table: two or three numbers.
type info struct{ decoded, encoded, data uint64 }

// v1 reads the first form: offset 40 bits and size in two parts; decoded offset in blocks and size in two parts.
func (i info) v1() chunk.Chunk {
	c := chunk.Chunk{
		At:     int64(i.encoded & 0xff_ffff_ffff),
		Stored: uint32(i.encoded>>44|i.encoded&0xf00_0000_0000>>20) + 1,
		Offset: int64(i.decoded & 0xfff_ffff_f000),
		Size:   uint32(i.decoded>>44|i.decoded&0xf00<<12) + 1,
	}
	c.Extent = c.Size
	return c
}

func infoV1(c *chunk.Chunk) info {
	stored, size := uint64(c.Stored-1), uint64(c.Size-1)
	return info{
		decoded: uint64(c.Offset) | size&0xfffff<<44 | size&0xf00000>>12,
		encoded: uint64(c.At) | stored&0xfffff<<44 | stored&0xf00000<<20,
	}
}

// v2 reads the second form: offset 40 bits and size 24 bits; decoded offset in blocks 32 bits, size 24 bits, and flags.
func (i info) v2() chunk.Chunk {
	c := chunk.Chunk{
		At:     int64(i.encoded & 0xff_ffff_ffff),
		Stored: uint32(i.encoded >> 40 & 0xff_ffff),
		Offset: int64(i.decoded&0xffff_ffff) << 12,
		Size:   uint32(i.decoded>>32&0xff_ffff) + 1,
	}
	c.Extent = c.Size
	if i.decoded&infoEncrypted != 0 {
		c.Flags |= chunk.Encrypted
	}
	return c
}

// infoV2 writes the second form. A chunk in a batch refers to it by number instead of having a size of its own.
func infoV2(c *chunk.Chunk, batch int) info {
	i := info{decoded: uint64(c.Offset)>>12 | uint64(c.Size-1)<<32, encoded: uint64(c.At)}
	if batch >= 0 {
		i.decoded |= infoBatch | infoCompressed
		i.data = uint64(batch)<<32 | uint64(c.Inner)
		return i
	}
	if c.Encoded() {
		i.decoded |= infoCompressed
	}
	i.encoded |= uint64(c.Stored) << 40
	return i
}

// locate fills in where a chunk lies in the blob.
func (m *Meta) locate(c *chunk.Chunk, index uint32) error {
	if int64(index) >= int64(len(m.Chunks)) {
		return fmt.Errorf("%w: chunk %d of %d", ErrFormat, index, len(m.Chunks))
	}
	own := m.Chunks[index]
	if own.Size != c.Size || own.Offset != c.Offset {
		return fmt.Errorf("%w: chunk %d has %d bytes at %d, the bootstrap says %d at %d", ErrFormat, index, own.Size, own.Offset, c.Size, c.Offset)
	}
	c.At, c.Stored, c.Extent, c.Inner = own.At, own.Stored, own.Extent, own.Inner
	c.Flags |= own.Flags
	return nil
}

// ReadMeta reads a blob's own table, which an entry of the bootstrap's blob table describes.
func ReadMeta(r io.ReaderAt, b *Blob) (*Meta, error) {
	if b.MetaSize == 0 {
		return nil, fmt.Errorf("%w: blob %s has no table of chunks", ErrFormat, b.ID)
	}
	if b.MetaSize > maxMetaBytes || b.MetaStored > b.MetaSize+1024 {
		return nil, fmt.Errorf("%w: blob %s has a table of %d bytes, %d stored", ErrFormat, b.ID, b.MetaSize, b.MetaStored)
	}
	if b.Features&EncryptedBlob != 0 || b.Cipher != 0 {
		return nil, fmt.Errorf("%w: blob %s is encrypted", ErrUnsupported, b.ID)
	}
	if b.Features&ZRan != 0 {
		return nil, fmt.Errorf("%w: blob %s is an index over a gzip layer", ErrUnsupported, b.ID)
	}
	stored := make([]byte, b.MetaStored)
	if n, err := r.ReadAt(stored, int64(b.MetaOffset)); n < len(stored) {
		return nil, fmt.Errorf("%w: the table of blob %s: %w", ErrFormat, b.ID, err)
	}
	header := make([]byte, metaHeader)
	if n, err := r.ReadAt(header, int64(b.MetaOffset+b.MetaStored)); n < len(header) {
		return nil, fmt.Errorf("%w: the header of the table of blob %s: %w", ErrFormat, b.ID, err)
	}
	raw := make([]byte, b.MetaSize)
	codec := b.MetaCodec
	if b.MetaStored == b.MetaSize {
		codec = chunk.None
	}
	if err := codec.Decode(raw, stored); err != nil {
		return nil, fmt.Errorf("%w: the table of blob %s: %w", ErrFormat, b.ID, err)
	}
	m, err := decodeMeta(header, raw)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", b.ID, err)
	}
	if len(m.Chunks) != int(b.ChunkCount) {
		return nil, fmt.Errorf("%w: blob %s has %d chunks, its table %d", ErrFormat, b.ID, b.ChunkCount, len(m.Chunks))
	}
	return m, nil
}

func decodeMeta(header, raw []byte) (*Meta, error) {
	if le.Uint32(header) != metaMagic || le.Uint32(header[metaHeader-4:]) != metaMagic {
		return nil, fmt.Errorf("%w: its table of chunks has another magic number", ErrFormat)
	}
	m := &Meta{Features: Features(le.Uint32(header[4:]))}
	count, unit := int(le.Uint32(header[12:])), infoV1Size
	if m.Features&ChunkInfoV2 != 0 {
		unit = infoV2Size
	}
	if count > maxChunks+1 || count*unit > len(raw) {
		return nil, fmt.Errorf("%w: a table of %d chunks in %d bytes", ErrFormat, count, len(raw))
	}
	var batches []byte
	if m.Features&Batch != 0 {
		at, size, n := le.Uint64(header[40:]), le.Uint64(header[48:]), uint64(le.Uint32(header[56:]))
		if at > uint64(len(raw)) || size > uint64(len(raw))-at || n*batchSize > size {
			return nil, fmt.Errorf("%w: a table of %d batches in %d bytes", ErrFormat, n, size)
		}
		batches = raw[at : at+n*batchSize]
	}
	m.Chunks = make([]chunk.Chunk, count)
	for i := range m.Chunks {
		p := raw[i*unit:]
		x := info{decoded: le.Uint64(p), encoded: le.Uint64(p[8:])}
		if unit == infoV1Size {
			m.Chunks[i] = x.v1()
			continue
		}
		x.data = le.Uint64(p[16:])
		if x.decoded&infoZRan != 0 {
			return nil, fmt.Errorf("%w: an index over a gzip layer", ErrUnsupported)
		}
		m.Chunks[i] = x.v2()
		if x.decoded&infoBatch == 0 {
			continue
		}
		c, n := &m.Chunks[i], int64(x.data>>32)
		if (n+1)*batchSize > int64(len(batches)) {
			return nil, fmt.Errorf("%w: chunk %d lies in batch %d of %d", ErrFormat, i, n, len(batches)/batchSize)
		}
		c.Inner, c.Flags = uint32(x.data), c.Flags|chunk.Batched
		c.Stored, c.Extent = le.Uint32(batches[n*batchSize:]), le.Uint32(batches[n*batchSize+4:])
		if uint64(c.Inner)+uint64(c.Size) > uint64(c.Extent) || c.Extent > 2*chunk.MaxSize {
			return nil, fmt.Errorf("%w: chunk %d lies at %d of a batch of %d bytes", ErrFormat, i, c.Inner, c.Extent)
		}
	}
	return m, nil
}

// encodeMeta makes the table of a device's chunks, not yet compressed, and its header but for sizes and offset.
func encodeMeta(d *chunk.Device, features Features) (header, raw []byte) {
	var batches []byte
	last := int64(-1)
	for i := range d.Chunks {
		c := &d.Chunks[i]
		if features&ChunkInfoV2 == 0 {
			x := infoV1(c)
			raw = le.AppendUint64(le.AppendUint64(raw, x.decoded), x.encoded)
			continue
		}
		batch := -1
		if inBatch(c) {
			if c.At != last {
				b := make([]byte, batchSize)
				le.PutUint32(b, c.Stored)
				le.PutUint32(b[4:], c.Extent)
				batches, last = append(batches, b...), c.At
			}
			batch = len(batches)/batchSize - 1
		}
		x := infoV2(c, batch)
		raw = le.AppendUint64(le.AppendUint64(le.AppendUint64(raw, x.decoded), x.encoded), x.data)
	}
	header = make([]byte, metaHeader)
	le.PutUint32(header, metaMagic)
	le.PutUint32(header[4:], uint32(features))
	le.PutUint32(header[12:], uint32(len(d.Chunks)))
	if features&Batch != 0 {
		le.PutUint64(header[40:], uint64(len(raw)))
		le.PutUint64(header[48:], uint64(len(batches)))
		le.PutUint32(header[56:], uint32(len(batches)/batchSize))
		raw = append(raw, batches...)
	}
	le.PutUint32(header[metaHeader-4:], metaMagic)
	return header, raw
}

// inBatch says whether a chunk shares its extent, or could.
func inBatch(c *chunk.Chunk) bool { return c.Flags&chunk.Batched != 0 }
