package render

import (
	"fmt"
	"maps"
	"strings"

	"github.com/weft-dev/weft/logging/config"
)

// names are what a tenant's names of parsers become in the common configuration.
type names struct {
	suffix    string            // of parsers, "" for the cluster
	multiline map[string]string // multiline parsers that need another name
	key       string            // multiline as one text
}

func (n names) parser(name string) string {
	if n.suffix == "" {
		return name
	}
	return name + "-" + n.suffix
}

// match puts the tenant's prefix before a pattern of tags, once.
func (b *builder) match(pattern string) string {
	if b.tenant == "" || strings.HasPrefix(pattern, b.tenant+".") {
		return pattern
	}
	return b.tenant + "." + pattern
}

// matchRegex ties a regular expression to the tenant's tags. Alternatives are enclosed, so that none escapes the prefix.
func (b *builder) matchRegex(pattern string) string {
	if b.tenant == "" {
		return pattern
	}
	pattern = strings.TrimPrefix(pattern, "^")
	if strings.Contains(pattern, "|") {
		pattern = "(?:" + pattern + ")"
	}
	return "^" + b.tenant + `\.` + pattern
}

// own changes what a tenant's filter names, so that it means the tenant's tags and parsers.
func (b *builder) own(pluginField string, object map[string]any) map[string]any {
	if b.tenant == "" {
		return object
	}
	changed := maps.Clone(object)
	switch pluginField {
	case "kubernetes":
		prefix, _ := object["kubeTagPrefix"].(string)
		if prefix == "" {
			prefix = "kube.var.log.containers."
		}
		changed["kubeTagPrefix"] = b.tenant + "." + prefix
		if parser, _ := object["regexParser"].(string); parser != "" {
			changed["regexParser"] = b.names.parser(parser)
		}
	case "rewriteTag":
		list, _ := object["rules"].([]any)
		rules := make([]any, len(list))
		for i, item := range list {
			rules[i] = item
			rule, ok := item.(string)
			if !ok {
				continue
			}
			parts := strings.Fields(rule)
			if len(parts) != 4 {
				b.fail("InvalidValue", fmt.Sprintf("spec.filters.rewriteTag.rules[%d]", i), "a rule has four parts: $key regex new_tag keep; found %d", len(parts))
				continue
			}
			parts[2] = b.tenant + "." + parts[2]
			rules[i] = strings.Join(parts, " ")
		}
		changed["rules"] = rules
	case "multiline":
		if parsers, _ := object["parser"].(string); parsers != "" {
			all := strings.Split(parsers, ",")
			for i, name := range all {
				if other := b.names.multiline[strings.TrimSpace(name)]; other != "" {
					all[i] = other
				}
			}
			changed["parser"] = strings.Join(all, ",")
		}
	}
	return changed
}

// ownCustom does the same for the lines of a customPlugin.
func (b *builder) ownCustom(s *config.Section) {
	if b.tenant == "" {
		return
	}
	for i := range s.Properties {
		p := &s.Properties[i]
		switch strings.ToLower(p.Key) {
		case "match":
			p.Value = b.match(p.Value)
			p.Line = p.Key + " " + p.Value
		case "match_regex":
			p.Value = b.matchRegex(p.Value)
			p.Line = p.Key + " " + p.Value
		case "rule":
			if parts := strings.Fields(p.Value); strings.EqualFold(s.Plugin(), "rewrite_tag") && len(parts) == 4 {
				parts[2] = b.tenant + "." + parts[2]
				p.Value = strings.Join(parts, " ")
				p.Line = ""
			}
		}
	}
}
