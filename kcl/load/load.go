// Package load finds and parses the files of a program: the main package and
// every package that it imports, directly or not.
//
// Names of packages are paths of names joined by dots, as import statements
// have them after relative ones are resolved; the main package is "__main__".
// The package knows nothing of types or evaluation.
package load

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// Main is the path of the main package.
const Main = "__main__"

// Source is a file whose content is at hand or, if Text is nil, to be read.
type Source struct {
	Name string
	Text *string
	// Tree is the parsed file, if there is one already.
	Tree *syntax.File
}

// Options say where to look.
type Options struct {
	// Files may be nil when all sources are at hand and nothing is imported.
	Files value.FileSystem
	// WorkDir makes relative names absolute.
	WorkDir string
	// Root is the folder with kcl.mod, against which packages are found.
	Root string
	// Externals maps the first name of an import to the package's folder.
	Externals map[string]string
	// Vendor are folders that hold packages by name.
	Vendor []string
	// Modules reports whether a path is a system module.
	Modules func(path string) bool
	// Plugins reports whether a plugin module is registered.
	Plugins func(path string) bool
	// Cache may be nil.
	Cache *Cache
	// MaxBytes bounds the source text read; 0 means 256 MiB.
	MaxBytes int64
}

// Import is an import statement with the package that it leads to.
type Import struct {
	Stmt *syntax.ImportStmt
	// Path is the full path, "" when the package was not found.
	Path string
	// Kind tells user packages, system modules and plugins apart.
	Kind Kind
}

// Kind is the kind of an imported package.
type Kind int

// The kinds.
const (
	User Kind = iota
	System
	Plugin
)

// File is a file as part of a package. Body is its statements, after repeated
// configurations of one name were merged; it is nil while the file is not
// parsed, which happens in packages with Decls only.
type File struct {
	*syntax.File
	Body    []syntax.Stmt
	Imports []Import
	// Names maps what imports are called in this file to their paths.
	Names map[string]string

	// pending are the import statements of a file that is not parsed.
	pending []*syntax.ImportStmt
	parse   func() *syntax.File
}

// Stmts are the statements of the file, which is parsed now if it was not yet.
func (f *File) Stmts() []syntax.Stmt {
	if parse := f.parse; parse != nil {
		f.parse = nil
		f.File = parse()
		f.Body = f.File.Body
	}
	return f.Body
}

// importStmts are the import statements of the file.
func (f *File) importStmts() []*syntax.ImportStmt {
	if f.pending != nil {
		return f.pending
	}
	var out []*syntax.ImportStmt
	for _, s := range f.Body {
		if im, ok := s.(*syntax.ImportStmt); ok {
			out = append(out, im)
		}
	}
	return out
}

// Package is the files of one folder.
type Package struct {
	Path  string
	Name  string // of the module it belongs to
	Root  string // folder of that module
	Files []*File
	// Decls is set when the package and all it imports were found free of errors
	// before: its declarations by name. Its files are parsed when asked for.
	Decls map[string]*Decl

	key, checked digest
}

// Program is a loaded program.
type Program struct {
	Root     string
	Main     *Package
	Packages map[string]*Package
	// Order has all packages but the main one, each after its first import.
	Order []*Package
	// Diags are the errors of parsing and finding.
	Diags []*diag.Diagnostic
}

type loader struct {
	Options
	ctx     context.Context
	program *Program
	read    atomic.Int64
}

// Load reads the sources as main package and all that they import. It fails
// only when a source cannot be read; everything else is in Program.Diags.
func Load(ctx context.Context, sources []Source, opts Options) (*Program, error) {
	l := &loader{Options: opts, ctx: ctx}
	if l.MaxBytes == 0 {
		l.MaxBytes = 256 << 20
	}
	l.program = &Program{Root: opts.Root, Packages: map[string]*Package{}}
	main := &Package{Path: Main, Name: Main, Root: opts.Root}
	l.program.Main = main
	l.program.Packages[Main] = main
	if err := l.parseAll(main, sources); err != nil {
		return nil, err
	}
	for _, f := range main.Files {
		l.syntaxErrors(f)
	}
	queue := []*Package{main}
	for len(queue) > 0 {
		pkg := queue[0]
		queue = queue[1:]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		more, err := l.imports(pkg)
		if err != nil {
			return nil, err
		}
		queue = append(queue, more...)
	}
	l.recheck()
	mergeMain(main)
	return l.program, nil
}

// recheck forgets what was remembered of packages that import something else
// now than when they were checked.
func (l *loader) recheck() {
	if l.Cache == nil {
		return
	}
	closures := l.program.closures()
	for _, p := range l.program.Order {
		if sum, ok := closures[p.Path]; p.Decls != nil && (!ok || sum != p.checked) {
			p.forget()
		}
	}
}

