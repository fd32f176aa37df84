package types

import (
	"strings"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/syntax"
)

func (c *checker) push(e *expectation) { c.expect = append(c.expect, e) }

func (c *checker) pop(n int) { c.expect = c.expect[:max(len(c.expect)-n, 0)] }

func (c *checker) top() *expectation {
	if n := len(c.expect); n > 0 {
		return c.expect[n-1]
	}
	return nil
}

// pushName expects what the current expectation says of an attribute, or of
// the items of a list for "[]". It gives the number of entries to pop.
func (c *checker) pushName(name string) int {
	c.push(c.expected(name))
	return 1
}

func (c *checker) expected(name string) *expectation {
	e := c.top()
	if e == nil || name == "" {
		return nil
	}
	switch e.typ.Kind {
	case List, Dict:
		return &expectation{e.typ.Elem, e.at}
	case Schema:
		s := e.typ.Schema
		if a := s.attr(name); a != nil {
			return &expectation{a.typ, a.at}
		}
		if s.parts().index != nil {
			return &expectation{s.parts().index.val, e.at}
		}
	case Union:
		var ts []*Type
		for _, t := range e.typ.Types {
			switch t.Kind {
			case Schema:
				if a := t.Schema.attr(name); a != nil {
					ts = append(ts, a.typ)
				} else if t.Schema.parts().index != nil {
					ts = append(ts, t.Schema.parts().index.val)
				}
			case Dict:
				ts = append(ts, t.Elem)
			}
		}
		return &expectation{sup(ts...), e.at}
	}
	return nil
}

// pushKey expects what belongs to a key.
func (c *checker) pushKey(key syntax.Expr) int {
	names, ok := keyNames(key, false)
	if !ok {
		switch key.(type) {
		case *syntax.JoinedString, *syntax.MissingExpr:
			c.push(nil)
			return 1
		}
		return 0
	}
	for _, n := range names {
		c.pushName(n)
	}
	return len(names)
}

// keyNames are the names that a key stands for, if they are known.
func keyNames(key syntax.Expr, negative bool) ([]string, bool) {
	switch k := key.(type) {
	case *syntax.Ident:
		return texts(k.Names), true
	case *syntax.StringLit:
		return []string{k.Value}, true
	case *syntax.SubscriptExpr:
		id, ok := k.X.(*syntax.Ident)
		if !ok || k.Index == nil {
			return nil, false
		}
		if _, ok := k.Index.(*syntax.NumberLit); ok {
			return texts(id.Names), true
		}
		if u, ok := k.Index.(*syntax.UnaryExpr); ok && negative {
			_, num := u.X.(*syntax.NumberLit)
			return texts(id.Names), num
		}
	}
	return nil, false
}

// checkEntry checks an entry against what is expected and gives the type of
// its value, or nil when it did not look at it.
func (c *checker) checkEntry(e *syntax.ConfigEntry) *Type {
	if e.Key == nil {
		t := c.expr(e.Value)
		c.checkValue(t, c.place(e.Value), 0)
		return t
	}
	if c.top() == nil {
		return nil
	}
	names, ok := keyNames(e.Key, true)
	if !ok {
		return nil
	}
	at := c.place(e.Key)
	for _, n := range names {
		if top := c.top(); top != nil && n != "" {
			c.checkConfigAttr(n, top.typ, at, nil)
		}
		c.pushName(n)
	}
	t := c.expr(e.Value)
	val := t
	for range len(names) - 1 {
		val = dictOf(strT, val)
	}
	if top := c.top(); top != nil {
		c.mustAssign(val, top.typ, at, top.at)
	}
	c.pop(len(names))
	return t
}

// checkValue checks the attributes of an unpacked value.
func (c *checker) checkValue(t *Type, at place, depth int) {
	var list *attrs
	switch t.Kind {
	case Dict:
		list = t.Attrs
	case Schema:
		list = t.Schema.parts().attrs
	}
	if list == nil || depth > 30 {
		return
	}
	for _, name := range list.names {
		a := list.byKey[name]
		if name == "" {
			continue
		}
		top := c.top()
		if top != nil {
			c.checkConfigAttr(name, top.typ, at, &a.at)
		}
		n := c.pushName(name)
		if top := c.top(); top != nil {
			c.attrMustAssign(a.typ, top.typ, at, top.at, &a.at)
			c.checkValue(a.typ, at, depth+1)
		}
		c.pop(n)
	}
}

// checkConfigAttr reports a key that a schema does not know.
func (c *checker) checkConfigAttr(name string, t *Type, at place, def *place) {
	switch t.Kind {
	case Schema:
		c.checkSchemaAttr(name, t.Schema, at, def)
	case Union:
		var schemas, hints []string
		for _, e := range t.Types {
			switch e.Kind {
			case Schema:
				s := e.Schema
				if s.attr(name) != nil || s.Mixin || s.parts().index != nil {
					return
				}
				hints = append(hints, similar(name, s.parts().attrs.names)...)
				schemas = append(schemas, s.Name)
			case Dict:
				return
			}
		}
		if len(schemas) == 0 {
			return
		}
		what := "schema " + schemas[0]
		if len(schemas) > 1 {
			what = `schemas ["` + strings.Join(schemas, `", "`) + `"]`
		}
		c.attrError("Cannot add member '"+name+"' to '"+what+"'"+meant(hints), at, def)
	}
}

