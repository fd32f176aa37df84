package diag

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Pretty writes diagnostics for people, with the line of the source and a mark
// under the place. Colors are ANSI escapes.
func Pretty(list []*Diagnostic, color bool) string {
	var b strings.Builder
	p := painter{color}
	for i, d := range list {
		if i > 0 && d.Level != Suggestion {
			b.WriteByte('\n')
		}
		b.WriteString(p.header(d))
		for j := range d.Messages {
			p.message(&b, d, &d.Messages[j])
			if j < len(d.Messages)-1 {
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

type painter struct{ color bool }

func (p painter) paint(code, s string) string {
	if !p.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p painter) header(d *Diagnostic) string {
	kind := d.Kind
	switch {
	case d.Level == Suggestion:
		return p.paint("1;36", "suggestion: ")
	case d.Level == Warning:
		if kind == "" {
			kind = CompilerWarning
		}
		return p.paint("1;33", "warning["+kind.Code()+"]") + ": " + string(kind) + "\n"
	case kind == "":
		kind = EvaluationError
	}
	return p.paint("1;31", "error["+kind.Code()+"]") + ": " + string(kind) + "\n"
}

func (p painter) message(b *strings.Builder, d *Diagnostic, m *Message) {
	line, ok := m.source()
	switch {
	case !ok && m.File == "":
		b.WriteString(m.Text + "\n")
	case !ok:
		col := ""
		if m.Col >= 0 {
			col = fmt.Sprintf(":%d", m.Col+1)
		}
		fmt.Fprintf(b, "---> File %s:%d%s: %s\n", m.File, m.Line, col, m.Text)
	default:
		p.snippet(b, m, line)
	}
	if m.Note != "" {
		b.WriteString(p.paint("1;36", "note") + ": " + m.Note + "\n")
	}
}

func (m *Message) source() (string, bool) {
	if m.Source == nil || m.Line < 1 {
		return "", false
	}
	return m.Source.Text(m.Line), true
}

// longLine is the length in characters from which only the part of a line around
// the place is shown, half that many characters.
const longLine = 1000

func (p painter) snippet(b *strings.Builder, m *Message, line string) {
	length := utf8.RuneCountInString(line)
	col := m.Col
	if col >= length {
		col = length - 1
	}
	number := fmt.Sprint(m.Line)
	pad := strings.Repeat(" ", len(number))
	bar := p.paint("1;34", pad+" |")
	fmt.Fprintf(b, "%s %s:%d:%d\n", p.paint("1;34", pad+"-->"), m.File, m.Line, max(col, 0)+1)
	if length > longLine {
		line, col = around(line, col)
	}
	fmt.Fprintf(b, "%s\n%s %s\n", bar, p.paint("1;34", number+" |"), line)
	mark := ""
	if col >= 0 {
		mark = strings.Repeat(" ", width(line, col)) + p.paint("1;31", "^")
	}
	text := ""
	if m.Text != "" {
		text = " " + p.paint("1;31", m.Text)
	}
	fmt.Fprintf(b, "%s %s%s\n%s\n", bar, mark, text, bar)
}

// around cuts a long line to the part around a column, which moves.
func around(line string, col int) (string, int) {
	const before, all, dots = longLine / 4, longLine / 2, "..."
	runes := []rune(line)
	start := max(min(col-before, len(runes)-all), 0)
	part := string(runes[start : start+all])
	if start+all < len(runes) {
		part += dots
	}
	if start > 0 {
		part = dots + part
		if col >= 0 {
			col += len(dots) - start
		}
	}
	return part, col
}

// width is how wide the first n characters of s are on a screen; tabs count
// nothing, as in rustc's snippets.
func width(s string, n int) int {
	w := 0
	for _, r := range s {
		if n--; n < 0 {
			break
		}
		switch {
		case r < ' ':
		case r >= 0x1100 && (r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 ||
			r >= 0xf900 && r <= 0xfaff || r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 || r >= 0x1f300):
			w += 2
		default:
			w++
		}
	}
	return w
}

// Short writes one line per diagnostic.
func Short(list []*Diagnostic) string {
	var b strings.Builder
	for _, d := range list {
		if len(d.Messages) == 0 {
			continue
		}
		m := d.Messages[0]
		if d.Level == Suggestion {
			fmt.Fprintf(&b, "suggestion: %s\n", m.Text)
			continue
		}
		level, kind := "error", d.Kind
		if d.Level == Warning {
			level = "warning"
		}
		if kind == "" {
			kind = EvaluationError
		}
		if m.File != "" {
			fmt.Fprintf(&b, "%s:%d:%d: ", m.File, m.Line, max(m.Col, 0)+1)
		}
		fmt.Fprintf(&b, "%s[%s]: %s", level, kind.Code(), m.Text)
		for _, r := range d.Messages[1:] {
			fmt.Fprintf(&b, " (related: %s:%d:%d: %s)", r.File, r.Line, max(r.Col, 0)+1, r.Text)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
