package engine

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Driver makes resources of one type. Its methods are called from several goroutines, never twice at once for one
// resource. Every method may be repeated after a crash: a Create of something that the same resource made before has to
// return that, and a Delete of something that is gone is done.
type Driver interface {
	// Version changes when equal inputs would lead to another result, so that everything is looked at again.
	Version() string
	// Read returns what exists for the resource, nil if nothing does. The record is nil if the state knows nothing of it.
	Read(ctx context.Context, r Request) (*Object, error)
	// Compare says what making the resource so would change. The object is what Read returned, or what the state holds
	// when nothing was read. Inputs may hold Unknown. It is asked with a nil object about what is to be created, so that
	// wrong inputs are refused before anything is done.
	Compare(ctx context.Context, r Request, object *Object) (Comparison, error)
	// Create makes it.
	Create(ctx context.Context, r Request) (*Object, error)
	// Update changes it in place.
	Update(ctx context.Context, r Request, object *Object) (*Object, error)
	// Delete removes what the record tells of.
	Delete(ctx context.Context, r Request) error
}

// Request is a resource as a driver sees it: inputs with all references resolved, sensitive values still marked.
type Request struct {
	ID     ID
	Inputs map[string]any
	Record *Record // what the state holds, nil if nothing
	// Origin and Locate are where the resource was written; they are given to Check.
	Origin string
	Locate func(field string) (place string, exact bool)
}

// Object is what exists.
type Object struct {
	Identity string         // what tells it from another one made later under the same name (a UID, a digest); may be empty
	Outputs  map[string]any // what others may refer to; a driver marks sensitive values
	// Mark stands for the state of what exists as far as it is the resource's. While mark and inputs are as recorded,
	// nothing differs and Compare is not asked. Empty asks every time.
	Mark string
}

// Prefetcher is a driver that can read many resources at once, which is faster than one by one.
type Prefetcher interface {
	// Prefetch returns what exists for those of the requests that it can tell, nil for what does not; the others are read singly. References in
	// the inputs are not resolved yet.
	Prefetch(ctx context.Context, requests []Request) (map[ID]*Object, error)
}

// Waiter is a driver whose resources take time to become ready after they were made.
type Waiter interface {
	// Wait waits until the resources are ready, as long as the context lasts, and returns an error for each that is not. Those that
	// are given were just made or are as they were; inputs and record are those of now.
	Wait(ctx context.Context, requests []Request) map[ID]error
}

// Checker is a driver that finds faults which only all resources of its type together have, such as two that are one thing.
type Checker interface {
	// Check looks at what is wanted, before anything is read. References in the inputs are not resolved yet.
	Check(ctx context.Context, requests []Request) error
}

// Remover is a driver that has a say in what is removed.
type Remover interface {
	// Removal says what is to be done with a resource that is no longer wanted or has to be replaced: Delete; Forget, which leaves it
	// alone for good; or Retain, which leaves it and keeps it in the state until the user allows more. The cause says why, for people;
	// it may be empty for Delete.
	Removal(ctx context.Context, r Request) (action Action, cause string, err error)
	// Release is called when a resource is forgotten.
	Release(ctx context.Context, r Request) error
}

// Pinner is a driver whose resources come out otherwise when they are made again from the same inputs, such as a build of a folder.
type Pinner interface {
	// Pin returns inputs that lead to these outputs again.
	Pin(inputs, outputs map[string]any) map[string]any
}

// Comparison is a driver's answer to Compare.
type Comparison struct {
	// Changes lists the fields that differ; none means that nothing has to be done.
	Changes []Change
	// Replace says why the changes cannot be made in place; empty if they can.
	Replace string
	// Computed names outputs that the changes may alter; others stay known. "*" stands for all.
	Computed []string
}

// Change is one field that differs. Before is nil for an added field, After for a removed one.
type Change struct {
	Path   string `json:"path"`
	Before any    `json:"before,omitempty"`
	After  any    `json:"after,omitempty"`
	// Origin is where the field was written, file:line:column; empty if that is not known or it was not.
	Origin string `json:"origin,omitempty"`
}

// Record is what the state holds of a resource.
type Record struct {
	ID          ID             `json:"id"`
	Type        string         `json:"type"`
	DependsOn   []ID           `json:"dependsOn,omitempty"` // direct edges, by which it is deleted in order
	Identity    string         `json:"identity,omitempty"`
	Inputs      map[string]any `json:"inputs,omitempty"` // as they were applied
	Outputs     map[string]any `json:"outputs,omitempty"`
	Fingerprint string         `json:"fingerprint,omitempty"` // of inputs and driver version; empty asks for a look
	Mark        string         `json:"mark,omitempty"`        // Object.Mark, keyed
	Keep        bool           `json:"keep,omitempty"`
	Protect     bool           `json:"protect,omitempty"`
	Timeout     time.Duration  `json:"timeout,omitempty"`
}

func (r *Record) object() *Object {
	if r == nil {
		return nil
	}
	return &Object{Identity: r.Identity, Outputs: r.Outputs}
}

// learn takes in what exists. Outputs that give a sensitive input away become sensitive, should the driver not say so; full are the
// inputs with what is kept elsewhere.
func (s *State) learn(r *Record, o *Object, full map[string]any) {
	r.Identity, r.Outputs, r.Mark = o.Identity, o.Outputs, s.mark(full, o.Mark)
	secrets := secretsIn(full)
	if len(secrets) > 0 {
		r.Outputs, _ = conceal(o.Outputs, secrets).(map[string]any)
	}
}

// secretsIn returns the texts of the sensitive values in a tree that are long enough to be told from others.
func secretsIn(tree any) []string {
	var secrets []string
	walk(tree, func(v any) {
		if s, ok := v.(Sensitive); ok {
			walk(s.Value, func(v any) {
				if text := fmt.Sprint(v); isScalar(v) && len(text) >= minSecret {
					secrets = append(secrets, text)
				}
			})
		}
	})
	return secrets
}

// minSecret is the length, in bytes, below which a value is too common to be found in others.
const minSecret = 4

func isScalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any, Sensitive, nil, bool:
		return false
	}
	return true
}

// conceal marks every value that contains one of the secrets.
func conceal(v any, secrets []string) any {
	switch t := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(t))
		for k, e := range t {
			m[k] = conceal(e, secrets)
		}
		return m
	case []any:
		list := make([]any, len(t))
		for i, e := range t {
			list[i] = conceal(e, secrets)
		}
		return list
	}
	if isScalar(v) {
		text := fmt.Sprint(v)
		for _, s := range secrets {
			if strings.Contains(text, s) {
				return Sensitive{v}
			}
		}
	}
	return v
}
