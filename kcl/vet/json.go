package vet

import (
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// readJSON gives the one document of a JSON text.
func readJSON(d Data) ([]syntax.Expr, error) {
	if _, err := plan.ReadJSON(d.Text); err != nil {
		return nil, fmt.Errorf("Failed to load the validated file '%s': %w", d.Name, err)
	}
	r := jsonTree{s: d.Text}
	return []syntax.Expr{r.value()}, nil
}

// jsonTree builds the tree of a text that is known to be JSON.
type jsonTree struct {
	s string
	i int
}

func (r *jsonTree) space() {
	for r.i < len(r.s) && strings.IndexByte(" \t\r\n,:", r.s[r.i]) >= 0 {
		r.i++
	}
}

func (r *jsonTree) from(start int) syntax.Span {
	return syntax.Span{Start: syntax.Pos(start), End: syntax.Pos(r.i)}
}

func (r *jsonTree) value() syntax.Expr {
	r.space()
	start := r.i
	switch r.s[r.i] {
	case '{':
		r.i++
		c := &syntax.ConfigExpr{}
		for r.space(); r.s[r.i] != '}'; r.space() {
			key := r.str()
			c.Items = append(c.Items, entry(key, r.value()))
		}
		r.i++
		c.Span = r.from(start)
		return c
	case '[':
		r.i++
		l := &syntax.ListExpr{}
		for r.space(); r.s[r.i] != ']'; r.space() {
			l.Items = append(l.Items, r.value())
		}
		r.i++
		l.Span = r.from(start)
		return l
	case '"':
		return r.str()
	}
	for r.i < len(r.s) && strings.IndexByte(" \t\r\n,:]}", r.s[r.i]) < 0 {
		r.i++
	}
	return literal(r.from(start), r.s[start:r.i])
}

// literal is a number or a word of a text that is known to be JSON.
func literal(at syntax.Span, word string) syntax.Expr {
	v, err := plan.ReadJSON(word)
	if err != nil {
		return &syntax.MissingExpr{Span: at}
	}
	return scalar(at, v)
}

func scalar(at syntax.Span, v value.Value) syntax.Expr {
	switch v := v.(type) {
	case value.Bool:
		return boolean(at, bool(v))
	case value.Int:
		return number(at, false, int64(v), 0)
	case value.Float:
		return number(at, true, 0, float64(v))
	case value.Str:
		return text(at, string(v))
	}
	return &syntax.NameLit{Span: at, Value: "None"}
}

func (r *jsonTree) str() *syntax.StringLit {
	start := r.i
	for r.i++; r.s[r.i] != '"'; r.i++ {
		if r.s[r.i] == '\\' {
			r.i++
		}
	}
	r.i++
	v, err := plan.ReadJSON(r.s[start:r.i])
	s, ok := v.(value.Str)
	if err != nil || !ok {
		s = value.Str(r.s[start:r.i])
	}
	return text(r.from(start), string(s))
}
