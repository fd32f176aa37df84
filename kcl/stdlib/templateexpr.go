package stdlib

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/value"
)

// parseExpr reads `helper param key=param (sub expression)`.
func parseExpr(s string) (*expr, error) {
	r := &exprReader{s: s}
	e, err := r.call(0)
	if err == nil && r.space() != 0 {
		err = fmt.Errorf("unexpected %q in {{%s}}", r.s[r.i:], s)
	}
	return e, err
}

type exprReader struct {
	s string
	i int
}

// space skips white space and returns the next character, or 0.
func (r *exprReader) space() byte {
	for r.i < len(r.s) && strings.IndexByte(" \t\r\n", r.s[r.i]) >= 0 {
		r.i++
	}
	if r.i == len(r.s) {
		return 0
	}
	return r.s[r.i]
}

func (r *exprReader) call(depth int) (*expr, error) {
	if depth > 50 {
		return nil, errors.New("expressions nest too deep")
	}
	e, err := r.term(depth)
	if err != nil {
		return nil, err
	}
	for c := r.space(); c != 0 && c != ')'; c = r.space() {
		start := r.i
		if name := r.word(); name != "" && r.i < len(r.s) && r.s[r.i] == '=' {
			r.i++
			v, err := r.term(depth)
			if err != nil {
				return nil, err
			}
			if e.hash == nil {
				e.hash = map[string]*expr{}
			}
			e.hash[name] = v
			continue
		}
		r.i = start
		v, err := r.term(depth)
		if err != nil {
			return nil, err
		}
		e.params = append(e.params, v)
	}
	return e, nil
}

// word reads a path up to a delimiter.
func (r *exprReader) word() string {
	start := r.i
	for r.i < len(r.s) && strings.IndexByte(" \t\r\n()=|\"'", r.s[r.i]) < 0 {
		if r.s[r.i] == '[' {
			if end := strings.IndexByte(r.s[r.i:], ']'); end > 0 {
				r.i += end
			}
		}
		r.i++
	}
	return r.s[start:r.i]
}

func (r *exprReader) term(depth int) (*expr, error) {
	switch c := r.space(); c {
	case 0:
		return nil, errors.New("empty expression")
	case '(':
		r.i++
		e, err := r.call(depth + 1)
		if err != nil {
			return nil, err
		}
		if r.space() != ')' {
			return nil, errors.New("expected ')'")
		}
		r.i++
		return e, nil
	case '"', '\'':
		end := strings.IndexByte(r.s[r.i+1:], c)
		if end < 0 {
			return nil, errors.New("a string is not closed")
		}
		s := r.s[r.i+1 : r.i+1+end]
		r.i += end + 2
		return &expr{literal: value.Str(s)}, nil
	}
	w := r.word()
	if w == "" {
		return nil, fmt.Errorf("unexpected %q", r.s[r.i:])
	}
	if c := w[0]; c == '-' || c >= '0' && c <= '9' || w == "true" || w == "false" || w == "null" {
		if v, err := plan.ReadJSON(w); err == nil {
			return &expr{literal: v}, nil
		}
	}
	return &expr{path: w}, nil
}

// frame is a scope of the template: what `this` is and the names around it.
type frame struct {
	this  value.Value
	names map[string]value.Value
	up    *frame
}

type renderer struct {
	b     strings.Builder
	root  value.Value
	depth int
	grow  func(int) error
}

func (r *renderer) render(nodes []node, f *frame) error {
	for i := range nodes {
		n := &nodes[i]
		before := r.b.Len()
		var err error
		switch {
		case n.expr == nil:
			r.b.WriteString(n.text)
		case n.block:
			if err := r.blockHelper(n, f); err != nil {
				return err
			}
			continue
		default:
			var v value.Value
			raw := n.raw || n.expr.path == "raw" && len(n.expr.params) > 0
			if v, err = r.eval(n.expr, f); err == nil {
				r.write(v, raw)
			}
		}
		if err != nil {
			return err
		}
		if err := r.grow(r.b.Len() - before); err != nil {
			return err
		}
	}
	return nil
}

func (r *renderer) write(v value.Value, raw bool) {
	s := templateText(v)
	if !raw {
		s = escapeHTML(s)
	}
	r.b.WriteString(s)
}

