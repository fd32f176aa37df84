package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/target"
	"github.com/weft-dev/weft/registry"
)

// ImageCache is an image in a registry whose layers are those to be kept, and whose label says what they are; upstream's lifecycle
// reads it and writes it alike. The image that is replaced stays until the registry collects what has no tag.
type ImageCache struct {
	target target.Target
	name   string
	logger Logger
	before v1.Image // nil: there is none yet
	blobs  map[string]previousLayer

	mu     sync.Mutex
	layers []layer.Blob // of the next state
}

// NewImageCache opens the cache image of a name.
func NewImageCache(ctx context.Context, t target.Target, name string, logger Logger) (*ImageCache, error) {
	c := &ImageCache{target: t, name: name, logger: logger}
	before, err := t.Previous(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("accessing cache image %q: %w", name, err)
	}
	if c.blobs, err = blobsOf(before); err != nil {
		logger.Infof("Ignoring cache image %q because it was corrupt", name)
		before, c.blobs = nil, nil
	}
	c.before = before
	return c, nil
}

// Metadata implements Cache.
func (c *ImageCache) Metadata(context.Context) (CacheMetadata, error) {
	if c.before == nil {
		return CacheMetadata{}, nil
	}
	config, err := c.before.ConfigFile()
	if err != nil {
		return CacheMetadata{}, err
	}
	var md CacheMetadata
	if label := config.Config.Labels[cacheMetadataName]; len(label) > maxLabel || json.Unmarshal([]byte(label), &md) != nil {
		return CacheMetadata{}, nil // as if there were none
	}
	return md, nil
}

// Layer implements Cache.
func (c *ImageCache) Layer(_ context.Context, diffID string) (io.ReadCloser, error) {
	l, ok := c.blobs[diffID]
	if !ok {
		return nil, fmt.Errorf("%w: failed to find cache layer with SHA '%s'", ErrCacheLayer, diffID)
	}
	rc, err := l.layer.Uncompressed()
	if err != nil {
		return nil, unusable(diffID, err)
	}
	return &verifyingReader{&imageLayerReader{rc, diffID}, sha256.New(), diffID}, nil
}

// unusable makes of what a registry does not have, or has wrong, something that a build can do without.
func unusable(diffID string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, registry.ErrDigest) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: failed to find cache layer with SHA '%s': %w", ErrCacheLayer, diffID, err)
	}
	return err
}

type imageLayerReader struct {
	io.ReadCloser
	diffID string
}

func (r *imageLayerReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = unusable(r.diffID, err)
	}
	return n, err
}

// Add implements Cache.
func (c *ImageCache) Add(ctx context.Context, a Addition) (string, error) {
	known := a.Known
	if a.Same {
		known = a.Before
	}
	if known == "" && a.Before != "" {
		diffID, err := layer.DiffID(a.Content)
		if err != nil {
			return "", err
		}
		known = diffID.String()
	}
	source := target.Source{Name: "of the cache", Compression: layer.Gzip, Content: a.Content}
	if old, ok := c.blobs[known]; ok && known == a.Before {
		source.Known, source.Existing = &old.blob, old.layer
	}
	blob, err := c.target.Layer(ctx, source)
	if err != nil && source.Known != nil { // the registry has lost it
		source.Known = nil
		blob, err = c.target.Layer(ctx, source)
	}
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.layers = append(c.layers, blob)
	return blob.DiffID.String(), nil
}

// Commit implements Cache.
func (c *ImageCache) Commit(ctx context.Context, md CacheMetadata) error {
	if len(c.layers) == 0 { // registries want one
		if _, err := c.Add(ctx, Addition{Content: func(w io.Writer) error { return layer.NewWriter(w).Close() }}); err != nil {
			return err
		}
	}
	label, err := json.Marshal(md)
	if err != nil {
		return err
	}
	config := &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, Created: v1.Time{Time: layer.ModTime}, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Labels: map[string]string{cacheMetadataName: string(label)}}}
	var layers []v1.Descriptor
	for _, b := range c.layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, b.DiffID)
		config.History = append(config.History, v1.History{Created: config.Created})
		layers = append(layers, v1.Descriptor{MediaType: types.DockerLayer, Digest: b.Digest, Size: b.Size})
	}
	doc, err := encodeDocument(config, layers, nil, true)
	if err != nil {
		return err
	}
	_, err = c.target.Publish(ctx, doc.config, doc.manifest, doc.mediaType, []string{c.name})
	return err
}
