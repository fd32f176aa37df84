package types

import (
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kcl/syntax"
)

// expr is the type of an expression.
func (c *checker) expr(x syntax.Expr) *Type {
	if id, ok := x.(*syntax.Ident); ok {
		c.at = c.place(id)
	}
	return c.walk(x)
}

// exprOrAny is expr for what may be missing. Errors about a bare name are told
// at the current place, as upstream does.
func (c *checker) exprOrAny(x syntax.Expr) *Type {
	if x == nil {
		return anyT
	}
	return c.walk(x)
}

func (c *checker) exprs(xs []syntax.Expr) []*Type {
	ts := make([]*Type, len(xs))
	for i, x := range xs {
		ts[i] = c.expr(x)
	}
	return ts
}

func (c *checker) walk(x syntax.Expr) *Type {
	switch x := x.(type) {
	case *syntax.Ident:
		return c.ident(x)
	case *syntax.NumberLit:
		switch {
		case x.Suffix != "":
			return &Type{Kind: Multiplier, Lit: litText(x.Int) + x.Suffix}
		case x.IsFloat:
			return &Type{Kind: FloatLit, Lit: x.Float}
		}
		return &Type{Kind: IntLit, Lit: x.Int}
	case *syntax.StringLit:
		return strLit(x.Value)
	case *syntax.NameLit:
		switch x.Value {
		case "True", "False":
			return &Type{Kind: BoolLit, Lit: x.Value == "True"}
		}
		return noneT
	case *syntax.JoinedString:
		c.store = false
		c.exprs(x.Parts)
		return strT
	case *syntax.FormattedValue:
		if s := strings.ToLower(x.Spec); s != "" && s != "#json" && s != "#yaml" {
			c.compileError(c.place(x.X), x.Spec+" is a invalid format spec")
		}
		return c.expr(x.X)
	case *syntax.ParenExpr:
		return c.expr(x.X)
	case *syntax.UnaryExpr:
		return c.unary(c.expr(x.X), x.Op, c.place(x.X))
	case *syntax.BinaryExpr:
		return c.binary(x)
	case *syntax.CompareExpr:
		return c.compare(x)
	case *syntax.IfExpr:
		c.expr(x.Cond)
		return sup(c.expr(x.Body), c.expr(x.Else))
	case *syntax.SelectorExpr:
		return c.selector(x)
	case *syntax.SubscriptExpr:
		return c.subscript(x)
	case *syntax.CallExpr:
		return c.call(x)
	case *syntax.LambdaExpr:
		return c.lambda(x)
	case *syntax.SchemaExpr:
		return c.schemaExpr(x)
	case *syntax.ConfigExpr:
		return c.entries(x.Items)
	case *syntax.CheckExpr:
		return anyT
	}
	return c.collection(x)
}

// collection is the type of lists, comprehensions and conditional items.
func (c *checker) collection(x syntax.Expr) *Type {
	switch x := x.(type) {
	case *syntax.ListExpr:
		n := c.pushName("[]")
		t := sup(c.exprs(x.Items)...)
		c.pop(n)
		return listOf(t)
	case *syntax.ListIfItem:
		c.expr(x.Cond)
		other := c.elseType(x.Else)
		if other.Kind == List {
			other = other.Elem
		}
		return sup(other, sup(c.exprs(x.Items)...))
	case *syntax.StarredExpr:
		return c.starred(x)
	case *syntax.ListComp:
		return c.listComp(x)
	case *syntax.DictComp:
		return c.dictComp(x)
	case *syntax.ConfigIfEntry:
		c.expr(x.Cond)
		t := c.entries(x.Items)
		if x.Else != nil {
			return sup(t, c.expr(x.Else))
		}
		return t
	case *syntax.QuantExpr:
		return c.quantifier(x)
	}
	return anyT
}

func (c *checker) elseType(x syntax.Expr) *Type {
	if x == nil {
		return anyT
	}
	return c.walk(x)
}

func (c *checker) binary(x *syntax.BinaryExpr) *Type {
	left := c.expr(x.X)
	at := place{c.file.File, syntax.Span{Start: x.X.Range().Start, End: x.Y.Range().End}}
	right := c.expr(x.Y)
	if x.Op == "as" {
		id, ok := x.Y.(*syntax.Ident)
		if !ok {
			c.compileError(at, "keyword 'as' right operand must be a type")
			return left
		}
		right = c.resolveNamed(id.String(), c.place(x.Y))
		if right.Kind == Schema {
			right = instance(right)
		}
	}
	return c.binaryTypes(left, right, x.Op, at)
}

