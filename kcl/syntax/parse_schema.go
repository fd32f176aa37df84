package syntax

import "strings"

func (p *parser) schema(decorators []*CallExpr) Stmt {
	start := p.tok
	s := &SchemaStmt{Decorators: decorators, Mixin: p.is(kwMixin), Protocol: p.is(kwProtocol)}
	p.bump()
	name := p.ident()
	s.Name = Name{name.Span, name.String()}
	switch {
	case strings.HasSuffix(s.Name.Text, "Mixin"):
		s.Mixin = true
	case strings.HasSuffix(s.Name.Text, "Protocol"):
		s.Protocol = true
	}
	if p.tok.kind == tLBracket {
		s.Params = p.params([]kind{tLBracket}, []kind{tRBracket}, true, false)
	}
	if p.tok.kind == tLParen {
		p.bump()
		s.Parent = p.ident()
		p.bumpKind(tRParen)
	}
	s.Host = p.host()
	p.bumpKind(tColon)
	p.skipNewlines()
	if p.tok.kind == tIndent {
		p.schemaBody(s)
	}
	s.Span = p.from(start)
	return s
}

func (p *parser) host() *Ident {
	if !p.is(kwFor) {
		return nil
	}
	p.bump()
	at := p.tok
	x := p.expr()
	id := p.asIdent(x, at)
	return &Ident{Span: x.Range(), Names: id.Names}
}

func contains(ks []kind, k kind) bool {
	for _, o := range ks {
		if o == k {
			return true
		}
	}
	return false
}

// params parses parameters. It takes the opening token if open is not empty
// and the closing one if takeClose.
func (p *parser) params(open, closing []kind, takeClose, multiline bool) *Params {
	start := p.tok
	if len(open) > 0 {
		if !contains(open, p.tok.kind) {
			return nil
		}
		p.bump()
	}
	ps := &Params{}
	for {
		mark := p.next
		if contains(closing, p.tok.kind) {
			if takeClose {
				p.bump()
			}
			break
		}
		if multiline && p.tok.kind == tNewline {
			p.skipNewlines()
			p.skipLayout()
		}
		if p.tok.kind == tNewline || p.tok.kind == tEOF {
			var want []string
			for _, k := range closing {
				want = append(want, k.String())
			}
			p.unexpected(want, p.tok)
			break
		}
		at := p.tok
		name := p.ident()
		name.Span = p.from(at)
		var typ Type
		if p.tok.kind == tColon {
			p.bump()
			typ = p.typ()
		}
		var def Expr
		if p.tok.kind == tAssign {
			p.bump()
			def = p.expr()
		}
		ps.Names = append(ps.Names, name)
		ps.Types = append(ps.Types, typ)
		ps.Defaults = append(ps.Defaults, def)
		if p.tok.kind == tComma {
			p.bump()
		}
		if multiline && p.tok.kind == tNewline {
			p.skipNewlines()
			p.skipLayout()
		}
		p.stuck(mark)
	}
	p.skipNewlines()
	ps.Span = p.from(start)
	return ps
}

func (p *parser) schemaBody(s *SchemaStmt) {
	p.checkDedent()
	p.bumpKind(tIndent)
	if p.peek(1).kind != tColon {
		s.Doc = p.doc()
	}
	if p.is(kwMixin) {
		s.Mixins = p.mixins()
		p.skipNewlines()
	}
	for {
		mark := p.next
		p.checkDedent()
		if p.isDedent() || p.tok.kind == tEOF || p.is(kwCheck) {
			break
		}
		if p.schemaItem(s) {
			continue
		}
		p.stuck(mark)
	}
	if p.is(kwCheck) {
		p.bump()
		p.bumpKind(tColon)
		p.skipNewlines()
		p.bumpKind(tIndent)
		s.Checks = p.checks()
	}
	p.checkDedent()
	p.bumpKind(tDedent)
	p.skipNewlines()
}

// schemaItem parses one statement of a schema body. It reports false when the
// caller must see to progress.
func (p *parser) schemaItem(s *SchemaStmt) bool {
	next := p.peek(1).kind
	switch {
	case p.is(kwAssert):
		s.Body = append(s.Body, p.assert())
		return true
	case p.is(kwIf):
		s.Body = append(s.Body, p.ifStmt())
		return true
	case p.tok.kind == tStr && next == tColon, p.tok.kind == tAt, next == tQuestion:
		s.Body = append(s.Body, p.schemaAttr())
		return true
	case p.tok.kind == tLBracket:
		p.indexOrList(s)
		return true
	}
	x := p.exprOrAssign(true)
	switch x := x.(type) {
	case nil:
		p.bump()
	case *SchemaAttr:
		s.Body = append(s.Body, x)
		return true
	case *AssignStmt:
		if len(x.Targets) == 1 && x.Type != nil {
			t := x.Targets[0]
			s.Body = append(s.Body, &SchemaAttr{Span: x.Span, Name: Name{t.Span, t.Name.Text}, Type: x.Type, Op: "=", Value: x.Value})
			return true
		}
		s.Body = append(s.Body, x)
	default:
		s.Body = append(s.Body, x)
	}
	return false
}

