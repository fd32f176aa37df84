package syntax

import (
	"fmt"
	"unicode/utf8"
)

func (l *lexer) digits(hex bool) bool {
	seen := false
	for l.pos < l.end {
		c := l.src[l.pos]
		if c >= '0' && c <= '9' || hex && (c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			seen = true
		} else if c != '_' {
			break
		}
		l.pos++
	}
	return seen
}

func (l *lexer) number(start int) {
	base := 10
	has := true
	l.pos++
	if l.src[start] == '0' {
		switch c := l.peek(0); {
		case c == 'b':
			base = 2
			l.pos++
			has = l.digits(false)
		case c == 'o' || c >= '0' && c <= '9':
			base = 8
			l.pos++
			has = l.digits(false)
		case c == 'x':
			base = 16
			l.pos++
			has = l.digits(true)
		case c == '_' || c == '.' || c == 'e' || c == 'E':
			l.digits(false)
		default:
			l.finishInt(start, base, true)
			return
		}
	} else {
		l.digits(false)
	}
	if !has {
		l.finishInt(start, base, false)
		return
	}
	next, _ := utf8.DecodeRuneInString(l.src[min(l.pos+1, l.end):l.end])
	isFloat, emptyExp := false, false
	switch c := l.peek(0); {
	case c == '.' && next != '.' && !isIDStart(next):
		isFloat = true
		l.pos++
		if d := l.peek(0); d >= '0' && d <= '9' {
			l.digits(false)
			if e := l.peek(0); e == 'e' || e == 'E' {
				emptyExp = !l.exponent()
			}
		}
	case c == 'e' || c == 'E':
		isFloat = true
		emptyExp = !l.exponent()
	}
	if !isFloat {
		l.finishInt(start, base, true)
		return
	}
	l.finishFloat(start, base, emptyExp)
}

func (l *lexer) exponent() bool {
	l.pos++
	if c := l.peek(0); c == '-' || c == '+' {
		l.pos++
	}
	return l.digits(false)
}

func (l *lexer) suffix() string {
	from := l.pos
	if isIDStart(l.rune()) {
		l.skipID()
	}
	return l.src[from:l.pos]
}

var units = map[string]bool{
	"n": true, "u": true, "m": true, "k": true, "K": true, "M": true, "G": true,
	"T": true, "P": true, "Ki": true, "Mi": true, "Gi": true, "Ti": true, "Pi": true, "i": true,
}

func (l *lexer) finishInt(start, base int, has bool) {
	text := l.src[start:l.pos]
	suffix := l.suffix()
	if !has {
		l.errorAt(start, l.pos, "no valid digits found for number")
		l.literal(tInt, start, literal{value: "0"})
		return
	}
	if base != 10 {
		for i, c := range text[2:] {
			if c != '_' && digit(c) >= base {
				lo := start + 2 + i
				l.errorAt(lo, l.pos, fmt.Sprintf("invalid digit for a base %d literal, start: %d, stop: %d", base, lo, lo+1))
				text = "0"
				break
			}
		}
	}
	if suffix != "" && !units[suffix] {
		l.errorAt(start, l.pos, "invalid int binary suffix")
		suffix = ""
	}
	l.literal(tInt, start, literal{value: text, suffix: suffix})
}

func digit(c rune) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return 99
}

func (l *lexer) finishFloat(start, base int, emptyExp bool) {
	text := l.src[start:l.pos]
	l.suffix()
	switch {
	case emptyExp:
		l.errorAt(start, l.pos, "expected at least one digit in exponent")
		text = "0"
	case base != 10:
		name := map[int]string{2: "binary", 8: "octal", 16: "hexadecimal"}[base]
		l.errorAt(start, l.pos, name+" float literal is not supported")
		text = "0"
	}
	l.literal(tFloat, start, literal{value: text})
}
