package types

import (
	"strings"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
)

// initGlobals makes the types of a package's schemas, rules and variables.
func (c *checker) initGlobals() {
	for _, f := range c.pkg.Files {
		c.openFile(f)
		for _, s := range f.Body {
			c.declareSchema(s)
		}
	}
	c.globalVars(true)
	for pass := range 2 {
		quiet := c.quiet
		c.quiet = quiet || pass == 0
		for _, f := range c.pkg.Files {
			c.openFile(f)
			for _, s := range f.Body {
				switch s := s.(type) {
				case *syntax.SchemaStmt:
					c.buildSchema(s, pass == 1)
				case *syntax.RuleStmt:
					c.buildRule(s, pass == 1)
				}
			}
		}
		c.quiet = quiet
	}
	c.globalVars(false)
	c.globalLambdas()
}

func (c *checker) declareSchema(s syntax.Stmt) {
	var st *SchemaType
	switch s := s.(type) {
	case *syntax.SchemaStmt:
		st = &SchemaType{Name: s.Name.Text, Mixin: s.Mixin, Protocol: s.Protocol}
	case *syntax.RuleStmt:
		st = &SchemaType{Name: s.Name.Text, Rule: true}
	default:
		return
	}
	if c.scope.own(st.Name) != nil {
		c.fail(diag.UniqueKeyError, c.place(s), "Unique key error name '"+st.Name+"'")
		return
	}
	st.PkgPath, st.parts().attrs = c.pkg.Path, newAttrs()
	c.scope.put(st.Name, &object{typ: schemaOf(st), at: c.place(s), kind: definitionObject})
}

func (c *checker) globalVars(unique bool) {
	for _, f := range c.pkg.Files {
		c.openFile(f)
		for _, s := range f.Body {
			if a, ok := s.(*syntax.TypeAliasStmt); ok {
				c.stmt(a)
			}
		}
		c.initScope(f.Body, unique)
	}
}

func (c *checker) initScope(body []syntax.Stmt, unique bool) {
	for _, s := range body {
		switch s := s.(type) {
		case *syntax.AssignStmt:
			for _, t := range s.Targets {
				c.initAssign(s, t, unique)
			}
		case *syntax.UnifyStmt:
			if len(s.Target.Names) > 0 {
				t := c.identExpr(s.Value.Name)
				c.scope.put(s.Target.Names[0].Text, &object{typ: t, at: c.place(s.Target)})
			}
		case *syntax.IfStmt:
			c.initScope(s.Body, unique)
			c.initScope(s.Else, unique)
		}
	}
}

func immutableNote(name string) string {
	return "change the variable name to '_" + name + "' to make it mutable"
}

func (c *checker) initAssign(s *syntax.AssignStmt, t *syntax.Target, unique bool) {
	name, at := t.Name.Text, c.place(t)
	old := c.scope.own(name)
	if old != nil && unique && !strings.HasPrefix(name, "_") {
		second := message(old.at, "The variable '"+name+"' is declared here")
		second.Note = immutableNote(name)
		c.report(diag.ImmutableError,
			message(at, "Can not change the value of '"+name+"', because it was declared immutable"), second)
		return
	}
	typ := anyT
	switch {
	case s.Type != nil:
		typ = c.typ(s.Type)
		if old != nil && !upperBound(old.typ, typ) {
			c.report(diag.TypeError,
				message(at, "can not change the type of '"+name+"' to "+old.typ.String()),
				message(old.at, "expected "+old.typ.String()))
		}
	case old != nil:
		typ = old.typ
	}
	c.scope.put(name, &object{typ: typ, at: at})
}

// globalLambdas records the parameters of functions assigned at the top, for
// calls that stand before them.
func (c *checker) globalLambdas() {
	found := map[string]*FuncType{}
	for _, f := range c.pkg.Files {
		c.openFile(f)
		for _, s := range f.Body {
			a, ok := s.(*syntax.AssignStmt)
			if !ok || len(a.Targets) != 1 || len(a.Targets[0].Paths) > 0 {
				continue
			}
			name := a.Targets[0].Name.Text
			_, again := found[name]
			l, isLambda := a.Value.(*syntax.LambdaExpr)
			if again || !isLambda || a.Type != nil {
				found[name] = nil
				continue
			}
			found[name] = &FuncType{params: c.lambdaParams(l), result: anyT}
		}
	}
	c.lambdas[c.pkg.Path] = found
}

const inheritMsg = "invalid schema inherit object type, expect "

// inherited is the schema that an identifier names, if it is one that ok lets
// through; else it is reported with what was expected.
func (c *checker) inherited(id *syntax.Ident, msg string, ok func(*SchemaType) bool) *SchemaType {
	if id == nil {
		return nil
	}
	t := c.identExpr(id)
	if t.Kind == Schema && !t.Instance && ok(t.Schema) {
		return t.Schema
	}
	c.fail(diag.IllegalInheritError, c.place(id), msg+"'"+t.String()+"'")
	return nil
}

