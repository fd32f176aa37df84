package target

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/registry"
)

// Layout is a folder of images in the OCI image layout, one below it for each name: HOST/REPOSITORY/TAG, or
// HOST/REPOSITORY/ALGORITHM/HEX (platform.md, "Map an image reference to a path in the layout directory").
type Layout struct {
	dir   string
	first string // the folder that takes the blobs
	flat  bool   // there is only that folder, whatever the image is called
}

// NewFolder gives the folder of one image, which has no further folders for its names.
func NewFolder(dir string) *Layout { return &Layout{dir, dir, true} }

func (l *Layout) path(name string) (string, error) {
	if l.flat {
		return l.first, nil
	}
	return LayoutPath(l.dir, name)
}

// NewLayout gives the folder dir for an image called name.
func NewLayout(dir, name string) (*Layout, error) {
	path, err := LayoutPath(dir, name)
	if err != nil {
		return nil, err
	}
	return &Layout{dir, path, false}, nil
}

// LayoutPath is where the image of a name lies below dir.
func LayoutPath(dir, name string) (string, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return "", err
	}
	at := filepath.Join(dir, ref.Host, filepath.FromSlash(ref.Name))
	if ref.Digest != "" {
		return filepath.Join(at, string(ref.Digest.Algorithm()), ref.Digest.Encoded()), nil
	}
	return filepath.Join(at, ref.Tag), nil
}

func blobPath(at string, h v1.Hash) string { return filepath.Join(at, "blobs", h.Algorithm, h.Hex) }

// Layer writes a layer unless it is there.
func (l *Layout) Layer(ctx context.Context, s Source) (layer.Blob, error) {
	if s.Known != nil {
		if info, err := os.Stat(blobPath(l.first, s.Known.Digest)); err == nil && info.Size() == s.Known.Size {
			return *s.Known, nil
		}
	}
	dir := filepath.Join(l.first, "blobs", "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return layer.Blob{}, err
	}
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return layer.Blob{}, err
	}
	defer os.Remove(f.Name())
	blob, err := fillLayer(f, s)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return layer.Blob{}, fmt.Errorf("write layer '%s': %w", s.Name, err)
	}
	if ctx.Err() != nil {
		return layer.Blob{}, ctx.Err()
	}
	return blob, os.Rename(f.Name(), blobPath(l.first, blob.Digest))
}

func fillLayer(w io.Writer, s Source) (layer.Blob, error) {
	if s.Known == nil {
		return layer.Stream(w, s.Compression, s.Content)
	}
	if s.Existing == nil {
		return layer.Blob{}, errors.New("there is no copy of it")
	}
	rc, err := s.Existing.Compressed()
	if err != nil {
		return layer.Blob{}, err
	}
	defer rc.Close()
	h, size, err := v1.SHA256(io.TeeReader(rc, w))
	if err != nil {
		return layer.Blob{}, err
	}
	if h != s.Known.Digest || size != s.Known.Size {
		return layer.Blob{}, fmt.Errorf("%s came instead of %s", h, s.Known.Digest)
	}
	return *s.Known, nil
}

// Publish writes configuration, manifest and index. Folders of further names get hard links to the blobs.
func (l *Layout) Publish(_ context.Context, config, manifest []byte, mediaType types.MediaType, names []string) (v1.Hash, error) {
	blobs, err := blobsOf(manifest)
	if err != nil {
		return v1.Hash{}, err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(manifest))
	if err != nil {
		return v1.Hash{}, err
	}
	for _, name := range names {
		at, err := l.path(name)
		if err != nil {
			return v1.Hash{}, err
		}
		if err := os.MkdirAll(filepath.Join(at, "blobs", "sha256"), 0o755); err != nil {
			return v1.Hash{}, err
		}
		for _, b := range blobs[1:] {
			if at == l.first {
				break
			}
			h, err := hashOf(b.Digest)
			if err != nil {
				return v1.Hash{}, err
			}
			err = os.Link(blobPath(l.first, h), blobPath(at, h))
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return v1.Hash{}, err
			}
		}
		for _, data := range [][]byte{config, manifest} {
			h, _, err := v1.SHA256(bytes.NewReader(data))
			if err != nil {
				return v1.Hash{}, err
			}
			if err := replaceFile(blobPath(at, h), data); err != nil {
				return v1.Hash{}, err
			}
		}
		desc := v1.Descriptor{MediaType: mediaType, Digest: digest, Size: size}
		if ref, err := registry.ParseReference(name); err == nil && ref.Tag != "" {
			desc.Annotations = map[string]string{"org.opencontainers.image.ref.name": ref.Tag}
		}
		if err := writeIndex(at, desc); err != nil {
			return v1.Hash{}, err
		}
	}
	return digest, nil
}

// writeIndex makes desc the only image of a layout folder: readers see the old one or the new one (image-layout.md of
// github.com/opencontainers/image-spec).
func writeIndex(at string, desc v1.Descriptor) error {
	if err := replaceFile(filepath.Join(at, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	data, err := json.MarshalIndent(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{desc}}, "", "   ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(at, "index.json"), data)
}

// replaceFile writes a file at once.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// Previous gives the image in the folder of a name, nil if there is none.
func (l *Layout) Previous(_ context.Context, name string) (v1.Image, error) {
	at, err := l.path(name)
	if err != nil {
		return nil, err
	}
	return ReadLayout(at)
}

// ReadLayout gives the only image of a layout folder, nil if there is no folder.
func ReadLayout(at string) (v1.Image, error) {
	path, err := layout.FromPath(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	index, err := path.ImageIndex()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d images, one is expected", at, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}
