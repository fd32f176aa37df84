// Package render turns Fluent Operator's resources into the configurations of Fluent Bit and Fluentd. It is a pure function of documents and of
// what their references lead to. Each document is rendered alone: what is wrong with it becomes a problem of this document, and the
// others are rendered all the same. Sections made here have the path of the resource's field as the file of their properties' positions.
package render

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
	"github.com/weft-dev/weft/logging/resource"
	"github.com/weft-dev/weft/logging/route"
)

// Role is the part of a pipeline that a document plays.
type Role int

// The roles, in the order of the configuration.
const (
	RoleService Role = iota
	RoleInput
	RoleTenantInput // reads the files of a tenant, where tenants are told apart by tag
	RoleFilter
	RoleRoute // rewrites the tags of a tenant's records
	RoleTenantFilter
	RoleTenantOutput
	RoleOutput
	RoleParser
	RoleMultiline
)

// Entry is what one document adds to a pipeline in one role.
type Entry struct {
	Document *resource.Document
	Role     Role
	Tenant   string // namespace, "" for the cluster
	Sections []*config.Section
	texts    map[config.Format][]byte
}

// Pipeline is a configuration of one set of agents before it is written.
type Pipeline struct {
	Config    *resource.Document // ClusterFluentBitConfig
	Owner     *resource.Document // FluentBit or Collector; nil if none names the configuration
	Namespace string             // of the Secret
	Format    config.Format
	Entries   []*Entry
	Problems  []resource.Problem
	Scripts   map[string]string
	Used      []resource.Reference
	// Quotas are those of the tenants' namespaces that have one.
	Quotas map[string]route.Quota
}

// Compiler makes pipelines and keeps what it made of each document, so that a change of one costs only this one.
type Compiler struct {
	Found resource.Found
	// Namespace is where the Secrets of a ClusterFluentBitConfig without namespace are.
	Namespace string
	kept      map[keptKey]*kept
	derived   map[derivedKey]*derived
	round     int
}

type keptKey struct {
	document *resource.Document
	role     Role
	tenant   string
	as       string // name of a cluster parser in a tenant
	format   config.Format
	space    string
}

type kept struct {
	entry    *Entry
	problems []resource.Problem
	used     []used
	scripts  map[string]string
	names    string
	round    int
}

// FluentBit makes the pipelines of all ClusterFluentBitConfigs that a FluentBit or Collector names, or of all there are if the set has neither.
func (c *Compiler) FluentBit(set *resource.Set) []*Pipeline {
	c.begin()
	defer c.end()
	var pipelines []*Pipeline
	owners := append(slices.Clone(set.Kind(resource.FluentBitGroup, "FluentBit")), set.Kind(resource.FluentBitGroup, "Collector")...)
	for _, cfg := range set.Kind(resource.FluentBitGroup, "ClusterFluentBitConfig") {
		named := false
		for _, owner := range owners {
			if name, _ := owner.Spec()["fluentBitConfigName"].(string); name == cfg.Name {
				named = true
				pipelines = append(pipelines, c.pipeline(set, cfg, owner))
			}
		}
		if !named && len(owners) == 0 {
			pipelines = append(pipelines, c.pipeline(set, cfg, nil))
		}
	}
	for _, owner := range owners {
		name, _ := owner.Spec()["fluentBitConfigName"].(string)
		if name != "" && !slices.ContainsFunc(set.Kind(resource.FluentBitGroup, "ClusterFluentBitConfig"), func(d *resource.Document) bool { return d.Name == name }) {
			p := &Pipeline{Owner: owner}
			p.Problems = append(p.Problems, owner.Problem(resource.Error, "ConfigNotFound", "spec.fluentBitConfigName", "there is no ClusterFluentBitConfig %s", name))
			pipelines = append(pipelines, p)
		}
	}
	return pipelines
}

func (c *Compiler) begin() {
	if c.kept == nil {
		c.kept, c.derived = map[keptKey]*kept{}, map[derivedKey]*derived{}
	}
	c.round++
}

// end forgets what was not asked for in this round.
func (c *Compiler) end() {
	for key, k := range c.kept {
		if k.round != c.round {
			delete(c.kept, key)
		}
	}
	for key, d := range c.derived {
		if d.round != c.round {
			delete(c.derived, key)
		}
	}
}

