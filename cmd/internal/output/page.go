package output

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Colour of a piece of text.
type Colour string

// The colours, and what they stand for.
const (
	Plain  Colour = ""
	Bold   Colour = "1"
	Faint  Colour = "2"
	Red    Colour = "31" // failed
	Green  Colour = "32" // good
	Yellow Colour = "33" // attention
	Blue   Colour = "34" // under way
)

// style says whether colours are on.
type style bool

func (s style) paint(c Colour, text string) string {
	if !s || c == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Page is a result in the making, in text form.
type Page struct {
	style style
	b     bytes.Buffer
}

// Paint colours a piece of text, when colours are on.
func (p *Page) Paint(c Colour, text string) string { return p.style.paint(c, text) }

// Line adds a line.
func (p *Page) Line(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

// Write adds text as it is.
func (p *Page) Write(b []byte) (int, error) { return p.b.Write(b) }

// String returns what was written so far.
func (p *Page) String() string { return p.b.String() }

// Table adds rows in columns that are as wide as their widest cell. Headings may be nil.
func (p *Page) Table(headings []string, rows [][]Cell) {
	if headings != nil {
		head := make([]Cell, len(headings))
		for i, h := range headings {
			head[i] = Cell{strings.ToUpper(h), Faint}
		}
		rows = append([][]Cell{head}, rows...)
	}
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(oneLine(c.Text)))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, c := range row {
			text := oneLine(c.Text)
			line.WriteString(p.style.paint(c.Colour, text))
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2))
			}
		}
		p.Line("%s", strings.TrimRight(line.String(), " "))
	}
}

// Cell is one field of a table.
type Cell struct {
	Text   string
	Colour Colour
}

// Row makes cells without colour.
func Row(texts ...string) []Cell {
	row := make([]Cell, len(texts))
	for i, t := range texts {
		row[i].Text = t
	}
	return row
}

// oneLine replaces what would break a line, or steer the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}
