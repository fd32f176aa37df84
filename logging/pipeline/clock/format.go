package clock

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Format appends a moment in the form that Ruby's Time#strftime gives it: with flags (-, 0, ^, _, #), widths and %N for fractions of a second.
// What is no directive stays as it is.
func Format(b []byte, format string, t time.Time) []byte {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b = append(b, format[i])
			continue
		}
		d, n := readDirective(format[i:])
		if n == 0 {
			b = append(b, '%')
			continue
		}
		out, ok := d.append(b, t)
		if !ok {
			b = append(b, format[i:i+n]...)
		} else {
			b = out
		}
		i += n - 1
	}
	return b
}

// directive is one %... of a format.
type directive struct {
	flags  string
	width  int
	colons int
	kind   byte
}

// maxWidth bounds what a width may ask for.
const maxWidth = 1024

func readDirective(text string) (d directive, n int) {
	i := 1
	for i < len(text) && strings.IndexByte("-0^_#", text[i]) >= 0 {
		i++
	}
	d.flags = text[1:i]
	for i < len(text) && text[i] >= '0' && text[i] <= '9' {
		if d.width = d.width*10 + int(text[i]-'0'); d.width > maxWidth {
			return d, 0
		}
		i++
	}
	for i < len(text) && text[i] == ':' && d.colons < 2 {
		d.colons++
		i++
	}
	if i >= len(text) {
		return d, 0
	}
	d.kind = text[i]
	return d, i + 1
}

func (d directive) has(flag byte) bool { return strings.IndexByte(d.flags, flag) >= 0 }

// number appends a number that is filled up to a width.
func (d directive) number(b []byte, v, width int, fill byte) []byte {
	switch {
	case d.has('-'):
		width = 0
	case d.has('_'):
		fill = ' '
	case d.has('0'):
		fill = '0'
	}
	if d.width > 0 && !d.has('-') {
		width = d.width
	}
	text := strconv.Itoa(v)
	for range width - len(text) {
		b = append(b, fill)
	}
	return append(b, text...)
}

func (d directive) text(b []byte, s string) []byte {
	switch {
	case d.has('^'):
		s = strings.ToUpper(s)
	case d.has('#') && (d.kind == 'p' || d.kind == 'Z'):
		s = strings.ToLower(s)
	case d.has('#'):
		s = strings.ToUpper(s)
	}
	fill := byte(' ')
	if d.has('0') {
		fill = '0'
	}
	for range d.width - len(s) {
		b = append(b, fill)
	}
	return append(b, s...)
}

var composed = map[byte]string{'F': "%Y-%m-%d", 'T': "%H:%M:%S", 'X': "%H:%M:%S", 'D': "%m/%d/%y", 'x': "%m/%d/%y", 'R': "%H:%M", 'r': "%I:%M:%S %p",
	'c': "%a %b %e %H:%M:%S %Y", 'v': "%e-%^b-%Y", '+': "%a %b %e %H:%M:%S %Z %Y"}

func (d directive) append(b []byte, t time.Time) ([]byte, bool) {
	if form := composed[d.kind]; form != "" {
		return d.text(b, string(Format(nil, form, t))), true
	}
	if d.colons > 0 && d.kind != 'z' {
		return b, false
	}
	if out, ok := d.appendNumber(b, t); ok {
		return out, true
	}
	switch d.kind {
	case 'B':
		return d.text(b, t.Month().String()), true
	case 'b', 'h':
		return d.text(b, t.Month().String()[:3]), true
	case 'A':
		return d.text(b, t.Weekday().String()), true
	case 'a':
		return d.text(b, t.Weekday().String()[:3]), true
	case 'p':
		return d.text(b, t.Format("PM")), true
	case 'P':
		return d.text(b, t.Format("pm")), true
	case 'L', 'N':
		return d.fraction(b, t), true
	case 'z':
		return d.zone(b, t), true
	case 'Z':
		name, _ := t.Zone()
		return d.text(b, name), true
	case 'n':
		return append(b, '\n'), true
	case 't':
		return append(b, '\t'), true
	case '%':
		return append(b, '%'), true
	}
	return b, false
}

func (d directive) appendNumber(b []byte, t time.Time) ([]byte, bool) {
	hour12 := (t.Hour()+11)%12 + 1
	switch d.kind {
	case 'Y':
		return d.number(b, t.Year(), 4, '0'), true
	case 'C':
		return d.number(b, t.Year()/100, 2, '0'), true
	case 'y':
		return d.number(b, t.Year()%100, 2, '0'), true
	case 'm':
		return d.number(b, int(t.Month()), 2, '0'), true
	case 'd':
		return d.number(b, t.Day(), 2, '0'), true
	case 'e':
		return d.number(b, t.Day(), 2, ' '), true
	case 'j':
		return d.number(b, t.YearDay(), 3, '0'), true
	case 'H':
		return d.number(b, t.Hour(), 2, '0'), true
	case 'k':
		return d.number(b, t.Hour(), 2, ' '), true
	case 'I':
		return d.number(b, hour12, 2, '0'), true
	case 'l':
		return d.number(b, hour12, 2, ' '), true
	case 'M':
		return d.number(b, t.Minute(), 2, '0'), true
	case 'S':
		return d.number(b, t.Second(), 2, '0'), true
	case 's':
		return strconv.AppendInt(b, t.Unix(), 10), true
	case 'u':
		return d.number(b, (int(t.Weekday())+6)%7+1, 1, '0'), true
	case 'w':
		return d.number(b, int(t.Weekday()), 1, '0'), true
	case 'G', 'g', 'V':
		year, week := t.ISOWeek()
		switch d.kind {
		case 'G':
			return d.number(b, year, 4, '0'), true
		case 'g':
			return d.number(b, year%100, 2, '0'), true
		}
		return d.number(b, week, 2, '0'), true
	case 'U': // weeks that begin on Sunday
		return d.number(b, (t.YearDay()+6-int(t.Weekday()))/7, 2, '0'), true
	case 'W': // weeks that begin on Monday
		return d.number(b, (t.YearDay()+6-(int(t.Weekday())+6)%7)/7, 2, '0'), true
	}
	return b, false
}

// fraction appends digits of the second: 3 for %L, 9 for %N, or as many as the width says.
func (d directive) fraction(b []byte, t time.Time) []byte {
	digits := map[byte]int{'L': 3, 'N': 9}[d.kind]
	if d.width > 0 {
		digits = d.width
	}
	all := fmt.Sprintf("%09d", t.Nanosecond())
	for len(all) < digits {
		all += "0"
	}
	return append(b, all[:digits]...)
}

func (d directive) zone(b []byte, t time.Time) []byte {
	_, offset := t.Zone()
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	b = append(b, sign)
	h, m, s := offset/3600, offset/60%60, offset%60
	switch d.colons {
	case 0:
		return fmt.Appendf(b, "%02d%02d", h, m)
	case 1:
		return fmt.Appendf(b, "%02d:%02d", h, m)
	}
	return fmt.Appendf(b, "%02d:%02d:%02d", h, m, s)
}
