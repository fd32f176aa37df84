package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/kcl/value"
)

// maxNodes is how many values one YAML text may hold once its aliases are
// followed, so that a few lines cannot ask for all the memory there is.
const maxNodes = 10_000_000

// ReadYAML reads a text of one document; an empty text is None.
func ReadYAML(text string) (value.Value, error) {
	docs, err := ReadYAMLStream(text)
	if err != nil {
		return nil, err
	}
	switch len(docs) {
	case 0:
		return value.None, nil
	case 1:
		return docs[0], nil
	}
	return nil, errors.New("deserializing from YAML containing more than one document is not supported")
}

// ReadYAMLStream reads all documents of a text. Scalars follow the YAML 1.2
// core schema with octal, hexadecimal and binary integers; keys are strings
// and keep their order; merge keys (<<) are merged.
func ReadYAMLStream(text string) ([]value.Value, error) {
	d := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	var docs []value.Value
	r := yamlReader{left: maxNodes}
	for {
		var n yaml.Node
		if err := decodeNode(d, &n); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
		}
		v, err := r.value(&n, 0)
		if err != nil {
			return nil, err
		}
		docs = append(docs, v)
	}
}

// decodeNode turns a panic of the parser on malformed text into an error.
func decodeNode(d *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("malformed YAML: %v", fault)
		}
	}()
	return d.Decode(n)
}

type yamlReader struct{ left int }

func (r *yamlReader) value(n *yaml.Node, depth int) (value.Value, error) {
	if r.left--; r.left < 0 {
		return nil, fmt.Errorf("line %d: more than %d values after following aliases", n.Line, maxNodes)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("recursion limit exceeded at line %d column %d", n.Line, n.Column)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return r.value(n.Content[0], depth)
	case yaml.AliasNode:
		return r.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		l := &value.List{Items: make([]value.Value, 0, len(n.Content))}
		for _, c := range n.Content {
			v, err := r.value(c, depth+1)
			if err != nil {
				return nil, err
			}
			l.Items = append(l.Items, v)
		}
		return l, nil
	case yaml.MappingNode:
		return r.mapping(n, depth)
	case yaml.ScalarNode:
		return Scalar(n)
	}
	return value.None, nil
}

func (r *yamlReader) mapping(n *yaml.Node, depth int) (value.Value, error) {
	d := value.NewDict(len(n.Content) / 2)
	var merges []value.Value
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("invalid type: expected a string key at line %d column %d", k.Line, k.Column)
		}
		v, err := r.value(c, depth+1)
		if err != nil {
			return nil, err
		}
		if k.Value == "<<" && k.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
			merges = append(merges, v)
			continue
		}
		d.Put(value.Entry{Key: k.Value, Value: v, Index: value.NoIndex})
	}
	for _, m := range merges {
		if err := mergeInto(d, m); err != nil {
			return nil, fmt.Errorf("%w at line %d column %d", err, n.Line, n.Column)
		}
	}
	return d, nil
}

func mergeInto(d *value.Dict, m value.Value) error {
	switch m := m.(type) {
	case *value.Dict:
		for _, e := range m.Entries() {
			if !d.Has(e.Key) {
				d.Put(e)
			}
		}
		return nil
	case *value.List:
		for _, item := range m.Items {
			if _, ok := item.(*value.Dict); !ok {
				return errors.New("expected a mapping or list of mappings for merging")
			}
			if err := mergeInto(d, item); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("expected a mapping or list of mappings for merging")
}

// Scalar is the value of a scalar node.
func Scalar(n *yaml.Node) (value.Value, error) {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return value.Str(n.Value), nil
	}
	if n.Style&yaml.TaggedStyle != 0 && n.Tag == "!!str" {
		return value.Str(n.Value), nil
	}
	v := plainScalar(n.Value)
	if n.Style&yaml.TaggedStyle != 0 {
		return taggedScalar(n, v)
	}
	return v, nil
}

func taggedScalar(n *yaml.Node, v value.Value) (value.Value, error) {
	want := map[string]value.Kind{"!!int": value.IntKind, "!!float": value.FloatKind, "!!bool": value.BoolKind, "!!null": value.NoneKind}
	kind, known := want[n.Tag]
	if !known || v.Kind() == kind {
		return v, nil
	}
	if i, ok := v.(value.Int); ok && kind == value.FloatKind {
		return value.Float(i), nil
	}
	return nil, fmt.Errorf("invalid value %q for tag %s at line %d column %d", n.Value, n.Tag, n.Line, n.Column)
}

// plainScalar is the value of a scalar without quotes.
func plainScalar(s string) value.Value {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return value.None
	case "true", "True", "TRUE":
		return value.Bool(true)
	case "false", "False", "FALSE":
		return value.Bool(false)
	}
	if i, ok := yamlInt(s); ok {
		return i
	}
	if digitsButNoNumber(s) {
		return value.Str(s)
	}
	if f, ok := yamlFloat(s); ok {
		return f
	}
	return value.Str(s)
}

// yamlInt reads an integer; one beyond 64 bits becomes a float.
func yamlInt(s string) (value.Value, bool) {
	digits, negative := s, false
	switch s[0] {
	case '+':
		digits = s[1:]
	case '-':
		digits, negative = s[1:], true
	}
	base := 10
	if len(digits) > 2 && digits[0] == '0' {
		switch digits[1] {
		case 'x':
			base = 16
		case 'o':
			base = 8
		case 'b':
			base = 2
		}
	}
	if base != 10 {
		digits = digits[2:]
	} else if digitsButNoNumber(s) {
		return nil, false
	}
	if digits == "" || digits[0] == '+' || digits[0] == '-' || strings.Contains(digits, "_") {
		return nil, false
	}
	if negative {
		digits = "-" + digits
	}
	i, err := strconv.ParseInt(digits, base, 64)
	if err == nil {
		return value.Int(i), true
	}
	if !errors.Is(err, strconv.ErrRange) || base != 10 {
		return nil, false
	}
	f, err := strconv.ParseFloat(digits, 64)
	return value.Float(f), err == nil
}

func yamlFloat(s string) (value.Value, bool) {
	unsigned := strings.TrimPrefix(s, "+")
	switch unsigned {
	case ".inf", ".Inf", ".INF", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN":
		return value.None, true // JSON has none of these, and upstream goes through it
	}
	if unsigned == "" || strings.ContainsAny(unsigned, "_xXpPiInN") || len(unsigned) < len(s) && (unsigned[0] == '+' || unsigned[0] == '-') {
		return nil, false
	}
	f, err := strconv.ParseFloat(unsigned, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, false
	}
	return value.Float(f), true
}

func digitsButNoNumber(s string) bool {
	s = strings.TrimLeft(s[:1], "+-") + s[1:]
	return len(s) > 1 && s[0] == '0' && strings.Trim(s, "0123456789") == ""
}
