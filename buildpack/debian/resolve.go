package debian

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Index is what an archive has.
type Index struct {
	byName    map[string][]*Package // newest first
	providers map[string][]*Package
}

// NewIndex puts packages in order.
func NewIndex(packages []*Package) *Index {
	x := &Index{byName: map[string][]*Package{}, providers: map[string][]*Package{}}
	for _, p := range packages {
		x.byName[p.Name] = append(x.byName[p.Name], p)
		for _, v := range p.provides {
			x.providers[v.name] = append(x.providers[v.name], p)
		}
	}
	for _, list := range x.byName {
		sort.SliceStable(list, func(i, j int) bool { return Compare(list[i].Version, list[j].Version) > 0 })
	}
	for _, list := range x.providers {
		sort.SliceStable(list, func(i, j int) bool {
			if list[i].Name != list[j].Name {
				return list[i].Name < list[j].Name
			}
			return Compare(list[i].Version, list[j].Version) > 0
		})
	}
	return x
}

// resolution is a set of packages under way.
type resolution struct {
	index   *Index
	without map[string]bool
	chosen  map[string]*Package
	why     map[string]string // package -> who needs it
	queue   []*Package
}

// Resolve gives the packages of names and what they depend on, sorted by name. Only hard dependencies count. Names in without are taken
// to be there. Of present, which a lower layer has, nothing is chosen anew.
func (x *Index) Resolve(names []string, without []string, present []*Package) ([]*Package, error) {
	r := &resolution{index: x, without: map[string]bool{}, chosen: map[string]*Package{}, why: map[string]string{}}
	for _, n := range without {
		r.without[n] = true
	}
	lower := map[string]bool{}
	for _, p := range present {
		r.chosen[p.Name], lower[p.Name] = p, true
	}
	for _, n := range names {
		delete(r.without, n) // who asks for it gets it
	}
	for _, n := range names {
		rel, err := parseRelation(n)
		if err != nil {
			return nil, err
		}
		if r.satisfied(rel) {
			continue
		}
		p := r.candidate(rel)
		if p == nil {
			return nil, fmt.Errorf("the package %s is not in the archive%s", rel, x.others(rel))
		}
		r.choose(p, "")
	}
	for len(r.queue) > 0 {
		p := r.queue[0]
		r.queue = r.queue[1:]
		for _, any := range p.depends {
			if err := r.meet(p, any); err != nil {
				return nil, err
			}
		}
	}
	var out []*Package
	for name, p := range r.chosen {
		if !lower[name] {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *Package) int { return strings.Compare(a.Name, b.Name) })
	return out, r.checkClashes()
}

func (r *resolution) choose(p *Package, why string) {
	r.chosen[p.Name], r.why[p.Name] = p, why
	r.queue = append(r.queue, p)
}

// meet makes sure that one of the alternatives is there.
func (r *resolution) meet(p *Package, any []relation) error {
	if slices.ContainsFunc(any, r.satisfied) {
		return nil
	}
	for _, rel := range any {
		if c := r.candidate(rel); c != nil && r.chosen[c.Name] == nil {
			r.choose(c, p.Name)
			return nil
		}
	}
	var texts []string
	for _, rel := range any {
		texts = append(texts, rel.String())
	}
	return fmt.Errorf("the package %s%s needs %s, which the archive does not have%s", p.Name, r.because(p.Name), strings.Join(texts, " or "), r.index.others(any[0]))
}

// because tells through which packages one came in.
func (r *resolution) because(name string) string {
	var path []string
	for why := r.why[name]; why != "" && len(path) < 8; why = r.why[why] {
		path = append(path, why)
	}
	if len(path) == 0 {
		return ""
	}
	return " (needed by " + strings.Join(path, ", for ") + ")"
}

func (x *Index) others(rel relation) string {
	if list := x.byName[rel.name]; len(list) > 0 {
		return ", only version " + list[0].Version
	}
	return ""
}

// satisfied reports whether what is chosen meets the relation.
func (r *resolution) satisfied(rel relation) bool {
	if r.without[rel.name] {
		return true
	}
	if p := r.chosen[rel.name]; p != nil {
		return rel.admits(p.Version)
	}
	return slices.ContainsFunc(r.index.providers[rel.name], func(p *Package) bool { return r.chosen[p.Name] == p && provides(p, rel) })
}

// candidate is the package to take for a relation: the newest of its name, else the first that provides it.
func (r *resolution) candidate(rel relation) *Package {
	for _, p := range r.index.byName[rel.name] {
		if rel.admits(p.Version) {
			return p
		}
	}
	for _, p := range r.index.providers[rel.name] {
		if r.index.byName[p.Name][0] == p && provides(p, rel) {
			return p
		}
	}
	return nil
}

// provides reports whether p stands in for the relation; a version counts only if p provides one.
func provides(p *Package, rel relation) bool {
	return slices.ContainsFunc(p.provides, func(v relation) bool {
		return v.name == rel.name && (rel.op == "" || v.op == "=" && rel.admits(v.version))
	})
}

func (r *resolution) checkClashes() error {
	names := make([]string, 0, len(r.chosen))
	for name := range r.chosen {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, c := range r.chosen[name].clashes {
			if other := r.chosen[c.name]; other != nil && other.Name != name && c.admits(other.Version) {
				return fmt.Errorf("the packages %s %s and %s %s do not go together", name, r.chosen[name].Version, other.Name, other.Version)
			}
		}
	}
	return nil
}
