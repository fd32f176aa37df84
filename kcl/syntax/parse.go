package syntax

import (
	"fmt"
	"strings"
)

// Limits that no sensible program meets.
const (
	maxDepth  = 1000
	maxHeight = 20_000
	maxErrors = 500
)

// Parse reads one file. It always gives a tree; File.Errors holds what was
// wrong, in the order in which it was met. Name.Text of an identifier written
// as $name is without the dollar sign; its Span has it.
func Parse(name, src string) *File {
	p := &parser{file: &File{Name: name, Src: src}}
	p.run(func() {
		p.toks = p.prepare(p.lex(0, len(src)))
		p.bump()
		p.file.Doc = p.doc()
		for p.tok.kind != tEOF {
			if s := p.stmt(); s != nil {
				p.file.Body = append(p.file.Body, s)
			} else {
				p.bump()
			}
		}
	})
	return p.file
}

// ParseExpr reads a single expression, such as an override on the command
// line. It fails on anything that follows.
func ParseExpr(name, src string) (Expr, *File) {
	p := &parser{file: &File{Name: name, Src: src}}
	var x Expr = &MissingExpr{}
	p.run(func() {
		p.toks = p.prepare(p.lex(0, len(src)))
		p.bump()
		x = p.expr()
		p.skipNewlines()
		if p.tok.kind != tEOF {
			p.unexpected([]string{"newline"}, p.tok)
		}
	})
	return x, p.file
}

type parser struct {
	file      *File
	toks      []token
	lits      []literal
	next      int
	tok, prev token
	depth     int
	// high is the height of the highest expression parsed so far as part of the
	// one being parsed. Chains such as a + b + c and a.b().c make trees higher than
	// the source is nested, and whoever walks them needs the stack.
	high int
	// known holds the errors reported, since each is told once.
	known map[string]bool
	// repeats counts reports that were not new; many in a row mean that
	// recovery makes no progress.
	repeats int
}

// bailout ends a hopeless parse.
type bailout struct{}

func (p *parser) run(f func()) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(bailout); !ok {
				panic(r)
			}
		}
	}()
	f()
}

// prepare takes the comments out and ends the file with a newline.
func (p *parser) prepare(toks []token) []token {
	out := make([]token, 0, len(toks)+1)
	for i, t := range toks {
		switch t.kind {
		case tComment:
			p.file.Comments = append(p.file.Comments, &Comment{Span{t.start, t.end}, p.text(t)})
			continue
		case tEOF:
			if i == 0 || toks[i-1].kind != tNewline {
				out = append(out, token{tNewline, t.start, t.end, 0})
			}
		}
		out = append(out, t)
	}
	return out
}

func (p *parser) report(at Span, msg string, suggestions ...string) {
	key := fmt.Sprintf("%d %s", at.Start, msg)
	if p.known == nil {
		p.known = map[string]bool{}
	}
	if p.known[key] {
		if p.repeats++; p.repeats > maxErrors {
			panic(bailout{})
		}
		return
	}
	p.repeats = 0
	p.known[key] = true
	p.file.Errors = append(p.file.Errors, Error{at, msg, suggestions})
	if len(p.file.Errors) >= maxErrors {
		panic(bailout{})
	}
}

func (p *parser) errorAt(t token, msg string) { p.report(Span{t.start, t.end}, msg) }

// unexpected reports that t is none of the expected.
func (p *parser) unexpected(expected []string, t token) {
	p.errorAt(t, "expected one of ["+quoteAll(expected)+"] got "+p.describe(t))
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = `"` + w + `"`
	}
	return strings.Join(quoted, ", ")
}

// describe names a token as messages do: literals by their content.
func (p *parser) describe(t token) string {
	switch t.kind {
	case tStr:
		return p.lits[t.lit].value
	case tInt, tFloat:
		return p.lits[t.lit].value + p.lits[t.lit].suffix
	}
	return t.kind.String()
}

func (p *parser) text(t token) string { return p.file.Src[t.start:t.end] }

func (p *parser) bump() {
	p.prev = p.tok
	if p.next < len(p.toks) {
		p.tok = p.toks[p.next]
		p.next++
	}
}

// peek is the token n after the current one, or the last.
func (p *parser) peek(n int) token {
	if i := p.next + n - 1; i < len(p.toks) {
		return p.toks[i]
	}
	return token{kind: tEOF, start: p.tok.end, end: p.tok.end}
}

func (p *parser) is(k keyword) bool { return p.tok.kind == tIdent && keyword(p.tok.lit) == k }

func (t token) isWord(k keyword) bool { return t.kind == tIdent && keyword(t.lit) == k }

// bumpKind takes the token even when it is another one.
func (p *parser) bumpKind(k kind) {
	if p.tok.kind != k {
		p.unexpected([]string{k.String()}, p.tok)
	}
	p.bump()
}

// expect takes the token only when it is the one.
func (p *parser) expect(k kind) {
	if p.tok.kind == k {
		p.bump()
		return
	}
	p.unexpected([]string{k.String()}, p.tok)
}

func (p *parser) isDedent() bool { return p.tok.kind == tDedent && p.tok.lit == 0 }

func (p *parser) skipNewlines() {
	for p.tok.kind == tNewline {
		p.bump()
	}
}

// skipLayout drops indents and then dedents, which mean nothing in brackets.
func (p *parser) skipLayout() {
	for p.tok.kind == tIndent {
		p.bump()
	}
	for p.tok.kind == tDedent {
		p.bump()
	}
}

func (p *parser) checkDedent() {
	if p.tok.kind != tDedent || p.tok.lit == 0 {
		return
	}
	unit := "spaces"
	if p.tok.lit == 1 {
		unit = "space"
	}
	p.errorAt(p.tok, fmt.Sprintf("invalid indentation with %d %s, try to align indents by adding or removing spaces", p.tok.lit, unit))
	p.bump()
}

// stuck drops a token when nothing was taken since mark.
func (p *parser) stuck(mark int) {
	if mark != p.next {
		return
	}
	p.errorAt(p.tok, "expected expression, got "+p.describe(p.tok))
	p.bump()
}

func (p *parser) from(t token) Span { return Span{t.start, max(p.prev.end, t.start)} }

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.errorAt(p.tok, fmt.Sprintf("nested more than %d levels deep", maxDepth))
		panic(bailout{})
	}
}

func (p *parser) leave() { p.depth-- }

// higher notes one more level above what was parsed.
func (p *parser) higher() {
	if p.high++; p.high > maxHeight {
		p.errorAt(p.tok, fmt.Sprintf("an expression of more than %d operators and calls in a row", maxHeight))
		panic(bailout{})
	}
}
