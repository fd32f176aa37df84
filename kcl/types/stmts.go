package types

import (
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
)

func (c *checker) stmts(body []syntax.Stmt) *Type {
	t := anyT
	for _, s := range body {
		t = c.stmt(s)
	}
	return t
}

func (c *checker) stmt(s syntax.Stmt) *Type {
	c.at = c.place(s)
	switch s := s.(type) {
	case *syntax.TypeAliasStmt:
		return c.typeAlias(s)
	case *syntax.ExprStmt:
		return c.exprStmt(s)
	case *syntax.UnifyStmt:
		return c.unify(s)
	case *syntax.AssignStmt:
		return c.assign(s)
	case *syntax.AugAssignStmt:
		return c.augAssign(s)
	case *syntax.AssertStmt:
		c.expr(s.Test)
		c.exprOrAny(s.Cond)
		if s.Msg != nil {
			c.mustBe(s.Msg, strT)
		}
	case *syntax.IfStmt:
		c.expr(s.Cond)
		return sup(c.stmts(s.Body), c.stmts(s.Else))
	case *syntax.SchemaAttr:
		return c.schemaAttr(s)
	case *syntax.SchemaStmt:
		return c.schemaStmt(s)
	case *syntax.RuleStmt:
		return c.ruleStmt(s)
	}
	return anyT
}

func (c *checker) exprStmt(s *syntax.ExprStmt) *Type {
	var t *Type
	for _, x := range s.Exprs {
		t = c.expr(x)
	}
	if len(s.Exprs) > 1 {
		c.compileError(c.place(s.Exprs[1]), "expression statement can only have one expression")
	}
	return orAny(t)
}

func (c *checker) unify(s *syntax.UnifyStmt) *Type {
	names := s.Target.Names
	if len(names) > 1 {
		c.compileError(c.place(s.Target), "unification identifier can not be selected")
	}
	if len(names) == 0 {
		c.compileError(c.place(s.Value), "missing target in the unification statement")
		return anyT
	}
	c.store = true
	expected := c.identExpr(s.Target)
	c.store = false
	c.push(&expectation{expected, c.place(s.Value)})
	t := c.schemaExpr(s.Value)
	c.pop(1)
	c.mustAssign(t, expected, c.place(s.Target), place{})
	if !t.isAny() && expected.isAny() {
		c.infer(names[0].Text, t, c.place(names[0]))
	}
	return expected
}

func (c *checker) typeAlias(s *syntax.TypeAliasStmt) *Type {
	at := c.place(s.Name)
	t := c.typAt(s.Type, at)
	if t.Kind == Schema && t.Instance {
		t = schemaOf(t.Schema)
	}
	name := s.Name.String()
	if n := 0; !t.within(&n) {
		c.typeError(at, fmt.Sprintf("type alias '%s' stands for a type of more than %d parts", name, maxParts))
		t = anyT
	}
	if reserved[name] {
		c.typeError(at, "type alias '"+name+"' cannot be the same as the built-in types "+reservedList)
	}
	c.scope.put(name, &object{typ: t, at: at, kind: aliasObject})
	return t
}

func isPrivate(name string) bool { return strings.HasPrefix(name, "_") }

func (c *checker) assign(s *syntax.AssignStmt) *Type {
	clear(c.locals)
	valueType := anyT
	_, isConfig := s.Value.(*syntax.SchemaExpr)
	for _, t := range s.Targets {
		name, at := t.Name.Text, c.place(t)
		_, known := c.globals[c.pkg.Path][name]
		if c.level == 0 && (isPrivate(name) || isConfig || !known) {
			c.insertGlobal(name, at)
		}
		if len(t.Paths) > 0 {
			c.lookup(name, at)
		}
		c.store = true
		expected := c.target(t)
		c.store = false
		valueType = c.assignValue(s, t, expected)
		c.mustAssign(valueType, expected, at, place{})
		if len(t.Paths) == 0 && !valueType.isAny() && expected.isAny() && s.Type == nil {
			c.infer(name, valueType, at)
			if c.schema != nil {
				c.setAttrType(name, widen(valueType))
			}
		}
	}
	return valueType
}

func (c *checker) setAttrType(name string, t *Type) {
	if a := c.schema.parts().attrs.get(name); a != nil {
		copied := *a
		copied.typ = t
		c.schema.parts().attrs.set(name, &copied)
		return
	}
	c.schema.parts().attrs.set(name, &attr{typ: t, optional: true})
}

func (c *checker) assignValue(s *syntax.AssignStmt, t *syntax.Target, expected *Type) *Type {
	if len(t.Paths) > 0 {
		v := c.expr(s.Value)
		c.checkAnnotation(s, v)
		return v
	}
	switch expected.Kind {
	case Schema, List, Dict, Union:
		c.push(&expectation{expected, place{c.file.File, syntax.Span{Start: t.Start, End: s.Value.Range().End}}})
		v := c.expr(s.Value)
		if expected.Kind != Schema {
			c.checkAnnotation(s, v)
		}
		c.pop(1)
		return v
	}
	v := c.expr(s.Value)
	c.checkAnnotation(s, v)
	return v
}

