// Package plugin holds the one table of the plugins of Fluent Bit and Fluentd with all their options. From it come the resource
// definitions and their Go types (command generate), the reference documentation, the renderer (package render) and the checks
// (package lint). It knows names and types of options, and not what a plugin does.
//
// The tables are text. A plugin begins with "plugin KIND FIELD NAME GROUP...": its kind, the field of a resource's spec that names it (- if
// only a customPlugin can), its name in the configuration, and the groups of options that it shares with others. "group NAME" and
// "section NAME" begin such groups; a section is a <name> inside of a Fluentd plugin. The options follow, one to a line:
//
//	FIELD  KEY  SHAPE  TYPE  DEFAULT  FLAGS
//
// FIELD is the name in the resource (- none; a dot leads into an object, [] into each entry of a list), KEY that in the configuration (@group
// stands for the options of a group, <section> for a section, - is rendered by other means). SHAPE is how a resource writes the value:
// string, boolean, integer, number, list (of strings), map (of strings), secret (a reference), script (a reference to a ConfigMap),
// rules, records, group, section. TYPE is how the engine reads it: text, bool, int, double, size, time, regex, commas and words (lists), array and
// hash (JSON or commas), prefix (the key is the beginning of many), tree.
//
// Flags: required (the resource must have it), needed (the engine must), sensitive (a secret), new (Weft's addition to the resources), refused (a
// resource may name it, but the engine knows no such option), since=VERSION (nothing means 2.1 or earlier), enum= (values= if only the engine insists), min=, max=, pattern=; and how a
// value is rendered: repeat (a line for each entry), join=SEP, pair ("KEY name value"), prefixed (KEYname value), joined (name=value,...), numbered
// (KEY1, KEY2 ...), word=WORD (stands before the value), one (only the first entry), not (negated), true (only when true), positive, nonzero,
// megabytes, preset=VALUE (a default that the API server sets), arg (Fluentd: stands in the section's head), in=SECTION (Fluentd: inside of that section), special (package render knows how).
package plugin

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/weft-dev/weft/logging/config"
)

//go:embed fluentbit.table
var fluentbitTable string

//go:embed fluentd.table
var fluentdTable string

// Option is one option of a plugin.
type Option struct {
	Field     string // name in the resource, "" if it has none
	Key       string // name in the configuration, "" if it is not rendered as a property
	Group     string // name of the group or section that it stands for, else ""
	Section   string // Fluentd: name of the section that it is, also of one that only package render can fill
	Shape     string
	Type      string
	Default   string
	Since     string // version of the engine, "" for 2.1 or earlier
	Enum      []string
	Min, Max  *int64
	Pattern   *regexp.Regexp
	Required  bool
	Needed    bool
	Sensitive bool
	New       bool
	Refused   bool
	Render    map[string]string // rendering flags with their values
}

// Has tells whether the option has a rendering flag.
func (o *Option) Has(flag string) bool {
	_, ok := o.Render[flag]
	return ok
}

// Many tells whether the option may stand several times in one section.
func (o *Option) Many() bool {
	return o.Has("repeat") || o.Has("pair") || o.Has("word")
}

// Plugin is a plugin of one of the engines.
type Plugin struct {
	Kind    string // input, filter, output, processor, custom, parser, multiline_parser, service
	Field   string // of the resource's spec, "" if only a customPlugin can name it
	Name    string
	Groups  []string // shared options that it takes: net, tls, server, httpserver, oauth2
	Options []*Option
	Open    bool // it has options that are not listed
	table   *Table
	fields  *fields
}

// fields is the tree of field names of a plugin: what a resource may say.
type fields struct {
	inner map[string]*fields
	group string // the fields of a group or section stand here
	list  bool   // of objects
	any   bool   // a value, whatever is inside of it
}

// Engine is what people call the engine whose plugin this is.
func (p *Plugin) Engine() string {
	if p.table.Engine == "fluentd" {
		return "Fluentd"
	}
	return "Fluent Bit"
}

