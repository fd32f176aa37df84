package lint

import (
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
)

// fluentdKinds are what the elements of a Fluentd configuration hold.
var fluentdKinds = map[string]string{"source": "input", "filter": "filter", "match": "output", "store": "output"}

// fluentd checks the elements of a file or of a label.
func (c *checker) fluentd(sections []*config.Section, label string) {
	labels := map[string]bool{"@ERROR": true, "@ROOT": true, "@FLUENT_LOG": true}
	for _, s := range sections {
		if s.Kind == "label" {
			if labels[s.Arg] && s.Arg != "@ERROR" && s.Arg != "@FLUENT_LOG" {
				c.fail(s, s.Pos, "DuplicateLabel", "the label %s is there twice", s.Arg)
			}
			labels[s.Arg] = true
		}
	}
	var broad *config.Section // a match that takes everything
	var seen []*config.Section
	for _, s := range sections {
		switch s.Kind {
		case "source", "filter", "match":
			c.fluentdPlugin(s, s)
			if l, ok := s.Get("@label"); ok && !labels[l.Value] && label == "" {
				c.fail(s, at(l), "LabelNotFound", "there is no label %s", l.Value)
			}
		case "label":
			if !strings.HasPrefix(s.Arg, "@") {
				c.fail(s, s.Pos, "InvalidValue", "the name of a label begins with @, found %q", s.Arg)
			}
			c.fluentd(s.Sections, s.Arg)
		case "system", "worker":
		default:
			c.fail(s, s.Pos, "UnknownSection", "<%s> cannot stand here; there are source, filter, match, label, system and worker", s.Kind)
		}
		if s.Kind == "filter" && broad != nil {
			c.warn(s, s.Pos, "Unreachable", "no record reaches this filter: <match %s> at %s takes all of them before", broad.Arg, broad.Pos)
		}
		if s.Kind != "match" {
			continue
		}
		for _, earlier := range seen {
			if earlier.Arg == s.Arg || slices.Contains(strings.Fields(earlier.Arg), "**") {
				c.warn(s, s.Pos, "Unreachable", "no record reaches this output: <match %s> at %s takes them before; use @type copy to send to both", earlier.Arg, earlier.Pos)
				break
			}
		}
		seen = append(seen, s)
		if slices.Contains(strings.Fields(s.Arg), "**") {
			broad = s
		}
	}
	if label == "" {
		var sources []*config.Section
		for _, s := range sections {
			if s.Kind == "source" {
				sources = append(sources, s)
			}
		}
		c.ports(sources, fluentdPorts)
	}
}

// fluentdPlugin checks one element. Of plugins that the table does not have nothing is known, since any gem can bring one.
func (c *checker) fluentdPlugin(s, report *config.Section) {
	kind := fluentdKinds[s.Kind]
	if _, ok := s.Get("@type"); !ok {
		if _, old := s.Get("type"); !old {
			c.fail(report, s.Pos, "MissingOption", "<%s> needs @type", s.Kind)
			return
		}
	}
	table := plugin.Fluentd()
	p := table.Plugin(kind, s.Plugin())
	for _, child := range s.Sections {
		if child.Kind == "store" {
			c.fluentdPlugin(child, report)
		}
	}
	if p == nil {
		return
	}
	for _, property := range s.Properties {
		if property.Key == "type" || strings.HasPrefix(property.Key, "@") || property.Embedded {
			continue
		}
		o := p.Option(property.Key)
		if o == nil {
			c.warn(report, property.Pos, "UnknownOption", "%s has no option %q that is known here%s", p.Name, property.Key, nearest(property.Key, keys(p)))
			continue
		}
		if err := o.Check(property.Value); err != nil && o.Type != "time" && o.Type != "size" {
			c.fail(report, at(property), "InvalidValue", "%s: %v", property.Key, err)
		}
	}
	for _, child := range s.Sections {
		c.fluentdSection(table, child, report)
	}
	for _, o := range p.Options {
		if !o.Required || o.Default != "" {
			continue
		}
		has := slices.ContainsFunc(s.Properties, func(p config.Property) bool { return p.Key == o.Key })
		if o.Group != "" {
			has = slices.ContainsFunc(s.Sections, func(c *config.Section) bool { return c.Kind == o.Group || c.Kind == "service_discovery" })
		}
		if !has {
			c.fail(report, s.Pos, "MissingOption", "%s needs %s%s", p.Name, o.Key, fieldOf(o))
		}
	}
}

func (c *checker) fluentdSection(table *plugin.Table, s, report *config.Section) {
	group := table.Groups[s.Kind]
	if group == nil || group.Kind != "section" {
		return
	}
	for _, property := range s.Properties {
		o := group.Option(property.Key)
		if o == nil || property.Embedded {
			continue
		}
		if err := o.Check(property.Value); err != nil && o.Type != "time" && o.Type != "size" {
			c.fail(report, at(property), "InvalidValue", "%s: %v", property.Key, err)
		}
		if (o.Key == "expression" || o.Key == "pattern") && o.Type == "regex" && !strings.Contains(property.Value, "${") {
			c.regex(report, at(property), property.Value)
		}
	}
	for _, child := range s.Sections {
		c.fluentdSection(table, child, report)
	}
}
