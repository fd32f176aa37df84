package eval

import (
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// expr computes a value.
type expr func(*frame) value.Value

// stmt runs a statement and gives its value.
type stmt func(*frame) value.Value

// compiler turns the trees of one file into closures.
type compiler struct {
	m     *machine
	unit  *unit
	scope *scope
}

func (c *compiler) place(n syntax.Node) place { return place{c.unit.file.File, n.Range().Start} }

// within compiles with a scope of its own for names.
func (c *compiler) within(kind scopeKind, f func(*compiler)) {
	inner := *c
	inner.scope = c.scope.child(kind)
	f(&inner)
}

func (c *compiler) exprs(xs []syntax.Expr) []expr {
	out := make([]expr, len(xs))
	for i, x := range xs {
		out[i] = c.expr(x)
	}
	return out
}

// optional compiles x or gives nil for nil.
func (c *compiler) optional(x syntax.Expr) expr {
	if x == nil {
		return nil
	}
	return c.expr(x)
}

func (c *compiler) constant(n syntax.Node, v value.Value) expr {
	m, at := c.m, c.place(n)
	return func(*frame) value.Value { m.at = at; return v }
}

func (c *compiler) expr(x syntax.Expr) expr {
	m, at := c.m, c.place(x)
	switch x := x.(type) {
	case *syntax.Ident:
		load := c.ident(x)
		return func(fr *frame) value.Value { m.at = at; return load(fr) }
	case *syntax.NumberLit:
		return c.constant(x, numberValue(x))
	case *syntax.StringLit:
		return c.constant(x, value.Str(x.Value))
	case *syntax.NameLit:
		return c.constant(x, nameValue(x.Value))
	case *syntax.ParenExpr:
		inner := c.expr(x.X)
		return func(fr *frame) value.Value { m.at = at; return inner(fr) }
	case *syntax.UnaryExpr:
		return c.unary(x)
	case *syntax.BinaryExpr:
		return c.binary(x)
	case *syntax.CompareExpr:
		return c.compare(x)
	case *syntax.IfExpr:
		cond, yes, no := c.expr(x.Cond), c.expr(x.Body), c.expr(x.Else)
		return func(fr *frame) value.Value {
			m.at = at
			if value.Truthy(cond(fr)) {
				return yes(fr)
			}
			return no(fr)
		}
	case *syntax.SelectorExpr:
		return c.selector(x)
	case *syntax.SubscriptExpr:
		return c.subscript(x)
	case *syntax.CallExpr:
		return c.call(x)
	case *syntax.QuantExpr:
		return c.quantifier(x)
	case *syntax.ListExpr:
		return c.list(x, x.Items)
	case *syntax.ListIfItem:
		return c.listIf(x)
	case *syntax.StarredExpr:
		inner := c.expr(x.X)
		return func(fr *frame) value.Value { m.at = at; return inner(fr) }
	case *syntax.ListComp:
		return c.listComp(x)
	case *syntax.DictComp:
		return c.dictComp(x)
	case *syntax.ConfigExpr:
		return c.config(x)
	case *syntax.ConfigIfEntry:
		return c.configIf(x)
	case *syntax.SchemaExpr:
		return c.schemaExpr(x)
	case *syntax.LambdaExpr:
		return c.lambda(x)
	case *syntax.JoinedString:
		return c.joined(x)
	}
	return func(*frame) value.Value {
		m.at = at
		m.fail("compile error: missing expression")
		return nil
	}
}

func numberValue(x *syntax.NumberLit) value.Value {
	switch {
	case x.IsFloat:
		return value.Float(x.Float)
	case x.Suffix != "":
		return &value.Number{Value: value.UnitValue(x.Int, x.Suffix), Raw: x.Int, Unit: x.Suffix}
	}
	return value.Int(x.Int)
}

func nameValue(name string) value.Value {
	switch name {
	case "True":
		return value.Bool(true)
	case "False":
		return value.Bool(false)
	case "None":
		return value.None
	}
	return value.Undefined
}

func (c *compiler) unary(x *syntax.UnaryExpr) expr {
	m, at, inner, op := c.m, c.place(x), c.expr(x.X), x.Op
	return func(fr *frame) value.Value {
		m.at = at
		return m.unary(op, inner(fr))
	}
}

func (c *compiler) binary(x *syntax.BinaryExpr) expr {
	m, at := c.m, c.place(x)
	left := c.expr(x.X)
	switch x.Op {
	case "and":
		right := c.expr(x.Y)
		return func(fr *frame) value.Value {
			m.at = at
			if l := left(fr); !value.Truthy(l) {
				return l
			}
			return right(fr)
		}
	case "or":
		right := c.expr(x.Y)
		return func(fr *frame) value.Value {
			m.at = at
			if l := left(fr); value.Truthy(l) {
				return l
			}
			return right(fr)
		}
	case "as":
		id, ok := x.Y.(*syntax.Ident)
		if !ok {
			return func(fr *frame) value.Value { m.at = at; return left(fr) }
		}
		t := c.unit.namedType(id, 0)
		return func(fr *frame) value.Value {
			m.at = at
			return m.cast(left(fr), t)
		}
	}
	right, op := c.expr(x.Y), operatorOf(x.Op)
	return func(fr *frame) value.Value {
		m.at = at
		l := left(fr)
		r := right(fr)
		return m.binary(op, l, r)
	}
}

func (c *compiler) compare(x *syntax.CompareExpr) expr {
	m, at := c.m, c.place(x)
	left, rights, ops := c.expr(x.X), c.exprs(x.Ys), x.Ops
	return func(fr *frame) value.Value {
		m.at = at
		l := left(fr)
		for i, op := range ops {
			r := rights[i](fr)
			if !m.compare(op, l, r) {
				return value.Bool(false)
			}
			l = r
		}
		return value.Bool(true)
	}
}

func (c *compiler) selector(x *syntax.SelectorExpr) expr {
	m, at, base := c.m, c.place(x), c.expr(x.X)
	names, question := x.Attr.Names, x.Question
	return func(fr *frame) value.Value {
		m.at = at
		v := base(fr)
		for i := range names {
			if i == 0 && question && !value.Truthy(v) {
				v = value.None
				continue
			}
			v = m.attr(v, names[i].Text)
		}
		return v
	}
}

func (c *compiler) subscript(x *syntax.SubscriptExpr) expr {
	m, at, base := c.m, c.place(x), c.expr(x.X)
	question := x.Question
	if x.Index != nil {
		index := c.expr(x.Index)
		return func(fr *frame) value.Value {
			m.at = at
			v := base(fr)
			i := index(fr)
			if question && !value.Truthy(v) {
				return value.None
			}
			return m.subscript(v, i)
		}
	}
	parts := [3]expr{c.optional(x.Lower), c.optional(x.Upper), c.optional(x.Step)}
	return func(fr *frame) value.Value {
		m.at = at
		v := base(fr)
		var bounds [3]value.Value
		for i, p := range parts {
			bounds[i] = value.None
			if p != nil {
				bounds[i] = p(fr)
			}
		}
		if question && !value.Truthy(v) {
			return value.None
		}
		return m.slice(v, bounds[0], bounds[1], bounds[2])
	}
}

func (c *compiler) joined(x *syntax.JoinedString) expr {
	m, at := c.m, c.place(x)
	type part struct {
		text string
		x    expr
		spec string
	}
	var parts []part
	for _, p := range x.Parts {
		switch p := p.(type) {
		case *syntax.StringLit:
			parts = append(parts, part{text: p.Value})
		case *syntax.FormattedValue:
			parts = append(parts, part{x: c.expr(p.X), spec: p.Spec})
		}
	}
	return func(fr *frame) value.Value {
		m.at = at
		var b []byte
		for i := range parts {
			p := &parts[i]
			switch {
			case p.x == nil:
				b = append(b, p.text...)
			case p.spec == "":
				v := p.x(fr)
				m.grow(value.TextSize(v, int(m.maxBytes)))
				b = value.AppendText(b, v)
			default:
				v := p.x(fr)
				m.grow(value.TextSize(v, int(m.maxBytes)))
				s, err := m.lib.Format(v, p.spec)
				m.check(err)
				b = append(b, s...)
			}
		}
		return value.Str(b)
	}
}
