package mod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Module is a package in a folder, with its lock file.
type Module struct {
	Dir  string
	File *File
	Lock *Lock
}

// Find is the nearest folder at or above dir that has a kcl.mod.
func Find(dir string) (string, bool) {
	for {
		if info, err := os.Stat(filepath.Join(dir, FileName)); err == nil && !info.IsDir() {
			return dir, true
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", false
		}
		dir = up
	}
}

// Load reads the kcl.mod and kcl.mod.lock of a folder. The latter may be missing.
func Load(dir string) (*Module, error) {
	name := filepath.Join(dir, FileName)
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	m := &Module{Dir: dir, Lock: &Lock{}}
	if m.File, err = Parse(name, string(text)); err != nil {
		return nil, err
	}
	name = filepath.Join(dir, LockName)
	text, err = os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	m.Lock, err = ParseLock(name, string(text))
	return m, err
}

// Save writes both files, each as a whole.
func (m *Module) Save() error {
	if err := replaceFile(filepath.Join(m.Dir, FileName), m.File.String()); err != nil {
		return err
	}
	return m.SaveLock()
}

// SaveLock writes the lock file; one without packages is only written if
// there was one.
func (m *Module) SaveLock() error {
	name := filepath.Join(m.Dir, LockName)
	if _, err := os.Stat(name); len(m.Lock.Packages) == 0 && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return replaceFile(name, m.Lock.String())
}

