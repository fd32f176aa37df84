package kube

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/weft-dev/weft/kube/manifest"
)

// lastApplied is where kubectl's client-side apply keeps what it applied; for a Secret that is its values.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Predecessor is a manager whose fields become ours when we begin to own an object, so that a field that is removed
// from the source goes from the object too.
type Predecessor struct {
	Manager   string
	Operation metav1.ManagedFieldsOperationType
}

// Predecessors are those of kubectl (client-side and server-side apply, and its names before managed fields were
// written) and of kusion.
var Predecessors = []Predecessor{
	{"kubectl-client-side-apply", metav1.ManagedFieldsOperationUpdate},
	{"kubectl", metav1.ManagedFieldsOperationApply},
	{"kubectl", metav1.ManagedFieldsOperationUpdate},
	{"before-first-apply", metav1.ManagedFieldsOperationUpdate},
	{"kusion", metav1.ManagedFieldsOperationUpdate},
	{"kusion", metav1.ManagedFieldsOperationApply},
}

func isPredecessor(e metav1.ManagedFieldsEntry) bool {
	for _, p := range Predecessors {
		if e.Manager == p.Manager && e.Operation == p.Operation && e.Subresource == "" {
			return true
		}
	}
	return false
}

// predecessorsOf names the managers whose fields would be taken over.
func predecessorsOf(live *unstructured.Unstructured) []string {
	var names []string
	seen := map[string]bool{}
	for _, e := range live.GetManagedFields() {
		if isPredecessor(e) && !seen[e.Manager] {
			seen[e.Manager] = true
			names = append(names, e.Manager)
		}
	}
	return names
}

// takeOver moves the predecessors' fields to the manager's own apply entry. The next apply then removes those that it
// does not name. It is one write that fails if the object changed since it was read.
func (c *Client) takeOver(ctx context.Context, r Resource, live *unstructured.Unstructured) error {
	entries, changed, err := takenOver(live.GetManagedFields(), c.manager)
	if err != nil || !changed {
		return err
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "replace", "path": "/metadata/managedFields", "value": entries},
		{"op": "replace", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()},
	})
	if err != nil {
		return err
	}
	_, err = c.on(r, live.GetNamespace()).Patch(ctx, live.GetName(), types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: c.manager})
	return err
}

func takenOver(entries []metav1.ManagedFieldsEntry, manager string) (result []metav1.ManagedFieldsEntry, changed bool, err error) {
	taken := fieldpath.NewSet()
	var own *metav1.ManagedFieldsEntry
	for _, e := range entries {
		predecessor := isPredecessor(e) && !(e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply)
		if !predecessor && !isApplyOf(e, manager) {
			result = append(result, e)
			continue
		}
		changed = changed || predecessor
		if e.FieldsV1 != nil {
			var s fieldpath.Set
			if err := s.FromJSON(bytes.NewReader(e.FieldsV1.GetRawBytes())); err != nil {
				return nil, false, fmt.Errorf("managed fields of %s: %w", e.Manager, err)
			}
			taken = taken.Union(&s)
		}
		// The entry keeps the newest version among those joined: entries of other versions could not be joined by the server.
		if own == nil || !predecessor {
			copied := e
			own = &copied
		}
	}
	if !changed {
		return entries, false, nil
	}
	data, err := taken.ToJSON()
	if err != nil {
		return nil, false, err
	}
	own.Manager, own.Operation = manager, metav1.ManagedFieldsOperationApply
	own.FieldsV1 = metav1.NewFieldsV1(string(data))
	return append(result, *own), true, nil
}

// foreseeTakeOver completes a dry run's result with what taking over will do besides: fields that a predecessor had written, that the
// source does not name and that nobody else owns go, or get their default again.
//
// A predecessor that updated instead of applying owns defaults as well, and its entry does not tell them from what it wrote. The server
// does: it is asked what it would make of the object if it were new. Where it does not answer, only what kubectl's annotation says was
// written is foreseen.
func (c *Client) foreseeTakeOver(ctx context.Context, r Resource, o manifest.Object, live, result *unstructured.Unstructured) error {
	fresh := c.asNew(ctx, r, o)
	wrote, err := ownedSet(live, func(e metav1.ManagedFieldsEntry) bool {
		return isPredecessor(e) && (fresh != nil || e.Operation == metav1.ManagedFieldsOperationApply)
	})
	if err != nil {
		return err
	}
	if fresh == nil {
		if err := addAnnotated(wrote, live); err != nil {
			return err
		}
	}
	kept, err := ownedSet(result, func(e metav1.ManagedFieldsEntry) bool {
		return isApplyOf(e, c.manager) || !isPredecessor(e)
	})
	if err != nil {
		return err
	}
	gone := fieldpath.NewSet()
	wrote.Leaves().Difference(kept).Iterate(func(p fieldpath.Path) {
		if fresh != nil {
			if value, comesBack := lookup(fresh.Object, p); comesBack {
				replace(result.Object, p, value)
				return
			}
		}
		gone.Insert(p.Copy())
	})
	removeFields(result.Object, gone)
	return nil
}

// addAnnotated adds what kubectl's annotation says that client-side apply wrote.
func addAnnotated(wrote *fieldpath.Set, live *unstructured.Unstructured) error {
	var applied map[string]any
	if text := live.GetAnnotations()[lastApplied]; text == "" || json.Unmarshal([]byte(text), &applied) != nil {
		return nil
	}
	updated, err := ownedSet(live, func(e metav1.ManagedFieldsEntry) bool {
		return isPredecessor(e) && e.Operation == metav1.ManagedFieldsOperationUpdate
	})
	if err != nil {
		return err
	}
	updated.Leaves().Iterate(func(p fieldpath.Path) {
		if _, there := lookup(applied, p); there {
			wrote.Insert(p.Copy())
		}
	})
	annotation := fieldpath.MakePathOrDie("metadata", "annotations", lastApplied)
	if updated.Has(annotation) {
		wrote.Insert(annotation)
	}
	return nil
}

// asNew is what the server would make of the object if none of its name existed, found out by a dry run under another name; nil where
// the server refuses that, as it does for definitions, whose names are given.
func (c *Client) asNew(ctx context.Context, r Resource, o manifest.Object) *unstructured.Unstructured {
	other := o.DeepCopy()
	other.SetName("weft-" + strings.ToLower(rand.Text()))
	fresh, err := c.patch(ctx, r, other, patchOptions{dryRun: true})
	if err != nil {
		return nil
	}
	return fresh
}

// replace gives a field that exists another value.
func replace(object map[string]any, path fieldpath.Path, value any) {
	parent, ok := lookup(object, path[:len(path)-1])
	last := path[len(path)-1]
	switch t := parent.(type) {
	case map[string]any:
		if ok && last.FieldName != nil {
			t[*last.FieldName] = value
		}
	case []any:
		if i := indexOf(t, last); i >= 0 {
			t[i] = value
		}
	}
}

func lookup(v any, path fieldpath.Path) (any, bool) {
	for _, e := range path {
		switch t := v.(type) {
		case map[string]any:
			if e.FieldName == nil {
				return nil, false
			}
			child, ok := t[*e.FieldName]
			if !ok {
				return nil, false
			}
			v = child
		case []any:
			i := indexOf(t, e)
			if i < 0 {
				return nil, false
			}
			v = t[i]
		default:
			return nil, false
		}
	}
	return v, true
}
