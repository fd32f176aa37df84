package stdlib

import (
	"strconv"
	"strings"
	"time"
	"unicode"
)

// validDate reports whether s is a date, a time of day or both in the format.
func validDate(s, format string) bool {
	p := dateParser{s: s, fields: map[byte]int{}}
	if !p.parse(format, 0) || strings.TrimSpace(p.s) != "" {
		return false
	}
	return p.hasDate() || p.hasTime()
}

// dateParser reads the fields of a date: Y m d H I M S j and p.
type dateParser struct {
	s      string
	fields map[byte]int
}

// dateForms are the verbs that stand for others.
var dateForms = map[string]string{
	"F": "%Y-%m-%d", "T": "%H:%M:%S", "X": "%H:%M:%S", "R": "%H:%M", "D": "%m/%d/%y", "x": "%m/%d/%y",
	"r": "%I:%M:%S %p", "c": "%a %b %e %H:%M:%S %Y", "v": "%e-%b-%Y",
}

func (p *dateParser) parse(format string, depth int) bool {
	for format != "" {
		if unicode.IsSpace(rune(format[0])) {
			p.s = strings.TrimLeftFunc(p.s, unicode.IsSpace)
			format = format[1:]
			continue
		}
		if format[0] != '%' {
			if p.s == "" || p.s[0] != format[0] {
				return false
			}
			p.s, format = p.s[1:], format[1:]
			continue
		}
		format = strings.TrimLeft(format[1:], "-_0")
		var verb string
		verb, format = dateVerb(format)
		if form, ok := dateForms[verb]; ok && depth == 0 {
			if !p.parse(form, 1) {
				return false
			}
			continue
		}
		if !p.field(verb) {
			return false
		}
	}
	return true
}

// dateWidths are the numeric verbs: the most digits, the least and the
// greatest value.
var dateWidths = map[string][3]int{
	"Y": {4, 0, 9999}, "m": {2, 1, 12}, "d": {2, 1, 31}, "e": {2, 1, 31}, "H": {2, 0, 23}, "k": {2, 0, 23}, "I": {2, 1, 12},
	"l": {2, 1, 12}, "M": {2, 0, 59}, "S": {2, 0, 60}, "j": {3, 1, 366}, "y": {2, 0, 99}, "s": {18, 0, 1 << 60},
	"f": {9, 0, 999999999}, "3f": {3, 0, 999}, "6f": {6, 0, 999999}, "9f": {9, 0, 999999999}, "u": {1, 1, 7}, "w": {1, 0, 6},
}

func (p *dateParser) field(verb string) bool {
	if w, ok := dateWidths[verb]; ok {
		if verb == "e" || verb == "k" || verb == "l" || verb == "d" {
			p.s = strings.TrimLeft(p.s, " ")
		}
		n := 0
		for n < len(p.s) && n < w[0] && p.s[n] >= '0' && p.s[n] <= '9' {
			n++
		}
		v, err := strconv.Atoi(p.s[:n])
		if err != nil || v < w[1] || v > w[2] {
			return false
		}
		p.s = p.s[n:]
		p.set(verb, v)
		return true
	}
	switch verb {
	case "a", "A":
		return p.name(7, func(i int) string { return time.Weekday(i).String() }) >= 0
	case "b", "h", "B":
		i := p.name(12, func(i int) string { return time.Month(i + 1).String() })
		p.set("m", i+1)
		return i >= 0
	case "p", "P":
		half := strings.ToUpper(p.s[:min(2, len(p.s))])
		if half != "AM" && half != "PM" {
			return false
		}
		p.set("p", 0)
		p.s = p.s[2:]
		return true
	case ".f", ".3f", ".6f", ".9f":
		if strings.HasPrefix(p.s, ".") {
			p.s = strings.TrimLeft(p.s[1:], "0123456789")
		}
		return true
	case "z", ":z", "::z", "#z":
		return p.zone()
	case "Z":
		p.s = strings.TrimLeftFunc(p.s, func(r rune) bool { return !unicode.IsSpace(r) })
		return true
	case "n", "t":
		p.s = strings.TrimLeftFunc(p.s, unicode.IsSpace)
		return true
	case "%":
		rest, ok := strings.CutPrefix(p.s, "%")
		p.s = rest
		return ok
	}
	return false
}

func (p *dateParser) set(verb string, v int) {
	switch verb {
	case "e":
		verb = "d"
	case "k":
		verb = "H"
	case "l":
		verb = "I"
	case "y":
		verb = "Y"
		v += 1900
		if v < 1970 {
			v += 100
		}
	}
	p.fields[verb[0]] = v
}

// name reads one of n names, long or cut to three letters, in any case.
func (p *dateParser) name(n int, of func(int) string) int {
	for i := range n {
		for _, name := range []string{of(i), of(i)[:3]} {
			if len(p.s) >= len(name) && strings.EqualFold(p.s[:len(name)], name) {
				p.s = p.s[len(name):]
				return i
			}
		}
	}
	return -1
}

func (p *dateParser) zone() bool {
	if strings.HasPrefix(p.s, "Z") {
		p.s = p.s[1:]
		return true
	}
	if p.s == "" || p.s[0] != '+' && p.s[0] != '-' {
		return false
	}
	digits := strings.Replace(p.s[1:min(len(p.s), 6)], ":", "", 1)
	if len(digits) < 4 || !allDigits(digits[:4]) {
		return false
	}
	n := 5
	if len(p.s) > 3 && p.s[3] == ':' {
		n = 6
	}
	if len(p.s) < n {
		return false
	}
	p.s = p.s[n:]
	return true
}

func (p *dateParser) has(fields string) bool {
	for i := range len(fields) {
		if _, ok := p.fields[fields[i]]; !ok {
			return false
		}
	}
	return true
}

func (p *dateParser) hasDate() bool {
	if p.has("s") || p.has("Yj") {
		return true
	}
	if !p.has("Ymd") {
		return false
	}
	f := p.fields
	t := time.Date(f['Y'], time.Month(f['m']), f['d'], 0, 0, 0, 0, time.UTC)
	return t.Day() == f['d']
}

func (p *dateParser) hasTime() bool {
	if p.has("m") || p.has("d") || p.has("Y") {
		return false
	}
	return p.has("HM") || p.has("IMp")
}
