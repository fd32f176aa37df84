package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// parseYAML parses a YAML stream. It goes on behind a document that is broken, so that one run names all of them.
func parseYAML(file string, data []byte, lim Limits) (docs []*node, errs []error) {
	for _, c := range splitDocuments(data) {
		dec := yaml.NewDecoder(bytes.NewReader(c.text))
		for {
			var root yaml.Node
			err := dec.Decode(&root)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				errs = append(errs, yamlError(file, err, c.line))
				break
			}
			b := yamlBuilder{file: file, line: c.line, depth: lim.Depth, done: map[*yaml.Node]*node{}}
			n, err := b.build(&root, 0)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			docs = append(docs, n)
		}
	}
	return docs, errs
}

type chunk struct {
	line int // lines before the chunk
	text []byte
}

// splitDocuments cuts a stream before each line that begins a document, but not between a directive and its document.
func splitDocuments(data []byte) []chunk {
	var chunks []chunk
	start, startLine, line := 0, 0, 0
	directive := false
	for pos := 0; pos < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		text := data[pos:end]
		switch {
		case len(text) > 0 && text[0] == '%':
			directive = true
		case bytes.HasPrefix(text, []byte("---")) && (len(bytes.TrimRight(text, "\r\n")) == 3 || text[3] == ' ' || text[3] == '\t'):
			if !directive && pos > start {
				chunks = append(chunks, chunk{startLine, data[start:pos]})
				start, startLine = pos, line
			}
			directive = false
		}
		pos = end
	}
	return append(chunks, chunk{startLine, data[start:]})
}

var yamlErrorLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

func yamlError(file string, err error, offset int) error {
	msg := err.Error()
	m := yamlErrorLine.FindStringSubmatch(msg)
	pos := Position{File: file, Line: offset + 1}
	if n, convErr := strconv.Atoi(m[1]); convErr == nil {
		pos.Line = n + offset
	}
	return &Error{Pos: pos, Msg: "not valid YAML: " + msg[len(m[0]):], Hint: hintForYAML(msg)}
}

func hintForYAML(msg string) string {
	switch {
	case bytes.Contains([]byte(msg), []byte("cannot start any token")):
		return "indent with spaces, and quote values that begin with a special character"
	case bytes.Contains([]byte(msg), []byte("mapping values are not allowed")):
		return "check the indentation, and quote values that contain a colon followed by a space"
	}
	return ""
}

// yamlBuilder turns yaml.v3's nodes into ours.
type yamlBuilder struct {
	file  string
	line  int // lines before the chunk
	depth int
	done  map[*yaml.Node]*node // nil while a node is being built
}

func (b *yamlBuilder) fail(y *yaml.Node, msg, hint string) error {
	return &Error{Pos: Position{File: b.file, Line: y.Line + b.line, Column: y.Column}, Msg: msg, Hint: hint}
}

func (b *yamlBuilder) build(y *yaml.Node, depth int) (*node, error) {
	if depth > b.depth {
		return nil, b.fail(y, fmt.Sprintf("nested deeper than %d levels", b.depth), "")
	}
	switch y.Kind {
	case yaml.DocumentNode:
		return b.build(y.Content[0], depth)
	case yaml.AliasNode:
		if n, seen := b.done[y.Alias]; seen {
			if n == nil {
				return nil, b.fail(y, "the alias *"+y.Value+" refers to itself", "")
			}
			return n, nil
		}
		return b.build(y.Alias, depth)
	}
	b.done[y] = nil
	n := &node{line: y.Line + b.line, column: y.Column}
	var err error
	switch y.Kind {
	case yaml.MappingNode:
		n.kind = mapNode
		err = b.mapping(n, y, depth)
	case yaml.SequenceNode:
		n.kind = listNode
		n.items = make([]*node, len(y.Content))
		for i, c := range y.Content {
			if n.items[i], err = b.build(c, depth+1); err != nil {
				return nil, err
			}
		}
	default:
		n.scalar, err = b.scalar(y)
	}
	if err != nil {
		return nil, err
	}
	b.done[y] = n
	return n, nil
}

