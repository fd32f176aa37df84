package config

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

func (w *writer) yamlFile(f *File) {
	if len(f.Env) > 0 {
		w.WriteString("env:\n")
		for _, e := range f.Env {
			w.WriteString("  " + scalar(e.Key) + ": " + scalar(e.Value) + "\n")
		}
	}
	for _, s := range f.Sections {
		if s.Kind == Service || s.Kind == Extensions {
			w.WriteString(s.Kind + ":\n")
			w.yamlBody(s, "  ", "  ")
		}
	}
	w.WriteString("pipeline:\n")
	w.yamlLists(f, "  ", [][2]string{{Input, "inputs"}, {Filter, "filters"}, {Output, "outputs"}})
	w.yamlLists(f, "", [][2]string{{Parser, "parsers"}, {MultilineParser, "multiline_parsers"}, {Custom, "customs"}, {StreamTask, "stream_processor"}, {Upstream, "upstream_servers"}})
	for _, s := range f.All(Plugins) {
		w.WriteString("plugins:\n")
		for _, path := range s.Properties {
			w.WriteString("  - " + scalar(path.Value) + "\n")
		}
	}
}

func (w *writer) yamlLists(f *File, indent string, kinds [][2]string) {
	for _, kind := range kinds {
		if sections := f.All(kind[0]); len(sections) > 0 {
			w.WriteString(indent + kind[1] + ":\n")
			for _, s := range sections {
				w.yamlItem(s, indent+"  ")
			}
		}
	}
}

func (w *writer) yamlItem(s *Section, indent string) {
	if len(s.Properties) == 0 && len(s.Sections) == 0 {
		w.WriteString(indent + "- {}\n")
		return
	}
	w.yamlBody(s, indent+"- ", indent+"  ")
}

// yamlBody writes the properties; first stands before the first of them, indent before the others.
func (w *writer) yamlBody(s *Section, first, indent string) {
	written := map[string]bool{}
	sections := s.Sections
	for i, p := range s.Properties {
		key := strings.ToLower(p.Key)
		if written[key] {
			continue
		}
		written[key] = true
		if strings.ContainsRune(p.Value, 0) {
			w.fault(p.Pos, "the value of %s has a zero byte", p.Key)
			continue
		}
		w.WriteString(first + plainKey(key) + ":")
		first = indent
		switch same := sameKey(s.Properties[i:], p.Key); {
		case p.Tree != nil:
			w.yamlTree(p.Tree, indent)
		case len(same) == 1:
			w.WriteString(" " + yamlValue(key, p.Value) + "\n")
		default:
			w.WriteString("\n")
			for _, value := range same {
				w.WriteString(indent + "  - " + scalar(value) + "\n")
			}
		}
	}
	w.yamlChildren(sections, &first, indent)
}

func sameKey(properties []Property, key string) []string {
	var values []string
	for _, p := range properties {
		if p.Tree == nil && strings.EqualFold(p.Key, key) {
			values = append(values, p.Value)
		}
	}
	return values
}

// yamlChildren writes processors by what they process, nodes of servers and rules of multiline parsers.
func (w *writer) yamlChildren(children []*Section, first *string, indent string) {
	group := func(key string, indent string, match func(*Section) bool) {
		head := true
		for _, child := range children {
			if !match(child) {
				continue
			}
			if head {
				w.WriteString(*first + key + ":\n")
				*first, head = indent, false
			}
			w.yamlItem(child, indent+"  ")
		}
	}
	group("nodes", indent, func(s *Section) bool { return s.Kind == "node" })
	group("rules", indent, func(s *Section) bool { return s.Kind == Rule })
	head := true
	for _, of := range []string{"logs", "metrics", "traces", "profiles"} {
		key := true
		for _, child := range children {
			if child.Kind != Processor || child.Arg != of {
				continue
			}
			if head {
				w.WriteString(*first + "processors:\n")
				*first, head = indent, false
			}
			if key {
				w.WriteString(indent + "  " + of + ":\n")
				key = false
			}
			w.yamlItem(child, indent+"    ")
		}
	}
	for _, child := range children {
		if child.Kind != "node" && child.Kind != Rule && child.Kind != Processor {
			w.fault(child.Pos, "the section %s cannot be written in YAML", child.Kind)
		}
	}
}

func (w *writer) yamlTree(n *Node, indent string) {
	switch {
	case len(n.Items) == 0 && n.Map:
		w.WriteString(" {}\n")
	case len(n.Items) == 0 && n.List:
		w.WriteString(" []\n")
	case n.Map:
		w.WriteString("\n")
		for i, item := range n.Items {
			w.WriteString(indent + "  " + scalar(n.Keys[i].Name) + ":")
			w.yamlTree(item, indent+"  ")
		}
	case n.List:
		w.WriteString("\n")
		for _, item := range n.Items {
			w.WriteString(indent + "  -")
			w.yamlTree(item, indent+"  ")
		}
	case n.Quote != 0:
		w.WriteString(" " + doubleQuoted(n.Text) + "\n")
	default:
		w.WriteString(" " + scalar(n.Text) + "\n")
	}
}

// yamlValue quotes the pattern of tags always, as the operator does, and the rest where it must.
func yamlValue(key, value string) string {
	if key == "match" {
		return doubleQuoted(value)
	}
	return scalar(value)
}

func plainKey(key string) string {
	if key == "" {
		return `""`
	}
	return scalar(key)
}

// scalar is a YAML scalar that a reader takes for exactly this text: plain where that is certain, else in double quotes.
func scalar(value string) string {
	if plain(value) {
		return value
	}
	return doubleQuoted(value)
}

// plain tells whether a text means itself without quotes. The engine takes every scalar as text, so that numbers and truth
// values need none.
func plain(value string) bool {
	if value == "" || strings.TrimSpace(value) != value {
		return false
	}
	switch c := value[0]; {
	case c == '-' || c == '?' || c == ':':
		if len(value) == 1 || value[1] == ' ' || value == "---" || strings.HasPrefix(value, "--- ") {
			return false
		}
	case strings.IndexByte(",[]{}#&*!|>'\"%@`", c) >= 0:
		return false
	}
	if value == "null" || value == "~" || value == "..." || strings.Contains(value, ": ") || strings.Contains(value, " #") || value[len(value)-1] == ':' {
		return false
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' || c >= 0x7f || c == '\t' {
			return false
		}
	}
	if simple(value) {
		return true
	}
	var node yaml.Node // the last word has a reader of YAML
	err := yaml.Unmarshal([]byte("- "+value+"\n"), &node)
	return err == nil && len(node.Content) == 1 && len(node.Content[0].Content) == 1 &&
		node.Content[0].Content[0].Kind == yaml.ScalarNode && node.Content[0].Content[0].Value == value
}

// simple texts need no reader to be sure.
func simple(value string) bool {
	for i := range len(value) {
		c := value[i]
		if !('a' <= c|32 && c|32 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("_./-+$()*,;= ", c) >= 0) {
			return false
		}
	}
	return true
}

func doubleQuoted(value string) string {
	var b bytes.Buffer
	b.WriteByte('"')
	for _, c := range value {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f || 0x80 <= c && c <= 0x9f || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffd:
			if c < 0x100 {
				fmt.Fprintf(&b, `\x%02x`, c)
			} else {
				fmt.Fprintf(&b, `\u%04x`, c)
			}
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
