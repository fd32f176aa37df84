package mod

import (
	"sort"
	"strings"
)

// Lock is kcl.mod.lock: the packages that were chosen, sorted by name.
type Lock struct{ Packages []Locked }

// Locked is a chosen package with the checksum of its content.
type Locked struct {
	Name     string `toml:"name,omitempty"`
	FullName string `toml:"full_name,omitempty"`
	Version  string `toml:"version,omitempty"`
	Sum      string `toml:"sum,omitempty"`

	Reg     string `toml:"reg,omitempty"`
	Repo    string `toml:"repo,omitempty"`
	OCITag  string `toml:"oci_tag,omitempty"`
	URL     string `toml:"url,omitempty"`
	Branch  string `toml:"branch,omitempty"`
	Commit  string `toml:"commit,omitempty"`
	GitTag  string `toml:"git_tag,omitempty"`
	Package string `toml:"package,omitempty"`
	Path    string `toml:"path,omitempty"`
}

type lockFile struct {
	Dependencies map[string]Locked `toml:"dependencies"`
}

// ParseLock reads kcl.mod.lock; name is for messages.
func ParseLock(name, text string) (*Lock, error) {
	var raw lockFile
	if _, err := decode(name, text, &raw); err != nil {
		return nil, err
	}
	l := &Lock{}
	for key, p := range raw.Dependencies {
		if p.Name == "" {
			p.Name = key
		}
		if p.Name == ".." || strings.ContainsAny(p.Name, "/\\") {
			return nil, &Error{File: name, Msg: "dependencies." + key + ": the name is no name of a package"}
		}
		l.Packages = append(l.Packages, p)
	}
	sort.Slice(l.Packages, func(i, j int) bool { return l.Packages[i].Name < l.Packages[j].Name })
	return l, nil
}

// String is the text of kcl.mod.lock.
func (l *Lock) String() string {
	raw := lockFile{Dependencies: map[string]Locked{}}
	for _, p := range l.Packages {
		raw.Dependencies[p.Name] = p
	}
	var b strings.Builder
	if len(raw.Dependencies) > 0 {
		encodeIndented(&b, raw)
	}
	return b.String()
}

// Find is the locked package called name, or nil.
func (l *Lock) Find(name string) *Locked {
	for i := range l.Packages {
		if l.Packages[i].Name == name {
			return &l.Packages[i]
		}
	}
	return nil
}

// locked is how a dependency stands in the lock file.
func locked(d Dependency, version, sum string) Locked {
	p := Locked{Name: d.Name, Version: version, Sum: sum, Package: d.Package, Branch: d.Branch, Commit: d.Commit}
	p.FullName = d.PackageName() + "_" + version
	switch {
	case d.Git != "":
		p.URL, p.GitTag = d.Git, d.Tag
	case d.OCI != "":
		p.Reg, p.Repo, _ = strings.Cut(strings.TrimPrefix(d.OCI, "oci://"), "/")
		p.OCITag = d.Ref()
	case d.Repo != "":
		p.Repo, p.OCITag = d.Repo, d.Ref()
	}
	return p
}
