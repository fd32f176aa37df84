package eval

import (
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// param is a compiled parameter.
type param struct {
	name string
	slot int
	typ  *rtype
	def  expr
}

func (c *compiler) params(ps *syntax.Params) []param {
	if ps == nil {
		return nil
	}
	out := make([]param, 0, len(ps.Names))
	for i, n := range ps.Names {
		if len(n.Names) == 0 {
			continue
		}
		p := param{name: n.Names[0].Text}
		if t := ps.Types[i]; t != nil {
			p.typ = c.unit.typ(t, 0)
		}
		if ps.Defaults[i] != nil {
			p.def = c.expr(ps.Defaults[i])
		}
		p.slot = c.scope.slot(p.name)
		out = append(out, p)
	}
	return out
}

// bindParams gives parameters their values: by position, by name, by default,
// else None. Types of a base schema's parameters are not checked, since the
// derived schema may give them others.
func (m *machine) bindParams(fr *frame, ps []param, args []value.Value, kwargs *value.Dict, unchecked bool) {
	for i := range ps {
		p := &ps[i]
		var v value.Value
		if kwargs != nil {
			if k, ok := kwargs.Get(p.name); ok {
				v = k
			}
		}
		if v == nil && i < len(args) {
			v = args[i]
		}
		if v == nil {
			v = value.None
			if p.def != nil {
				v = p.def(fr)
			}
		}
		if p.typ != nil && !unchecked {
			v = m.fit(v, p.typ, false)
		}
		fr.vars[p.slot] = v
	}
}

// lambdaDef is a compiled function.
type lambdaDef struct {
	size   *frameSize
	scope  *scope
	params []param
	body   []stmt
	result *rtype
	pkg    *pkg
}

// ParamTypes are the types of the parameters as written, "" for one without.
func (cl *closure) ParamTypes() []string {
	out := make([]string, len(cl.def.params))
	for i, p := range cl.def.params {
		if p.typ != nil {
			out[i] = p.typ.text
		}
	}
	return out
}

// closure is a function with what it captured.
type closure struct {
	def      *lambdaDef
	captured []value.Value
	up       *frame
	inst     *instance
}

func (c *compiler) lambda(x *syntax.LambdaExpr) expr {
	m, at := c.m, c.place(x)
	inner := *c
	inner.scope = newFrameScope(c.scope, lambdaScope)
	def := &lambdaDef{size: inner.scope.size, scope: inner.scope, pkg: c.unit.pkg}
	def.params = inner.params(x.Params)
	// The variables of the function are known in functions made in it before
	// they are set, which lets those call themselves and each other.
	namesIn(x.Body, func(name string, _ syntax.Stmt) { inner.scope.slot(name) })
	def.body = inner.stmts(x.Body)
	if x.Result != nil {
		def.result = c.unit.typ(x.Result, 0)
	}
	return func(fr *frame) value.Value {
		m.at = at
		cl := &closure{def: def, up: fr, inst: fr.inst}
		if n := len(def.scope.captures); n > 0 {
			cl.captured = make([]value.Value, n)
			for i, cp := range def.scope.captures {
				cl.captured[i] = fr.vars[cp.from]
				if cl.captured[i] == nil && fr.up != nil {
					cl.captured[i] = outerCapture(c.scope, fr, cp.from)
				}
			}
		}
		m.grow(96)
		return &value.Func{Name: "lambda", Code: cl}
	}
}

// outerCapture reads a slot that the enclosing function captured before it was
// set.
func outerCapture(s *scope, fr *frame, slot int) value.Value {
	for s != nil && s.kind != lambdaScope {
		s = s.up
	}
	if s == nil {
		return nil
	}
	for _, c := range s.captures {
		if c.to == slot && c.from < len(fr.up.vars) {
			return fr.up.vars[c.from]
		}
	}
	return nil
}

func (m *machine) callClosure(cl *closure, args []value.Value, kwargs *value.Dict) value.Value {
	def := cl.def
	m.enter()
	fr := &frame{vars: make([]value.Value, def.size.n), up: cl.up, inst: cl.inst}
	for i, v := range cl.captured {
		fr.vars[def.scope.captures[i].to] = v
	}
	back, saved := m.back, m.inst
	m.back, m.inst = nil, cl.inst
	if cl.inst != nil {
		m.building++
	}
	m.called("lambda")
	m.stack = append(m.stack, def.pkg)
	m.bindParams(fr, def.params, args, kwargs, false)
	var v value.Value = value.Undefined
	for _, s := range def.body {
		v = s(fr)
	}
	if def.result != nil {
		v = m.fit(v, def.result, false)
	}
	m.returned()
	m.stack = m.stack[:len(m.stack)-1]
	if cl.inst != nil {
		m.building--
	}
	m.back, m.inst = back, saved
	m.leave()
	return v
}

// invoke calls a function value.
func (m *machine) invoke(f *value.Func, args []value.Value, kwargs *value.Dict) value.Value {
	switch code := f.Code.(type) {
	case *closure:
		return m.callClosure(code, args, kwargs)
	case *schemaDef:
		return code.instantiate(nil, configMeta{}, args, kwargs)
	}
	if f.Call == nil {
		return value.Undefined
	}
	m.enter()
	call := &value.Call{Host: m.host, Args: args, Kwargs: kwargs}
	if m.at.file != nil {
		call.File, call.Line = m.at.file.Name, m.at.file.Line(m.at.off)
	}
	v, err := f.Call(call)
	m.leave()
	m.check(err)
	if v == nil {
		return value.Undefined
	}
	m.grow(sizeOf(v))
	return v
}

// sizeOf is roughly how many bytes a value takes by itself.
func sizeOf(v value.Value) int {
	switch v := v.(type) {
	case value.Str:
		return len(v)
	case *value.List:
		return 16 * len(v.Items)
	case *value.Dict:
		return 64 * v.Len()
	}
	return 0
}

// itemSize and entrySize are about what an item of a list and an entry of a
// dict take that grows, with a small value.
const (
	itemSize  = 48
	entrySize = 256
)

// invokeSafely is invoke for library code.
func (m *machine) invokeSafely(fn value.Value, args []value.Value, kwargs *value.Dict) (v value.Value, err error) {
	f, ok := fn.(*value.Func)
	if !ok {
		return value.Undefined, nil
	}
	depth, building, exprs, stack, calls := m.depth, m.building, m.exprs, len(m.stack), len(m.calls)
	back, inst, tgt := m.back, m.inst, m.target
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(*fault)
			if !ok || f.limit {
				panic(r)
			}
			m.depth, m.building, m.exprs, m.stack = depth, building, exprs, m.stack[:stack]
			m.back, m.inst, m.target, m.calls = back, inst, tgt, m.calls[:calls]
			err = f
		}
	}()
	return m.invoke(f, args, kwargs), nil
}

