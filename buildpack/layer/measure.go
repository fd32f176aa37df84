package layer

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// Compression of layers.
type Compression string

// The compressions that an image can have. Gzip at level 1 is what upstream's lifecycle uses.
const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// ParseCompression reads the name of a compression; "" is gzip.
func ParseCompression(name string) (Compression, error) {
	switch Compression(name) {
	case "", Gzip:
		return Gzip, nil
	case Zstd:
		return Zstd, nil
	}
	return "", fmt.Errorf("the compression %q is unknown; use gzip or zstd", name)
}

// MediaType of a compressed layer; docker tells whether the image speaks Docker's media types.
func (c Compression) MediaType(docker bool) types.MediaType {
	if c == Zstd {
		return types.OCILayerZStd
	}
	if docker {
		return types.DockerLayer
	}
	return types.OCILayer
}

// A Blob is a compressed layer as a manifest names it.
type Blob struct {
	DiffID v1.Hash // of the tar stream
	Digest v1.Hash // of the compressed bytes
	Size   int64   // compressed, bytes
}

// Content writes the tar stream of a layer. It gives the same bytes each time it is called.
type Content func(io.Writer) error

// counter hashes and counts what passes.
type counter struct {
	w    io.Writer
	hash hash.Hash
	size int64
}

func newCounter(w io.Writer) *counter { return &counter{w: w, hash: sha256.New()} }

func (c *counter) Write(p []byte) (int, error) {
	c.hash.Write(p)
	c.size += int64(len(p))
	return c.w.Write(p)
}

func (c *counter) sum() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", c.hash.Sum(nil))}
}

// Stream makes a layer, measures and compresses it, and writes it to w, in one pass over the files. Reading, measuring, compressing and
// writing go on at the same time; the bytes do not depend on how many processors there are.
func Stream(w io.Writer, c Compression, content Content) (Blob, error) {
	compressed := newCounter(w)
	var p *pipe
	if c == Zstd {
		encoder, err := zstd.NewWriter(compressed, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(2))
		if err != nil {
			return Blob{}, err
		}
		p = newPipe(encoder, nil)
		err = errors.Join(content(p), p.Close())
		if err = cmp.Or(err, encoder.Close()); err != nil {
			return Blob{}, err
		}
	} else {
		p = newPipe(compressed, newDeflater)
		if err := p.gzip(content); err != nil {
			return Blob{}, err
		}
	}
	return Blob{DiffID: p.sum(), Digest: compressed.sum(), Size: compressed.size}, nil
}

// DiffID measures a layer without compressing it.
func DiffID(content Content) (v1.Hash, error) {
	p := newPipe(nil, nil)
	if err := errors.Join(content(p), p.Close()); err != nil {
		return v1.Hash{}, err
	}
	return p.sum(), nil
}
