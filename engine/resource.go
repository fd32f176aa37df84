// Package engine brings resources of any kind to what a caller wants: it orders them in a graph, plans what has to be
// done and why, does it with a pool of workers, and writes a journal before and after every effect, so that a run that
// was killed is gone on with and nothing is lost or made twice.
//
// What a resource is and how it is made only its driver knows. The package must not know drivers, clusters, files of
// users or what a stack is.
package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ID names a resource in a state. The engine reads nothing into it.
type ID string

// Resource is something that should exist.
type Resource struct {
	ID   ID
	Type string // names the driver
	// Inputs is a tree of nil, bool, int64, float64, string, []any and map[string]any, in which Unknown, Sensitive,
	// Reference and External may stand for values.
	Inputs map[string]any
	// DependsOn are edges besides those that follow from references in the inputs.
	DependsOn []ID
	// Origin is where the resource was written, for errors and plans: file:line:column, or a document's name.
	Origin string
	// Locate says where a field was written, as Origin does; exact is false where only the nearest parent was. May be nil.
	// Paths are spelled as drivers spell them in changes and errors.
	Locate func(field string) (place string, exact bool)
	// Protect refuses any plan that would delete or replace the resource.
	Protect bool
	// Keep has the resource forgotten instead of deleted when it is no longer wanted.
	Keep bool
	// CreateBeforeDestroy makes a replacement before the old one is deleted. The driver has to allow both to exist.
	CreateBeforeDestroy bool
	// Timeout bounds one operation on it; 0 takes the run's.
	Timeout time.Duration
}

// Unknown stands for a value that will be known only when another resource is made.
type Unknown struct{}

// Sensitive marks a value that must not be shown and is encrypted at rest.
type Sensitive struct{ Value any }

// External stands for a value that is kept elsewhere, such as in a store of secrets. It is read when the resource is planned or
// made (see Options.Resolve) and is sensitive; states and plan files hold the reference and never the value.
type External struct {
	URL string // for example ref://name/key
	// Store says which store that is and how it is reached, without credentials; may be nil.
	Store map[string]any
}

// String is how plans show it.
func (e External) String() string { return "(from " + e.URL + ")" }

// MarshalJSON is how plans show it.
func (e External) MarshalJSON() ([]byte, error) { return json.Marshal(e.String()) }

// String never shows the value.
func (Sensitive) String() string { return "(sensitive)" }

// GoString never shows the value.
func (Sensitive) GoString() string { return "(sensitive)" }

// MarshalJSON never shows the value; a state is written in another way.
func (Sensitive) MarshalJSON() ([]byte, error) { return []byte(`"(sensitive)"`), nil }

// String is how plans show it.
func (Unknown) String() string { return "(known after apply)" }

// MarshalJSON is how plans show it.
func (Unknown) MarshalJSON() ([]byte, error) { return []byte(`"(known after apply)"`), nil }

// Reference stands for an output of another resource.
type Reference struct {
	Resource ID
	Path     []string // of map keys in the outputs
}

func (r Reference) String() string {
	return string(r.Resource) + "." + strings.Join(r.Path, ".")
}

// References returns the resources that a tree refers to, sorted.
func References(tree any) []ID {
	found := map[ID]bool{}
	walk(tree, func(v any) {
		if r, ok := v.(Reference); ok {
			found[r.Resource] = true
		}
	})
	return slices.Sorted(maps.Keys(found))
}

// HasUnknown says whether any value of the tree is not known yet.
func HasUnknown(tree any) bool {
	unknown := false
	walk(tree, func(v any) {
		if _, ok := v.(Unknown); ok {
			unknown = true
		}
	})
	return unknown
}

// HasSensitive says whether any value of the tree must not be shown.
func HasSensitive(tree any) bool {
	sensitive := false
	walk(tree, func(v any) {
		if _, ok := v.(Sensitive); ok {
			sensitive = true
		}
	})
	return sensitive
}

func walk(v any, visit func(any)) {
	visit(v)
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			walk(e, visit)
		}
	case []any:
		for _, e := range v {
			walk(e, visit)
		}
	case Sensitive:
		walk(v.Value, visit)
	}
}

// substitute copies a tree with every reference replaced by what lookup gives. Nothing is copied where nothing changes.
func substitute(v any, lookup func(Reference) (any, error)) (any, error) {
	switch v := v.(type) {
	case Reference:
		return lookup(v)
	case Sensitive:
		inner, err := substitute(v.Value, lookup)
		if s, ok := inner.(Sensitive); ok {
			return s, err
		}
		if _, unknown := inner.(Unknown); unknown {
			return inner, err
		}
		return Sensitive{inner}, err
	case map[string]any:
		if len(References(v)) == 0 {
			return v, nil
		}
		m := make(map[string]any, len(v))
		for k, e := range v {
			var err error
			if m[k], err = substitute(e, lookup); err != nil {
				return nil, err
			}
		}
		return m, nil
	case []any:
		if len(References(v)) == 0 {
			return v, nil
		}
		list := make([]any, len(v))
		for i, e := range v {
			var err error
			if list[i], err = substitute(e, lookup); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return v, nil
}

// HasExternal says whether any value of the tree is kept elsewhere.
func HasExternal(tree any) bool {
	external := false
	walk(tree, func(v any) {
		if _, ok := v.(External); ok {
			external = true
		}
	})
	return external
}

// mapExternals copies a tree with every External replaced by what read gives, marked sensitive.
func mapExternals(v any, read func(External) (any, error)) (any, error) {
	switch v := v.(type) {
	case External:
		value, err := read(v)
		return Sensitive{value}, err
	case Sensitive:
		inner, err := mapExternals(v.Value, read)
		if s, ok := inner.(Sensitive); ok {
			return s, err
		}
		return Sensitive{inner}, err
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			var err error
			if m[k], err = mapExternals(e, read); err != nil {
				return nil, err
			}
		}
		return m, nil
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			var err error
			if list[i], err = mapExternals(e, read); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return v, nil
}

// at returns the value at a path of map keys. A sensitive or unknown value on the way makes the result so.
func at(v any, path []string) (any, error) {
	for i, key := range path {
		switch t := v.(type) {
		case Sensitive:
			inner, err := at(t.Value, path[i:])
			return Sensitive{inner}, err
		case Unknown:
			return t, nil
		case map[string]any:
			child, ok := t[key]
			if !ok {
				return nil, fmt.Errorf("there is no output %q; expected one of %s", strings.Join(path[:i+1], "."), strings.Join(slices.Sorted(maps.Keys(t)), ", "))
			}
			v = child
		default:
			return nil, fmt.Errorf("the output %q has nothing below it", strings.Join(path[:i], "."))
		}
	}
	return v, nil
}

// Reveal copies a tree without its sensitive marks, for a driver that hands the values on.
func Reveal(v any) any {
	switch v := v.(type) {
	case Sensitive:
		return Reveal(v.Value)
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = Reveal(e)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = Reveal(e)
		}
		return list
	}
	return v
}