func (c *Compiler) pipeline(set *resource.Set, cfg, owner *resource.Document) *Pipeline {
	spec := cfg.Spec()
	p := &Pipeline{Config: cfg, Owner: owner, Format: config.Classic, Namespace: c.Namespace, Scripts: map[string]string{}}
	if f, _ := spec["configFileFormat"].(string); f == "yaml" {
		p.Format = config.YAML
	}
	if ns, _ := spec["namespace"].(string); ns != "" {
		p.Namespace = ns
	} else if owner != nil && (owner.Kind == "Collector" || p.Namespace == "") {
		p.Namespace = owner.Namespace
	}
	service := &builder{doc: cfg, table: plugin.FluentBit(), found: c.Found, namespace: p.Namespace}
	service.unknownIn("ClusterFluentBitConfig")
	if s := service.service(spec["service"]); s != nil {
		p.Entries = append(p.Entries, &Entry{Document: cfg, Role: RoleService, Sections: []*config.Section{s}})
	}
	p.Problems = append(p.Problems, service.problems...)
	select_ := func(kind, name string) []*resource.Document {
		return p.selected(set, cfg, kind, "", "spec."+name, spec[name])
	}
	inputs := select_("ClusterInput", "inputSelector")
	for _, d := range inputs {
		c.add(p, d, RoleInput, "", names{}, (*builder).input)
	}
	for _, d := range byOrdinal(select_("ClusterFilter", "filterSelector")) {
		c.add(p, d, RoleFilter, "", names{}, (*builder).filter)
	}
	for _, d := range select_("ClusterOutput", "outputSelector") {
		c.add(p, d, RoleOutput, "", names{}, (*builder).output)
	}
	for _, d := range select_("ClusterParser", "parserSelector") {
		c.add(p, d, RoleParser, "", names{}, (*builder).parser)
	}
	for _, d := range select_("ClusterMultilineParser", "multilineParserSelector") {
		c.add(p, d, RoleMultiline, "", names{}, (*builder).multilineParser)
	}
	if owner == nil || owner.Kind == "FluentBit" {
		c.tenants(p, set, inputs)
	}
	slices.SortStableFunc(p.Entries, func(a, b *Entry) int { return cmp.Compare(a.Role, b.Role) })
	return p
}

// selected are the documents that a selector selects; a broken selector selects nothing and is a problem.
func (p *Pipeline) selected(set *resource.Set, of *resource.Document, kind, namespace, path string, value any) []*resource.Document {
	selector, err := resource.ParseSelector(value)
	if err != nil {
		p.Problems = append(p.Problems, of.Problem(resource.Error, "InvalidSelector", path, "%v", err))
	}
	return set.Select(resource.FluentBitGroup, kind, namespace, selector)
}

func byOrdinal(documents []*resource.Document) []*resource.Document {
	ordinal := func(d *resource.Document) int64 {
		n, _ := integer(d.Spec()["ordinal"])
		return n
	}
	slices.SortStableFunc(documents, func(a, b *resource.Document) int {
		return cmp.Or(cmp.Compare(ordinal(a), ordinal(b)), cmp.Compare(a.Name, b.Name))
	})
	return documents
}

type make_ func(*builder) []*config.Section

func (c *Compiler) add(p *Pipeline, d *resource.Document, role Role, tenant string, n names, make make_) {
	c.addAs(p, d, role, tenant, "", n, make)
}

// addAs adds a document, from what is kept of it if it and what it refers to did not change.
func (c *Compiler) addAs(p *Pipeline, d *resource.Document, role Role, tenant, as string, n names, make make_) {
	space := p.Namespace
	if tenant != "" {
		space = tenant
	}
	key := keptKey{d, role, tenant, as, p.Format, space}
	k := c.kept[key]
	if k == nil || k.names != n.key || !c.same(k.used) {
		b := &builder{doc: d, table: plugin.FluentBit(), found: c.Found, namespace: space, names: n}
		if tenant != "" {
			b.tenant = n.suffix
		} else {
			b.names = names{}
		}
		b.as, b.format = cmp.Or(as, d.Name), p.Format
		b.unknownIn(d.Kind)
		sections := make(b)
		k = &kept{problems: b.problems, used: b.used, scripts: b.scripts, names: n.key, entry: &Entry{Document: d, Role: role, Tenant: tenant, Sections: sections, texts: map[config.Format][]byte{}}}
		c.kept[key] = k
	}
	k.round = c.round
	p.Problems = append(p.Problems, k.problems...)
	for _, u := range k.used {
		p.Used = append(p.Used, u.Reference)
	}
	if slices.ContainsFunc(k.problems, func(x resource.Problem) bool { return x.Severity == resource.Error }) || len(k.entry.Sections) == 0 {
		return
	}
	maps.Copy(p.Scripts, k.scripts)
	p.Entries = append(p.Entries, k.entry)
}

