package types

import (
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
)

var variadic = &FuncType{result: anyT, variadic: true}

func (c *checker) call(x *syntax.CallExpr) *Type {
	f := c.expr(x.Func)
	at := c.place(x.Func)
	switch f.Kind {
	case Any:
		ft := variadic
		if id, ok := x.Func.(*syntax.Ident); ok && len(id.Names) == 1 {
			name := id.Names[0].Text
			global := c.packages[c.pkg.Path].own(name)
			if l := c.lambdas[c.pkg.Path][name]; l != nil && global != nil && c.scope.find(name) == global {
				ft = l
			}
		}
		c.arguments(x.Func, x.Args, x.Keywords, ft)
		return anyT
	case Func:
		c.arguments(x.Func, x.Args, x.Keywords, f.Func)
		return f.Func.result
	case Schema:
		if f.Instance {
			c.compileError(at, "schema '"+f.String()+"' instance is not callable")
			return anyT
		}
		c.arguments(x.Func, x.Args, x.Keywords, f.Schema.function())
		return instance(f)
	}
	c.compileError(at, "'"+f.String()+"' object is not callable")
	return anyT
}

func (s *SchemaType) function() *FuncType { return &FuncType{params: s.parts().params, result: anyT} }

func funcName(x syntax.Expr) string {
	for {
		switch f := x.(type) {
		case *syntax.Ident:
			return `"` + f.String() + `"`
		case *syntax.SelectorExpr:
			return `"` + f.Attr.String() + `"`
		case *syntax.ParenExpr:
			x = f.X
		default:
			return "anonymous function"
		}
	}
}

func positional(n int) string {
	if n > 1 {
		return fmt.Sprintf("%d positional arguments", n)
	}
	return fmt.Sprintf("%d positional argument", n)
}

// arguments checks the arguments of a call against the parameters.
func (c *checker) arguments(fn syntax.Expr, args []syntax.Expr, kws []*syntax.Keyword, f *FuncType) {
	name := funcName(fn)
	for i, a := range args {
		if i < len(f.params) {
			c.upgrade(f.params[i].typ, a, c.place(a), f.params[i].at)
			continue
		}
		c.expr(a)
		if !f.variadic {
			c.compileError(c.place(a), fmt.Sprintf("%s takes %s but %d were given", name, positional(len(f.params)), len(args)))
			break
		}
	}
	given := map[string]bool{}
	var prev *syntax.Keyword
	for _, k := range kws {
		if len(k.Name.Names) == 0 {
			c.compileError(c.place(k), "missing argument")
			continue
		}
		arg := k.Name.Names[0].Text
		if given[arg] {
			from := k.End
			if prev != nil {
				from = prev.End
			}
			c.compileError(place{c.file.File, syntax.Span{Start: from, End: k.End}}, name+" has duplicated keyword argument "+arg)
		}
		given[arg] = true
		c.keyword(name, arg, k, f)
		prev = k
	}
	c.countArguments(fn, len(args), given, f)
}

func (c *checker) keyword(name, arg string, k *syntax.Keyword, f *FuncType) {
	for i := range f.params {
		if p := &f.params[i]; p.name == arg {
			if k.Value != nil {
				c.upgrade(p.typ, k.Value, c.place(k.Value), p.at)
			}
			return
		}
	}
	if f.variadic {
		return
	}
	var names []string
	for _, p := range f.params {
		names = append(names, p.name)
	}
	hint := ""
	if s := similar(arg, names); len(s) > 0 {
		hint = ", did you mean '" + strings.Join(s, " or ") + "'?"
	}
	c.compileError(c.place(k.Name), name+" got an unexpected keyword argument '"+arg+"'"+hint)
}

func (c *checker) countArguments(fn syntax.Expr, n int, given map[string]bool, f *FuncType) {
	if f.variadic {
		return
	}
	got, want := n, 0
	for _, p := range f.params {
		if !p.hasDef {
			want++
			if given[p.name] {
				got++
			}
		}
	}
	if got < want {
		c.compileError(c.place(fn), fmt.Sprintf("expected %s, found %d", positional(want), got))
	}
}

// upgrade checks an expression that should have a type.
func (c *checker) upgrade(expected *Type, x syntax.Expr, at, def place) *Type {
	switch expected.Kind {
	case Schema, List, Dict, Union:
		c.push(&expectation{expected, c.place(x)})
	default:
		c.push(nil)
	}
	t := c.expr(x)
	c.pop(1)
	c.mustAssign(t, expected, at, def)
	return t
}