// Table is the plugins of one engine.
type Table struct {
	Engine  string // fluentbit or fluentd
	Plugins []*Plugin
	Groups  map[string]*Plugin
	byName  map[string]*Plugin
	byField map[string]*Plugin
}

// FluentBit is the table of Fluent Bit 5.1.
var FluentBit = sync.OnceValue(func() *Table { return mustParse("fluentbit", fluentbitTable) })

// Fluentd is the table of Fluentd 1.19 with the output plugins of the operator's image.
var Fluentd = sync.OnceValue(func() *Table { return mustParse("fluentd", fluentdTable) })

func mustParse(engine, text string) *Table {
	t, err := parse(engine, text)
	if err != nil {
		panic(err) // the text is part of the program and tested
	}
	return t
}

// Plugin is the plugin of this kind and name, in any case of letters; nil if there is none.
func (t *Table) Plugin(kind, name string) *Plugin {
	return t.byName[kind+" "+strings.ToLower(name)]
}

// Field is the plugin that a field of a resource's spec names; nil if there is none.
func (t *Table) Field(kind, field string) *Plugin {
	return t.byField[kind+" "+field]
}

// Kind are the plugins of a kind that resources can name, in the order of the resource's fields.
func (t *Table) Kind(kind string) []*Plugin {
	var all []*Plugin
	for _, p := range t.Plugins {
		if p.Kind == kind && p.Field != "" {
			all = append(all, p)
		}
	}
	return all
}

// Common are the options that every plugin of a kind takes; nil if there are none.
func (t *Table) Common(kind string) *Plugin { return t.Groups[kind] }

// Option finds the option with this key, in any case of letters: the plugin's own, else of its groups, else common to its kind.
func (p *Plugin) Option(key string) *Option {
	lower := strings.ToLower(key)
	if o := p.own(lower); o != nil {
		return o
	}
	for _, g := range append(slices.Clone(p.Groups), p.Kind) {
		if group := p.table.Groups[g]; group != nil {
			if o := group.own(lower); o != nil {
				return o
			}
		}
	}
	if slices.Contains(p.Groups, "tls") && lower == "tls" {
		return tlsSwitch
	}
	return nil
}

var tlsSwitch = &Option{Key: "tls", Shape: "boolean", Type: "bool", Default: "off"}

func (p *Plugin) own(lower string) *Option {
	var refused *Option
	for _, o := range p.Options {
		key := strings.ToLower(o.Key)
		if key == lower && key != "" || o.Type == "prefix" && strings.HasPrefix(lower, key) && len(lower) > len(key) {
			if !o.Refused {
				return o
			}
			refused = o
		}
	}
	return refused
}

// FieldOption is the option with this field; nil if there is none.
func (p *Plugin) FieldOption(field string) *Option {
	for _, o := range p.Options {
		if o.Field == field {
			return o
		}
	}
	return nil
}

// Unknown calls report with the path of every field of object that no option has. More names fields that are known besides.
func (p *Plugin) Unknown(object map[string]any, path string, report func(path string), more ...string) {
	p.table.unknown(p.fields, object, path, report, more)
}

func (t *Table) unknown(f *fields, object map[string]any, path string, report func(path string), more []string) {
	for name, value := range object {
		inner := f.inner[name]
		switch {
		case inner == nil:
			if !slices.Contains(more, name) {
				report(path + "." + name)
			}
		case inner.any:
		default:
			if inner.group != "" {
				inner = &fields{inner: t.Groups[inner.group].fields.inner, list: inner.list}
			}
			t.inside(inner, value, path+"."+name, report)
		}
	}
}

func (t *Table) inside(f *fields, value any, path string, report func(path string)) {
	switch v := value.(type) {
	case map[string]any:
		t.unknown(f, v, path, report, nil)
	case []any:
		for i, item := range v {
			if m, ok := item.(map[string]any); ok {
				t.unknown(f, m, fmt.Sprintf("%s[%d]", path, i), report, nil)
			}
		}
	}
}

