package eval

import (
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// attrVariable is an assignment in the body of a schema.
func (c *compiler) attrVariable(name string, by syntax.Stmt, load expr) variable {
	m := c.m
	at := c.place(by)
	index := func(fr *frame) int {
		i := fr.inst.shape.find(name)
		if i < 0 {
			m.fail("attribute '%s' is not set by the schema '%s'", name, fr.inst.def.name)
		}
		return i
	}
	return variable{
		get: load,
		set: func(fr *frame, v value.Value, _ bool) {
			i := index(fr)
			var o *value.Origin
			if m.trace {
				o = m.origin(at, "default")
			}
			m.store(fr.inst, i, v, o)
			m.overlay(fr.inst, name, i)
			fr.inst.done(i, by)
		},
		put: func(fr *frame, v value.Value) {
			i := index(fr)
			fr.inst.value.At(i).Value = v
			if fr.inst.lazy.cache[i] != nil {
				fr.inst.lazy.cache[i] = v
			}
			m.overlay(fr.inst, name, i)
			fr.inst.done(i, by)
		},
		aim: func(fr *frame) target { return target{inst: fr.inst, attr: index(fr)} },
	}
}

// pathStep is one compiled step of an assignment target.
type pathStep struct {
	name  string
	index expr
}

func (c *compiler) path(t *syntax.Target) []pathStep {
	out := make([]pathStep, len(t.Paths))
	for i, p := range t.Paths {
		if p.Index != nil {
			out[i].index = c.expr(p.Index)
		} else {
			out[i].name = p.Name.Text
		}
	}
	return out
}

// readPath reads what a target holds.
func (m *machine) readPath(fr *frame, v value.Value, path []pathStep) value.Value {
	for i := range path {
		if p := &path[i]; p.index != nil {
			v = m.subscript(v, p.index(fr))
		} else {
			v = m.attr(v, p.name)
		}
	}
	return v
}

// withPath is v with the part at path replaced by x.
func (m *machine) withPath(fr *frame, v value.Value, path []pathStep, x value.Value, o *value.Origin) value.Value {
	p := &path[0]
	if p.index == nil {
		return m.withKey(v, p.name, func(old value.Value) value.Value {
			if len(path) == 1 {
				return x
			}
			return m.withPath(fr, m.attr(v, p.name), path[1:], x, o)
		}, len(path) == 1, o)
	}
	index := p.index(fr)
	next := func(value.Value) value.Value {
		if len(path) == 1 {
			return x
		}
		return m.withPath(fr, m.subscript(v, index), path[1:], x, o)
	}
	if l, ok := v.(*value.List); ok {
		if n, ok := index.(value.Int); ok {
			i := m.normalIndex(int64(n), len(l.Items))
			if i >= len(l.Items) {
				m.fail("index out of bounds: the len is %d but the index is %d", len(l.Items), n)
			}
			out := l.Clone()
			out.Items[i] = next(out.Items[i])
			if o != nil && i < len(out.Origins) {
				out.Origins[i] = joinOrigins(out.Origins[i], o)
			}
			return out
		}
	}
	if s, ok := index.(value.Str); ok && value.IsConfig(v) {
		return m.withKey(v, string(s), next, len(path) == 1, o)
	}
	m.fail("'%s' object is not subscriptable with '%s'", value.TypeName(v), value.TypeName(index))
	return nil
}

// withKey is v with the value of a key replaced. A schema instance is built
// again so that its checks hold, unless it has arguments that are gone.
func (m *machine) withKey(v value.Value, key string, next func(value.Value) value.Value, last bool, o *value.Origin) value.Value {
	switch x := v.(type) {
	case *value.Dict:
		d := x.Clone()
		old, _ := d.Get(key)
		d.Set(key, next(old))
		m.setOrigin(d, key, o, last)
		return d
	case *value.Schema:
		s := *x
		s.Config = x.Config.Clone()
		old, existed := s.Config.Get(key)
		s.Config.Set(key, next(old))
		m.setOrigin(s.Config, key, o, last)
		if !last || m.building == 0 && len(x.Args) > 0 && existed {
			return &s
		}
		has := false
		for _, k := range x.ConfigKeys {
			has = has || k == key
		}
		if !has {
			s.ConfigKeys = append(append([]string(nil), x.ConfigKeys...), key)
		}
		r := m.resolve(&s)
		s.ConfigKeys = r.ConfigKeys
		for _, e := range r.Config.Entries() {
			s.Config.Put(e)
		}
		return &s
	}
	m.fail("failed to update the dict. An iterable of key-value pairs was expected, but got %s. Check if the syntax for updating the dictionary with the attribute '%s' is correct", value.TypeName(v), key)
	return nil
}

func (m *machine) setOrigin(d *value.Dict, key string, o *value.Origin, last bool) {
	if o == nil || !last {
		return
	}
	if i := d.Find(key); i >= 0 {
		d.At(i).Origin = joinOrigins(d.At(i).Origin, o)
	}
}
