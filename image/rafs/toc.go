package rafs

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/weft-dev/weft/image/chunk"
)

// Names of the parts of a blob.
const (
	partBlob       = "image.blob"
	partMeta       = "blob.meta"
	partMetaHeader = "blob.meta.header"
	partDigests    = "blob.digest"
	partBootstrap  = "image.boot"
	partTOC        = "rafs.blob.toc"
)

const (
	tarHeaderSize = 512
	tocEntrySize  = 128
	maxTOC        = 32
	maxBootstrap  = 1 << 30
)

// Part is an entry of a blob's table of contents (storage/src/meta/toc.rs).
type Part struct {
	Name   string
	Codec  chunk.Codec
	Digest [32]byte // sha256 of the decoded part
	At     uint64
	Stored uint64
	Size   uint64 // decoded
}

var tocCodecs = map[chunk.Codec]uint32{chunk.None: 1, chunk.Zstd: 2, chunk.LZ4: 4}

func (p *Part) encode() []byte {
	b := make([]byte, tocEntrySize)
	le.PutUint32(b, tocCodecs[p.Codec])
	copy(b[8:24], p.Name)
	copy(b[24:56], p.Digest[:])
	le.PutUint64(b[56:], p.At)
	le.PutUint64(b[64:], p.Stored)
	le.PutUint64(b[72:], p.Size)
	return b
}

func decodePart(b []byte) (Part, error) {
	p := Part{
		Name: string(bytes.TrimRight(b[8:24], "\x00")), Digest: [32]byte(b[24:56]), At: le.Uint64(b[56:]), Stored: le.Uint64(b[64:]), Size: le.Uint64(b[72:]),
	}
	for c, flag := range tocCodecs {
		if le.Uint32(b)&0xf == flag {
			p.Codec = c
			return p, nil
		}
	}
	return p, fmt.Errorf("%w: its table of contents has an unknown compressor %#x", ErrFormat, le.Uint32(b))
}

// tarHeader is the header that stands behind a part of a blob, in GNU's form.
func tarHeader(name string, size int64) []byte {
	b := make([]byte, tarHeaderSize)
	copy(b, name)
	if size < 1<<33 {
		copy(b[124:], fmt.Sprintf("%011o", size))
	} else {
		b[124] = 0x80
		for i := range 8 {
			b[135-i] = byte(size >> (8 * i))
		}
	}
	copy(b[136:], "00000000000")
	b[156] = '0'
	copy(b[257:], "ustar  \x00")
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%07o\x00", sum))
	return b
}