func instance(t *Type) *Type {
	if t.Instance {
		return t
	}
	return &Type{Kind: Schema, Schema: t.Schema, Instance: true}
}

func (c *checker) compare(x *syntax.CompareExpr) *Type {
	first := c.expr(x.X)
	second := c.expr(x.Ys[0])
	c.compareTypes(first, second, x.Ops[0], place{c.file.File, syntax.Span{Start: x.X.Range().Start, End: x.Ys[0].Range().End}})
	for i := 1; i < len(x.Ys)-1; i++ {
		c.compareTypes(first, c.expr(x.Ys[i]), x.Ops[i+1], c.place(x.Ys[i]))
	}
	if n := len(x.Ys); n > 1 {
		// Upstream leaves the last operand unchecked; its names still count.
		quiet := c.quiet
		c.quiet = true
		c.expr(x.Ys[n-1])
		c.quiet = quiet
	}
	return boolT
}

func (c *checker) selector(x *syntax.SelectorExpr) *Type {
	t := c.expr(x.X)
	if t.Kind == Module && x.Question {
		name := x.Attr.String()
		at := place{c.file.File, syntax.Span{Start: x.X.Range().End, End: x.Attr.Start}}
		c.compileError(at, "For the module type, the use of '?."+name+"' is unnecessary and it can be modified as '."+name+"'")
	}
	for _, n := range x.Attr.Names {
		t = c.loadAttr(t, n.Text, c.place(x.Attr))
	}
	return t
}

func (c *checker) starred(x *syntax.StarredExpr) *Type {
	t, ok := starredType(c.expr(x.X))
	if !ok {
		c.compileError(c.place(x.X), "only list, dict, schema object can be used * unpacked, got "+t.String())
	}
	return t
}

func starredType(t *Type) (*Type, bool) {
	switch t.Kind {
	case None, Any:
		return t, true
	case List:
		return t.Elem, true
	case Dict:
		return t.Key, true
	case Schema:
		return strT, true
	case Union:
		ok := true
		var ts []*Type
		for _, e := range t.Types {
			et, good := starredType(e)
			ok = ok && good
			ts = append(ts, et)
		}
		return sup(ts...), ok
	}
	return anyT, false
}

func (c *checker) listComp(x *syntax.ListComp) *Type {
	n := c.pushName("[]")
	c.enter()
	for _, cl := range x.Clauses {
		c.clause(cl)
	}
	if _, ok := x.Item.(*syntax.StarredExpr); ok {
		c.compileError(c.place(x.Item), "list unpacking cannot be used in list comprehension")
	}
	t := c.expr(x.Item)
	c.leave()
	c.pop(n)
	return listOf(t)
}

func (c *checker) dictComp(x *syntax.DictComp) *Type {
	e := x.Entry
	if e.Key == nil {
		c.compileError(c.place(e.Value), "dict unpacking cannot be used in dict comprehension")
	}
	c.enter()
	for _, cl := range x.Clauses {
		c.clause(cl)
	}
	if e.Key == nil {
		v := c.expr(e.Value)
		key := c.unpackedKey(v, e.Value)
		c.leave()
		return dictOf(key, v)
	}
	key := c.expr(e.Key)
	c.checkKey(key, c.place(e.Key))
	n := c.pushKey(e.Key)
	v := c.expr(e.Value)
	c.pop(n)
	c.leave()
	return dictOf(key, v)
}

func (c *checker) unpackedKey(v *Type, x syntax.Expr) *Type {
	switch {
	case v.Kind == None || v.Kind == Any:
		return v
	case v.Kind == Dict:
		return v.Key
	case v.Kind == Schema:
		return strT
	case v.each((*Type).isConfig):
		return strT
	}
	c.compileError(c.place(x), "only dict and schema can be used ** unpack, got '"+v.String()+"'")
	return anyT
}

// loopVars declares loop variables.
func (c *checker) loopVars(vars []*syntax.Ident) (names []syntax.Name) {
	for i, v := range vars {
		if len(v.Names) == 0 {
			continue
		}
		if len(v.Names) > 1 {
			c.compileError(c.place(v), "loop variables can only be ordinary identifiers")
		}
		if i > 1 {
			at := place{c.file.File, syntax.Span{Start: vars[i-1].End, End: v.End}}
			c.compileError(at, fmt.Sprintf("the number of loop variables is %d, which can only be 1 or 2", len(vars)))
			break
		}
		n := v.Names[0]
		names = append(names, n)
		c.locals[n.Text] = true
		c.scope.put(n.Text, &object{typ: anyT, at: c.place(v)})
	}
	return names
}