func (l *loader) syntaxErrors(f *File) {
	for i := range f.Errors {
		e := &f.Errors[i]
		d := diag.At(diag.InvalidSyntax, f.File, e.Span, e.Msg)
		d.Messages[0].Suggested = e.Suggestions
		if d.Messages[0].Col == 0 {
			// Upstream gives syntax errors at the start of a line no column.
			d.Messages[0].Col = -1
		}
		l.program.Diags = append(l.program.Diags, d)
	}
}

// parseAll reads the files of a package and parses them, unless the package
// was found free of errors before.
func (l *loader) parseAll(pkg *Package, sources []Source) error {
	n := len(sources)
	names, texts, sums := make([]string, n), make([][]byte, n), make([]digest, n)
	files := make([]*syntax.File, n)
	known := l.Cache != nil && pkg.Path != Main
	err := parallel(n, func(i int) error {
		s := sources[i]
		if names[i] = s.Name; s.Tree != nil {
			files[i] = s.Tree
			return nil
		}
		if s.Text != nil {
			texts[i] = []byte(*s.Text)
		} else {
			var err error
			if texts[i], err = l.readFile(s.Name); err != nil {
				return err
			}
		}
		if l.read.Add(int64(len(texts[i]))) > l.MaxBytes {
			return fmt.Errorf("%s: the program has more than %d bytes of source", s.Name, l.MaxBytes)
		}
		if l.Cache != nil {
			sums[i] = sha256.Sum256(texts[i])
		}
		if !known {
			files[i] = l.Cache.parse(names[i], texts[i], sums[i])
		}
		return nil
	})
	if err != nil {
		return err
	}
	if known {
		pkg.key = keyOf(l.Cache.Build, pkg, names, sums)
		if x := l.Cache.recall(pkg.key); x != nil && len(x.files) == n {
			pkg.checked = x.closure
			x.apply(pkg, l.Cache, names, texts, sums)
			return nil
		}
		if err := parallel(n, func(i int) error {
			files[i] = l.Cache.parse(names[i], texts[i], sums[i])
			return l.ctx.Err()
		}); err != nil {
			return err
		}
	}
	for _, f := range files {
		pkg.Files = append(pkg.Files, &File{File: f, Body: f.Body, Names: map[string]string{}})
	}
	return nil
}

// parallel calls f for 0 to n-1, as many at a time as there are processors,
// and gives the first error in that order.
func parallel(n int, f func(int) error) error {
	errs := make([]error, n)
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			errs[i] = f(i)
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) - 1 {
		wg.Add(1)
		go func() { defer wg.Done(); work() }()
	}
	work()
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) readFile(name string) ([]byte, error) {
	if l.Files == nil {
		return nil, fmt.Errorf("cannot read %s: this run was given no file system", name)
	}
	data, err := l.Files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("Cannot find the kcl file, please check the file path %s", name)
	}
	return data, nil
}

// imports finds what pkg imports and gives the packages that are new.
func (l *loader) imports(pkg *Package) ([]*Package, error) {
	var found []*Package
	for _, f := range pkg.Files {
		for _, stmt := range f.importStmts() {
			im, fresh, err := l.resolve(pkg, f, stmt)
			if err != nil {
				return nil, err
			}
			f.Imports = append(f.Imports, im)
			f.Names[stmt.Name] = im.Path
			if fresh != nil {
				found = append(found, fresh)
			}
		}
	}
	return found, nil
}

func (l *loader) resolve(pkg *Package, f *File, stmt *syntax.ImportStmt) (Import, *Package, error) {
	path := l.absolute(pkg, f, stmt.Path.Text)
	im := Import{Stmt: stmt, Path: path}
	switch {
	case strings.HasPrefix(path, "kcl_plugin."):
		im.Kind = Plugin
		if l.Plugins == nil || !l.Plugins(path) {
			l.missing(f, stmt, fmt.Sprintf("the plugin package `%s` is not found, please confirm if plugin mode is enabled", path))
		}
		return im, nil, nil
	case l.Modules != nil && l.Modules(path):
		im.Kind = System
		return im, nil, nil
	}
	owner := l.owner(pkg, f)
	name, root, rest, ok := l.locate(owner, path)
	if ok && name == owner.Name && name != Main {
		im.Path = name + "." + rest
	}
	if ok && l.program.Packages[im.Path] != nil {
		return im, nil, nil
	}
	var names []string
	if ok {
		names = l.kFiles(filepath.Join(append([]string{root}, strings.Split(rest, ".")...)...), rest == "")
	}
	if len(names) == 0 {
		l.notFound(f, stmt, path)
		return im, nil, nil
	}
	p := &Package{Path: im.Path, Name: name, Root: root}
	sources := make([]Source, len(names))
	for i, n := range names {
		sources[i] = Source{Name: n}
	}
	if err := l.parseAll(p, sources); err != nil {
		return im, nil, err
	}
	for _, pf := range p.Files {
		l.syntaxErrors(pf)
	}
	l.program.Packages[im.Path] = p
	l.program.Order = append(l.program.Order, p)
	return im, p, nil
}