func (c *checker) hostOf(s *syntax.SchemaStmt) *SchemaType {
	if s.Host != nil && !s.Mixin {
		c.fail(diag.IllegalInheritError, c.place(s.Host), "only schema mixin can inherit from protocol")
		return nil
	}
	return c.inherited(s.Host, inheritMsg+"protocol, got ", func(t *SchemaType) bool { return t.Protocol })
}

var reserved = map[string]bool{"any": true, "int": true, "float": true, "str": true, "bool": true}

const reservedList = `(["any", "int", "float", "str", "bool"])`

func (c *checker) buildSchema(s *syntax.SchemaStmt, last bool) {
	o := c.scope.own(s.Name.Text)
	if o == nil || o.typ.Kind != Schema || o.typ.Instance || o.typ.Schema.Rule || o.kind != definitionObject {
		o = &object{kind: definitionObject}
		o.typ = schemaOf(&SchemaType{Name: s.Name.Text, PkgPath: c.pkg.Path, Mixin: s.Mixin, Protocol: s.Protocol, content: schemaParts{attrs: newAttrs()}})
	}
	st := o.typ.Schema
	st.parts().attrs = newAttrs()
	o.at = c.place(s)
	c.scope.put(st.Name, o)
	base := c.inherited(s.Parent, inheritMsg+"schema, got ", func(t *SchemaType) bool { return !t.Protocol && !t.Mixin })
	protocol := c.hostOf(s)
	nameAt := c.place(s.Name)
	c.schemaName(s, base, nameAt)
	index := c.buildIndex(s, nameAt)
	names := leftNames(s.Body)
	c.buildAttrs(s, st, base, index)
	mixins := c.buildMixins(s, st)
	params := c.buildParams(s.Params, names)
	if last && base != nil {
		c.depend(st.full(), base.full(), nameAt)
		c.cycle(st.full(), "schemas")
	}
	c.decorators(s.Decorators)
	st.parts().base, st.parts().protocol, st.parts().index, st.parts().mixins, st.parts().params = base, protocol, index, mixins, params
	if base != nil && base.subOf(st) {
		st.parts().base = nil
	}
}

func (c *checker) schemaName(s *syntax.SchemaStmt, base *SchemaType, at place) {
	name := s.Name.Text
	if reserved[name] {
		c.compileError(at, "schema name '"+name+"' cannot be the same as the built-in types "+reservedList)
	}
	if s.Protocol && !strings.HasSuffix(name, "Protocol") {
		end := at
		end.span.Start = end.span.End
		c.compileError(end, "schema protocol name must end with 'Protocol'")
	}
	if s.Protocol && !onlyAttributes(s) {
		c.compileError(at, "a protocol is only allowed to define attributes in it")
	}
	if base != nil && strings.HasSuffix(base.Name, "Mixin") {
		c.fail(diag.IllegalInheritError, at, "mixin inheritance "+base.Name+" is prohibited")
	}
}

func onlyAttributes(s *syntax.SchemaStmt) bool {
	for _, b := range s.Body {
		if _, ok := b.(*syntax.SchemaAttr); !ok {
			return false
		}
	}
	return s.Params == nil && len(s.Mixins) == 0 && len(s.Checks) == 0
}

type leftName struct {
	text string
	at   syntax.Span
}

// leftNames are the names that the body of a schema sets.
func leftNames(body []syntax.Stmt) []leftName {
	var out []leftName
	for _, s := range body {
		switch s := s.(type) {
		case *syntax.UnifyStmt:
			if len(s.Target.Names) > 0 {
				out = append(out, leftName{s.Target.Names[0].Text, s.Target.Span})
			}
		case *syntax.AssignStmt:
			for _, t := range s.Targets {
				out = append(out, leftName{t.Name.Text, t.Span})
			}
		case *syntax.AugAssignStmt:
			out = append(out, leftName{s.Target.Name.Text, s.Target.Span})
		case *syntax.IfStmt:
			out = append(append(out, leftNames(s.Body)...), leftNames(s.Else)...)
		case *syntax.SchemaAttr:
			out = append(out, leftName{s.Name.Text, s.Name.Span})
		}
	}
	return out
}

func (c *checker) buildIndex(s *syntax.SchemaStmt, nameAt place) *indexType {
	ix := s.Index
	if ix == nil {
		return nil
	}
	out := &indexType{anyOther: ix.AnyOther}
	if ix.Key != nil {
		out.name = ix.Key.Text
		for _, n := range leftNames(s.Body) {
			if n.text == out.name {
				c.fail(diag.IndexSignatureError, c.place(ix), "index signature attribute name '"+out.name+"' cannot have the same name as schema attributes")
				break
			}
		}
	}
	out.key = c.typ(ix.KeyType)
	out.val = c.typ(ix.ValueType)
	if !out.key.each((*Type).isStr) {
		c.fail(diag.IndexSignatureError, nameAt, "invalid index signature key type: '"+out.key.String()+"'")
	}
	return out
}

