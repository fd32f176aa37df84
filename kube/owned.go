package kube

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// fingerprint is the first 128 bits of the SHA-256 of the value's JSON, in hexadecimal.
func fingerprint(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return "" // never for values that came from JSON; an empty fingerprint equals no recorded one
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// ownedFingerprint is the fingerprint of those values of a live object that the manager owns by its applies. It changes
// when one of them is changed or taken by another, and does not when others change what is theirs.
func ownedFingerprint(live *unstructured.Unstructured, manager string) (string, error) {
	var parts []any
	for _, entry := range live.GetManagedFields() {
		if !isApplyOf(entry, manager) {
			continue
		}
		var fields map[string]any
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err != nil {
			return "", fmt.Errorf("managed fields of %s: %w", live.GetName(), err)
		}
		parts = append(parts, pick(live.Object, fields))
	}
	return fingerprint(parts), nil
}

func isApplyOf(e metav1.ManagedFieldsEntry, manager string) bool {
	return e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "" && e.FieldsV1 != nil
}

// pick returns the parts of v that a FieldsV1 tree names, as a tree with the same keys. The form of the keys is that of
// structured-merge-diff: f: a field, k: a list item by its keys, v: a set's item by value, i: by index, "." the thing itself.
func pick(v any, fields map[string]any) any {
	if len(fields) == 0 {
		return v
	}
	picked := make(map[string]any, len(fields))
	for key, below := range fields {
		sub, _ := below.(map[string]any)
		kind, rest, _ := strings.Cut(key, ":")
		switch kind {
		case ".":
			picked["."] = v != nil
		case "f":
			m, _ := v.(map[string]any)
			if child, ok := m[rest]; ok {
				picked[key] = pick(child, sub)
			}
		case "k":
			if item := itemWithKeys(v, rest); item != nil {
				picked[key] = pick(item, sub)
			}
		case "v":
			list, _ := v.([]any)
			for _, item := range list {
				if data, err := json.Marshal(item); err == nil && string(data) == rest {
					picked[key] = true
				}
			}
		case "i":
			list, _ := v.([]any)
			if i, err := strconv.Atoi(rest); err == nil && i >= 0 && i < len(list) {
				picked[key] = pick(list[i], sub)
			}
		}
	}
	return picked
}

func itemWithKeys(v any, keys string) any {
	list, _ := v.([]any)
	var want map[string]any
	if json.Unmarshal([]byte(keys), &want) != nil {
		return nil
	}
	for _, item := range list {
		m, _ := item.(map[string]any)
		all := m != nil
		for k, w := range want {
			if fmt.Sprint(m[k]) != fmt.Sprint(w) {
				all = false
				break
			}
		}
		if all {
			return item
		}
	}
	return nil
}

// ownedSet is the set of fields that the chosen entries of the object's managed fields name.
func ownedSet(u *unstructured.Unstructured, choose func(metav1.ManagedFieldsEntry) bool) (*fieldpath.Set, error) {
	all := fieldpath.NewSet()
	for _, e := range u.GetManagedFields() {
		if e.FieldsV1 == nil || !choose(e) {
			continue
		}
		var s fieldpath.Set
		if err := s.FromJSON(bytes.NewReader(e.FieldsV1.GetRawBytes())); err != nil {
			return nil, fmt.Errorf("managed fields of %s: %w", e.Manager, err)
		}
		all = all.Union(&s)
	}
	return all, nil
}

// removeFields takes the fields of the set out of the object. Parents that become empty go too, as the server does it.
func removeFields(object map[string]any, set *fieldpath.Set) {
	var paths []fieldpath.Path
	set.Iterate(func(p fieldpath.Path) { paths = append(paths, p.Copy()) })
	sort.SliceStable(paths, func(i, j int) bool {
		if len(paths[i]) != len(paths[j]) {
			return len(paths[i]) > len(paths[j])
		}
		return !namesItem(paths[i]) && namesItem(paths[j]) // an item is found by its keys as long as it has them
	})
	for _, p := range paths {
		removePath(object, p)
	}
}

// namesItem says whether the path names a field that tells an item of a list from the others.
func namesItem(p fieldpath.Path) bool {
	if len(p) < 2 || p[len(p)-1].FieldName == nil || p[len(p)-2].Key == nil {
		return false
	}
	for _, k := range *p[len(p)-2].Key {
		if k.Name == *p[len(p)-1].FieldName {
			return true
		}
	}
	return false
}

// removePath returns v without what the path names; gone says that v itself is to be removed by its parent.
func removePath(v any, path fieldpath.Path) (rest any, gone bool) {
	if len(path) == 0 {
		return nil, true
	}
	switch v := v.(type) {
	case map[string]any:
		if path[0].FieldName == nil {
			return v, false
		}
		child, ok := v[*path[0].FieldName]
		if !ok {
			return v, false
		}
		left, childGone := removePath(child, path[1:])
		if childGone {
			delete(v, *path[0].FieldName)
		} else {
			v[*path[0].FieldName] = left
		}
		return v, len(v) == 0
	case []any:
		i := indexOf(v, path[0])
		if i < 0 {
			return v, false
		}
		left, itemGone := removePath(v[i], path[1:])
		if itemGone {
			v = append(v[:i:i], v[i+1:]...)
		} else {
			v[i] = left
		}
		return v, len(v) == 0
	}
	return v, false
}

func indexOf(list []any, e fieldpath.PathElement) int {
	for i, item := range list {
		switch {
		case e.Index != nil:
			if *e.Index == i {
				return i
			}
		case e.Value != nil:
			if value.Equals(value.NewValueInterface(item), *e.Value) {
				return i
			}
		case e.Key != nil:
			m, _ := item.(map[string]any)
			matches := m != nil
			for _, k := range *e.Key {
				if !value.Equals(value.NewValueInterface(m[k.Name]), k.Value) {
					matches = false
				}
			}
			if matches {
				return i
			}
		}
	}
	return -1
}
