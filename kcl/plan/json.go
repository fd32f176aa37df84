package plan

import (
	"math"
	"strconv"

	"github.com/weft-dev/weft/kcl/value"
)

// JSON is v on one line, with a space after each comma and colon. With
// indent above 0 every item has a line of its own.
func JSON(v value.Value, o Options, indent int) string {
	return string(AppendJSON(nil, v, o, indent))
}

// AppendJSON appends JSON(v, o, indent) to b.
func AppendJSON(b []byte, v value.Value, o Options, indent int) []byte {
	w := jsonWriter{b: b, o: o, indent: indent}
	w.value(v, 0)
	return w.b
}

type jsonWriter struct {
	b      []byte
	o      Options
	indent int
}

func (w *jsonWriter) value(v value.Value, depth int) {
	switch v := v.(type) {
	case value.Bool:
		w.b = strconv.AppendBool(w.b, bool(v))
	case value.Int:
		w.b = strconv.AppendInt(w.b, int64(v), 10)
	case value.Float:
		w.float(float64(v))
	case *value.Number:
		w.float(v.Value)
	case value.Str:
		w.b = appendJSONString(w.b, string(v))
	case *value.List:
		items := w.o.items(v)
		w.b = append(w.b, '[')
		for i, item := range items {
			w.separate(i, depth+1)
			w.value(item, depth+1)
		}
		w.close(len(items), depth, ']')
	case *value.Dict, *value.Schema:
		entries := w.o.visible(v)
		w.b = append(w.b, '{')
		for i := range entries {
			w.separate(i, depth+1)
			w.b = appendJSONString(w.b, entries[i].Key)
			w.b = append(w.b, ": "...)
			w.value(entries[i].Value, depth+1)
		}
		w.close(len(entries), depth, '}')
	default:
		w.b = append(w.b, "null"...)
	}
}

func (w *jsonWriter) separate(i, depth int) {
	if i > 0 {
		w.b = append(w.b, ',')
	}
	if w.indent > 0 {
		w.newline(depth)
	} else if i > 0 {
		w.b = append(w.b, ' ')
	}
}

func (w *jsonWriter) close(n, depth int, bracket byte) {
	if w.indent > 0 && n > 0 {
		w.newline(depth)
	}
	w.b = append(w.b, bracket)
}

func (w *jsonWriter) newline(depth int) {
	w.b = append(w.b, '\n')
	for range depth * w.indent {
		w.b = append(w.b, ' ')
	}
}

func (w *jsonWriter) float(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		w.b = append(w.b, "null"...)
		return
	}
	w.b = appendFloat(w.b, f)
}

const hexDigits = "0123456789abcdef"

func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(b, s[start:]...), '"')
}
