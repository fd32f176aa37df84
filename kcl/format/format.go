// Package format writes KCL source in the one style that everybody's program
// has: the layout of upstream's formatter (kcl-lang/kcl crates/ast_pretty),
// byte for byte, except that numbers keep the form in which they are written.
//
// The package knows syntax trees, nothing of files or meaning.
package format

import (
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kcl/syntax"
)

// Options choose the indentation.
type Options struct {
	// Tabs indents by one tab a level instead of spaces.
	Tabs bool
	// Width is the number of spaces of a level, 4 when it is 0.
	Width int
}

// Error is a syntax error that keeps a source from being formatted.
type Error struct {
	File      string
	Line, Col int // both 1-based
	Msg       string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg) }

// maxPasses bounds how often a text is formatted until it stays the same.
const maxPasses = 4

// Source formats the text of one file, until formatting changes nothing any
// more. A text with a syntax error is not formatted: the answer is then an
// *Error for the first one.
func Source(name, src string, o Options) (string, error) {
	f := syntax.Parse(name, src)
	if len(f.Errors) > 0 {
		line, col := f.Position(f.Errors[0].Start)
		return "", &Error{name, line, col + 1, f.Errors[0].Msg}
	}
	text := File(f, o)
	for range maxPasses - 1 {
		f = syntax.Parse(name, text)
		if len(f.Errors) > 0 {
			e := f.Errors[0]
			return "", &Error{name, f.Line(e.Start), 1, "the formatted text would be no program, so nothing is changed: " + e.Msg}
		}
		next := File(f, o)
		if next == text {
			break
		}
		text = next
	}
	return text, nil
}

// File formats a syntax tree.
func File(f *syntax.File, o Options) string {
	if o.Width <= 0 {
		o.Width = 4
	}
	p := &printer{file: f, unit: strings.Repeat(" ", o.Width), comments: f.Comments}
	if o.Tabs {
		p.unit = "\t"
	}
	if f.Doc != nil {
		p.write(f.Doc.Text + "\n\n")
	}
	p.stmts(f.Body)
	p.trailing(f.Body)
	text := strings.TrimRight(p.out.String(), "\n")
	if text == "" {
		return ""
	}
	return text + "\n"
}

// trailing writes the comments after the last statement, set off by a blank
// line where they were.
func (p *printer) trailing(body []syntax.Stmt) {
	last := 0
	if n := len(body); n > 0 {
		last = p.endLine(body[n-1])
	}
	for i, c := range p.comments {
		line := p.commentLine(i)
		if last > 0 && line >= last+2 {
			p.write("\n")
		}
		p.write(c.Text + "\n")
		last = line
	}
}

// printer writes a tree. Comments are kept in a queue and written before the
// first node that begins on their line or later.
type printer struct {
	file     *syntax.File
	out      strings.Builder
	unit     string
	indent   int
	comments []*syntax.Comment
	// last is the greatest line of a node written so far.
	last int
	// ends are the last lines of the expressions being written.
	ends []int
}

func (p *printer) write(s string) { p.out.WriteString(s) }

// fill writes the indentation and s.
func (p *printer) fill(s string) {
	for range p.indent {
		p.write(p.unit)
	}
	p.write(s)
}

// newline ends the line and begins the next with its indentation.
func (p *printer) newline() {
	p.write("\n")
	p.fill("")
}

func (p *printer) enter() {
	p.indent++
	p.newline()
}

func (p *printer) leave() {
	p.indent--
	p.newline()
}

func (p *printer) line(n syntax.Node) int { return p.file.Line(n.Range().Start) }

func (p *printer) endLine(n syntax.Node) int {
	r := n.Range()
	return p.file.Line(max(r.Start, r.End-1))
}

func (p *printer) commentLine(i int) int { return p.file.Line(p.comments[i].Start) }

// hasComments reports whether a comment waits to be written before n.
func (p *printer) hasComments(n syntax.Node) bool {
	return len(p.comments) > 0 && p.commentLine(0) <= p.line(n)
}

// before writes the comments that stand before n.
func (p *printer) before(n syntax.Node) {
	line := p.line(n)
	if line <= p.last {
		return
	}
	p.last = line
	for len(p.comments) > 0 && p.commentLine(0) <= line {
		at := p.commentLine(0)
		p.write(p.comments[0].Text)
		p.newline()
		p.comments = p.comments[1:]
		if len(p.comments) > 0 {
			if next := p.commentLine(0); next <= line && next >= at+2 {
				p.newline()
			}
		}
	}
}

// until writes the comments up to a line, each on a line of its own: those
// after the last item of a collection.
func (p *printer) until(line int) {
	for len(p.comments) > 0 && line > 0 && p.commentLine(0) <= line {
		at := p.commentLine(0)
		p.write("\n")
		p.fill(p.comments[0].Text)
		p.comments = p.comments[1:]
		if len(p.comments) > 0 {
			if next := p.commentLine(0); next >= at+2 && next <= line {
				p.write("\n")
			}
		}
		p.last = max(p.last, at)
	}
}

// between calls f for n items with sep between them.
func between(n int, sep func(), f func(i int)) {
	for i := range n {
		if i > 0 {
			sep()
		}
		f(i)
	}
}

func (p *printer) comma() { p.write(", ") }

// name is a name as it was written: with the dollar sign that lets a keyword
// be a name.
func (p *printer) name(n syntax.Name) string {
	if n.Start < n.End && p.file.Src[n.Start] == '$' {
		return "$" + n.Text
	}
	return n.Text
}

// ident is an identifier as it was written.
func (p *printer) ident(id *syntax.Ident) string {
	parts := make([]string, len(id.Names))
	for i, n := range id.Names {
		parts[i] = p.name(n)
	}
	return strings.Join(parts, ".")
}
