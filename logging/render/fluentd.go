package render

import (
	"cmp"
	"crypto/md5"
	"fmt"
	"maps"
	"slices"
	"strconv"
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

// resource makes the plugins of a resource's spec.inputs, filters or outputs.
func (b *builder) resource(kind, element string, id func(n int) string) []*config.Section {
	spec, name := b.doc.Spec(), kind+"s"
	for _, key := range slices.Sorted(maps.Keys(spec)) {
		if key != name {
			b.fail("UnknownField", "spec."+key, "there is no such field; the plugins stand below spec.%s", name)
		}
	}
	items := b.list(spec[name], "spec."+name)
	if len(items) == 0 {
		b.fail("NoPlugin", "spec."+name, "no %s is given", kind)
	}
	var made []*config.Section
	for n, item := range items {
		if s := b.element(kind, element, id(n), item, fmt.Sprintf("spec.%s[%d]", name, n)); s != nil {
			made = append(made, s)
		}
	}
	return made
}

// element makes one plugin.
func (b *builder) element(kind, element, id string, item any, path string) *config.Section {
	object := b.object(item, path)
	s := &config.Section{Kind: element}
	common := b.table.Common(kind)
	known := []string{"customPlugin"}
	for _, o := range common.Options {
		known = append(known, o.Field)
	}
	var used *plugin.Plugin
	for _, p := range b.table.Kind(kind) {
		known = append(known, p.Field)
		if object[p.Field] == nil {
			continue
		}
		if used != nil || object["customPlugin"] != nil {
			b.fail("TwoPlugins", path+"."+p.Field, "one entry has one plugin; make another entry of the list")
			return nil
		}
		used = p
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, name) {
			b.fail("UnknownField", path+"."+name, "there is no such field%s", b.meant(path+"."+name, known))
		}
	}
	b.fill(s, common.Options, object, path)
	if id != "" {
		s.Properties = slices.DeleteFunc(s.Properties, func(p config.Property) bool { return p.Key == "@id" })
		s.Add("@id", id)
	}
	if s.Arg == "" && element != "source" {
		s.Arg = "**"
	}
	switch {
	case used != nil:
		s.Add("@type", used.Name)
		value, at := b.object(object[used.Field], path+"."+used.Field), path+"."+used.Field
		b.unknown(used, value, at)
		b.fill(s, used.Options, value, at)
		b.required(used, value, at)
		b.completeFluentd(s, used, at)
	case object["customPlugin"] != nil:
		b.customFluentd(s, b.object(object["customPlugin"], path+".customPlugin"), path+".customPlugin")
	default:
		b.fail("NoPlugin", path, "no plugin is named; give one of %s", fields(b.table, kind))
		return nil
	}
	b.finishFluentd(s)
	return s
}

// completeFluentd adds what the operator adds by itself.
func (b *builder) completeFluentd(s *config.Section, p *plugin.Plugin, at string) {
	if p.Name == "kafka2" && p.Kind == "output" && !slices.ContainsFunc(s.Sections, func(c *config.Section) bool { return c.Kind == "format" }) {
		inner(s, "format").Add("@type", "json")
	}
	if ruby, _ := s.Get("enable_ruby"); ruby.Value == "true" && b.doc.Namespace != "" && b.doc.Kind == "Filter" {
		b.warn("RubyOfTenant", at+".enableRuby", "a namespace's filter runs Ruby inside of the common Fluentd, with all its rights")
	}
}

// finishFluentd drops what is set twice (a secret before a plain value) and puts names into their place.
func (b *builder) finishFluentd(s *config.Section) {
	seen := map[string]int{}
	kept := s.Properties[:0]
	for _, p := range s.Properties {
		if i, twice := seen[p.Key]; twice {
			b.warn("SetTwice", p.Pos.File, "%s is set by two fields; the later one counts", p.Key)
			kept[i] = p
			continue
		}
		if strings.ContainsRune(p.Value, 0) {
			b.fail("InvalidValue", p.Pos.File, "the value has a zero byte")
		}
		if strings.HasPrefix(p.Key, "@") && !slices.Contains([]string{"@id", "@type", "@label", "@log_level"}, p.Key) {
			b.fail("InvalidValue", p.Pos.File, "%q: names that begin with @ are the engine's own", p.Key)
		}
		seen[p.Key] = len(kept)
		kept = append(kept, p)
	}
	s.Properties = kept
	if protocol := s.Value("protocol"); s.Kind == "transport" && protocol != "" {
		s.Arg = protocol
	}
	if s.Kind == "buffer" && s.Value("path") == "" && s.Value("@type") != "memory" {
		s.Add("path", "/buffers/fluentd/log")
	}
	for _, child := range s.Sections {
		b.finishFluentd(child)
	}
}

