package stdlib

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weft-dev/weft/kcl/value"
)

var errFormat = errors.New("format error")

// format is str.format: {} {0} {name} {0.attr[key]:spec}, {{ and }}.
func format(s string, args []value.Value, kwargs *value.Dict) (value.Value, error) {
	f := formatter{args: args, kwargs: kwargs}
	var b strings.Builder
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		c := s[i]
		s = s[i+1:]
		if s != "" && s[0] == c {
			b.WriteByte(c)
			s = s[1:]
			continue
		}
		if c == '}' {
			return nil, fmt.Errorf("%w: single '}' in format string, write '}}'", errFormat)
		}
		field, rest, err := cutField(s)
		if err != nil {
			return nil, err
		}
		text, err := f.field(field)
		if err != nil {
			return nil, err
		}
		b.WriteString(text)
		s = rest
	}
	return value.Str(b.String()), nil
}

// cutField cuts a field at its closing brace; one pair of braces may nest.
func cutField(s string) (field, rest string, err error) {
	nested := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{':
			if nested {
				return "", "", fmt.Errorf("%w: braces nest too deep", errFormat)
			}
			nested = true
		case '}':
			if !nested {
				return s[:i], s[i+1:], nil
			}
			nested = false
		}
	}
	return "", "", fmt.Errorf("%w: expected '}' before end of string", errFormat)
}

type formatter struct {
	args   []value.Value
	kwargs *value.Dict
	auto   int
}

func (f *formatter) field(field string) (string, error) {
	name, spec, _ := strings.Cut(field, ":")
	name, _, _ = strings.Cut(name, "!")
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		end = len(name)
	}
	v, err := f.argument(name[:end])
	if err != nil {
		return "", err
	}
	if v, err = follow(v, name[end:]); err != nil {
		return "", err
	}
	switch v := v.(type) {
	case value.Int:
		return formatInt(int64(v), spec)
	case value.Float:
		return formatFloat(float64(v), spec)
	}
	return value.Text(v), nil
}

func (f *formatter) argument(name string) (value.Value, error) {
	i, err := strconv.ParseUint(name, 10, 31)
	switch {
	case name == "":
		i = uint64(f.auto)
		f.auto++
	case err == nil && f.auto != 0:
		return nil, errors.New("cannot switch from automatic field numbering to manual field specification")
	case err != nil:
		if f.kwargs != nil {
			if v, ok := f.kwargs.Get(name); ok {
				return v, nil
			}
		}
		return nil, fmt.Errorf("keyword argument '%s' not found", name)
	}
	if int(i) >= len(f.args) {
		return nil, errors.New("argument tuple index out of range")
	}
	return f.args[i], nil
}

// follow reads the steps .name, [0] and [key].
func follow(v value.Value, path string) (value.Value, error) {
	for path != "" {
		var key string
		index := path[0] == '['
		if index {
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return nil, fmt.Errorf("%w: expected ']'", errFormat)
			}
			key, path = path[1:end], path[end+1:]
		} else if path[0] == '.' {
			end := strings.IndexAny(path[1:], ".[") + 1
			if end == 0 {
				end = len(path)
			}
			key, path = path[1:end], path[end:]
		} else {
			return nil, fmt.Errorf("%w: only '.' or '[' may follow ']'", errFormat)
		}
		if key == "" {
			return nil, fmt.Errorf("%w: empty attribute in format string", errFormat)
		}
		next, err := step(v, key, index)
		if err != nil {
			return nil, err
		}
		v = next
	}
	return v, nil
}

func step(v value.Value, key string, index bool) (value.Value, error) {
	if l, ok := v.(*value.List); ok && index {
		i, err := strconv.ParseUint(key, 10, 31)
		if err != nil || int(i) >= len(l.Items) {
			return nil, fmt.Errorf("list index out of range: %s", key)
		}
		return l.Items[i], nil
	}
	if d := value.ConfigOf(v); d != nil {
		if next, ok := d.Get(key); ok {
			return next, nil
		}
	}
	return nil, fmt.Errorf("%s has no attribute or key '%s'", value.TypeName(v), key)
}

// spec is a format specification: [fill][align][sign][#][0][width][grouping][.precision][type].
type spec struct {
	fill, align, sign, group, typ rune
	alternate                     bool
	width, precision              int
}

// widest is the largest width or precision a format may ask for.
const widest = 1 << 16

