package syntax

import "fmt"

// list parses a list whose bracket, open, has been taken.
func (p *parser) list(open token) Expr {
	if p.tok.kind == tNewline {
		p.skipNewlines()
		p.skipLayout()
	}
	if p.tok.kind == tRBracket {
		p.bump()
		return &ListExpr{Span: p.from(open)}
	}
	first := p.tok
	items := p.listItems()
	clauses := p.clauses()
	p.skipNewlines()
	p.skipLayout()
	p.expect(tRBracket)
	if len(clauses) == 0 {
		return &ListExpr{p.from(open), items}
	}
	if len(items) == 0 {
		p.errorAt(first, "missing list comp clause expression")
		return &ListExpr{Span: p.from(open)}
	}
	if len(items) > 1 {
		p.errorAt(first, fmt.Sprintf("multiple list comp clause expression found: expected 1, got %d", len(items)))
	}
	return &ListComp{p.from(open), items[0], clauses}
}

func (p *parser) listItems() []Expr {
	end := func() bool { return p.tok.kind == tRBracket || p.tok.kind == tEOF || p.is(kwFor) }
	if end() {
		return nil
	}
	items := []Expr{p.listItem()}
	if p.tok.kind == tComma {
		p.bump()
	}
	p.skipNewlines()
	for {
		mark := p.next
		p.skipLayout()
		if end() {
			return items
		}
		x := p.listItem()
		if _, missing := x.(*MissingExpr); missing {
			p.unexpected([]string{","}, p.tok)
			p.bump()
		} else {
			items = append(items, x)
		}
		if p.tok.kind == tComma {
			p.bump()
		}
		p.skipNewlines()
		p.stuck(mark)
	}
}

func (p *parser) listItem() Expr {
	start := p.tok
	switch {
	case p.tok.kind == tStar:
		p.bump()
		x := p.expr()
		return &StarredExpr{p.from(start), x}
	case p.is(kwIf):
		return p.listIf()
	}
	return p.expr()
}

func (p *parser) listIf() Expr {
	p.enter()
	defer p.leave()
	start := p.tok
	p.bump()
	top := &ListIfItem{Cond: p.expr()}
	p.bumpKind(tColon)
	multiline := p.tok.kind == tNewline
	top.Items = p.listBlock(multiline)
	p.skipNewlines()
	var elifs []*ListIfItem
	for p.is(kwElif) {
		at := p.tok
		p.bump()
		e := &ListIfItem{Cond: p.expr()}
		p.bumpKind(tColon)
		multiline = multiline || p.tok.kind == tNewline
		e.Items = p.listBlock(multiline)
		e.Span = p.from(at)
		elifs = append(elifs, e)
	}
	p.skipNewlines()
	if p.is(kwElse) {
		at := p.tok
		p.bump()
		p.bumpKind(tColon)
		multiline = multiline || p.tok.kind == tNewline
		items := p.listBlock(multiline)
		top.Else = &ListExpr{p.from(at), items}
	}
	for i := len(elifs) - 1; i >= 0; i-- {
		elifs[i].Else = top.Else
		top.Else = elifs[i]
	}
	top.Span = p.from(start)
	return top
}

func (p *parser) listBlock(multiline bool) []Expr {
	if !multiline {
		return []Expr{p.listItem()}
	}
	p.skipNewlines()
	p.bumpKind(tIndent)
	var items []Expr
	for {
		mark := p.next
		p.checkDedent()
		if p.isDedent() || p.tok.kind == tEOF {
			break
		}
		items = append(items, p.listItem())
		if p.tok.kind == tComma {
			p.bump()
		}
		p.skipNewlines()
		p.stuck(mark)
	}
	p.checkDedent()
	p.bumpKind(tDedent)
	return items
}

func (p *parser) config() Expr {
	p.enter()
	defer p.leave()
	open := p.tok
	p.bump()
	if p.tok.kind == tRBrace {
		p.bump()
		return &ConfigExpr{Span: p.from(open)}
	}
	multiline := p.tok.kind == tNewline
	if multiline {
		p.skipNewlines()
		p.skipLayout()
		if p.tok.kind == tRBrace {
			p.bump()
			return &ConfigExpr{Span: p.from(open)}
		}
	}
	first := p.tok
	items := p.entries(multiline)
	clauses := p.clauses()
	p.skipNewlines()
	p.skipLayout()
	p.expect(tRBrace)
	if len(clauses) == 0 {
		return &ConfigExpr{p.from(open), items}
	}
	if len(items) == 0 {
		p.errorAt(first, "missing config comp clause expression")
		return &ConfigExpr{Span: p.from(open)}
	}
	if len(items) > 1 {
		p.errorAt(first, fmt.Sprintf("multiple config comp clause expression found: expected 1, got %d", len(items)))
	}
	return &DictComp{p.from(open), items[0], clauses}
}

