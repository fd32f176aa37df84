// Package env computes the environment of buildpacks and of processes from folders of variable files (buildpack.md, "Environment"
// and platform.md, "User-Provided Variables"). It reads through io/fs only.
package env

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Env is a set of variables that layers and platform modify.
type Env struct {
	vars  map[string]string
	roots map[string][]string // folder of a layer -> the path-like variables that it joins
}

// What a file of variables without a suffix does.
type action string

const (
	override action = "override"
	prepend  action = "prepend"
	appendTo action = "append"
	fallback action = "default"
)

var (
	buildRoots = map[string][]string{
		"bin": {"PATH"}, "lib": {"LD_LIBRARY_PATH", "LIBRARY_PATH"}, "include": {"CPATH"}, "pkgconfig": {"PKG_CONFIG_PATH"}}
	launchRoots = map[string][]string{"bin": {"PATH"}, "lib": {"LD_LIBRARY_PATH"}}

	// inherited variables pass from the lifecycle to buildpacks.
	inherited = []string{"CNB_STACK_ID", "HOSTNAME", "HOME", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY",
		"no_proxy", "PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "PKG_CONFIG_PATH"}
	// private variables do not pass from the image to its processes.
	private = []string{"CNB_LAYERS_DIR", "CNB_APP_DIR", "CNB_PROCESS_TYPE", "CNB_PLATFORM_API", "CNB_DEPRECATION_MODE"}
)

// maxFile bounds one variable, in bytes; the kernel takes no longer one.
const maxFile = 128 << 10

// ForBuild starts the environment of bin/detect and bin/build from that of the lifecycle.
func ForBuild(environ []string) *Env {
	return start(environ, buildRoots, func(name string) bool { return slices.Contains(inherited, name) })
}

// ForLaunch starts the environment of a process from that of the container. The folders without are taken off PATH.
func ForLaunch(environ []string, without ...string) *Env {
	e := start(environ, launchRoots, func(name string) bool { return !slices.Contains(private, name) })
	if p, ok := e.vars["PATH"]; ok {
		e.vars["PATH"] = strings.Join(slices.DeleteFunc(strings.Split(p, ":"), func(s string) bool { return slices.Contains(without, s) }), ":")
	}
	return e
}

func start(environ []string, roots map[string][]string, keep func(string) bool) *Env {
	e := &Env{vars: map[string]string{}, roots: roots}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && keep(name) {
			e.vars[name] = value
		}
	}
	return e
}

// Get gives the value of a variable, "" if it is not set.
func (e *Env) Get(name string) string { return e.vars[name] }

// Set sets a variable.
func (e *Env) Set(name, value string) { e.vars[name] = value }

// List gives the variables as NAME=VALUE, sorted.
func (e *Env) List() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(e.vars)) {
		out = append(out, name+"="+e.vars[name])
	}
	return out
}

// Clone gives an independent copy.
func (e *Env) Clone() *Env { return &Env{vars: maps.Clone(e.vars), roots: e.roots} }

// AddRoot puts the bin, lib, include and pkgconfig folders of a layer in front of the variables that search them. dir is the layer
// within files; shown is the path that programs see it at.
func (e *Env) AddRoot(files fs.FS, dir, shown string) error {
	for _, sub := range slices.Sorted(maps.Keys(e.roots)) {
		if _, err := fs.Stat(files, path.Join(dir, sub)); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		for _, name := range e.roots[sub] {
			e.vars[name] = join(path.Join(shown, sub), ":", e.vars[name])
		}
	}
	return nil
}

// AddFolder applies a folder of variable files, such as env or env.build of a layer: a suffix says what a file does, without one it
// overrides.
func (e *Env) AddFolder(files fs.FS, dir string) error { return e.addFolder(files, dir, override) }

// AddOperator applies the variables of the operator (<build-config>/env): without a suffix they are defaults.
func (e *Env) AddOperator(files fs.FS, dir string) error { return e.addFolder(files, dir, fallback) }

// AddUser applies the variables of the user (<platform>/env): those that search folders are put in front, others override. A suffix
// means nothing here.
func (e *Env) AddUser(files fs.FS, dir string) error {
	vars, err := read(files, dir)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if e.searches(name) {
			e.vars[name] = join(vars[name], ":", e.vars[name])
		} else {
			e.vars[name] = vars[name]
		}
	}
	return nil
}

func (e *Env) searches(name string) bool {
	for _, names := range e.roots {
		if slices.Contains(names, name) {
			return true
		}
	}
	return false
}

func (e *Env) addFolder(files fs.FS, dir string, bare action) error {
	vars, err := read(files, dir)
	if err != nil {
		return err
	}
	for _, file := range slices.Sorted(maps.Keys(vars)) {
		name, suffix, dotted := strings.Cut(file, ".")
		do := action(suffix)
		if !dotted {
			do = bare
		}
		value, delim := vars[file], vars[name+".delim"]
		switch do {
		case prepend:
			e.vars[name] = join(value, delim, e.vars[name])
		case appendTo:
			if e.vars[name] == "" {
				delim = ""
			}
			e.vars[name] += delim + value
		case override:
			e.vars[name] = value
		case fallback:
			if e.vars[name] == "" {
				e.vars[name] = value
			}
		case "": // "NAME." puts in front as a search path does
			if _, set := vars[name+".delim"]; !set {
				delim = ":"
			}
			e.vars[name] = join(value, delim, e.vars[name])
		}
	}
	return nil
}

// join puts delim between a and b if there is a b.
func join(a, delim, b string) string {
	if b == "" {
		return a
	}
	return a + delim + b
}

// read gives the files of a folder with their bytes as they are; a missing folder has none.
func read(files fs.FS, dir string) (map[string]string, error) {
	entries, err := fs.ReadDir(files, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the variables of %s: %w", dir, err)
	}
	vars := map[string]string{}
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		info, err := fs.Stat(files, name)
		if err != nil {
			return nil, fmt.Errorf("read the variable %s: %w", name, err)
		}
		if info.IsDir() {
			continue
		}
		if !info.Mode().IsRegular() || info.Size() > maxFile {
			return nil, fmt.Errorf("the variable %s must be a file of at most %d bytes", name, maxFile)
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read the variable %s: %w", name, err)
		}
		vars[entry.Name()] = string(data)
	}
	return vars, nil
}