// tail reads the tar header that ends at byte end.
func tail(r io.ReaderAt, end int64) (*tar.Header, error) {
	if end < tarHeaderSize {
		return nil, fmt.Errorf("%w: no tar header before byte %d", ErrFormat, end)
	}
	h, err := tar.NewReader(io.MultiReader(io.NewSectionReader(r, end-tarHeaderSize, tarHeaderSize), zeroReader{})).Next()
	if err != nil {
		return nil, fmt.Errorf("%w: the tar header before byte %d: %w", ErrFormat, end, err)
	}
	if h.Size < 0 || h.Size > end-tarHeaderSize {
		return nil, fmt.Errorf("%w: the part %q has %d bytes, before byte %d", ErrFormat, h.Name, h.Size, end)
	}
	return h, nil
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Contents reads the table of contents at the end of a blob of size bytes, and the digest that bootstraps hold of it.
func Contents(r io.ReaderAt, size int64) ([]Part, [32]byte, error) {
	var digest [32]byte
	h, err := tail(r, size)
	if err != nil {
		return nil, digest, err
	}
	if h.Name != partTOC || h.Size%tocEntrySize != 0 || h.Size > maxTOC*tocEntrySize {
		return nil, digest, fmt.Errorf("%w: the blob ends with %q of %d bytes and not with a table of contents", ErrFormat, h.Name, h.Size)
	}
	b := make([]byte, h.Size+tarHeaderSize)
	if n, err := r.ReadAt(b, size-int64(len(b))); n < len(b) {
		return nil, digest, fmt.Errorf("%w: its table of contents: %w", ErrFormat, err)
	}
	digest = sha256.Sum256(b)
	var parts []Part
	for p := b[:h.Size]; len(p) > 0; p = p[tocEntrySize:] {
		part, err := decodePart(p)
		if err != nil {
			return nil, digest, err
		}
		if part.At > uint64(size) || part.Stored > uint64(size)-part.At {
			return nil, digest, fmt.Errorf("%w: the part %q lies at %d with %d bytes of %d", ErrFormat, part.Name, part.At, part.Stored, size)
		}
		parts = append(parts, part)
	}
	return parts, digest, nil
}

// ContentsSize is the size of a table of contents with these parts in bytes, as bootstraps say it: with its tar header.
func ContentsSize(parts []Part) uint32 { return uint32(len(parts)*tocEntrySize + tarHeaderSize) }

// Read reads and verifies a part.
func (p *Part) Read(r io.ReaderAt) ([]byte, error) {
	if p.Size > maxBootstrap || p.Stored > maxBootstrap {
		return nil, fmt.Errorf("%w: the part %q has %d bytes", ErrFormat, p.Name, p.Size)
	}
	stored := make([]byte, p.Stored)
	if n, err := r.ReadAt(stored, int64(p.At)); n < len(stored) {
		return nil, fmt.Errorf("%w: the part %q: %w", ErrFormat, p.Name, err)
	}
	out := stored
	switch p.Codec {
	case chunk.Zstd:
		z, err := zstd.NewReader(bytes.NewReader(stored), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBootstrap))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		var b bytes.Buffer
		if _, err := io.Copy(&b, io.LimitReader(z, int64(p.Size)+1)); err != nil {
			return nil, fmt.Errorf("%w: the part %q: %w", ErrFormat, p.Name, err)
		}
		out = b.Bytes()
	case chunk.LZ4:
		if p.Size > p.Stored*256 {
			return nil, fmt.Errorf("%w: the part %q has %d bytes for %d", ErrFormat, p.Name, p.Size, p.Stored)
		}
		out = make([]byte, p.Size)
		if err := chunk.LZ4.Decode(out, stored); err != nil {
			return nil, fmt.Errorf("%w: the part %q: %w", ErrFormat, p.Name, err)
		}
	}
	if uint64(len(out)) != p.Size {
		return nil, fmt.Errorf("%w: the part %q has %d bytes instead of %d", ErrFormat, p.Name, len(out), p.Size)
	}
	if sha256.Sum256(out) != p.Digest && p.Digest != [32]byte{} {
		return nil, fmt.Errorf("%w: the part %q does not match its digest", ErrFormat, p.Name)
	}
	return out, nil
}

// ErrNoBootstrap says that there is no bootstrap in a blob.
var ErrNoBootstrap = errors.New("there is no bootstrap in the blob")

// FindBootstrap takes the bootstrap out of a blob of size bytes in which it lies.
func FindBootstrap(r io.ReaderAt, size int64) ([]byte, error) {
	h, err := tail(r, size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBootstrap, err)
	}
	switch h.Name {
	case partTOC:
		parts, _, err := Contents(r, size)
		if err != nil {
			return nil, err
		}
		for i := range parts {
			if parts[i].Name == partBootstrap {
				return parts[i].Read(r)
			}
		}
	case partBootstrap:
		if h.Size > maxBootstrap {
			return nil, fmt.Errorf("%w: a bootstrap of %d bytes", ErrFormat, h.Size)
		}
		b := make([]byte, h.Size)
		if n, err := r.ReadAt(b, size-tarHeaderSize-h.Size); n < len(b) {
			return nil, fmt.Errorf("%w: the bootstrap: %w", ErrFormat, err)
		}
		return b, nil
	}
	return nil, ErrNoBootstrap
}
