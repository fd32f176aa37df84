package plan

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

// TOML writes documents as TOML tables with "# --- Document separator ---"
// between them. A document that is not a configuration is an error. None is
// left out, since TOML has no null.
func TOML(docs []value.Value, o Options) (string, error) {
	o.DropNone = true
	var b strings.Builder
	for i, doc := range docs {
		if !value.IsConfig(doc) {
			return "", fmt.Errorf("document %d is a %s: only a configuration can be written as TOML", i+1, value.TypeName(doc))
		}
		if i > 0 {
			b.WriteString("\n# --- Document separator ---\n\n")
		}
		w := tomlWriter{o: o}
		if err := w.table(nil, doc); err != nil {
			return "", err
		}
		b.Write(w.b)
	}
	if len(docs) == 1 {
		b.WriteByte('\n')
	}
	return b.String(), nil
}

type tomlWriter struct {
	b []byte
	o Options
}

func (w *tomlWriter) table(path []string, v value.Value) error {
	var later []value.Entry
	for _, e := range w.o.visible(v) {
		if value.IsConfig(e.Value) || w.isTables(e.Value) {
			later = append(later, e)
			continue
		}
		w.indent(len(path))
		w.b = append(w.b, tomlKey(e.Key)+" = "...)
		if err := w.inline(e.Value, e.Key); err != nil {
			return err
		}
		w.b = append(w.b, '\n')
	}
	for _, e := range later {
		at := append(path[:len(path):len(path)], tomlKey(e.Key))
		if value.IsConfig(e.Value) {
			if len(at) == 1 {
				w.newline()
			}
			if err := w.header(at, "[", "]", e.Value); err != nil {
				return err
			}
			continue
		}
		for _, item := range w.o.items(e.Value.(*value.List)) {
			w.newline()
			if err := w.header(at, "[[", "]]", item); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *tomlWriter) header(path []string, open, shut string, v value.Value) error {
	w.indent(len(path) - 1)
	w.b = append(w.b, open+strings.Join(path, ".")+shut+"\n"...)
	return w.table(path, v)
}

func (w *tomlWriter) isTables(v value.Value) bool {
	l, ok := v.(*value.List)
	if !ok {
		return false
	}
	items := w.o.items(l)
	for _, item := range items {
		if !value.IsConfig(item) {
			return false
		}
	}
	return len(items) > 0
}

func (w *tomlWriter) newline() {
	if len(w.b) > 0 {
		w.b = append(w.b, '\n')
	}
}

func (w *tomlWriter) indent(n int) {
	for range n {
		w.b = append(w.b, "  "...)
	}
}

var errNullInList = errors.New("TOML has no null: a list holds None")

func (w *tomlWriter) inline(v value.Value, key string) error {
	switch v := v.(type) {
	case value.Bool:
		w.b = strconv.AppendBool(w.b, bool(v))
	case value.Int:
		w.b = strconv.AppendInt(w.b, int64(v), 10)
	case value.Float:
		w.b = appendFloat(w.b, float64(v))
	case *value.Number:
		w.b = appendFloat(w.b, v.Value)
	case value.Str:
		w.b = appendTOMLString(w.b, string(v))
	case *value.List:
		w.b = append(w.b, '[')
		for i, item := range w.o.items(v) {
			if i > 0 {
				w.b = append(w.b, ", "...)
			}
			if err := w.inline(item, key); err != nil {
				return err
			}
		}
		w.b = append(w.b, ']')
	case *value.Dict, *value.Schema:
		w.b = append(w.b, '{')
		for i, e := range w.o.visible(v) {
			if i > 0 {
				w.b = append(w.b, ", "...)
			}
			w.b = append(w.b, tomlKey(e.Key)+" = "...)
			if err := w.inline(e.Value, e.Key); err != nil {
				return err
			}
		}
		w.b = append(w.b, '}')
	default:
		return fmt.Errorf("%w (key %q)", errNullInList, key)
	}
	return nil
}

func tomlKey(key string) string {
	for i := 0; i < len(key); i++ {
		c := key[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' {
			continue
		}
		return string(appendTOMLString(nil, key))
	}
	if key == "" {
		return `""`
	}
	return key
}

func appendTOMLString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\b':
			b = append(b, `\b`...)
		case r == '\f':
			b = append(b, `\f`...)
		case r < 0x20 || r == 0x7f:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}
