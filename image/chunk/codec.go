package chunk

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how the extents of a blob are encoded. The numbers are those of Nydus (utils/src/compress/mod.rs).
type Codec uint32

// The codecs.
const (
	None Codec = 0
	LZ4  Codec = 1 // one LZ4 block
	GZip Codec = 2 // known, not decoded here
	Zstd Codec = 3 // one zstd frame
)

var codecNames = map[Codec]string{None: "none", LZ4: "lz4_block", GZip: "gzip", Zstd: "zstd"}

// Codecs are the names that users write.
var Codecs = map[string]Codec{"none": None, "lz4_block": LZ4, "lz4": LZ4, "zstd": Zstd}

// String is the name.
func (c Codec) String() string {
	if n, ok := codecNames[c]; ok {
		return n
	}
	return fmt.Sprintf("codec %d", uint32(c))
}

var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecoderMaxMemory(2*MaxSize+1), zstd.WithDecoderMaxWindow(2*MaxSize))
})

// Decode decodes an extent to dst, whose length is the extent's decoded size.
func (c Codec) Decode(dst, src []byte) error {
	switch c {
	case None:
		if len(src) != len(dst) {
			return fmt.Errorf("%w: %d bytes for %d", ErrEncoding, len(src), len(dst))
		}
		copy(dst, src)
		return nil
	case LZ4:
		n, err := lz4.UncompressBlock(src, dst)
		return short("lz4", n, len(dst), err)
	case Zstd:
		d, err := decoder()
		if err != nil {
			return err
		}
		out, err := d.DecodeAll(src, dst[:0:len(dst)])
		if err := short("zstd", len(out), len(dst), err); err != nil {
			return err
		}
		if len(dst) > 0 && &out[0] != &dst[0] {
			copy(dst, out)
		}
		return nil
	}
	return fmt.Errorf("%w: %s is not decoded here", ErrEncoding, c)
}

// short is the error of a decoder that failed or gave another number of bytes than was promised.
func short(codec string, got, want int, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrEncoding, codec, err)
	case got != want:
		return fmt.Errorf("%w: %s gives %d bytes, expected %d", ErrEncoding, codec, got, want)
	}
	return nil
}

// encoder encodes extents for one goroutine.
type encoder struct {
	codec Codec
	zstd  *zstd.Encoder
	lz4   lz4.Compressor
	out   []byte
}

func newEncoder(c Codec, level int) (*encoder, error) {
	e := &encoder{codec: c}
	if c == Zstd {
		if level == 0 {
			level = 3
		}
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, err
		}
		e.zstd = z
	}
	return e, nil
}

// encode gives the encoded form, in a buffer that the next call uses again, or src itself if encoding saves nothing.
func (e *encoder) encode(src []byte) ([]byte, error) {
	switch e.codec {
	case LZ4:
		if need := lz4.CompressBlockBound(len(src)); cap(e.out) < need {
			e.out = make([]byte, need)
		}
		n, err := e.lz4.CompressBlock(src, e.out[:cap(e.out)])
		if err != nil {
			return nil, err
		}
		if n == 0 || n >= len(src) {
			return src, nil
		}
		return e.out[:n], nil
	case Zstd:
		e.out = e.zstd.EncodeAll(src, e.out[:0])
		if len(e.out) >= len(src) {
			return src, nil
		}
		return e.out, nil
	}
	return src, nil
}

// Decode gives the bytes of a chunk from those of its extent and verifies them. The result may share memory with the extent's.
func (t *Table) Decode(r Ref, stored []byte) ([]byte, error) {
	c, err := t.Chunk(r)
	if err != nil {
		return nil, err
	}
	extent, err := t.Devices[r.Device-1].Extent(c, stored)
	if err != nil {
		return nil, err
	}
	part := extent[c.Inner : c.Inner+c.Size]
	return part, t.Verify(c, part)
}

// Extent decodes the extent of a chunk.
func (d *Device) Extent(c *Chunk, stored []byte) ([]byte, error) {
	if c.Flags&Encrypted != 0 {
		return nil, fmt.Errorf("%w: it is encrypted", ErrEncoding)
	}
	if len(stored) != int(c.Stored) {
		return nil, fmt.Errorf("%w: %d bytes for %d", ErrEncoding, len(stored), c.Stored)
	}
	if !c.Encoded() {
		return stored, nil
	}
	out := make([]byte, c.Extent)
	return out, d.Codec.Decode(out, stored)
}

// Verify compares decoded bytes with a chunk's size and digest.
func (t *Table) Verify(c *Chunk, decoded []byte) error {
	if len(decoded) != int(c.Size) {
		return fmt.Errorf("%w: it has %d bytes instead of %d", ErrDigest, len(decoded), c.Size)
	}
	if got := t.Algorithm.Sum(decoded); got != c.Digest {
		return fmt.Errorf("%w: %s is %s instead of %s", ErrDigest, t.Algorithm, got, c.Digest)
	}
	return nil
}

var le = binary.LittleEndian

// Encode gives the encoded form of src, or src itself if that saves nothing.
func (c Codec) Encode(src []byte) ([]byte, error) {
	e, err := newEncoder(c, 0)
	if err != nil {
		return nil, err
	}
	return e.encode(src)
}
