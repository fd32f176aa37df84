package lazy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/registry"
)

// Found is the image of a request, of which nothing is on this machine yet.
type Found struct {
	opened  *image.Opened
	name    string
	subject *ocispec.Descriptor    // its manifest, if it is in a registry or layout
	place   image.Place            // likewise
	trace   func() ([]byte, error) // what others have pushed about a start, when it is there; nil: it was not looked for
}

// Look is the first half of Prepare: it gets and checks what Prepare needs and changes nothing on this machine, so that its result may be thrown away.
func (s *Service) Look(ctx context.Context, r Request) (*Found, error) {
	if r.Platform == nil {
		r.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	if _, err := os.Stat(r.Reference); err == nil {
		return findOnDisk(r)
	}
	if r.Credentials != nil {
		ref, err := registry.ParseReference(r.Reference)
		if err != nil {
			return nil, err
		}
		s.SetCredentials(ref.Repository.String(), *r.Credentials)
	}
	place, err := s.place(r.Reference)
	if err != nil {
		return nil, err
	}
	if r.Metadata != nil {
		o, err := image.Open(r.Reference, r.Metadata, blobsOf{ctx, place})
		return &Found{opened: o, name: r.Reference}, err
	}
	var trace func() ([]byte, error)
	found := func(d digest.Digest) {
		if s.options.Learn >= 0 {
			trace = lookForTrace(ctx, place, d)
		}
		if r.Converted != nil {
			r.Converted()
		}
	}
	var o *image.Found
	if r.Subject != "" {
		o, err = image.OpenReferrer(ctx, place, r.Reference, r.Subject, found)
	} else {
		o, err = image.OpenFound(ctx, place, r.Reference, r.Platform, found)
	}
	if err != nil {
		return nil, err
	}
	if len(o.Problems) > 0 {
		return nil, fmt.Errorf("%s: %s", r.Reference, o.Problems[0].What)
	}
	d := ocispec.Descriptor{MediaType: o.Desc.MediaType, Digest: o.Desc.Digest, Size: o.Desc.Size}
	return &Found{o.Opened, r.Reference, &d, place, trace}, nil
}

func findOnDisk(r Request) (*Found, error) {
	name, err := filepath.Abs(r.Reference)
	if err != nil {
		return nil, err
	}
	var o *image.Opened
	if r.Metadata != nil {
		o, err = image.Open(name, r.Metadata, image.BlobFolder(name))
	} else {
		o, err = image.OpenPath(name, nil)
	}
	return &Found{opened: o, name: name}, err
}

// blobsOf finds the blobs of an image whose metadata is known.
type blobsOf struct {
	ctx   context.Context
	place image.Place
}

// Open opens the blob of a device.
func (b blobsOf) Open(d *chunk.Device) (image.Blob, error) {
	return b.place.At(b.ctx, ocispec.Descriptor{Digest: digest.NewDigestFromEncoded(digest.SHA256, d.Name()), Size: d.Size})
}

// place opens the place of a name. Archives are not taken: their parts cannot be read.
func (s *Service) place(name string) (image.Place, error) {
	if archive(name) {
		return nil, fmt.Errorf("%w: %s is an archive, of which no parts can be read; unpack it and name the folder", ErrCannot, name)
	}
	return image.OpenPlace(s.client, name, s.root, false)
}
