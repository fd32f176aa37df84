package syntax

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// lexer turns part of a file into tokens. Indentation is tracked inside
// brackets too; the parser drops what it does not need there.
type lexer struct {
	p        *parser
	src      string
	pos, end int
	toks     []token
	delims   []kind
	indents  []indent
	fresh    bool // at the beginning of a line
	cur      indent
}

type indent struct{ tabs, spaces int }

// compare orders two indentations; ok is false when tabs and spaces disagree.
func (a indent) compare(b indent) (order int, ok bool) {
	switch {
	case a.tabs < b.tabs:
		return -1, a.spaces <= b.spaces
	case a.tabs > b.tabs:
		return 1, a.spaces >= b.spaces
	case a.spaces < b.spaces:
		return -1, true
	case a.spaces > b.spaces:
		return 1, true
	}
	return 0, true
}

func (p *parser) lex(from, to int) []token {
	l := &lexer{p: p, src: p.file.Src, pos: from, end: to, indents: make([]indent, 1, 8)}
	l.toks = make([]token, 0, (to-from)/4+8)
	l.run()
	return l.toks
}

func (l *lexer) peek(n int) byte {
	if l.pos+n < l.end {
		return l.src[l.pos+n]
	}
	return 0
}

func (l *lexer) rune() rune {
	if l.pos >= l.end {
		return 0
	}
	if c := l.src[l.pos]; c < utf8.RuneSelf {
		return rune(c)
	}
	r, _ := utf8.DecodeRuneInString(l.src[l.pos:l.end])
	return r
}

func (l *lexer) bump() {
	if l.pos >= l.end {
		return
	}
	if l.src[l.pos] < utf8.RuneSelf {
		l.pos++
		return
	}
	_, n := utf8.DecodeRuneInString(l.src[l.pos:l.end])
	l.pos += n
}

func (l *lexer) errorAt(from, to int, msg string, suggestions ...string) {
	l.p.report(Span{Pos(from), Pos(to)}, msg, suggestions...)
}

func (l *lexer) run() {
	for l.pos < l.end {
		c := l.src[l.pos]
		if l.fresh {
			switch c {
			case '\t':
				l.cur.tabs++
				l.pos++
				continue
			case ' ':
				l.cur.spaces++
				l.pos++
				continue
			case '#', '\n':
				l.cur = indent{}
			case '\r':
				l.pos++
				continue
			default:
				l.fresh = false
				before := len(l.toks)
				l.layout()
				mark := len(l.toks)
				if !l.one(c) {
					// The layout of a line that begins with nothing is lost.
					l.toks = append(l.toks[:before], l.toks[mark:]...)
				}
				continue
			}
		}
		l.one(c)
	}
	if !l.fresh {
		l.push(tNewline, l.pos, 0)
	}
	for ; len(l.indents) > 1; l.indents = l.indents[:len(l.indents)-1] {
		l.push(tDedent, l.pos, 0)
	}
	l.push(tEOF, l.pos, 0)
}

func (l *lexer) push(k kind, start int, lit int32) {
	l.toks = append(l.toks, token{k, Pos(start), Pos(l.pos), lit})
}

// layout compares the indentation of a line with those open and adds indent
// and dedent tokens.
func (l *lexer) layout() {
	in := l.cur
	l.cur = indent{}
	order, ok := in.compare(l.lastIndent())
	const mixed = "inconsistent use of tabs and spaces in indentation"
	if !ok {
		l.errorAt(l.pos, l.pos, mixed)
		return
	}
	if order > 0 {
		l.indents = append(l.indents, in)
		l.push(tIndent, l.pos, 0)
		return
	}
	var popped []indent
	for order != 0 {
		if order > 0 {
			diff := in.spaces - l.lastIndent().spaces
			if n := len(popped); n > 0 {
				l.indents = append(l.indents, popped[n-1])
				l.toks = l.toks[:len(l.toks)-1]
			}
			l.push(tDedent, l.pos, int32(diff))
			return
		}
		if n := len(l.indents); n > 0 {
			popped = append(popped, l.indents[n-1])
			l.indents = l.indents[:n-1]
		}
		l.push(tDedent, l.pos, 0)
		if order, ok = in.compare(l.lastIndent()); !ok {
			l.errorAt(l.pos, l.pos, mixed)
			return
		}
	}
}

