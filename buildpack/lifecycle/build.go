package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/weft-dev/weft/buildpack/env"
	"github.com/weft-dev/weft/buildpack/spec"
)

// Builder runs bin/build of a group.
type Builder struct {
	API      spec.PlatformAPI
	Folders  Folders
	Executor Executor
	Logger   Logger
	Environ  []string // of the lifecycle
	Target   spec.ImageTarget
	ExecEnv  string
	Output   io.Writer                    // what buildpacks print
	Begin    func(buildpack spec.Element) // called before each buildpack, may be nil
	Prepare  func(dir string) error       // called with the layers folder of each buildpack before it runs, may be nil
}

// outcome is what one buildpack left in its layers folder.
type outcome struct {
	met    []string
	launch spec.LaunchTOML
	build  spec.BuildTOML
	sboms  []sbomFile
}

// Build runs the buildpacks one after the other and writes <layers>/config/metadata.toml.
func (b *Builder) Build(ctx context.Context, group spec.Group, plan spec.Plan) (spec.BuildMetadata, error) {
	layers, err := os.OpenRoot(b.Folders.Layers.Host)
	if err != nil {
		return spec.BuildMetadata{}, err
	}
	defer layers.Close()
	if err := layers.RemoveAll("sbom"); err != nil {
		return spec.BuildMetadata{}, fmt.Errorf("cleaning layers SBOM directory: %w", err)
	}
	md := spec.BuildMetadata{Buildpacks: group.Group, Extensions: group.GroupExtensions}
	var launchBOM, buildBOM []spec.BOMEntry
	var sboms []sbomFile
	processes := map[string]spec.Process{}
	environ := env.ForBuild(b.Environ)
	for _, element := range group.Group {
		bp, err := b.Folders.Lookup(element.ID, element.Version)
		if err != nil {
			return md, err
		}
		if b.Begin != nil {
			b.Begin(element)
		}
		out, err := b.one(ctx, layers, bp, environ, plan.For(element.ID))
		if err != nil {
			return md, err
		}
		plan = plan.Without(out.met)
		sboms = append(sboms, out.sboms...)
		launchBOM = append(launchBOM, withBuildpack(element, out.launch.BOM)...)
		buildBOM = append(buildBOM, withBuildpack(element, out.build.BOM)...)
		md.Labels = append(md.Labels, out.launch.Labels...)
		md.Slices = append(md.Slices, out.launch.Slices...)
		b.addProcesses(&md, processes, out.launch.Processes)
	}
	md.Processes = []spec.Process{}
	for _, name := range slices.Sorted(maps.Keys(processes)) {
		p := processes[name]
		p.Default = false
		md.Processes = append(md.Processes, p.For(b.API))
	}
	if b.API.SBOM {
		if err := collectSBOMs(layers, sboms); err != nil {
			return md, err
		}
	}
	if b.API.LegacySBOMFiles {
		if err := writeJSON(layers, "sbom/launch/sbom.legacy.json", launchBOM); err != nil {
			return md, err
		}
		if err := writeJSON(layers, "sbom/build/sbom.legacy.json", buildBOM); err != nil {
			return md, err
		}
	} else {
		md.BOM = launchBOM
	}
	data, err := spec.Encode(md)
	if err != nil {
		return md, err
	}
	return md, writeFile(layers, "config/metadata.toml", data)
}

func withBuildpack(e spec.Element, bom []spec.BOMEntry) []spec.BOMEntry {
	var out []spec.BOMEntry
	for _, entry := range bom {
		entry.Buildpack = spec.Element{ID: e.ID, Version: e.Version, Optional: e.Optional}
		out = append(out, entry)
	}
	return out
}

// addProcesses lets later buildpacks redefine processes. Who redefines the default process without saying that it is one, unsets it.
func (b *Builder) addProcesses(md *spec.BuildMetadata, all map[string]spec.Process, list []spec.Process) {
	warning := ""
	for _, p := range list {
		switch {
		case p.Default:
			md.DefaultProcessType, warning = p.Type, ""
		case p.Type == md.DefaultProcessType && p.Type != "":
			md.DefaultProcessType = ""
			warning = "redefining the following default process type with a process not marked as default: " + p.Type
		}
		all[p.Type] = p
	}
	if warning != "" {
		b.Logger.Warnf("Warning: %s", warning)
	}
}

func (b *Builder) one(ctx context.Context, layers *os.Root, bp *Buildpack, environ *env.Env, asked []spec.Require) (outcome, error) {
	id := bp.Buildpack.ID
	dir := spec.EscapeID(id)
	if err := layers.MkdirAll(dir, 0o777); err != nil {
		return outcome{}, err
	}
	if b.Prepare != nil {
		if err := b.Prepare(path.Join(b.Folders.Layers.Host, dir)); err != nil {
			return outcome{}, err
		}
	}
	data, err := spec.Encode(spec.BuildpackPlan{Entries: asked})
	if err != nil {
		return outcome{}, err
	}
	planFile, err := b.Folders.newFile("plan.toml", data)
	if err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(path.Dir(planFile.Host))
	if err := b.run(ctx, bp, environ, planFile); err != nil {
		return outcome{}, err
	}
	contents, err := b.processLayers(layers, dir)
	if err != nil {
		return outcome{}, err
	}
	if err := b.joinLayers(layers, dir, contents, environ); err != nil {
		return outcome{}, err
	}
	return b.readOutcome(layers, dir, bp, asked, contents)
}