func (p *parser) mixins() []*Ident {
	p.bump()
	var list []*Ident
	p.bumpKind(tLBracket)
	multiline := p.tok.kind == tNewline
	if multiline {
		p.skipNewlines()
		p.expect(tIndent)
	}
	for {
		mark := p.next
		p.checkDedent()
		if p.tok.kind == tRBracket || p.isDedent() {
			break
		}
		list = append(list, p.ident())
		if p.tok.kind == tComma {
			p.bump()
		}
		p.skipNewlines()
		p.stuck(mark)
	}
	if multiline {
		p.checkDedent()
		p.expect(tDedent)
	}
	p.bumpKind(tRBracket)
	return list
}

func (p *parser) schemaAttr() *SchemaAttr {
	start := p.tok
	a := &SchemaAttr{}
	if p.tok.kind == tAt {
		a.Decorators = p.decorators()
	}
	if p.tok.kind == tStr {
		if lit, ok := p.str().(*StringLit); ok {
			a.Name = Name{lit.Span, lit.Value}
		}
	}
	if a.Name.End == 0 {
		id := p.ident()
		a.Name = Name{id.Span, id.String()}
	}
	if p.tok.kind == tQuestion {
		p.bump()
		a.Optional = true
	}
	p.bumpKind(tColon)
	a.Type = p.typ()
	switch {
	case p.tok.kind == tAssign:
		a.Op = "="
	case p.tok.kind.isAugmented():
		a.Op = strings.TrimSuffix(p.tok.kind.String(), "=")
	}
	if a.Op != "" {
		p.bump()
		a.Value = p.expr()
	}
	a.Span = p.from(start)
	p.skipNewlines()
	return a
}

// indexOrList parses an index signature, or a list that stands as statement.
func (p *parser) indexOrList(s *SchemaStmt) {
	start := p.tok
	p.bump()
	peek, peek2 := p.peek(1).kind, p.peek(2).kind
	switch {
	case p.tok.kind == tNewline || p.tok.kind == tRBracket,
		p.tok.kind == tIdent && peek != tColon && peek2 != tColon:
		list := p.list(p.prev)
		s.Body = append(s.Body, &ExprStmt{p.from(start), []Expr{list}})
	case p.tok.kind == tEllipsis && peek == tIdent, p.tok.kind == tIdent:
		sig := p.indexSignature()
		sig.Span = p.from(start)
		if s.Index != nil {
			p.errorAt(start, "duplicate schema index signature definitions, only one is allowed in the schema")
		}
		s.Index = sig
	default:
		p.errorAt(p.tok, "expected a index signature or list expression here, got "+p.describe(p.tok))
	}
	p.skipNewlines()
}

func (p *parser) indexSignature() *IndexSignature {
	sig := &IndexSignature{}
	if p.tok.kind == tEllipsis {
		p.bump()
		sig.KeyType, sig.AnyOther = p.typ(), true
	} else {
		id := p.ident()
		if p.tok.kind == tRBracket {
			sig.KeyType = p.namedType(id)
		} else {
			p.bumpKind(tColon)
			if p.tok.kind == tEllipsis {
				p.bump()
				sig.AnyOther = true
			}
			sig.Key = &Name{id.Span, id.String()}
			sig.KeyType = p.typ()
		}
	}
	p.bumpKind(tRBracket)
	p.bumpKind(tColon)
	sig.ValueType = p.typ()
	if p.tok.kind == tAssign {
		p.bump()
		sig.Value = p.expr()
	}
	p.skipNewlines()
	return sig
}

// checks parses check expressions up to and with their dedent.
func (p *parser) checks() []*CheckExpr {
	var list []*CheckExpr
	for !p.isDedent() {
		mark := p.next
		if p.tok.kind == tEOF {
			p.unexpected([]string{"newline"}, p.tok)
			break
		}
		list = append(list, p.check())
		p.skipNewlines()
		p.stuck(mark)
	}
	p.checkDedent()
	p.bumpKind(tDedent)
	return list
}

func (p *parser) check() *CheckExpr {
	start := p.tok
	c := &CheckExpr{Test: p.binary(precLowest)}
	if p.is(kwIf) {
		p.bump()
		c.Cond = p.binary(precLowest)
	}
	if p.tok.kind == tComma {
		p.bump()
		c.Msg = p.primary()
	}
	c.Span = p.from(start)
	return c
}

func (p *parser) rule(decorators []*CallExpr) Stmt {
	start := p.tok
	p.bump()
	name := p.ident()
	r := &RuleStmt{Decorators: decorators, Name: Name{name.Span, name.String()}}
	if p.tok.kind == tLBracket {
		r.Params = p.params([]kind{tLBracket}, []kind{tRBracket}, true, false)
	}
	if p.tok.kind == tLParen {
		p.bump()
		p.ruleParents(r)
	}
	r.Host = p.host()
	p.bumpKind(tColon)
	p.skipNewlines()
	p.bumpKind(tIndent)
	r.Doc = p.doc()
	p.checkDedent()
	r.Checks = p.checks()
	r.Span = p.from(start)
	return r
}

func (p *parser) ruleParents(r *RuleStmt) {
	for p.tok.kind != tRParen {
		if p.tok.kind == tNewline || p.tok.kind == tEOF {
			p.unexpected([]string{")", ","}, p.tok)
			return
		}
		at := p.tok
		x := p.expr()
		id := p.asIdent(x, at)
		r.Parents = append(r.Parents, &Ident{Span: x.Range(), Names: id.Names})
		if k := p.tok.kind; k != tComma && k != tRParen && k != tNewline && k != tEOF {
			p.unexpected([]string{",", ")"}, p.tok)
			p.bump()
		}
		if p.tok.kind == tComma {
			p.bump()
		}
	}
	p.bump()
}
