package syntax

import "fmt"

import "strings"

func (p *parser) doc() *Name {
	if p.tok.kind != tStr || !p.lits[p.tok.lit].long {
		return nil
	}
	x := p.str()
	p.skipNewlines()
	switch x := x.(type) {
	case *StringLit:
		return &Name{x.Span, x.Raw}
	case *JoinedString:
		return &Name{x.Span, x.Raw}
	}
	return nil
}

func (p *parser) stmt() Stmt {
	p.skipNewlines()
	if p.tok.kind == tEOF {
		return nil
	}
	p.enter()
	defer p.leave()
	if s := p.compound(); s != nil {
		return s
	}
	if s := p.simple(); s != nil {
		return s
	}
	if p.tok.kind != tEOF || p.prev.kind != tNewline {
		p.errorAt(p.tok, "unexpected token '"+p.describe(p.tok)+"'")
	}
	return nil
}

func (p *parser) compound() Stmt {
	if p.is(kwIf) {
		return p.ifStmt()
	}
	var decorators []*CallExpr
	if p.tok.kind == tAt {
		decorators = p.decorators()
	}
	switch {
	case p.is(kwSchema), p.is(kwMixin), p.is(kwProtocol):
		return p.schema(decorators)
	case p.is(kwRule):
		return p.rule(decorators)
	}
	return nil
}

func (p *parser) simple() Stmt {
	p.skipNewlines()
	switch {
	case p.tok.kind == tEOF:
		return nil
	case p.is(kwImport):
		return p.importStmt()
	case p.is(kwType):
		return p.typeAlias()
	case p.is(kwAssert):
		return p.assert()
	case p.tok.kind == tTilde || p.tok.kind == tNot:
		start := p.tok
		x := p.expr()
		s := &ExprStmt{p.from(start), []Expr{x}}
		p.skipNewlines()
		return s
	case p.tok.kind == tIdent || p.tok.kind == tInt || p.tok.kind == tFloat || p.tok.kind == tStr || p.tok.kind.isOpen():
		return p.exprOrAssign(false)
	}
	return nil
}

func (p *parser) block() []Stmt {
	var list []Stmt
	p.checkDedent()
	p.bumpKind(tIndent)
	for {
		if p.tok.kind == tEOF {
			p.bump()
			break
		}
		p.checkDedent()
		if p.isDedent() {
			p.bump()
			break
		}
		if s := p.stmt(); s != nil {
			list = append(list, s)
		} else {
			p.bump()
		}
	}
	p.skipNewlines()
	return list
}

func (p *parser) exprOrAssign(inSchema bool) Stmt {
	start := p.tok
	first := p.expr()
	spans := []Span{p.from(start)}
	targets := []Expr{first}
	var value Expr
	var typ Type
	switch {
	case p.tok.kind == tColon:
		p.bump()
		typ = p.typ()
		if s := p.unify(start, first, typ); s != nil {
			return s
		}
	case p.tok.kind.isAugmented():
		return p.augmented(start, first, spans[0])
	}
	for p.tok.kind == tAssign {
		p.bump()
		at := p.tok
		x := p.expr()
		if value != nil {
			targets = append(targets, value)
		}
		spans = append(spans, p.from(at))
		value = x
	}
	id, isName := first.(*Ident)
	if p.tok.kind.isAugmented() && len(targets) == 1 && typ != nil && inSchema {
		op := strings.TrimSuffix(p.tok.kind.String(), "=")
		p.bump()
		v := p.expr()
		if isName {
			p.skipNewlines()
			return &SchemaAttr{Span: p.from(start), Name: Name{id.Span, id.String()}, Type: typ, Op: op, Value: v}
		}
	}
	span := p.from(start)
	switch {
	case value != nil:
		s := &AssignStmt{Span: span, Targets: p.targets(targets, spans), Value: value, Type: typ}
		p.skipNewlines()
		return s
	case typ != nil && inSchema && isName && len(targets) == 1:
		p.skipNewlines()
		return &SchemaAttr{Span: span, Name: Name{id.Span, id.String()}, Type: typ}
	case typ == nil:
		p.skipNewlines()
		return &ExprStmt{first.Range(), targets}
	}
	missing := p.missing()
	p.skipNewlines()
	p.unexpected([]string{"="}, p.tok)
	if inSchema {
		return nil
	}
	return &AssignStmt{Span: first.Range(), Targets: p.targets(targets, spans), Value: missing, Type: typ}
}

func (p *parser) targets(xs []Expr, spans []Span) []*Target {
	var out []*Target
	for i, x := range xs {
		t, msg := asTarget(x)
		if t == nil {
			p.report(spans[i], msg)
			continue
		}
		out = append(out, t)
	}
	return out
}