// templateText is how handlebars prints a JSON value.
func templateText(v value.Value) string {
	switch v := v.(type) {
	case value.Str:
		return string(v)
	case *value.List:
		parts := make([]string, len(v.Items))
		for i, item := range v.Items {
			parts[i] = templateText(item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case *value.Dict, *value.Schema:
		return "[object]"
	}
	if value.IsNull(v) {
		return ""
	}
	return plan.JSON(v, plan.Options{}, 0)
}

func (r *renderer) eval(e *expr, f *frame) (value.Value, error) {
	if e.literal != nil {
		return e.literal, nil
	}
	if len(e.params) == 0 && e.hash == nil {
		return r.lookup(e.path, f), nil
	}
	params := make([]value.Value, len(e.params))
	for i, p := range e.params {
		v, err := r.eval(p, f)
		if err != nil {
			return nil, err
		}
		params[i] = v
	}
	return helper(e.path, params)
}

// helper calls one of the inline helpers.
func helper(name string, params []value.Value) (value.Value, error) {
	if len(params) == 0 {
		return nil, fmt.Errorf("helper %q needs a parameter", name)
	}
	last := params[len(params)-1]
	switch name {
	case "raw":
		if _, ok := params[0].(value.Str); ok {
			return params[0], nil
		}
		return value.Str(plan.JSON(params[0], plan.Options{}, 0)), nil
	case "lookup":
		if l, ok := params[0].(*value.List); ok {
			if i := asInt(last); i >= 0 && int(i) < len(l.Items) {
				return l.Items[i], nil
			}
		} else if d := value.ConfigOf(params[0]); d != nil {
			if v, ok := d.Get(templateText(last)); ok {
				return v, nil
			}
		}
		return value.None, nil
	case "log":
		return value.None, nil
	case "len":
		if items, ok := contents(params[0]); ok {
			return value.Int(len(items)), nil
		}
		return value.Int(len(templateText(params[0]))), nil
	case "not":
		return value.Bool(!value.Truthy(params[0])), nil
	case "eq":
		return value.Bool(value.Equal(params[0], last)), nil
	case "ne":
		return value.Bool(!value.Equal(params[0], last)), nil
	case "and", "or":
		result := name == "and"
		for _, p := range params {
			if value.Truthy(p) != result {
				result = !result
				break
			}
		}
		return value.Bool(result), nil
	case "gt", "gte", "lt", "lte":
		op := map[string]string{"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}[name]
		holds, err := value.Compare(params[0], op, last)
		return value.Bool(err == nil && holds), nil
	}
	return nil, fmt.Errorf("helper not found: %s", name)
}

// lookup follows a path such as ../a.b.[c d].0 or @index; what is not there is
// None.
func (r *renderer) lookup(path string, f *frame) value.Value {
	for strings.HasPrefix(path, "../") {
		path = path[3:]
		if f.up != nil {
			f = f.up
		}
	}
	at := f.this
	steps := pathSteps(path)
	if len(steps) == 0 {
		return at
	}
	switch first := steps[0]; {
	case path == ".." && f.up != nil:
		return f.up.this
	case first == "this" || first == ".":
		steps = steps[1:]
	case first == "@root":
		at, steps = r.root, steps[1:]
	default:
		for g := f; g != nil; g = g.up {
			if v, ok := g.names[first]; ok {
				at, steps = v, steps[1:]
				break
			}
		}
	}
	for _, s := range steps {
		next, err := step(at, s, at.Kind() == value.ListKind)
		if err != nil {
			return value.None
		}
		at = next
	}
	return at
}

func pathSteps(path string) []string {
	var steps []string
	for path != "" {
		if inner, ok := strings.CutPrefix(path, "["); ok {
			name, rest, _ := strings.Cut(inner, "]")
			steps = append(steps, name)
			path = strings.TrimLeft(rest, "./")
			continue
		}
		i := strings.IndexAny(path, "./[")
		if path == "." || i < 0 {
			return append(steps, path)
		}
		if i > 0 {
			steps = append(steps, path[:i])
		}
		if path[i] == '[' {
			path = path[i:]
		} else {
			path = path[i+1:]
		}
	}
	return steps
}

// blockHelper renders if, unless, each, with, or a plain section.
func (r *renderer) blockHelper(n *node, f *frame) error {
	if r.depth++; r.depth > 100 {
		return errors.New("blocks nest too deep")
	}
	defer func() { r.depth-- }()
	name := n.expr.path
	var arg value.Value = value.None
	switch name {
	case "if", "unless", "each", "with":
		if len(n.expr.params) == 0 {
			return fmt.Errorf("{{#%s}} needs a parameter", name)
		}
		v, err := r.eval(n.expr.params[0], f)
		if err != nil {
			return err
		}
		arg = v
	default:
		v, err := r.eval(n.expr, f)
		if err != nil {
			return err
		}
		arg = v
	}
	truth := value.Truthy(arg)
	if n.expr.hash["includeZero"] != nil && (arg.Kind() == value.IntKind || arg.Kind() == value.FloatKind) {
		truth = true
	}
	switch {
	case name == "unless":
		return r.choose(n, !truth, f)
	case name == "if" || arg.Kind() == value.BoolKind:
		return r.choose(n, truth, f)
	case !truth:
		return r.render(n.inverse, f)
	case name == "each" || name != "with" && arg.Kind() == value.ListKind:
		return r.each(n, arg, f)
	}
	inner := &frame{this: arg, up: f}
	if len(n.names) > 0 {
		inner.names = map[string]value.Value{n.names[0]: arg}
	}
	return r.render(n.body, inner)
}

func (r *renderer) choose(n *node, yes bool, f *frame) error {
	if yes {
		return r.render(n.body, f)
	}
	return r.render(n.inverse, f)
}

func (r *renderer) each(n *node, v value.Value, f *frame) error {
	items, ok := contents(v)
	if !ok {
		return r.render(n.inverse, f)
	}
	d := value.ConfigOf(v)
	for i, item := range items {
		key := value.Value(value.Int(i))
		names := map[string]value.Value{
			"@index": value.Int(i), "@first": value.Bool(i == 0), "@last": value.Bool(i == len(items)-1),
		}
		if d != nil {
			key = value.Str(d.Entries()[i].Key)
			names["@key"] = key
		}
		for k, name := range n.names {
			names[name] = []value.Value{item, key}[min(k, 1)]
		}
		if err := r.render(n.body, &frame{this: item, names: names, up: f}); err != nil {
			return err
		}
	}
	return nil
}
