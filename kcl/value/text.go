package value

import (
	"math"
	"strconv"
	"strings"
)

// Text is what str() makes of v: numbers as written, strings without quotes,
// lists and configurations in brackets.
func Text(v Value) string {
	if s, ok := v.(Str); ok {
		return string(s)
	}
	return string(AppendText(nil, v))
}

// AppendText appends Text(v) to b.
func AppendText(b []byte, v Value) []byte {
	switch v := v.(type) {
	case Bool:
		if v {
			return append(b, "True"...)
		}
		return append(b, "False"...)
	case Int:
		return strconv.AppendInt(b, int64(v), 10)
	case Float:
		return append(b, FloatText(float64(v))...)
	case *Number:
		return append(strconv.AppendInt(b, v.Raw, 10), v.Unit...)
	case Str:
		return append(b, v...)
	case *List:
		b = append(b, '[')
		for i, item := range v.Items {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = AppendText(b, item)
		}
		return append(b, ']')
	case *Dict:
		return appendConfig(b, v)
	case *Schema:
		return appendConfig(b, v.Config)
	case *Func:
		return append(b, "function"...)
	}
	if v.Kind() == NoneKind {
		return append(b, "None"...)
	}
	return append(b, "Undefined"...)
}

func appendConfig(b []byte, d *Dict) []byte {
	b = append(b, '{')
	for i := range d.entries {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, Quote(d.entries[i].Key)...)
		b = append(b, ": "...)
		if s, ok := d.entries[i].Value.(Str); ok {
			b = append(b, Quote(string(s))...)
		} else {
			b = AppendText(b, d.entries[i].Value)
		}
	}
	return append(b, '}')
}

// Quote puts s in single quotes, or in double quotes when it holds single ones.
func Quote(s string) string {
	switch {
	case !strings.Contains(s, `"`):
		return "'" + s + "'"
	case !strings.Contains(s, "'"):
		return `"` + s + `"`
	}
	return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
}

// FloatText is the shortest decimal text of f that reads back the same,
// never with an exponent and always with a fraction.
func FloatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// TypeName is what messages and typeof() call the type of v.
func TypeName(v Value) string {
	switch v := v.(type) {
	case Bool:
		return "bool"
	case Int:
		return "int"
	case Float:
		return "float"
	case *Number:
		return "number_multiplier(" + Text(v) + ")"
	case Str:
		return "str"
	case *List:
		return "list"
	case *Dict:
		return "dict"
	case *Schema:
		return v.Name
	case *Func:
		if v.Type != "" {
			return "type"
		}
		return "function"
	}
	if v.Kind() == NoneKind {
		return "NoneType"
	}
	return "UndefinedType"
}