// section fills a section inside of a plugin.
func (b *builder) section(s *config.Section, o *plugin.Option, value any, path string) {
	object := b.object(value, path)
	if object == nil {
		return
	}
	child := &config.Section{Kind: o.Group}
	group := b.table.Groups[o.Group]
	b.fill(child, group.Options, object, path)
	for _, inside := range group.Options {
		if (inside.Required || inside.Needed) && field(object, strings.TrimSuffix(inside.Field, "[]")) == nil {
			b.fail("MissingField", path+"."+inside.Field, "this field is required")
		}
	}
	if len(child.Properties) == 0 && len(child.Sections) == 0 && (child.Kind == "and" || child.Kind == "or") {
		return
	}
	s.Sections = append(s.Sections, child)
}

// customFluentd takes a piece of configuration that must be whole: what it opens it closes, and it is the kind of element that stands here.
func (b *builder) customFluentd(s *config.Section, object map[string]any, path string) {
	for name := range object {
		if name != "config" {
			b.fail("UnknownField", path+"."+name, "a customPlugin has config")
		}
	}
	text, _ := object["config"].(string)
	none := config.Options{Format: config.Fluentd,
		Open: func(string) ([]byte, error) { return nil, fmt.Errorf("a customPlugin cannot include files") },
		Glob: func(string) ([]string, error) { return nil, fmt.Errorf("a customPlugin cannot include files") }}
	parsed, err := config.Parse("", []byte(text), none)
	if err != nil {
		b.fail("InvalidValue", path+".config", "%v", err)
		return
	}
	if len(parsed.Properties) > 0 || len(parsed.Sections) == 0 {
		b.fail("InvalidValue", path+".config", "expected <%s> ... </%s>", s.Kind, s.Kind)
		return
	}
	for _, section := range parsed.Sections {
		if section.Kind != s.Kind {
			b.fail("InvalidValue", path+".config", "<%s> cannot stand here; expected <%s>", section.Kind, s.Kind)
			return
		}
	}
	if len(parsed.Sections) == 1 {
		s.Arg = parsed.Sections[0].Arg
	}
	s.Text = strings.TrimRight(text, "\n")
}

// Files are the files of the configuration, as Fluentd's Secret holds them.
func (r *Router) Files() (map[string][]byte, error) {
	level, workers := "", int64(1)
	if r.Owner != nil {
		level, _ = r.Owner.Spec()["logLevel"].(string)
		if n, ok := integer(r.Owner.Spec()["workers"]); ok {
			workers = n
		}
	}
	app, err := r.App()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"fluent.conf": []byte("# includes all files\n@include /fluentd/etc/system.conf\n@include /fluentd/etc/app.conf\n@include /fluentd/etc/log.conf\n"),
		"app.conf":    app,
		"system.conf": fmt.Appendf(nil, "# Enable RPC endpoint\n<system>\n\trpc_endpoint 127.0.0.1:24444\n\tlog_level %s\n\tworkers %d\n</system>\n", cmp.Or(level, "info"), workers),
		"log.conf": []byte("# Do not collect fluentd's own logs to avoid infinite loops.\n<match **>\n\t@type null\n\t@id main-no-output\n</match>\n" +
			"<label @FLUENT_LOG>\n\t<match fluent.*>\n\t\t@type null\n\t\t@id main-fluentd-log\n\t</match>\n</label>\n"),
	}
	if len(app) == 0 {
		files["system.conf"] = nil
	}
	return files, nil
}

// App is the file with sources, router and labels; empty if there is nothing to do.
func (r *Router) App() ([]byte, error) {
	var out []byte
	var err error
	labels := slices.Clone(r.Labels)
	slices.SortStableFunc(labels, func(a, b *Label) int { return cmp.Compare(a.Name, b.Name) })
	if len(r.Sources) == 0 && !slices.ContainsFunc(labels, func(l *Label) bool { return len(l.Elements) > 0 }) {
		return nil, nil
	}
	for _, e := range r.Sources {
		if out, err = appendElement(out, sortSection(e.Section, false)); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Document, err)
		}
	}
	if out, err = config.Append(out, config.Fluentd, r.route(labels)); err != nil {
		return nil, err
	}
	for _, l := range labels {
		if l.empty() {
			continue
		}
		if out, err = config.Append(out, config.Fluentd, l.section(r.KeepShadowed)); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Config, err)
		}
	}
	return []byte(strings.TrimRight(string(out), "\n")), nil
}

func appendElement(out []byte, s *config.Section) ([]byte, error) {
	if s.Text == "" {
		return config.Append(out, config.Fluentd, s)
	}
	for line := range strings.SplitSeq(s.Text, "\n") {
		if line != "" {
			out = append(out, "  "+line+"\n"...)
		}
	}
	return out, nil
}

