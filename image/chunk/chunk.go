package chunk

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"

	"github.com/zeebo/blake3"
)

// Block is the unit of device addresses, in bytes.
const Block = 4096

// The sizes that chunks may have, in bytes: powers of two, as in Nydus and EROFS.
const (
	MinSize = 4 << 10
	MaxSize = 16 << 20
)

// Errors that callers test for with errors.Is.
var (
	// ErrDigest says that the decoded bytes of a chunk are not those that its digest promises.
	ErrDigest = errors.New("the chunk does not match its digest")
	// ErrEncoding says that the bytes of an extent cannot be decoded.
	ErrEncoding = errors.New("the extent cannot be decoded")
	// ErrTable says that a chunk table is damaged or not one.
	ErrTable = errors.New("the chunk table is damaged")
)

// Digest is that of a chunk's decoded bytes.
type Digest [32]byte

// String is the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Algorithm makes digests of chunks.
type Algorithm uint32

// The algorithms.
const (
	Blake3 Algorithm = 1
	SHA256 Algorithm = 2
)

// Algorithms are the names that users write.
var Algorithms = map[string]Algorithm{"blake3": Blake3, "sha256": SHA256}

// String is the name.
func (a Algorithm) String() string {
	switch a {
	case Blake3:
		return "blake3"
	case SHA256:
		return "sha256"
	}
	return fmt.Sprintf("algorithm %d", uint32(a))
}

// Sum is the digest of p.
func (a Algorithm) Sum(p []byte) Digest {
	if a == SHA256 {
		return sha256.Sum256(p)
	}
	return blake3.Sum256(p)
}

// Flags of a chunk.
type Flags uint32

// The flags.
const (
	Encrypted Flags = 1 // it is known but cannot be decoded
	Batched   Flags = 2 // its extent may hold others
)

// Chunk is a run of bytes of a device and where it comes from.
type Chunk struct {
	Digest Digest
	Offset int64  // on the device, a multiple of Block
	At     int64  // of the extent in the blob
	Size   uint32 // decoded bytes
	Stored uint32 // bytes of the extent in the blob
	Extent uint32 // bytes of the extent when decoded
	Inner  uint32 // offset of the chunk in the decoded extent
	Number uint32 // in the blob's own order, which a Device need not have complete
	Flags  Flags
}

// End is the offset after the chunk's last byte on the device.
func (c *Chunk) End() int64 { return c.Offset + int64(c.Size) }

// Encoded says whether the extent has to be decoded.
func (c *Chunk) Encoded() bool { return c.Stored != c.Extent }

// Device is a blob and the chunks in it.
type Device struct {
	Blob   [32]byte // sha256 of the whole blob
	Size   int64    // of the blob, in bytes
	Space  int64    // of the device (decoded), in bytes, a multiple of Block
	Codec  Codec
	Chunks []Chunk // by offset
}

// Name is the blob's digest in hexadecimal.
func (d *Device) Name() string { return hex.EncodeToString(d.Blob[:]) }

// Direct says that the blob is the device: every offset is the same in both.
func (d *Device) Direct() bool {
	for i := range d.Chunks {
		if c := &d.Chunks[i]; c.At != c.Offset || c.Encoded() || c.Inner != 0 {
			return false
		}
	}
	return d.Size >= d.Space
}

// Find gives the index of the first chunk that ends after offset, which may be the number of chunks.
func (d *Device) Find(offset int64) int {
	return sort.Search(len(d.Chunks), func(i int) bool { return d.Chunks[i].End() > offset })
}

// Ref names a chunk of a table. The zero Ref is a hole: a run of zeros that is stored nowhere.
type Ref struct {
	Device uint32 // counts from 1
	Index  uint32 // in Device.Chunks
}

// Hole says that the chunk is all zeros.
func (r Ref) Hole() bool { return r.Device == 0 }

// Table is the chunks of an image.
type Table struct {
	Algorithm Algorithm
	Devices   []Device
}

// Chunk gives the chunk of a Ref that is no hole.
func (t *Table) Chunk(r Ref) (*Chunk, error) {
	if r.Device == 0 || int64(r.Device) > int64(len(t.Devices)) || int64(r.Index) >= int64(len(t.Devices[r.Device-1].Chunks)) {
		return nil, fmt.Errorf("%w: it has no chunk %d of device %d", ErrTable, r.Index, r.Device)
	}
	return &t.Devices[r.Device-1].Chunks[r.Index], nil
}

// At gives the chunk that begins at an offset of a device (counted from 1).
func (t *Table) At(device uint32, offset int64) (Ref, bool) {
	if device == 0 || int64(device) > int64(len(t.Devices)) {
		return Ref{}, false
	}
	d := &t.Devices[device-1]
	i := d.Find(offset)
	if i == len(d.Chunks) || d.Chunks[i].Offset != offset {
		return Ref{}, false
	}
	return Ref{device, uint32(i)}, true
}

// Check finds what is wrong with a table: chunks that overlap, lie outside their blob or device, or are larger than allowed.
func (t *Table) Check() error {
	if t.Algorithm != Blake3 && t.Algorithm != SHA256 {
		return fmt.Errorf("%w: unknown digest %s", ErrTable, t.Algorithm)
	}
	for i := range t.Devices {
		if err := t.Devices[i].check(); err != nil {
			return fmt.Errorf("%w: device %d: %w", ErrTable, i+1, err)
		}
	}
	return nil
}

func (d *Device) check() error {
	if d.Size < 0 || d.Space < 0 || d.Space%Block != 0 || d.Space > 1<<44 {
		return fmt.Errorf("sizes %d and %d", d.Size, d.Space)
	}
	if _, ok := codecNames[d.Codec]; !ok {
		return fmt.Errorf("unknown codec %d", d.Codec)
	}
	end := int64(0)
	for i := range d.Chunks {
		c := &d.Chunks[i]
		switch {
		case c.Size == 0 || c.Size > MaxSize:
			return fmt.Errorf("chunk %d has a size of %d bytes", i, c.Size)
		case c.Offset%Block != 0 || c.Offset < end || c.Offset > d.Space-int64(c.Size):
			return fmt.Errorf("chunk %d lies at %d, between %d and %d was expected", i, c.Offset, end, d.Space)
		case c.At < 0 || c.Stored == 0 || c.At > d.Size-int64(c.Stored):
			return fmt.Errorf("chunk %d lies at %d of the blob with %d bytes, which has %d", i, c.At, c.Stored, d.Size)
		case c.Extent > MaxSize*2 || uint64(c.Inner)+uint64(c.Size) > uint64(c.Extent):
			return fmt.Errorf("chunk %d lies at %d of an extent of %d bytes", i, c.Inner, c.Extent)
		case c.Stored > c.Extent && d.Codec == None:
			return fmt.Errorf("chunk %d is stored with %d bytes for %d", i, c.Stored, c.Extent)
		}
		end = (c.End() + Block - 1) &^ (Block - 1)
	}
	return nil
}
