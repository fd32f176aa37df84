package containerd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/registry"
)

// Bounds of what is read, in bytes.
const (
	maxManifest = 4 << 20
	maxConfig   = 32 << 20
)

// maxIndexes is how deep indexes of images may lie in each other.
const maxIndexes = 4

// NameOf spells an image name as containerd and the kubelet do: docker.io/library/app:latest.
func NameOf(name string) (string, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return "", err
	}
	full := ref.String()
	if rest, ok := strings.CutPrefix(full, registry.DockerHub+"/"); ok {
		full = "docker.io/" + rest
	}
	return full, nil
}

// Image gives the image of a name, or of a digest, for this machine's platform; nil if there is none or it is not whole: containerd may
// have thrown away layers that it has unpacked. ctx is that of all reading.
func (c *Client) Image(ctx context.Context, name string) (v1.Image, error) {
	target, err := c.target(ctx, name)
	if err != nil || target == nil {
		return nil, err
	}
	raw, mediaType, err := c.manifest(ctx, target.Digest, target.MediaType)
	if err == nil && raw != nil {
		img := &image{c: c, ctx: ctx, raw: raw, mediaType: mediaType}
		var whole bool
		if whole, err = img.whole(); err == nil && whole {
			return partial.CompressedToImage(img)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s from containerd: %w", name, err)
	}
	return nil, nil
}

// target gives what a name means; of a name with a digest, which images need not have, the manifest if it is there.
func (c *Client) target(ctx context.Context, name string) (*v1.Descriptor, error) {
	full, err := NameOf(name)
	if err != nil {
		return nil, err
	}
	answer, err := c.images.Get(c.in(ctx, ""), &imagesapi.GetImageRequest{Name: full})
	if err = said(err); err == nil {
		t := answer.GetImage().GetTarget()
		h, err := v1.NewHash(t.GetDigest())
		if err != nil {
			return nil, fmt.Errorf("ask containerd for %s: %w", name, err)
		}
		return &v1.Descriptor{Digest: h, MediaType: types.MediaType(t.GetMediaType())}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("ask containerd for %s: %w", name, err)
	}
	_, hash, ok := strings.Cut(full, "@")
	if !ok {
		return nil, nil
	}
	h, err := v1.NewHash(hash)
	if err != nil {
		return nil, err
	}
	raw, err := c.document(ctx, h, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var typed struct {
		MediaType types.MediaType `json:"mediaType"`
	}
	if err := json.Unmarshal(raw, &typed); err != nil {
		return nil, fmt.Errorf("%s in containerd is no manifest: %w", h, err)
	}
	return &v1.Descriptor{Digest: h, MediaType: cmp.Or(typed.MediaType, types.OCIManifestSchema1)}, nil
}

// manifest reads a manifest, or the one of this machine's platform below an index; nil if the index has none.
func (c *Client) manifest(ctx context.Context, h v1.Hash, mediaType types.MediaType) ([]byte, types.MediaType, error) {
	for range maxIndexes {
		raw, err := c.document(ctx, h, maxManifest)
		if err != nil || !mediaType.IsIndex() {
			return raw, mediaType, err
		}
		var index v1.IndexManifest
		if err := json.Unmarshal(raw, &index); err != nil {
			return nil, "", fmt.Errorf("the index %s: %w", h, err)
		}
		found := false
		for _, d := range index.Manifests {
			if d.Platform == nil || d.Platform.OS == "linux" && d.Platform.Architecture == runtime.GOARCH {
				h, mediaType, found = d.Digest, d.MediaType, true
				break
			}
		}
		if !found {
			return nil, "", nil
		}
	}
	return nil, "", fmt.Errorf("indexes lie in each other deeper than %d", maxIndexes)
}

// image is an image in the content store.
type image struct {
	c         *Client
	ctx       context.Context //nolint:containedctx // the methods of v1.Image have none
	raw       []byte
	mediaType types.MediaType
	parsed    *v1.Manifest
}

// whole says whether all blobs are there.
func (i *image) whole() (bool, error) {
	var err error
	if i.parsed, err = v1.ParseManifest(strings.NewReader(string(i.raw))); err != nil {
		return false, err
	}
	for _, d := range append([]v1.Descriptor{i.parsed.Config}, i.parsed.Layers...) {
		if there, err := i.c.has(i.ctx, d.Digest); err != nil || !there {
			return false, err
		}
	}
	return true, nil
}

func (i *image) RawManifest() ([]byte, error) { return i.raw, nil }

func (i *image) MediaType() (types.MediaType, error) { return i.mediaType, nil }

func (i *image) RawConfigFile() ([]byte, error) {
	return i.c.document(i.ctx, i.parsed.Config.Digest, maxConfig)
}

func (i *image) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range append([]v1.Descriptor{i.parsed.Config}, i.parsed.Layers...) {
		if d.Digest == h {
			return &blob{i, d}, nil
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", h)
}

// blob is a layer in the content store.
type blob struct {
	of   *image
	desc v1.Descriptor
}

func (b *blob) Digest() (v1.Hash, error)            { return b.desc.Digest, nil }
func (b *blob) Compressed() (io.ReadCloser, error)  { return b.of.c.read(b.of.ctx, b.desc.Digest) }
func (b *blob) Size() (int64, error)                { return b.desc.Size, nil }
func (b *blob) MediaType() (types.MediaType, error) { return b.desc.MediaType, nil }