// replaceFile writes a file so that a reader sees the old or the new text.
func replaceFile(name, text string) error {
	if old, err := os.ReadFile(name); err == nil && string(old) == text {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".kcl-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	for _, next := range []func() error{f.Sync, f.Close, func() error { return os.Chmod(f.Name(), 0o644) }} {
		if e := next(); err == nil {
			err = e
		}
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// Source gets packages from elsewhere.
type Source interface {
	// Fetch puts the package of d into the empty folder dir.
	Fetch(ctx context.Context, d Dependency, dir string) error
	// Versions lists the versions of d that exist.
	Versions(ctx context.Context, d Dependency) ([]string, error)
}

// Resolver finds the folders of a module's packages.
type Resolver struct {
	// Cache is the folder where fetched packages are kept.
	Cache string
	// Vendor looks into the folder vendor of the module before the cache.
	Vendor bool
	// Source fetches what is missing; nil means that nothing is fetched.
	Source Source
	// Given are packages that need not be found, by the names that imports use,
	// since something else says where they are.
	Given map[string]string
	// Missing is asked for the folder of a package that is on this machine nowhere else and is not fetched. Such a package needs
	// no others, and its content is not checked. It may be nil.
	Missing func(d Dependency) (dir string, ok bool)
	// NoSum leaves checksums unchecked.
	NoSum bool
	// Log is told of each package that is fetched; it may be nil.
	Log func(format string, args ...any)
}

// Found is a package with its folder.
type Found struct {
	Dependency
	// Dir is absolute.
	Dir string
	// Real is the version of the package's own kcl.mod, or the one asked for.
	Real string
	Sum  string
}

// Graph is what a module needs.
type Graph struct {
	// Packages are those that were chosen, sorted by name.
	Packages []Found
	// Edges are pairs of "name@version": who needs whom, in the order found.
	Edges [][2]string
}

// Folders maps the names that imports use to folders.
func (g *Graph) Folders() map[string]string {
	folders := make(map[string]string, len(g.Packages))
	for _, p := range g.Packages {
		folders[p.Import()] = p.Dir
	}
	return folders
}

// MissingError says that a package is not on this machine.
type MissingError struct {
	Dependency Dependency
	Dir        string
}

// Error implements error.
func (e *MissingError) Error() string {
	return fmt.Sprintf("package %s (%s) is not in %s: run `kcl mod update` to fetch it", e.Dependency.Name, e.Dependency, filepath.Dir(e.Dir))
}

// need is a dependency with the folder of the module that asks for it.
type need struct {
	Dependency
	from, dir string
	direct    bool
}

// maxPackages bounds the graph.
const maxPackages = 10_000

// Resolve chooses the versions of all packages that m needs, directly or
// through others, and finds their folders. Of the versions of one package that
// are asked for the greatest is taken (minimal version selection); a path that
// m itself names goes before all versions.
func (r *Resolver) Resolve(ctx context.Context, m *Module) (*Graph, error) {
	g := &Graph{}
	chosen := map[string]*Found{}
	direct := map[string]bool{}
	var queue []need
	for _, d := range m.File.Dependencies {
		queue = append(queue, need{d, label(m.File.Package.Name, m.File.Package.Version), m.Dir, true})
	}
	for n := 0; len(queue) > 0; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if n > maxPackages {
			return nil, fmt.Errorf("%s: more than %d dependencies", m.Dir, maxPackages)
		}
		next := queue[0]
		queue = queue[1:]
		g.Edges = append(g.Edges, [2]string{next.from, label(next.Name, next.Ref())})
		name := next.Import()
		if r.Given[name] != "" {
			continue
		}
		if old := chosen[name]; old != nil && (direct[name] && old.Path != "" || !newer(next.Dependency, old.Dependency)) {
			continue
		}
		found, sub, err := r.find(ctx, m, next)
		if err != nil {
			return nil, err
		}
		chosen[name] = found
		direct[name] = direct[name] || next.direct
		if sub != nil {
			for _, d := range sub.Dependencies {
				queue = append(queue, need{d, label(next.Name, next.Ref()), found.Dir, false})
			}
		}
	}
	for _, found := range chosen {
		g.Packages = append(g.Packages, *found)
	}
	sort.Slice(g.Packages, func(i, j int) bool { return g.Packages[i].Name < g.Packages[j].Name })
	return g, nil
}

func label(name, version string) string {
	if version == "" {
		return name
	}
	return name + "@" + version
}

// newer reports whether d is to be taken instead of old.
func newer(d, old Dependency) bool {
	if old.Path != "" || d.Path != "" {
		return old.Path == "" && d.Path != ""
	}
	return Compare(d.Ref(), old.Ref()) > 0
}

// find is the folder of a package and its kcl.mod, nil if it has none.
func (r *Resolver) find(ctx context.Context, m *Module, n need) (*Found, *File, error) {
	found := &Found{Dependency: n.Dependency, Real: n.Ref()}
	var err error
	switch {
	case n.Path != "":
		found.Dir, err = localDir(n, m)
	default:
		found.Dir, err = r.fetched(ctx, m, n.Dependency)
		var missing *MissingError
		if r.Missing != nil && errors.As(err, &missing) {
			if dir, ok := r.Missing(n.Dependency); ok {
				found.Dir = dir
				return found, nil, nil
			}
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if n.Package != "" || n.Git != "" {
		if found.Dir, err = subPackage(found.Dir, n.PackageName()); err != nil {
			return nil, nil, err
		}
	}
	if n.Path == "" {
		if err := r.checkSum(m, found); err != nil {
			return nil, nil, err
		}
	}
	name := filepath.Join(found.Dir, FileName)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	file, err := Parse(name, string(text))
	if err != nil {
		return nil, nil, err
	}
	if file.Package.Version != "" {
		found.Real = file.Package.Version
	}
	return found, file, nil
}

func localDir(n need, m *Module) (string, error) {
	dir := n.Path
	if rest, ok := strings.CutPrefix(dir, "${KCL_MOD}"); ok {
		dir = filepath.Join(m.Dir, rest)
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(n.dir, dir)
	}
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return "", fmt.Errorf("dependency %s of %s: there is no folder %s", n.Name, n.from, dir)
	}
	return dir, nil
}

// fetched is the folder of a package in vendor or in the cache, where it is put
// if there is a Source.
func (r *Resolver) fetched(ctx context.Context, m *Module, d Dependency) (string, error) {
	if r.Vendor {
		dir := filepath.Join(m.Dir, "vendor", d.Folder())
		if isDir(dir) {
			return dir, nil
		}
	}
	dir := filepath.Join(r.Cache, d.Folder())
	if isDir(dir) {
		return dir, nil
	}
	if r.Source == nil {
		return "", &MissingError{d, dir}
	}
	if r.Log != nil {
		r.Log("downloading '%s'", d)
	}
	if err := os.MkdirAll(r.Cache, 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(r.Cache, ".fetch-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	if err := r.Source.Fetch(ctx, d, temp); err != nil {
		return "", fmt.Errorf("package %s (%s): %w", d.Name, d, err)
	}
	if err := os.Rename(temp, dir); err != nil && !isDir(dir) {
		return "", err
	}
	return dir, nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// subPackage finds the package called name in the folder of a repository: the
// folder itself, or the first one below it whose kcl.mod says so.
func subPackage(dir, name string) (string, error) {
	at := ""
	var names []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && strings.HasPrefix(e.Name(), ".") && path != dir {
			return fs.SkipDir
		}
		if e.Name() != FileName || at != "" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := Parse(path, string(text))
		if err != nil {
			return nil // somebody else's broken package in the same repository
		}
		names = append(names, f.Package.Name)
		if f.Package.Name == name {
			at = filepath.Dir(path)
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case at != "":
		return at, nil
	case len(names) <= 1:
		return dir, nil
	}
	sort.Strings(names)
	return "", fmt.Errorf("%s holds no package %s, only %s", dir, name, strings.Join(names, ", "))
}

// checkSum compares the content of a package with the lock file.
func (r *Resolver) checkSum(m *Module, found *Found) error {
	if r.NoSum {
		return nil
	}
	lock := m.Lock.Find(found.Name)
	if lock == nil || lock.Sum == "" || Compare(lock.Version, found.Ref()) != 0 && lock.Version != found.Ref() {
		return nil
	}
	sum, err := Sum(found.Dir)
	if err != nil {
		return err
	}
	if found.Sum = sum; sum != lock.Sum {
		return fmt.Errorf("checksum mismatch for %s: %s says %s, but %s has %s; if the change is wanted, run `kcl mod update`",
			found.Name, LockName, lock.Sum, found.Dir, sum)
	}
	return nil
}

// LockGraph makes the lock file of a resolved graph: all packages but those of
// paths, with their checksums.
func LockGraph(g *Graph) (*Lock, error) {
	l := &Lock{}
	for _, p := range g.Packages {
		if p.Path != "" {
			l.Packages = append(l.Packages, Locked{Name: p.Name, FullName: p.PackageName() + "_" + p.Real, Version: p.Real})
			continue
		}
		sum := p.Sum
		if sum == "" {
			var err error
			if sum, err = Sum(p.Dir); err != nil {
				return nil, err
			}
		}
		l.Packages = append(l.Packages, locked(p.Dependency, p.Ref(), sum))
	}
	return l, nil
}

// CacheDir is the folder for fetched packages: $KCL_PKG_PATH, else
// $XDG_DATA_HOME/kcl/modules, else ~/.local/share/kcl/modules.
func CacheDir(getenv func(string) (string, bool)) (string, error) {
	if dir, _ := getenv("KCL_PKG_PATH"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir, _ := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kcl", "modules"), nil
	}
	home, _ := getenv("HOME")
	if home == "" {
		return "", errors.New("no folder for packages: set KCL_PKG_PATH or HOME")
	}
	return filepath.Join(home, ".local", "share", "kcl", "modules"), nil
}
