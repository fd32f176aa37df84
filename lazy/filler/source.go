package filler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
)

// Source is where a blob lies. It is safe for use by several goroutines.
type Source interface {
	// Name is for people.
	Name() string
	// Near says that reading costs little, so that nothing is read ahead.
	Near() bool
	// ReadAt reads len(p) bytes of a device's blob, or fails.
	ReadAt(ctx context.Context, d *chunk.Device, p []byte, offset int64) error
	// Stream reads a device's blob from its beginning.
	Stream(ctx context.Context, d *chunk.Device) (io.ReadCloser, error)
}

// FromPlace is an image's place in a registry or layout as a source.
func FromPlace(name string, near bool, p image.Place) Source { return &place{name, near, p} }

type place struct {
	name  string
	near  bool
	place image.Place
}

func (p *place) Name() string { return p.name }
func (p *place) Near() bool   { return p.near }

func descriptor(d *chunk.Device) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: image.MediaTypeBlob, Digest: digest.NewDigestFromEncoded(digest.SHA256, d.Name()), Size: d.Size}
}

func (p *place) ReadAt(ctx context.Context, d *chunk.Device, b []byte, offset int64) error {
	blob, err := p.place.At(ctx, descriptor(d))
	if err != nil {
		return err
	}
	_, err = blob.ReadAt(b, offset)
	return errors.Join(whole(err), blob.Close())
}

func (p *place) Stream(ctx context.Context, d *chunk.Device) (io.ReadCloser, error) {
	return p.place.Blob(ctx, descriptor(d))
}

// whole says that less than was asked for is an error.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the blob is shorter than its image says: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// FromFolder is a source whose blobs are files.
func FromFolder(name string, path func(d *chunk.Device) (string, error)) Source {
	return &folder{name, path}
}

type folder struct {
	name string
	path func(d *chunk.Device) (string, error)
}

func (f *folder) Name() string { return f.name }
func (f *folder) Near() bool   { return true }

func (f *folder) open(d *chunk.Device) (*os.File, error) {
	path, err := f.path(d)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

func (f *folder) ReadAt(_ context.Context, d *chunk.Device, b []byte, offset int64) error {
	file, err := f.open(d)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.ReadAt(b, offset); err != nil {
		return fmt.Errorf("%s: %w", file.Name(), whole(err))
	}
	return nil
}

func (f *folder) Stream(_ context.Context, d *chunk.Device) (io.ReadCloser, error) { return f.open(d) }