func (b *yamlBuilder) mapping(n *node, y *yaml.Node, depth int) error {
	var merges []*yaml.Node
	seen := make(map[string]int, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		if k.Tag == "!!merge" {
			merges = append(merges, v)
			continue
		}
		key, err := b.key(k)
		if err != nil {
			return err
		}
		if line, twice := seen[key]; twice {
			return b.fail(k, fmt.Sprintf("the key %q stands twice in one map, first in line %d", key, line), "remove one of them")
		}
		seen[key] = k.Line + b.line
		value, err := b.build(v, depth+1)
		if err != nil {
			return err
		}
		n.fields = append(n.fields, field{key: key, line: k.Line + b.line, column: k.Column, value: value})
	}
	for _, m := range merges {
		from, err := b.build(m, depth+1)
		if err != nil {
			return err
		}
		sources := []*node{from}
		if from.kind == listNode {
			sources = from.items
		}
		for _, s := range sources {
			if s.kind != mapNode {
				return b.fail(m, "the merge key << takes a map or a list of maps", "")
			}
			for _, f := range s.fields {
				if _, own := seen[f.key]; !own {
					seen[f.key] = f.line
					n.fields = append(n.fields, f)
				}
			}
		}
	}
	return nil
}

func (b *yamlBuilder) key(y *yaml.Node) (string, error) {
	if y.Kind == yaml.AliasNode {
		y = y.Alias
	}
	if y.Kind != yaml.ScalarNode {
		return "", b.fail(y, "a map's key must be a string", "quote it")
	}
	v, err := b.scalar(y)
	if err != nil {
		return "", err
	}
	switch v := v.(type) {
	case nil:
		return "", b.fail(y, "a map's key must be a string, it is null", "quote it")
	case float64:
		if math.IsInf(float64(float32(v)), 0) {
			return "", b.fail(y, "a map's key must be a string", "quote it")
		}
		// kubectl's YAML library writes floating-point keys in 32 bits.
		return strconv.FormatFloat(v, 'g', -1, 32), nil
	default:
		return scalarText(v), nil
	}
}

// yaml11Bool holds the words that YAML 1.1, and so kubectl, takes as booleans beyond those of YAML 1.2.
var yaml11Bool = map[string]bool{
	"y": true, "Y": true, "yes": true, "Yes": true, "YES": true, "on": true, "On": true, "ON": true,
	"n": false, "N": false, "no": false, "No": false, "NO": false, "off": false, "Off": false, "OFF": false,
}

const quotedOrBlock = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

func (b *yamlBuilder) scalar(y *yaml.Node) (any, error) {
	switch y.Tag {
	case "!!str":
		if y.Style&(quotedOrBlock|yaml.TaggedStyle) == 0 {
			if v, ok := yaml11Bool[y.Value]; ok {
				return v, nil
			}
		}
		return y.Value, nil
	case "!!timestamp":
		return y.Value, nil
	case "!!null":
		return nil, nil
	case "!!bool":
		if v, ok := yaml11Bool[y.Value]; ok {
			return v, nil
		}
		var v bool
		if err := y.Decode(&v); err != nil {
			return nil, b.fail(y, fmt.Sprintf("%q is no boolean", y.Value), "")
		}
		return v, nil
	case "!!int", "!!float":
		var v any
		if err := y.Decode(&v); err != nil {
			return nil, b.fail(y, fmt.Sprintf("%q is no number", y.Value), "")
		}
		return b.number(y, v)
	case "!!merge":
		return y.Value, nil
	default:
		return nil, b.fail(y, "the tag "+y.Tag+" cannot be written as JSON", "write the value as a plain string, map or list")
	}
}

func (b *yamlBuilder) number(y *yaml.Node, v any) (any, error) {
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case uint64:
		return float64(v), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, b.fail(y, y.Value+" cannot be written as JSON", "quote it if a string is meant")
		}
		if v == math.Trunc(v) && math.Abs(v) < 1<<63 {
			return int64(v), nil // 1e3 is written to JSON as 1000
		}
		return v, nil
	default:
		return nil, b.fail(y, fmt.Sprintf("%q is no number", y.Value), "")
	}
}
