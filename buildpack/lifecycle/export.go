package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/buildpack/target"
)

// What the history of an image says about its layers (lifecycle layers/factory.go).
const (
	createdByApp         = "Application Layer"
	createdByBuildpack   = "Layer: '%s', Created by buildpack: %s"
	createdByConfig      = "Buildpacks Launcher Config"
	createdByLauncher    = "Buildpacks Application Launcher"
	createdByProcess     = "Buildpacks Process Types"
	createdBySBOM        = "Software Bill-of-Materials"
	createdBySlice       = "Application Slice: %d"
	lifecycleDir         = "/cnb/lifecycle"
	processDir           = "/cnb/process"
	launcherPath         = lifecycleDir + "/launcher"
	maxParallelLayers    = 4
	launcherConfigFolder = "config"
)

// Exporter makes the image of a build.
type Exporter struct {
	API         spec.PlatformAPI
	Folders     Folders
	Logger      Logger
	Target      target.Target
	Names       []string // of the image; the first is the one that counts
	Compression layer.Compression
	Owner       layer.Owner // of layers and application in the image

	RunImage     v1.Image
	RunImageRef  string            // with digest
	RunImageName spec.RunImageName // as users write it, for rebase
	Previous     v1.Image          // nil if there is none
	Original     spec.LayersMetadata

	Launcher       string // path of the launcher program
	LauncherSBOM   string // folder with SBOMs of lifecycle and launcher, "" if there are none
	LauncherSource spec.LauncherSource
	DefaultProcess string // chosen by the user, may be ""
	Project        spec.ProjectMetadata
	ExecEnv        string
	Created        int64 // seconds since 1970 of the image; 0 keeps layer.ModTime

	// Unchanged says that a layer ("ID/NAME") is known to have what the previous image has under that name: it is not read then.
	// May be nil. Of layers in Folders.Below it is found out.
	Unchanged func(key string) bool

	mu       sync.Mutex
	measured map[string]string // diffIDs of the layers of the last Export, by their name ID:NAME
}

// Exported is what came of an export.
type Exported struct {
	Digest   v1.Hash
	Report   spec.Report
	Metadata spec.LayersMetadata
	Added    int   // layers that the target did not have under the previous image
	Reused   int   // layers of the previous image
	Bytes    int64 // compressed, of the added layers
}

// part is one layer of the image to be.
type part struct {
	id        string
	createdBy string
	content   layer.Content
	previous  []string // diffIDs that make the layer one of the previous image
	reuse     string   // diffID of the previous image, taken without looking
	set       func(sha string)

	blob   layer.Blob
	reused bool
}

// Export makes the layers, the configuration and the manifest, and publishes them under all names.
func (e *Exporter) Export(ctx context.Context, group spec.Group, build spec.BuildMetadata) (Exported, error) {
	layers, err := os.OpenRoot(e.Folders.Layers.Host)
	if err != nil {
		return Exported{}, err
	}
	defer layers.Close()
	app, err := os.OpenRoot(e.Folders.App.Host)
	if err != nil {
		return Exported{}, err
	}
	defer app.Close()
	for i := range build.Processes {
		build.Processes[i] = build.Processes[i].For(e.API)
	}
	if e.API.LifecycleSBOM && e.LauncherSBOM != "" {
		if err := e.addOwnSBOMs(layers); err != nil {
			return Exported{}, fmt.Errorf("failed to copy buildpacksio SBOMs: %w", err)
		}
	}
	entrypoint, err := e.entrypoint(build)
	if err != nil {
		return Exported{}, fmt.Errorf("determining entrypoint: %w", err)
	}
	var md spec.LayersMetadata
	parts, err := e.parts(layers, app.FS().(layer.Tree), group, build, &md)
	if err != nil {
		return Exported{}, err
	}
	previous, err := blobsOf(e.Previous)
	if err != nil {
		return Exported{}, fmt.Errorf("read the previous image: %w", err)
	}
	if err := e.transfer(ctx, parts, previous); err != nil {
		return Exported{}, err
	}
	out := Exported{}
	measured := map[string]string{}
	for _, p := range parts {
		if p.content != nil {
			measured[p.id] = p.blob.DiffID.String()
		}
		if p.set != nil {
			p.set(p.blob.DiffID.String())
		}
		if p.reused {
			out.Reused++
		} else {
			out.Added++
			out.Bytes += p.blob.Size
		}
	}
	e.mu.Lock()
	e.measured = measured
	e.mu.Unlock()
	if err := e.runImageMetadata(&md); err != nil {
		return Exported{}, err
	}
	out.Metadata = md
	image, err := e.image(parts, md, build, entrypoint)
	if err != nil {
		return Exported{}, err
	}
	e.Logger.Infof("Saving %s...", e.Names[0])
	out.Digest, err = e.Target.Publish(ctx, image.config, image.manifest, image.mediaType, e.Names)
	if err != nil {
		return Exported{}, err
	}
	e.Logger.Infof("*** Images (%s):", out.Digest)
	for _, n := range e.Names {
		e.Logger.Infof("      %s", n)
	}
	out.Report.Image = spec.ImageReport{Tags: e.Names, Digest: out.Digest.String(), ManifestSize: int64(len(image.manifest))}
	if !e.API.LegacySBOMFiles {
		if out.Report.Build.BOM, err = buildReport(layers, group); err != nil {
			return Exported{}, err
		}
	}
	return out, nil
}

