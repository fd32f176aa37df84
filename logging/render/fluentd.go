package render

import (
	"cmp"
	"crypto/md5"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
	"github.com/weft-dev/weft/logging/resource"
)

// Router is the configuration of one Fluentd before it is written: sources, a router, and a label for each FluentdConfig.
type Router struct {
	Owner    *resource.Document // Fluentd; nil if the set has none
	Sources  []*Element
	Labels   []*Label
	Problems []resource.Problem
	Used     []resource.Reference
	// KeepShadowed leaves several outputs of one tag side by side as the operator does, though only the first gets records.
	KeepShadowed bool
}

// Label is what one FluentdConfig or ClusterFluentdConfig selects, below the label to which its records are routed.
type Label struct {
	Config   *resource.Document // FluentdConfig, ClusterFluentdConfig, or the Fluentd itself for its default route
	Name     string             // with @
	Watch    Watch
	Numeric  bool // plugins are sorted by number
	Elements []*Element
	sources  bool // it brought sources
	Invalid  bool // nothing of it is rendered
}

// Watch is what a FluentdConfig watches.
type Watch struct {
	Namespaces, Hosts, Containers []string
	Labels                        map[string]string
}

// Element is one plugin of a document.
type Element struct {
	Document *resource.Document
	Section  *config.Section
}

// Fluentd makes the configurations of all Fluentds of a set, or one of everything if the set has configurations and no Fluentd.
func (c *Compiler) Fluentd(set *resource.Set) []*Router {
	owners := set.Kind(resource.FluentdGroup, "Fluentd")
	if len(owners) == 0 {
		if len(set.Kind(resource.FluentdGroup, "ClusterFluentdConfig"))+len(set.Kind(resource.FluentdGroup, "FluentdConfig")) == 0 {
			return nil
		}
		return []*Router{c.router(set, nil)}
	}
	var routers []*Router
	for _, owner := range owners {
		routers = append(routers, c.router(set, owner))
	}
	return routers
}

func (c *Compiler) router(set *resource.Set, owner *resource.Document) *Router {
	r := &Router{Owner: owner}
	selector, space := resource.Selector{}, c.Namespace
	if owner != nil {
		space = owner.Namespace
		var err error
		if selector, err = resource.ParseSelector(owner.Spec()["fluentdCfgSelector"]); err != nil {
			r.Problems = append(r.Problems, owner.Problem(resource.Error, "InvalidSelector", "spec.fluentdCfgSelector", "%v", err))
		}
		b := c.fluentdBuilder(owner, space)
		for i, item := range b.list(owner.Spec()["globalInputs"], "spec.globalInputs") {
			if s := b.element("input", "source", "", item, fmt.Sprintf("spec.globalInputs[%d]", i)); s != nil {
				r.Sources = append(r.Sources, &Element{owner, s})
			}
		}
		r.keep(b)
		c.defaultRoute(r, set, owner)
	}
	for _, cfg := range set.Select(resource.FluentdGroup, "ClusterFluentdConfig", "", selector) {
		c.label(r, set, cfg, space)
	}
	for _, cfg := range set.Select(resource.FluentdGroup, "FluentdConfig", "", selector) {
		c.label(r, set, cfg, space)
	}
	return r
}

func (c *Compiler) fluentdBuilder(d *resource.Document, space string) *builder {
	return &builder{doc: d, table: plugin.Fluentd(), found: c.Found, namespace: space, format: config.YAML}
}

func (r *Router) keep(b *builder) (failed bool) {
	r.Problems = append(r.Problems, b.problems...)
	for _, u := range b.used {
		r.Used = append(r.Used, u.Reference)
	}
	return slices.ContainsFunc(b.problems, func(p resource.Problem) bool { return p.Severity == resource.Error })
}

