package buildpack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/buildpackage"
	"github.com/weft-dev/weft/buildpack/bundled"
	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/buildpack/spec"
)

// selection is the buildpacks of a build and the order in which they are tried.
type selection struct {
	modules []buildpackage.Module // a later one replaces an earlier one of the same ID and version
	order   spec.Order
}

func (s *selection) add(modules ...buildpackage.Module) {
	for _, m := range modules {
		s.modules = slices.DeleteFunc(s.modules, func(o buildpackage.Module) bool { return o.String() == m.String() })
		s.modules = append(s.modules, m)
	}
}

func (s *selection) module(e spec.Element) (buildpackage.Module, bool) {
	at := slices.IndexFunc(s.modules, func(m buildpackage.Module) bool {
		return m.Buildpack.ID == e.ID && m.Buildpack.Version == e.Version
	})
	if at < 0 {
		return buildpackage.Module{}, false
	}
	return s.modules[at], true
}

// selectBuildpacks finds the buildpacks that the build asks for, wherever they are.
func (b *build) selectBuildpacks(ctx context.Context) error {
	b.selection = selection{}
	if err := b.available(); err != nil {
		return err
	}
	pre, err := b.wrapping(ctx, b.opts.PreBuildpacks, b.project.Pre)
	if err != nil {
		return err
	}
	post, err := b.wrapping(ctx, b.opts.PostBuildpacks, b.project.Post)
	if err != nil {
		return err
	}
	order := b.usualOrder()
	if group := b.chosen(); len(group) > 0 {
		if order, err = b.orderOf(ctx, group); err != nil {
			return err
		}
	}
	for i, g := range order {
		order[i].Group = slices.Concat(pre, g.Group, post)
	}
	if !b.opts.NoSystem && b.base.builder != nil {
		system := b.base.builder.System
		order = lifecycle.WithSystem(order, system.Pre.Buildpacks, system.Post.Buildpacks)
	}
	b.selection.order = order
	return buildpackage.CheckComplete(b.selection.modules)
}

// available brings in the buildpacks that are there anyway: those of the builder, or the bundled ones.
func (b *build) available() error {
	dir := ""
	if b.base.builder != nil {
		dir = filepath.Join(b.base.root, "cnb", "buildpacks")
	} else {
		var err error
		if dir, err = bundled.Install(filepath.Join(b.opts.State, "buildpacks"), b.opts.Programs.Programs); err != nil {
			return fmt.Errorf("bundled buildpacks: %w", err)
		}
	}
	modules, err := buildpackage.Installed(dir)
	if err != nil {
		return fmt.Errorf("the buildpacks of %s: %w", b.builderTitle(), err)
	}
	b.selection.add(modules...)
	return nil
}

func (b *build) builderTitle() string {
	if b.base.builder != nil {
		return "the builder " + b.base.builder.Name
	}
	return "weft"
}

// usualOrder is the order unless the user names buildpacks.
func (b *build) usualOrder() spec.Order {
	order := bundled.Order()
	if b.base.builder != nil {
		order = b.base.builder.Order
	}
	var out spec.Order
	for _, g := range order {
		group := spec.Group{}
		for _, e := range g.Group {
			if e.Version == "" {
				if found, err := b.builtin(e.ID, ""); err == nil {
					e.Version = found.Version
				}
			}
			group.Group = append(group.Group, e)
		}
		out = append(out, group)
	}
	return out
}

// chosen gives the buildpacks that this build asks for by name, nil if the usual order is to be tried.
func (b *build) chosen() []spec.ProjectBuildpack {
	var group []spec.ProjectBuildpack
	for _, name := range b.opts.Buildpacks {
		group = append(group, spec.ProjectBuildpack{URI: name})
	}
	if len(group) == 0 {
		group = b.project.Group
	}
	return group
}

// orderOf makes an order of the buildpacks that the user names. "from=builder" among them stands for the builder's order.
func (b *build) orderOf(ctx context.Context, group []spec.ProjectBuildpack) (spec.Order, error) {
	order := spec.Order{{}}
	for _, one := range group {
		if one.URI == "from=builder" || one.URI == "urn:cnb:builder" {
			var longer spec.Order
			for _, before := range order {
				for _, g := range b.usualOrder() {
					longer = append(longer, spec.Group{Group: slices.Concat(before.Group, g.Group)})
				}
			}
			order = longer
			continue
		}
		e, err := b.find(ctx, one, len(b.opts.Buildpacks) > 0)
		if err != nil {
			return nil, err
		}
		for i := range order {
			order[i].Group = append(slices.Clone(order[i].Group), e)
		}
	}
	return order, nil
}

