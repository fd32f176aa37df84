package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
	"github.com/weft-dev/weft/logging/resource"
)

// topFields are the fields of a spec that are no options of plugins.
var topFields = map[string][]string{
	"ClusterFluentBitConfig": {"service", "inputSelector", "filterSelector", "outputSelector", "parserSelector", "multilineParserSelector", "namespace", "configFileFormat", "tenancy"},
	"FluentBitConfig":        {"service", "filterSelector", "outputSelector", "parserSelector", "multilineParserSelector", "clusterParserSelector", "clusterMultilineParserSelector"},
	"ClusterInput":           {"customPlugin", "processors"},
	"ClusterFilter":          {"filters", "ordinal"},
	"Filter":                 {"filters", "ordinal"},
	"ClusterOutput":          {"customPlugin", "processors"},
	"Output":                 {"customPlugin", "processors"},
	"ClusterParser":          {"decoders"},
	"Parser":                 {"decoders"},
	"ClusterMultilineParser": {},
	"MultilineParser":        {},
}

var kindOf = map[string]string{"ClusterInput": "input", "ClusterFilter": "filter", "Filter": "filter", "ClusterOutput": "output", "Output": "output", "ClusterParser": "parser", "Parser": "parser"}

// unknownIn tells of fields of the spec that nobody knows.
func (b *builder) unknownIn(kind string) {
	known := slices.Clone(topFields[kind])
	of := kindOf[kind]
	if of != "" && of != "filter" {
		for _, p := range b.table.Kind(of) {
			known = append(known, p.Field)
		}
	}
	spec := b.doc.Spec()
	report := func(path string) {
		b.fail("UnknownField", path, "there is no such field%s", b.meant(path, known))
	}
	if common := b.table.Common(of); common != nil {
		for _, o := range common.Options {
			known = append(known, o.Field)
		}
	}
	if kind == "ClusterMultilineParser" || kind == "MultilineParser" {
		b.table.Plugin("multiline_parser", "regex").Unknown(spec, "spec", report)
		return
	}
	for name := range spec {
		switch {
		case slices.Contains(known, name):
		case of == "": // a configuration: the field is dropped by the API server, and nothing else depends on it
			b.warn("UnknownField", "spec."+name, "there is no such field%s; it is left out", b.meant("spec."+name, known))
		default:
			report("spec." + name)
		}
	}
}

// meant proposes a field that differs only in the case of letters or in underscores.
func (b *builder) meant(path string, known []string) string {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	name := path[strings.LastIndexByte(path, '.')+1:]
	for _, k := range known {
		if k != "" && plain(k) == plain(name) {
			return "; " + k + " is meant"
		}
	}
	return ""
}

func (b *builder) unknown(p *plugin.Plugin, object map[string]any, path string) {
	known := []string{}
	for _, o := range p.Options {
		known = append(known, o.Field)
	}
	p.Unknown(object, path, func(path string) { b.fail("UnknownField", path, "there is no such field%s", b.meant(path, known)) })
}

func (b *builder) service(value any) *config.Section {
	object := b.object(value, "spec.service")
	if object == nil {
		return nil
	}
	p := b.table.Plugin("service", "service")
	b.unknown(p, object, "spec.service")
	s := &config.Section{Kind: config.Service}
	b.fill(s, p.Options, object, "spec.service")
	return b.finish(s, p)
}

func (b *builder) input() []*config.Section {
	spec := b.doc.Spec()
	return b.plugins("input", config.Input, spec, spec, "spec")
}

func (b *builder) output() []*config.Section {
	spec := b.doc.Spec()
	return b.plugins("output", config.Output, spec, spec, "spec")
}

func (b *builder) filter() []*config.Section {
	spec := b.doc.Spec()
	items := b.list(spec["filters"], "spec.filters")
	var sections []*config.Section
	for i, item := range items {
		path := fmt.Sprintf("spec.filters[%d]", i)
		object := b.object(item, path)
		for name := range object {
			if name != "customPlugin" && b.table.Field("filter", name) == nil {
				b.fail("UnknownField", path+"."+name, "there is no such filter; there are %s", fields(b.table, "filter"))
			}
		}
		if made := b.plugins("filter", config.Filter, spec, object, path); len(object) > 0 {
			sections = append(sections, made...)
		}
	}
	if len(items) == 0 {
		b.fail("NoPlugin", "spec.filters", "no filter is given")
	}
	return sections
}