func (l *lexer) lastIndent() indent {
	if len(l.indents) == 0 {
		l.errorAt(l.pos, l.pos, "mismatched indent level")
		l.indents = append(l.indents, indent{})
	}
	return l.indents[len(l.indents)-1]
}

func isIDStart(r rune) bool {
	return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= utf8.RuneSelf && unicode.IsLetter(r)
}

func isIDPart(r rune) bool {
	return isIDStart(r) || r >= '0' && r <= '9' ||
		r >= utf8.RuneSelf && unicode.In(r, unicode.Nd, unicode.Mn, unicode.Mc, unicode.Pc)
}

func (l *lexer) skipID() {
	for isIDPart(l.rune()) {
		l.bump()
	}
}

// one reads what begins with byte c and reports whether it gave a token.
func (l *lexer) one(c byte) bool {
	start := l.pos
	switch {
	case c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f':
		l.pos++
		return false
	case c == '\n':
		l.pos++
		l.fresh = true
		l.push(tNewline, start, 0)
		return true
	case c == '#':
		if i := strings.IndexByte(l.src[l.pos:l.end], '\n'); i >= 0 {
			l.pos += i
		} else {
			l.pos = l.end
		}
		l.push(tComment, start, 0)
		return true
	case (c == 'r' || c == 'R') && (l.peek(1) == '\'' || l.peek(1) == '"'):
		l.pos++
		l.str(start, true)
		return true
	case c == '\'' || c == '"':
		l.str(start, false)
		return true
	case c >= '0' && c <= '9':
		l.number(start)
		return true
	case c == '$' && l.dollarName():
		l.pos++
		l.skipID()
		l.push(tIdent, start, 0)
		return true
	case isIDStart(l.rune()):
		l.skipID()
		l.push(tIdent, start, int32(keywordOf(l.src[start:l.pos])))
		return true
	}
	return l.punctuation(c, start)
}

func (l *lexer) dollarName() bool {
	r, _ := utf8.DecodeRuneInString(l.src[l.pos+1 : l.end])
	return isIDStart(r)
}

func (l *lexer) punctuation(c byte, start int) bool {
	switch c {
	case '(', '[', '{':
		l.open(c)
		return true
	case ')', ']', '}':
		l.close(c)
		return true
	case '.':
		l.pos++
		if l.peek(0) == '.' && l.peek(1) == '.' {
			l.pos += 2
			l.push(tEllipsis, start, 0)
			return true
		}
		l.push(tDot, start, 0)
		return true
	case '\\':
		l.pos++
		if n := l.peek(0); n == '\n' || n == 0 {
			l.pos = min(l.pos+1, l.end)
			return false
		} else if n == '\r' && l.peek(1) == '\n' {
			l.pos += 2
			return false
		}
		l.errorAt(start, l.pos, "unexpected character after line continuation character")
		return false
	case ';':
		l.pos++
		l.errorAt(start, l.pos, "the semicolon ';' here is unnecessary, please remove it", "")
		return false
	case '!':
		l.pos++
		if l.peek(0) == '=' {
			l.pos++
			l.push(tNe, start, 0)
			return true
		}
		l.errorAt(start, l.pos, "invalid token '!', consider using 'not '", "not ")
		l.push(tNot, start, 0)
		return true
	}
	return l.operator(c, start)
}

var singles = map[byte]kind{
	'@': tAt, ',': tComma, ':': tColon, '$': tDollar, '?': tQuestion, '~': tTilde,
	'=': tAssign, '+': tPlus, '-': tMinus, '*': tStar, '/': tSlash, '%': tPercent,
	'^': tCaret, '&': tAmp, '|': tPipe, '<': tLt, '>': tGt,
}

