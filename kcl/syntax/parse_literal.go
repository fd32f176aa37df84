package syntax

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
)

func (p *parser) number() Expr {
	start := p.tok
	lit := p.lits[start.lit]
	n := &NumberLit{}
	if start.kind == tInt {
		v, ok := parseInt(lit.value)
		if !ok {
			p.unexpected([]string{"integer"}, start)
		}
		n.Int = v
		if lit.suffix != "i" {
			n.Suffix = lit.suffix
		}
	} else {
		v, err := strconv.ParseFloat(lit.value, 64)
		if err != nil && !math.IsInf(v, 0) {
			p.unexpected([]string{"float"}, start)
		}
		n.IsFloat, n.Float = true, v
	}
	p.bump()
	n.Span = p.from(start)
	return n
}

func cleanFloat(s string) string { return strings.ReplaceAll(s, "_", "") }

// parseInt reads an integer in any base, with single underscores between
// digits. 1<<63 is let through, since a minus may stand before it.
func parseInt(s string) (int64, bool) {
	base := uint64(10)
	if len(s) > 1 && s[0] == '0' {
		switch s[1] {
		case 'x', 'X':
			base, s = 16, s[2:]
		case 'b', 'B':
			base, s = 2, s[2:]
		case 'o', 'O':
			base, s = 8, s[2:]
		default:
			base, s = 8, s[1:]
		}
		s = strings.TrimPrefix(s, "_")
	}
	if s == "" || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
		return 0, false
	}
	var v uint64
	for _, c := range s {
		if c == '_' {
			continue
		}
		d := uint64(digit(c))
		hi, lo := bits.Mul64(v, base)
		if d >= base || hi != 0 || lo+d < lo {
			return 0, false
		}
		v = lo + d
	}
	return int64(v), v <= 1<<63
}

// str parses a string literal and its interpolations.
func (p *parser) str() Expr {
	start := p.tok
	lit := p.lits[start.lit]
	value := lit.value
	if lit.long {
		value = dedent(value)
	}
	p.bump()
	span := p.from(start)
	if c := lit.raw[0]; c != 'r' && c != 'R' && strings.Contains(value, "${") {
		return p.joined(span, lit, value)
	}
	return &StringLit{span, value, lit.raw, lit.long}
}

func (p *parser) joined(span Span, lit literal, value string) Expr {
	p.enter()
	defer p.leave()
	j := &JoinedString{Span: span, Raw: lit.raw, Long: lit.long}
	quote := 1
	if lit.long {
		quote = 3
	}
	raw := lit.raw[:max(len(lit.raw)-quote, 0)]
	rawOff, off := quote, 0
	text := func(value, raw string) {
		j.Parts = append(j.Parts, &StringLit{Span: span, Value: value, Raw: raw})
	}
	for rawOff < len(raw) && off < len(value) {
		ri, vi := strings.Index(raw[rawOff:], "${"), strings.Index(value[off:], "${")
		if ri < 0 || vi < 0 {
			text(value[off:], raw[rawOff:])
			break
		}
		rj, vj := strings.IndexByte(raw[rawOff+ri:], '}'), strings.IndexByte(value[off+vi:], '}')
		if rj < 0 || vj < 0 {
			p.errorAt(p.tok, "invalid joined string")
			text(value[off:], raw[rawOff:])
			break
		}
		rawLo, rawHi := rawOff+ri, rawOff+ri+rj+1
		lo, hi := off+vi, off+vi+vj+1
		if rawLo > rawOff && raw[rawLo-1] == '\\' {
			text(strings.ReplaceAll(value[off:hi], `\$`, "$"), raw[rawOff:rawHi])
		} else {
			if lo > off {
				text(value[off:lo], raw[rawOff:rawLo])
			}
			j.Parts = append(j.Parts, p.formatted(int(span.Start)+rawLo, int(span.Start)+rawHi))
		}
		rawOff, off = rawHi, hi
	}
	return j
}