func (c *checker) buildAttrs(s *syntax.SchemaStmt, st, base *SchemaType, index *indexType) {
	seen := map[string]bool{}
	for _, b := range s.Body {
		var name string
		var typ *Type
		optional, def := false, true
		switch b := b.(type) {
		case *syntax.UnifyStmt:
			if len(b.Target.Names) == 0 {
				continue
			}
			name = b.Target.String()
			typ = c.resolveNamed(b.Value.Name.String(), c.place(b))
		case *syntax.SchemaAttr:
			name, typ, optional, def = b.Name.Text, c.typ(b.Type), b.Optional, b.Value != nil
			c.decorators(b.Decorators)
		default:
			continue
		}
		at := c.place(b)
		baseType := anyT
		var existed *attr
		if base != nil {
			if existed = base.attr(name); existed != nil {
				baseType = existed.typ
			}
		}
		if !seen[name] {
			seen[name] = true
			opt := optional
			if existed != nil {
				opt = existed.optional
			}
			st.parts().attrs.set(name, &attr{typ: typ, at: at, optional: opt, def: def})
		}
		c.checkAttrDecl(name, typ, optional, st.parts().attrs.get(name), baseType, index, at)
	}
}

func (c *checker) checkAttrDecl(name string, typ *Type, optional bool, a *attr, baseType *Type, index *indexType, at place) {
	if !upperBound(a.typ, typ) || !upperBound(baseType, typ) {
		c.typeError(at, "can't change schema field type of '"+name+"' from "+a.typ.String()+" to "+typ.String())
	}
	if optional && !a.optional {
		c.typeError(at, "can't change the required schema attribute of '"+name+"' to optional")
	}
	if index != nil && !index.anyOther && !upperBound(index.val, typ) {
		c.fail(diag.IndexSignatureError, at, "the type '"+typ.String()+"' of schema attribute '"+name+"' does not meet the index signature definition "+index.text())
	}
}

func (c *checker) buildMixins(s *syntax.SchemaStmt, st *SchemaType) []*SchemaType {
	var out []*SchemaType
	for _, id := range s.Mixins {
		last := id.Names[len(id.Names)-1].Text
		if !strings.HasSuffix(last, "Mixin") {
			c.fail(diag.NameError, c.place(id), "a valid mixin name should end with 'Mixin', got '"+last+"'")
		}
		m := c.inherited(id, "illegal schema mixin object type, expected mixin, got ", func(t *SchemaType) bool { return !t.Protocol && t.Mixin })
		if m == nil {
			continue
		}
		for _, n := range m.parts().attrs.names {
			if st.parts().attrs.get(n) == nil {
				st.parts().attrs.set(n, m.parts().attrs.byKey[n])
			}
		}
		out = append(out, m)
	}
	return out
}

func (c *checker) buildParams(ps *syntax.Params, names []leftName) []param {
	if ps == nil {
		return nil
	}
	taken := map[string]bool{}
	for _, n := range names {
		taken[n.text] = true
	}
	var out []param
	for i, id := range ps.Names {
		name, at := id.String(), c.place(id)
		if taken[name] {
			c.compileError(at, "Unexpected parameter name '"+name+"' with the same name as the schema attribute")
		}
		out = append(out, param{name: name, typ: c.typAt(ps.Types[i], at), hasDef: ps.Defaults[i] != nil, at: at})
	}
	return out
}

func (c *checker) buildRule(s *syntax.RuleStmt, last bool) {
	o := c.scope.own(s.Name.Text)
	if o == nil || o.typ.Kind != Schema || !o.typ.Schema.Rule {
		o = &object{kind: definitionObject, typ: schemaOf(&SchemaType{Name: s.Name.Text, PkgPath: c.pkg.Path, Rule: true, content: schemaParts{attrs: newAttrs()}})}
	}
	o.at = c.place(s)
	c.scope.put(s.Name.Text, o)
	st := o.typ.Schema
	nameAt := c.place(s.Name)
	st.parts().protocol = c.inherited(s.Host, inheritMsg+"protocol, got ", func(t *SchemaType) bool { return t.Protocol })
	if reserved[st.Name] {
		c.compileError(nameAt, "rule name '"+st.Name+"' cannot be the same as the built-in types "+reservedList)
	}
	st.parts().mixins = nil
	for _, id := range s.Parents {
		if r := c.inherited(id, "illegal rule type ", func(t *SchemaType) bool { return t.Rule }); r != nil {
			st.parts().mixins = append(st.parts().mixins, r)
		}
	}
	st.parts().params = c.buildParams(s.Params, nil)
	if last {
		for _, p := range st.parts().mixins {
			c.depend(st.full(), p.full(), nameAt)
			c.cycle(st.full(), "rules")
		}
	}
	c.decorators(s.Decorators)
	if st.parts().protocol != nil {
		st.parts().index = st.parts().protocol.parts().index
	}
}

// decorators checks decorators against their signatures.
func (c *checker) decorators(list []*syntax.CallExpr) {
	for _, d := range list {
		id, ok := d.Func.(*syntax.Ident)
		if !ok || len(id.Names) != 1 {
			c.typeError(c.place(d), "decorator name must be a single identifier")
			continue
		}
		t := c.known.typ("decorator", id.Names[0].Text)
		if t == nil {
			c.compileError(c.place(d), "UnKnown decorator "+id.Names[0].Text)
			continue
		}
		c.arguments(d.Func, d.Args, d.Keywords, t.Func)
	}
}
