package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Here is where this client meets go-containerregistry's images: they can be read from a registry and pushed to one.

// Image reads an image; where the reference leads to an index, its manifest for the platform ("" parts match any; nil
// is linux on amd64). Layers are read when they are asked for, in requests that belong to ctx.
func (c *Client) Image(ctx context.Context, ref Reference, platform *v1.Platform) (v1.Image, error) {
	desc, body, err := c.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	if !IsIndex(desc.MediaType) {
		return c.imageOf(ctx, ref.Repository, desc, body)
	}
	index := &remoteIndex{ctx, c, ref.Repository, desc, body}
	if platform == nil {
		platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, child := range m.Manifests {
		if child.Platform != nil && child.Platform.Satisfies(*platform) {
			return index.Image(child.Digest)
		}
	}
	return nil, fmt.Errorf("%s has no image for %s: %w", ref, platform, fs.ErrNotExist)
}

// Index reads an index. It is an error if the reference leads to an image.
func (c *Client) Index(ctx context.Context, ref Reference) (v1.ImageIndex, error) {
	desc, body, err := c.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	if !IsIndex(desc.MediaType) {
		return nil, fmt.Errorf("%s is no index but %s", ref, desc.MediaType)
	}
	return &remoteIndex{ctx, c, ref.Repository, desc, body}, nil
}

// remoteImage is partial.CompressedImageCore.
type remoteImage struct {
	ctx      context.Context
	client   *Client
	repo     Repository
	desc     ocispec.Descriptor
	body     []byte
	manifest *v1.Manifest
	config   func() ([]byte, error) // read once
}

func (c *Client) imageOf(ctx context.Context, repo Repository, desc ocispec.Descriptor, body []byte) (v1.Image, error) {
	i := &remoteImage{ctx: ctx, client: c, repo: repo, desc: desc, body: body}
	m, err := partial.Manifest(i)
	if err != nil {
		return nil, fmt.Errorf("manifest %s of %s: %w", desc.Digest, repo, err)
	}
	i.manifest = m
	i.config = sync.OnceValues(i.readConfig)
	return partial.CompressedToImage(i)
}

func (i *remoteImage) MediaType() (types.MediaType, error) {
	return types.MediaType(i.desc.MediaType), nil
}

func (i *remoteImage) RawManifest() ([]byte, error) { return i.body, nil }

func (i *remoteImage) RawConfigFile() ([]byte, error) { return i.config() }

// readConfig reads the config; one of more than 16 MiB is refused.
func (i *remoteImage) readConfig() ([]byte, error) {
	if i.manifest.Config.Data != nil {
		if d := digest.FromBytes(i.manifest.Config.Data); string(d) == i.manifest.Config.Digest.String() {
			return i.manifest.Config.Data, nil
		}
	}
	const limit = 16 << 20
	desc := descriptorOf(i.manifest.Config)
	if desc.Size > limit {
		return nil, fmt.Errorf("config of %s@%s: %w: %d bytes", i.repo, i.desc.Digest, ErrTooLarge, desc.Size)
	}
	rc, err := i.client.Blob(i.ctx, i.repo, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func (i *remoteImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if h == i.manifest.Config.Digest {
		return &remoteLayer{i, i.manifest.Config}, nil
	}
	for _, l := range i.manifest.Layers {
		if l.Digest == h {
			return &remoteLayer{i, l}, nil
		}
	}
	return nil, fmt.Errorf("%s@%s has no layer %s: %w", i.repo, i.desc.Digest, h, fs.ErrNotExist)
}

func descriptorOf(d v1.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size}
}

type remoteLayer struct {
	image *remoteImage
	desc  v1.Descriptor
}

func (l *remoteLayer) Digest() (v1.Hash, error) { return l.desc.Digest, nil }

func (l *remoteLayer) Size() (int64, error) { return l.desc.Size, nil }

func (l *remoteLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }

func (l *remoteLayer) Compressed() (io.ReadCloser, error) {
	return l.image.client.Blob(l.image.ctx, l.image.repo, descriptorOf(l.desc))
}

// remoteIndex is a v1.ImageIndex.
type remoteIndex struct {
	ctx    context.Context
	client *Client
	repo   Repository
	desc   ocispec.Descriptor
	body   []byte
}

func (i *remoteIndex) MediaType() (types.MediaType, error) {
	return types.MediaType(i.desc.MediaType), nil
}

func (i *remoteIndex) Digest() (v1.Hash, error) { return v1.NewHash(string(i.desc.Digest)) }

func (i *remoteIndex) Size() (int64, error) { return i.desc.Size, nil }

func (i *remoteIndex) RawManifest() ([]byte, error) { return i.body, nil }

func (i *remoteIndex) IndexManifest() (*v1.IndexManifest, error) {
	m, err := v1.ParseIndexManifest(bytes.NewReader(i.body))
	if err != nil {
		return nil, fmt.Errorf("index %s of %s: %w", i.desc.Digest, i.repo, err)
	}
	return m, nil
}

func (i *remoteIndex) Image(h v1.Hash) (v1.Image, error) {
	desc, body, err := i.client.Manifest(i.ctx, i.repo.WithDigest(digest.Digest(h.String())))
	if err != nil {
		return nil, err
	}
	return i.client.imageOf(i.ctx, i.repo, desc, body)
}

func (i *remoteIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return i.client.Index(i.ctx, i.repo.WithDigest(digest.Digest(h.String())))
}

// PushOptions say how images are pushed.
type PushOptions struct {
	Jobs int          // blobs at a time; 0 means 4
	From []Repository // repositories of the same registry that may have blobs already
}

// PushImage pushes an image and then its manifest under the reference. Blobs that the registry has are not sent again.
func (c *Client) PushImage(ctx context.Context, ref Reference, image v1.Image, o PushOptions) (ocispec.Descriptor, error) {
	if o.Jobs == 0 {
		o.Jobs = 4
	}
	layers, err := image.Layers()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	config, err := partial.ConfigLayer(image)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(o.Jobs)
	seen := map[v1.Hash]bool{}
	for _, l := range append(layers, config) {
		h, err := l.Digest()
		if err != nil {
			return ocispec.Descriptor{}, errors.Join(err, group.Wait())
		}
		if !seen[h] {
			seen[h] = true
			group.Go(func() error { return c.pushLayer(inner, ref.Repository, l, o.From) })
		}
	}
	if err := group.Wait(); err != nil {
		return ocispec.Descriptor{}, err
	}
	return c.putTagged(ctx, ref, image)
}

func (c *Client) putTagged(ctx context.Context, ref Reference, m partial.WithRawManifest) (ocispec.Descriptor, error) {
	body, err := m.RawManifest()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	mediaType, err := manifestType(body, "")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return c.PutManifest(ctx, ref, mediaType, body)
}

func (c *Client) pushLayer(ctx context.Context, repo Repository, l v1.Layer, from []Repository) error {
	h, err := l.Digest()
	if err != nil {
		return err
	}
	mediaType, err := l.MediaType()
	if err != nil {
		return err
	}
	if !mediaType.IsDistributable() {
		return nil
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	d := digest.Digest(h.String())
	if there, err := c.Exists(ctx, repo, d); err != nil || there {
		return err
	}
	for _, r := range from {
		if mounted, err := c.Mount(ctx, repo, d, r); err != nil || mounted {
			return err
		}
	}
	return c.PushBlob(ctx, repo, ocispec.Descriptor{MediaType: string(mediaType), Digest: d, Size: size}, l.Compressed)
}

// PushIndex pushes an index with all its images.
func (c *Client) PushIndex(ctx context.Context, ref Reference, index v1.ImageIndex, o PushOptions) (ocispec.Descriptor, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, child := range m.Manifests {
		to := ref.WithDigest(digest.Digest(child.Digest.String()))
		if child.MediaType.IsIndex() {
			sub, err := index.ImageIndex(child.Digest)
			if err == nil {
				_, err = c.PushIndex(ctx, to, sub, o)
			}
			if err != nil {
				return ocispec.Descriptor{}, err
			}
			continue
		}
		image, err := index.Image(child.Digest)
		if err == nil {
			_, err = c.PushImage(ctx, to, image, o)
		}
		if err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return c.putTagged(ctx, ref, index)
}

// Copy copies what a reference leads to, index or image, with everything in it. Between repositories of one registry
// blobs are mounted.
func (c *Client) Copy(ctx context.Context, from, to Reference, o PushOptions) (ocispec.Descriptor, error) {
	desc, body, err := c.Manifest(ctx, from)
	if err != nil {
		return desc, err
	}
	if from.Host == to.Host {
		o.From = append(o.From, from.Repository)
	}
	if IsIndex(desc.MediaType) {
		return c.PushIndex(ctx, to, &remoteIndex{ctx, c, from.Repository, desc, body}, o)
	}
	image, err := c.imageOf(ctx, from.Repository, desc, body)
	if err != nil {
		return desc, err
	}
	return c.PushImage(ctx, to, image, o)
}
