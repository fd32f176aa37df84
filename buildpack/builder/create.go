package builder

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/weft-dev/weft/buildpack/buildpackage"
	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/spec"
)

// Parts are what a builder is made of.
type Parts struct {
	Config       Config
	BuildImage   v1.Image
	Modules      []buildpackage.Module
	LifecycleDir string            // folder with the programs of the lifecycle and maybe lifecycle.toml
	Labels       map[string]string // the user's
	Creator      Creator
}

// Create makes a builder image. The same parts give the same digest.
func Create(p Parts) (v1.Image, error) {
	uid, gid, err := users(p.BuildImage)
	if err != nil {
		return nil, err
	}
	config, err := p.BuildImage.ConfigFile()
	if err != nil {
		return nil, err
	}
	if id := p.Config.Stack.ID; id != "" && config.Config.Labels[spec.LabelStackID] != id {
		return nil, fmt.Errorf("stack.id is %s, but the build image %s has %q", id, p.Config.Build.Image, config.Config.Labels[spec.LabelStackID])
	}
	if err := buildpackage.CheckComplete(p.Modules); err != nil {
		return nil, err
	}
	if err := checkVersions(p.Config.Buildpacks, p.Modules); err != nil {
		return nil, err
	}
	order, err := resolveOrder(p.Config.Order, p.Modules)
	if err != nil {
		return nil, err
	}
	img, layers := p.BuildImage, buildpackage.Layers{}
	if _, err := buildpackage.ReadLabel(img, p.Config.Build.Image, buildpackage.LabelLayers, &layers); err != nil {
		return nil, err
	}
	a := &adder{img: img}
	a.add("folders", folders(layer.Owner{UID: uid, GID: gid}))
	lifecycle := a.lifecycle(p.LifecycleDir)
	if a.err == nil {
		a.img, a.err = buildpackage.AddModules(a.img, p.Modules, layers)
	}
	labels := map[string]any{buildpackage.LabelLayers: layers, LabelOrder: order}
	a.file("/cnb/order.toml", struct {
		Order spec.Order `toml:"order,omitempty"`
	}{order})
	if !p.Config.System.Empty() {
		system := System{}
		if system.Pre.Buildpacks, err = resolveGroup(p.Config.System.Pre.Buildpacks, p.Modules); err != nil {
			return nil, fmt.Errorf("system.pre: %w", err)
		}
		if system.Post.Buildpacks, err = resolveGroup(p.Config.System.Post.Buildpacks, p.Modules); err != nil {
			return nil, fmt.Errorf("system.post: %w", err)
		}
		labels[LabelSystem] = system
		a.file("/cnb/system.toml", struct {
			System System `toml:"system"`
		}{system})
	}
	stack := spec.StackRef{RunImage: p.Config.Run.Images[0]}
	a.file("/cnb/stack.toml", stack)
	a.file("/cnb/run.toml", p.Config.Run)
	variables, _, err := p.Config.buildConfig()
	if err != nil {
		return nil, err
	}
	if len(variables) > 0 {
		a.add("variables", files("/cnb/build-config/env/", variables))
	}
	if a.err != nil {
		return nil, a.err
	}
	md := Metadata{Description: p.Config.Description, Buildpacks: []spec.Info{}, Extensions: []spec.Info{}, Stack: stack, Lifecycle: lifecycle,
		CreatedBy: p.Creator, RunImages: p.Config.Run.Images}
	modules := slices.Clone(p.Modules)
	buildpackage.SortModules(modules)
	for _, m := range modules {
		md.Buildpacks = append(md.Buildpacks, m.Buildpack)
	}
	labels[LabelMetadata] = md
	for name, value := range p.Labels {
		labels[name] = value
	}
	img, err = buildpackage.Labels(a.img, labels)
	if err != nil {
		return nil, err
	}
	if config, err = img.ConfigFile(); err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Config.WorkingDir, config.Created = "/layers", v1.Time{Time: layer.ModTime}
	return mutate.ConfigFile(img, config)
}

// checkVersions compares what builder.toml says of a buildpack with what was found.
func checkVersions(wanted []Module, modules []buildpackage.Module) error {
	for _, w := range wanted {
		if w.ID == "" {
			continue
		}
		if !slices.ContainsFunc(modules, func(m buildpackage.Module) bool {
			return m.Buildpack.ID == w.ID && (w.Version == "" || m.Buildpack.Version == w.Version)
		}) {
			return fmt.Errorf("buildpacks: %s has no buildpack %s@%s", w.Locator(), w.ID, w.Version)
		}
	}
	return nil
}

// adder adds layers to an image until one fails.
type adder struct {
	img v1.Image
	err error
}

