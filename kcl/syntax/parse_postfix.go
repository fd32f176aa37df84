package syntax

func (p *parser) primary() Expr {
	start := p.tok
	return p.postfix(p.operand(), start, true)
}

// postfix parses selectors, subscripts and, if calls, calls.
func (p *parser) postfix(x Expr, start token, calls bool) Expr {
	for {
		switch {
		case p.tok.kind == tDot, p.tok.kind == tQuestion && p.peek(1).kind == tDot:
			x = p.selector(x, start)
		case p.tok.kind == tLBracket, p.tok.kind == tQuestion && p.peek(1).kind == tLBracket:
			x = p.subscript(x, start)
		case p.tok.kind == tLParen && calls:
			c := p.call(x)
			c.Span = p.from(start)
			x = c
		default:
			return x
		}
		p.higher()
	}
}

func (p *parser) selector(x Expr, start token) Expr {
	s := &SelectorExpr{X: x}
	if p.tok.kind == tQuestion {
		p.bump()
		s.Question = true
	}
	p.bump()
	if p.tok.kind == tIdent {
		s.Attr = p.ident()
		s.Span = p.from(start)
		return s
	}
	p.unexpected([]string{"identifier"}, p.tok)
	at := Span{p.tok.start, p.tok.start}
	s.Attr = &Ident{Span: at, Names: []Name{{at, ""}}}
	s.Span = Span{start.start, p.tok.start}
	return s
}

// call parses the arguments of a call of f; the span is the caller's to set.
func (p *parser) call(f Expr) *CallExpr {
	c := &CallExpr{Func: f}
	p.expect(tLParen)
	multiline := p.tok.kind == tNewline
	if multiline {
		p.skipNewlines()
		p.skipLayout()
		if p.tok.kind == tRParen {
			p.bump()
			return c
		}
	}
	if p.tok.kind != tRParen {
		p.arguments(c, multiline)
	}
	if p.tok.kind == tComma {
		p.bump()
	}
	p.expect(tRParen)
	return c
}

func (p *parser) arguments(c *CallExpr, multiline bool) {
	for {
		mark := p.next
		p.skipLayout()
		if p.tok.kind == tRParen || p.tok.kind == tEOF || p.tok.kind == tNewline && !multiline || p.is(kwFor) {
			return
		}
		start := p.tok
		x := p.expr()
		if p.tok.kind == tAssign {
			arg := p.from(start)
			p.bump()
			id, ok := x.(*Ident)
			if !ok {
				p.unexpected([]string{"identifier"}, p.tok)
				id = &Ident{Span: arg}
			}
			v := p.expr()
			c.Keywords = append(c.Keywords, &Keyword{p.from(start), &Ident{Span: arg, Names: id.Names}, v})
		} else {
			if _, missing := x.(*MissingExpr); missing {
				p.unexpected([]string{","}, p.tok)
				p.bump()
			} else {
				c.Args = append(c.Args, x)
			}
			if len(c.Keywords) > 0 {
				p.errorAt(start, "positional argument follows keyword argument")
			}
		}
		if p.tok.kind == tComma {
			p.bump()
		}
		if multiline {
			p.skipNewlines()
		}
		p.stuck(mark)
	}
}

func (p *parser) subscript(x Expr, start token) Expr {
	s := &SubscriptExpr{X: x}
	if p.tok.kind == tQuestion {
		p.bump()
		s.Question = true
	}
	p.expect(tLBracket)
	var xs [5]Expr
	colons, index, consecutive := 0, 0, 0
	for round := 0; round <= 4 && p.tok.kind != tRBracket; round++ {
		if p.tok.kind == tColon {
			p.bump()
			colons++
			index++
			if colons > 2 {
				p.unexpected([]string{"expression", "]"}, p.tok)
			}
			consecutive--
			continue
		}
		if colons == 0 && round == 1 {
			p.errorAt(p.tok, "a list should have only one expr")
		}
		xs[index] = p.expr()
		if consecutive++; consecutive > 1 {
			p.errorAt(p.tok, "consecutive exprs found")
		}
	}
	p.expect(tRBracket)
	s.Span = p.from(start)
	if colons > 0 {
		s.Slice = true
		s.Lower, s.Upper, s.Step = xs[0], xs[1], xs[2]
		return s
	}
	if xs[0] == nil {
		p.errorAt(p.tok, "expected expression got "+p.describe(p.tok))
		xs[0] = p.missing()
	}
	s.Index = xs[0]
	return s
}