func (p *parser) entries(multiline bool) []*ConfigEntry {
	end := func() bool {
		return p.tok.kind == tRBrace || p.tok.kind == tEOF || p.tok.kind == tNewline && !multiline || p.is(kwFor)
	}
	if end() {
		return nil
	}
	var list []*ConfigEntry
	for first := true; ; first = false {
		mark := p.next
		if !first {
			p.skipLayout()
			if end() {
				return list
			}
		}
		list = append(list, p.entry())
		if p.tok.kind == tComma {
			p.bump()
		}
		if multiline {
			p.skipNewlines()
		}
		if !first {
			p.stuck(mark)
		}
	}
}

func (p *parser) entry() *ConfigEntry {
	start := p.tok
	e := &ConfigEntry{Op: ":"}
	switch {
	case p.tok.kind == tPower:
		p.bump()
		e.Value = p.expr()
	case p.is(kwIf):
		e.Value = p.configIf()
	default:
		e.Key = p.expr()
		if p.tok.kind == tColon || p.tok.kind == tAssign || p.tok.kind == tPlusEq {
			e.Op = p.tok.kind.String()
		} else {
			p.unexpected([]string{":", "=", "+="}, p.tok)
			e.Op = "="
		}
		p.bump()
		e.Value = p.expr()
	}
	e.Span = p.from(start)
	return e
}

func (p *parser) clauses() []*CompClause {
	var list []*CompClause
	for p.is(kwFor) {
		start := p.tok
		p.bump()
		c := &CompClause{Targets: []*Ident{p.ident()}}
		for p.tok.kind == tComma {
			p.bump()
			c.Targets = append(c.Targets, p.ident())
		}
		if !p.is(kwIn) {
			p.unexpected([]string{"in"}, p.tok)
		}
		p.bump()
		c.Iter = p.binary(precLowest)
		p.skipNewlines()
		for p.is(kwIf) {
			p.bump()
			c.Ifs = append(c.Ifs, p.expr())
		}
		c.Span = p.from(start)
		list = append(list, c)
	}
	return list
}

func (p *parser) configIf() Expr {
	p.enter()
	defer p.leave()
	start := p.tok
	p.bump()
	top := &ConfigIfEntry{Cond: p.expr()}
	p.bumpKind(tColon)
	top.Items = p.configBlock(p.tok.kind == tNewline)
	p.skipNewlines()
	multiline := false
	last := p.tok
	var elifs []*ConfigIfEntry
	for p.is(kwElif) {
		at := p.tok
		p.bump()
		e := &ConfigIfEntry{Cond: p.expr()}
		p.bumpKind(tColon)
		multiline = multiline || p.tok.kind == tNewline
		e.Items = p.configBlock(multiline)
		e.Span = p.from(at)
		last = p.prev
		elifs = append(elifs, e)
	}
	p.skipNewlines()
	if p.is(kwElse) {
		at := p.tok
		p.bump()
		p.bumpKind(tColon)
		items := p.configBlock(p.tok.kind == tNewline)
		top.Else = &ConfigExpr{p.from(at), items}
		last = p.prev
	}
	if p.tok.kind == tComma {
		p.bump()
	}
	p.skipNewlines()
	for i := len(elifs) - 1; i >= 0; i-- {
		elifs[i].Else = top.Else
		top.Else = elifs[i]
	}
	top.Span = Span{start.start, max(last.end, start.end)}
	return top
}

func (p *parser) configBlock(multiline bool) []*ConfigEntry {
	var items []*ConfigEntry
	if !multiline {
		p.blockEntry(&items, false)
		return items
	}
	p.skipNewlines()
	p.bumpKind(tIndent)
	for p.blockEntry(&items, true) {
		if p.tok.kind == tEOF {
			p.bump()
			break
		}
		if p.tok.kind == tComma {
			p.bump()
		}
		p.skipNewlines()
	}
	p.skipNewlines()
	return items
}

// blockEntry parses one entry under `if` and reports whether more may follow.
func (p *parser) blockEntry(items *[]*ConfigEntry, multiline bool) bool {
	mark := p.next
	if multiline && p.isDedent() {
		p.bump()
		return false
	}
	if !multiline && p.tok.kind == tNewline || p.is(kwElif) || p.is(kwElse) {
		return false
	}
	if p.is(kwIf) {
		x := p.configIf()
		*items = append(*items, &ConfigEntry{x.Range(), nil, x, "="})
		return true
	}
	p.checkDedent()
	if p.isDedent() || p.tok.kind == tNewline {
		return false
	}
	if p.tok.kind == tPower {
		p.bump()
		x := p.primary()
		*items = append(*items, &ConfigEntry{x.Range(), nil, x, "="})
		return true
	}
	key := p.expr()
	op := "="
	if p.tok.kind == tColon || p.tok.kind == tAssign || p.tok.kind == tPlusEq {
		op = p.tok.kind.String()
		p.bump()
	} else {
		p.unexpected([]string{":", "=", "+="}, p.tok)
	}
	v := p.expr()
	*items = append(*items, &ConfigEntry{Span{key.Range().Start, v.Range().End}, key, v, op})
	p.stuck(mark)
	return true
}