// index builds the tree of fields.
func (p *Plugin) index() {
	p.fields = &fields{inner: map[string]*fields{}}
	for _, o := range p.Options {
		if o.Field == "" {
			continue
		}
		at := p.fields
		parts := strings.Split(o.Field, ".")
		for i, part := range parts {
			name, list := strings.CutSuffix(part, "[]")
			next := at.inner[name]
			if next == nil {
				next = &fields{inner: map[string]*fields{}, list: list}
				at.inner[name] = next
			}
			if i == len(parts)-1 {
				next.group = o.Group
				next.any = o.Group == ""
			}
			at = next
		}
	}
}

// All are the options that a configuration can name, with those of groups and the kind.
func (p *Plugin) All() []*Option {
	var all []*Option
	seen := map[string]bool{}
	add := func(options []*Option) {
		for _, o := range options {
			if o.Key != "" && o.Group == "" && !o.Refused && !seen[strings.ToLower(o.Key)] {
				seen[strings.ToLower(o.Key)] = true
				all = append(all, o)
			}
		}
	}
	add(p.Options)
	for _, g := range append(slices.Clone(p.Groups), p.Kind) {
		if group := p.table.Groups[g]; group != nil {
			add(group.Options)
		}
	}
	return all
}

// Sections are the names of the sections that can stand inside of the plugin or section of Fluentd.
func (p *Plugin) Sections() []string {
	var names []string
	for _, o := range p.Options {
		if o.Section != "" && !slices.Contains(names, o.Section) {
			names = append(names, o.Section)
		}
	}
	if common := p.table.Groups[p.Kind]; common != nil {
		names = append(names, common.Sections()...)
	}
	return names
}

func parse(engine, text string) (*Table, error) {
	t := &Table{Engine: engine, Groups: map[string]*Plugin{}, byName: map[string]*Plugin{}, byField: map[string]*Plugin{}}
	var current *Plugin
	for number, line := range strings.Split(text, "\n") {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("%s.table:%d: %s", engine, number+1, fmt.Sprintf(format, args...))
		}
		words := columns(line)
		switch {
		case len(words) == 0 || words[0][0] == '#':
		case line[0] == ' ':
			if current == nil {
				return nil, fail("an option before any plugin")
			}
			o, err := option(words)
			if err != nil {
				return nil, fail("%v", err)
			}
			current.Options = append(current.Options, o)
		case words[0] == "plugin" && len(words) >= 4:
			current = &Plugin{Kind: words[1], Field: dash(words[2]), Name: words[3], Groups: words[4:], table: t}
			if i := slices.Index(current.Groups, "gem"); i >= 0 {
				current.Open, current.Groups = true, slices.Delete(current.Groups, i, i+1)
			}
			t.Plugins = append(t.Plugins, current)
			t.byName[current.Kind+" "+strings.ToLower(current.Name)] = current
			if current.Field != "" {
				t.byField[current.Kind+" "+current.Field] = current
			}
		case (words[0] == "group" || words[0] == "section") && len(words) == 2:
			current = &Plugin{Kind: words[0], Name: words[1], table: t}
			t.Groups[words[1]] = current
		default:
			return nil, fail("expected plugin, group, section or an option")
		}
	}
	for _, p := range t.Plugins {
		p.index()
	}
	for _, g := range t.Groups {
		g.index()
	}
	return t, nil
}

// columns splits at blanks; quotes keep them.
func columns(line string) []string {
	var words []string
	for {
		line = strings.TrimLeft(line, " ")
		if line == "" {
			return words
		}
		if q := line[0]; q == '"' || q == '\'' {
			if end := strings.IndexByte(line[1:], q); end >= 0 {
				words, line = append(words, line[1:end+1]), line[end+2:]
				continue
			}
		}
		word, rest, _ := strings.Cut(line, " ")
		words, line = append(words, word), rest
	}
}

func dash(word string) string {
	if word == "-" {
		return ""
	}
	return word
}

