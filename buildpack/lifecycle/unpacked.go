package lifecycle

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/weft-dev/weft/store"
)

// A volume cache has, beside the tars that every lifecycle understands, a content store with those that were mounted:
//
//	unpacked/                layers by diffID (package store); the root "cache" holds those of the last commit

const unpackedRoot = "cache"

// unpacked opens the store of unpacked layers.
func (c *VolumeCache) unpacked() (*store.Store, error) {
	if c.store != nil {
		return c.store, nil
	}
	var err error
	c.store, err = store.Open(c.at("unpacked"))
	return c.store, err
}

// Unpacked implements Unpacker. A layer that has not been unpacked yet, or that was changed since, is unpacked from its tar, which
// is verified on the way.
func (c *VolumeCache) Unpacked(ctx context.Context, diffID string) (string, error) {
	name, err := layerFile(diffID)
	if err != nil {
		return "", err
	}
	s, err := c.unpacked()
	if err != nil {
		return "", err
	}
	dir, err := s.Layer(ctx, digest.Digest(diffID))
	if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, store.ErrDigest) {
		return dir, err
	}
	return c.unpack(ctx, s, c.at("committed", name), diffID)
}

func (c *VolumeCache) unpack(ctx context.Context, s *store.Store, tar, diffID string) (string, error) {
	f, err := os.Open(tar)
	if err != nil {
		return "", missingLayer(diffID, err)
	}
	v := &verifyingReader{f, sha256.New(), diffID}
	defer v.Close()
	draft, err := s.NewLayer(ctx)
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(draft.Dir())
	if err == nil {
		err = ExtractLayer(v, root, "")
		root.Close()
	}
	if err != nil {
		return "", errors.Join(err, draft.Discard())
	}
	_, dir, err := draft.Commit(ctx, digest.Digest(diffID))
	return dir, err
}

// keepUnpacked lets go of unpacked layers that the cache does not have any more.
func (c *VolumeCache) keepUnpacked(ctx context.Context, md CacheMetadata) error {
	if _, err := os.Stat(c.at("unpacked")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, err := c.unpacked()
	if err != nil {
		return err
	}
	var now []digest.Digest
	for _, bp := range md.Buildpacks {
		for _, l := range bp.Layers {
			now = append(now, digest.Digest(l.SHA))
		}
	}
	if md.SBOM.SHA != "" {
		now = append(now, digest.Digest(md.SBOM.SHA))
	}
	slices.Sort(now)
	now = slices.Compact(now)
	before, err := s.Root(ctx, unpackedRoot)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && slices.Equal(before.Digests, now) {
		return nil
	}
	if err := s.PutRoot(ctx, store.Root{Name: unpackedRoot, Digests: now}); err != nil {
		return err
	}
	_, err = s.Collect(ctx, store.Policy{})
	return err
}

// TakeFrom tells the cache that the layers folder is not needed after the build: new layers are moved out of it, so that the next
// build can mount them at once. Where they cannot be moved they are unpacked when they are mounted for the first time. The
// zero Folder takes that back.
func (c *VolumeCache) TakeFrom(layers Folder) { c.from = layers }

// take moves a layer, whose tar has been written, out of the layers folder.
func (c *VolumeCache) take(ctx context.Context, dir, diffID string) error {
	s, err := c.unpacked()
	if err != nil {
		return err
	}
	if _, err = s.Layer(ctx, digest.Digest(diffID)); err == nil {
		return nil
	}
	draft, err := s.NewLayer(ctx)
	if err != nil {
		return err
	}
	to := filepath.Join(draft.Dir(), filepath.FromSlash(c.from.Inside), filepath.FromSlash(dir))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return errors.Join(err, draft.Discard())
	}
	if err := os.Rename(filepath.Join(c.from.Host, filepath.FromSlash(dir)), to); err != nil {
		return draft.Discard() // on another file system, or itself mounted
	}
	_, _, err = draft.Commit(ctx, digest.Digest(diffID))
	return err
}
