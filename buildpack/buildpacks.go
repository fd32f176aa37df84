package buildpack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ignore "github.com/sabhiram/go-gitignore"

	"github.com/weft-dev/weft/buildpack/bundled"
	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/buildpack/spec"
)

// project is what project.toml and Options say about a build.
type project struct {
	spec.Project
	ignore func(rel string) bool // paths that are no source
}

// readProject reads project.toml of the source, or the one that was named. None is no mistake unless it was named.
func readProject(source, descriptor, execEnv string) (project, error) {
	p := project{ignore: func(rel string) bool { return rel == ".git" }}
	file := descriptor
	if file == "" {
		file = filepath.Join(source, "project.toml")
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && descriptor == "" {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if p.Project, err = spec.ReadProject(data, file); err != nil {
		return p, err
	}
	here := func(list []string) bool { return spec.ExecEnvs(list).Match(execEnv) }
	for _, list := range []*[]spec.ProjectBuildpack{&p.Pre, &p.Group, &p.Post} {
		*list = slices.DeleteFunc(*list, func(b spec.ProjectBuildpack) bool { return !here(b.ExecEnv) })
	}
	p.Env = slices.DeleteFunc(p.Env, func(v spec.ProjectVariable) bool { return !here(v.ExecEnv) })
	switch {
	case len(p.Exclude) > 0:
		match := ignore.CompileIgnoreLines(p.Exclude...)
		p.ignore = func(rel string) bool { return rel == ".git" || match.MatchesPath(rel) }
	case len(p.Include) > 0:
		match := ignore.CompileIgnoreLines(p.Include...)
		p.ignore = func(rel string) bool { return rel == ".git" || !match.MatchesPath(rel) }
	}
	return p, nil
}

// includes reports whether only named files are source; then a folder is looked into although it is not named itself.
func (p project) includes() bool { return len(p.Include) > 0 }

// chosen gives the buildpacks that this build asks for by name, nil if the bundled ones are to be tried.
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

// assemble puts the buildpacks of the build into one folder and gives it with their order.
func (b *build) assemble(w *work) (string, spec.Order, error) {
	installed, err := bundled.Install(filepath.Join(b.opts.State, "buildpacks"))
	if err != nil {
		return "", nil, fmt.Errorf("bundled buildpacks: %w", err)
	}
	group := b.chosen()
	if len(group) == 0 && len(b.project.Pre) == 0 && len(b.project.Post) == 0 {
		return installed, bundled.Order(), nil
	}
	dir := filepath.Join(w.dir, "buildpacks")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", nil, err
	}
	if err := copyTree(installed, dir, nil); err != nil {
		return "", nil, err
	}
	place := &placement{dir}
	add := func(list []spec.ProjectBuildpack) ([]spec.Element, error) {
		var out []spec.Element
		for _, one := range list {
			e, err := b.install(place, one)
			if err != nil {
				return nil, err
			}
			if e.ID != "" {
				out = append(out, e)
			}
		}
		return out, nil
	}
	pre, err := add(b.project.Pre)
	if err != nil {
		return "", nil, err
	}
	chosen, err := add(group)
	if err != nil {
		return "", nil, err
	}
	post, err := add(b.project.Post)
	if err != nil {
		return "", nil, err
	}
	order := bundled.Order()
	if len(chosen) > 0 {
		order = spec.Order{{Group: chosen}}
	}
	for i, g := range order {
		order[i].Group = slices.Concat(pre, g.Group, post)
	}
	return dir, order, nil
}

// placement is the folder of a build's buildpacks. Those of the user are not copied: links lead this process to them, mounts the
// sandbox.
type placement struct{ dir string }

func (p *placement) add(e spec.Element, from string) error {
	to := filepath.Join(p.dir, spec.EscapeID(e.ID), e.Version)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	from, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	if err := os.Symlink(from, to); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("the buildpack %s is there twice", e)
		}
		return err
	}
	return nil
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

// install brings a buildpack into the folder of the build.
func (b *build) install(place *placement, one spec.ProjectBuildpack) (spec.Element, error) {
	switch {
	case one.Script.Inline != "":
		return installScript(place.dir, one)
	case one.URI == "":
		return b.bundledElement(one.ID, one.Version)
	}
	uri := strings.TrimPrefix(one.URI, "file://")
	if rest, ok := strings.CutPrefix(uri, "urn:cnb:builder:"); ok {
		id, version, _ := strings.Cut(rest, "@")
		return b.bundledElement(id, version)
	}
	from := b.folderOf(one)
	if from == "" {
		id, version, _ := strings.Cut(uri, "@")
		if e, err := b.bundledElement(id, version); err == nil {
			return e, nil
		}
		return spec.Element{}, fmt.Errorf("the buildpack %q is neither a folder with a buildpack.toml nor bundled (%s)", one.URI, strings.Join(bundledIDs(), ", "))
	}
	return installFolder(place, from, map[string]bool{})
}

