package syntax

import (
	"fmt"
)

// Binding strengths of operators, weakest first. Operators of one strength
// group to the left.
const (
	precLowest = iota
	precAs
	precOr
	precAnd
	precEquals
	precIn
	precIs
	precLess
	precBitOr
	precBitXor
	precBitAnd
	precShift
	precSum
	precProduct
	precPower
	precPrefix
)

func (p *parser) precedence() int {
	switch k := p.tok.kind; {
	case k == tPlus || k == tMinus:
		return precSum
	case k == tStar || k == tSlash || k == tPercent || k == tFloorDiv:
		return precProduct
	case k == tPower:
		return precPower
	case k == tCaret:
		return precBitXor
	case k == tAmp:
		return precBitAnd
	case k == tPipe:
		return precBitOr
	case k == tShl || k == tShr:
		return precShift
	case k == tEq || k == tNe:
		return precEquals
	case k.isComparison():
		return precLess
	case k == tTilde || k == tNot:
		return precPrefix
	case k != tIdent:
		return precLowest
	}
	switch keyword(p.tok.lit) {
	case kwAs:
		return precAs
	case kwOr:
		return precOr
	case kwAnd:
		return precAnd
	case kwIn:
		return precIn
	case kwIs:
		return precIs
	case kwNot:
		if p.peek(1).isWord(kwIn) {
			return precIn
		}
	}
	return precLowest
}

func (p *parser) expr() Expr {
	p.enter()
	defer p.leave()
	if p.tok.kind == tIndent {
		p.errorAt(p.tok, "unexpected token '"+p.describe(p.tok)+"'")
		p.bump()
	}
	start := p.tok
	x := p.binary(precLowest)
	if !p.is(kwIf) {
		return x
	}
	p.bump()
	e := &IfExpr{Body: x, Cond: p.binary(precLowest)}
	if p.is(kwElse) {
		p.bump()
		e.Else = p.expr()
	} else {
		p.unexpected([]string{"else"}, p.tok)
		e.Else = p.missing()
	}
	e.Span = p.from(start)
	return e
}

// binary parses operators that bind more strongly than prec.
func (p *parser) binary(prec int) Expr {
	p.enter()
	defer p.leave()
	outer := p.high
	p.high = 0
	defer func() { p.high = max(outer, p.high) }()
	start := p.tok
	x := p.unary()
	p.higher()
	var cmp *CompareExpr
	flush := func() {
		if cmp != nil {
			cmp.Span = p.from(start)
			x, cmp = cmp, nil
		}
	}
	for {
		op := p.precedence()
		if op <= prec {
			flush()
			return x
		}
		word, isCmp, ok := p.operator()
		if !ok {
			return x
		}
		y := p.binary(op)
		if isCmp {
			if cmp == nil {
				cmp = &CompareExpr{X: x}
			}
			cmp.Ops = append(cmp.Ops, word)
			cmp.Ys = append(cmp.Ys, y)
			continue
		}
		flush()
		p.higher()
		x = &BinaryExpr{p.from(start), x, word, y}
	}
}

// operator takes a binary operator.
func (p *parser) operator() (word string, isCompare, ok bool) {
	t := p.tok
	switch {
	case t.kind.isBinary():
		word = t.kind.String()
	case t.kind.isComparison():
		word, isCompare = t.kind.String(), true
	case t.kind == tIdent:
		word = keyword(t.lit).String()
		isCompare = t.isWord(kwIn) || t.isWord(kwIs) || t.isWord(kwNot)
		if t.isWord(kwNot) || t.isWord(kwIs) && p.peek(1).isWord(kwNot) {
			word += " " + keyword(p.peek(1).lit).String()
			p.bump()
		}
	default:
		p.unexpected(operatorWords, t)
		return "", false, false
	}
	p.bump()
	return word, isCompare, true
}

var operatorWords = []string{
	"+", "-", "*", "/", "%", "**", "//", "<<", ">>", "^", "&", "|", "and", "or", "as",
	"==", "!=", "<", "<=", ">", ">=", "is", "in", "not in", "not", "is not",
}

func (p *parser) unary() Expr {
	var op string
	switch {
	case p.tok.kind == tTilde, p.tok.kind == tPlus, p.tok.kind == tMinus:
		op = p.tok.kind.String()
	case p.tok.kind == tNot, p.is(kwNot):
		op = "not"
	default:
		return p.primary()
	}
	start := p.tok
	p.bump()
	x := p.primary()
	return &UnaryExpr{p.from(start), op, x}
}

func (p *parser) operand() Expr {
	start := p.tok
	switch p.tok.kind {
	case tIdent:
		switch k := keyword(p.tok.lit); k {
		case kwNoneLit, kwUndefined, kwTrue, kwFalse:
			p.bump()
			return &NameLit{p.from(start), k.String()}
		case kwLambda:
			return p.lambda()
		case kwAny, kwAll, kwMap, kwFilter:
			return p.quantifier()
		}
		id := p.identAt(start)
		switch p.tok.kind {
		case tLBrace:
			return p.schemaExpr(id, start)
		case tLParen:
			c := p.call(id)
			if p.tok.kind == tLBrace {
				return p.schemaExprWithArgs(c, start)
			}
			c.Span = p.from(start)
			return c
		}
		return id
	case tInt, tFloat:
		return p.number()
	case tStr:
		return p.str()
	case tLParen:
		p.bump()
		x := p.expr()
		p.expect(tRParen)
		return &ParenExpr{p.from(start), x}
	case tLBracket:
		p.bump()
		return p.list(start)
	case tLBrace:
		return p.config()
	}
	p.unexpected([]string{"identifier", "literal", "(", "[", "{"}, p.tok)
	return p.missing()
}

