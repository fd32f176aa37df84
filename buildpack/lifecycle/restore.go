package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/spec"
)

// Restorer brings back what earlier builds left: metadata from image and cache, content from the cache only.
type Restorer struct {
	API       spec.PlatformAPI
	Folders   Folders
	Logger    Logger
	Original  spec.LayersMetadata // of the previous image
	Cache     Cache               // nil: none
	SkipLayer bool                // restore store.toml only

	// Mount makes the folders visible below the layers folder of a buildpack (its name there), for a process that has mounts of its
	// own. Where that fails, layers are copied. Nil: programs get them otherwise, if Folders.Below is not nil.
	Mount func(dir string, lower []string) error
}

// Restore prepares the layers folder for bin/build (buildpack.md, "Layer Types", tells what comes back).
func (r *Restorer) Restore(ctx context.Context, group spec.Group) error {
	layers, err := os.OpenRoot(r.Folders.Layers.Host)
	if err != nil {
		return err
	}
	defer layers.Close()
	var cached CacheMetadata
	if r.Cache != nil {
		if cached, err = r.Cache.Metadata(ctx); err != nil {
			return fmt.Errorf("retrieving cache metadata: %w", err)
		}
	}
	for _, bp := range group.Group {
		if store := r.Original.For(bp.ID).Store; store != nil {
			data, err := spec.Encode(store)
			if err != nil {
				return err
			}
			if err := writeFile(layers, path.Join(spec.EscapeID(bp.ID), "store.toml"), data); err != nil {
				return err
			}
		}
		if r.SkipLayer {
			continue
		}
		if err := r.buildpack(ctx, layers, bp, cached); err != nil {
			return err
		}
	}
	if r.SkipLayer {
		r.Logger.Infof("Skipping buildpack layer analysis")
		return nil
	}
	if !r.API.SBOM {
		return nil
	}
	if cached.SBOM.SHA != "" {
		r.Logger.Infof("Restoring data for SBOM from cache")
		err := r.sboms(ctx, layers, cached.SBOM.SHA)
		if errors.Is(err, ErrCacheLayer) {
			r.Logger.Warnf("Skipping restore for the SBOMs of cached layers: %s", err)
			err = layers.RemoveAll("sbom/cache")
		}
		if err != nil {
			return err
		}
	}
	return r.spreadSBOMs(layers, group)
}

// buildpack restores the layers of one buildpack.
func (r *Restorer) buildpack(ctx context.Context, layers *os.Root, bp spec.Element, cached CacheMetadata) error {
	inImage, inCache := r.Original.For(bp.ID).Layers, cached.For(bp.ID).Layers
	restored := map[string]spec.LayerMetadata{}
	for name, l := range inImage {
		switch c, ok := inCache[name]; {
		case !l.Launch:
		case l.Build && !l.Cache: // the buildpack has to make it again
		case l.Cache && (!ok || !c.Cache): // its content is gone
		default:
			r.Logger.Infof("Restoring metadata for %q from app image", bp.ID+":"+name)
			restored[name] = l
		}
	}
	for name, l := range inCache {
		_, known := inImage[name]
		if !l.Cache || l.Launch && (known || !r.API.RestoreFromCache) {
			continue
		}
		r.Logger.Infof("Restoring metadata for %q from cache", bp.ID+":"+name)
		restored[name] = l
	}
	dir := spec.EscapeID(bp.ID)
	for name, l := range restored {
		if strings.ContainsAny(name, "/\x00") || name == "." || name == ".." || reservedFiles[name] {
			return fmt.Errorf("the layer name %q of the previous image or cache is not allowed", name)
		}
		data, err := spec.EncodeLayerContent(l.Data)
		if err != nil {
			return err
		}
		if err := writeFile(layers, path.Join(dir, name+".toml"), data); err != nil {
			return err
		}
	}
	for name, c := range inCache {
		l, ok := restored[name]
		switch {
		case !ok || !c.Cache:
			continue
		case l.SHA != c.SHA:
			r.Logger.Infof("Removing %q, wrong sha", bp.ID+":"+name)
			if err := errors.Join(layers.RemoveAll(path.Join(dir, name)), layers.Remove(path.Join(dir, name+".toml"))); err != nil {
				return err
			}
			continue
		}
		r.Logger.Infof("Restoring data for %q from cache", bp.ID+":"+name)
		err := r.content(ctx, layers, path.Join(dir, name), c.SHA)
		if errors.Is(err, ErrCacheLayer) {
			// Without its content the buildpack must not find its metadata either, or it would take the layer for complete.
			r.Logger.Warnf("Skipping restore for layer %s: %s", bp.ID+":"+name, err)
			if err := errors.Join(layers.RemoveAll(path.Join(dir, name)), layers.Remove(path.Join(dir, name+".toml"))); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("restoring layer %s: %w", bp.ID+":"+name, err)
		}
	}
	return r.mount(ctx, layers, dir, restored)
}

