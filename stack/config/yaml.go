package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of a document, so that a few lines cannot ask for all the memory there is.
const (
	MaxSize  = 64 << 20 // bytes
	maxNodes = 2_000_000
	maxDepth = 200
)

// ParseYAML reads a document; an empty one is nil. Merge keys are merged. Keys are texts.
func ParseYAML(file string, text []byte) (*Tree, error) {
	docs, err := ParseYAMLStream(file, text)
	if err != nil || len(docs) == 0 {
		return nil, err
	}
	if len(docs) > 1 {
		return nil, &Problem{At: docs[1].At, What: "a second document begins here; expected one"}
	}
	return docs[0], nil
}

// ParseYAMLStream reads all documents of a text. Empty ones are left out.
func ParseYAMLStream(file string, text []byte) ([]*Tree, error) {
	if len(text) > MaxSize {
		return nil, &Problem{At: Place{File: file}, What: fmt.Sprintf("is larger than %d MB", MaxSize>>20)}
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var docs []*Tree
	r := yamlReader{file: file, left: maxNodes}
	for {
		var n yaml.Node
		err := decode(d, &n)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, syntaxError(file, err)
		}
		t, err := r.tree(&n, 0)
		if err != nil {
			return nil, err
		}
		if t != nil && t.Kind != Null {
			docs = append(docs, t)
		}
	}
}

// decode turns a panic of the parser on malformed text into an error.
func decode(d *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the text cannot be read: %v", p)
		}
	}()
	return d.Decode(n)
}

// syntaxError takes the line out of the messages of the YAML reader.
func syntaxError(file string, err error) error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	p := &Problem{At: Place{File: file}, What: message, Fix: "It must be YAML."}
	var line int
	if n, _ := fmt.Sscanf(message, "line %d:", &line); n == 1 {
		p.At.Line = line
		_, p.What, _ = strings.Cut(message, ": ")
	}
	return p
}

type yamlReader struct {
	file string
	left int
}

func (r *yamlReader) place(n *yaml.Node) Place { return Place{r.file, n.Line, n.Column} }

func (r *yamlReader) tree(n *yaml.Node, depth int) (*Tree, error) {
	if r.left--; r.left < 0 || depth > maxDepth {
		return nil, &Problem{At: r.place(n), What: "holds more or deeper values than are read"}
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return r.tree(n.Content[0], depth)
	case yaml.AliasNode:
		return r.tree(n.Alias, depth+1)
	case yaml.SequenceNode:
		t := &Tree{Kind: List, At: r.place(n)}
		for _, c := range n.Content {
			item, err := r.tree(c, depth+1)
			if err != nil {
				return nil, err
			}
			t.Items = append(t.Items, item)
		}
		return t, nil
	case yaml.MappingNode:
		return r.mapping(n, depth)
	case yaml.ScalarNode:
		return r.scalar(n)
	}
	return nil, nil
}

func (r *yamlReader) mapping(n *yaml.Node, depth int) (*Tree, error) {
	t := &Tree{Kind: Map, At: r.place(n)}
	seen := map[string]bool{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		for k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		switch {
		case k.Kind == yaml.ScalarNode && k.Tag == "!!merge":
			merged = append(merged, v)
			continue
		case k.Kind != yaml.ScalarNode:
			return nil, &Problem{At: r.place(k), What: "a field's name must be a word"}
		case seen[k.Value]:
			return nil, &Problem{At: r.place(k), Path: k.Value, What: "is there twice"}
		}
		seen[k.Value] = true
		value, err := r.tree(v, depth+1)
		if err != nil {
			return nil, err
		}
		t.Fields = append(t.Fields, Field{Name: k.Value, Value: value, At: r.place(k)})
	}
	for _, m := range merged {
		if err := r.merge(t, m, depth+1, seen); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// merge adds the fields that a merge key names and that are not there.
func (r *yamlReader) merge(t *Tree, n *yaml.Node, depth int, seen map[string]bool) error {
	source, err := r.tree(n, depth)
	if err != nil {
		return err
	}
	sources := []*Tree{source}
	if source.Kind == List {
		sources = source.Items
	}
	for _, s := range sources {
		if s.Kind != Map {
			return &Problem{At: r.place(n), Path: "<<", What: "must name fields with values, got " + s.describe()}
		}
		for _, f := range s.Fields {
			if !seen[f.Name] {
				seen[f.Name] = true
				t.Fields = append(t.Fields, f)
			}
		}
	}
	return nil
}

func (r *yamlReader) scalar(n *yaml.Node) (*Tree, error) {
	t := &Tree{At: r.place(n)}
	var err error
	switch n.ShortTag() {
	case "!!null":
	case "!!bool":
		t.Kind, err = Bool, n.Decode(&t.Bool)
	case "!!int":
		if t.Kind, err = Int, n.Decode(&t.Int); err != nil { // beyond 64 bits
			t.Kind, err = Float, n.Decode(&t.Float)
		}
	case "!!float":
		if t.Kind, err = Float, n.Decode(&t.Float); err == nil && (math.IsNaN(t.Float) || math.IsInf(t.Float, 0)) {
			return nil, &Problem{At: t.At, What: "must be a finite number, got " + n.Value}
		}
	default: // also times, which stay as they are written
		t.Kind, t.Text = Text, n.Value
	}
	if err != nil {
		return nil, &Problem{At: t.At, What: fmt.Sprintf("%q cannot be read: %v", n.Value, err)}
	}
	return t, nil
}
