package eval

import (
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// stmt compiles a statement.
func (c *compiler) stmt(s syntax.Stmt) stmt {
	m, at, ran := c.m, c.place(s), c.m.mark(c.unit, s)
	var run stmt
	switch s := s.(type) {
	case *syntax.ExprStmt:
		run = c.exprStmt(s)
	case *syntax.AssignStmt:
		run = c.assign(s)
	case *syntax.AugAssignStmt:
		run = c.augAssign(s)
	case *syntax.UnifyStmt:
		run = c.unify(s)
	case *syntax.AssertStmt:
		run = c.assert(s)
	case *syntax.IfStmt:
		run = c.ifStmt(s)
	case *syntax.SchemaAttr:
		run = c.attr(s)
	default:
		return func(*frame) value.Value { return value.Undefined }
	}
	return func(fr *frame) value.Value {
		back := m.back
		if back != nil && back.done {
			return value.Undefined
		}
		m.step()
		m.at = at
		if ran != nil {
			*ran = true
		}
		v := run(fr)
		if back != nil && back.inner == s {
			back.done = true
		}
		return v
	}
}

func (c *compiler) exprStmt(s *syntax.ExprStmt) stmt {
	m, p := c.m, c.unit.pkg
	xs := c.exprs(s.Exprs)
	atTop := c.scope.kind == packageScope
	kinds := make([]int, len(xs))
	for i, x := range s.Exprs {
		switch x.(type) {
		case *syntax.CallExpr:
			kinds[i] = 1
		case *syntax.SchemaExpr:
			kinds[i] = 2
		}
	}
	return func(fr *frame) value.Value {
		var last value.Value = value.Undefined
		for i, x := range xs {
			last = x(fr)
			if atTop && kinds[i] != 1 {
				p.scalar(last, kinds[i] == 2)
			}
		}
		_ = m
		return last
	}
}

// scalar adds the value of a statement to the document. Of schema instances
// the last one counts.
func (p *pkg) scalar(v value.Value, schema bool) {
	if schema {
		if i := p.schemaScalar; i >= 0 && i < len(p.scalars) {
			p.scalars = append(p.scalars[:i], p.scalars[i+1:]...)
		}
		p.schemaScalar = len(p.scalars)
	}
	p.scalars = append(p.scalars, v)
}

// setter stores a value in a variable; get reads what it holds now.
type variable struct {
	get expr
	set func(fr *frame, v value.Value, again bool)
	// put replaces the value after a part of it was changed.
	put func(fr *frame, v value.Value)
	aim func(fr *frame) target
}

// variable finds what a name in an assignment stands for.
func (c *compiler) variable(name string, by syntax.Stmt) variable {
	m := c.m
	load := c.load(name)
	if sc := c.scope.inLambda(); sc != nil {
		slot := sc.slot(name)
		*sc.use(name) = true
		set := func(fr *frame, v value.Value) { fr.vars[slot] = v }
		return variable{
			get: c.load(name),
			set: func(fr *frame, v value.Value, _ bool) { set(fr, v) },
			put: set,
			aim: func(*frame) target { return target{} },
		}
	}
	if c.scope.inSchema() {
		return c.attrVariable(name, by, load)
	}
	g := c.unit.pkg.globals[name]
	if g == nil {
		g = &global{pkg: c.unit.pkg, name: name}
		c.unit.pkg.globals[name] = g
	}
	at := c.place(by)
	return variable{
		get: func(*frame) value.Value { return g.get() },
		set: func(_ *frame, v value.Value, again bool) {
			g.set(v, by, again)
			if m.trace {
				g.origin = joinOrigins(g.origin, m.origin(at, "="))
			}
		},
		put: func(_ *frame, v value.Value) {
			g.value = v
			if g.cache != nil {
				g.cache = v
			}
		},
		aim: func(*frame) target { return target{global: g} },
	}
}

// destination is a compiled assignment target.
type destination struct {
	variable
	path []pathStep
	at   place
}

func (c *compiler) destination(t *syntax.Target, by syntax.Stmt) destination {
	return destination{c.variable(t.Name.Text, by), c.path(t), c.place(t)}
}

func (d *destination) assign(m *machine, fr *frame, v value.Value, again bool) {
	if len(d.path) == 0 {
		d.set(fr, v, again)
		return
	}
	var o *value.Origin
	if m.trace {
		o = m.origin(d.at, "=")
	}
	d.put(fr, m.withPath(fr, d.get(fr), d.path, v, o))
}

func (c *compiler) assign(s *syntax.AssignStmt) stmt {
	m := c.m
	names := map[string]bool{}
	var dests []destination
	x := c.expr(s.Value)
	for _, t := range s.Targets {
		names[t.Name.Text] = true
		dests = append(dests, c.destination(t, s))
	}
	var t *rtype
	if s.Type != nil {
		t = c.unit.typ(s.Type, 0)
	}
	again := readsAny(s.Value, names)
	return func(fr *frame) value.Value {
		saved := m.target
		if n := len(dests); n > 0 {
			m.target = dests[n-1].aim(fr)
		}
		v := x(fr)
		if t != nil {
			v = m.fit(v, t, false)
		}
		for i := range dests {
			dests[i].assign(m, fr, v, again)
		}
		m.target = saved
		return v
	}
}

// augmented names a run of an augmented assignment: the statement and, in a
// schema, the instance.
type augmented struct {
	stmt *syntax.AugAssignStmt
	inst *instance
}

func (c *compiler) augAssign(s *syntax.AugAssignStmt) stmt {
	m := c.m
	x := c.expr(s.Value)
	dest := c.destination(s.Target, s)
	op := operatorOf(s.Op)
	return func(fr *frame) value.Value {
		saved := m.target
		m.target = dest.aim(fr)
		// A statement that a reader made run before its turn is not applied a
		// second time: its turn gives what it gave then.
		key := augmented{s, m.target.inst}
		early := m.back != nil && (m.back.id == s || m.back.inner == s)
		v := m.augments[key]
		if v == nil || early {
			right := x(fr)
			left := m.readPath(fr, dest.get(fr), dest.path)
			v = m.binary(op, left, right)
			if early && len(dest.path) == 0 {
				if m.augments == nil {
					m.augments = map[augmented]value.Value{}
				}
				m.augments[key] = v
			}
		} else {
			delete(m.augments, key)
		}
		dest.assign(m, fr, v, true)
		m.target = saved
		return v
	}
}

func (c *compiler) unify(s *syntax.UnifyStmt) stmt {
	m := c.m
	if len(s.Target.Names) == 0 {
		return func(*frame) value.Value { return value.Undefined }
	}
	x := c.schemaExpr(s.Value)
	v := c.variable(s.Target.Names[0].Text, s)
	var path []pathStep
	for _, n := range s.Target.Names[1:] {
		path = append(path, pathStep{name: n.Text})
	}
	dest := destination{v, path, c.place(s)}
	return func(fr *frame) value.Value {
		saved := m.target
		m.target = dest.aim(fr)
		right := x(fr)
		left := m.readPath(fr, dest.get(fr), dest.path)
		u := m.bitOr(left, right)
		dest.assign(m, fr, u, false)
		m.target = saved
		return u
	}
}

func (c *compiler) assert(s *syntax.AssertStmt) stmt {
	m := c.m
	test, cond, msg := c.expr(s.Test), c.optional(s.Cond), c.optional(s.Msg)
	return func(fr *frame) value.Value {
		if cond != nil && !value.Truthy(cond(fr)) {
			return value.Undefined
		}
		ok := value.Truthy(test(fr))
		text := ""
		if msg != nil {
			if t, isStr := msg(fr).(value.Str); isStr {
				text = string(t)
			}
		}
		if !ok {
			m.fail("%s", text)
		}
		return value.Undefined
	}
}

func (c *compiler) stmts(body []syntax.Stmt) []stmt {
	out := make([]stmt, len(body))
	for i, s := range body {
		out[i] = c.stmt(s)
	}
	return out
}

func (c *compiler) ifStmt(s *syntax.IfStmt) stmt {
	m := c.m
	cond, body, orelse := c.expr(s.Cond), c.stmts(s.Body), c.stmts(s.Else)
	return func(fr *frame) value.Value {
		yes := value.Truthy(cond(fr))
		if b := m.back; b != nil && b.id == s {
			if b.kind == ifBranch && !yes || b.kind == elseBranch && yes {
				return value.Undefined
			}
		}
		list := orelse
		if yes {
			list = body
		}
		for _, x := range list {
			x(fr)
		}
		return value.Undefined
	}
}

// attr compiles the declaration of an attribute.
func (c *compiler) attr(s *syntax.SchemaAttr) stmt {
	m, name := c.m, s.Name.Text
	t := c.unit.typ(s.Type, 0)
	decorators := c.decorators(s.Decorators)
	op := s.Op
	x := c.optional(s.Value)
	if lit, ok := s.Type.(*syntax.LiteralType); ok && x == nil && !s.Optional {
		x, op = c.constant(s.Type, literalTypeOf(lit).literal), "="
	}
	at := c.place(s)
	return func(fr *frame) value.Value {
		inst := fr.inst
		i := inst.shape.find(name)
		if i < 0 {
			return value.Undefined
		}
		saved := m.target
		m.target = target{inst: inst, attr: i}
		m.decorate(decorators, fr, name, false)
		inst.types[i] = t
		var o *value.Origin
		if m.trace {
			o = m.origin(at, "default")
		}
		k := inst.config.Find(name)
		if k < 0 || inst.config.At(k).Op != value.Override || inst.config.At(k).Index != value.NoIndex {
			var v value.Value = value.Undefined
			if x != nil {
				v = x(fr)
			}
			switch op {
			case "":
			case "|":
				m.store(inst, i, m.bitOr(inst.value.At(i).Value, v), o)
			default:
				m.store(inst, i, v, o)
			}
		}
		if k >= 0 {
			m.overlay(inst, name, i)
		}
		inst.done(i, s)
		m.target = saved
		return inst.value
	}
}
