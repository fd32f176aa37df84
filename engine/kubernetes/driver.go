// Package kubernetes is the engine's driver for objects of a cluster. A resource's inputs are the object as in a
// manifest; it is applied by server-side apply (package kube). Its outputs are the live object without what the server
// keeps for itself, and without a Secret's values.
package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/kube/manifest"
)

// Options are the same for all objects of a run.
type Options struct {
	Owner       string // value of kube.OwnerLabel on every object; required
	Namespace   string // for namespaced objects that name none; default "default"
	Force       bool   // take over fields that other managers have set to other values
	Wait        bool   // wait until an object is ready before what depends on it begins
	AllowDelete []string
	// Progress is told what is waited for and why; may be nil.
	Progress func(kube.Event)
}

// Driver implements engine.Driver and engine.Prefetcher.
type Driver struct {
	client *kube.Client
	opts   Options
}

// New returns a driver.
func New(client *kube.Client, opts Options) *Driver {
	opts.Namespace = cmp.Or(opts.Namespace, "default")
	return &Driver{client, opts}
}

// Version is 1.
func (d *Driver) Version() string { return "1" }

// object builds what is applied from a request's inputs. Unknown values are left out.
func (d *Driver) object(ctx context.Context, r engine.Request) (o manifest.Object, unknown []string, err error) {
	inputs := r.Inputs
	if inputs == nil && r.Record != nil {
		inputs = r.Record.Inputs
	}
	known, _ := withoutUnknown(engine.Reveal(inputs), "", &unknown).(map[string]any)
	u := &unstructured.Unstructured{Object: known}
	if u.GetKind() == "" || u.GetAPIVersion() == "" || u.GetName() == "" {
		return o, nil, errors.New("an object needs apiVersion, kind and metadata.name, known before it is planned")
	}
	namespaced, err := d.client.Namespaced(ctx, u)
	switch {
	case isUnknownKind(err):
		namespaced = u.GetNamespace() != "" // its definition comes in the same run
	case err != nil:
		return o, nil, err
	}
	if !namespaced {
		u.SetNamespace("")
	} else if u.GetNamespace() == "" {
		u.SetNamespace(d.opts.Namespace)
	}
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[kube.OwnerLabel] = d.opts.Owner
	u.SetLabels(labels)
	return manifest.New(u, ""), unknown, nil
}

// withoutUnknown copies a tree without what is not known yet and notes the paths of that. References count as unknown.
func withoutUnknown(v any, path string, unknown *[]string) any {
	switch v := v.(type) {
	case engine.Unknown, engine.Reference:
		*unknown = append(*unknown, path)
		return nil
	case map[string]any:
		m := make(map[string]any, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			below := k
			if path != "" {
				below = path + "." + k
			}
			before := len(*unknown)
			if e := withoutUnknown(v[k], below, unknown); e != nil || len(*unknown) == before {
				m[k] = e
			}
		}
		return m
	case []any:
		list := make([]any, 0, len(v))
		for i, e := range v {
			before := len(*unknown)
			if e := withoutUnknown(e, fmt.Sprintf("%s[%d]", path, i), unknown); e != nil || len(*unknown) == before {
				list = append(list, e)
			}
		}
		return list
	}
	return v
}

func isUnknownKind(err error) bool {
	var unknown *kube.UnknownKindError
	return errors.As(err, &unknown) && unknown.Cause == nil
}

// Read returns the live object. One that is being deleted does not exist any more.
func (d *Driver) Read(ctx context.Context, r engine.Request) (*engine.Object, error) {
	o, _, err := d.object(ctx, r)
	if err != nil {
		return nil, err
	}
	live, err := d.client.Get(ctx, o.Unstructured)
	if isUnknownKind(err) {
		return nil, nil
	}
	if err != nil || live == nil {
		return nil, err
	}
	return d.found(live)
}

func (d *Driver) found(live *unstructured.Unstructured) (*engine.Object, error) {
	if live.GetDeletionTimestamp() != nil {
		return nil, nil
	}
	mark := ""
	if live.GetLabels()[kube.OwnerLabel] == d.opts.Owner {
		var err error
		if mark, err = d.client.OwnedFingerprint(live); err != nil {
			return nil, err
		}
	}
	outputs := make(map[string]any, len(live.Object))
	for k, v := range live.Object {
		if secret := live.GetKind() == "Secret" && live.GroupVersionKind().Group == ""; !secret || k != "data" {
			outputs[k] = v
		}
	}
	if meta, ok := outputs["metadata"].(map[string]any); ok {
		kept := maps.Clone(meta)
		for _, f := range []string{"managedFields", "resourceVersion", "generation", "annotations"} {
			delete(kept, f)
		}
		outputs["metadata"] = kept
	}
	delete(outputs, "status") // it changes all the time; what refers to it is read when it is made
	return &engine.Object{Identity: string(live.GetUID()), Outputs: outputs, Mark: mark}, nil
}

