package syntax

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/runenames"
)

// unquote resolves the escapes of a string's content.
func unquote(s string, quote rune, long, raw bool) (string, bool) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, long || strings.IndexByte(s, '\n') < 0
	}
	var b strings.Builder
	b.Grow(len(s))
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		if r != '\\' {
			if r == '\n' && !long {
				return "", false
			}
			b.WriteRune(r)
			continue
		}
		if s == "" {
			return "", false
		}
		c, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		if raw {
			b.WriteByte('\\')
			b.WriteRune(c)
			continue
		}
		if c == quote {
			b.WriteRune(c)
			continue
		}
		var ok bool
		if s, ok = unescape(&b, c, s); !ok {
			return "", false
		}
	}
	return b.String(), true
}

var escapes = map[rune]string{
	'\\': "\\", '\'': "'", '"': "\"", '\n': "", 'a': "\a", 'b': "\b", 'f': "\f",
	'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

func unescape(b *strings.Builder, c rune, rest string) (string, bool) {
	if e, ok := escapes[c]; ok {
		b.WriteString(e)
		return rest, true
	}
	switch {
	case c >= '0' && c <= '7':
		v := c - '0'
		for i := 0; i < 2 && rest != "" && rest[0] >= '0' && rest[0] <= '7'; i++ {
			v = v*8 + rune(rest[0]-'0')
			rest = rest[1:]
		}
		b.WriteRune(v)
	case c == 'x' || c == 'u' || c == 'U':
		n := map[rune]int{'x': 2, 'u': 4, 'U': 8}[c]
		if len(rest) < n {
			return "", false
		}
		v, err := strconv.ParseUint(rest[:n], 16, 32)
		if err != nil || v > utf8.MaxRune {
			return "", false
		}
		b.WriteRune(rune(v))
		rest = rest[n:]
	case c == 'N':
		name, after, ok := strings.Cut(strings.TrimPrefix(rest, "{"), "}")
		if !ok || !strings.HasPrefix(rest, "{") {
			return "", false
		}
		r := runeNamed(name)
		if r < 0 {
			return "", false
		}
		b.WriteRune(r)
		rest = after
	default:
		b.WriteByte('\\')
		b.WriteRune(c)
	}
	return rest, true
}

func runeNamed(name string) rune {
	if len(name) > 100 {
		return -1
	}
	want := strings.ToUpper(name)
	for r := rune(32); r < 0x20000; r++ {
		if runenames.Name(r) == want {
			return r
		}
	}
	return -1
}

// dedent removes the common indentation of a long string and its first line
// when that is empty.
func dedent(s string) string {
	if strings.IndexByte(s, '\n') < 0 && !strings.HasPrefix(s, " ") && !strings.HasPrefix(s, "\t") {
		return s
	}
	lines := strings.Split(s, "\n")
	margin := -1
	shrink := func(line string) {
		if n := len(line) - len(strings.TrimLeft(line, " \t")); margin < 0 || n < margin {
			margin = n
		}
	}
	for _, line := range lines {
		if strings.TrimSpace(line) != "" {
			shrink(line)
		}
	}
	if last := lines[len(lines)-1]; last != "" && strings.TrimSpace(last) == "" {
		shrink(last)
	}
	if len(lines) > 1 && lines[0] == "" {
		lines = lines[1:]
	}
	for i, line := range lines {
		n := len(line) - len(strings.TrimLeft(line, " \t"))
		lines[i] = line[max(min(n, margin), 0):]
	}
	return strings.Join(lines, "\n")
}
