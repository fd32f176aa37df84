package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	gvk "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/weft-dev/weft/kube/manifest"
)

// openAPI is an OpenAPI v3 schema as API servers publish it and as CustomResourceDefinitions hold it. References lead to
// components by name.
type openAPI struct {
	root       map[string]any
	components map[string]any
}

func schemaOf(root, components map[string]any) *openAPI {
	if root == nil {
		return nil
	}
	return &openAPI{root, components}
}

// resolve follows a reference, written alone or as the only part of allOf.
func (s *openAPI) resolve(m map[string]any) map[string]any {
	for range 10 {
		if all, ok := m["allOf"].([]any); ok && len(all) == 1 {
			if only, ok := all[0].(map[string]any); ok {
				m = only
			}
		}
		ref, ok := m["$ref"].(string)
		if !ok {
			return m
		}
		target, ok := s.components[strings.TrimPrefix(ref, "#/components/schemas/")].(map[string]any)
		if !ok {
			return map[string]any{"x-kubernetes-preserve-unknown-fields": true}
		}
		m = target
	}
	return m
}

// schemas fetches the schemas of a cluster's kinds, one document for each group and version.
type schemas struct {
	disco     discovery.DiscoveryInterfaceWithContext
	mu        sync.Mutex
	documents map[gvk.GroupVersion]map[string]any // schemas by name
}

func (s *schemas) find(ctx context.Context, kind gvk.GroupVersionKind) (*openAPI, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.documents == nil {
		s.documents = map[gvk.GroupVersion]map[string]any{}
	}
	components, ok := s.documents[kind.GroupVersion()]
	if !ok {
		var err error
		if components, err = s.fetch(ctx, kind.GroupVersion()); err != nil {
			return nil, err
		}
		s.documents[kind.GroupVersion()] = components
	}
	for _, v := range components {
		m, _ := v.(map[string]any)
		kinds, _ := m["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			if e, ok := k.(map[string]any); ok && e["group"] == kind.Group && e["version"] == kind.Version && e["kind"] == kind.Kind {
				return schemaOf(m, components), nil
			}
		}
	}
	return nil, fmt.Errorf("the server publishes no schema of %s", kind)
}

func (s *schemas) fetch(ctx context.Context, gv gvk.GroupVersion) (map[string]any, error) {
	paths, err := s.disco.OpenAPIV3WithContext(ctx).PathsWithContext(ctx)
	if err != nil {
		return nil, err
	}
	name := "apis/" + gv.String()
	if gv.Group == "" {
		name = "api/" + gv.Version
	}
	document, ok := paths[name]
	if !ok {
		return nil, fmt.Errorf("the server publishes no schema of %s", gv)
	}
	data, err := document.SchemaWithContext(ctx, "application/json")
	if err != nil {
		return nil, err
	}
	var parsed struct {
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(data, &parsed); err != nil {
		return nil, fmt.Errorf("schema of %s: %w", gv, err)
	}
	return parsed.Components.Schemas, nil
}

// checkSchema compares an object with its schema: unknown fields, wrong types and missing required fields, all of them.
// Everything else (patterns, limits, rules) the server checks.
func checkSchema(o manifest.Object, doc *openAPI) []error {
	if doc == nil {
		return nil
	}
	s := schemaCheck{object: o, doc: doc}
	schema := doc.resolve(doc.root)
	for _, key := range slices.Sorted(maps.Keys(o.Object)) {
		if key == "apiVersion" || key == "kind" || key == "metadata" {
			continue
		}
		s.field(key, key, o.Object[key], schema)
	}
	s.required("", o.Object, schema)
	return s.errs
}

type schemaCheck struct {
	object manifest.Object
	doc    *openAPI
	errs   []error
}

func (s *schemaCheck) fail(path, msg, hint string) {
	s.errs = append(s.errs, s.object.ErrorAt(path, msg, hint))
}

// field checks one field of a map that the schema describes.
func (s *schemaCheck) field(path, name string, v any, schema map[string]any) {
	properties, _ := schema["properties"].(map[string]any)
	if sub, ok := properties[name].(map[string]any); ok {
		s.value(path, v, sub)
		return
	}
	switch extra := schema["additionalProperties"].(type) {
	case map[string]any:
		s.value(path, v, extra)
		return
	case bool:
		if extra {
			return
		}
	}
	if schema["x-kubernetes-preserve-unknown-fields"] == true || len(properties) == 0 {
		return
	}
	s.fail(path, "unknown field", suggestion(name, slices.Collect(maps.Keys(properties))))
}

func (s *schemaCheck) value(path string, v any, schema map[string]any) {
	if v == nil {
		return // the server drops it or takes the default
	}
	schema = s.doc.resolve(schema)
	typ, _ := schema["type"].(string)
	if schema["x-kubernetes-int-or-string"] == true || schema["format"] == "int-or-string" {
		if !isType(v, "integer") && !isType(v, "string") {
			s.fail(path, "expected an integer or a string", "")
		}
		return
	}
	if typ != "" && !isType(v, typ) {
		s.fail(path, fmt.Sprintf("expected %s %s, found %s", article(typ), typ, typeName(v)), "")
		return
	}
	switch v := v.(type) {
	case map[string]any:
		embedded := schema["x-kubernetes-embedded-resource"] == true
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if embedded && (key == "apiVersion" || key == "kind" || key == "metadata") {
				continue
			}
			s.field(joinField(path, key), key, v[key], schema)
		}
		s.required(path, v, schema)
	case []any:
		if items, ok := schema["items"].(map[string]any); ok {
			for i, item := range v {
				s.value(fmt.Sprintf("%s[%d]", path, i), item, items)
			}
		}
	}
	if allowed, ok := schema["enum"].([]any); ok && !slices.Contains(allowed, v) {
		s.fail(path, fmt.Sprintf("%v is not allowed", v), fmt.Sprintf("expected one of %v", allowed))
	}
}

func (s *schemaCheck) required(path string, v, schema map[string]any) {
	names, _ := schema["required"].([]any)
	properties, _ := schema["properties"].(map[string]any)
	for _, n := range names {
		name, _ := n.(string)
		sub, _ := properties[name].(map[string]any)
		if _, there := v[name]; !there && sub["default"] == nil {
			s.fail(joinField(path, name), "missing", "it is required")
		}
	}
}

func joinField(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func isType(v any, typ string) bool {
	switch typ {
	case "integer":
		_, ok := v.(int64)
		return ok
	case "number":
		_, isFloat := v.(float64)
		return isFloat || isType(v, "integer")
	}
	return typeName(v) == typ
}

func typeName(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case int64:
		return "integer"
	case float64:
		return "number"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "null"
}

func article(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an"
	}
	return "a"
}

// suggestion names the known field that differs least from a misspelt one, if any is near.
func suggestion(name string, known []string) string {
	slices.Sort(known)
	best, bestDistance := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) > 0 && len(known) <= 12 {
		return "expected one of " + strings.Join(known, ", ")
	}
	return ""
}

// distance is the number of letters to insert, remove or replace to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