// defaultRoute takes the records that no FluentdConfig watches.
func (c *Compiler) defaultRoute(r *Router, set *resource.Set, owner *resource.Document) {
	label := &Label{Config: owner, Name: "@default"}
	c.plugins(r, set, label, owner, owner.Namespace, fmt.Sprintf("%s-%s-%s", owner.Kind, owner.Namespace, owner.Name), owner.Namespace, [][3]string{
		{"Input", "input", "defaultInputSelector"}, {"Filter", "filter", "defaultFilterSelector"}, {"Output", "output", "defaultOutputSelector"}})
	if r.copies(label); !label.empty() {
		r.Labels = append(r.Labels, label)
	}
}

// copies leaves out copy outputs that have nothing to send to.
func (r *Router) copies(label *Label) {
	all := slices.Clone(label.Elements)
	label.Elements = slices.DeleteFunc(label.Elements, func(e *Element) bool {
		s := e.Section
		if s.Kind != "match" || s.Value("@type") != "copy" || slices.ContainsFunc(all, func(o *Element) bool {
			return o.Section.Kind == "match" && o.Section.Arg == s.Arg && o.Section.Value("@type") != "copy"
		}) {
			return false
		}
		r.Problems = append(r.Problems, e.Document.Problem(resource.Warning, "NothingToCopy", "spec.outputs", "no other output of this configuration has the tag %s; the copy is left out", s.Arg))
		return true
	})
}

func (c *Compiler) label(r *Router, set *resource.Set, cfg *resource.Document, space string) {
	label := &Label{Config: cfg}
	spec := cfg.Spec()
	b := c.fluentdBuilder(cfg, space)
	b.fluentdFields(spec)
	label.Watch = Watch{
		Hosts: sorted(b.texts(spec["watchedHosts"], "spec.watchedHosts")), Containers: sorted(b.texts(spec["watchedConstainers"], "spec.watchedConstainers")),
		Labels: map[string]string{},
	}
	for name, value := range b.object(spec["watchedLabels"], "spec.watchedLabels") {
		text, ok := value.(string)
		if !ok {
			b.fail("WrongType", "spec.watchedLabels."+name, "expected a text, found %s", describe(value))
		}
		label.Watch.Labels[name] = text
	}
	id := "cluster"
	if cfg.Kind == "FluentdConfig" {
		label.Watch.Namespaces, id = []string{cfg.Namespace}, cfg.Namespace
	} else {
		label.Watch.Namespaces = sorted(b.texts(spec["watchedNamespaces"], "spec.watchedNamespaces"))
	}
	label.Name = label.Watch.label(cfg.Namespace, cfg.Name)
	if order, _ := spec["pluginSortOrder"].(string); order == "index" {
		label.Numeric = true
	}
	id = cfg.Kind + "-" + id + "-" + cfg.Name
	if slices.ContainsFunc(r.Labels, func(l *Label) bool { return l.Name == label.Name }) {
		b.fail("DuplicateRoute", "spec", "another configuration has the same route")
	}
	if label.Invalid = r.keep(b); label.Invalid {
		r.Labels = append(r.Labels, label)
		return
	}
	if cfg.Kind == "FluentdConfig" {
		c.plugins(r, set, label, cfg, cfg.Namespace, id, cfg.Namespace, [][3]string{
			{"Input", "input", "inputSelector"}, {"Filter", "filter", "filterSelector"}, {"Output", "output", "outputSelector"}})
	}
	c.plugins(r, set, label, cfg, "", id, space, [][3]string{
		{"ClusterInput", "input", "clusterInputSelector"}, {"ClusterFilter", "filter", "clusterFilterSelector"}, {"ClusterOutput", "output", "clusterOutputSelector"}})
	r.copies(label)
	if label.empty() {
		r.Problems = append(r.Problems, cfg.Problem(resource.Warning, "NothingSelected", "spec", "no usable input, filter or output is selected; records are not routed here"))
	}
	r.Labels = append(r.Labels, label)
}

