package stack

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// Types are what the engine's drivers are called.
type Types struct {
	Kubernetes, Terraform string
}

// GeneratedURL is the address of a value that is made up once and then kept in the Secret: generate://NAMESPACE/NAME/KEY.
const GeneratedURL = "generate://"

// keepAnnotation has an object forgotten rather than deleted (package kube has it too).
const keepAnnotation = "weft.dev/keep"

// Resources turns a Spec into resources of the engine, and tells what is wrong with it. Attributes that stand for others become
// references, values of Secrets are sensitive, and those of the store of secrets are read when they are needed and never kept.
func Resources(s *spec.Spec, types Types) ([]engine.Resource, []error) {
	c := &conversion{spec: s, types: types, known: map[string]*spec.Resource{}}
	for i := range s.Resources {
		c.known[s.Resources[i].ID] = &s.Resources[i]
	}
	list := make([]engine.Resource, 0, len(s.Resources))
	for i := range s.Resources {
		list = append(list, c.resource(&s.Resources[i]))
	}
	return list, c.problems
}

type conversion struct {
	spec     *spec.Spec
	types    Types
	known    map[string]*spec.Resource
	problems []error
}

func (c *conversion) fail(r *spec.Resource, field, format string, args ...any) {
	c.problems = append(c.problems, &config.Problem{At: r.Origin, Path: config.Join(r.ID, field), What: fmt.Sprintf(format, args...)})
}

func (c *conversion) resource(r *spec.Resource) engine.Resource {
	out := engine.Resource{ID: engine.ID(r.ID), Type: c.types.Kubernetes, Origin: r.Origin.String()}
	attributes := copyTree(r.Attributes).(map[string]any)
	if r.Type == spec.Terraform {
		out.Type = c.types.Terraform
		attributes = map[string]any{"attributes": attributes, "extensions": copyTree(r.Extensions)}
	} else {
		c.object(r, attributes)
		meta, _ := attributes["metadata"].(map[string]any)
		annotations, _ := meta["annotations"].(map[string]any)
		out.Keep = annotations[keepAnnotation] == "true"
	}
	out.Inputs, _ = c.references(r, "", attributes).(map[string]any)
	for _, id := range r.DependsOn {
		if c.known[id] == nil {
			c.fail(r, "dependsOn", "%s is not there", id)
			continue
		}
		out.DependsOn = append(out.DependsOn, engine.ID(id))
	}
	return out
}

// object takes out of an object what only its writer means, and marks the values of a Secret.
func (c *conversion) object(r *spec.Resource, o map[string]any) {
	stripTimes(o)
	if empty(o["status"]) {
		delete(o, "status")
	}
	if path, ok := r.Extensions[spec.KubeConfig].(string); ok && path != "" {
		c.fail(r, "extensions.kubeConfig", "asks for the cluster of %s, and a stack goes to one cluster: name that with --kubeconfig", path)
	}
	if r.Kind() == "Secret" {
		c.secret(r, o)
	}
}

// stripTimes removes the empty creation times that upstream writes.
func stripTimes(v any) {
	switch v := v.(type) {
	case map[string]any:
		if t, ok := v["creationTimestamp"]; ok && t == nil {
			delete(v, "creationTimestamp")
		}
		for _, e := range v {
			stripTimes(e)
		}
	case []any:
		for _, e := range v {
			stripTimes(e)
		}
	}
}

// empty says whether a tree holds no values.
func empty(v any) bool {
	if v == nil {
		return true
	}
	m, ok := v.(map[string]any)
	if !ok {
		return false
	}
	for _, e := range m {
		if !empty(e) {
			return false
		}
	}
	return true
}