func option(words []string) (*Option, error) {
	if len(words) < 5 {
		return nil, fmt.Errorf("an option has %d columns, not field, key, shape, type and default", len(words))
	}
	o := &Option{Field: dash(words[0]), Key: dash(words[1]), Shape: words[2], Type: words[3], Default: dash(words[4]), Render: map[string]string{}}
	switch {
	case strings.HasPrefix(o.Key, "@") && o.Shape == "group":
		o.Group, o.Key = o.Key[1:], ""
	case strings.HasPrefix(o.Key, "<") && strings.HasSuffix(o.Key, ">"):
		o.Group = strings.Trim(o.Key, "<>")
		o.Section = o.Group
	}
	for _, word := range words[5:] {
		name, value, _ := strings.Cut(word, "=")
		if err := o.flag(name, value); err != nil {
			return nil, err
		}
	}
	if o.Has("special") && o.Group != "" { // a section that only package render can fill
		o.Group, o.Key = "", ""
	}
	return o, nil
}

func (o *Option) flag(name, value string) (err error) {
	number := func() (*int64, error) {
		n, err := strconv.ParseInt(value, 10, 64)
		return &n, err
	}
	switch name {
	case "required":
		o.Required = true
	case "needed":
		o.Needed = true
	case "sensitive":
		o.Sensitive = true
	case "new":
		o.New = true
	case "refused":
		o.Refused = true
	case "since":
		o.Since = value
	case "enum", "values":
		o.Enum = strings.Split(value, "|")
		if name == "values" {
			o.Render[name] = ""
		}
	case "min":
		o.Min, err = number()
	case "max":
		o.Max, err = number()
	case "pattern":
		o.Pattern, err = regexp.Compile(value)
	case "join":
		o.Render[name] = strings.ReplaceAll(value, "space", " ")
	case "preset", "repeat", "pair", "prefixed", "joined", "numbered", "word", "one", "not", "true", "positive", "nonzero", "megabytes", "arg", "in", "special":
		o.Render[name] = value
	default:
		return fmt.Errorf("unknown flag %q", name)
	}
	return err
}

// Check tells why the engine would not take this value for the option. Variables of the environment (${NAME}) and Fluentd's placeholders may
// become anything and are let pass.
func (o *Option) Check(value string) error {
	if strings.Contains(value, "${") || strings.Contains(value, "#{") {
		return nil
	}
	switch o.Type {
	case "bool":
		_, err := config.ParseBool(value)
		return err
	case "int":
		return o.checkInt(value)
	case "double":
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			return fmt.Errorf("%q is not a number", value)
		}
	case "size":
		return checkSize(value)
	case "time":
		_, err := config.ParseTime(value)
		return err
	}
	if len(o.Enum) > 0 && o.Type == "text" && !slices.ContainsFunc(o.Enum, func(e string) bool { return strings.EqualFold(e, value) }) {
		return fmt.Errorf("%q is not known here; there are %s", value, strings.Join(o.Enum, ", "))
	}
	return nil
}

func (o *Option) checkInt(value string) error {
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err != nil {
		return fmt.Errorf("%q is not a whole number", value)
	}
	if o.Min != nil && n < *o.Min || o.Max != nil && n > *o.Max {
		return fmt.Errorf("%d is not within %s", n, o.limits())
	}
	return nil
}

func (o *Option) limits() string {
	switch {
	case o.Min == nil:
		return fmt.Sprintf("... to %d", *o.Max)
	case o.Max == nil:
		return fmt.Sprintf("%d and above", *o.Min)
	}
	return fmt.Sprintf("%d to %d", *o.Min, *o.Max)
}

// checkSize also takes what the engines write for no limit, and T (Fluentd).
func checkSize(value string) error {
	switch strings.ToLower(value) {
	case "off", "-1", "unlimited", "no_limits":
		return nil
	}
	trimmed := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(value), "b"), "t")
	if trimmed != strings.ToLower(value) && !strings.ContainsAny(trimmed, "kmg") {
		if _, err := strconv.ParseFloat(trimmed, 64); err == nil {
			return nil
		}
	}
	_, err := config.ParseSize(value)
	return err
}

// Names are the names of the plugins of a kind.
func (t *Table) Names(kind string) []string {
	var names []string
	for _, p := range t.Plugins {
		if p.Kind == kind {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names
}
