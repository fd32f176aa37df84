// Package builder reads and makes builder images: a build image with buildpacks, their order and a lifecycle (platform.md,
// "Builder", and pack's builder.toml). It does not build applications.
package builder

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/buildpackage"
	"github.com/weft-dev/weft/buildpack/spec"
)

// Config is a builder.toml (pack builder/config_reader.go).
type Config struct {
	Description     string          `toml:"description"`
	Buildpacks      []Module        `toml:"buildpacks"`
	Extensions      []Module        `toml:"extensions"`
	Order           spec.Order      `toml:"order"`
	OrderExtensions spec.Order      `toml:"order-extensions"`
	Stack           Stack           `toml:"stack"`
	Lifecycle       LifecycleSource `toml:"lifecycle"`
	Run             Run             `toml:"run"`
	Build           Build           `toml:"build"`
	Targets         []spec.Target   `toml:"targets"`
	System          System          `toml:"system"`

	Dir string `toml:"-"` // where relative paths begin
}

// Module names a buildpack of a builder.
type Module struct {
	ID      string `toml:"id"`
	Version string `toml:"version"`
	buildpackage.Reference
}

// Stack is the older way to name the images.
type Stack struct {
	ID              string   `toml:"id"`
	BuildImage      string   `toml:"build-image"`
	RunImage        string   `toml:"run-image"`
	RunImageMirrors []string `toml:"run-image-mirrors"`
}

// LifecycleSource says which lifecycle a builder has: an archive, or a version; without either it is weft's own.
type LifecycleSource struct {
	URI     string `toml:"uri"`
	Version string `toml:"version"`
}

// Run lists the images that applications may stand on.
type Run struct {
	Images []spec.RunImageName `toml:"images"`
}

// Build is the image that buildpacks run in.
type Build struct {
	Image string     `toml:"image"`
	Env   []Variable `toml:"env"`
}

// Variable is one that the builder sets for buildpacks.
type Variable struct {
	Name    string   `toml:"name"`
	Value   string   `toml:"value"`
	Suffix  string   `toml:"suffix"` // default, override, append or prepend
	Delim   string   `toml:"delim"`
	ExecEnv []string `toml:"exec-env"`
}

// System lists buildpacks that always run, before or after those of the order.
type System struct {
	Pre  SystemGroup `toml:"pre" json:"pre,omitempty"`
	Post SystemGroup `toml:"post" json:"post,omitempty"`
}

// SystemGroup is a list of buildpacks.
type SystemGroup struct {
	Buildpacks []spec.Element `toml:"buildpacks" json:"buildpacks,omitempty"`
}

// Empty reports whether there are none.
func (s System) Empty() bool { return len(s.Pre.Buildpacks) == 0 && len(s.Post.Buildpacks) == 0 }