// mount shows the layers of a buildpack that lie below, or copies them after all.
func (r *Restorer) mount(ctx context.Context, layers *os.Root, dir string, restored map[string]spec.LayerMetadata) error {
	if r.Mount == nil || r.Folders.Below == nil {
		return nil
	}
	of := Below{}
	for name := range restored {
		if below := r.Folders.Below[path.Join(dir, name)]; below != "" {
			of[path.Join(dir, name)] = filepath.Join(below, dir)
		}
	}
	if len(of) == 0 {
		return nil
	}
	err := r.Mount(dir, of.Lower())
	if err == nil {
		return nil
	}
	r.Logger.Debugf("Layers of %s are copied, for they cannot be mounted: %v", dir, err)
	for key := range of {
		delete(r.Folders.Below, key)
		if err := r.extract(ctx, layers, restored[path.Base(key)].SHA); err != nil {
			return fmt.Errorf("restoring layer %s: %w", key, err)
		}
	}
	return nil
}

// content brings back the files of a layer: by mounting where that is possible.
func (r *Restorer) content(ctx context.Context, layers *os.Root, key, sha string) error {
	if err := layers.RemoveAll(key); err != nil { // of a build that was killed
		return err
	}
	from, ok := r.Cache.(Unpacker)
	if !ok || r.Folders.Below == nil {
		return r.extract(ctx, layers, sha)
	}
	dir, err := from.Unpacked(ctx, sha)
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, filepath.FromSlash(r.Folders.Layers.Inside))
	if info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(key))); err != nil || !info.IsDir() {
		return fmt.Errorf("%w: layer %s has no folder %s", ErrCacheLayer, sha, key)
	}
	r.Folders.Below[key] = dir
	return nil
}

// sboms brings back the SBOMs of cached layers.
func (r *Restorer) sboms(ctx context.Context, layers *os.Root, sha string) error {
	from, ok := r.Cache.(Unpacker)
	if !ok || r.Folders.Below == nil {
		return r.extract(ctx, layers, sha)
	}
	dir, err := from.Unpacked(ctx, sha)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Join(dir, filepath.FromSlash(r.Folders.Layers.Inside)))
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), "sbom", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := readIn(root, name)
		if err != nil {
			return err
		}
		return writeFile(layers, name, data)
	})
}

func (r *Restorer) extract(ctx context.Context, layers *os.Root, sha string) error {
	rc, err := r.Cache.Layer(ctx, sha)
	if err != nil {
		return err
	}
	defer rc.Close()
	return ExtractLayer(rc, layers, r.Folders.Layers.Inside)
}

// RestoreSBOM brings back the SBOM layer of the previous image, for analyze.
func RestoreSBOM(previous v1.Image, md spec.LayersMetadata, layersFolder Folder) error {
	if previous == nil || md.SBOM == nil || md.SBOM.SHA == "" {
		return nil
	}
	hash, err := v1.NewHash(md.SBOM.SHA)
	if err != nil {
		return err
	}
	l, err := previous.LayerByDiffID(hash)
	if err != nil {
		return fmt.Errorf("retrieving launch SBOM layer: %w", err)
	}
	rc, err := l.Uncompressed()
	if err != nil {
		return fmt.Errorf("retrieving launch SBOM layer: %w", err)
	}
	defer rc.Close()
	layers, err := os.OpenRoot(layersFolder.Host)
	if err != nil {
		return err
	}
	defer layers.Close()
	return ExtractLayer(rc, layers, layersFolder.Inside)
}

// spreadSBOMs moves restored SBOMs beside the layers that they describe, for buildpacks to reuse.
func (r *Restorer) spreadSBOMs(layers *os.Root, group spec.Group) error {
	for _, kind := range []string{"cache", "launch"} {
		for _, bp := range group.Group {
			dir := spec.EscapeID(bp.ID)
			from := path.Join("sbom", kind, dir)
			if _, err := layers.Stat(dir); err != nil {
				continue
			}
			names, err := fs.ReadDir(layers.FS(), from)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			for _, n := range names {
				if !n.IsDir() {
					continue
				}
				for suffix := range sbomTypes {
					err := copyWithin(layers, path.Join(from, n.Name(), suffix), path.Join(dir, n.Name()+"."+suffix))
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						return err
					}
				}
			}
		}
	}
	return layers.RemoveAll("sbom")
}
