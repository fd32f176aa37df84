package config

import (
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// fluentdYAMLFile writes Fluentd's YAML format, so that fluentdYAML reads the same again. Sections of one kind inside of another are put together.
func (w *writer) fluentdYAMLFile(f *File) {
	for _, p := range f.Properties {
		w.fault(p.Pos, "Fluentd's YAML format has no place for %q outside of a section", p.Key)
	}
	root := mapping()
	var rest []*Section
	for _, s := range f.Sections {
		switch {
		case s.Kind != "system":
			rest = append(rest, s)
		case len(root.Content) > 0:
			w.fault(s.Pos, "Fluentd's YAML format has one <system>; write both as one")
		default:
			root.Content = append(root.Content, word("system"), w.fluentdMap(s))
		}
	}
	if list := w.fluentdList(rest); len(list.Content) > 0 {
		root.Content = append(root.Content, word("config"), list)
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		w.fault(Position{}, "%v", err)
	}
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

// word is a text that reads as it is: without quotes only if it means itself.
func word(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: text, Style: yaml.DoubleQuotedStyle}
	plain := text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./$-") == "" && !strings.HasPrefix(text, "-")
	if !plain {
		return n
	}
	var read yaml.Node
	if yaml.Unmarshal([]byte(text), &read) == nil && len(read.Content) == 1 && read.Content[0].Kind == yaml.ScalarNode && rubyScalar(read.Content[0]) == text {
		n.Style = 0
	}
	return n
}

// fluentdList is the list below config.
func (w *writer) fluentdList(sections []*Section) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, s := range sections {
		var value *yaml.Node
		switch s.Kind {
		case "source", "filter", "match":
			value = w.fluentdMap(s)
		case "label", "worker":
			for _, p := range s.Properties {
				w.fault(p.Pos, "Fluentd's YAML format has no place for %q in a %s", p.Key, s.Kind)
			}
			if w.utf8(s.Pos, s.Arg); s.Arg == "" {
				w.fault(s.Pos, "a %s needs a name", s.Kind)
			}
			value = mapping()
			value.Content = append(value.Content, word(map[string]string{"label": "$name", "worker": "$arg"}[s.Kind]), word(s.Arg), word("config"), w.fluentdList(s.Sections))
		default:
			w.fault(s.Pos, "Fluentd's YAML format has no place for <%s> here; there are source, filter, match, label and worker", s.Kind)
			continue
		}
		item := mapping()
		item.Content = append(item.Content, word(s.Kind), value)
		list.Content = append(list.Content, item)
	}
	return list
}

// utf8 tells of a text that YAML cannot hold.
func (w *writer) utf8(pos Position, text string) {
	if !utf8.ValidString(text) {
		w.fault(pos, "%q is not UTF-8, which YAML is written in", text)
	}
}

// fluentdMap is a section as a map.
func (w *writer) fluentdMap(s *Section) *yaml.Node {
	m, seen := mapping(), map[string]bool{}
	w.utf8(s.Pos, s.Arg)
	add := func(pos Position, key string, value *yaml.Node) {
		if seen[key] || key == "<<" {
			w.fault(pos, "%q stands twice in <%s>, or is a name that YAML does not have", key, s.Kind)
			return
		}
		seen[key] = true
		m.Content = append(m.Content, word(key), value)
	}
	if s.Arg != "" {
		key := "$arg"
		if s.Kind == "filter" || s.Kind == "match" {
			key = "$tag"
		}
		add(s.Pos, key, word(s.Arg))
	}
	for _, p := range s.Properties {
		key := p.Key
		w.utf8(p.Pos, p.Key+p.Value)
		switch {
		case p.Tree != nil:
			w.fault(p.Pos, "%q: Fluentd's format has no such value", p.Key)
			continue
		case slices.Contains([]string{"@type", "@id", "@label", "@log_level"}, key):
			key = "$" + key[1:]
		case strings.HasPrefix(key, "$") || strings.HasPrefix(key, "@"):
			w.fault(p.Pos, "%q cannot be a name in Fluentd's YAML format", p.Key)
			continue
		}
		value := word(p.Value)
		if p.Embedded {
			value = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!fluent/s", Style: yaml.DoubleQuotedStyle, Value: escapeAround(p.Value)}
		}
		add(p.Pos, key, value)
	}
	var kinds []string
	of := map[string]*yaml.Node{}
	for _, child := range s.Sections {
		inner := w.fluentdMap(child)
		if len(inner.Content) == 0 {
			inner.Style = yaml.FlowStyle // {}, which is a section and not an empty value
		}
		if of[child.Kind] == nil {
			of[child.Kind] = &yaml.Node{Kind: yaml.SequenceNode}
			kinds = append(kinds, child.Kind)
		}
		of[child.Kind].Content = append(of[child.Kind].Content, inner)
	}
	for _, kind := range kinds {
		value := of[kind]
		if len(value.Content) == 1 {
			value = value.Content[0]
		}
		add(s.Pos, kind, value)
	}
	return m
}
