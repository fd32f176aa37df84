package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
	"github.com/weft-dev/weft/logging/resource"
	"github.com/weft-dev/weft/logging/route"
)

// tenants adds what the FluentBitConfigs of namespaces select.
func (c *Compiler) tenants(p *Pipeline, set *resource.Set, inputs []*resource.Document) {
	of, path, selector := p.Owner, "spec.namespaceFluentBitCfgSelector", any(nil)
	if of == nil {
		of = p.Config
	} else {
		selector = of.Spec()["namespaceFluentBitCfgSelector"]
	}
	configs := p.selected(set, of, "FluentBitConfig", "", path, selector)
	tag := routedTag(inputs)
	tenancy := p.tenancy()
	routed, namespaces := map[string]bool{}, []string{}
	clash := clashing(p, set, configs)
	for _, cfg := range configs {
		spec := cfg.Spec()
		n := names{suffix: route.Prefix(cfg.Namespace), multiline: map[string]string{}}
		pick := func(kind, namespace, name string) []*resource.Document {
			return p.selected(set, cfg, kind, namespace, "spec."+name, spec[name])
		}
		check := &builder{doc: cfg, table: plugin.FluentBit(), found: c.Found, namespace: cfg.Namespace}
		check.unknownIn("FluentBitConfig")
		p.Problems = append(p.Problems, check.problems...)
		multiline := pick("MultilineParser", cfg.Namespace, "multilineParserSelector")
		for _, d := range multiline {
			if clash[d.Name] {
				n.multiline[d.Name] = n.parser(d.Name)
			}
		}
		clusterMultiline := pick("ClusterMultilineParser", "", "clusterMultilineParserSelector")
		for _, d := range clusterMultiline {
			if n.multiline[d.Name] == "" && !slices.ContainsFunc(multiline, func(m *resource.Document) bool { return m.Name == d.Name }) {
				n.multiline[d.Name] = n.parser(d.Name)
			}
		}
		if len(n.multiline) > 0 {
			n.key = fmt.Sprint(n.multiline)
		}
		if !routed[cfg.Namespace] {
			routed[cfg.Namespace] = true
			switch {
			case tenancy.byTag:
				namespaces = append(namespaces, cfg.Namespace)
			case tag != "":
				p.Entries = append(p.Entries, &Entry{Document: cfg, Role: RoleRoute, Tenant: cfg.Namespace, Sections: []*config.Section{rewriting(cfg, tag)}})
			}
		}
		for _, d := range byOrdinal(pick("Filter", cfg.Namespace, "filterSelector")) {
			c.add(p, d, RoleTenantFilter, cfg.Namespace, n, (*builder).filter)
		}
		for _, d := range pick("Output", cfg.Namespace, "outputSelector") {
			c.add(p, d, RoleTenantOutput, cfg.Namespace, n, (*builder).output)
		}
		for _, d := range pick("Parser", cfg.Namespace, "parserSelector") {
			c.addAs(p, d, RoleParser, cfg.Namespace, n.parser(d.Name), n, (*builder).parser)
		}
		for _, d := range pick("ClusterParser", "", "clusterParserSelector") {
			c.addAs(p, d, RoleParser, cfg.Namespace, n.parser(d.Name), n, (*builder).parser)
		}
		for _, d := range multiline {
			c.addAs(p, d, RoleMultiline, cfg.Namespace, cmp.Or(n.multiline[d.Name], d.Name), n, (*builder).multilineParser)
		}
		for _, d := range clusterMultiline {
			c.addAs(p, d, RoleMultiline, cfg.Namespace, n.parser(d.Name), n, (*builder).multilineParser)
		}
	}
	if tenancy.byTag {
		c.byTag(p, tenancy, namespaces)
	}
	tenancy.unused(p, routed)
}

// clashing are the names of multiline parsers that more than one namespace, or a namespace and the cluster, have.
func clashing(p *Pipeline, set *resource.Set, configs []*resource.Document) map[string]bool {
	owner := map[string]string{}
	clash := map[string]bool{}
	for _, e := range p.Entries {
		if e.Role == RoleMultiline {
			owner[e.Document.Name] = "cluster"
		}
	}
	for _, cfg := range configs {
		selector, _ := resource.ParseSelector(cfg.Spec()["multilineParserSelector"])
		for _, d := range set.Select(resource.FluentBitGroup, "MultilineParser", cfg.Namespace, selector) {
			if other := owner[d.Name]; other != "" && other != "ns "+cfg.Namespace {
				clash[d.Name] = true
			}
			owner[d.Name] = "ns " + cfg.Namespace
		}
	}
	return clash
}

// routedTag is the pattern of the tags of container logs, from the last input that tails them; "" if there is none.
func routedTag(inputs []*resource.Document) string {
	tag := ""
	for _, d := range inputs {
		tail, _ := d.Spec()["tail"].(map[string]any)
		if path, _ := tail["path"].(string); !strings.Contains(path, "/var/log/containers") {
			continue
		}
		first, _ := tail["tag"].(string)
		head, _, found := strings.Cut(first, ".")
		if tag = ""; found {
			tag = head + ".*"
		}
	}
	return tag
}

// rewriting gives the records of a namespace a tag of their own.
func rewriting(cfg *resource.Document, tag string) *config.Section {
	prefix := route.Prefix(cfg.Namespace)
	s := &config.Section{Kind: config.Filter}
	s.Add("Name", "rewrite_tag")
	s.Add("Match", tag)
	s.Add("Rule", fmt.Sprintf("$kubernetes['namespace_name'] ^(%s)$ %s.$TAG false", cfg.Namespace, prefix))
	if service, ok := cfg.Spec()["service"].(map[string]any); ok {
		text := func(name string) string { t, _ := service[name].(string); return t }
		s.Add("Emitter_Name", cmp.Or(text("emitterName"), "re_emitted_"+prefix))
		if limit := text("emitterMemBufLimit"); limit != "" {
			s.Add("Emitter_Mem_Buf_Limit", limit)
		}
		if storage := text("emitterStorageType"); storage != "" {
			s.Add("Emitter_Storage.type", storage)
		}
	}
	return s
}
