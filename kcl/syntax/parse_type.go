package syntax

import "strconv"

func (p *parser) typ() Type {
	p.enter()
	defer p.leave()
	start := p.tok
	first := p.typeElement()
	if p.tok.kind != tPipe {
		return first
	}
	u := &UnionType{Types: []Type{first}}
	for p.tok.kind == tPipe {
		p.bump()
		u.Types = append(u.Types, p.typeElement())
	}
	u.Span = p.from(start)
	return u
}

func (p *parser) namedType(id *Ident) Type {
	if len(id.Names) == 1 {
		switch id.Names[0].Text {
		case "any", "int", "float", "str", "bool":
			return &BasicType{id.Span, id.Names[0].Text}
		}
	}
	return &NamedType{id.Span, id}
}

func (p *parser) typeElement() Type {
	start := p.tok
	switch p.tok.kind {
	case tIdent:
		switch k := keyword(p.tok.lit); k {
		case kwAny, kwBool, kwInt, kwFloat, kwStr:
			p.bump()
			return &BasicType{p.from(start), k.String()}
		case kwTrue, kwFalse:
			p.bump()
			return &LiteralType{Span: p.from(start), Value: k == kwTrue}
		}
		id := p.ident()
		id.Span = p.from(start)
		return &NamedType{id.Span, id}
	case tInt, tFloat, tStr:
		return p.literalType()
	case tLBracket:
		p.bump()
		t := &ListType{}
		if p.tok.kind == tRBracket {
			p.bump()
		} else {
			t.Item = p.typ()
			p.bumpKind(tRBracket)
		}
		t.Span = p.from(start)
		return t
	case tLBrace:
		return p.dictType()
	case tLParen:
		return p.funcType()
	}
	p.unexpected([]string{"any", "bool", "int", "float", "str", "True", "False", "identifier", "literal", "[", "{", ")"}, p.tok)
	p.bump()
	return &BasicType{p.from(start), "any"}
}

func (p *parser) literalType() Type {
	start := p.tok
	lit := p.lits[start.lit]
	t := &LiteralType{Suffix: lit.suffix}
	switch start.kind {
	case tInt:
		v, ok := parseInt(lit.value)
		if !ok {
			p.unexpected([]string{"integer"}, start)
		}
		t.Value = v
	case tFloat:
		v, _ := strconv.ParseFloat(cleanFloat(lit.value), 64)
		t.Value = v
	default:
		t.Value = lit.value
	}
	p.bump()
	t.Span = p.from(start)
	return t
}

func (p *parser) dictType() Type {
	start := p.tok
	p.bump()
	t := &DictType{}
	if p.tok.kind != tColon {
		t.Key = p.typ()
	}
	p.bumpKind(tColon)
	if p.tok.kind != tRBrace {
		t.Value = p.typ()
	}
	p.bumpKind(tRBrace)
	t.Span = p.from(start)
	return t
}

func (p *parser) funcType() Type {
	start := p.tok
	p.bump()
	t := &FuncType{}
	for p.tok.kind != tRParen && p.tok.kind != tEOF {
		t.Params = append(t.Params, p.typ())
		if p.tok.kind == tComma {
			p.bump()
		}
	}
	p.bumpKind(tRParen)
	if p.tok.kind == tArrow {
		p.bump()
		t.Result = p.typ()
	}
	t.Span = p.from(start)
	return t
}
