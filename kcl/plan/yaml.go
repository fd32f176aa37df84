package plan

import (
	"strconv"

	"math"

	"github.com/weft-dev/weft/kcl/value"
)

// YAML is one document, ending in a newline.
func YAML(v value.Value, o Options) string { return string(AppendYAML(nil, v, o)) }

// AppendYAML appends YAML(v, o) to b.
func AppendYAML(b []byte, v value.Value, o Options) []byte {
	w := yamlWriter{b: b, o: o}
	switch {
	case w.isBlockMap(v):
		w.mapping(0, false)
	case w.isBlockList(v):
		w.sequence(0, false)
	default:
		w.scalar(v, 2)
	}
	return w.b
}

// YAMLStream joins the documents of v by separator lines (sep, or "---" when
// it is empty). It does not end in a newline.
func YAMLStream(docs []value.Value, o Options, sep string) string {
	if sep == "" {
		sep = Separator
	}
	var b []byte
	for i, doc := range docs {
		if i > 0 {
			b = append(append(append(b, '\n'), sep...), '\n')
		}
		b = AppendYAML(b, doc, o)
		if n := len(b); n > 0 && b[n-1] == '\n' {
			b = b[:n-1]
		}
	}
	return string(b)
}

type yamlWriter struct {
	b []byte
	o Options
	// entries and list are what isBlockMap and isBlockList found last, so that
	// the visible part of a collection is computed once.
	entries []value.Entry
	list    []value.Value
}

func (w *yamlWriter) isBlockMap(v value.Value) bool {
	if !value.IsConfig(v) {
		return false
	}
	w.entries = w.o.visible(v)
	return len(w.entries) > 0
}

func (w *yamlWriter) isBlockList(v value.Value) bool {
	l, ok := v.(*value.List)
	if !ok {
		return false
	}
	w.list = w.o.items(l)
	return len(w.list) > 0
}

// mapping writes the entries found last at column indent; inline says that
// the first of them follows on the line that has begun.
func (w *yamlWriter) mapping(indent int, inline bool) {
	entries := w.entries
	for i := range entries {
		if i > 0 || !inline {
			w.pad(indent)
		}
		if simpleKey(entries[i].Key) {
			w.text(entries[i].Key, indent+2, true)
			w.b = append(w.b, ':')
			w.afterKey(entries[i].Value, indent)
			continue
		}
		w.b = append(w.b, "? "...)
		w.text(entries[i].Key, indent+2, false)
		w.endLine()
		w.pad(indent)
		w.b = append(w.b, ": "...)
		w.afterDash(entries[i].Value, indent)
	}
}

func (w *yamlWriter) afterKey(v value.Value, indent int) {
	switch {
	case w.isBlockMap(v):
		w.b = append(w.b, '\n')
		w.mapping(indent+2, false)
	case w.isBlockList(v):
		w.b = append(w.b, '\n')
		w.sequence(indent, false)
	default:
		w.b = append(w.b, ' ')
		w.scalar(v, indent+2)
	}
}

func (w *yamlWriter) sequence(indent int, inline bool) {
	for i, item := range w.list {
		if i > 0 || !inline {
			w.pad(indent)
		}
		w.b = append(w.b, "- "...)
		list := w.list
		w.afterDash(item, indent)
		w.list = list
	}
}

func (w *yamlWriter) afterDash(v value.Value, indent int) {
	switch {
	case w.isBlockMap(v):
		w.mapping(indent+2, true)
	case w.isBlockList(v):
		w.sequence(indent+2, true)
	default:
		w.scalar(v, indent+2)
	}
}

const spaces = "                                                                "

func (w *yamlWriter) pad(n int) {
	for n > len(spaces) {
		w.b = append(w.b, spaces...)
		n -= len(spaces)
	}
	w.b = append(w.b, spaces[:n]...)
}

func (w *yamlWriter) endLine() {
	if n := len(w.b); n == 0 || w.b[n-1] != '\n' {
		w.b = append(w.b, '\n')
	}
}

// scalar writes a scalar or an empty collection and ends the line.
func (w *yamlWriter) scalar(v value.Value, indent int) {
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
		if w.text(string(v), indent, false) {
			return
		}
	case *value.List:
		w.b = append(w.b, "[]"...)
	case *value.Dict, *value.Schema:
		w.b = append(w.b, "{}"...)
	default:
		w.b = append(w.b, "null"...)
	}
	w.b = append(w.b, '\n')
}

func (w *yamlWriter) float(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		w.b = append(w.b, "null"...)
		return
	}
	w.b = appendFloat(w.b, f)
}
