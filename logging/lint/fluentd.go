package lint

import (
	"cmp"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
)

// fluentdKinds are what the elements of a Fluentd configuration hold.
var fluentdKinds = map[string]string{"source": "input", "filter": "filter", "match": "output", "store": "output", "secondary": "output"}

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
		case "system":
			c.fluentdSection(plugin.Fluentd(), s, s)
		case "worker":
			c.fluentd(s.Sections, label)
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

// fluentdPlugin checks one element. Of a plugin that the table does not have nothing is known but its name, since any gem can bring one.
func (c *checker) fluentdPlugin(s, report *config.Section) {
	kind := fluentdKinds[s.Kind]
	name, ok := s.Get("@type")
	if !ok {
		name, ok = s.Get("type")
	}
	if !ok {
		if s.Kind != "secondary" { // one without is of the output's own type
			c.fail(report, s.Pos, "MissingOption", "<%s> needs @type", s.Kind)
		}
		return
	}
	table := plugin.Fluentd()
	for _, child := range s.Sections {
		if child.Kind == "store" || child.Kind == "secondary" {
			c.fluentdPlugin(child, report)
		}
	}
	p := table.Plugin(kind, name.Value)
	switch {
	case p != nil:
	case name.Embedded || strings.ContainsAny(name.Value, "#$"):
		return
	default:
		c.warn(report, at(name), "UnknownPlugin", "the %s %q comes neither with Fluentd nor with the operator's image, so its options are not checked%s",
			kind, name.Value, meant(name.Value, table.Names(kind)))
		return
	}
	c.fluentdOptions(s, p, report)
	for _, child := range s.Sections {
		if child.Kind == "store" || child.Kind == "secondary" {
			continue
		}
		c.fluentdChild(table, p, child, report)
	}
	for _, o := range p.Options {
		if !o.Required && !o.Needed || o.Default != "" {
			continue
		}
		has := slices.ContainsFunc(s.Properties, func(p config.Property) bool { return p.Key == o.Key })
		if o.Group != "" {
			has = slices.ContainsFunc(s.Sections, func(c *config.Section) bool { return c.Kind == o.Group || c.Kind == "service_discovery" }) ||
				o.Group == "parse" && s.Value("format") != ""
		}
		if !has {
			c.fail(report, s.Pos, "MissingOption", "%s needs %s%s", p.Name, cmp.Or(o.Key, "<"+o.Group+">"), fieldOf(o))
		}
	}
}

// fluentdOptions checks names and values of the properties of a plugin or a section.
func (c *checker) fluentdOptions(s *config.Section, p *plugin.Plugin, report *config.Section) {
	for _, property := range s.Properties {
		if property.Key == "type" || strings.HasPrefix(property.Key, "@") && p.Kind != "section" || property.Embedded {
			continue
		}
		o := p.Option(property.Key)
		switch {
		case o == nil && taken(p, property.Key):
		case o == nil:
			if hint := nearest(property.Key, keys(p)); !p.Open || strings.HasPrefix(hint, proposal) {
				c.warn(report, property.Pos, "UnknownOption", "%s has no option %q that is known here%s", title(p), property.Key, hint)
			}
		default:
			if err := o.Check(property.Value); err != nil && o.Type != "time" && o.Type != "size" {
				c.fail(report, at(property), "InvalidValue", "%s: %v", property.Key, err)
			}
			if (o.Key == "expression" || o.Key == "pattern") && o.Type == "regex" && !strings.Contains(property.Value, "${") {
				c.regex(report, at(property), property.Value)
			}
		}
	}
}

// meant proposes a name that differs in little; without one a gem is needed, and whether that is there nobody knows here.
func meant(name string, names []string) string {
	if hint := nearest(name, names); strings.HasPrefix(hint, proposal) {
		return hint
	}
	return "; it needs a gem"
}

func title(p *plugin.Plugin) string {
	if p.Kind == "section" {
		return "<" + p.Name + ">"
	}
	return p.Name
}

// before014 are options that stood in the plugin itself before Fluentd 0.14 and are still taken there; now they stand in <buffer>, <parse>, <format>, <inject> and <extract>.
const before014 = `buffer_type buffer_path num_threads flush_interval try_flush_interval queued_chunk_flush_interval disable_retry_limit retry_limit retry_wait max_retry_wait
	buffer_chunk_limit buffer_queue_limit buffer_queue_full_action flush_at_shutdown time_slice_format time_slice_wait timezone format types types_delimiter types_label_delimiter keys
	time_key time_format time_type localtime utc delimiter keep_time_key null_empty_string null_value_pattern json_parser label_delimiter format_firstline message_key with_priority message_format
	rfc5424_time_format include_time_key include_tag_key tag_key force_quotes fields output_time output_tag add_newline output_type`

// everywhere are options that Fluentd itself gives all plugins.
const everywhere = `time_as_integer slow_flush_log_threshold`

func taken(p *plugin.Plugin, key string) bool {
	if strings.HasPrefix(key, "@") {
		return true
	}
	return p.Kind != "section" && (strings.HasPrefix(key, "format") || slices.Contains(strings.Fields(before014), key) || slices.Contains(strings.Fields(everywhere), key))
}

// fluentdSection checks a section inside of a plugin. Of a type that a gem brings nothing is known.
func (c *checker) fluentdSection(table *plugin.Table, s, report *config.Section) {
	group := table.Groups[s.Kind]
	if group == nil || group.Kind != "section" {
		return
	}
	if kind, name := group.Option("@type"), s.Plugin(); kind != nil && kind.Check(name) != nil && name != "" {
		property, _ := s.Get("@type")
		c.warn(report, at(property), "UnknownPlugin", "the type %q of <%s> is not known here, so its options are not checked%s", name, s.Kind, meant(name, kind.Enum))
		return
	}
	c.fluentdOptions(s, group, report)
	for _, child := range s.Sections {
		if child.Kind == "secondary" {
			continue
		}
		c.fluentdChild(table, group, child, report)
	}
}

// fluentdChild checks a section, and whether it can stand where it does.
func (c *checker) fluentdChild(table *plugin.Table, p *plugin.Plugin, s, report *config.Section) {
	sections := p.Sections()
	if slices.Contains(sections, s.Kind) {
		c.fluentdSection(table, s, report)
		return
	}
	if hint := nearest(s.Kind, sections); !p.Open || strings.HasPrefix(hint, proposal) {
		c.warn(report, s.Pos, "UnknownSection", "%s has no section <%s> that is known here%s", title(p), s.Kind, hint)
	}
}
