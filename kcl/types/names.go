package types

import (
	"strings"
	"unicode"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
)

// typ resolves a type as written.
func (c *checker) typ(t syntax.Type) *Type {
	if t == nil {
		return anyT
	}
	return c.resolve(fromSyntax(t), c.place(t))
}

// typAt resolves a type whose errors belong to another place.
func (c *checker) typAt(t syntax.Type, at place) *Type {
	if t == nil {
		return anyT
	}
	return c.resolve(fromSyntax(t), at)
}

// resolve replaces names in a type by what they stand for.
func (c *checker) resolve(t *Type, at place) *Type {
	switch t.Kind {
	case List:
		return listOf(c.resolve(t.Elem, at))
	case Dict:
		return dictOf(c.resolve(t.Key, at), c.resolve(t.Elem, at))
	case Union:
		ts := make([]*Type, len(t.Types))
		for i, e := range t.Types {
			ts[i] = c.resolve(e, at)
		}
		return unionOf(ts)
	case Named:
		return c.resolveNamed(t.Name, at)
	case Func:
		f := &FuncType{result: c.resolve(t.Func.result, at), variadic: t.Func.variadic}
		for _, p := range t.Func.params {
			p.typ = c.resolve(p.typ, at)
			f.params = append(f.params, p)
		}
		return funcOf(f)
	}
	return t
}

func (c *checker) resolveNamed(name string, at place) *Type {
	if reserved[name] {
		return fromSyntax(&syntax.BasicType{Name: name})
	}
	names := strings.Split(name, ".")
	pkgPath := ""
	if len(names) > 1 && !c.locals[names[0]] {
		pkgPath = c.importPath(names[0])
	}
	c.store = false
	ts := c.variable(names, pkgPath, at)
	return ts[len(ts)-1]
}

// importPath is the package that the current file calls name.
func (c *checker) importPath(name string) string {
	if path, ok := c.file.Names[name]; ok {
		return path
	}
	return ""
}

// pkgPathOf is the package that a dotted name begins with, if it does.
func (c *checker) pkgPathOf(id *syntax.Ident) string {
	if len(id.Names) < 2 {
		return ""
	}
	name := id.Names[0].Text
	if o := c.scope.find(name); o == nil || o.kind != moduleObject || c.locals[name] {
		return ""
	}
	return c.importPath(name)
}

func texts(names []syntax.Name) []string {
	out := make([]string, len(names))
	for i := range names {
		out[i] = names[i].Text
	}
	return out
}

// ident is the type of a dotted name, errors at the current place.
func (c *checker) ident(id *syntax.Ident) *Type {
	ts := c.variable(texts(id.Names), c.pkgPathOf(id), c.at)
	return ts[len(ts)-1]
}

// identExpr is ident with errors at the name itself.
func (c *checker) identExpr(id *syntax.Ident) *Type {
	ts := c.variable(texts(id.Names), c.pkgPathOf(id), c.place(id))
	return ts[len(ts)-1]
}

// variable resolves a name and the attributes after it, a type for each.
func (c *checker) variable(names []string, pkgPath string, at place) []*Type {
	if pkgPath != "" && c.store {
		c.compileError(at, "only schema and dict object can be updated attribute")
	}
	switch {
	case len(names) == 0:
		c.compileError(at, "missing variable")
		return []*Type{anyT}
	case len(names) == 1:
		return []*Type{c.single(names[0], at)}
	}
	t := c.single(names[0], at)
	if m := c.hiddenImport(names, t); m != nil {
		t = m
	}
	ts := []*Type{t}
	for _, n := range names[1:] {
		if c.store {
			c.checkConfigAttr(n, t, at, nil)
		}
		t = c.loadAttr(t, n, at)
		ts = append(ts, t)
	}
	return ts
}

// hiddenImport is the module that names[0] means although an attribute of the
// schema has that name too: what follows is a member of the module, and the
// attribute has no such member. Evaluation decides likewise.
func (c *checker) hiddenImport(names []string, t *Type) *Type {
	if t.Kind == Module || t.isAny() || c.locals[names[0]] || c.schema == nil {
		return nil
	}
	if _, ok := c.attrOf(t, names[1], place{}); ok {
		return nil
	}
	o := c.packages[c.pkg.Path].own(names[0])
	if o == nil || o.kind != moduleObject || c.importPath(names[0]) == "" {
		return nil
	}
	if _, ok := c.memberOf(o.typ, names[1], place{}); !ok {
		return nil
	}
	return o.typ
}

func (c *checker) single(name string, at place) *Type {
	s := c.schema
	if s == nil {
		if c.store && c.scope.own(name) == nil {
			c.scope.put(name, &object{typ: anyT, at: at})
			return anyT
		}
		return c.lookup(name, at)
	}
	t := s.attrType(name)
	if c.store {
		if c.scope.own(name) == nil || t == nil {
			c.scope.put(name, &object{typ: anyT, at: at})
			if t == nil {
				s.parts().attrs.set(name, &attr{typ: anyT, optional: true})
			}
			return anyT
		}
		return t
	}
	var inScope *Type
	if o := c.scope.find(name); o != nil {
		inScope = o.typ
	}
	if c.locals[name] {
		return orAny(inScope)
	}
	if t != nil && !t.isAny() {
		return t
	}
	if t == nil && !s.Mixin {
		for _, m := range s.parts().mixins {
			if mt := m.attrType(name); mt != nil {
				return mt
			}
		}
	}
	upper := name != "" && unicode.IsUpper([]rune(name)[0])
	if t == nil && inScope == nil && (!s.Mixin || upper) && !s.Rule {
		return c.lookup(name, at)
	}
	return orAny(inScope)
}

func orAny(t *Type) *Type {
	if t == nil {
		return anyT
	}
	return t
}

// target is the type of what an assignment assigns to.
func (c *checker) target(t *syntax.Target) *Type {
	at := c.place(t)
	pkgPath := ""
	if len(t.Paths) > 0 {
		if o := c.scope.find(t.Name.Text); o != nil && o.kind == moduleObject && !c.locals[t.Name.Text] {
			pkgPath = c.importPath(t.Name.Text)
		}
	}
	ts := c.variable([]string{t.Name.Text}, pkgPath, at)
	typ := ts[0]
	if len(t.Paths) == 0 {
		return typ
	}
	store := c.store
	c.store = false
	for _, p := range t.Paths {
		if p.Index == nil {
			c.checkConfigAttr(p.Name.Text, typ, at, nil)
			typ = c.loadAttr(typ, p.Name.Text, at)
			continue
		}
		if lit, ok := p.Index.(*syntax.StringLit); ok {
			c.checkConfigAttr(lit.Value, typ, at, nil)
		}
		typ = c.subscriptIndex(typ, p.Index, at)
	}
	c.store = store
	return typ
}

func (c *checker) insertGlobal(name string, at place) {
	m := c.globals[c.pkg.Path]
	if m == nil {
		m = map[string]place{}
		c.globals[c.pkg.Path] = m
	}
	m[name] = at
}

// uniqueKey reports a schema or rule whose name is taken.
func (c *checker) uniqueKey(n syntax.Name) {
	at := c.place(n)
	first, ok := c.globals[c.pkg.Path][n.Text]
	if !ok && c.level == 0 {
		c.insertGlobal(n.Text, at)
		return
	}
	msgs := []diag.Message{message(at, "Unique key error name '"+n.Text+"'")}
	if ok {
		msgs = append(msgs, message(first, "The variable '"+n.Text+"' is declared here"))
	}
	c.report(diag.UniqueKeyError, msgs...)
}