func fields(t *plugin.Table, kind string) string {
	var names []string
	for _, p := range t.Kind(kind) {
		names = append(names, p.Field)
	}
	return strings.Join(append(names, "customPlugin"), ", ")
}

// plugins makes a section for each plugin that an object names.
func (b *builder) plugins(kind, sectionKind string, spec, object map[string]any, path string) []*config.Section {
	var sections []*config.Section
	for _, p := range b.table.Kind(kind) {
		value := b.object(object[p.Field], path+"."+p.Field)
		if value == nil {
			continue
		}
		s := b.head(sectionKind, kind, p.Name, spec)
		at := path + "." + p.Field
		b.unknown(p, value, at)
		b.fill(s, p.Options, b.own(p.Field, value), at)
		if p.Name == "kafka" && strings.EqualFold(s.Value("format"), "raw") && s.Value("raw_log_key") == "" {
			b.fail("MissingField", at+".rawLogKey", "format raw needs the name of the key to send")
		}
		if p.Name == "prometheus_scrape" && value["host"] == nil {
			s.Properties = append(s.Properties, config.Property{Key: "host", Value: "${HOST_IP}", Pos: config.Position{File: at}})
		}
		b.required(p, value, at)
		if s = b.finish(s, p); s != nil {
			sections = append(sections, s)
		}
	}
	if custom := b.object(object["customPlugin"], path+".customPlugin"); custom != nil {
		if s := b.custom(sectionKind, kind, spec, custom, path+".customPlugin"); s != nil {
			sections = append(sections, s)
		}
	}
	if len(sections) == 0 && len(b.problems) == 0 {
		b.fail("NoPlugin", path, "no plugin is named; give one of %s", fields(b.table, kind))
	}
	return sections
}

func (b *builder) required(p *plugin.Plugin, value map[string]any, at string) {
	for _, o := range p.Options {
		if o.Required && o.Shape != "group" && field(value, strings.TrimSuffix(o.Field, "[]")) == nil {
			b.fail("MissingField", at+"."+strings.TrimSuffix(o.Field, "[]"), "this field is required")
		}
	}
}

// head begins a section with the plugin's name and what all plugins of the kind have.
func (b *builder) head(sectionKind, kind, name string, spec map[string]any) *config.Section {
	s := &config.Section{Kind: sectionKind}
	if name != "" {
		s.Add("Name", name)
	}
	b.fill(s, b.table.Common(kind).Options, spec, "spec")
	for i := range s.Properties {
		p := &s.Properties[i]
		switch p.Key {
		case "Match":
			p.Value = b.match(p.Value)
		case "Match_Regex":
			p.Value = b.matchRegex(p.Value)
		}
	}
	if processors := b.object(spec["processors"], "spec.processors"); processors != nil {
		b.processors(s, processors)
	}
	return s
}

// processors go into the YAML format only.
func (b *builder) processors(s *config.Section, object map[string]any) {
	if b.format != config.YAML {
		b.warn("NeedsYAML", "spec.processors", "processors need configFileFormat: yaml; they are left out")
		return
	}
	for _, of := range []string{"logs", "metrics", "traces", "profiles"} {
		for i, item := range b.list(object[of], "spec.processors."+of) {
			path := fmt.Sprintf("spec.processors.%s[%d]", of, i)
			child := &config.Section{Kind: config.Processor, Arg: of}
			b.tree(child, b.object(item, path), path)
			if child.Plugin() == "" {
				b.fail("MissingField", path+".name", "a processor needs a name")
			}
			s.Sections = append(s.Sections, child)
		}
	}
	for name := range object {
		if !slices.Contains([]string{"logs", "metrics", "traces", "profiles"}, name) {
			b.fail("UnknownField", "spec.processors."+name, "what is processed is logs, metrics or traces")
		}
	}
}