func (l *lexer) operator(c byte, start int) bool {
	k, ok := singles[c]
	if !ok {
		l.bump()
		r, _ := utf8.DecodeRuneInString(l.src[start:l.end])
		if !unicode.IsSpace(r) && r != 0x200e && r != 0x200f {
			l.errorAt(start, l.pos, "unknown start of token")
		}
		return false
	}
	l.pos++
	if l.peek(0) == c {
		double := map[byte]kind{'*': tPower, '/': tFloorDiv, '<': tShl, '>': tShr, '=': tEq}[c]
		if double != 0 {
			k = double
			l.pos++
		}
	}
	if k != tEq && l.peek(0) == '=' {
		switch {
		case k.isBinary():
			k += tPlusEq - tPlus
			l.pos++
		case k == tLt || k == tGt:
			k++
			l.pos++
		}
	}
	if n := len(l.toks); k == tGt && n > 0 && l.toks[n-1].kind == tMinus {
		l.toks = l.toks[:n-1]
		l.push(tArrow, start-1, 0)
		return true
	}
	l.push(k, start, 0)
	return true
}

func (l *lexer) open(c byte) {
	start := l.pos
	l.pos++
	k := map[byte]kind{'(': tLParen, '[': tLBracket, '{': tLBrace}[c]
	l.delims = append(l.delims, k)
	l.push(k, start, 0)
}

func (l *lexer) close(c byte) {
	start := l.pos
	l.pos++
	k := map[byte]kind{')': tRParen, ']': tRBracket, '}': tRBrace}[c]
	msg := map[byte]string{
		')': "error nesting on close paren", '}': "error nesting on close brace",
		']': "mismatched closing delimiter",
	}[c]
	n := len(l.delims)
	if n == 0 {
		l.errorAt(start, l.pos, msg)
		l.push(k, start, 0)
		return
	}
	if want := l.delims[n-1] + 1; want != k {
		l.errorAt(start, l.pos, msg)
		k = want
	}
	l.delims = l.delims[:n-1]
	l.push(k, start, 0)
}

func (l *lexer) literal(k kind, start int, lit literal) {
	l.p.lits = append(l.p.lits, lit)
	l.push(k, start, int32(len(l.p.lits)-1))
}

// str reads a string from its quote on; start is where it or its r began.
func (l *lexer) str(start int, raw bool) {
	quotePos := l.pos
	quote := l.src[l.pos]
	l.pos++
	long := l.peek(0) == quote && l.peek(1) == quote
	if long {
		l.pos += 2
	}
	terminated := l.skipString(quote, long)
	tokEnd := l.pos
	if !terminated {
		l.errorAt(quotePos, l.pos, "unterminated string")
		long = false
	}
	width := 1
	if long {
		width = 3
	}
	from, to := quotePos+width, tokEnd-width
	if !terminated {
		to = tokEnd
	}
	var value string
	ok := from <= to
	if ok {
		value, ok = unquote(l.src[from:to], rune(quote), long, raw)
	}
	if !ok {
		l.errorAt(from, l.pos, "invalid string syntax")
	}
	l.literal(tStr, start, literal{value: value, long: long, raw: l.src[start:tokEnd]})
}

func (l *lexer) skipString(quote byte, long bool) bool {
	for l.pos < l.end {
		c := l.src[l.pos]
		l.bump()
		switch {
		case c == '\\' && (l.peek(0) == '\\' || l.peek(0) == quote):
			l.pos++
		case c == quote && !long:
			return true
		case c == quote:
			if l.peek(0) == quote && l.peek(1) == quote {
				l.pos += 2
				return true
			}
		case !long && (l.peek(0) == '\r' || l.peek(0) == '\n' || l.pos >= l.end):
			return false
		}
	}
	return false
}
