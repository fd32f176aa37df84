// Package kept holds the layers that buildpacks keep for the next build of an image, unpacked in the content store: they come back
// by mounting, and images that have the same layer share it. It is a lifecycle.Cache. It does not know how a build runs nor what is
// in a layer.
package kept

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/store"
)

// metadataVersion is the format of the metadata in a root of the store.
const metadataVersion = 1

type metadata struct {
	Version int                     `json:"version"`
	Cache   lifecycle.CacheMetadata `json:"cache"`
}

// leaseTime is how long a build may take between adding a layer and committing.
const leaseTime = time.Hour

// Cache is what one image keeps. One build at a time uses it.
type Cache struct {
	store   *store.Store
	root    string // name of the root that holds the layers
	folders lifecycle.Folders
	lease   *store.Lease
}

// New gives the cache that the root of that name holds. Layers are taken over from the layers folder of folders, which is on the file
// system of the store or is copied from.
func New(s *store.Store, root string, folders lifecycle.Folders) *Cache {
	return &Cache{store: s, root: root, folders: folders}
}

// Metadata implements lifecycle.Cache. What cannot be understood counts for nothing.
func (c *Cache) Metadata(ctx context.Context) (lifecycle.CacheMetadata, error) {
	r, err := c.store.Root(ctx, c.root)
	if errors.Is(err, fs.ErrNotExist) {
		return lifecycle.CacheMetadata{}, nil
	}
	if err != nil {
		return lifecycle.CacheMetadata{}, err
	}
	var md metadata
	if json.Unmarshal(r.Data, &md) != nil || md.Version != metadataVersion {
		return lifecycle.CacheMetadata{}, nil
	}
	return md.Cache, nil
}

// Layer implements lifecycle.Cache; there are no tars.
func (c *Cache) Layer(_ context.Context, diffID string) (io.ReadCloser, error) {
	return nil, fmt.Errorf("%w: %s is kept unpacked only", lifecycle.ErrCacheLayer, diffID)
}

// Unpacked implements lifecycle.Unpacker. A layer that is damaged is dropped.
func (c *Cache) Unpacked(ctx context.Context, diffID string) (string, error) {
	d := digest.Digest(diffID)
	dir, err := c.store.Layer(ctx, d)
	if errors.Is(err, store.ErrDigest) {
		err = errors.Join(err, c.store.RemoveLayer(ctx, d))
	}
	if errors.Is(err, store.ErrDigest) || errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %w", lifecycle.ErrCacheLayer, err)
	}
	return dir, err
}

// Add implements lifecycle.Cache: it takes the layer out of the layers folder.
func (c *Cache) Add(ctx context.Context, a lifecycle.Addition) (string, error) {
	if a.Same {
		return a.Before, nil
	}
	if err := c.hold(ctx, a.Known); err != nil {
		return "", err
	}
	draft, err := c.store.NewLayer(ctx)
	if err != nil {
		return "", err
	}
	to := filepath.Join(draft.Dir(), filepath.FromSlash(c.folders.Layers.Inside), filepath.FromSlash(a.Dir))
	err = os.MkdirAll(filepath.Dir(to), 0o755)
	if err == nil {
		err = take(c.folders, a.Dir, to)
	}
	if err != nil {
		return "", errors.Join(err, draft.Discard())
	}
	d, _, err := draft.Commit(ctx, digest.Digest(a.Known))
	if err == nil && a.Known == "" {
		err = c.hold(ctx, d.String())
	}
	return d.String(), err
}

// hold keeps a layer until the root does.
func (c *Cache) hold(ctx context.Context, diffID string) error {
	if diffID == "" {
		return nil
	}
	if c.lease == nil {
		var err error
		if c.lease, err = c.store.Lease(ctx, "build "+c.root, leaseTime); err != nil {
			return err
		}
	}
	return c.lease.Hold(ctx, digest.Digest(diffID))
}

// Commit implements lifecycle.Cache. Layers that nothing holds any more are removed.
func (c *Cache) Commit(ctx context.Context, md lifecycle.CacheMetadata) error {
	data, err := json.Marshal(metadata{metadataVersion, md})
	if err != nil {
		return err
	}
	var before []digest.Digest
	if r, err := c.store.Root(ctx, c.root); err == nil {
		before = r.Digests
	}
	var now []digest.Digest
	keep := func(sha string) {
		if d := digest.Digest(sha); sha != "" && !slices.Contains(now, d) {
			now = append(now, d)
		}
	}
	keep(md.SBOM.SHA)
	for _, bp := range md.Buildpacks {
		for _, l := range bp.Layers {
			keep(l.SHA)
		}
	}
	slices.Sort(now)
	if err := c.store.PutRoot(ctx, store.Root{Name: c.root, Digests: now, Data: data}); err != nil {
		return err
	}
	if c.lease != nil {
		if err := c.lease.Release(ctx); err != nil {
			return err
		}
		c.lease = nil
	}
	gone := slices.DeleteFunc(before, func(d digest.Digest) bool { return slices.Contains(now, d) })
	return c.store.ReleaseLayers(ctx, gone...)
}

// Forget drops all that the image keeps.
func (c *Cache) Forget(ctx context.Context) error {
	return c.Commit(ctx, lifecycle.CacheMetadata{})
}