// secret marks the values of a Secret. What stands for a value kept elsewhere goes to stringData, as the value itself is a text.
func (c *conversion) secret(r *spec.Resource, o map[string]any) {
	data, _ := o["data"].(map[string]any)
	texts, _ := o["stringData"].(map[string]any)
	if texts == nil {
		texts = map[string]any{}
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		text, ok := data[key].(string)
		if !ok {
			c.fail(r, "data."+key, "must be a text in base64")
			continue
		}
		plain, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			c.fail(r, "data."+key, "must be base64: %v", err)
			continue
		}
		switch {
		case slices.Contains(r.Generated, key):
			texts[key] = engine.External{URL: GeneratedURL + Generated{namespaceOf(o), nameOf(o), key}.String()}
		case spec.IsSecretRef(string(plain)):
			texts[key] = c.external(r, "data."+key, string(plain))
		default:
			data[key] = engine.Sensitive{Value: text}
			continue
		}
		delete(data, key)
	}
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		text, ok := texts[key].(string)
		switch {
		case !ok:
		case spec.IsSecretRef(text):
			texts[key] = c.external(r, "stringData."+key, text)
		case strings.HasPrefix(text, spec.PathPrefix):
			if ref := c.reference(r, "stringData."+key, text); ref != nil {
				texts[key] = engine.Sensitive{Value: ref}
			}
		default:
			texts[key] = engine.Sensitive{Value: text}
		}
	}
	delete(o, "data")
	delete(o, "stringData")
	if len(data) > 0 {
		o["data"] = data
	}
	if len(texts) > 0 {
		o["stringData"] = texts
	}
}

func namespaceOf(o map[string]any) string {
	meta, _ := o["metadata"].(map[string]any)
	s, _ := meta["namespace"].(string)
	return s
}

func nameOf(o map[string]any) string {
	meta, _ := o["metadata"].(map[string]any)
	s, _ := meta["name"].(string)
	return s
}

// Generated names a made-up value.
type Generated struct{ Namespace, Name, Key string }

// String is the address without its scheme.
func (g Generated) String() string { return g.Namespace + "/" + g.Name + "/" + g.Key }

// ParseGenerated takes an address apart; ok is false if it is none.
func ParseGenerated(url string) (g Generated, ok bool) {
	rest, ok := strings.CutPrefix(url, GeneratedURL)
	parts := strings.SplitN(rest, "/", 3)
	if !ok || len(parts) != 3 || parts[1] == "" || parts[2] == "" {
		return g, false
	}
	return Generated{parts[0], parts[1], parts[2]}, true
}

// external stands for a value of the store of secrets.
func (c *conversion) external(r *spec.Resource, field, text string) any {
	if _, err := spec.ParseSecretRef(text); err != nil {
		c.fail(r, field, "%v", err)
		return nil
	}
	if c.spec.SecretStore.Name() == "" {
		c.fail(r, field, "stands for a secret, and the workspace has no secretStore")
		return nil
	}
	store, err := c.spec.SecretStore.Map()
	if err != nil {
		c.fail(r, field, "%v", err)
		return nil
	}
	return engine.External{URL: text, Store: store}
}

// references replaces texts that stand for attributes of other resources.
func (c *conversion) references(r *spec.Resource, path string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			v[k] = c.references(r, config.Join(path, k), v[k])
		}
	case []any:
		for i := range v {
			v[i] = c.references(r, fmt.Sprintf("%s[%d]", path, i), v[i])
		}
	case string:
		if strings.HasPrefix(v, spec.PathPrefix) {
			return c.reference(r, path, v)
		}
	}
	return v
}

func (c *conversion) reference(r *spec.Resource, path, text string) any {
	id, attribute, _, err := spec.ImplicitRef(text, func(id string) bool { return c.known[id] != nil })
	if err != nil {
		c.fail(r, path, "%v", err)
		return nil
	}
	if id == r.ID {
		c.fail(r, path, "stands for an attribute of the resource itself")
		return nil
	}
	return engine.Reference{Resource: engine.ID(id), Path: attribute}
}

// copyTree copies the maps and lists of a tree.
func copyTree(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = copyTree(e)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = copyTree(e)
		}
		return list
	case nil:
		return nil
	}
	return v
}
