package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Write gives the text of a configuration in a format. What the format cannot say is an error and never a changed meaning.
func Write(f *File, format Format) ([]byte, error) {
	w := &writer{}
	switch format {
	case Classic:
		w.classicFile(f)
	case YAML:
		if f.Format == Fluentd {
			w.fluentdYAMLFile(f)
		} else {
			w.yamlFile(f)
		}
	case Fluentd:
		for _, p := range f.Properties {
			w.fluentdProperty(p, "")
		}
		for _, s := range f.Sections {
			w.fluentd(s, "")
		}
	default:
		return nil, fmt.Errorf("unknown format %q; there are %s, %s and %s", format, Classic, YAML, Fluentd)
	}
	if len(w.faults) > 0 {
		return nil, errors.Join(w.faults...)
	}
	return w.Bytes(), nil
}

// Append adds sections to text that is already there: the pieces of which a renderer makes a whole. Of YAML it writes entries of
// a list, as they stand below pipeline.inputs.
func Append(text []byte, format Format, sections ...*Section) ([]byte, error) {
	w := &writer{Buffer: *bytes.NewBuffer(text)}
	for _, s := range sections {
		switch format {
		case Classic:
			w.classic(s)
		case YAML:
			w.yamlItem(s, "    ")
		case Fluentd:
			w.fluentd(s, "")
		}
	}
	if len(w.faults) > 0 {
		return nil, errors.Join(w.faults...)
	}
	return w.Bytes(), nil
}

type writer struct {
	bytes.Buffer
	faults []error
}

func (w *writer) fault(pos Position, format string, args ...any) {
	w.faults = append(w.faults, fault(pos, format, args...))
}

func (w *writer) classicFile(f *File) {
	for _, e := range f.Env {
		if e.Key == "" || strings.ContainsAny(e.Key, "\r\n= ") || strings.ContainsAny(e.Value, "\r\n\x00") {
			w.fault(e.Pos, "the variable %q cannot be written as @SET", e.Key)
			continue
		}
		fmt.Fprintf(w, "@SET %s=%s\n", e.Key, e.Value)
	}
	for _, s := range f.Sections {
		w.classic(s)
	}
}

// titles are the section heads as the operator writes them.
var titles = map[string]string{Service: "Service", Input: "Input", Filter: "Filter", Output: "Output", Parser: "PARSER", MultilineParser: "MULTILINE_PARSER"}

func (w *writer) classic(s *Section) {
	title := titles[s.Kind]
	if title == "" {
		title = strings.ToUpper(s.Kind)
	}
	if strings.ContainsAny(title, "]\r\n\x00") || strings.TrimSpace(title) == "" {
		w.fault(s.Pos, "%q cannot be the name of a section", s.Kind)
		return
	}
	w.WriteString("[")
	w.WriteString(title)
	w.WriteString("]\n")
	for _, p := range s.Properties {
		if p.Tree != nil {
			w.fault(p.Pos, "%s: a value with parts can be written in YAML only", p.Key)
			continue
		}
		w.classicProperty(p)
	}
	for _, child := range s.Sections {
		switch child.Kind {
		case Rule:
			w.classicProperty(Property{Key: "Rule", Value: QuoteRule(child.Value("state"), child.Value("regex"), child.Value("next_state")), Pos: child.Pos})
		case Processor:
			w.fault(child.Pos, "processors can be written in YAML only")
		default:
			w.fault(child.Pos, "the section %s inside of %s can be written in YAML only", child.Kind, s.Kind)
		}
	}
}

func (w *writer) classicProperty(p Property) {
	if err := CheckClassic(p.Key, p.Value); err != nil {
		w.fault(p.Pos, "%v", err)
		return
	}
	w.WriteString("    ")
	if p.Line != "" {
		w.WriteString(p.Line)
	} else {
		w.WriteString(p.Key)
		w.WriteString("    ")
		w.WriteString(p.Value)
	}
	w.WriteByte('\n')
}

// CheckClassic tells why a key and its value cannot be said in the classic format, which has no quoting.
func CheckClassic(key, value string) error {
	switch {
	case key == "" || strings.ContainsAny(key, " \t\r\n\x00") || key[0] == '[' || key[0] == '#' || key[0] == '@':
		return fmt.Errorf("%q cannot be a key in the classic format", key)
	case strings.ContainsAny(value, "\r\n"):
		return fmt.Errorf("the value of %s has a line break, which the classic format cannot hold", key)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("the value of %s has a zero byte", key)
	case strings.TrimSpace(value) == "":
		return fmt.Errorf("the value of %s is empty, which the classic format cannot hold", key)
	}
	return nil
}

// QuoteRule is the value of a rule of a multiline parser: three strings in double quotes.
func QuoteRule(state, regex, next string) string {
	return `"` + state + `" "` + regex + `" "` + next + `"`
}

