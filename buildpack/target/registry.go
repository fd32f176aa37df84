package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/registry"
)

// restarts is how often a layer is made anew because the registry forgot what it had been sent.
const restarts = 3

// Registry is a repository of a registry.
type Registry struct {
	client     *registry.Client
	repository registry.Repository
}

// NewRegistry gives the repository of an image reference such as registry.example/team/app:tag.
func NewRegistry(client *registry.Client, reference string) (*Registry, error) {
	ref, err := registry.ParseReference(reference)
	if err != nil {
		return nil, err
	}
	return &Registry{client, ref.Repository}, nil
}

// Repository gives the name without tag or digest.
func (r *Registry) Repository() string { return r.repository.String() }

// Layer uploads a layer unless the repository has it.
func (r *Registry) Layer(ctx context.Context, s Source) (layer.Blob, error) {
	if s.Known != nil {
		if err := r.known(ctx, s); err != nil {
			return layer.Blob{}, fmt.Errorf("upload layer '%s': %w", s.Name, err)
		}
		return *s.Known, nil
	}
	for attempt := 1; ; attempt++ {
		blob, err := r.stream(ctx, s)
		if err == nil {
			return blob, nil
		}
		if attempt == restarts || !errors.Is(err, registry.ErrUploadLost) {
			return layer.Blob{}, fmt.Errorf("upload layer '%s': %w", s.Name, err)
		}
	}
}

func (r *Registry) known(ctx context.Context, s Source) error {
	if from, err := registry.ParseReference(s.From); s.From != "" && err == nil && from.Host == r.repository.Host {
		if from.Repository == r.repository {
			return nil // an image here has it; if that is no longer so, the registry refuses the manifest
		}
		there, err := r.client.Exists(ctx, r.repository, descriptor(*s.Known).Digest)
		if err != nil || there {
			return err
		}
		mounted, err := r.client.Mount(ctx, r.repository, descriptor(*s.Known).Digest, from.Repository)
		if err != nil || mounted {
			return err
		}
	}
	return r.client.PushBlob(ctx, r.repository, descriptor(*s.Known), func() (io.ReadCloser, error) {
		if s.Existing == nil {
			return nil, errors.New("the registry has lost it and there is no copy")
		}
		return s.Existing.Compressed()
	})
}

// stream makes, compresses and uploads a layer in one pass.
func (r *Registry) stream(ctx context.Context, s Source) (layer.Blob, error) {
	w, err := r.client.BlobWriter(ctx, r.repository)
	if err != nil {
		return layer.Blob{}, err
	}
	defer w.Abort()
	blob, err := layer.Stream(w, s.Compression, s.Content)
	if err != nil {
		return layer.Blob{}, err
	}
	desc, err := w.Commit(string(types.OCILayer))
	if err != nil {
		return layer.Blob{}, err
	}
	if desc.Digest.String() != blob.Digest.String() {
		return layer.Blob{}, fmt.Errorf("%s was uploaded instead of %s", desc.Digest, blob.Digest)
	}
	return blob, nil
}

// Publish puts the configuration, and the manifest under each name. All names must lie in the same registry; those of other
// repositories get the blobs by mounting.
func (r *Registry) Publish(ctx context.Context, config, manifest []byte, mediaType types.MediaType, names []string) (v1.Hash, error) {
	blobs, err := blobsOf(manifest)
	if err != nil {
		return v1.Hash{}, err
	}
	var published ocispec.Descriptor
	for _, n := range names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return v1.Hash{}, err
		}
		if ref.Host != r.repository.Host {
			return v1.Hash{}, fmt.Errorf("%s: all names of an image must lie in the same registry, here %s", n, r.repository.Host)
		}
		if ref.Repository != r.repository {
			if err := r.spread(ctx, ref.Repository, blobs); err != nil {
				return v1.Hash{}, err
			}
		}
		desc := blobs[0]
		err = r.client.PushBlob(ctx, ref.Repository, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(config)), nil })
		if err != nil {
			return v1.Hash{}, fmt.Errorf("upload the image configuration: %w", err)
		}
		if published, err = r.client.PutManifest(ctx, ref, string(mediaType), manifest); err != nil {
			return v1.Hash{}, fmt.Errorf("publish %s: %w", n, err)
		}
	}
	return hashOf(published.Digest)
}

// spread brings the layers to another repository of the registry.
func (r *Registry) spread(ctx context.Context, to registry.Repository, blobs []ocispec.Descriptor) error {
	for _, desc := range blobs[1:] {
		mounted, err := r.client.Mount(ctx, to, desc.Digest, r.repository)
		if err != nil {
			return err
		}
		if mounted {
			continue
		}
		err = r.client.PushBlob(ctx, to, desc, func() (io.ReadCloser, error) { return r.client.Blob(ctx, r.repository, desc) })
		if err != nil {
			return err
		}
	}
	return nil
}

// blobsOf gives the configuration and the layers of a manifest.
func blobsOf(manifest []byte) ([]ocispec.Descriptor, error) {
	m, err := v1.ParseManifest(bytes.NewReader(manifest))
	if err != nil {
		return nil, err
	}
	var out []ocispec.Descriptor
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		out = append(out, ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size})
	}
	return out, nil
}

// Previous gives the image that now has the name, nil if there is none or it may not be seen.
func (r *Registry) Previous(ctx context.Context, name string) (v1.Image, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	img, err := r.client.Image(ctx, ref, &v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
	var refused *registry.Error
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &refused) && (refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the image %s: %w", name, err)
	}
	return img, nil
}
