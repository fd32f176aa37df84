// Package mod knows KCL packages as people share them: the file kcl.mod, its
// lock file kcl.mod.lock, checksums, the choice of versions, and the folders
// where packages are found (paths, vendor, the cache).
//
// Formats are those of kcl-lang/kpm. Reading and resolving never touch the
// network: what is missing is an error that says how to get it, and getting
// it is a call of its own with a Source that the caller gives.
//
// The package knows nothing of the language.
package mod

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// The names of the files.
const (
	FileName = "kcl.mod"
	LockName = "kcl.mod.lock"
)

// maxFile is the most bytes that kcl.mod and kcl.mod.lock may have.
const maxFile = 4 << 20

// File is kcl.mod.
type File struct {
	Package      Package
	Dependencies []Dependency
	Profile      *Profile
}

// Package is the section [package].
type Package struct {
	Name        string   `toml:"name,omitempty"`
	Edition     string   `toml:"edition,omitempty"`
	Version     string   `toml:"version,omitempty"`
	Description string   `toml:"description,omitempty"`
	Include     []string `toml:"include,omitempty"`
	Exclude     []string `toml:"exclude,omitempty"`
}

// Profile is the section [profile]: the options of a run without arguments.
type Profile struct {
	Entries     []string `toml:"entries,omitempty"`
	DisableNone *bool    `toml:"disable_none,omitempty"`
	SortKeys    *bool    `toml:"sort_keys,omitempty"`
	Selectors   []string `toml:"selectors,omitempty"`
	Overrides   []string `toml:"overrides,omitempty"`
	Arguments   []string `toml:"arguments,omitempty"`
}

// Dependency is an entry of [dependencies]: a name and where the package comes
// from. Exactly one of Path, Git, OCI and Repo is set, or none: then it comes
// from the default registry.
type Dependency struct {
	// Name is what imports call it, but for "-", which they write "_".
	Name string
	// Package is the name of the package where it is not Name.
	Package string
	Version string

	Path string
	Git  string
	OCI  string
	// Repo is a repository of a registry that is only known when it is pulled.
	Repo string
	// Tag, Branch and Commit say which state of Git, OCI or Repo is meant.
	Tag, Branch, Commit string
}

// Import is how programs write the name.
func (d Dependency) Import() string { return strings.ReplaceAll(d.Name, "-", "_") }

// PackageName is the name that the package gives itself.
func (d Dependency) PackageName() string {
	if d.Package != "" {
		return d.Package
	}
	return d.Name
}

// Ref is the version, tag, commit or branch that is meant.
func (d Dependency) Ref() string {
	for _, ref := range []string{d.Tag, d.Commit, d.Branch, d.Version} {
		if ref != "" {
			return ref
		}
	}
	return ""
}