func (c *Compiler) same(all []used) bool {
	for _, u := range all {
		if value, ok := c.Found.Lookup(u.Reference); value != u.value || ok != u.ok {
			return false
		}
	}
	return true
}

// Without is the pipeline without the documents that a test names.
func (p *Pipeline) Without(drop func(*resource.Document) bool) *Pipeline {
	q := *p
	q.Entries = slices.DeleteFunc(slices.Clone(p.Entries), func(e *Entry) bool { return e.Role != RoleService && drop(e.Document) })
	return &q
}

// Files are the files of the configuration, as the agents' Secret holds them.
func (p *Pipeline) Files() (map[string][]byte, error) {
	files := map[string][]byte{}
	main, name := []byte(nil), "fluent-bit.conf"
	var err error
	if p.Format == config.YAML {
		name = "fluent-bit.yaml"
		main, err = p.yaml()
	} else {
		main, err = p.classic()
	}
	if err != nil {
		return nil, err
	}
	files[name] = main
	if files["parsers.conf"], err = p.parsers(RoleParser); err != nil {
		return nil, err
	}
	if files["parsers_multiline.conf"], err = p.parsers(RoleMultiline); err != nil {
		return nil, err
	}
	for script, text := range p.Scripts {
		files[script] = []byte(text)
	}
	return files, nil
}

func (e *Entry) text(format config.Format) ([]byte, error) {
	if text, ok := e.texts[format]; ok {
		return text, nil
	}
	text, err := config.Append(nil, format, e.Sections...)
	if err == nil && e.texts != nil {
		e.texts[format] = text
	}
	return text, err
}

func (p *Pipeline) roles(format config.Format, out []byte, roles ...Role) ([]byte, bool, error) {
	some := false
	for _, role := range roles {
		for _, e := range p.Entries {
			if e.Role != role {
				continue
			}
			text, err := e.text(format)
			if err != nil {
				return nil, false, err
			}
			out, some = append(out, text...), true
		}
	}
	return out, some, nil
}

func (p *Pipeline) classic() ([]byte, error) {
	out, _, err := p.roles(config.Classic, nil, RoleService, RoleInput, RoleTenantInput, RoleFilter, RoleRoute, RoleTenantFilter)
	if err != nil {
		return nil, err
	}
	out, some, err := p.roles(config.Classic, out, RoleTenantOutput, RoleOutput)
	if err != nil {
		return nil, err
	}
	if !some && p.has(RoleInput) { // an engine needs an output
		out = append(out, "[Output]\n    Name    null\n    Match   *"...)
	}
	return out, nil
}

func (p *Pipeline) has(role Role) bool {
	return slices.ContainsFunc(p.Entries, func(e *Entry) bool { return e.Role == role })
}

func (p *Pipeline) yaml() ([]byte, error) {
	var out []byte
	for _, e := range p.Entries {
		if e.Role == RoleService {
			text, err := config.Write(&config.File{Sections: e.Sections}, config.YAML)
			if err != nil {
				return nil, err
			}
			out = append(out, strings.TrimSuffix(string(text), "pipeline:\n")...)
		}
	}
	out = append(out, "pipeline:\n"...)
	outputs := false
	for _, list := range []struct {
		key   string
		roles []Role
	}{{"inputs", []Role{RoleInput, RoleTenantInput}}, {"filters", []Role{RoleFilter, RoleRoute, RoleTenantFilter}}, {"outputs", []Role{RoleOutput, RoleTenantOutput}}} {
		text, some, err := p.roles(config.YAML, nil, list.roles...)
		if err != nil {
			return nil, err
		}
		outputs = some
		if some {
			out = append(append(out, "  "+list.key+":\n"...), text...)
		}
	}
	if !outputs && p.has(RoleInput) {
		out = append(out, "  outputs:\n    - name: null\n      match: \"*\"\n"...)
	}
	return out, nil
}

// parsers writes the parsers, which are in the classic format always. Of several with one name the first counts.
func (p *Pipeline) parsers(role Role) ([]byte, error) {
	var out []byte
	seen := map[string]bool{}
	for _, tenant := range []func(*Entry) bool{func(e *Entry) bool { return e.Tenant == "" }, func(e *Entry) bool { return e.Tenant != "" }} {
		for _, e := range p.Entries {
			if e.Role != role || !tenant(e) || seen[e.Sections[0].Value("name")] {
				continue
			}
			seen[e.Sections[0].Value("name")] = true
			text, err := e.text(config.Classic)
			if err != nil {
				return nil, err
			}
			out = append(out, text...)
		}
	}
	return out, nil
}
