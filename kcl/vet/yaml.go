package vet

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/syntax"
)

// readYAML gives the documents of a YAML stream. Aliases and merge keys are
// followed.
func readYAML(d Data) ([]syntax.Expr, error) {
	if _, err := plan.ReadYAMLStream(d.Text); err != nil { // also bounds depth and aliases
		return nil, fmt.Errorf("Failed to load the validated file '%s': %w", d.Name, err)
	}
	r := yamlTree{src: d.Text}
	r.lines = append(r.lines, 0)
	for i := range d.Text {
		if d.Text[i] == '\n' {
			r.lines = append(r.lines, i+1)
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(d.Text))
	var docs []syntax.Expr
	for {
		var n yaml.Node
		if err := decoder.Decode(&n); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return nil, fmt.Errorf("Failed to load the validated file '%s': %w", d.Name, err)
		}
		docs = append(docs, r.value(&n))
	}
}

type yamlTree struct {
	src   string
	lines []int
}

// at is the place of a node: from its start to the end of its text on the line.
func (r *yamlTree) at(n *yaml.Node) syntax.Span {
	start := len(r.src)
	if n.Line >= 1 && n.Line <= len(r.lines) {
		start = r.lines[n.Line-1]
		for col := 1; col < n.Column && start < len(r.src) && r.src[start] != '\n'; col++ {
			start++
			for start < len(r.src) && r.src[start]&0xc0 == 0x80 { // columns count characters
				start++
			}
		}
	}
	end := min(start+max(len(n.Value), 1), len(r.src))
	if i := strings.IndexByte(r.src[start:end], '\n'); i >= 0 {
		end = start + i
	}
	return syntax.Span{Start: syntax.Pos(start), End: syntax.Pos(end)}
}

func (r *yamlTree) value(n *yaml.Node) syntax.Expr {
	at := r.at(n)
	switch n.Kind {
	case yaml.DocumentNode:
		return r.value(n.Content[0])
	case yaml.AliasNode:
		return r.value(n.Alias)
	case yaml.SequenceNode:
		l := &syntax.ListExpr{Span: at}
		for _, c := range n.Content {
			l.Items = append(l.Items, r.value(c))
		}
		if k := len(l.Items); k > 0 {
			l.End = max(l.End, l.Items[k-1].Range().End)
		}
		return l
	case yaml.MappingNode:
		c := &syntax.ConfigExpr{Span: at}
		r.entries(c, n)
		if k := len(c.Items); k > 0 {
			c.End = max(c.End, c.Items[k-1].End)
		}
		return c
	}
	v, err := plan.Scalar(n)
	if err != nil {
		return &syntax.MissingExpr{Span: at}
	}
	return scalar(at, v)
}

// entries adds the entries of a mapping, those of merge keys first, so that
// the mapping's own count.
func (r *yamlTree) entries(c *syntax.ConfigExpr, n *yaml.Node) {
	own := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		own[n.Content[i].Value] = true
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Value == "<<" && k.Tag == "!!merge" {
			for _, m := range r.merged(r.value(v)) {
				key, ok := m.Key.(*syntax.StringLit)
				if ok && !own[key.Value] {
					own[key.Value] = true
					c.Items = append(c.Items, m)
				}
			}
			continue
		}
		c.Items = append(c.Items, entry(text(r.at(k), k.Value), r.value(v)))
	}
}

func (r *yamlTree) merged(v syntax.Expr) []*syntax.ConfigEntry {
	switch v := v.(type) {
	case *syntax.ConfigExpr:
		return v.Items
	case *syntax.ListExpr:
		var all []*syntax.ConfigEntry
		for _, item := range v.Items {
			all = append(all, r.merged(item)...)
		}
		return all
	}
	return nil
}