// checkAnnotation compares the value with the annotation of the statement.
func (c *checker) checkAnnotation(s *syntax.AssignStmt, value *Type) {
	if s.Type == nil {
		return
	}
	for _, t := range s.Targets {
		name := t.Name.Text
		annotated := c.typ(s.Type)
		typ := annotated
		if o := c.scope.own(name); o != nil && !o.typ.isAny() {
			if !upperBound(annotated, o.typ) {
				c.report(diag.TypeError,
					message(c.place(t), "can not change the type of '"+name+"' to "+annotated.String()),
					message(o.at, "expected "+o.typ.String()))
			}
			typ = o.typ
		}
		if o := c.scope.own(name); o != nil {
			o.typ = typ
		} else {
			c.compileError(c.place(t.Name), "name '"+name+"' is not defined")
		}
		c.mustAssign(value, typ, c.place(t), place{})
	}
}

func (c *checker) augAssign(s *syntax.AugAssignStmt) *Type {
	c.store = false
	name, at := s.Target.Name.Text, c.place(s.Target)
	_, isConfig := s.Value.(*syntax.SchemaExpr)
	first, known := c.globals[c.pkg.Path][name]
	if isPrivate(name) || isConfig || !known {
		if c.level == 0 {
			c.insertGlobal(name, at)
		}
	} else {
		second := message(first, "The variable '"+name+"' is declared here firstly")
		second.Note = immutableNote(name)
		c.report(diag.ImmutableError, message(at, "Immutable variable '"+name+"' is modified during compiling"), second)
	}
	left := c.target(s.Target)
	right := c.expr(s.Value)
	t := c.binaryTypes(left, right, s.Op, at)
	c.store = true
	expected := c.target(s.Target)
	c.mustAssign(t, expected, at, place{})
	c.store = false
	return t
}

func (c *checker) schemaAttr(s *syntax.SchemaAttr) *Type {
	clear(c.locals)
	name, at := s.Name.Text, c.place(s.Name)
	if strings.Contains(name, ".") && int(s.Name.End-s.Name.Start) <= len(name) {
		c.compileError(at, "schema attribute can not be selected")
		name, _, _ = strings.Cut(name, ".")
	}
	expected := anyT
	if c.schema != nil {
		expected = orAny(c.schema.attrType(name))
	}
	c.scope.put(name, &object{typ: expected, at: at, kind: attributeObject})
	if s.Value == nil {
		return anyT
	}
	var v *Type
	if expected.Kind == Schema {
		c.push(&expectation{expected, c.place(s.Value)})
		v = c.expr(s.Value)
		c.pop(1)
	} else {
		v = c.expr(s.Value)
	}
	if s.Op == "|" {
		v = c.binaryTypes(v, expected, "|", at)
	}
	c.mustAssign(v, expected, at, place{})
	return anyT
}

func (c *checker) schemaStmt(s *syntax.SchemaStmt) *Type {
	c.uniqueKey(s.Name)
	t := c.lookup(s.Name.Text, c.place(s.Name))
	if t.Kind != Schema {
		c.typeError(c.place(s), "expected schema type, got "+t.String())
		return t
	}
	st := t.Schema.inBody()
	start := c.at
	c.schema = st
	c.buildParams(s.Params, nil)
	c.paramOrder(s.Params)
	c.enter()
	for _, p := range st.parts().params {
		c.scope.put(p.name, &object{typ: p.typ, at: start, kind: parameterObject})
	}
	if st.parts().index != nil && s.Index != nil {
		c.indexDefault(s.Index, st.parts().index)
	}
	for _, n := range leftNames(s.Body) {
		if c.scope.own(n.text) == nil {
			c.scope.put(n.text, &object{typ: anyT, at: place{c.file.File, n.at}})
		}
	}
	c.stmts(s.Body)
	c.checks(s.Checks)
	c.leave()
	c.schema = nil
	return t
}

func (c *checker) indexDefault(node *syntax.IndexSignature, ix *indexType) {
	if ix.name != "" {
		c.scope.put(ix.name, &object{typ: ix.key, at: c.place(node)})
	}
	if node.Value == nil {
		return
	}
	var v *Type
	if ix.val.Kind == Schema {
		c.push(&expectation{ix.val, c.place(node.Value)})
		v = c.expr(node.Value)
		c.pop(1)
	} else {
		v = c.expr(node.Value)
	}
	c.mustAssign(v, ix.val, c.place(node), place{})
}

func (c *checker) checks(list []*syntax.CheckExpr) {
	for _, x := range list {
		if x.Msg != nil {
			c.mustBe(x.Msg, strT)
		}
		c.exprOrAny(x.Cond)
		c.expr(x.Test)
	}
}

func (c *checker) ruleStmt(s *syntax.RuleStmt) *Type {
	c.uniqueKey(s.Name)
	t := c.lookup(s.Name.Text, c.place(s.Name))
	if t.Kind != Schema {
		c.typeError(c.place(s), "expected rule type, got "+t.String())
		return t
	}
	st := t.Schema.inBody()
	c.schema = st
	c.paramOrder(s.Params)
	c.enter()
	for _, p := range st.parts().params {
		c.scope.put(p.name, &object{typ: p.typ, at: c.place(s), kind: parameterObject})
	}
	c.checks(s.Checks)
	c.leave()
	c.schema = nil
	return t
}

// paramOrder reports parameters without default after those with one.
func (c *checker) paramOrder(ps *syntax.Params) {
	if ps == nil {
		return
	}
	mark := false
	for i := len(ps.Defaults) - 1; i >= 0; i-- {
		if ps.Defaults[i] == nil {
			mark = true
			continue
		}
		if mark {
			m := message(c.place(ps.Defaults[i]), "non-default argument follows default argument")
			m.Note = "A default argument"
			c.report(diag.IllegalParameterError, m)
		}
	}
}