// formatted parses the source between from and to, which is `${...}`.
func (p *parser) formatted(from, to int) Expr {
	src := p.file.Src[from+2 : to-1]
	if src == "" {
		p.report(Span{Pos(from), Pos(to)}, "invalid string interpolation expression: ''")
	}
	sub := &parser{file: p.file, lits: p.lits, known: p.known, depth: p.depth, repeats: p.repeats}
	sub.toks = sub.lex(from+2, to-1)
	sub.bump()
	f := &FormattedValue{Span: Span{Pos(from + 2), Pos(to - 1)}}
	f.X = sub.expr()
	if sub.tok.kind == tColon {
		sub.bump()
		if sub.tok.kind == tComment {
			f.Spec = strings.TrimSpace(sub.text(sub.tok))
		} else {
			sub.errorAt(sub.tok, "invalid joined string spec without #")
		}
		sub.bump()
	}
	sub.skipNewlines()
	if src != "" && sub.next < len(sub.toks) {
		sub.report(f.Span, "invalid string interpolation expression: '"+src+"'")
	}
	p.lits, p.known, p.repeats = sub.lits, sub.known, sub.repeats
	return f
}

// asTarget turns an expression into what an assignment can assign to, or says
// why it cannot.
func asTarget(x Expr) (*Target, string) {
	path, msg := targetPath(x)
	if msg != "" {
		return nil, msg
	}
	if len(path) == 0 || path[0].Name == nil {
		return nil, illegalTarget(x)
	}
	return &Target{x.Range(), *path[0].Name, path[1:]}, ""
}

func illegalTarget(x Expr) string {
	return "'" + exprName(x) + "' is an illegal expression for assignment"
}

func targetPath(x Expr) ([]Member, string) {
	const why = ", because the left-hand side of an assignment expression may not be "
	switch x := x.(type) {
	case *Ident:
		return members(x), ""
	case *SelectorExpr:
		if x.Question {
			return nil, illegalTarget(x) + why + "an optional attribute access."
		}
		path, msg := targetPath(x.X)
		return append(path, members(x.Attr)...), msg
	case *SubscriptExpr:
		if x.Question {
			return nil, illegalTarget(x) + why + "an optional subscript access."
		}
		path, msg := targetPath(x.X)
		if msg == "" && x.Index == nil {
			msg = illegalTarget(x) + why + "a slice access."
		}
		return append(path, Member{Index: x.Index}), msg
	}
	return nil, illegalTarget(x)
}

func members(id *Ident) []Member {
	out := make([]Member, len(id.Names))
	for i := range id.Names {
		out[i].Name = &id.Names[i]
	}
	return out
}

func exprName(x Expr) string {
	switch x.(type) {
	case *Ident:
		return "IdentifierExpression"
	case *UnaryExpr:
		return "UnaryExpression"
	case *BinaryExpr:
		return "BinaryExpression"
	case *IfExpr:
		return "IfExpression"
	case *SelectorExpr:
		return "SelectorExpression"
	case *CallExpr:
		return "CallExpression"
	case *ParenExpr:
		return "ParenExpression"
	case *QuantExpr:
		return "QuantExpression"
	case *ListExpr:
		return "ListExpression"
	case *ListComp:
		return "ListCompExpression"
	case *DictComp:
		return "DictCompExpression"
	case *SchemaExpr:
		return "SchemaExpression"
	case *ConfigExpr:
		return "ConfigExpression"
	case *LambdaExpr:
		return "LambdaExpression"
	case *SubscriptExpr:
		return "SubscriptExpression"
	case *CompareExpr:
		return "CompareExpression"
	case *NumberLit:
		return "NumberLitExpression"
	case *StringLit:
		return "StringLitExpression"
	case *NameLit:
		return "NameConstantLitExpression"
	case *JoinedString:
		return "JoinedStringExpression"
	}
	return "MissingExpression"
}