// route sends each record to the label of the configuration that watches it.
func (r *Router) route(labels []*Label) *config.Section {
	match := &config.Section{Kind: "match", Arg: "**"}
	match.Add("@id", "main")
	match.Add("@type", "label_router")
	for _, l := range labels {
		if l.Name == "@default" {
			match.Add("default_route", "@default")
			continue
		}
		if l.Invalid || l.empty() { // Fluentd refuses a route to a label that is not there
			continue
		}
		route := &config.Section{Kind: "route"}
		route.Add("@label", l.Name)
		watch := &config.Section{Kind: "match"}
		add := func(key string, texts []string) {
			if len(texts) > 0 {
				watch.Add(key, strings.Join(texts, ","))
			}
		}
		add("container_names", l.Watch.Containers)
		add("hosts", l.Watch.Hosts)
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(l.Watch.Labels)) {
			pairs = append(pairs, key+":"+l.Watch.Labels[key])
		}
		add("labels", pairs)
		add("namespaces", l.Watch.Namespaces)
		route.Sections = []*config.Section{watch}
		match.Sections = append(match.Sections, route)
	}
	return match
}

// empty labels are not written.
func (l *Label) empty() bool { return len(l.Elements) == 0 && !l.sources }

// section is the label with its plugins. Several outputs of one tag become copies, since Fluentd gives a record to the first only.
func (l *Label) section(keepShadowed bool) *config.Section {
	label := &config.Section{Kind: "label", Arg: l.Name}
	byTag := map[string][]*Element{}
	for _, e := range l.Elements {
		if e.Section.Kind == "match" {
			byTag[e.Section.Arg] = append(byTag[e.Section.Arg], e)
		}
	}
	done := map[string]bool{}
	for _, e := range l.Elements {
		s := e.Section
		if same := byTag[s.Arg]; s.Kind == "match" && (len(same) > 1 || s.Value("@type") == "copy") {
			if done[s.Arg] {
				continue
			}
			if merged := merge(same, keepShadowed, l.Numeric); merged != nil {
				done[s.Arg] = true
				s = merged
			}
		}
		label.Sections = append(label.Sections, sortSection(s, l.Numeric))
	}
	sortSections(label.Sections, l.Numeric)
	return label
}

// merge makes a copy output of several; nil if they stay side by side.
func merge(same []*Element, keepShadowed, numeric bool) *config.Section {
	var copied *config.Section
	for _, e := range same {
		if e.Section.Value("@type") == "copy" {
			copied = e.Section
		}
	}
	if copied == nil {
		if keepShadowed || len(same) < 2 {
			return nil
		}
		copied = &config.Section{Kind: "match", Arg: same[0].Section.Arg}
		copied.Add("@type", "copy")
	}
	out := *copied
	out.Sections = slices.Clone(copied.Sections)
	for _, e := range same {
		if e.Section.Value("@type") == "copy" {
			continue
		}
		store := *e.Section
		if store.Text != "" {
			parsed, err := config.Parse("", []byte(store.Text), config.Options{Format: config.Fluentd})
			if err != nil || len(parsed.Sections) != 1 {
				return nil
			}
			store = *parsed.Sections[0]
		}
		store.Kind, store.Arg = "store", ""
		out.Sections = append(out.Sections, &store)
	}
	sortSections(out.Sections, numeric)
	return &out
}

// sortSection puts properties and inner sections into the operator's order.
func sortSection(s *config.Section, numeric bool) *config.Section {
	if s.Text != "" {
		return s
	}
	sorted := *s
	sorted.Properties = slices.Clone(s.Properties)
	slices.SortStableFunc(sorted.Properties, func(a, b config.Property) int { return cmp.Compare(a.Key, b.Key) })
	sorted.Sections = nil
	for _, child := range s.Sections {
		sorted.Sections = append(sorted.Sections, sortSection(child, numeric))
	}
	sortSections(sorted.Sections, numeric)
	return &sorted
}

// sortSections: by kind; the pattern ** last, since it takes what the others would; by id.
func sortSections(sections []*config.Section, numeric bool) {
	last := func(s *config.Section) int {
		if s.Arg == "**" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(sections, func(a, b *config.Section) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(last(a), last(b)), compareIDs(sectionID(a), sectionID(b), numeric))
	})
}

func sectionID(s *config.Section) string {
	if id := s.Value("@id"); id != "" {
		return id
	}
	for _, child := range s.Sections { // a copy made here stands where its first output would
		if child.Kind == "store" {
			return child.Value("@id")
		}
	}
	return ""
}

func compareIDs(a, b string, numeric bool) int {
	if numeric {
		i, j := strings.LastIndexByte(a, '-'), strings.LastIndexByte(b, '-')
		if i >= 0 && j >= 0 && a[:i] == b[:j] {
			m, err1 := strconv.Atoi(a[i+1:])
			n, err2 := strconv.Atoi(b[j+1:])
			if err1 == nil && err2 == nil {
				return cmp.Compare(m, n)
			}
		}
	}
	return cmp.Compare(a, b)
}

// Drop leaves out the documents that a test names.
func (r *Router) Drop(drop func(*resource.Document) bool) {
	gone := func(e *Element) bool { return drop(e.Document) }
	r.Sources = slices.DeleteFunc(r.Sources, gone)
	for _, l := range r.Labels {
		l.Elements = slices.DeleteFunc(l.Elements, gone)
	}
}