func (c *compiler) call(x *syntax.CallExpr) expr {
	m, at := c.m, c.place(x)
	fn, args, kws := c.expr(x.Func), c.exprs(x.Args), c.keywords(x.Keywords)
	return func(fr *frame) value.Value {
		m.at = at
		f := fn(fr)
		as, ks := m.arguments(fr, args, kws)
		if f, ok := f.(*value.Func); ok {
			return m.invoke(f, as, ks)
		}
		return value.Undefined
	}
}

func (m *machine) arguments(fr *frame, args []expr, kws []keyword) ([]value.Value, *value.Dict) {
	var as []value.Value
	if len(args) > 0 {
		as = make([]value.Value, len(args))
		for i, a := range args {
			as[i] = a(fr)
		}
	}
	if len(kws) == 0 {
		return as, nil
	}
	ks := value.NewDict(len(kws))
	for _, k := range kws {
		var v value.Value = value.None
		if k.x != nil {
			v = k.x(fr)
		}
		ks.Set(k.name, v)
	}
	return as, ks
}

// schemaExpr compiles `Name(args) { config }`.
func (c *compiler) schemaExpr(x *syntax.SchemaExpr) expr {
	m, at := c.m, c.place(x)
	config := c.expr(x.Config)
	name := c.ident(x.Name)
	args, kws := c.exprs(x.Args), c.keywords(x.Keywords)
	meta := configMeta{at: c.place(x.Name)}
	return func(fr *frame) value.Value {
		m.at = at
		m.exprs++
		cfg := config(fr)
		base := name(fr)
		as, ks := m.arguments(fr, args, kws)
		var v value.Value
		f, isFunc := base.(*value.Func)
		d, isDict := cfg.(*value.Dict)
		if def, ok := funcDef(f, isFunc); ok && isDict {
			v = def.instantiate(d, meta, as, ks)
		} else {
			u, cf := m.union(base, cfg, true, defaultMerge)
			if cf != nil {
				m.refuse(cf)
			}
			v = u
		}
		m.exprs--
		return v
	}
}

func funcDef(f *value.Func, ok bool) (*schemaDef, bool) {
	if !ok {
		return nil, false
	}
	d, ok := f.Code.(*schemaDef)
	return d, ok
}

// readsAny reports whether an expression reads one of the names, other than in
// the body of a function.
func readsAny(x syntax.Expr, names map[string]bool) bool {
	found := false
	syntax.Walk(x, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.LambdaExpr:
			return false
		case *syntax.Ident:
			if len(n.Names) > 0 && names[n.Names[0].Text] {
				found = true
			}
		}
		return !found
	})
	return found
}