func (c *checker) schemaExpr(x *syntax.SchemaExpr) *Type {
	def := c.identExpr(x.Name)
	if _, ok := x.Config.(*syntax.ConfigExpr); !ok {
		c.compileError(c.place(x.Config), "Invalid schema config expr, expect config entries, e.g., {k1 = v1, k2 = v2}")
	}
	at := c.place(x.Name)
	switch def.Kind {
	case Dict:
		c.push(&expectation{typ: def})
		t := c.expr(x.Config)
		c.pop(1)
		return c.binaryTypes(def, t, "|", at)
	case Schema:
		c.push(&expectation{typ: def})
		c.expr(x.Config)
		c.pop(1)
		if !def.Instance {
			c.arguments(x.Name, x.Args, x.Keywords, def.Schema.function())
		} else if len(x.Args) > 0 || len(x.Keywords) > 0 {
			c.compileError(at, "Arguments cannot be used in the schema modification expression")
		}
		return instance(def)
	case Any:
		return anyT
	}
	c.compileError(at, "Invalid schema type '"+def.String()+"'")
	return anyT
}

// checkKey reports keys that are no strings.
func (c *checker) checkKey(t *Type, at place) {
	if !t.isAny() && !t.isKey() {
		c.fail(diag.IllegalAttributeError, at, "A attribute must be string type, got '"+t.String()+"'")
	}
}

// loadAttr is the type of an attribute.
func (c *checker) loadAttr(t *Type, name string, at place) *Type {
	out, ok := c.attrOf(t, name, at)
	if ok {
		return out
	}
	shown, hint := name, ""
	if name == "" {
		shown = "[missing name]"
	} else if t.Kind == Schema {
		names := []string{"instances"}
		if t.Instance {
			names = t.Schema.parts().attrs.names
		}
		hint = meant(similar(name, names))
	}
	c.typeError(at, "attribute '"+shown+"' not found in '"+t.String()+"'"+hint)
	return anyT
}

func (c *checker) attrOf(t *Type, name string, at place) (*Type, bool) {
	switch t.Kind {
	case Any, Union:
		return anyT, true
	case Str, StrLit:
		m := c.known.typ("string", name)
		return m, m != nil
	case Dict:
		if a := t.Attrs.get(name); a != nil {
			return a.typ, true
		}
		return t.Elem, true
	case Schema:
		s := t.Schema
		if a := s.attrType(name); a != nil {
			return a, true
		}
		if s.Mixin || s.parts().index != nil {
			return anyT, true
		}
		if !t.Instance && name == "instances" {
			return funcOf(&FuncType{params: []param{{name: "full_pkg", typ: boolT, hasDef: true}}, result: listOf(anyT)}), true
		}
	case Module:
		return c.memberOf(t, name, at)
	}
	return anyT, false
}

func (c *checker) memberOf(t *Type, name string, at place) (*Type, bool) {
	switch t.ModuleKind {
	case pluginModule:
		return anyT, true
	case systemModule:
		if t.Module == "units" && name == "NumberMultiplier" {
			return multiplierT, true
		}
		m := c.known.typ(t.Module, name)
		return orAny(m), m != nil
	}
	sc := c.packages[t.Module]
	if sc == nil || sc.own(name) == nil {
		return anyT, false
	}
	m := sc.own(name).typ
	if m.Kind == Module {
		c.compileError(at, "can not import the attribute '"+name+"' from the module '"+t.Module+"'")
	}
	return m, true
}

func (c *checker) subscriptIndex(t *Type, index syntax.Expr, at place) *Type {
	switch {
	case t.isAny():
		return t
	case t.isStr() || t.Kind == List:
		c.mustBe(index, intT)
		if t.Kind == List {
			return t.Elem
		}
		return strT
	case t.isConfig():
		val := t.Elem
		if t.Kind == Schema {
			val = t.Schema.valType()
		}
		k := c.expr(index)
		switch {
		case k.isNone() || k.isAny():
			return val
		case !k.isKey():
			c.compileError(at, "invalid dict/schema key type: '"+k.String()+"'")
			return anyT
		case k.Kind == StrLit:
			return c.loadAttr(t, k.Lit.(string), at)
		}
		return val
	}
	c.compileError(at, "'"+t.String()+"' object is not subscriptable")
	return anyT
}

func (c *checker) subscript(x *syntax.SubscriptExpr) *Type {
	t := c.expr(x.X)
	at := c.place(x.X)
	switch {
	case t.isAny():
		return t
	case x.Index != nil:
		return c.subscriptIndex(t, x.Index, at)
	case t.isStr() || t.Kind == List:
		for _, b := range []syntax.Expr{x.Lower, x.Upper, x.Step} {
			if b != nil {
				c.mustBe(b, intT)
			}
		}
		if t.Kind == List {
			return t
		}
		return strT
	case t.isConfig():
		c.compileError(at, "unhashable type: 'slice'")
		return anyT
	}
	c.compileError(at, "'"+t.String()+"' object is not subscriptable")
	return anyT
}
