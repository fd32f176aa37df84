package debian

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/buildpack/layer"
)

// Config of an image of packages.
type Config struct {
	Env    []string
	Labels map[string]string
	User   string // "" is UserID
}

// Image makes an image of the layer of a name and those below it. The same lock gives the same digest.
func (a *Archive) Image(ctx context.Context, lock *Lock, name string, c Config) (v1.Image, error) {
	stack, err := lock.stack(name)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for i, l := range stack {
		made, err := a.layer(ctx, lock, stack[:i+1])
		if err != nil {
			return nil, fmt.Errorf("the layer %s: %w", l.Name, err)
		}
		img, err = mutate.Append(img, mutate.Addendum{Layer: made, MediaType: types.OCILayer, History: v1.History{
			CreatedBy: fmt.Sprintf("Debian packages: %s", l.Name), Created: v1.Time{Time: layer.ModTime}}})
		if err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", lock.Arch, v1.Time{Time: layer.ModTime}
	config.Config.Env, config.Config.Labels, config.Config.User = c.Env, c.Labels, c.User
	if c.User == "" {
		config.Config.User = fmt.Sprintf("%d:%d", UserID, UserID)
	}
	return mutate.ConfigFile(img, config)
}

// layerRecord tells of a layer that was made before.
type layerRecord struct {
	Version int        `json:"version"` // of the format, 1
	Blob    layer.Blob `json:"blob"`
}

// layer makes the topmost layer of a stack, or takes it from the cache.
func (a *Archive) layer(ctx context.Context, lock *Lock, stack []Layer) (v1.Layer, error) {
	top := stack[len(stack)-1]
	key, err := json.Marshal(struct {
		Recipe int
		Arch   string
		Stack  []Layer
	}{recipe, lock.Arch, stack})
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(a.Cache, "layers")
	at := filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256(key)))
	if l, err := readLayer(at); err == nil {
		return l, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, l := range stack {
		if err := a.fetchAll(ctx, l.Packages); err != nil {
			return nil, err
		}
	}
	a.note("unpack %d packages of %s", len(top.Packages), top.Name)
	content, err := a.Content(ctx, lock, top.Name)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	blob, err := layer.Stream(f, layer.Gzip, content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	if err := os.Rename(f.Name(), at+".tar.gz"); err != nil {
		return nil, err
	}
	data, err := json.Marshal(layerRecord{1, blob})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(at+".json.new", data, 0o644); err != nil {
		return nil, err
	}
	if err := os.Rename(at+".json.new", at+".json"); err != nil {
		return nil, err
	}
	return fileLayer{at + ".tar.gz", blob}, nil
}

func readLayer(at string) (v1.Layer, error) {
	data, err := os.ReadFile(at + ".json")
	if err != nil {
		return nil, err
	}
	var r layerRecord
	if err := json.Unmarshal(data, &r); err != nil || r.Version != 1 {
		return nil, fs.ErrNotExist // made anew
	}
	info, err := os.Stat(at + ".tar.gz")
	if err != nil {
		return nil, err
	}
	if info.Size() != r.Blob.Size {
		return nil, fs.ErrNotExist
	}
	return fileLayer{at + ".tar.gz", r.Blob}, nil
}

// fileLayer is a v1.Layer in a file.
type fileLayer struct {
	path string
	blob layer.Blob
}

func (l fileLayer) Digest() (v1.Hash, error)            { return l.blob.Digest, nil }
func (l fileLayer) DiffID() (v1.Hash, error)            { return l.blob.DiffID, nil }
func (l fileLayer) Size() (int64, error)                { return l.blob.Size, nil }
func (l fileLayer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }
func (l fileLayer) Compressed() (io.ReadCloser, error)  { return os.Open(l.path) }
func (l fileLayer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	z, done, err := decompress(f, "gz")
	if err != nil {
		f.Close()
		return nil, err
	}
	return readCloser{z, func() error { done(); return f.Close() }}, nil
}

type readCloser struct {
	io.Reader
	close func() error
}

func (r readCloser) Close() error { return r.close() }
