package stdlib

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// float formats f as Python's format() does.
func (p spec) float(f float64) (string, error) {
	precision := p.precision
	if precision < 0 {
		precision = 6
	}
	s, err := p.magnitude(math.Abs(f), precision)
	if err != nil {
		return "", err
	}
	if s, err = p.grouped(s); err != nil {
		return "", err
	}
	return p.padded(s, math.Signbit(f) && !math.IsNaN(f)), nil
}

func (p spec) magnitude(f float64, precision int) (string, error) {
	switch p.typ {
	case 'd', 'b', 'o', 'x', 'X', 's', 'c':
		return "", fmt.Errorf("Unknown format code '%c' for object of type 'float'", p.typ)
	case 'n':
		return "", fmt.Errorf("Format code 'n' for object of type 'float' not implemented yet")
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		s := "nan"
		if !math.IsNaN(f) {
			s = "inf"
		}
		if unicode.IsUpper(p.typ) {
			s = strings.ToUpper(s)
		}
		if p.typ == '%' {
			s += "%"
		}
		return s, nil
	}
	switch p.typ {
	case 'f', 'F':
		return strconv.FormatFloat(f, 'f', precision, 64), nil
	case 'e', 'E':
		return strconv.FormatFloat(f, byte(p.typ), precision, 64), nil
	case 'g', 'G':
		return general(f, max(precision, 1), byte(p.typ-'g'+'e')), nil
	case '%':
		return strconv.FormatFloat(f*100, 'f', precision, 64) + "%", nil
	}
	return shortest(f), nil
}

// general is Python's g: fixed notation for exponents from -4 to precision-1.
func general(f float64, precision int, e byte) string {
	s := strconv.FormatFloat(f, 'e', precision-1, 64)
	mantissa, exp, _ := strings.Cut(s, "e")
	exponent, _ := strconv.Atoi(exp)
	if exponent < -4 || exponent >= precision {
		return trimZeros(mantissa) + string(e) + exp
	}
	return trimZeros(strconv.FormatFloat(f, 'f', precision-1-exponent, 64))
}

func trimZeros(s string) string {
	if !strings.Contains(s, ".") {
		return s
	}
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// shortest is Python's repr of a float.
func shortest(f float64) string {
	s := strconv.FormatFloat(f, 'e', -1, 64)
	_, exp, _ := strings.Cut(s, "e")
	exponent, _ := strconv.Atoi(exp)
	if exponent >= 16 || exponent <= -5 {
		return s
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
