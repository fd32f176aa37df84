package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/buildpack/layer"
)

// Registry is a repository of a registry.
type Registry struct {
	repository name.Repository
	options    []remote.Option
	nameOpts   []name.Option
	pusher     *remote.Pusher
}

// NewRegistry gives the repository of an image reference such as registry.example/team/app:tag. insecure allows plain HTTP.
// options carry credentials and transport.
func NewRegistry(reference string, insecure bool, options ...remote.Option) (*Registry, error) {
	var nameOpts []name.Option
	if insecure {
		nameOpts = append(nameOpts, name.Insecure)
	}
	ref, err := name.ParseReference(reference, append(nameOpts, name.WeakValidation)...)
	if err != nil {
		return nil, fmt.Errorf("the image name %q: %w", reference, err)
	}
	pusher, err := remote.NewPusher(options...)
	if err != nil {
		return nil, err
	}
	return &Registry{repository: ref.Context(), options: options, nameOpts: nameOpts, pusher: pusher}, nil
}

// Layer uploads a layer unless the repository has it.
func (r *Registry) Layer(ctx context.Context, s Source) (layer.Blob, error) {
	if s.Known != nil && s.Existing != nil {
		if err := r.pusher.Upload(ctx, r.repository, s.Existing); err != nil {
			return layer.Blob{}, fmt.Errorf("upload layer %s: %w", s.Name, err)
		}
		return *s.Known, nil
	}
	up := &upload{ctx: ctx, source: s}
	if err := r.pusher.Upload(ctx, r.repository, up); err != nil {
		return layer.Blob{}, fmt.Errorf("upload layer %s: %w", s.Name, err)
	}
	if s.Known != nil {
		return *s.Known, nil
	}
	return up.result()
}

// Publish puts the configuration, the manifest under its digest and then each name. All names must lie in this registry.
func (r *Registry) Publish(ctx context.Context, config, manifest []byte, mediaType types.MediaType, names []string) (v1.Hash, error) {
	configType := types.OCIConfigJSON
	if mediaType == types.DockerManifestSchema2 {
		configType = types.DockerConfigJSON
	}
	if err := r.pusher.Upload(ctx, r.repository, static.NewLayer(config, configType)); err != nil {
		return v1.Hash{}, fmt.Errorf("upload the image configuration: %w", err)
	}
	digest, _, err := v1.SHA256(bytes.NewReader(manifest))
	if err != nil {
		return v1.Hash{}, err
	}
	for _, n := range names {
		ref, err := name.ParseReference(n, append(r.nameOpts, name.WeakValidation)...)
		if err != nil {
			return v1.Hash{}, fmt.Errorf("the image name %q: %w", n, err)
		}
		if err := r.pusher.Push(ctx, ref, raw{manifest, mediaType}); err != nil {
			return v1.Hash{}, fmt.Errorf("publish %s: %w", n, err)
		}
	}
	return digest, nil
}

// Previous gives the image that now has the name, nil if there is none or it may not be seen.
func (r *Registry) Previous(ctx context.Context, n string) (v1.Image, error) {
	ref, err := name.ParseReference(n, append(r.nameOpts, name.WeakValidation)...)
	if err != nil {
		return nil, fmt.Errorf("the image name %q: %w", n, err)
	}
	img, err := remote.Image(ref, append(r.options, remote.WithContext(ctx))...)
	var te *transport.Error
	if errors.As(err, &te) && (te.StatusCode == http.StatusNotFound || te.StatusCode == http.StatusUnauthorized || te.StatusCode == http.StatusForbidden) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the image %s: %w", n, err)
	}
	return img, nil
}

// raw is a manifest as it is.
type raw struct {
	manifest  []byte
	mediaType types.MediaType
}

func (r raw) RawManifest() ([]byte, error)        { return r.manifest, nil }
func (r raw) MediaType() (types.MediaType, error) { return r.mediaType, nil }

// upload is a layer that is made while it is uploaded. Every attempt makes it anew.
type upload struct {
	ctx    context.Context
	source Source

	mu   sync.Mutex
	blob *layer.Blob
}

func (u *upload) result() (layer.Blob, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.blob == nil {
		return layer.Blob{}, stream.ErrNotComputed
	}
	return *u.blob, nil
}

func (u *upload) Digest() (v1.Hash, error) {
	if u.source.Known != nil {
		return u.source.Known.Digest, nil
	}
	b, err := u.result()
	return b.Digest, err
}

func (u *upload) DiffID() (v1.Hash, error) {
	b, err := u.result()
	return b.DiffID, err
}

func (u *upload) Size() (int64, error) {
	if u.source.Known != nil {
		return u.source.Known.Size, nil
	}
	b, err := u.result()
	return b.Size, err
}

func (u *upload) MediaType() (types.MediaType, error) {
	return u.source.Compression.MediaType(false), nil
}

func (u *upload) Compressed() (io.ReadCloser, error) {
	return piped(u.ctx, u.source.Compression, u.source.Content, func(b layer.Blob) {
		u.mu.Lock()
		u.blob = &b
		u.mu.Unlock()
	}), nil
}

func (u *upload) Uncompressed() (io.ReadCloser, error) {
	return nil, errors.New("a layer on its way is read compressed only")
}

// Repository gives the name without tag or digest.
func (r *Registry) Repository() string { return r.repository.Name() }