// Prefetch lists each kind once.
func (d *Driver) Prefetch(ctx context.Context, requests []engine.Request) (map[engine.ID]*engine.Object, error) {
	ids := make(map[manifest.Identity]engine.ID, len(requests))
	var like []*unstructured.Unstructured
	for _, r := range requests {
		o, _, err := d.object(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.ID, err)
		}
		if first, twice := ids[o.Identity()]; twice {
			return nil, fmt.Errorf("%s and %s are the same object: %s", first, r.ID, o.Identity())
		}
		ids[o.Identity()] = r.ID
		like = append(like, o.Unstructured)
	}
	live, err := d.client.List(ctx, like, d.opts.Owner)
	if err != nil {
		return nil, err
	}
	all := make(map[engine.ID]*engine.Object, len(live))
	for identity, u := range live {
		if id, ok := ids[identity]; ok {
			if all[id], err = d.found(u); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// Compare asks the server by a dry run.
func (d *Driver) Compare(ctx context.Context, r engine.Request, object *engine.Object) (engine.Comparison, error) {
	o, unknown, err := d.object(ctx, r)
	if err != nil {
		return engine.Comparison{}, err
	}
	var live *unstructured.Unstructured
	if object != nil {
		if live, err = d.client.Get(ctx, o.Unstructured); err != nil {
			return engine.Comparison{}, err
		}
	}
	if _, err := d.client.Namespaced(ctx, o.Unstructured); live == nil && isUnknownKind(err) {
		return engine.Comparison{}, nil // its definition comes in the same run, else making it fails
	}
	c, err := d.client.Compare(ctx, o, live, d.opts.Force, r.Record == nil)
	if err != nil {
		return engine.Comparison{}, err
	}
	result := engine.Comparison{Replace: c.Immutable, Computed: []string{"spec", "data", "binaryData", "rules", "subjects"}}
	for _, change := range c.Changes {
		result.Changes = append(result.Changes, engine.Change{Path: change.Path, Before: change.Old, After: change.New})
	}
	for _, path := range unknown {
		result.Changes = append(result.Changes, engine.Change{Path: path, After: engine.Unknown{}})
	}
	if c.Immutable != "" && len(result.Changes) == 0 {
		result.Changes = []engine.Change{{Path: "spec", After: engine.Unknown{}}}
	}
	return result, nil
}

// Create applies an object that does not exist. One that is still being deleted is waited for.
func (d *Driver) Create(ctx context.Context, r engine.Request) (*engine.Object, error) {
	o, _, err := d.object(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := d.served(ctx, o); err != nil {
		return nil, err
	}
	live, err := d.client.Get(ctx, o.Unstructured)
	if err != nil {
		return nil, err
	}
	if live != nil && live.GetDeletionTimestamp() != nil {
		if err := d.client.DeleteObject(ctx, live, live.GetUID(), remaining(ctx)); err != nil {
			return nil, err
		}
	}
	return d.apply(ctx, o, false)
}

// served waits for the object's kind, which may have been defined a moment ago.
func (d *Driver) served(ctx context.Context, o manifest.Object) error {
	const patience = 15 * time.Second
	for start := time.Now(); ; {
		_, err := d.client.Namespaced(ctx, o.Unstructured)
		if !isUnknownKind(err) || time.Since(start) > patience {
			return err
		}
		d.client.Refresh()
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Update applies an object that exists. One that the state did not know is taken over from its predecessors.
func (d *Driver) Update(ctx context.Context, r engine.Request, _ *engine.Object) (*engine.Object, error) {
	o, _, err := d.object(ctx, r)
	if err != nil {
		return nil, err
	}
	return d.apply(ctx, o, r.Record == nil)
}

func (d *Driver) apply(ctx context.Context, o manifest.Object, takeOver bool) (*engine.Object, error) {
	live, err := d.client.ApplyObject(ctx, o, d.opts.Force, takeOver)
	if err != nil {
		return nil, err
	}
	if d.opts.Wait || o.GetKind() == "CustomResourceDefinition" {
		if err := d.client.Wait(ctx, []manifest.Object{o}, d.opts.Progress); err != nil {
			return nil, err
		}
	}
	return d.found(live)
}

// Delete removes the object if it is the recorded one, and waits until it is gone. What must be kept is left.
func (d *Driver) Delete(ctx context.Context, r engine.Request) error {
	o, _, err := d.object(ctx, r)
	if err != nil {
		return err
	}
	live, err := d.client.Get(ctx, o.Unstructured)
	if isUnknownKind(err) || err == nil && live == nil {
		return nil
	}
	if err != nil {
		return err
	}
	if live.GetAnnotations()[kube.KeepAnnotation] == "true" {
		return nil
	}
	if why := kube.Precious(o.GroupVersionKind().GroupKind()); why != "" && !slices.Contains(d.opts.AllowDelete, o.GetKind()) {
		return fmt.Errorf("%s is not deleted: %s; allow deleting %s to have it removed", o.Identity(), why, o.GetKind())
	}
	return d.client.DeleteObject(ctx, o.Unstructured, types.UID(r.Record.Identity), remaining(ctx))
}

// remaining is the time that the engine leaves for the operation.
func remaining(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return 5 * time.Minute
}
