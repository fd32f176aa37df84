// Package target is where images go: a registry or a folder in the OCI image layout. It moves blobs and manifests and knows nothing
// of how an image comes about.
package target

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/buildpack/layer"
)

// A Source gives the bytes of one layer. If Known is set, the compressed blob is known: a target that has it needs nothing, and
// Existing gives the compressed bytes to one that lacks it, unless a registry can take it over From another of its repositories.
// Otherwise Content is compressed on its way.
type Source struct {
	Name        string // for messages
	Compression layer.Compression
	Content     layer.Content
	Known       *layer.Blob
	Existing    v1.Layer
	From        string // reference of an image that has the layer, if it is known and in a registry
}

// Target takes an image. Nothing can be seen under its name before Publish has returned.
type Target interface {
	// Layer makes sure that the target has the layer. It is called for several layers at once.
	Layer(ctx context.Context, s Source) (layer.Blob, error)
	// Publish writes the configuration and the manifest and then the names, one after the other.
	Publish(ctx context.Context, config, manifest []byte, mediaType types.MediaType, names []string) (v1.Hash, error)
	// Previous gives the image of a name, nil if there is none.
	Previous(ctx context.Context, name string) (v1.Image, error)
}

func descriptor(b layer.Blob) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: string(types.OCILayer), Digest: digest.Digest(b.Digest.String()), Size: b.Size}
}

func hashOf(d digest.Digest) (v1.Hash, error) {
	h, err := v1.NewHash(string(d))
	if err != nil {
		return h, fmt.Errorf("the digest %q: %w", d, err)
	}
	return h, nil
}