// Folder is the folder of the package in the cache and in vendor:
// <name>_<version>.
func (d Dependency) Folder() string {
	ref := strings.NewReplacer("/", "-", `\`, "-", ":", "-").Replace(d.Ref())
	name := strings.NewReplacer("/", "-", `\`, "-").Replace(d.PackageName())
	if ref == "" {
		return name
	}
	return name + "_" + ref
}

// String says where the package comes from.
func (d Dependency) String() string {
	switch {
	case d.Path != "":
		return d.Path
	case d.Git != "":
		return d.Git + "@" + d.Ref()
	case d.OCI != "":
		return d.OCI + ":" + d.Ref()
	case d.Repo != "":
		return d.Repo + ":" + d.Ref()
	}
	return d.PackageName() + ":" + d.Version
}

// Error is an error of a file at a line, 0 when it is not known.
type Error struct {
	File string
	Line int
	Msg  string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
	}
	return e.File + ": " + e.Msg
}

// decode reads TOML into v and gives errors their place.
func decode(name, text string, v any) (toml.MetaData, error) {
	if len(text) > maxFile {
		return toml.MetaData{}, &Error{File: name, Msg: fmt.Sprintf("larger than %d bytes", maxFile)}
	}
	meta, err := toml.Decode(text, v)
	if err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return meta, &Error{name, parse.Position.Line, parse.Message}
		}
		return meta, &Error{File: name, Msg: strings.TrimPrefix(err.Error(), "toml: ")}
	}
	return meta, nil
}

// Parse reads kcl.mod; name is for messages.
func Parse(name, text string) (*File, error) {
	var raw struct {
		Package      Package        `toml:"package"`
		Dependencies map[string]any `toml:"dependencies"`
		Profile      *Profile       `toml:"profile"`
	}
	if _, err := decode(name, text, &raw); err != nil {
		return nil, err
	}
	f := &File{Package: raw.Package, Profile: raw.Profile}
	if strings.ContainsAny(f.Package.Name, "/\\") || f.Package.Name == ".." {
		return nil, &Error{File: name, Msg: fmt.Sprintf("package.name: %q is no name of a package", f.Package.Name)}
	}
	imports := map[string]string{}
	for key, v := range raw.Dependencies {
		d, err := dependency(key, v)
		if err != nil {
			return nil, &Error{File: name, Msg: fmt.Sprintf("dependencies.%s: %v", key, err)}
		}
		if other, ok := imports[d.Import()]; ok {
			return nil, &Error{File: name, Msg: fmt.Sprintf("dependencies %s and %s would both be imported as %s", min(other, key), max(other, key), d.Import())}
		}
		imports[d.Import()] = key
		f.Dependencies = append(f.Dependencies, d)
	}
	sort.Slice(f.Dependencies, func(i, j int) bool { return f.Dependencies[i].Name < f.Dependencies[j].Name })
	return f, nil
}

// dependency reads `"1.2"` or a table.
func dependency(name string, v any) (Dependency, error) {
	d := Dependency{Name: name}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\") {
		return d, fmt.Errorf("%q is no name of a package", name)
	}
	switch v := v.(type) {
	case string:
		d.Version = v
		return d, d.check()
	case map[string]any:
		for key, val := range v {
			text, ok := val.(string)
			if !ok {
				return d, fmt.Errorf("%s: expected a string, got %v", key, val)
			}
			if err := d.set(key, text); err != nil {
				return d, err
			}
		}
		return d, d.check()
	}
	return d, fmt.Errorf(`expected a version such as "1.2" or a table such as { git = "...", tag = "..." }, got %v`, v)
}

func (d *Dependency) set(key, text string) error {
	switch key {
	case "path":
		d.Path = text
	case "git":
		d.Git = text
	case "oci":
		d.OCI = text
	case "repo":
		d.Repo = text
	case "reg":
		d.OCI = "oci://" + text
	case "tag":
		d.Tag = text
	case "branch":
		d.Branch = text
	case "commit":
		d.Commit = text
	case "version":
		d.Version = text
	case "package":
		d.Package = text
	default:
		return fmt.Errorf("unknown key %s, expected path, git, oci, repo, tag, branch, commit, version or package", key)
	}
	return nil
}

func (d *Dependency) check() error {
	if reg, ok := strings.CutPrefix(d.OCI, "oci://"); ok && d.Repo != "" && !strings.Contains(reg, "/") {
		d.OCI, d.Repo = d.OCI+"/"+d.Repo, ""
	}
	var sources, refs []string
	for _, s := range []struct{ key, val string }{{"path", d.Path}, {"git", d.Git}, {"oci", d.OCI}, {"repo", d.Repo}} {
		if s.val != "" {
			sources = append(sources, s.key)
		}
	}
	for _, s := range []struct{ key, val string }{{"tag", d.Tag}, {"branch", d.Branch}, {"commit", d.Commit}} {
		if s.val != "" {
			refs = append(refs, s.key)
		}
	}
	switch {
	case len(sources) > 1:
		return fmt.Errorf("only one of %s can be given", strings.Join(sources, ", "))
	case len(refs) > 1:
		return fmt.Errorf("only one of %s can be given", strings.Join(refs, ", "))
	case len(sources) == 0 && len(refs) > 0:
		return fmt.Errorf("%s needs git, oci or repo", refs[0])
	case len(sources) == 0 && d.Version == "" && d.Package == "":
		return errors.New("a version, path, git, oci or repo is missing")
	case d.Git != "" && len(refs) == 0 && d.Version == "":
		return errors.New("git needs one of tag, branch and commit")
	case strings.HasPrefix(d.Git, "-"), slices.ContainsFunc([]string{d.Tag, d.Branch, d.Commit}, func(s string) bool { return strings.HasPrefix(s, "-") }):
		return errors.New("a value must not begin with -")
	case d.OCI != "" && !strings.HasPrefix(d.OCI, "oci://"):
		return fmt.Errorf("oci: expected oci://HOST/REPOSITORY, got %q", d.OCI)
	}
	return nil
}

// String is the text of kcl.mod in upstream's order and form.
func (f *File) String() string {
	var b strings.Builder
	b.WriteString("[package]\n")
	encode(&b, f.Package)
	if len(f.Dependencies) > 0 {
		b.WriteString("\n[dependencies]\n")
		for _, d := range f.Dependencies {
			b.WriteString(key(d.Name) + " = " + d.source() + "\n")
		}
	}
	if f.Profile != nil {
		b.WriteString("\n[profile]\n")
		encode(&b, f.Profile)
	}
	return b.String()
}

// encode writes a struct of plain fields; that never fails.
func encode(b *strings.Builder, v any) {
	e := toml.NewEncoder(b)
	e.Indent = ""
	_ = e.Encode(v)
}

// encodeIndented is encode with nested tables indented, as in the lock file.
func encodeIndented(b *strings.Builder, v any) { _ = toml.NewEncoder(b).Encode(v) }

func key(name string) string {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" {
		return name
	}
	return strconv.Quote(name)
}

// source is the right side of a dependency.
func (d Dependency) source() string {
	var parts []string
	add := func(key, val string) {
		if val != "" {
			parts = append(parts, key+" = "+strconv.Quote(val))
		}
	}
	add("path", d.Path)
	add("git", d.Git)
	add("oci", d.OCI)
	add("repo", d.Repo)
	add("tag", d.Tag)
	add("commit", d.Commit)
	add("branch", d.Branch)
	if len(parts) == 0 && d.Package == "" {
		return strconv.Quote(d.Version)
	}
	add("package", d.Package)
	add("version", d.Version)
	return "{ " + strings.Join(parts, ", ") + " }"
}

// Set adds a dependency or replaces the one of the same name.
func (f *File) Set(d Dependency) {
	for i := range f.Dependencies {
		if f.Dependencies[i].Name == d.Name {
			f.Dependencies[i] = d
			return
		}
	}
	f.Dependencies = append(f.Dependencies, d)
}

// Remove takes a dependency out and reports whether it was there.
func (f *File) Remove(name string) bool {
	for i := range f.Dependencies {
		if f.Dependencies[i].Name == name {
			f.Dependencies = slices.Delete(f.Dependencies, i, i+1)
			return true
		}
	}
	return false
}