func (c *checker) clause(cl *syntax.CompClause) {
	iter := c.expr(cl.Iter)
	names := c.loopVars(cl.Targets)
	if !iter.isAny() {
		c.loopTypes(names, iter, c.place(cl.Iter))
	}
	c.exprs(cl.Ifs)
}

func (c *checker) quantifier(x *syntax.QuantExpr) *Type {
	iter := c.expr(x.Target)
	c.enter()
	names := c.loopVars(x.Vars)
	c.loopTypes(names, iter, c.place(x.Target))
	c.exprOrAny(x.Cond)
	item := c.expr(x.Test)
	c.leave()
	switch x.Op {
	case "filter":
		return iter
	case "map":
		return listOf(item)
	}
	return boolT
}

// loopTypes gives loop variables the types of what is looped over.
func (c *checker) loopTypes(names []syntax.Name, iter *Type, at place) {
	if len(names) == 0 {
		return
	}
	types := []*Type{iter}
	if iter.Kind == Union {
		types = iter.Types
	}
	first, second := voidT, voidT
	for _, t := range types {
		if !t.isIterable() && !t.isAny() {
			c.compileError(at, "'"+t.String()+"' object is not iterable")
		}
		var key, item, one *Type
		switch {
		case t.Kind == List:
			key, item, one = intT, t.Elem, t.Elem
		case t.isStr():
			key, item, one = intT, strT, strT
		case t.Kind == Dict:
			key, item, one = t.Key, t.Elem, t.Key
		case t.Kind == Schema:
			key, item, one = strT, t.Schema.valType(), strT
		default:
			continue
		}
		if len(names) == 1 {
			first = sup(one, first)
			c.infer(names[0].Text, first, c.place(names[0]))
			continue
		}
		first, second = sup(key, first), sup(item, second)
		c.infer(names[0].Text, first, c.place(names[0]))
		c.infer(names[1].Text, second, c.place(names[1]))
	}
}

func (c *checker) lambdaParams(x *syntax.LambdaExpr) []param {
	if x.Params == nil {
		return nil
	}
	var out []param
	for i, id := range x.Params.Names {
		var t *Type
		if tn := x.Params.Types[i]; tn != nil {
			t = c.typ(tn)
		} else {
			t = anyT
		}
		if t.Kind == Schema {
			t = instance(t)
		}
		out = append(out, param{name: id.String(), typ: t, hasDef: x.Params.Defaults[i] != nil, at: c.place(id)})
	}
	return out
}

func (c *checker) lambda(x *syntax.LambdaExpr) *Type {
	result := anyT
	c.paramOrder(x.Params)
	params := c.lambdaParams(x)
	if x.Params != nil {
		for _, d := range x.Params.Defaults {
			c.exprOrAny(d)
		}
	}
	start := c.at
	if x.Result != nil {
		result = c.typAt(x.Result, start)
	}
	c.enter()
	for _, p := range params {
		c.scope.put(p.name, &object{typ: p.typ, at: start, kind: parameterObject})
	}
	real := anyT
	if n := len(x.Body); n > 0 {
		last := x.Body[n-1]
		switch last.(type) {
		case *syntax.ExprStmt, *syntax.AssignStmt, *syntax.AugAssignStmt, *syntax.AssertStmt:
		default:
			c.compileError(c.place(last), "The last statement of the lambda body must be a expression e.g., x, 1, etc.")
		}
		c.stmts(x.Body[:n-1])
		real = c.lambdaResult(last, result, x.Result, start)
	}
	c.leave()
	if !real.isAny() && result.isAny() && x.Result == nil {
		result = real
	}
	return funcOf(&FuncType{params: params, result: result})
}

func (c *checker) lambdaResult(last syntax.Stmt, result *Type, written syntax.Type, start place) *Type {
	if e, ok := last.(*syntax.ExprStmt); ok && len(e.Exprs) > 0 {
		x := e.Exprs[len(e.Exprs)-1]
		def := place{}
		if written != nil {
			def = c.place(written)
		}
		return c.upgrade(result, x, c.place(x), def)
	}
	t := c.stmt(last)
	c.mustAssign(t, result, start, place{})
	return t
}