// finish drops a second value of an option that takes one, and tells of what the format cannot say.
func (b *builder) finish(s *config.Section, p *plugin.Plugin) *config.Section {
	seen := map[string]bool{}
	s.Properties = slices.DeleteFunc(s.Properties, func(property config.Property) bool {
		key := strings.ToLower(property.Key)
		many := false
		if p != nil {
			if o := p.Option(key); o != nil {
				many = o.Many()
			}
		}
		if key == "parsers_file" || key == "parser" && p != nil && p.Kind == "filter" {
			many = true
		}
		if !many && seen[key] {
			b.warn("SetTwice", property.Pos.File, "%s is set by another field already; this one is left out", property.Key)
			return true
		}
		seen[key] = true
		return false
	})
	for _, property := range s.Properties {
		value := property.Value
		switch {
		case property.Tree != nil:
		case strings.ContainsRune(value, 0):
			b.fail("InvalidValue", property.Pos.File, "the value has a zero byte")
		case strings.ContainsAny(value, "\r\n") && (b.format != config.YAML || s.Kind == config.Parser || s.Kind == config.MultilineParser):
			b.fail("InvalidValue", property.Pos.File, "the value has a line break, which the configuration cannot hold")
		case strings.TrimSpace(value) == "" && b.format != config.YAML:
			b.fail("InvalidValue", property.Pos.File, "the value has nothing but blanks")
		}
		if err := config.CheckClassic(property.Key, "x"); err != nil {
			b.fail("InvalidValue", property.Pos.File, "%v", err)
		}
	}
	return s
}

func (b *builder) parser() []*config.Section {
	spec := b.doc.Spec()
	var s *config.Section
	for _, p := range b.table.Kind("parser") {
		value := b.object(spec[p.Field], "spec."+p.Field)
		if value == nil {
			continue
		}
		if s != nil {
			b.fail("TwoPlugins", "spec."+p.Field, "a parser has one format")
			return nil
		}
		s = &config.Section{Kind: config.Parser}
		s.Add("Name", b.as)
		s.Add("Format", p.Name)
		b.unknown(p, value, "spec."+p.Field)
		b.fill(s, p.Options, value, "spec."+p.Field)
		for _, o := range p.Options {
			if o.Needed && s.Value(o.Key) == "" {
				b.fail("MissingField", "spec."+p.Field+"."+o.Field, "this field is required")
			}
		}
	}
	if s == nil {
		b.fail("NoPlugin", "spec", "no format is given; there are json, regex, ltsv and logfmt")
		return nil
	}
	s = b.finish(s, b.table.Plugin("parser", s.Value("Format")))
	for i, item := range b.list(spec["decoders"], "spec.decoders") {
		path := fmt.Sprintf("spec.decoders[%d]", i)
		decoder := b.object(item, path)
		for _, f := range [][2]string{{"decodeField", "Decode_Field"}, {"decodeFieldAs", "Decode_Field_As"}} {
			text, ok := decoder[f[0]].(string)
			if decoder[f[0]] != nil && !ok {
				b.fail("WrongType", path+"."+f[0], "expected a text, found %s", describe(decoder[f[0]]))
			}
			if strings.ContainsAny(text, "\r\n\x00") {
				b.fail("InvalidValue", path+"."+f[0], "the value has a line break, which the configuration cannot hold")
			} else if text != "" {
				s.Properties = append(s.Properties, config.Property{Key: f[1], Value: text, Pos: config.Position{File: path + "." + f[0]}})
			}
		}
	}
	return []*config.Section{s}
}

func (b *builder) multilineParser() []*config.Section {
	p := b.table.Plugin("multiline_parser", "regex")
	s := &config.Section{Kind: config.MultilineParser}
	s.Add("Name", b.as)
	b.fill(s, p.Options, b.doc.Spec(), "spec")
	if strings.EqualFold(s.Value("type"), "regex") && len(s.Values("rule")) == 0 {
		b.warn("MissingField", "spec.rules", "without rules no lines are joined")
	}
	return []*config.Section{b.finish(s, p)}
}

// Needs are the references that a set of documents makes.
func Needs(set *resource.Set, namespace string) []resource.Reference {
	r := &recorder{}
	c := &Compiler{Found: r, Namespace: namespace}
	c.FluentBit(set)
	c.Fluentd(set)
	return r.all
}

// recorder finds everything and remembers what was asked for.
type recorder struct {
	all  []resource.Reference
	seen map[resource.Reference]bool
}

func (r *recorder) Lookup(reference resource.Reference) (string, bool) {
	if r.seen == nil {
		r.seen = map[resource.Reference]bool{}
	}
	if !r.seen[reference] {
		r.seen[reference] = true
		r.all = append(r.all, reference)
	}
	return "x", true
}