// notFound reports an import that leads nowhere.
func (l *loader) notFound(f *File, stmt *syntax.ImportStmt, path string) {
	real := strings.TrimSuffix(l.Root, "/") + "/" + strings.ReplaceAll(path, ".", "/")
	if l.Files != nil {
		if _, err := l.Files.Stat(filepath.Clean(real)); err == nil {
			l.missing(f, stmt, fmt.Sprintf("Failed to import the module %s from %s. No KCL files found in the specified folder", stmt.Path.Text, real))
			return
		}
	}
	l.missing(f, stmt, fmt.Sprintf("Cannot find the module %s from %s", stmt.Path.Text, real))
	first, _, _ := strings.Cut(path, ".")
	l.program.Diags = append(l.program.Diags,
		diag.Suggest(fmt.Sprintf("try 'kcl mod add %s' to download the missing package", first)),
		diag.Suggest("browse more packages at 'https://artifacthub.io'"))
}

func (l *loader) missing(f *File, stmt *syntax.ImportStmt, msg string) {
	l.program.Diags = append(l.program.Diags, diag.At(diag.CannotFindModule, f.File, stmt.Span, msg))
}

// absolute turns a relative import into a path from the module's root. It is
// "" for one that leads above the root.
func (l *loader) absolute(pkg *Package, f *File, raw string) string {
	if !strings.HasPrefix(raw, ".") {
		return raw
	}
	rest := strings.TrimLeft(raw, ".")
	up := len(raw) - len(rest)
	rel, err := filepath.Rel(pkg.Root, filepath.Dir(f.Name))
	if err != nil || strings.HasPrefix(rel, "..") {
		return ""
	}
	var dirs []string
	if rel != "." {
		dirs = strings.Split(filepath.ToSlash(rel), "/")
	}
	if up-1 > len(dirs) {
		return ""
	}
	dirs = dirs[:len(dirs)-up+1]
	if rest != "" {
		dirs = append(dirs, rest)
	}
	return strings.Join(dirs, ".")
}

// owner is the module that a file belongs to. A file of the main package may
// lie in another module, as entries such as ${base:KCL_MOD}/render.k do: its
// imports are then that module's own.
func (l *loader) owner(pkg *Package, f *File) *Package {
	if pkg.Name != Main {
		return pkg
	}
	found := pkg
	for name, dir := range l.Externals {
		inside := strings.HasPrefix(f.Name, strings.TrimSuffix(dir, "/")+"/")
		if inside && len(dir) > len(found.Root) || inside && !strings.HasPrefix(f.Name, found.Root+"/") {
			found = &Package{Name: name, Root: dir}
		}
	}
	return found
}

// locate finds the module of a path, its root and the path below it.
func (l *loader) locate(pkg *Package, path string) (name, root, rest string, ok bool) {
	if l.exists(pkg.Root, path) {
		return pkg.Name, pkg.Root, path, true
	}
	first, rest, _ := strings.Cut(path, ".")
	if dir, ok := l.Externals[first]; ok {
		return first, dir, rest, true
	}
	for _, v := range l.Vendor {
		if l.exists(v, path) {
			return first, filepath.Join(v, first), rest, true
		}
	}
	return "", "", "", false
}

func (l *loader) exists(root, path string) bool {
	if l.Files == nil || root == "" {
		return false
	}
	if path == "" {
		return false
	}
	full := filepath.Join(append([]string{root}, strings.Split(path, ".")...)...)
	if _, err := l.Files.Stat(full); err == nil {
		return true
	}
	_, err := l.Files.Stat(full + ".k")
	return err == nil
}

// kFiles lists the files of a package: those of the folder, or the one file.
func (l *loader) kFiles(path string, root bool) []string {
	if l.Files == nil {
		return nil
	}
	entries, err := l.Files.ReadDir(path)
	if err != nil {
		if _, err := l.Files.Stat(path + ".k"); err == nil && !root {
			return []string{path + ".k"}
		}
		return nil
	}
	return kclFiles(path, entries)
}

func kclFiles[E interface{ Name() string }](dir string, entries []E) []string {
	var names []string
	for _, e := range entries {
		n := e.Name()
		if strings.HasSuffix(n, ".k") && !strings.HasSuffix(n, "_test.k") && !strings.HasPrefix(n, "_") {
			names = append(names, filepath.Join(dir, n))
		}
	}
	sort.Strings(names)
	return names
}

// Folder lists the files that make up the package in dir.
func Folder(files value.FileSystem, dir string) ([]string, error) {
	entries, err := files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	return kclFiles(dir, entries), nil
}