func parseSpec(s string) (spec, error) {
	p := spec{width: -1, precision: -1}
	if len(s) > 1 && s[0] == '!' && strings.IndexByte("srab", s[1]) >= 0 {
		s = s[2:]
	}
	first, n := utf8.DecodeRuneInString(s)
	if n < len(s) && strings.IndexByte("<>=^", s[n]) >= 0 {
		p.fill, p.align, s = first, rune(s[n]), s[n+1:]
	} else {
		p.align, s = take(s, "<>=^")
	}
	p.sign, s = take(s, "+- ")
	alternate, s := take(s, "#")
	p.alternate = alternate != 0
	if zero, rest := take(s, "0"); zero != 0 {
		if s = rest; p.fill == 0 {
			p.fill = '0'
			if p.align == 0 {
				p.align = '='
			}
		}
	}
	var err error
	if p.width, s, err = digits(s); err != nil {
		return p, err
	}
	p.group, s = take(s, "_,")
	if strings.HasPrefix(s, ".") {
		if p.precision, s, err = digits(s[1:]); err != nil {
			return p, err
		}
		if p.precision < 0 {
			return p, errors.New("Invalid format specifier")
		}
	}
	p.typ, s = take(s, "sbcdoxXeEfFgGn%")
	if s != "" {
		return p, errors.New("Invalid format specifier")
	}
	return p, nil
}

func take(s, set string) (rune, string) {
	if s != "" && strings.IndexByte(set, s[0]) >= 0 {
		return rune(s[0]), s[1:]
	}
	return 0, s
}

func digits(s string) (int, string, error) {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	if n == 0 {
		return -1, s, nil
	}
	v, err := strconv.Atoi(s[:n])
	if err != nil || v > widest {
		return 0, s, errors.New("Too many decimal digits in format string")
	}
	return v, s[n:], nil
}

func formatInt(n int64, text string) (string, error) {
	p, err := parseSpec(text)
	if err != nil {
		return "", err
	}
	magnitude := uint64(n)
	if n < 0 {
		magnitude = -magnitude
	}
	base, prefix := 10, ""
	switch p.typ {
	case 'b':
		base, prefix = 2, "0b"
	case 'o':
		base, prefix = 8, "0o"
	case 'x', 'X':
		base, prefix = 16, "0x"
	case 'e', 'E', 'f', 'F', '%':
		return p.float(float64(n))
	case 's', 'c', 'g', 'G':
		return "", fmt.Errorf("Unknown format code '%c' for object of type 'int'", p.typ)
	}
	s := strconv.FormatUint(magnitude, base)
	if p.typ == 'X' {
		s = strings.ToUpper(s)
	}
	if s, err = p.grouped(s); err != nil {
		return "", err
	}
	if p.alternate {
		s = prefix + s
	}
	return p.padded(s, n < 0), nil
}

func formatFloat(f float64, text string) (string, error) {
	p, err := parseSpec(text)
	if err != nil {
		return "", err
	}
	return p.float(f)
}

// padded adds sign and padding; the width counts bytes.
func (p spec) padded(s string, negative bool) string {
	sign := ""
	switch {
	case negative:
		sign = "-"
	case p.sign == '+':
		sign = "+"
	case p.sign == ' ':
		sign = " "
	}
	fill := p.fill
	if fill == 0 {
		fill = ' '
	}
	n := max(p.width-len(s)-len(sign), 0)
	pad := strings.Repeat(string(fill), n)
	switch p.align {
	case '<':
		return sign + s + pad
	case '=':
		return sign + pad + s
	case '^':
		half := strings.Repeat(string(fill), n/2)
		return half + sign + s + strings.Repeat(string(fill), n-n/2)
	}
	return pad + sign + s
}

// grouped puts separators between the digits before the decimal point.
func (p spec) grouped(s string) (string, error) {
	if p.group == 0 {
		return s, nil
	}
	interval := 3
	switch p.typ {
	case 'b', 'o', 'x', 'X':
		interval = 4
	case 0, 'd', 'n', 'f', 'F':
	default:
		return "", errors.New("Separators only valid for numbers!")
	}
	whole, fraction, hasPoint := strings.Cut(s, ".")
	var b strings.Builder
	for i := range len(whole) {
		if i > 0 && (len(whole)-i)%interval == 0 {
			b.WriteRune(p.group)
		}
		b.WriteByte(whole[i])
	}
	if hasPoint {
		b.WriteString("." + fraction)
	}
	return b.String(), nil
}