// ReadConfig reads and checks a builder.toml. What is no mistake but looks like one becomes a warning.
func ReadConfig(data []byte, file string) (Config, []string, error) {
	var c Config
	md, err := spec.Decode(data, file, &c)
	if err != nil {
		return c, nil, err
	}
	c.Dir = filepath.Dir(file)
	warnings := buildpackage.UnknownKeys(md, file)
	fail := func(format string, args ...any) (Config, []string, error) {
		return c, warnings, fmt.Errorf("%s: "+format, append([]any{file}, args...)...)
	}
	switch {
	case len(c.Extensions) > 0 || len(c.OrderExtensions) > 0:
		return fail("image extensions are not supported")
	case c.Build.Image == "" && c.Stack.BuildImage == "":
		return fail("build.image is missing: the image that buildpacks run in")
	case c.Build.Image != "" && c.Stack.BuildImage != "" && c.Build.Image != c.Stack.BuildImage:
		return fail("build.image is %s and stack.build-image is %s; leave one out", c.Build.Image, c.Stack.BuildImage)
	case c.Lifecycle.URI != "" && c.Lifecycle.Version != "":
		return fail("lifecycle: uri and version cannot be given together")
	}
	if c.Build.Image == "" {
		c.Build.Image = c.Stack.BuildImage
	}
	switch {
	case len(c.Run.Images) == 0 && c.Stack.RunImage == "":
		return fail("run.images is missing: the images that applications may stand on")
	case len(c.Run.Images) == 0:
		c.Run.Images = []spec.RunImageName{{Image: c.Stack.RunImage, Mirrors: c.Stack.RunImageMirrors}}
	case c.Stack.RunImage != "" && c.Run.Images[0].Image != c.Stack.RunImage:
		return fail("run.images[0] is %s and stack.run-image is %s; leave one out", c.Run.Images[0].Image, c.Stack.RunImage)
	}
	for i, r := range c.Run.Images {
		if r.Image == "" {
			return fail("run.images[%d].image is missing", i)
		}
	}
	for i, m := range c.Buildpacks {
		if (m.URI == "") == (m.Image == "") {
			return fail("buildpacks[%d]: expected either uri or image", i)
		}
	}
	for i, g := range c.Order {
		for j, e := range g.Group {
			if e.ID == "" {
				return fail("order[%d].group[%d].id is missing", i, j)
			}
		}
	}
	if len(c.Order) == 0 {
		warnings = append(warnings, file+": the order is empty, so nothing will ever be detected")
	}
	if _, more, err := c.buildConfig(); err != nil {
		return fail("%w", err)
	} else {
		warnings = append(warnings, more...)
	}
	return c, warnings, nil
}

// buildConfig gives the files below /cnb/build-config/env.
func (c Config) buildConfig() (map[string]string, []string, error) {
	files := map[string]string{}
	var warnings []string
	for i, v := range c.Build.Env {
		at := fmt.Sprintf("build.env[%d]", i)
		if v.Name == "" || strings.ContainsAny(v.Name, "=/.\x00") {
			return nil, nil, fmt.Errorf("%s: the name %q cannot be used", at, v.Name)
		}
		if !slices.Contains([]string{"", "default", "override", "append", "prepend"}, v.Suffix) {
			return nil, nil, fmt.Errorf("%s: suffix is %q, expected default, override, append or prepend", at, v.Suffix)
		}
		name := v.Name
		if v.Suffix != "" {
			name += "." + v.Suffix
		}
		if _, twice := files[name]; twice {
			warnings = append(warnings, fmt.Sprintf("%s: %s is set twice, the later value counts", at, name))
		}
		files[name] = v.Value
		switch {
		case v.Delim != "":
			files[v.Name+".delim"] = v.Delim
		case v.Suffix == "append" || v.Suffix == "prepend":
			warnings = append(warnings, fmt.Sprintf("%s: %s has no delim", at, name))
		}
	}
	return files, warnings, nil
}

// resolveOrder fills in versions that an order leaves out.
func resolveOrder(order spec.Order, modules []buildpackage.Module) (spec.Order, error) {
	out := spec.Order{}
	for i, g := range order {
		group, err := resolveGroup(g.Group, modules)
		if err != nil {
			return nil, fmt.Errorf("order[%d]: %w", i, err)
		}
		out = append(out, spec.Group{Group: group})
	}
	return out, nil
}

func resolveGroup(elements []spec.Element, modules []buildpackage.Module) ([]spec.Element, error) {
	var out []spec.Element
	for _, e := range elements {
		var versions []string
		for _, m := range modules {
			if m.Buildpack.ID == e.ID {
				versions = append(versions, m.Buildpack.Version)
			}
		}
		switch {
		case e.Version != "" && !slices.Contains(versions, e.Version), len(versions) == 0:
			return nil, fmt.Errorf("the buildpack %s is not among those of the builder", strings.TrimSuffix(e.String(), "@"))
		case e.Version == "" && len(versions) > 1:
			return nil, fmt.Errorf("the buildpack %s is there in the versions %s; name one", e.ID, strings.Join(versions, ", "))
		case e.Version == "":
			e.Version = versions[0]
		}
		out = append(out, e)
	}
	return out, nil
}

var errNoLifecycle = errors.New("the program lifecycle is missing beside weft; `make build` makes it")