// parts lists the layers above the run image in their order.
func (e *Exporter) parts(layers *os.Root, app layer.Tree, group spec.Group, build spec.BuildMetadata, md *spec.LayersMetadata) ([]*part, error) {
	parts, err := e.buildpackParts(layers, group, md)
	if err != nil {
		return nil, err
	}
	if e.API.SBOM {
		if _, err := layers.Stat("sbom/launch"); err == nil {
			md.SBOM = &spec.LayerRef{}
			var before []string
			if e.Original.SBOM != nil {
				before = []string{e.Original.SBOM.SHA}
			}
			parts = append(parts, &part{id: "buildpacksio/lifecycle:launch.sbom", createdBy: createdBySBOM,
				content:  e.layersFolder(layers, "sbom/launch"),
				previous: before, set: func(sha string) { md.SBOM.SHA = sha }})
		}
	}
	slices, err := e.appParts(app, build.Slices, md)
	if err != nil {
		return nil, fmt.Errorf("exporting app layers: %w", err)
	}
	parts = append(parts, slices...)
	parts = append(parts,
		&part{id: "buildpacksio/lifecycle:launcher", createdBy: createdByLauncher, content: e.launcherLayer,
			previous: []string{e.Original.Launcher.SHA}, set: func(sha string) { md.Launcher.SHA = sha }},
		&part{id: "buildpacksio/lifecycle:config", createdBy: createdByConfig, content: e.layersFolder(layers, launcherConfigFolder),
			previous: []string{e.Original.Config.SHA}, set: func(sha string) { md.Config.SHA = sha }})
	if len(build.Processes) > 0 {
		for _, p := range build.Processes {
			if err := spec.CheckProcessType(p.Type); err != nil {
				return nil, err
			}
		}
		parts = append(parts, &part{id: "buildpacksio/lifecycle:process-types", createdBy: createdByProcess, content: processLinks(build.Processes),
			previous: []string{e.Original.ProcessTypes.SHA}, set: func(sha string) { md.ProcessTypes.SHA = sha }})
	}
	return parts, nil
}

func (e *Exporter) buildpackParts(layers *os.Root, group spec.Group, md *spec.LayersMetadata) ([]*part, error) {
	var parts []*part
	for _, bp := range group.Group {
		dir := spec.EscapeID(bp.ID)
		of := spec.BuildpackLayers{ID: bp.ID, Version: bp.Version, Layers: map[string]spec.LayerMetadata{}}
		names, store, err := readBuildpackDir(layers, dir)
		if err != nil {
			return nil, fmt.Errorf("reading layers for buildpack '%s': %w", bp.ID, err)
		}
		of.Store = store
		for _, name := range names {
			p, lmd, err := e.buildpackPart(layers, bp, dir, name)
			if err != nil {
				return nil, err
			}
			if p == nil {
				continue
			}
			of.Layers[name] = lmd
			p.set = func(sha string) {
				l := of.Layers[name]
				l.SHA = sha
				of.Layers[name] = l
			}
			parts = append(parts, p)
		}
		md.Buildpacks = append(md.Buildpacks, of)
	}
	return parts, nil
}