func (b *Builder) run(ctx context.Context, bp *Buildpack, environ *env.Env, planFile Folder) error {
	list, err := b.Folders.environment(environ, bp)
	if err != nil {
		return err
	}
	layersDir := b.Folders.Layers.Join(spec.EscapeID(bp.Buildpack.ID)).Inside
	list = append(list, "CNB_BUILDPACK_DIR="+bp.Dir.Inside)
	if bp.Behaviour.PathVariables {
		list = append(list, "CNB_PLATFORM_DIR="+b.Folders.Platform.Inside, "CNB_BP_PLAN_PATH="+planFile.Inside, "CNB_LAYERS_DIR="+layersDir)
	}
	list = append(list, targetVariables(bp.Behaviour, b.Target, b.ExecEnv)...)
	code, err := b.Executor.Run(ctx, Execution{
		Program: bp.Dir.Join("bin", "build").Inside, Args: []string{layersDir, b.Folders.Platform.Inside, planFile.Inside},
		Env: list, Dir: b.Folders.App.Inside, Output: b.Output,
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d", code)
	}
	if err != nil {
		return &Error{Kind: KindBuildFailed, Err: fmt.Errorf("bin/build of the buildpack %s@%s: %w", bp.Buildpack.ID, bp.Buildpack.Version, err)}
	}
	return nil
}

// reservedFiles are TOML files of a layers folder that are no layers.
var reservedFiles = map[string]bool{"build": true, "launch": true, "store": true}

// processLayers reads the layers that bin/build left. A layer that is wanted for nothing is put aside.
func (b *Builder) processLayers(layers *os.Root, dir string) (map[string]spec.LayerContent, error) {
	names, err := tomlFiles(layers, dir)
	if err != nil {
		return nil, err
	}
	out := map[string]spec.LayerContent{}
	for _, name := range names {
		file := path.Join(dir, name+".toml")
		data, err := readIn(layers, file)
		if err != nil {
			return nil, err
		}
		content, err := spec.ReadLayerContent(data, file)
		if err != nil {
			return nil, fmt.Errorf("failed to decode layer metadata file: %w", err)
		}
		if reservedFiles[name] {
			continue
		}
		if !content.Launch && !content.Cache && !content.Build {
			old, aside := path.Join(dir, name), path.Join(dir, name+".ignore")
			if err := layers.RemoveAll(aside); err != nil {
				return nil, err
			}
			if err := layers.Rename(old, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("failed to rename layer directory: %w", err)
			}
			delete(b.Folders.Below, old)
		}
		out[name] = content
	}
	return out, nil
}

// tomlFiles gives the names, without .toml, of the TOML files of a folder, sorted.
func tomlFiles(layers *os.Root, dir string) ([]string, error) {
	entries, err := fs.ReadDir(layers.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".toml"); ok && !e.IsDir() {
			names = append(names, name)
		}
	}
	return names, nil
}

// joinLayers adds the layers for building to the environment of the buildpacks that follow.
func (b *Builder) joinLayers(layers *os.Root, dir string, contents map[string]spec.LayerContent, environ *env.Env) error {
	files := b.Folders.tree(layers)
	defer files.Close()
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		if !contents[name].Build {
			continue
		}
		at := path.Join(dir, name)
		if err := environ.AddRoot(files, at, b.Folders.Layers.Join(at).Inside); err != nil {
			return err
		}
		for _, sub := range []string{"env", "env.build"} {
			if err := environ.AddFolder(files, path.Join(at, sub)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Builder) readOutcome(layers *os.Root, dir string, bp *Buildpack, asked []spec.Require, contents map[string]spec.LayerContent) (outcome, error) {
	var out outcome
	data, err := readIn(layers, path.Join(dir, "build.toml"))
	if err == nil {
		_, err = spec.Decode(data, path.Join(dir, "build.toml"), &out.build)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	if err := checkBOM(out.build.BOM); err != nil {
		return out, err
	}
	if out.met, err = metRequires(asked, out.build.Unmet); err != nil {
		return out, err
	}
	if out.sboms, err = findSBOMs(layers, dir, bp, contents); err != nil {
		return out, err
	}
	data, err = readIn(layers, path.Join(dir, "launch.toml"))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.launch, err = spec.ReadLaunchTOML(data, path.Join(dir, "launch.toml"), bp.Behaviour, bp.Buildpack.ID)
	if err != nil {
		return out, err
	}
	return out, checkBOM(out.launch.BOM)
}

func checkBOM(bom []spec.BOMEntry) error {
	for _, e := range bom {
		if e.Version != "" {
			return fmt.Errorf("bom entry '%s' has a top level version which is not allowed. The buildpack should instead set metadata.version", e.Name)
		}
	}
	return nil
}

func metRequires(asked []spec.Require, unmet []spec.Provide) ([]string, error) {
	missing := map[string]bool{}
	for _, u := range unmet {
		if u.Name == "" {
			return nil, errors.New("unmet.name is required")
		}
		if !slices.ContainsFunc(asked, func(r spec.Require) bool { return r.Name == u.Name }) {
			return nil, fmt.Errorf("unmet.name '%s' must match a requested dependency", u.Name)
		}
		missing[u.Name] = true
	}
	var met []string
	for _, r := range asked {
		if !missing[r.Name] {
			met = append(met, r.Name)
		}
	}
	return met, nil
}

// readIn reads a file of the layers folder; links that lead out of it are refused.
func readIn(layers *os.Root, name string) ([]byte, error) {
	f, err := openFile(layers, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, name)
}

// openFile opens a file that a buildpack has made. What is something else is refused: a pipe would let this process wait for ever.
func openFile(layers *os.Root, name string) (*os.File, error) {
	f, err := layers.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func writeFile(layers *os.Root, name string, data []byte) error {
	if err := layers.MkdirAll(path.Dir(name), 0o777); err != nil {
		return err
	}
	return layers.WriteFile(name, data, 0o666)
}

func writeJSON(layers *os.Root, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(layers, name, append(data, '\n'))
}