// unify parses the rest of `name: Schema {}`.
func (p *parser) unify(start token, target Expr, typ Type) Stmt {
	named, ok := typ.(*NamedType)
	if !ok || p.tok.kind != tLBrace && p.tok.kind != tLParen {
		return nil
	}
	var value *SchemaExpr
	if p.tok.kind == tLParen {
		call := p.call(named.Ident)
		value = p.schemaExprWithArgs(call, start)
	} else {
		value = p.schemaExpr(named.Ident, start)
	}
	s := &UnifyStmt{Target: p.asIdent(target, start), Value: value}
	s.Target = &Ident{Span: target.Range(), Names: s.Target.Names}
	p.skipNewlines()
	s.Span = p.from(start)
	return s
}

func (p *parser) augmented(start token, target Expr, at Span) Stmt {
	op := strings.TrimSuffix(p.tok.kind.String(), "=")
	p.bump()
	t, msg := asTarget(target)
	if t == nil {
		p.report(at, msg)
		p.expr()
		p.skipNewlines()
		return nil
	}
	v := p.expr()
	s := &AugAssignStmt{p.from(start), t, op, v}
	p.skipNewlines()
	return s
}

func (p *parser) assert() Stmt {
	start := p.tok
	p.bump()
	s := &AssertStmt{Test: p.binary(precLowest)}
	if p.is(kwIf) {
		p.bump()
		s.Cond = p.binary(precLowest)
	}
	if p.tok.kind == tComma {
		p.bump()
		s.Msg = p.expr()
	}
	s.Span = p.from(start)
	p.skipNewlines()
	return s
}

func (p *parser) importStmt() Stmt {
	start := p.tok
	p.bump()
	at := p.tok
	dots := ""
	for p.tok.kind == tEllipsis {
		dots += "..."
		p.bump()
	}
	for p.tok.kind == tDot {
		dots += "."
		p.bump()
	}
	id := p.ident()
	s := &ImportStmt{Path: Name{p.from(at), dots + id.String()}, Name: id.Names[len(id.Names)-1].Text}
	if p.is(kwAs) {
		p.bump()
		as := p.ident()
		if len(as.Names) == 1 {
			s.As = &as.Names[0]
			s.Name = s.As.Text
		} else {
			p.errorAt(p.tok, "Invalid import asname")
		}
	}
	s.Span = p.from(start)
	p.skipNewlines()
	return s
}

func (p *parser) typeAlias() Stmt {
	p.bump()
	start := p.tok
	name := p.asIdent(p.expr(), start)
	p.bumpKind(tAssign)
	typ := p.typ()
	s := &TypeAliasStmt{p.from(start), name, typ}
	p.skipNewlines()
	return s
}

func (p *parser) ifBody() []Stmt {
	if p.tok.kind == tNewline {
		p.skipNewlines()
		return p.block()
	}
	if s := p.exprOrAssign(false); s != nil {
		return []Stmt{s}
	}
	p.bump()
	return nil
}

func (p *parser) ifStmt() Stmt {
	start := p.tok
	p.bump()
	s := &IfStmt{Cond: p.expr()}
	p.bumpKind(tColon)
	s.Body = p.ifBody()
	p.skipNewlines()
	var elifs []*IfStmt
	for p.is(kwElif) {
		if len(elifs) >= maxHeight {
			p.errorAt(p.tok, fmt.Sprintf("more than %d branches", maxHeight))
			panic(bailout{})
		}
		at := p.tok
		p.bump()
		e := &IfStmt{Cond: p.expr()}
		p.bumpKind(tColon)
		e.Body = p.ifBody()
		e.Span = p.from(at)
		elifs = append(elifs, e)
	}
	p.skipNewlines()
	if p.is(kwElse) {
		lo := p.tok.start
		p.bump()
		if p.is(kwIf) {
			p.report(Span{lo, p.tok.end}, "'else if' here is invalid in KCL, consider using the 'elif' keyword", "elif")
			p.bump()
		}
		p.bumpKind(tColon)
		s.Else = p.ifBody()
	}
	for i := len(elifs) - 1; i >= 0; i-- {
		e := elifs[i]
		e.Else = s.Else
		if n := len(e.Else); n > 0 {
			e.End = e.Else[n-1].Range().End
		}
		s.Else = []Stmt{e}
	}
	s.Span = p.from(start)
	p.skipNewlines()
	return s
}

func (p *parser) decorators() []*CallExpr {
	var list []*CallExpr
	for p.tok.kind == tAt {
		p.bump()
		x := p.expr()
		switch x := x.(type) {
		case *Ident:
			list = append(list, &CallExpr{Span: x.Span, Func: x})
		case *CallExpr:
			list = append(list, x)
		default:
			p.unexpected([]string{"identifier"}, p.tok)
		}
		p.skipNewlines()
	}
	p.skipNewlines()
	return list
}
