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

// ident compiles the reading of a name, possibly of a package, and of the
// attributes after it.
func (c *compiler) ident(x *syntax.Ident) expr {
	if len(x.Names) == 0 {
		return func(*frame) value.Value { return value.Undefined }
	}
	first := x.Names[0].Text
	rest := x.Names[1:]
	var load expr
	if path, ok := c.packageOf(first); ok && len(rest) > 0 {
		load = c.member(path, rest[0].Text)
		rest = rest[1:]
	} else {
		load = c.load(first)
	}
	m := c.m
	switch len(rest) {
	case 0:
		return load
	case 1:
		name := rest[0].Text
		return func(fr *frame) value.Value { return m.attr(load(fr), name) }
	}
	return func(fr *frame) value.Value {
		v := load(fr)
		for i := range rest {
			v = m.attr(v, rest[i].Text)
		}
		return v
	}
}

// packageOf tells whether name is an import here and not hidden by a variable.
func (c *compiler) packageOf(name string) (string, bool) {
	path, ok := c.unit.imported(name)
	if !ok {
		return "", false
	}
	if found, _ := c.scope.find(name); len(found) > 0 {
		for _, f := range found {
			if f.local {
				return "", false
			}
		}
	}
	if c.unit.pkg.globals[name] != nil {
		return "", false
	}
	return path, true
}

// imported is the path that a file calls name. In the main package the imports
// of all files count.
func (u *unit) imported(name string) (string, bool) {
	if path, ok := u.file.Names[name]; ok {
		return path, true
	}
	if u.pkg.path == "__main__" {
		for _, o := range u.pkg.units {
			if path, ok := o.file.Names[name]; ok {
				return path, true
			}
		}
	}
	return "", false
}

// member compiles the reading of a member of another package.
func (c *compiler) member(path, name string) expr {
	m := c.m
	if src := m.program.Packages[path]; src != nil {
		p := m.load(src)
		if g := p.globals[name]; g != nil {
			return func(*frame) value.Value {
				if !p.started {
					p.run()
				}
				if g.value == nil {
					return g.get()
				}
				return g.value
			}
		}
		if t := p.schema(name); t != nil {
			return func(*frame) value.Value { return t }
		}
		if t := p.aliasValue(name, 0); t != nil {
			return func(*frame) value.Value { return t }
		}
		return func(*frame) value.Value { return value.Undefined }
	}
	var v value.Value
	var ok bool
	if len(path) > 11 && path[:11] == "kcl_plugin." {
		v, ok = m.lib.Plugin(path, name)
	} else {
		v, ok = m.lib.Module(path, name)
	}
	if !ok {
		return func(*frame) value.Value {
			m.fail("module '%s' has no attribute '%s'", path, name)
			return nil
		}
	}
	return func(*frame) value.Value { return v }
}

// aliasValue is the schema that an alias of this package stands for, or nil.
func (p *pkg) aliasValue(name string, depth int) value.Value {
	a := p.alias(name)
	if a == nil || depth > 50 {
		return nil
	}
	t, ok := a.typ.(*syntax.NamedType)
	if !ok {
		return nil
	}
	return p.m.typeValue(a.unit, t.Ident, depth+1)
}

// typeValue is the schema or rule that a name stands for, or nil.
func (m *machine) typeValue(u *unit, id *syntax.Ident, depth int) value.Value {
	p := u.pkg
	var name string
	switch len(id.Names) {
	case 1:
		name = id.Names[0].Text
	case 2:
		path, ok := u.imported(id.Names[0].Text)
		src := m.program.Packages[path]
		if !ok || src == nil {
			return nil
		}
		p, name = m.load(src), id.Names[1].Text
	default:
		return nil
	}
	if t := p.schema(name); t != nil {
		return t
	}
	return p.aliasValue(name, depth)
}

// load compiles the reading of a single name.
func (c *compiler) load(name string) expr {
	found, inSchema := c.scope.find(name)
	outer := c.outer(name, inSchema)
	if !inSchema {
		return withCandidates(found, outer)
	}
	var local, shadowed []candidate
	for _, f := range found {
		if f.local {
			local = append(local, f)
		} else {
			shadowed = append(shadowed, f)
		}
	}
	m := c.m
	below := withCandidates(shadowed, outer)
	var shape *shape
	index := -1
	global := c.unit.pkg.globals[name]
	attr := func(fr *frame) value.Value {
		inst := fr.inst
		if inst == nil {
			return below(fr)
		}
		if inst.shape != shape {
			shape, index = inst.shape, inst.shape.find(name)
		}
		if index < 0 {
			if v, ok := inst.value.Get(name); ok && !value.IsUndefined(v) {
				return v
			}
			return below(fr)
		}
		v := m.readAttr(inst, index)
		if value.IsUndefined(v) && global != nil && !m.target.is(name) {
			return global.get()
		}
		return v
	}
	return withCandidates(local, attr)
}

// withCandidates reads the first slot that is set, else falls back.
func withCandidates(list []candidate, otherwise expr) expr {
	for i := len(list) - 1; i >= 0; i-- {
		cand, next := list[i], otherwise
		slot := cand.slot
		if cand.upSlot < 0 {
			otherwise = func(fr *frame) value.Value {
				if v := fr.vars[slot]; v != nil {
					return v
				}
				return next(fr)
			}
			continue
		}
		up := cand.upSlot
		otherwise = func(fr *frame) value.Value {
			if v := fr.vars[slot]; v != nil {
				return v
			}
			if fr.up != nil && up < len(fr.up.vars) && fr.up.vars[up] != nil {
				return fr.up.vars[up]
			}
			return next(fr)
		}
	}
	return otherwise
}

// outer compiles the reading of a name of the package or a builtin.
func (c *compiler) outer(name string, inSchema bool) expr {
	p := c.unit.pkg
	if g := p.globals[name]; g != nil {
		if !inSchema {
			return func(*frame) value.Value { return g.get() }
		}
		return func(*frame) value.Value {
			if g.value != nil && g.value.Kind() != value.UndefinedKind {
				return g.value
			}
			return g.get()
		}
	}
	var v value.Value
	if t := p.schema(name); t != nil {
		v = t
	} else if t := p.aliasValue(name, 0); t != nil {
		v = t
	} else if b := c.m.lib.Builtin(name); b != nil {
		v = b
	} else {
		v = value.Undefined
	}
	return func(*frame) value.Value { return v }
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
