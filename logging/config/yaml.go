package config

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// yaml reads Fluent Bit's YAML format (src/config_format/flb_cf_yaml.c).
func (r *reader) yaml(name string, data []byte) {
	y := &yamlParser{reader: r, name: name}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if err.Error() == "EOF" {
			return
		}
		y.syntax(err)
		return
	}
	if len(document.Content) == 0 || isNull(document.Content[0]) {
		return
	}
	y.top(document.Content[0])
}

type yamlParser struct {
	*reader
	name  string
	nodes int
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

func (y *yamlParser) syntax(err error) {
	text, _, _ := strings.Cut(err.Error(), "\n")
	pos := Position{File: y.name}
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = m[2]
		if m[1] != "" {
			pos.Line, _ = strconv.Atoi(m[1])
			pos.Column = 1
		}
	}
	y.fault(pos, "the file is not YAML: %s; values with : # { [ * or & need quotes", text)
}

func (y *yamlParser) at(n *yaml.Node) Position {
	return Position{y.name, n.Line, n.Column}
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

func (y *yamlParser) top(root *yaml.Node) {
	if root.Kind != yaml.MappingNode {
		y.fault(y.at(root), "expected a map with service, pipeline, parsers and the like")
		return
	}
	lists := map[string]string{"parsers": Parser, "multiline_parsers": MultilineParser, "customs": Custom, "stream_processor": StreamTask, "upstream_servers": Upstream}
	y.pairs(root, func(key, value *yaml.Node) {
		name := strings.ToLower(key.Value)
		kind, list := lists[name]
		switch {
		case list:
			y.list(kind, value)
		case name == "service" || name == "extensions":
			s := &Section{Kind: name, Pos: y.at(key)}
			y.properties(s, value, 1)
			y.file.Sections = append(y.file.Sections, s)
		case name == "pipeline":
			y.pipeline(value)
		case name == "env":
			y.env(value)
		case name == "includes":
			y.strings(value, func(n *yaml.Node) { y.include(y.at(n), n.Value, y.read) })
		case name == "plugins":
			s := &Section{Kind: Plugins, Pos: y.at(key)}
			y.strings(value, func(n *yaml.Node) {
				s.Properties = append(s.Properties, Property{Key: "path", Value: n.Value, Pos: y.at(n), ValuePos: y.at(n)})
			})
			y.file.Sections = append(y.file.Sections, s)
		default: // kept, so that a check can tell of it: the engine takes any section
			s := &Section{Kind: name, Pos: y.at(key)}
			if value.Kind == yaml.MappingNode {
				y.properties(s, value, 1)
			}
			y.file.Sections = append(y.file.Sections, s)
		}
	})
}

// pairs calls each for every key of a map, and tells of what is not one and of keys that come twice.
func (y *yamlParser) pairs(n *yaml.Node, each func(key, value *yaml.Node)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		y.fault(y.at(n), "expected a map")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Value == "<<" {
			y.fault(y.at(key), "a key must be a word")
			continue
		}
		if seen[key.Value] {
			y.fault(y.at(key), "the key %q stands twice in one map", key.Value)
			continue
		}
		seen[key.Value] = true
		each(key, n.Content[i+1])
	}
}

func (y *yamlParser) strings(n *yaml.Node, each func(*yaml.Node)) {
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				y.fault(y.at(item), "expected a word")
				continue
			}
			each(item)
		}
	default:
		if !isNull(n) {
			y.fault(y.at(n), "expected a list")
		}
	}
}

func (y *yamlParser) env(n *yaml.Node) {
	add := func(key, value *yaml.Node) {
		if value.Kind != yaml.ScalarNode {
			y.fault(y.at(value), "the value of a variable must be a scalar")
			return
		}
		y.file.Env = append(y.file.Env, Property{Key: key.Value, Value: value.Value, Pos: y.at(key), ValuePos: y.at(value)})
	}
	if n.Kind != yaml.SequenceNode {
		y.pairs(n, add)
		return
	}
	for _, item := range n.Content { // - name: X, value: Y
		var name, value *yaml.Node
		y.pairs(item, func(key, v *yaml.Node) {
			switch strings.ToLower(key.Value) {
			case "name":
				name = v
			case "value":
				value = v
			default:
				y.fault(y.at(key), "%q of a variable is not known here; there are name and value", key.Value)
			}
		})
		if name == nil || value == nil {
			y.fault(y.at(item), "a variable needs name and value")
			continue
		}
		add(name, value)
	}
}

