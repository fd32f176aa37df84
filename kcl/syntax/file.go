// Package syntax turns KCL source text into a syntax tree.
//
// Parse never fails: it recovers from every error, reports all of them, and
// gives the best tree it can. All places are byte offsets into one File, from
// which line and column are computed when somebody asks. Comments are kept
// beside the tree for the formatter.
//
// The package knows nothing of types, packages or values.
package syntax

import (
	"sort"
	"sync"
	"unicode/utf8"
)

// Pos is a byte offset into a file.
type Pos int32

// Span is a range of bytes: Start up to but excluding End.
type Span struct{ Start, End Pos }

// Range implements Node.
func (s Span) Range() Span { return s }

// Node is anything in a tree that has a place.
type Node interface{ Range() Span }

// File is a source file with its tree.
type File struct {
	// Name is how diagnostics call the file, usually its full path.
	Name string
	Src  string
	// Doc is the leading long string, or nil.
	Doc      *Name
	Body     []Stmt
	Comments []*Comment
	Errors   []Error

	once  sync.Once
	lines []Pos
}

// Error is a lexical or syntactic error.
type Error struct {
	Span
	Msg string
	// Suggestions are replacements worth proposing.
	Suggestions []string
}

func (f *File) index() {
	f.lines = append(f.lines, 0)
	for i := 0; i < len(f.Src); i++ {
		if f.Src[i] == '\n' {
			f.lines = append(f.lines, Pos(i+1))
		}
	}
}

// Line is the 1-based line of p.
func (f *File) Line(p Pos) int {
	f.once.Do(f.index)
	return sort.Search(len(f.lines), func(i int) bool { return f.lines[i] > p })
}

// LineStart is where the line of p begins.
func (f *File) LineStart(p Pos) Pos { return f.lines[max(f.Line(p), 1)-1] }

// Position is the 1-based line and the 0-based column, in characters, of p.
func (f *File) Position(p Pos) (line, col int) {
	line = f.Line(p)
	if line == 0 {
		return 1, 0
	}
	start := f.lines[line-1]
	if int(p) > len(f.Src) {
		p = Pos(len(f.Src))
	}
	return line, utf8.RuneCountInString(f.Src[start:p])
}

// Text is the 1-based line without its end of line, or "".
func (f *File) Text(line int) string {
	f.once.Do(f.index)
	if line < 1 || line > len(f.lines) {
		return ""
	}
	end := len(f.Src)
	if line < len(f.lines) {
		end = int(f.lines[line]) - 1
	}
	text := f.Src[f.lines[line-1]:end]
	if n := len(text); n > 0 && text[n-1] == '\r' {
		text = text[:n-1]
	}
	return text
}
