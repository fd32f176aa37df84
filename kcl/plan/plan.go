// Package plan turns values into the documents that a run prints and into
// their YAML, JSON, TOML and XML text, and reads JSON and YAML back.
//
// The YAML text is, byte for byte, what serde_yaml 0.9 over libyaml writes
// (block style, unlimited width, single quotes for what another reader could
// take for a number or boolean); the JSON text is that of serde_json.
//
// The package knows values and nothing of programs, files or command lines.
package plan

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

// Options choose what of a value is written. The zero value writes
// everything but Undefined and functions, in order.
type Options struct {
	// SortKeys orders the keys of every configuration by their bytes.
	SortKeys bool
	// HidePrivate leaves out keys that begin with an underscore.
	HidePrivate bool
	// DropNone leaves out None.
	DropNone bool
	// SchemaTypes adds _type with the full name of the schema to each instance.
	SchemaTypes bool
}

// Separator stands between the documents of a YAML stream.
const Separator = "---"

// Select picks the values at paths such as "a.b.0.c": one path gives its
// value, several give a list. Without paths, and for what is not a
// configuration, v itself is the answer.
func Select(v value.Value, paths []string) (value.Value, error) {
	if len(paths) == 0 || !value.IsConfig(v) {
		return v, nil
	}
	found := make([]value.Value, len(paths))
	for i, path := range paths {
		at := v
		for _, key := range strings.Split(path, ".") {
			next, ok := member(at, key)
			if !ok {
				return nil, fmt.Errorf("invalid path select operand %s, value not found", path)
			}
			at = next
		}
		found[i] = at
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return value.NewList(found...), nil
}

func member(v value.Value, key string) (value.Value, bool) {
	if l, ok := v.(*value.List); ok {
		i, err := strconv.ParseUint(key, 10, 31)
		if err != nil || int(i) >= len(l.Items) {
			return nil, false
		}
		return l.Items[i], true
	}
	if d := value.ConfigOf(v); d != nil {
		return d.Get(key)
	}
	return nil, false
}

// Documents splits the result of a run: a list of configurations is a stream
// of one document each, everything else is one document. An empty list is no
// document at all.
func Documents(v value.Value) []value.Value {
	l, ok := v.(*value.List)
	if !ok {
		return []value.Value{v}
	}
	for _, item := range l.Items {
		if !value.IsConfig(item) {
			return []value.Value{v}
		}
	}
	return l.Items
}

// TypePath is the name of v's schema as _type gives it: with its package
// unless that is the main one. It is "" for what has no schema.
func TypePath(v value.Value) string {
	switch v := v.(type) {
	case *value.Schema:
		pkg := strings.TrimPrefix(v.PkgPath, "@")
		if pkg == "" || pkg == mainPackage {
			return v.Name
		}
		return pkg + "." + v.Name
	case *value.Dict:
		return strings.TrimPrefix(strings.TrimPrefix(v.Potential, "@"), mainPackage+".")
	}
	return ""
}

const (
	mainPackage = "__main__"
	typeKey     = "_type"
)

// visible are the entries of a configuration that are written, in order.
// The answer may be the configuration's own slice and is only for reading.
func (o Options) visible(v value.Value) []value.Entry {
	entries := value.ConfigOf(v).Entries()
	keep := len(entries)
	for i := range entries {
		if o.hides(&entries[i]) {
			keep = i
			break
		}
	}
	typ := ""
	if o.SchemaTypes {
		typ = TypePath(v)
	}
	if keep == len(entries) && !o.SortKeys && typ == "" {
		return entries
	}
	shown := make([]value.Entry, keep, len(entries)+1)
	copy(shown, entries)
	for i := keep; i < len(entries); i++ {
		if !o.hides(&entries[i]) {
			shown = append(shown, entries[i])
		}
	}
	if typ != "" {
		shown = append(shown, value.Entry{Key: typeKey, Value: value.Str(typ), Index: value.NoIndex})
	}
	if o.SortKeys {
		sort.SliceStable(shown, func(i, j int) bool { return shown[i].Key < shown[j].Key })
	}
	return shown
}

func (o Options) hides(e *value.Entry) bool {
	return o.skips(e.Value) || o.HidePrivate && strings.HasPrefix(e.Key, "_") ||
		o.SchemaTypes && e.Key == typeKey
}

// skips reports whether v leaves no trace in output.
func (o Options) skips(v value.Value) bool {
	switch v.Kind() {
	case value.UndefinedKind, value.FuncKind:
		return true
	case value.NoneKind:
		return o.DropNone
	}
	return false
}

// items are the items of a list that are written.
func (o Options) items(l *value.List) []value.Value {
	for i, item := range l.Items {
		if !o.skips(item) {
			continue
		}
		shown := append([]value.Value(nil), l.Items[:i]...)
		for _, item := range l.Items[i+1:] {
			if !o.skips(item) {
				shown = append(shown, item)
			}
		}
		return shown
	}
	return l.Items
}