// SplitRule takes the value of a rule apart again. Quotes may be left out where a part has no blank; inside of quotes \" stands
// for a quote (flb_utils_split_quoted).
func SplitRule(value string) ([]string, error) {
	var parts []string
	for {
		value = strings.TrimLeft(value, " \t")
		switch {
		case value == "":
			if len(parts) != 3 {
				return nil, fmt.Errorf("a rule has %d parts; it needs three: \"state\" \"/regex/\" \"next state\"", len(parts))
			}
			return parts, nil
		case value[0] != '"':
			end := strings.IndexAny(value, " \t")
			if end < 0 {
				end = len(value)
			}
			parts, value = append(parts, value[:end]), value[end:]
		default:
			var b strings.Builder
			i := 1
			for ; i < len(value) && value[i] != '"'; i++ {
				if value[i] == '\\' && i+1 < len(value) && value[i+1] == '"' {
					i++
				}
				b.WriteByte(value[i])
			}
			if i >= len(value) {
				return nil, fmt.Errorf("a quotation in the rule is not closed")
			}
			parts, value = append(parts, b.String()), value[i+1:]
		}
	}
}

// Rules are the rules of a multiline parser's section, of either format: state, regular expression, next state.
func Rules(s *Section) ([][3]string, error) {
	var rules [][3]string
	for _, value := range s.Values("rule") {
		parts, err := SplitRule(value)
		if err != nil {
			return nil, err
		}
		rules = append(rules, [3]string(parts))
	}
	for _, child := range s.Sections {
		if child.Kind == Rule {
			rules = append(rules, [3]string{child.Value("state"), child.Value("regex"), child.Value("next_state")})
		}
	}
	return rules, nil
}

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

func (w *writer) fluentd(s *Section, indent string) {
	if s.Text != "" {
		for line := range strings.SplitSeq(s.Text, "\n") {
			if line != "" {
				w.WriteString(indent + line + "\n")
			}
		}
		return
	}
	if s.Kind == "" || strings.Trim(s.Kind, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		w.fault(s.Pos, "%q cannot be the name of a section", s.Kind)
		return
	}
	w.WriteString(indent + "<" + s.Kind)
	if s.Arg != "" {
		w.WriteString(" " + fluentdArg(s.Arg))
	}
	w.WriteString(">\n")
	for _, p := range s.Properties {
		w.fluentdProperty(p, indent+"  ")
	}
	for _, child := range s.Sections {
		w.fluentd(child, indent+"  ")
	}
	w.WriteString(indent + "</" + s.Kind + ">\n")
}

func fluentdArg(arg string) string {
	if strings.ContainsAny(arg, ">\"'\\\r\n\x00") || strings.TrimSpace(arg) != arg || strings.Contains(arg, "#{") || strings.HasPrefix(arg, "#") {
		return rubyQuoted(arg)
	}
	return arg
}

func (w *writer) fluentdProperty(p Property, indent string) {
	if p.Tree != nil || p.Key == "" {
		w.fault(p.Pos, "%q: Fluentd's format has no such value", p.Key)
		return
	}
	if p.Key[0] == '@' && !reserved[p.Key] {
		w.fault(p.Pos, "%q cannot be a name in Fluentd's format: names that begin with @ are the engine's own", p.Key)
		return
	}
	w.WriteString(indent + fluentdKey(p.Key))
	value := fluentdValue(p)
	if value != "" {
		w.WriteString("  " + value)
	}
	w.WriteByte('\n')
}

func fluentdKey(key string) string {
	if reserved[key] {
		return key
	}
	for i := range len(key) {
		c := key[i]
		if !('a' <= c|32 && c|32 <= 'z' || '0' <= c && c <= '9' || c == '_' || i > 0 && strings.IndexByte(".-/$[]:'", c) >= 0 || c == '$') {
			return rubyQuoted(key)
		}
	}
	if key == "include" {
		return rubyQuoted(key)
	}
	return key
}

func fluentdValue(p Property) string {
	v := p.Value
	switch {
	case p.Embedded && strings.HasPrefix(v, "["), p.Embedded && strings.HasPrefix(v, "{"):
		return v
	case p.Embedded:
		return `"` + escapeAround(v) + `"`
	case v == "" && p.Quote == 0:
		return ""
	case v == "", strings.ContainsAny(v, "\r\n\x00\f\b"), strings.TrimSpace(v) != v, v[0] == '"', v[0] == '\'', strings.Contains(v, " #"), strings.Contains(v, "\t#"):
		return rubyQuoted(v)
	case v[0] == '[' || v[0] == '{':
		if p.Quote != 0 || !json.Valid([]byte(v)) || strings.Contains(v, "#") {
			return rubyQuoted(v)
		}
	}
	return v
}

// escapeAround escapes all but the Ruby code #{...}.
func escapeAround(v string) string {
	var b strings.Builder
	for v != "" {
		start := strings.Index(v, "#{")
		end := -1
		if start >= 0 {
			end = rubyEnd(v[start:])
		}
		if end < 0 {
			b.WriteString(rubyEscape(v))
			break
		}
		b.WriteString(rubyEscape(v[:start]) + v[start:start+end])
		v = v[start+end:]
	}
	return b.String()
}

// rubyQuoted is a text in double quotes of which no part can be read as Ruby code.
func rubyQuoted(v string) string { return `"` + rubyEscape(v) + `"` }

var rubyEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `#`, `\#`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\x00", `\0`, "\f", `\f`, "\b", `\b`)

func rubyEscape(v string) string { return rubyEscapes.Replace(v) }
