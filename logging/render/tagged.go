package render

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/resource"
	"github.com/weft-dev/weft/logging/route"
)

// tenancy is what a ClusterFluentBitConfig says about namespaces in spec.tenancy.
type tenancy struct {
	byTag  bool // each namespace has its own input; else tags are rewritten by a filter for each, as the operator does
	common route.Quota
	quotas map[string]route.Quota // of single namespaces
}

// of is the quota of a namespace.
func (t tenancy) of(namespace string) route.Quota {
	if q, ok := t.quotas[namespace]; ok {
		return q
	}
	return t.common
}

// tenancy reads spec.tenancy. Where the paths of inputs do not tell namespaces apart tags are rewritten all the same, and that is told.
func (p *Pipeline) tenancy() tenancy {
	const at = "spec.tenancy"
	t := tenancy{quotas: map[string]route.Quota{}}
	b := &builder{doc: p.Config}
	object := b.object(p.Config.Spec()["tenancy"], at)
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains([]string{"routing", "quota", "quotas"}, name) {
			b.fail("UnknownField", at+"."+name, "there is no such field; there are routing, quota and quotas")
		}
	}
	switch object["routing"] {
	case "tag":
		t.byTag = true
	case nil, "rewrite":
	default:
		b.fail("InvalidValue", at+".routing", "expected tag or rewrite, found %s", describe(object["routing"]))
	}
	quota := func(value any, over route.Quota, at string) route.Quota {
		return route.ParseQuota(b.object(value, at), over, func(field, message string) { b.fail("InvalidValue", at+"."+field, "%s", message) })
	}
	t.common = quota(object["quota"], route.Quota{}, at+".quota")
	quotas := b.object(object["quotas"], at+".quotas")
	for _, namespace := range slices.Sorted(maps.Keys(quotas)) {
		t.quotas[namespace] = quota(quotas[namespace], t.common, at+".quotas."+namespace)
	}
	if !t.byTag && (object["quota"] != nil || len(quotas) > 0) {
		b.fail("MissingField", at+".routing", "a quota holds at a namespace's own input; set routing: tag")
	}
	for _, e := range p.Entries {
		for _, s := range e.Sections {
			for _, pattern := range containerPaths(s) {
				if _, ok := route.Files(pattern, "x"); !ok && t.byTag && e.Role == RoleInput {
					tell, instead := b.warn, "tags are rewritten instead"
					if object["quota"] != nil || len(quotas) > 0 {
						tell, instead = b.fail, "no quota could hold"
					}
					tell("NotByTag", at+".routing", "the path %s of %s does not tell which namespace a file belongs to; %s", pattern, e.Document, instead)
					t.byTag = false
				}
			}
		}
	}
	p.Problems = append(p.Problems, b.problems...)
	return t
}

// unused tells of quotas of namespaces that have no FluentBitConfig.
func (t tenancy) unused(p *Pipeline, tenants map[string]bool) {
	for _, namespace := range slices.Sorted(maps.Keys(t.quotas)) {
		if !tenants[namespace] {
			p.Problems = append(p.Problems, p.Config.Problem(resource.Warning, "NoSuchTenant", "spec.tenancy.quotas."+namespace, "no FluentBitConfig of this namespace is selected, so the quota limits nothing"))
		}
	}
}

// containerPaths are the patterns of container logs that an input tails; none if it does nothing of the kind.
func containerPaths(s *config.Section) []string {
	if s.Kind != config.Input || !strings.EqualFold(s.Plugin(), "tail") || s.Value("tag") == "" {
		return nil
	}
	var all []string
	for pattern := range strings.SplitSeq(s.Value("path"), ",") {
		if pattern = strings.TrimSpace(pattern); strings.Contains(pattern, "/var/log/containers") {
			all = append(all, pattern)
		}
	}
	return all
}

// derivedKey names what is made of an entry for tenants.
type derivedKey struct {
	entry          *Entry
	tenant, detail string
}

type derived struct {
	entry *Entry
	round int
}

// derive makes an entry of another one, or gives what was made of it before.
func (c *Compiler) derive(of *Entry, role Role, tenant, detail string, make func(*config.Section) []*config.Section) *Entry {
	key := derivedKey{of, tenant, detail}
	d := c.derived[key]
	if d == nil {
		e := &Entry{Document: of.Document, Role: role, Tenant: tenant, texts: map[config.Format][]byte{}}
		for _, s := range of.Sections {
			e.Sections = append(e.Sections, make(s)...)
		}
		d = &derived{entry: e}
		c.derived[key] = d
	}
	d.round = c.round
	return d.entry
}

// byTag gives each namespace an input of its own for its container logs, whose tags are those that rewriting would give, takes its files from the common
// input, and lets the cluster's filters see both. So every record passes the filters that concern it, once, however many namespaces there are.
func (c *Compiler) byTag(p *Pipeline, t tenancy, namespaces []string) {
	if len(namespaces) == 0 {
		return
	}
	var entries []*Entry
	var tags []string
	all := strings.Join(namespaces, ",")
	for _, e := range p.Entries {
		before := len(tags)
		for _, s := range e.Sections {
			if e.Role == RoleInput && len(containerPaths(s)) > 0 {
				tags = append(tags, wildTag(s.Value("tag")))
			}
		}
		if before == len(tags) {
			entries = append(entries, e)
			continue
		}
		entries = append(entries, c.derive(e, RoleInput, "", all, func(s *config.Section) []*config.Section { return []*config.Section{withoutTenants(s, namespaces)} }))
		for _, namespace := range namespaces {
			quota := t.of(namespace)
			entries = append(entries, c.derive(e, RoleTenantInput, namespace, quota.String(), func(s *config.Section) []*config.Section { return tenantInput(s, e.Document.Name, namespace, quota) }))
			if quota.Limits() {
				if p.Quotas == nil {
					p.Quotas = map[string]route.Quota{}
				}
				p.Quotas[namespace] = quota
			}
		}
	}
	for i, e := range entries {
		if e.Role == RoleFilter {
			entries[i] = c.derive(e, RoleFilter, "", strings.Join(tags, ","), func(s *config.Section) []*config.Section { return withTenants(s, tags) })
		}
	}
	p.Entries = entries
}

