package lifecycle

import (
	"context"
	"fmt"
	"os"
	"path"

	"github.com/weft-dev/weft/buildpack/spec"
)

// WriteCache puts the layers for building again into the cache.
func (e *Exporter) WriteCache(ctx context.Context, cache Cache, group spec.Group) error {
	layers, err := os.OpenRoot(e.Folders.Layers.Host)
	if err != nil {
		return err
	}
	defer layers.Close()
	files := e.Folders.tree(layers)
	defer files.Close()
	before, err := cache.Metadata(ctx)
	if err != nil {
		return fmt.Errorf("metadata for previous cache: %w", err)
	}
	e.mu.Lock()
	measured := e.measured // nil beside an export
	e.mu.Unlock()
	var md CacheMetadata
	for _, bp := range group.Group {
		of := spec.BuildpackLayers{ID: bp.ID, Version: bp.Version, Layers: map[string]spec.LayerMetadata{}}
		dir := spec.EscapeID(bp.ID)
		names, _, err := readBuildpackDir(layers, dir)
		if err != nil {
			return fmt.Errorf("reading layers for buildpack '%s': %w", bp.ID, err)
		}
		for _, name := range names {
			data, err := readIn(layers, path.Join(dir, name+".toml"))
			if err != nil {
				return err
			}
			content, err := spec.ReadLayerContent(data, path.Join(dir, name+".toml"))
			if err != nil || !content.Cache {
				continue
			}
			id := bp.ID + ":" + name
			key := path.Join(dir, name)
			if info, err := files.Lstat(key); err != nil || !info.IsDir() {
				e.Logger.Warnf("Failed to cache layer '%s' because it has no contents", id)
				continue
			}
			a := Addition{Dir: key, Content: e.layersFolder(layers, key), Before: before.For(bp.ID).Layers[name].SHA, Known: measured[id]}
			if a.Same, err = e.unchanged(files, key); err != nil {
				return err
			}
			sha, err := cache.Add(ctx, a)
			if err != nil {
				e.Logger.Warnf("Failed to cache layer '%s': %s", id, err)
				continue
			}
			e.Logger.Infof("Adding cache layer '%s'", id)
			of.Layers[name] = spec.LayerMetadata{SHA: sha, Data: content.Data, Build: content.Build, Launch: content.Launch, Cache: true}
		}
		md.Buildpacks = append(md.Buildpacks, of)
	}
	if e.API.SBOM {
		if _, err := layers.Stat("sbom/cache"); err == nil {
			a := Addition{Dir: "sbom/cache", Content: e.layersFolder(layers, "sbom/cache"), Before: before.SBOM.SHA}
			if md.SBOM.SHA, err = cache.Add(ctx, a); err != nil {
				return err
			}
		}
	}
	return cache.Commit(ctx, md)
}
