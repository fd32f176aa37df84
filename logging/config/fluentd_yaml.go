package config

import (
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// isYAML tells by the name, as Fluentd does, that a file of Fluentd is written in YAML.
func isYAML(name string) bool {
	ending := strings.ToLower(filepath.Ext(name))
	return ending == ".yaml" || ending == ".yml"
}

// fluentdYAML reads Fluentd's YAML format as lib/fluent/config/yaml_parser does: "system", and "config", a list of label, source,
// filter, match and worker. The result is what the same configuration in Fluentd's own language gives.
type fluentdYAML struct {
	*yamlParser
}

func (r *reader) fluentdYAML(name string, data []byte) {
	f := fluentdYAML{&yamlParser{reader: r, name: name}}
	if root := f.document(data); root != nil {
		f.top(root)
	}
}

func (f fluentdYAML) document(data []byte) *yaml.Node {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		if !errors.Is(err, io.EOF) {
			f.syntax(err)
		}
		return nil
	}
	if len(document.Content) == 0 || isNull(document.Content[0]) {
		return nil
	}
	return document.Content[0]
}

// top reads system before config, in whatever order they stand.
func (f fluentdYAML) top(root *yaml.Node) {
	var body *yaml.Node
	f.keys(root, 0, func(key, value *yaml.Node) {
		switch {
		case key.Value == "system":
			if s := f.section("system", key, value, 0); s != nil {
				f.file.Sections = append(f.file.Sections, s)
			}
		case key.Value == "config":
			body = value
		case value.Anchor != "" || strings.HasPrefix(key.Value, "x-"): // kept for what refers to it
		default:
			f.fault(f.at(key), "%q is not known here; there are system and config", key.Value)
		}
	})
	if body != nil {
		f.list(body, &f.file.Sections, 0)
	}
}

// list reads the list below config.
func (f fluentdYAML) list(n *yaml.Node, into *[]*Section, depth int) {
	if n = f.target(n, depth); n == nil || isNull(n) {
		return
	}
	if n.Tag == "!include" {
		f.included(n, into, depth)
		return
	}
	if n.Kind != yaml.SequenceNode {
		f.fault(f.at(n), "expected a list whose entries begin with \"- source:\", \"- filter:\", \"- match:\", \"- label:\" or \"- worker:\"")
		return
	}
	for _, item := range n.Content {
		if item.Tag == "!include" {
			f.included(item, into, depth)
			continue
		}
		f.keys(item, depth, func(key, value *yaml.Node) {
			var s *Section
			switch key.Value {
			case "source", "filter", "match":
				s = f.section(key.Value, key, value, depth)
			case "label", "worker":
				s = f.group(key, value, depth)
			default:
				f.fault(f.at(key), "%q is not known here; there are source, filter, match, label and worker", key.Value)
			}
			if s != nil {
				*into = append(*into, s)
			}
		})
	}
}

func (f fluentdYAML) included(n *yaml.Node, into *[]*Section, depth int) {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		f.fault(f.at(n), "expected the name of a file, or a pattern of names, after !include")
		return
	}
	f.include(f.at(n), n.Value, func(name string, data []byte) {
		if len(data) > maxFileSize {
			f.fault(f.at(n), "%s has more than %d bytes", filepath.Base(name), maxFileSize)
			return
		}
		f.file.Read = append(f.file.Read, name)
		f.open[name] = true
		f.depth++
		inner := fluentdYAML{&yamlParser{reader: f.reader, name: name}}
		if root := inner.document(data); root != nil {
			inner.list(root, into, depth)
		}
		f.depth--
		delete(f.open, name)
	})
}

// group reads a label or worker: its name, and a list of what is in it.
func (f fluentdYAML) group(key, n *yaml.Node, depth int) *Section {
	s := &Section{Kind: key.Value, Pos: f.at(key)}
	name := map[string]string{"label": "$name", "worker": "$arg"}[key.Value]
	f.keys(n, depth, func(key, value *yaml.Node) {
		switch key.Value {
		case name:
			s.Arg = f.arg(value, " ")
		case "config":
			f.list(value, &s.Sections, depth+1)
		default:
			f.fault(f.at(key), "%q is not known here; a %s has %s and config", key.Value, s.Kind, name)
		}
	})
	if s.Arg == "" {
		f.fault(s.Pos, "a %s needs %s", s.Kind, name)
	}
	return s
}

// section reads a map whose values are parameters, maps and lists of maps; these are sections in their turn.
func (f fluentdYAML) section(kind string, key, n *yaml.Node, depth int) *Section {
	s := &Section{Kind: kind, Pos: f.at(key)}
	if !sectionName.MatchString(kind) {
		f.fault(s.Pos, "%q has a map as its value, so it names a section; such a name is made of letters, digits and _", kind)
		return s
	}
	f.keys(n, depth, func(key, value *yaml.Node) {
		switch name := key.Value; {
		case name == "$tag" && (kind == "filter" || kind == "match"):
			s.Arg = f.arg(value, " ")
		case name == "$arg":
			s.Arg = f.arg(value, ",")
		case name == "$type" || name == "$id" || name == "$label" || name == "$log_level":
			f.parameter(s, "@"+name[1:], key, value, depth)
		default:
			f.parameter(s, name, key, value, depth)
		}
	})
	return s
}