func (c *checker) attrError(text string, at place, def *place) {
	msgs := []diag.Message{message(at, text)}
	if def != nil {
		msgs = append(msgs, message(*def, "config attribute is defined here"))
	}
	c.report(diag.CompileError, msgs...)
}

func (c *checker) checkSchemaAttr(name string, s *SchemaType, at place, def *place) {
	unknown := func(names []string) {
		c.attrError("Cannot add member '"+name+"' to schema '"+s.Name+"'"+meant(similar(name, names)), at, def)
	}
	if s.parts().index == nil {
		if s.attr(name) == nil && !s.Mixin {
			unknown(s.parts().attrs.names)
		}
		return
	}
	if s.parts().index.anyOther {
		return
	}
	switch k := s.parts().index.key; k.Kind {
	case StrLit:
		if k.Lit != name {
			unknown([]string{k.Lit.(string)})
		}
	case Union:
		var keys []string
		for _, t := range k.Types {
			if t.Kind == StrLit {
				if t.Lit == name {
					return
				}
				keys = append(keys, t.Lit.(string))
			}
		}
		unknown(keys)
	}
}

// entries is the type of a configuration.
func (c *checker) entries(items []*syntax.ConfigEntry) *Type {
	c.enter()
	t := &configType{attrs: newAttrs()}
	for _, it := range items {
		c.entry(load.Nested(it), t)
	}
	c.leave()
	return &Type{Kind: Dict, Key: sup(t.keys...), Elem: sup(t.vals...), Attrs: t.attrs}
}

// configType collects the types of a configuration.
type configType struct {
	keys, vals []*Type
	attrs      *attrs
}

func (c *checker) entry(e *syntax.ConfigEntry, t *configType) {
	v := c.checkEntry(e)
	n := 0
	if e.Key != nil {
		n = c.pushKey(e.Key)
	}
	value := func() *Type {
		if v == nil {
			v = c.expr(e.Value)
		}
		return v
	}
	var val *Type
	switch k := e.Key.(type) {
	case nil:
		val = c.unpack(value(), e, t)
	case *syntax.Ident:
		val = c.namedEntry(k, value(), t)
	case *syntax.SubscriptExpr:
		if _, ok := keyNames(k, true); !ok {
			val = c.computedEntry(e, value, t)
			break
		}
		val = value()
		t.keys = append(t.keys, strT)
		if e.Op == "+=" {
			t.vals = append(t.vals, val)
		} else {
			t.vals = append(t.vals, listOf(val))
		}
	default:
		val = c.computedEntry(e, value, t)
	}
	if e.Op == "+=" && !val.isAny() && val.Kind != List {
		c.fail(diag.IllegalAttributeError, c.place(e.Value), "only list type can in inserted, got '"+val.String()+"'")
	}
	c.pop(n)
}

func (c *checker) namedEntry(k *syntax.Ident, val *Type, t *configType) *Type {
	for range len(k.Names) - 1 {
		val = dictOf(strT, val)
	}
	key := strT
	if len(k.Names) == 1 {
		name := k.Names[0].Text
		if c.locals[name] {
			c.push(nil)
			key = c.expr(k)
			c.pop(1)
		} else {
			key = strLit(name)
		}
		c.checkKey(key, c.place(k))
		c.addAttr(name, val, k, t)
	}
	t.keys = append(t.keys, key)
	t.vals = append(t.vals, val)
	return val
}

func (c *checker) addAttr(name string, val *Type, key syntax.Node, t *configType) {
	typ := val
	if a := t.attrs.get(name); a != nil {
		typ = sup(a.typ, val)
	}
	at := c.place(key)
	t.attrs.set(name, &attr{typ: widen(typ), at: at})
	c.scope.put(name, &object{typ: typ, at: at, kind: attributeObject})
}

func (c *checker) computedEntry(e *syntax.ConfigEntry, value func() *Type, t *configType) *Type {
	c.push(nil)
	key := c.expr(e.Key)
	c.pop(1)
	val := value()
	c.checkKey(key, c.place(e.Key))
	if lit, ok := e.Key.(*syntax.StringLit); ok {
		c.addAttr(lit.Value, val, e.Key, t)
	}
	t.keys = append(t.keys, key)
	t.vals = append(t.vals, val)
	return val
}

// unpack adds what **value or an if entry gives.
func (c *checker) unpack(v *Type, e *syntax.ConfigEntry, t *configType) *Type {
	switch {
	case v.Kind == None || v.Kind == Any:
		t.vals = append(t.vals, v)
	case v.Kind == Dict:
		t.keys = append(t.keys, v.Key)
		t.vals = append(t.vals, v.Elem)
		if v.Attrs != nil {
			for _, n := range v.Attrs.names {
				t.attrs.set(n, v.Attrs.byKey[n])
			}
		}
	case v.Kind == Schema:
		t.keys = append(t.keys, strT)
		t.vals = append(t.vals, v.Schema.valType())
		for _, n := range v.Schema.parts().attrs.names {
			t.attrs.set(n, v.Schema.parts().attrs.byKey[n])
		}
	case v.each((*Type).isConfig):
		for _, m := range v.Types {
			if m.Kind == Dict {
				t.keys = append(t.keys, m.Key)
				t.vals = append(t.vals, m.Elem)
			} else {
				t.keys = append(t.keys, strT)
				t.vals = append(t.vals, m.Schema.valType())
			}
		}
	default:
		c.compileError(c.place(e.Value), "only dict and schema can be used ** unpack, got '"+v.String()+"'")
	}
	return v
}