// installFolder brings in a buildpack, and the parts of a composite one, which are looked for in the folders beside it.
func installFolder(place *placement, from string, seen map[string]bool) (spec.Element, error) {
	d, err := descriptorOf(from)
	if err != nil {
		return spec.Element{}, err
	}
	e := spec.Element{ID: d.Buildpack.ID, Version: d.Buildpack.Version}
	if seen[e.String()] {
		return e, nil
	}
	seen[e.String()] = true
	if err := place.add(e, from); err != nil {
		return e, err
	}
	if !d.Composite() {
		return e, nil
	}
	beside, err := filepath.Glob(filepath.Join(filepath.Dir(from), "*", "buildpack.toml"))
	if err != nil {
		return e, err
	}
	for _, g := range d.Order {
		for _, part := range g.Group {
			if _, err := os.Stat(filepath.Join(place.dir, spec.EscapeID(part.ID), part.Version)); err == nil {
				continue
			}
			at := slices.IndexFunc(beside, func(file string) bool {
				other, err := descriptorOf(filepath.Dir(file))
				return err == nil && other.Buildpack.ID == part.ID && other.Buildpack.Version == part.Version
			})
			if at < 0 {
				return e, fmt.Errorf("the buildpack %s needs %s, which is neither bundled nor in a folder beside %s", e, part, from)
			}
			if _, err := installFolder(place, filepath.Dir(beside[at]), seen); err != nil {
				return e, err
			}
		}
	}
	return e, nil
}

func descriptorOf(dir string) (*spec.Descriptor, error) {
	file := filepath.Join(dir, "buildpack.toml")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return spec.ReadDescriptor(data, file)
}

// folderOf is the folder of a buildpack that is given by one, else "". Relative paths of project.toml begin at the source, others at
// the working folder.
func (b *build) folderOf(one spec.ProjectBuildpack) string {
	if one.URI == "" {
		return ""
	}
	dir := strings.TrimPrefix(one.URI, "file://")
	if !filepath.IsAbs(dir) && !slices.Contains(b.opts.Buildpacks, one.URI) {
		dir = filepath.Join(b.opts.Source, dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "buildpack.toml")); err != nil {
		return ""
	}
	return dir
}

// installScript makes a buildpack of a script in project.toml: it always detects and runs the script as bin/build.
func installScript(dir string, one spec.ProjectBuildpack) (spec.Element, error) {
	e := spec.Element{ID: one.ID, Version: one.Version}
	if e.Version == "" {
		e.Version = "0.0.0"
	}
	shell := one.Script.Shell
	if shell == "" {
		shell = "/bin/sh"
	}
	at := filepath.Join(dir, spec.EscapeID(e.ID), e.Version)
	if err := os.MkdirAll(filepath.Join(at, "bin"), 0o755); err != nil {
		return e, err
	}
	descriptor := fmt.Sprintf("api = %q\n\n[buildpack]\nid = %q\nversion = %q\n\n[[targets]]\nos = \"linux\"\n", one.Script.API, e.ID, e.Version)
	return e, errors.Join(
		os.WriteFile(filepath.Join(at, "buildpack.toml"), []byte(descriptor), 0o644),
		os.WriteFile(filepath.Join(at, "bin", "detect"), []byte("#!/bin/sh\nexit 0\n"), 0o755),
		os.WriteFile(filepath.Join(at, "bin", "build"), []byte("#!"+shell+"\n\n"+one.Script.Inline+"\n"), 0o755))
}

func bundledIDs() []string {
	var ids []string
	for _, g := range bundled.Order() {
		for _, e := range g.Group {
			if !slices.Contains(ids, e.ID) {
				ids = append(ids, e.ID)
			}
		}
	}
	return ids
}

func (b *build) bundledElement(id, version string) (spec.Element, error) {
	if !slices.Contains(bundledIDs(), id) || version != "" && version != bundled.Version {
		return spec.Element{}, fmt.Errorf("the buildpack %s is not bundled (%s %s are)", spec.Element{ID: id, Version: version}, strings.Join(bundledIDs(), ", "), bundled.Version)
	}
	return spec.Element{ID: id, Version: bundled.Version}, nil
}
