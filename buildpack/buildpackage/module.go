// Package buildpackage finds buildpacks wherever they are (folders, archives, packages in registries and files, addresses of the web) and
// makes packages of them (distribution.md of github.com/buildpacks/spec, "Buildpackage"). It does not run anything.
package buildpackage

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/spec"
)

// Module is a buildpack that is there as a folder.
type Module struct {
	*spec.Descriptor
	Dir string
}

// Element names the module in an order.
func (m Module) Element() spec.Element {
	return spec.Element{ID: m.Buildpack.ID, Version: m.Buildpack.Version}
}

func (m Module) String() string { return m.Element().String() }

// Package is a buildpack with all that it needs.
type Package struct {
	Main    Module
	Modules []Module // Main among them, sorted
}

// ReadModule reads the buildpack in a folder.
func ReadModule(dir string) (Module, error) {
	file := filepath.Join(dir, "buildpack.toml")
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Module{}, fmt.Errorf("%s has no buildpack.toml", dir)
	}
	if err != nil {
		return Module{}, err
	}
	if info.Size() > spec.MaxFile {
		return Module{}, fmt.Errorf("%s is longer than %d bytes", file, spec.MaxFile)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return Module{}, err
	}
	d, err := spec.ReadDescriptor(data, file)
	if err != nil {
		return Module{}, err
	}
	if !d.Composite() {
		for _, program := range []string{"detect", "build"} {
			if _, err := os.Stat(filepath.Join(dir, "bin", program)); err != nil {
				return Module{}, fmt.Errorf("the buildpack %s@%s in %s has no bin/%s", d.Buildpack.ID, d.Buildpack.Version, dir, program)
			}
		}
	}
	return Module{d, dir}, nil
}

// folder gives the package of a folder: the buildpack, and if it is a composite one, of its parts those that lie in folders beside it.
func folder(dir string) (Package, error) {
	main, err := ReadModule(dir)
	if err != nil {
		return Package{}, err
	}
	p := Package{Main: main, Modules: []Module{main}}
	if !main.Composite() {
		return p, nil
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", "buildpack.toml"))
	if err != nil {
		return p, err
	}
	var beside []Module
	for _, file := range files {
		if m, err := ReadModule(filepath.Dir(file)); err == nil {
			beside = append(beside, m)
		}
	}
	for i := 0; i < len(p.Modules); i++ {
		for _, e := range p.Modules[i].parts() {
			if p.has(e) {
				continue
			}
			at := slices.IndexFunc(beside, func(m Module) bool { return m.is(e) })
			if at >= 0 {
				p.Modules = append(p.Modules, beside[at])
			}
		}
	}
	p.sort()
	return p, nil
}

// parts lists what a composite buildpack consists of.
func (m Module) parts() []spec.Element {
	var out []spec.Element
	for _, g := range m.Order {
		out = append(out, g.Group...)
	}
	return out
}

func (m Module) is(e spec.Element) bool {
	return m.Buildpack.ID == e.ID && (e.Version == "" || m.Buildpack.Version == e.Version)
}

func (p Package) has(e spec.Element) bool {
	return slices.ContainsFunc(p.Modules, func(m Module) bool { return m.is(e) })
}

func (p *Package) sort() { SortModules(p.Modules) }

// SortModules sorts by ID and version.
func SortModules(modules []Module) {
	slices.SortFunc(modules, func(a, b Module) int {
		return cmp.Or(strings.Compare(a.Buildpack.ID, b.Buildpack.ID), strings.Compare(a.Buildpack.Version, b.Buildpack.Version))
	})
}

// CheckComplete reports the first part of a composite buildpack that is missing, and circles of composite ones.
func CheckComplete(modules []Module) error {
	find := func(e spec.Element) (Module, bool) {
		at := slices.IndexFunc(modules, func(m Module) bool { return m.is(e) })
		if at < 0 {
			return Module{}, false
		}
		return modules[at], true
	}
	var visit func(m Module, path []string) error
	visit = func(m Module, path []string) error {
		if slices.Contains(path, m.String()) {
			return fmt.Errorf("the composite buildpack %s contains itself: %s", m, strings.Join(append(path, m.String()), " > "))
		}
		for _, e := range m.parts() {
			part, ok := find(e)
			if !ok {
				return fmt.Errorf("the buildpack %s needs %s, which is not there", m, strings.TrimSuffix(e.String(), "@"))
			}
			if err := visit(part, append(slices.Clone(path), m.String())); err != nil {
				return err
			}
		}
		return nil
	}
	for _, m := range modules {
		if err := visit(m, nil); err != nil {
			return err
		}
	}
	return nil
}

// Installed reads the buildpacks below a folder that has them as ID/VERSION, as images have them.
func Installed(dir string) ([]Module, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*", "buildpack.toml"))
	if err != nil {
		return nil, err
	}
	var out []Module
	for _, file := range files {
		m, err := ReadModule(filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	SortModules(out)
	return out, nil
}
