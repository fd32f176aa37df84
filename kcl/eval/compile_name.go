package eval

import (
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

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
