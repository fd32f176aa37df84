// Package config reads and writes the configuration files of Fluent Bit (classic and YAML) and of Fluentd, and holds what all three
// have in common: sections with properties, each with its place in the file. It knows no plugin: which property is allowed
// where, and what it means, is told by package plugin and its users.
package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Format is the language of a configuration file.
type Format string

// The formats.
const (
	Classic Format = "classic" // Fluent Bit: [SECTION] and indented "Key Value" lines
	YAML    Format = "yaml"    // Fluent Bit: service, pipeline, parsers ...
	Fluentd Format = "fluentd" // Fluentd: <source>, <match TAG> ... (its version 1 syntax), or the same in YAML, by the name's ending
)

// Position is a place in a file. Line and Column begin at 1; Column counts bytes.
type Position struct {
	File   string
	Line   int
	Column int
}

// String is FILE:LINE:COLUMN, without the parts that are unknown.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.File == "":
		return fmt.Sprintf("%d:%d", p.Line, p.Column)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Kinds of sections of Fluent Bit; a Fluentd section's kind is its element name (source, match, filter, label, buffer ...).
const (
	Service         = "service"
	Input           = "input"
	Filter          = "filter"
	Output          = "output"
	Custom          = "custom"
	Parser          = "parser"
	MultilineParser = "multiline_parser"
	Processor       = "processor"        // below an input or output; Arg says of what: logs, metrics or traces
	Plugins         = "plugins"          // paths of plugins to load
	StreamTask      = "stream_processor" // SQL on streams
	Upstream        = "upstream_servers" // named group of servers, a child "node" for each
	Extensions      = "extensions"
	Rule            = "rule" // of a multiline parser in YAML: state, regex, next_state
)

// Property is one key with its value. A key that was given a list of scalars is that many properties in a row, as Fluent Bit takes them.
type Property struct {
	Key      string   // as written; compare with strings.EqualFold or Section.Get
	Value    string   // without quotes; variables of the environment are not replaced, see Expand
	Tree     *Node    // a value that is a map, or a list with maps (YAML only); Value is empty then
	Quote    byte     // Fluentd and YAML: '"' or '\'' if the value was quoted, else 0
	Embedded bool     // Fluentd: the value holds Ruby code, #{...} inside of double quotes
	Line     string   // classic: written instead of key and value, to keep the blanks between them
	Pos      Position // of the key
	ValuePos Position
}

// Node is a value of YAML that is more than a scalar.
type Node struct {
	Text  string  // of a scalar
	Keys  []Key   // of a map, each with the item of the same index
	Items []*Node // of a map or a list
	Map   bool
	List  bool
	Quote byte
	Pos   Position
}

// Key is a key of a Node that is a map.
type Key struct {
	Name string
	Pos  Position
}

// Get is the value under a key of a map, or nil.
func (n *Node) Get(key string) *Node {
	if n == nil || !n.Map {
		return nil
	}
	for i, k := range n.Keys {
		if strings.EqualFold(k.Name, key) {
			return n.Items[i]
		}
	}
	return nil
}

// Section is one section with its properties, in the order of the file.
type Section struct {
	Kind       string // lower case
	Arg        string // Fluentd: what stands behind the element name, mostly a pattern of tags; processors: logs, metrics or traces
	Properties []Property
	Sections   []*Section // processors, nodes, groups; Fluentd: sections inside
	Text       string     // Fluentd: written instead of all else, lines that are a configuration of their own
	Pos        Position
}

// Get is the first property with this key, in any case of letters.
func (s *Section) Get(key string) (Property, bool) {
	for _, p := range s.Properties {
		if strings.EqualFold(p.Key, key) {
			return p, true
		}
	}
	return Property{}, false
}

// Value is the value of the first property with this key, or "".
func (s *Section) Value(key string) string {
	p, _ := s.Get(key)
	return p.Value
}

