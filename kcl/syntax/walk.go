package syntax

import "reflect"

// Walk calls f for n and, while f gives true, for all nodes below it, in the
// order in which they are written, types among them.
func Walk(n Node, f func(Node) bool) {
	if n == nil || reflect.ValueOf(n).Kind() == reflect.Pointer && reflect.ValueOf(n).IsNil() || !f(n) {
		return
	}
	walkChildren(n, func(c Node) { Walk(c, f) })
}

func walkExprs(list []Expr, f func(Node)) {
	for _, x := range list {
		walkExpr(x, f)
	}
}

func walkExpr(x Expr, f func(Node)) {
	if x != nil {
		f(x)
	}
}

func walkStmts(list []Stmt, f func(Node)) {
	for _, s := range list {
		f(s)
	}
}

func walkEntries(list []*ConfigEntry, f func(Node)) {
	for _, e := range list {
		f(e)
	}
}

func walkClauses(list []*CompClause, f func(Node)) {
	for _, c := range list {
		f(c)
	}
}

func walkIdents(list []*Ident, f func(Node)) {
	for _, id := range list {
		f(id)
	}
}

func walkCall(args []Expr, kws []*Keyword, f func(Node)) {
	walkExprs(args, f)
	for _, k := range kws {
		f(k)
	}
}

func walkParams(p *Params, f func(Node)) {
	if p != nil {
		walkIdents(p.Names, f)
		walkTypes(p.Types, f)
		walkExprs(p.Defaults, f)
	}
}

func walkTypes(list []Type, f func(Node)) {
	for _, t := range list {
		if t != nil {
			f(t)
		}
	}
}

func walkInType(t Type, f func(Node)) {
	switch t := t.(type) {
	case *NamedType:
		f(t.Ident)
	case *ListType:
		walkTypes([]Type{t.Item}, f)
	case *DictType:
		walkTypes([]Type{t.Key, t.Value}, f)
	case *UnionType:
		walkTypes(t.Types, f)
	case *FuncType:
		walkTypes(t.Params, f)
		walkTypes([]Type{t.Result}, f)
	}
}

func walkChildren(n Node, f func(Node)) {
	switch n := n.(type) {
	case *TypeAliasStmt:
		f(n.Name)
		walkTypes([]Type{n.Type}, f)
	case *ExprStmt:
		walkExprs(n.Exprs, f)
	case *UnifyStmt:
		f(n.Target)
		f(n.Value)
	case *AssignStmt:
		for _, t := range n.Targets {
			f(t)
		}
		walkTypes([]Type{n.Type}, f)
		walkExpr(n.Value, f)
	case *AugAssignStmt:
		f(n.Target)
		walkExpr(n.Value, f)
	case *AssertStmt:
		walkExprs([]Expr{n.Test, n.Cond, n.Msg}, f)
	case *IfStmt:
		walkExpr(n.Cond, f)
		walkStmts(n.Body, f)
		walkStmts(n.Else, f)
	case *SchemaStmt:
		walkSchema(n, f)
	case *SchemaAttr:
		for _, d := range n.Decorators {
			f(d)
		}
		walkTypes([]Type{n.Type}, f)
		walkExpr(n.Value, f)
	case *RuleStmt:
		for _, d := range n.Decorators {
			f(d)
		}
		walkParams(n.Params, f)
		walkIdents(n.Parents, f)
		if n.Host != nil {
			f(n.Host)
		}
		for _, c := range n.Checks {
			f(c)
		}
	case Expr:
		walkInExpr(n, f)
	case Type:
		walkInType(n, f)
	case *ConfigEntry:
		walkExpr(n.Key, f)
		walkExpr(n.Value, f)
	case *CompClause:
		walkIdents(n.Targets, f)
		walkExpr(n.Iter, f)
		walkExprs(n.Ifs, f)
	case *Keyword:
		walkExpr(n.Value, f)
	}
}

func walkSchema(n *SchemaStmt, f func(Node)) {
	for _, d := range n.Decorators {
		f(d)
	}
	walkParams(n.Params, f)
	for _, id := range []*Ident{n.Parent, n.Host} {
		if id != nil {
			f(id)
		}
	}
	walkIdents(n.Mixins, f)
	walkStmts(n.Body, f)
	if n.Index != nil {
		walkTypes([]Type{n.Index.KeyType, n.Index.ValueType}, f)
		walkExpr(n.Index.Value, f)
	}
	for _, c := range n.Checks {
		f(c)
	}
}

func walkInExpr(n Expr, f func(Node)) {
	switch n := n.(type) {
	case *Target:
		for _, p := range n.Paths {
			walkExpr(p.Index, f)
		}
	case *UnaryExpr:
		walkExpr(n.X, f)
	case *BinaryExpr:
		walkExprs([]Expr{n.X, n.Y}, f)
	case *CompareExpr:
		walkExpr(n.X, f)
		walkExprs(n.Ys, f)
	case *IfExpr:
		walkExprs([]Expr{n.Body, n.Cond, n.Else}, f)
	case *SelectorExpr:
		walkExpr(n.X, f)
	case *CallExpr:
		walkExpr(n.Func, f)
		walkCall(n.Args, n.Keywords, f)
	case *ParenExpr:
		walkExpr(n.X, f)
	case *QuantExpr:
		walkIdents(n.Vars, f)
		walkExprs([]Expr{n.Target, n.Test, n.Cond}, f)
	case *ListExpr:
		walkExprs(n.Items, f)
	case *ListIfItem:
		walkExpr(n.Cond, f)
		walkExprs(n.Items, f)
		walkExpr(n.Else, f)
	case *ListComp:
		walkExpr(n.Item, f)
		walkClauses(n.Clauses, f)
	case *DictComp:
		f(n.Entry)
		walkClauses(n.Clauses, f)
	case *StarredExpr:
		walkExpr(n.X, f)
	case *ConfigExpr:
		walkEntries(n.Items, f)
	case *ConfigIfEntry:
		walkExpr(n.Cond, f)
		walkEntries(n.Items, f)
		walkExpr(n.Else, f)
	case *SchemaExpr:
		f(n.Name)
		walkCall(n.Args, n.Keywords, f)
		walkExpr(n.Config, f)
	case *CheckExpr:
		walkExprs([]Expr{n.Test, n.Cond, n.Msg}, f)
	case *LambdaExpr:
		walkParams(n.Params, f)
		walkTypes([]Type{n.Result}, f)
		walkStmts(n.Body, f)
	case *SubscriptExpr:
		walkExprs([]Expr{n.X, n.Index, n.Lower, n.Upper, n.Step}, f)
	case *JoinedString:
		walkExprs(n.Parts, f)
	case *FormattedValue:
		walkExpr(n.X, f)
	}
}
