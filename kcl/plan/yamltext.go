package plan

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// shape is what libyaml's scalar analysis learns of a text.
type shape struct {
	multiline, plain, single, block bool
}

func plainSafe(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '.') ||
			c == '_' || c == '/' {
			continue
		}
		return false
	}
	return s != ""
}

func analyze(s string) shape {
	if s == "" {
		return shape{plain: true, single: true}
	}
	indicators := strings.HasPrefix(s, "---") || strings.HasPrefix(s, "...")
	var special, breaks, leading, trailingSpace, trailingBreak, breakSpace, spaceBreak bool
	prevSpace, prevBreak, prevBlank := false, false, true
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		next := i + size
		last := next >= len(s)
		blankNext := last
		if !last {
			n, _ := utf8.DecodeRuneInString(s[next:])
			blankNext = isBlank(n)
		}
		if i == 0 {
			switch r {
			case '#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`':
				indicators = true
			case '?', ':', '-':
				indicators = indicators || blankNext
			}
		} else if r == ':' && blankNext || r == '#' && prevBlank {
			indicators = true
		}
		if !printable(r, size) {
			special = true
		}
		switch {
		case r == ' ':
			leading = leading || i == 0
			trailingSpace = trailingSpace || last
			breakSpace = breakSpace || prevBreak
			prevSpace, prevBreak = true, false
		case isBreak(r):
			breaks = true
			leading = leading || i == 0
			trailingBreak = trailingBreak || last
			spaceBreak = spaceBreak || prevSpace
			prevSpace, prevBreak = false, true
		default:
			prevSpace, prevBreak = false, false
		}
		prevBlank = isBlank(r)
		i = next
	}
	t := shape{multiline: breaks, plain: true, single: true, block: true}
	if leading || trailingSpace || trailingBreak || breaks || indicators || breakSpace || spaceBreak || special {
		t.plain = false
	}
	if breakSpace || spaceBreak || special {
		t.single = false
	}
	if trailingSpace || spaceBreak || special {
		t.block = false
	}
	return t
}

func isBreak(r rune) bool {
	return r == '\n' || r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029
}

func isBlank(r rune) bool { return r == ' ' || r == '\t' || isBreak(r) }

func printable(r rune, size int) bool {
	switch {
	case r == utf8.RuneError && size == 1:
		return false
	case r == '\n', r >= 0x20 && r <= 0x7e, r >= 0xa0 && r <= 0xd7ff:
		return true
	}
	return r >= 0xe000 && r != 0xfeff && r != 0xfffe && r != 0xffff
}

// simpleKey reports whether a key fits on one line before its colon.
func simpleKey(s string) bool {
	return len(s) <= 128 && !strings.ContainsAny(s, "\n\r\u0085\u2028\u2029")
}

// text writes a string in the style libyaml would choose and reports whether
// that ended the line. indent is the column of a literal block's lines.
func (w *yamlWriter) text(s string, indent int, key bool) bool {
	if plainSafe(s) && !ambiguous(s) {
		w.b = append(w.b, s...)
		return false
	}
	t := analyze(s)
	switch {
	case strings.Contains(s, "\n"):
		if !t.block || key {
			w.doubleQuoted(s)
			return false
		}
		w.literal(s, indent)
		return true
	case t.plain && !ambiguous(s):
		w.b = append(w.b, s...)
	case t.single && !t.multiline:
		w.b = append(w.b, '\'')
		w.b = append(w.b, strings.ReplaceAll(s, "'", "''")...)
		w.b = append(w.b, '\'')
	default:
		w.doubleQuoted(s)
	}
	return false
}

func (w *yamlWriter) literal(s string, indent int) {
	w.b = append(w.b, '|')
	if s[0] == ' ' || s[0] == '\n' || s[0] == '\r' {
		w.b = append(w.b, '2')
	}
	switch {
	case !strings.HasSuffix(s, "\n"):
		w.b = append(w.b, '-')
	case s == "\n" || strings.HasSuffix(s, "\n\n"):
		w.b = append(w.b, '+')
	}
	w.b = append(w.b, '\n')
	for s != "" {
		line, rest, more := strings.Cut(s, "\n")
		if line != "" {
			w.pad(indent)
			w.b = append(w.b, line...)
		}
		if more || line != "" {
			w.b = append(w.b, '\n')
		}
		s = rest
	}
}

func (w *yamlWriter) doubleQuoted(s string) {
	b := append(w.b, '"')
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case printable(r, size) && !isBreak(r):
			b = append(b, s[i:i+size]...)
		case r <= 0x1b && yamlEscapes[r] != 0:
			b = append(b, '\\', yamlEscapes[r])
		case r == 0x85:
			b = append(b, `\N`...)
		case r == 0x2028:
			b = append(b, `\L`...)
		case r == 0x2029:
			b = append(b, `\P`...)
		case r <= 0xff:
			b = fmt.Appendf(b, `\x%02X`, r)
		case r <= 0xffff:
			b = fmt.Appendf(b, `\u%04X`, r)
		default:
			b = fmt.Appendf(b, `\U%08X`, r)
		}
		i += size
	}
	w.b = append(b, '"')
}

var yamlEscapes = [0x1c]byte{0: '0', 7: 'a', 8: 'b', 9: 't', 10: 'n', 11: 'v', 12: 'f', 13: 'r', 0x1b: 'e'}

// ambiguous reports whether some YAML reader could take the plain text s for
// something else than a string.
func ambiguous(s string) bool {
	if s == "" {
		return true
	}
	switch c := s[0]; {
	case c >= '0' && c <= '9', c == '-', c == '.', c == '+', c == '~':
		return c != '~' || s == "~"
	case len(s) > 5:
		return false
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "nil", "y", "yes", "n", "no", "on", "off", "nan":
		return true
	}
	return parsedFloat(s)
}

// parsedFloat reports whether Rust's f64 parser accepts s as a finite number.
func parsedFloat(s string) bool {
	if c := s[0] | 0x20; c == 'i' || c == 'n' || strings.ContainsAny(s, "_xXpP") {
		return false
	}
	f, err := strconv.ParseFloat(s, 64)
	return err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
}