func (b *builder) fluentdFields(spec map[string]any) {
	known := []string{"emit_mode", "stickyTags", "watchedHosts", "watchedConstainers", "watchedLabels", "clusterFilterSelector", "clusterOutputSelector", "clusterInputSelector", "pluginSortOrder"}
	if b.doc.Kind == "ClusterFluentdConfig" {
		known = append(known, "watchedNamespaces")
	} else {
		known = append(known, "filterSelector", "outputSelector", "inputSelector")
	}
	for _, name := range slices.Sorted(maps.Keys(spec)) {
		if !slices.Contains(known, name) {
			hint := b.meant("spec."+name, known)
			if name == "watchedContainers" {
				hint = "; watchedConstainers is meant, the name that the resource has always had"
			}
			b.warn("UnknownField", "spec."+name, "there is no such field%s; it is left out", hint)
		}
	}
	if order, ok := spec["pluginSortOrder"].(string); ok && order != "" && order != "index" && order != "lexicographic" {
		b.fail("InvalidValue", "spec.pluginSortOrder", "%q is not allowed; there are lexicographic and index", order)
	}
	for _, name := range []string{"emit_mode", "stickyTags"} {
		if text, _ := spec[name].(string); text != "" {
			b.warn("NotRendered", "spec."+name, "the router takes this for all routes at once; it is left out")
		}
	}
}

func sorted(texts []string) []string { return slices.Sorted(slices.Values(texts)) }

// label is the name under which the records are routed.
func (w Watch) label(namespace, name string) string {
	text := namespace + name + strings.Join(w.Namespaces, "")
	for _, key := range slices.Sorted(maps.Keys(w.Labels)) {
		text += key + w.Labels[key]
	}
	return fmt.Sprintf("@%x", md5.Sum([]byte(text)))
}

// plugins adds what selectors select: kind of resource, kind of plugin, name of the selector's field.
func (c *Compiler) plugins(r *Router, set *resource.Set, label *Label, cfg *resource.Document, namespace, id, space string, kinds [][3]string) {
	elements := map[string]string{"input": "source", "filter": "filter", "output": "match"}
	for _, kind := range kinds {
		value, given := cfg.Spec()[kind[2]]
		if !given || value == nil {
			continue
		}
		selector, err := resource.ParseSelector(value)
		if err != nil {
			r.Problems = append(r.Problems, cfg.Problem(resource.Error, "InvalidSelector", "spec."+kind[2], "%v", err))
		}
		type_ := strings.ToLower(kind[0])
		if kind[0] == "Input" { // the operator calls them so; the ids of running agents depend on it
			type_ = "filter"
		}
		for _, d := range set.Select(resource.FluentdGroup, kind[0], namespace, selector) {
			b := c.fluentdBuilder(d, space)
			made := b.resource(kind[1], elements[kind[1]], func(n int) string {
				return fmt.Sprintf("%s::%s::%s::%s-%d", id, cmp.Or(d.Namespace, "cluster"), type_, d.Name, n)
			})
			if r.keep(b) {
				continue
			}
			for _, s := range made {
				e := &Element{d, s}
				label.sources = label.sources || s.Kind == "source"
				if slices.ContainsFunc(append(slices.Clone(label.Elements), r.Sources...), e.same) {
					continue
				}
				if s.Kind == "source" {
					r.Sources = append(r.Sources, e)
				} else {
					label.Elements = append(label.Elements, e)
				}
			}
		}
	}
}

// same tells whether two plugins differ in nothing but their id.
func (e *Element) same(other *Element) bool {
	return e.Section.Kind == other.Section.Kind && e.Section.Arg == other.Section.Arg && e.Document.Group == other.Document.Group && e.fingerprint() == other.fingerprint()
}

func (e *Element) fingerprint() string {
	s := *e.Section
	s.Properties = slices.DeleteFunc(slices.Clone(s.Properties), func(p config.Property) bool { return p.Key == "@id" })
	text, err := config.Append(nil, config.Fluentd, &s)
	if err != nil {
		return fmt.Sprintf("%p", e)
	}
	return string(text)
}

// Drop leaves out the documents that a test names.
func (r *Router) Drop(drop func(*resource.Document) bool) {
	gone := func(e *Element) bool { return drop(e.Document) }
	r.Sources = slices.DeleteFunc(r.Sources, gone)
	for _, l := range r.Labels {
		l.Elements = slices.DeleteFunc(l.Elements, gone)
	}
}