// quantWords is what upstream says it expects after `in` of a quantifier.
var quantWords = []string{"None", "Undefined", "lambda", "any", "all", "map", "filter"}

func (p *parser) quantifier() Expr {
	start := p.tok
	q := &QuantExpr{Op: keyword(p.tok.lit).String()}
	p.bump()
	q.Vars = []*Ident{p.ident()}
	if p.tok.kind == tComma {
		p.bump()
		q.Vars = append(q.Vars, p.ident())
	}
	if p.is(kwIn) {
		p.bump()
	} else {
		p.unexpected([]string{"in"}, p.tok)
	}
	q.Target = p.quantTarget()
	p.expect(tLBrace)
	multiline := p.tok.kind == tNewline
	if multiline {
		p.skipNewlines()
		p.expect(tIndent)
	}
	q.Test = p.binary(precLowest)
	if p.is(kwIf) {
		p.bump()
		q.Cond = p.expr()
	}
	if multiline {
		if p.tok.kind == tNewline {
			p.skipNewlines()
		} else {
			p.unexpected([]string{"newline"}, p.tok)
		}
		p.checkDedent()
		p.expect(tDedent)
	}
	p.expect(tRBrace)
	q.Span = p.from(start)
	return q
}

func (p *parser) quantTarget() Expr {
	start := p.tok
	switch p.tok.kind {
	case tIdent:
		switch keyword(p.tok.lit) {
		case kwNoneLit, kwUndefined, kwLambda, kwAny, kwAll, kwMap, kwFilter:
			p.unexpected(quantWords, p.tok)
			return p.missing()
		}
		return p.postfix(p.identAt(start), start, false)
	case tStr:
		return p.str()
	case tInt, tFloat:
		p.unexpected([]string{"string"}, p.tok)
		return p.missing()
	case tLBracket:
		p.bump()
		return p.list(start)
	case tLBrace:
		return p.config()
	case tLParen:
		p.unexpected([]string{"[", "{"}, p.tok)
		return p.missing()
	}
	p.unexpected([]string{"identifier", "literal"}, p.tok)
	return p.missing()
}

func (p *parser) schemaExpr(name *Ident, start token) *SchemaExpr {
	s := &SchemaExpr{Name: name, Config: p.config()}
	s.Span = p.from(start)
	return s
}

func (p *parser) schemaExprWithArgs(c *CallExpr, start token) *SchemaExpr {
	id, ok := c.Func.(*Ident)
	if !ok {
		p.unexpected([]string{"identifier"}, p.tok)
		id = &Ident{Span: c.Func.Range()}
	}
	s := p.schemaExpr(id, start)
	s.Args, s.Keywords = c.Args, c.Keywords
	return s
}

func (p *parser) lambda() Expr {
	start := p.tok
	p.bump()
	l := &LambdaExpr{}
	switch {
	case p.tok.kind == tLBrace && p.bracedParams():
		l.Params = p.params([]kind{tLBrace}, []kind{tRBrace}, true, true)
	case p.tok.kind != tArrow && !p.tok.kind.isOpen():
		l.Params = p.params(nil, []kind{tArrow, tLBrace}, false, false)
	}
	if p.tok.kind == tArrow {
		p.bump()
		l.Result = p.typ()
	}
	p.bumpKind(tLBrace)
	if p.tok.kind == tNewline {
		p.skipNewlines()
	}
	for {
		mark := p.next
		p.skipLayout()
		if p.tok.kind == tRBrace || p.tok.kind == tEOF {
			break
		}
		if s := p.stmt(); s != nil {
			l.Body = append(l.Body, s)
			p.skipNewlines()
		} else {
			p.bump()
		}
		p.stuck(mark)
	}
	p.bumpKind(tRBrace)
	l.Span = p.from(start)
	return l
}

// bracedParams reports whether the brace that opens here closes before an
// arrow.
func (p *parser) bracedParams() bool {
	depth := 1
	for i := 1; p.next+i-1 < len(p.toks); i++ {
		switch p.peek(i).kind {
		case tLBrace:
			depth++
		case tRBrace:
			if depth--; depth == 0 {
				return p.peek(i+1).kind == tArrow
			}
		}
	}
	return false
}

func (p *parser) identAt(start token) *Ident {
	id := p.ident()
	id.Span = p.from(start)
	return id
}

func (p *parser) name() Name {
	text := p.text(p.tok)
	if text[0] == '$' {
		text = text[1:]
	}
	return Name{Span{p.tok.start, p.tok.end}, text}
}

func (p *parser) ident() *Ident {
	start := p.tok
	if p.tok.kind != tIdent {
		p.unexpected([]string{"identifier"}, p.tok)
		at := Span{p.tok.start, p.tok.start}
		return &Ident{Span: at, Names: []Name{{at, ""}}}
	}
	id := &Ident{Names: []Name{p.name()}}
	p.bump()
	for p.tok.kind == tDot {
		if len(id.Names) >= maxDepth {
			p.errorAt(p.tok, fmt.Sprintf("a name of more than %d parts", maxDepth))
			panic(bailout{})
		}
		p.bump()
		if p.tok.kind == tIdent {
			id.Names = append(id.Names, p.name())
			p.bump()
			continue
		}
		p.unexpected([]string{"identifier"}, p.tok)
		id.Names = append(id.Names, Name{Span{p.tok.start, p.tok.start}, ""})
	}
	id.Span = p.from(start)
	return id
}

func (p *parser) missing() Expr { return &MissingExpr{Span{p.tok.start, p.tok.end}} }

func (p *parser) asIdent(x Expr, at token) *Ident {
	if id, ok := x.(*Ident); ok {
		return id
	}
	p.errorAt(at, "expected identifier")
	return &Ident{Span: x.Range()}
}