func (f fluentdYAML) parameter(s *Section, name string, key, value *yaml.Node, depth int) {
	if value = f.target(value, depth); value == nil {
		return
	}
	p := Property{Key: name, Pos: f.at(key), ValuePos: f.at(value)}
	switch {
	case value.Tag == "!include":
		f.fault(p.ValuePos, "!include stands in the list below config only")
		return
	case value.Tag == "!fluent/json":
		p.Value = f.json(value, depth)
	case value.Kind == yaml.MappingNode:
		s.Sections = append(s.Sections, f.section(name, key, value, depth+1))
		return
	case value.Kind == yaml.SequenceNode && len(value.Content) > 0 && f.isMap(value.Content[0]):
		for _, item := range value.Content {
			if !f.isMap(item) {
				f.fault(f.at(item), "expected a map, as the entry before")
				continue
			}
			s.Sections = append(s.Sections, f.section(name, item, item, depth+1))
		}
		return
	case value.Kind == yaml.SequenceNode:
		p.Value = f.json(value, depth)
	case value.Tag == "!fluent/s":
		// it is what stands between double quotes in Fluentd's own language
		q := &fluentdParser{reader: f.reader, name: f.name, data: `"` + value.Value + `"`, line: value.Line}
		q.start = 1 - value.Column
		q.quoted(&p)
		if !q.stop && q.off < len(q.data) {
			q.fail(p.ValuePos, "a quotation mark inside of !fluent/s needs a backslash")
		}
	default:
		p.Value, p.Quote = rubyScalar(value), quote(value)
	}
	s.Properties = append(s.Properties, p)
}

func (f fluentdYAML) isMap(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode || n.Kind == yaml.AliasNode && n.Alias.Kind == yaml.MappingNode
}

// arg is a scalar, or a list of them. Fluentd joins a list of tags by commas, which match nothing; blanks are what patterns are split at.
func (f fluentdYAML) arg(n *yaml.Node, separator string) string {
	n = f.target(n, 0)
	switch {
	case n == nil:
		return ""
	case n.Kind == yaml.ScalarNode:
		return rubyScalar(n)
	case n.Kind == yaml.SequenceNode && scalars(n):
		var all []string
		for _, item := range n.Content {
			all = append(all, rubyScalar(item))
		}
		return strings.Join(all, separator)
	}
	f.fault(f.at(n), "expected a word or a list of words")
	return ""
}

// keys is pairs with aliases followed and << merged: a key that was there keeps its place and takes the later value.
func (f fluentdYAML) keys(n *yaml.Node, depth int, each func(key, value *yaml.Node)) {
	if n = f.target(n, depth); n == nil || isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		f.fault(f.at(n), "expected a map")
		return
	}
	flat := &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column}
	f.merge(flat, map[string]int{}, n, depth)
	for i := 0; i+1 < len(flat.Content); i += 2 {
		each(flat.Content[i], flat.Content[i+1])
	}
}

func (f fluentdYAML) merge(flat *yaml.Node, index map[string]int, n *yaml.Node, depth int) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			f.fault(f.at(key), "a key must be a word")
			continue
		case seen[key.Value]:
			f.fault(f.at(key), "the key %q stands twice in one map", key.Value)
			continue
		}
		seen[key.Value] = true
		if key.Value == "<<" {
			if from := f.target(value, depth+1); from != nil && from.Kind == yaml.MappingNode {
				f.merge(flat, index, from, depth+1)
			} else if from != nil {
				f.fault(f.at(value), "expected a map to merge after <<")
			}
			continue
		}
		if at, ok := index[key.Value]; ok {
			flat.Content[at], flat.Content[at+1] = key, value
			continue
		}
		index[key.Value] = len(flat.Content)
		flat.Content = append(flat.Content, key, value)
	}
}

var sectionName = regexp.MustCompile(`^\w+$`)

const maxNodes = 1_000_000

// target follows an alias. It is nil beyond the limits of depth and number, which aliases can multiply.
func (f fluentdYAML) target(n *yaml.Node, depth int) *yaml.Node {
	before := f.nodes
	f.nodes += 1 + len(n.Content)
	if over := f.nodes > maxNodes; over || depth > maxDepth {
		if !over || before <= maxNodes {
			f.fault(f.at(n), "values nested more than %d deep, or more than a million of them, those that aliases stand for included", maxDepth)
		}
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return f.target(n.Alias, depth+1)
	}
	return n
}

// json is a value as JSON, in which Fluentd's own language writes lists and maps.
func (f fluentdYAML) json(n *yaml.Node, depth int) string {
	text, err := json.Marshal(f.value(n, depth))
	if err != nil {
		f.fault(f.at(n), "the value has no form in JSON: %v", err)
	}
	return string(text)
}

func (f fluentdYAML) value(n *yaml.Node, depth int) any {
	if n = f.target(n, depth); n == nil {
		return nil
	}
	switch n.Kind {
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			list = append(list, f.value(item, depth+1))
		}
		return list
	case yaml.MappingNode:
		m := map[string]any{}
		f.keys(n, depth, func(key, value *yaml.Node) { m[key.Value] = f.value(value, depth+1) })
		return m
	}
	text := rubyScalar(n)
	switch tag := n.ShortTag(); {
	case tag == "!!null":
		return nil
	case tag == "!!int" || tag == "!!float":
		if json.Valid([]byte(text)) {
			return json.Number(text)
		}
	case quote(n) == 0 && (text == "true" || text == "false"):
		return text == "true"
	}
	return text
}

// rubyScalar is a scalar as text. Words without quotes that mean a truth value or a whole number in Ruby's YAML are written as Ruby writes them.
func rubyScalar(n *yaml.Node) string {
	if quote(n) != 0 || n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return n.Value
	}
	switch n.ShortTag() {
	case "!!null":
		return ""
	case "!!int":
		if i, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return strconv.FormatInt(i, 10)
		}
	}
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on":
		return "true"
	case "false", "no", "off":
		return "false"
	}
	return n.Value
}