// QuotaInputs are the names of the inputs that keep quotas, as the engine's metrics have them, each with its namespace.
func (p *Pipeline) QuotaInputs() map[string]string {
	inputs := map[string]string{}
	for _, e := range p.Entries {
		if _, limited := p.Quotas[e.Tenant]; e.Role != RoleTenantInput || !limited {
			continue
		}
		for _, s := range e.Sections {
			inputs[s.Value("alias")] = e.Tenant
		}
	}
	return inputs
}

// wildTag makes * of the parts of a tag that come from the file's name.
func wildTag(tag string) string {
	for {
		head, rest, found := strings.Cut(tag, "<")
		_, tail, closed := strings.Cut(rest, ">")
		if !found || !closed {
			return tag
		}
		tag = head + "*" + tail
	}
}

// put changes the value of a property, or adds it.
func put(s *config.Section, key, value string) {
	for i, p := range s.Properties {
		if strings.EqualFold(p.Key, key) {
			s.Properties[i].Value, s.Properties[i].Line = value, ""
			return
		}
	}
	s.Add(key, value)
}

func clone(s *config.Section) *config.Section {
	out := *s
	out.Properties = slices.Clone(s.Properties)
	return &out
}

// withoutTenants is an input that leaves the files of tenants alone.
func withoutTenants(s *config.Section, namespaces []string) *config.Section {
	if len(containerPaths(s)) == 0 {
		return s
	}
	out := clone(s)
	var excluded []string
	if given := s.Value("exclude_path"); given != "" {
		excluded = append(excluded, given)
	}
	for _, namespace := range namespaces {
		excluded = append(excluded, route.Excluded(namespace))
	}
	put(out, "Exclude_Path", strings.Join(excluded, ","))
	return out
}

// tenantInput is an input that reads the files of one namespace, within its quota.
func tenantInput(s *config.Section, name, namespace string, quota route.Quota) []*config.Section {
	var files []string
	for _, pattern := range containerPaths(s) {
		if own, ok := route.Files(pattern, namespace); ok {
			files = append(files, own)
		}
	}
	if len(files) == 0 {
		return nil
	}
	out := clone(s)
	if alias := s.Value("alias"); alias != "" {
		name = alias
	}
	put(out, "Alias", name+"."+namespace) // the name under which metrics are kept
	put(out, "Path", strings.Join(files, ","))
	put(out, "Tag", route.Prefix(namespace)+"."+s.Value("tag"))
	if db := s.Value("db"); db != "" { // an engine forgets the offsets of files that an input does not read, so inputs cannot share a database
		extension := path.Ext(db)
		put(out, "DB", strings.TrimSuffix(db, extension)+"-"+namespace+extension)
	}
	limit(out, quota)
	return []*config.Section{out}
}

// limit writes a quota as the options of an input.
func limit(s *config.Section, quota route.Quota) {
	if quota.Records > 0 || quota.Bytes > 0 {
		put(s, "rate_gate", "true")
		put(s, "rate_gate.backpressure", "false") // the quota is what was said, and not less when an output is slow
	}
	if quota.Records > 0 {
		put(s, "rate_gate.max_records", strconv.FormatInt(quota.Records, 10))
	}
	if quota.Bytes > 0 {
		put(s, "rate_gate.max_bytes", route.Size(quota.Bytes))
	}
	if quota.Buffer > 0 {
		put(s, "Mem_Buf_Limit", route.Size(quota.Buffer))
		kind := "memory" // buffers in files have no limit in bytes at which an input pauses
		if quota.DropOldest {
			kind = "memrb"
		}
		put(s, "storage.type", kind)
	}
}

// withTenants is a cluster's filter that sees tenants' records as well, as it would before their tags are rewritten.
func withTenants(s *config.Section, tags []string) []*config.Section {
	match, regex := s.Value("match"), s.Value("match_regex")
	switch {
	case regex != "":
		out := clone(s)
		put(out, "Match_Regex", route.RegexWithTenants(regex))
		return []*config.Section{out}
	case strings.HasPrefix(match, "*"), !slices.ContainsFunc(tags, func(tag string) bool { return route.Overlap(match, tag) }):
		return []*config.Section{s}
	}
	if strings.EqualFold(s.Plugin(), "kubernetes") { // it finds the pod's name behind a prefix of fixed length
		prefix := s.Value("kube_tag_prefix")
		if prefix == "" {
			prefix = "kube.var.log.containers."
		}
		theirs := clone(s)
		matchRegex(theirs, route.OnlyTenants(match))
		put(theirs, "Kube_Tag_Prefix", strings.Repeat("0", 32)+"."+prefix)
		return []*config.Section{s, theirs}
	}
	out := clone(s)
	matchRegex(out, route.WithTenants(match))
	return []*config.Section{out}
}

// matchRegex replaces a pattern by a regular expression.
func matchRegex(s *config.Section, expression string) {
	for i, p := range s.Properties {
		if strings.EqualFold(p.Key, "match") {
			s.Properties[i].Key, s.Properties[i].Value, s.Properties[i].Line = "Match_Regex", expression, ""
		}
	}
}