func (a *adder) add(what string, content layer.Content) {
	if a.err != nil {
		return
	}
	blob, err := buildpackage.LayerOf(content)
	if err != nil {
		a.err = fmt.Errorf("the layer of %s: %w", what, err)
		return
	}
	a.img, a.err = mutate.Append(a.img, mutate.Addendum{Layer: blob, History: v1.History{CreatedBy: "Builder: " + what, Created: v1.Time{Time: layer.ModTime}}})
}

// file adds a layer with one TOML file.
func (a *adder) file(name string, v any) {
	if a.err != nil {
		return
	}
	data, err := spec.Encode(v)
	if err != nil {
		a.err = err
		return
	}
	a.add(path.Base(name), files("", map[string]string{name: string(data)}))
}

func files(prefix string, contents map[string]string) layer.Content {
	return func(w io.Writer) error {
		lw := layer.NewWriter(w)
		for _, name := range slices.Sorted(maps.Keys(contents)) {
			text := contents[name]
			if err := lw.File(prefix+name, 0o644, layer.Owner{}, int64(len(text)), strings.NewReader(text)); err != nil {
				return err
			}
		}
		return lw.Close()
	}
}

func folders(user layer.Owner) layer.Content {
	return func(w io.Writer) error {
		lw := layer.NewWriter(w)
		for _, dir := range []string{"/workspace", "/layers"} {
			if err := lw.Folder(layer.Parent{Path: dir, Mode: 0o755, Owner: user}); err != nil {
				return err
			}
		}
		for _, dir := range []string{"/cnb", "/cnb/buildpacks", "/cnb/extensions", "/platform", "/platform/env", "/cnb/build-config", "/cnb/build-config/env"} {
			if err := lw.Folder(layer.Parent{Path: dir, Mode: 0o755}); err != nil {
				return err
			}
		}
		return lw.Close()
	}
}

// phases are the names under which the lifecycle's programs are called.
var phases = []string{"analyzer", "builder", "creator", "detector", "exporter", "rebaser", "restorer"}

// lifecycle adds the programs of a lifecycle: those of a released archive, or weft's own, of which each phase is a link.
func (a *adder) lifecycle(dir string) Lifecycle {
	var info Lifecycle
	entries, err := os.ReadDir(dir)
	if err != nil {
		a.err = fmt.Errorf("the lifecycle: %w", err)
		return info
	}
	contents := map[string][]byte{}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			a.err = err
			return info
		}
		contents[e.Name()] = data
	}
	if info, err = describe(contents["lifecycle.toml"]); err != nil {
		a.err = err
		return info
	}
	if contents["lifecycle"] == nil || contents["launcher"] == nil {
		a.err = fmt.Errorf("%w (looked in %s for lifecycle and launcher)", errNoLifecycle, dir)
		return info
	}
	a.add("lifecycle", func(w io.Writer) error {
		lw := layer.NewWriter(w)
		if err := lw.Folder(layer.Parent{Path: "/cnb/lifecycle", Mode: 0o755}); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(contents)) {
			mode := fs.FileMode(0o755)
			if path.Ext(name) != "" {
				mode = 0o644
			}
			if err := lw.File("/cnb/lifecycle/"+name, mode, layer.Owner{}, int64(len(contents[name])), bytes.NewReader(contents[name])); err != nil {
				return err
			}
		}
		for _, phase := range phases {
			if contents[phase] == nil {
				if err := lw.Link("/cnb/lifecycle/"+phase, "lifecycle", layer.Owner{}); err != nil {
					return err
				}
			}
		}
		if err := lw.Link("/lifecycle", "/cnb/lifecycle", layer.Owner{}); err != nil {
			return err
		}
		return lw.Close()
	})
	return info
}

// describe reads lifecycle.toml; without one it describes weft's own lifecycle.
func describe(data []byte) (Lifecycle, error) {
	if data == nil {
		return ownLifecycle(), nil
	}
	var file struct {
		Lifecycle struct {
			Version string `toml:"version"`
		} `toml:"lifecycle"`
	}
	var info Lifecycle
	_, err := spec.Decode(data, "lifecycle.toml", &file)
	if err == nil {
		_, err = spec.Decode(data, "lifecycle.toml", &info)
	}
	info.Version = file.Lifecycle.Version
	return info, err
}

// OwnVersion is the version of upstream's lifecycle that weft's own is compared with.
const OwnVersion = "0.21.0"

func ownLifecycle() Lifecycle {
	info := Lifecycle{Version: OwnVersion}
	info.API.Buildpack, info.API.Platform = spec.OldestBuildpack.String(), spec.OldestPlatform.String()
	info.APIs.Buildpack = APIs{Deprecated: []string{}, Supported: between(spec.OldestBuildpack, spec.NewestBuildpack)}
	info.APIs.Platform = APIs{Deprecated: []string{}, Supported: between(spec.OldestPlatform, spec.NewestPlatform)}
	return info
}

func between(oldest, newest spec.API) []string {
	var out []string
	for a := oldest; newest.AtLeast(a); a.Minor++ {
		out = append(out, a.String())
	}
	return out
}