func (y *yamlParser) pipeline(n *yaml.Node) {
	kinds := map[string]string{"inputs": Input, "filters": Filter, "outputs": Output}
	y.pairs(n, func(key, value *yaml.Node) {
		kind, ok := kinds[strings.ToLower(key.Value)]
		if !ok {
			y.fault(y.at(key), "%q is not part of a pipeline; there are inputs, filters and outputs", key.Value)
			return
		}
		if value.Kind == yaml.MappingNode { // the older form: the plugin's name as key
			y.pairs(value, func(name, properties *yaml.Node) {
				s := &Section{Kind: kind, Pos: y.at(name)}
				s.Properties = []Property{{Key: "name", Value: name.Value, Pos: y.at(name), ValuePos: y.at(name)}}
				y.properties(s, properties, 1)
				y.file.Sections = append(y.file.Sections, s)
			})
			return
		}
		if isNull(value) {
			y.fault(y.at(key), "%s is empty; leave the key out or give a list", key.Value)
			return
		}
		y.list(kind, value)
	})
}

func (y *yamlParser) list(kind string, n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		if !isNull(n) {
			y.fault(y.at(n), "expected a list, each entry beginning with \"- name:\"")
		}
		return
	}
	for _, item := range n.Content {
		s := &Section{Kind: kind, Pos: y.at(item)}
		y.properties(s, item, 1)
		y.file.Sections = append(y.file.Sections, s)
	}
}

// properties fills a section from a map.
func (y *yamlParser) properties(s *Section, n *yaml.Node, depth int) {
	if depth > maxDepth {
		y.fault(y.at(n), "nested more than %d deep", maxDepth)
		return
	}
	y.pairs(n, func(key, value *yaml.Node) {
		name := snake(key.Value)
		switch {
		case name == "processors" && (s.Kind == Input || s.Kind == Output):
			y.processors(s, value, depth)
		case name == "nodes" && s.Kind == Upstream:
			y.children(s, "node", "", value, depth)
		case name == "rules" && s.Kind == MultilineParser:
			y.children(s, Rule, "", value, depth)
		default:
			y.property(s, key, name, value, depth)
		}
	})
}

func (y *yamlParser) processors(s *Section, n *yaml.Node, depth int) {
	y.pairs(n, func(key, value *yaml.Node) {
		of := strings.ToLower(key.Value)
		if of != "logs" && of != "metrics" && of != "traces" && of != "profiles" {
			y.fault(y.at(key), "%q cannot be processed; there are logs, metrics and traces", key.Value)
			return
		}
		y.children(s, Processor, of, value, depth)
	})
}

func (y *yamlParser) children(s *Section, kind, arg string, n *yaml.Node, depth int) {
	if n.Kind != yaml.SequenceNode {
		if !isNull(n) {
			y.fault(y.at(n), "expected a list")
		}
		return
	}
	for _, item := range n.Content {
		child := &Section{Kind: kind, Arg: arg, Pos: y.at(item)}
		y.properties(child, item, depth+1)
		s.Sections = append(s.Sections, child)
	}
}

func (y *yamlParser) property(s *Section, key *yaml.Node, name string, value *yaml.Node, depth int) {
	p := Property{Key: name, Pos: y.at(key), ValuePos: y.at(value)}
	switch {
	case value.Kind == yaml.ScalarNode:
		p.Value, p.Quote = value.Value, quote(value)
	case value.Kind == yaml.SequenceNode && scalars(value):
		for _, item := range value.Content {
			p.Value, p.Quote, p.ValuePos = item.Value, quote(item), y.at(item)
			s.Properties = append(s.Properties, p)
		}
		return
	default:
		p.Tree = y.tree(value, depth)
	}
	s.Properties = append(s.Properties, p)
}

func scalars(n *yaml.Node) bool {
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode {
			return false
		}
	}
	return true
}

func quote(n *yaml.Node) byte {
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return '"'
	case n.Style&yaml.SingleQuotedStyle != 0:
		return '\''
	}
	return 0
}

func (y *yamlParser) tree(n *yaml.Node, depth int) *Node {
	y.nodes++
	node := &Node{Pos: y.at(n)}
	if depth > maxDepth || y.nodes > 1_000_000 {
		if y.nodes <= 1_000_001 {
			y.fault(y.at(n), "values nested more than %d deep, or more than a million of them", maxDepth)
		}
		return node
	}
	switch n.Kind {
	case yaml.ScalarNode:
		node.Text, node.Quote = n.Value, quote(n)
	case yaml.SequenceNode:
		node.List = true
		for _, item := range n.Content {
			node.Items = append(node.Items, y.tree(item, depth+1))
		}
	case yaml.MappingNode:
		node.Map = true
		y.pairs(n, func(key, value *yaml.Node) {
			node.Keys = append(node.Keys, Key{key.Value, y.at(key)})
			node.Items = append(node.Items, y.tree(value, depth+1))
		})
	default:
		y.fault(y.at(n), "the engine knows no anchors and aliases; write the value out")
	}
	return node
}

// snake turns a key in camelCase into snake_case where Fluent Bit does (flb_cf_key_translate).
func snake(key string) string {
	if key == "" || !unicode.IsLower(rune(key[0])) {
		return key
	}
	if strings.Contains(key, "_") {
		return strings.ToLower(key)
	}
	var b strings.Builder
	for i, c := range []byte(key) {
		if 'A' <= c && c <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}