// Values are the values of all properties with this key.
func (s *Section) Values(key string) []string {
	var all []string
	for _, p := range s.Properties {
		if strings.EqualFold(p.Key, key) {
			all = append(all, p.Value)
		}
	}
	return all
}

// Plugin is the name of the plugin that the section uses: Name in Fluent Bit, @type (or type) in Fluentd.
func (s *Section) Plugin() string {
	for _, key := range []string{"@type", "name", "type"} {
		if p, ok := s.Get(key); ok {
			return p.Value
		}
	}
	return ""
}

// Add appends a property without a place in a file.
func (s *Section) Add(key, value string) {
	s.Properties = append(s.Properties, Property{Key: key, Value: value})
}

// File is a configuration with everything that it includes, in order.
type File struct {
	Format     Format
	Sections   []*Section
	Properties []Property // Fluentd: properties outside of sections
	Env        []Property // @SET in classic, env in YAML
	Read       []string   // every file that was read, this one first
}

// All are the sections of a kind at the top level.
func (f *File) All(kind string) []*Section {
	var all []*Section
	for _, s := range f.Sections {
		if s.Kind == kind {
			all = append(all, s)
		}
	}
	return all
}

// Error is a fault in a configuration file.
type Error struct {
	Pos     Position
	Message string
}

func (e *Error) Error() string {
	if e.Pos == (Position{}) {
		return e.Message
	}
	return e.Pos.String() + ": " + e.Message
}

func fault(pos Position, format string, args ...any) *Error {
	return &Error{pos, fmt.Sprintf(format, args...)}
}

// Expand replaces ${NAME} and ${NAME:-default} as Fluent Bit does: a name that is not set becomes empty, a brace that is not
// closed stays (src/flb_env.c). env answers whether a name is set.
func Expand(value string, env func(string) (string, bool)) string {
	if !strings.Contains(value, "${") {
		return value
	}
	var b strings.Builder
	for {
		start := strings.Index(value, "${")
		if start < 0 {
			break
		}
		end := strings.IndexByte(value[start:], '}')
		if end <= 2 || end >= 4096 {
			break
		}
		name, fallback, has := strings.Cut(value[start+2:start+end], ":-")
		b.WriteString(value[:start])
		if v, ok := env(name); ok && (v != "" || !has) {
			b.WriteString(v)
		} else {
			b.WriteString(fallback)
		}
		value = value[start+end+1:]
	}
	b.WriteString(value)
	return b.String()
}

// ParseSize reads a size in bytes as Fluent Bit does: 10, 32k, 32KB, 5M, 1.5MB, 2G; "false" is 0.
func ParseSize(s string) (int64, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	if text == "false" {
		return 0, nil
	}
	digits := strings.TrimRight(text, "kmgib")
	unit := strings.TrimSuffix(strings.TrimSuffix(text[len(digits):], "b"), "i")
	factor, ok := map[string]float64{"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[unit]
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || n < 0 || n*factor >= 1<<63 || n != n {
		return 0, fmt.Errorf("%q is not a size; write bytes, or a number with k, M or G, for example 32k", s)
	}
	return int64(n * factor), nil
}

// ParseBool reads a truth value as both engines do: true, on, yes, 1 and their opposites, in any case of letters.
func ParseBool(s string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "on", "yes", "1":
		return true, nil
	case "false", "off", "no", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false; write true, false, on or off", s)
}

// ParseTime reads a span of time as Fluent Bit does: a number of seconds, or a number with s, m, h or d. The result is in seconds.
func ParseTime(s string) (float64, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	factor := 1.0
	if len(text) > 1 {
		if f, ok := map[byte]float64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400}[text[len(text)-1]]; ok {
			factor, text = f, text[:len(text)-1]
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n != n || n > 1e15 || n < -1e15 {
		return 0, fmt.Errorf("%q is not a span of time; write seconds, or a number with s, m, h or d", s)
	}
	return n * factor, nil
}