// wrapping finds the buildpacks before or after each group.
func (b *build) wrapping(ctx context.Context, named []string, fromProject []spec.ProjectBuildpack) ([]spec.Element, error) {
	list, here := fromProject, false
	if len(named) > 0 {
		list, here = nil, true
		for _, n := range named {
			list = append(list, spec.ProjectBuildpack{URI: n})
		}
	}
	var out []spec.Element
	for _, one := range list {
		e, err := b.find(ctx, one, here)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// find brings in one buildpack and gives its name. Relative paths begin at the working folder if here, else at the project.
func (b *build) find(ctx context.Context, one spec.ProjectBuildpack, here bool) (spec.Element, error) {
	switch {
	case one.Script.Inline != "":
		return b.script(one)
	case one.URI == "":
		return b.builtin(one.ID, one.Version)
	}
	dir := b.project.dir
	if here {
		dir = "."
	}
	l, err := buildpackage.ParseLocator(one.URI, dir, func(id, version string) bool {
		_, err := b.builtin(id, version)
		return err == nil
	})
	if err != nil {
		return spec.Element{}, fmt.Errorf("%w; %s has %s", err, b.builderTitle(), strings.Join(b.builtinIDs(), ", "))
	}
	if l.Kind == buildpackage.FromBuilder {
		return b.builtin(l.ID, l.Version)
	}
	finder := &buildpackage.Finder{Registry: b.opts.Registry, Cache: filepath.Join(b.opts.State, "buildpacks")}
	p, err := finder.Find(ctx, l)
	if err != nil {
		if l.Kind == buildpackage.FromImage && !strings.HasPrefix(one.URI, "docker://") {
			err = fmt.Errorf("%q is no folder or file and none of %s; as the name of an image: %w", one.URI, strings.Join(b.builtinIDs(), ", "), err)
		}
		return spec.Element{}, err
	}
	b.selection.add(p.Modules...)
	return p.Main.Element(), nil
}

// builtin names a buildpack that is there anyway.
func (b *build) builtin(id, version string) (spec.Element, error) {
	var versions []string
	for _, m := range b.selection.modules {
		if m.Buildpack.ID == id && (version == "" || m.Buildpack.Version == version) {
			versions = append(versions, m.Buildpack.Version)
		}
	}
	switch len(versions) {
	case 0:
		return spec.Element{}, fmt.Errorf("the buildpack %s is not one of %s: %s", strings.TrimSuffix(spec.Element{ID: id, Version: version}.String(), "@"), b.builderTitle(), strings.Join(b.builtinIDs(), ", "))
	case 1:
		return spec.Element{ID: id, Version: versions[0]}, nil
	}
	return spec.Element{}, fmt.Errorf("the buildpack %s is there in the versions %s; name one", id, strings.Join(versions, ", "))
}

func (b *build) builtinIDs() []string {
	var ids []string
	for _, m := range b.selection.modules {
		if !slices.Contains(ids, m.Buildpack.ID) {
			ids = append(ids, m.Buildpack.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// script makes a buildpack of a script in project.toml: it always detects and runs the script as bin/build.
func (b *build) script(one spec.ProjectBuildpack) (spec.Element, error) {
	e := spec.Element{ID: one.ID, Version: one.Version}
	if e.Version == "" {
		e.Version = "0.0.0"
	}
	shell := one.Script.Shell
	if shell == "" {
		shell = "/bin/sh"
	}
	dir := filepath.Join(b.state, "scripts", spec.EscapeID(e.ID))
	descriptor := fmt.Sprintf("api = %q\n\n[buildpack]\nid = %q\nversion = %q\n\n[[targets]]\nos = \"linux\"\n", one.Script.API, e.ID, e.Version)
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "bin"), 0o755),
		writeChanged(filepath.Join(dir, "buildpack.toml"), descriptor, 0o644),
		writeChanged(filepath.Join(dir, "bin", "detect"), "#!/bin/sh\nexit 0\n", 0o755),
		writeChanged(filepath.Join(dir, "bin", "build"), "#!"+shell+"\n\n"+one.Script.Inline+"\n", 0o755))
	if err != nil {
		return e, err
	}
	m, err := buildpackage.ReadModule(dir)
	if err != nil {
		return e, err
	}
	b.selection.add(m)
	return e, nil
}

// writeChanged writes a file unless it is as it should be, so that its times tell whether it has changed.
func writeChanged(name, text string, mode fs.FileMode) error {
	if old, err := os.ReadFile(name); err == nil && string(old) == text {
		return nil
	}
	return errors.Join(os.WriteFile(name, []byte(text), mode), os.Chmod(name, mode))
}

// placeBuildpacks makes the folder of a build's buildpacks. They are not copied: links lead this process to them, mounts the sandbox.
func (b *build) placeBuildpacks(w *work) (string, error) {
	dir := filepath.Join(w.dir, "buildpacks")
	for _, m := range b.selection.modules {
		to := filepath.Join(dir, spec.EscapeID(m.Buildpack.ID), m.Buildpack.Version)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return "", err
		}
		if err := os.Symlink(m.Dir, to); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// buildpackMounts gives a mount for every buildpack.
func (w *work) buildpackMounts() ([]sandbox.Mount, error) {
	f := w.folders.Buildpacks
	all, err := filepath.Glob(filepath.Join(f.Host, "*", "*"))
	if err != nil {
		return nil, err
	}
	var out []sandbox.Mount
	for _, at := range all {
		real, err := filepath.EvalSymlinks(at)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(f.Host, at)
		if err != nil {
			return nil, err
		}
		out = append(out, sandbox.Mount{Kind: sandbox.Bind, Source: real, Target: f.Join(rel).Inside, ReadOnly: true})
	}
	return out, nil
}
