package kube

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Change is one field that differs between the live object and what an apply would make of it.
type Change struct {
	Path string `json:"path"`          // spec.template.spec.containers[name=app].image
	Old  any    `json:"old,omitempty"` // nil if the field is added
	New  any    `json:"new,omitempty"` // nil if the field is removed
	// Sensitive says that Old and New tell only the sizes of values that must not be shown.
	Sensitive bool `json:"sensitive,omitempty"`
}

// String returns one line: "+ path: new", "- path: old" or "~ path: old -> new".
func (c Change) String() string {
	switch {
	case c.Old == nil:
		return fmt.Sprintf("+ %s: %s", c.Path, show(c.New))
	case c.New == nil:
		return fmt.Sprintf("- %s: %s", c.Path, show(c.Old))
	}
	return fmt.Sprintf("~ %s: %s -> %s", c.Path, show(c.Old), show(c.New))
}

// showLimit is the longest value, in characters, that String prints whole.
const showLimit = 200

// show prints a value as JSON, shortened.
func show(v any) string {
	if h, ok := v.(hidden); ok {
		return string(h)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	text := []rune(strings.TrimSuffix(out.String(), "\n"))
	if len(text) > showLimit {
		return fmt.Sprintf("%s… (%d characters)", string(text[:showLimit]), len(text))
	}
	return string(text)
}

// hidden stands for a value that must not be shown.
type hidden string

// Diff returns the fields in which two states of one object differ, sorted by path. Fields that the server writes for
// itself (status, managed fields, version, times) are left out and the values of Secrets are hidden. Lists whose items
// have a name or another usual key are compared by it, so that an inserted item is one change.
func Diff(before, after *unstructured.Unstructured) []Change {
	d := differ{}
	d.compare(nil, visible(before), visible(after))
	sort.SliceStable(d.changes, func(i, j int) bool { return d.changes[i].Path < d.changes[j].Path })
	return d.changes
}

// visible copies an object without the server's own fields and with hidden values of Secrets.
func visible(u *unstructured.Unstructured) map[string]any {
	if u == nil {
		return nil
	}
	object := make(map[string]any, len(u.Object))
	for k, v := range u.Object {
		if k != "status" {
			object[k] = v
		}
	}
	if meta, ok := object["metadata"].(map[string]any); ok {
		kept := make(map[string]any, len(meta))
		for k, v := range meta {
			if !slices.Contains([]string{"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"}, k) {
				kept[k] = v
			}
		}
		object["metadata"] = kept
		if u.GetKind() == "Secret" && u.GroupVersionKind().Group == "" {
			hideAnnotation(kept)
		}
	}
	if u.GetKind() == "Secret" && u.GroupVersionKind().Group == "" {
		hideValues(object, "data", true)
		hideValues(object, "stringData", false)
	}
	return object
}

// secretValue is a Secret's value: it can be compared, but prints only its size.
type secretValue struct{ text, size string }

func hideValues(object map[string]any, field string, encoded bool) {
	m, ok := object[field].(map[string]any)
	if !ok {
		return
	}
	masked := make(map[string]any, len(m))
	for k, v := range m {
		text, _ := v.(string)
		size := len(text)
		if raw, err := base64.StdEncoding.DecodeString(text); encoded && err == nil {
			size = len(raw)
		}
		masked[k] = secretValue{text, fmt.Sprintf("(hidden, %d bytes)", size)}
	}
	object[field] = masked
}

func hideAnnotation(meta map[string]any) {
	annotations, ok := meta["annotations"].(map[string]any)
	if !ok {
		return
	}
	text, ok := annotations[lastApplied].(string)
	if !ok {
		return
	}
	masked := make(map[string]any, len(annotations))
	for k, v := range annotations {
		masked[k] = v
	}
	masked[lastApplied] = secretValue{text, "(hidden, may hold values of the Secret)"}
	meta["annotations"] = masked
}

type differ struct{ changes []Change }

func (d *differ) add(path []byte, before, after any) {
	c := Change{Path: string(path)}
	c.Old, c.Sensitive = reveal(before)
	var s bool
	c.New, s = reveal(after)
	c.Sensitive = c.Sensitive || s
	d.changes = append(d.changes, c)
}

// reveal replaces secret values by their sizes, wherever they are.
func reveal(v any) (any, bool) {
	switch v := v.(type) {
	case secretValue:
		return hidden(v.size), true
	case map[string]any:
		sensitive := false
		m := make(map[string]any, len(v))
		for k, e := range v {
			var s bool
			m[k], s = reveal(e)
			sensitive = sensitive || s
		}
		return m, sensitive
	}
	return v, false
}

func (d *differ) compare(path []byte, before, after any) {
	switch b := before.(type) {
	case map[string]any:
		if a, ok := after.(map[string]any); ok {
			d.maps(path, b, a)
			return
		}
	case []any:
		if a, ok := after.([]any); ok {
			d.lists(path, b, a)
			return
		}
	}
	if !reflect.DeepEqual(before, after) {
		d.add(path, before, after)
	}
}

func (d *differ) maps(path []byte, before, after map[string]any) {
	for k, b := range before {
		a, there := after[k]
		if !there {
			a = nil
		}
		d.compare(fieldOf(path, k), b, a)
	}
	for k, a := range after {
		if _, there := before[k]; !there {
			d.compare(fieldOf(path, k), nil, a)
		}
	}
}

// fieldOf appends a field's name, in brackets where dots in it would mislead.
func fieldOf(path []byte, name string) []byte {
	path = path[:len(path):len(path)]
	for i := range len(name) {
		if name[i] == '.' || name[i] == '/' || name[i] == '[' {
			return fmt.Appendf(path, "[%s]", name)
		}
	}
	if len(path) > 0 {
		path = append(path, '.')
	}
	return append(path, name...)
}

// itemKeys are the fields that usually tell list items apart, in the order in which they are tried.
var itemKeys = []string{"name", "containerPort", "port", "mountPath", "devicePath", "key", "type", "ip", "topologyKey", "uid"}

func (d *differ) lists(path []byte, before, after []any) {
	key := commonKey(before, after)
	if key == "" {
		for i := range max(len(before), len(after)) {
			var b, a any
			if i < len(before) {
				b = before[i]
			}
			if i < len(after) {
				a = after[i]
			}
			d.compare(fmt.Appendf(path[:len(path):len(path)], "[%d]", i), b, a)
		}
		return
	}
	index := make(map[any]any, len(after))
	for _, item := range after {
		index[item.(map[string]any)[key]] = item
	}
	seen := make(map[any]bool, len(before))
	for _, item := range before {
		k := item.(map[string]any)[key]
		seen[k] = true
		d.compare(fmt.Appendf(path[:len(path):len(path)], "[%s=%v]", key, k), item, index[k])
	}
	for _, item := range after {
		if k := item.(map[string]any)[key]; !seen[k] {
			d.compare(fmt.Appendf(path[:len(path):len(path)], "[%s=%v]", key, k), nil, item)
		}
	}
}

// commonKey finds a field that every item of both lists has and that tells each list's items apart.
func commonKey(lists ...[]any) string {
	for _, key := range itemKeys {
		if len(lists[0])+len(lists[1]) > 0 && isKey(key, lists[0]) && isKey(key, lists[1]) {
			return key
		}
	}
	return ""
}

func isKey(key string, items []any) bool {
	seen := make(map[any]bool, len(items))
	for _, item := range items {
		m, ok := item.(map[string]any)
		if !ok {
			return false
		}
		switch m[key].(type) {
		case string, int64, float64:
		default:
			return false
		}
		if seen[m[key]] {
			return false
		}
		seen[m[key]] = true
	}
	return true
}
