package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
)

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
	s.Text, s.Pos.File = strings.TrimRight(text, "\n"), path+".config"
}