// buildpackPart gives the part of one layer, nil if the layer is not for launch.
func (e *Exporter) buildpackPart(layers *os.Root, bp spec.Element, dir, name string) (*part, spec.LayerMetadata, error) {
	file := path.Join(dir, name+".toml")
	data, err := readIn(layers, file)
	if err != nil {
		return nil, spec.LayerMetadata{}, err
	}
	content, err := spec.ReadLayerContent(data, file)
	if err != nil {
		return nil, spec.LayerMetadata{}, fmt.Errorf("failed to parse metadata for layers '[%s:%s]': %w", bp.ID, name, err)
	}
	if !content.Launch {
		return nil, spec.LayerMetadata{}, nil
	}
	id := bp.ID + ":" + name
	lmd := spec.LayerMetadata{Data: content.Data, Build: content.Build, Launch: content.Launch, Cache: content.Cache}
	p := &part{id: id, createdBy: fmt.Sprintf(createdByBuildpack, name, bp.String())}
	original, known := e.Original.For(bp.ID).Layers[name]
	files := e.Folders.tree(layers)
	defer files.Close()
	info, err := files.Lstat(path.Join(dir, name))
	switch {
	case err == nil && !info.IsDir():
		return nil, lmd, fmt.Errorf("the layer '%s' is not a folder", id)
	case err == nil:
		p.content = e.layersFolder(layers, path.Join(dir, name))
		if !known {
			break
		}
		p.previous = []string{original.SHA}
		same, err := e.unchanged(files, path.Join(dir, name))
		if err != nil {
			return nil, lmd, err
		}
		if same {
			p.reuse = original.SHA
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, lmd, err
	case content.Cache:
		return nil, lmd, fmt.Errorf("layer '%s' is cache=true but has no contents", id)
	case !known:
		return nil, lmd, fmt.Errorf("cannot reuse '%s', previous image has no metadata for layer '%s'", id, id)
	default:
		p.reuse = original.SHA
	}
	return p, lmd, nil
}

// unchanged says whether a layer that the previous image has is known to be as it is there: it came back by mounting, which happens
// only with what that image has, and nobody has written to it.
func (e *Exporter) unchanged(files *overlaid, key string) (bool, error) {
	if e.Folders.Below[key] != "" {
		touched, err := files.touched(key)
		return !touched, err
	}
	return e.Unchanged != nil && e.Unchanged(key), nil
}

// readBuildpackDir gives the names of the layers that have a TOML file, and store.toml.
func readBuildpackDir(layers *os.Root, dir string) ([]string, *spec.Store, error) {
	files, err := tomlFiles(layers, dir)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	var store *spec.Store
	for _, name := range files {
		if name == "store" {
			data, err := readIn(layers, path.Join(dir, "store.toml"))
			if err != nil {
				return nil, nil, err
			}
			store = &spec.Store{}
			if _, err := spec.Decode(data, path.Join(dir, "store.toml"), store); err != nil {
				return nil, nil, err
			}
		}
		if !reservedFiles[name] {
			names = append(names, name)
		}
	}
	return names, store, nil
}

func (e *Exporter) appParts(app layer.Tree, list []spec.Slice, md *spec.LayersMetadata) ([]*part, error) {
	groups, err := sliced(app, list)
	if err != nil {
		return nil, err
	}
	var before []string
	for _, l := range e.Original.App {
		before = append(before, l.SHA)
	}
	md.App = make([]spec.LayerRef, len(groups))
	var parts []*part
	for i, files := range groups {
		createdBy := fmt.Sprintf(createdBySlice, i+1)
		if len(groups) == 1 {
			createdBy = createdByApp
		}
		parts = append(parts, &part{id: fmt.Sprintf("slice-%d", i+1), createdBy: createdBy, previous: before,
			content: e.appFiles(app, files), set: func(sha string) { md.App[i].SHA = sha }})
	}
	return parts, nil
}

func (e *Exporter) entrypoint(build spec.BuildMetadata) (string, error) {
	chosen := e.DefaultProcess
	if chosen == "" {
		chosen = build.DefaultProcessType
	}
	if chosen == "" {
		e.Logger.Infof("no default process type")
		return launcherPath, nil
	}
	if e.DefaultProcess != "" && !slices.ContainsFunc(build.Processes, func(p spec.Process) bool { return p.Type == chosen }) {
		return "", fmt.Errorf("tried to set %s to default but it doesn't exist", chosen)
	}
	e.Logger.Infof("Setting default process type '%s'", chosen)
	return path.Join(processDir, chosen), nil
}

// buildReport collects the older bill of materials of build.toml files.
func buildReport(layers *os.Root, group spec.Group) ([]spec.BOMEntry, error) {
	var out []spec.BOMEntry
	for _, bp := range group.Group {
		file := path.Join(spec.EscapeID(bp.ID), "build.toml")
		data, err := readIn(layers, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var b spec.BuildReport
		if _, err := spec.Decode(data, file, &b); err != nil {
			return nil, err
		}
		out = append(out, withBuildpack(bp, b.BOM)...)
	}
	return out, nil
}
