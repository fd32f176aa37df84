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
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/kube/manifest"
)

// Options are the same for all objects of a run.
type Options struct {
	Owner       string // value of kube.OwnerLabel on every object; required
	Namespace   string // for namespaced objects that name none; default "default"
	Force       bool   // take over fields that other managers have set to other values
	Adopt       bool   // take objects that carry another owner's label
	AllowDelete []string
	// Progress is told what is waited for and why; may be nil.
	Progress func(engine.ID, kube.Event)
}

// Driver implements engine.Driver and the interfaces for reading at once, checking, waiting and a say in removals.
type Driver struct {
	client *kube.Client
	opts   Options

	mu          sync.Mutex
	live        map[manifest.Identity]*unstructured.Unstructured // as last read
	definitions kube.Definitions
	wanted      map[string]bool // namespaces that are made in the same run
}

// New returns a driver.
func New(client *kube.Client, opts Options) *Driver {
	opts.Namespace = cmp.Or(opts.Namespace, "default")
	return &Driver{client: client, opts: opts, live: map[manifest.Identity]*unstructured.Unstructured{}, wanted: map[string]bool{}}
}

// Version is 2.
func (d *Driver) Version() string { return "2" }

func (d *Driver) remember(u *unstructured.Unstructured) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live[manifest.IdentityOf(u)] = u
}

// seen returns the live object as last read, if it has the UID.
func (d *Driver) seen(id manifest.Identity, uid string) *unstructured.Unstructured {
	d.mu.Lock()
	defer d.mu.Unlock()
	if u := d.live[id]; u != nil && string(u.GetUID()) == uid {
		return u
	}
	return nil
}

// placeholder stands for a value that is not known yet when the server is asked what it thinks of the rest. It is good as an image, a
// name, and wherever any text is.
const placeholder = "known-after-apply"

// object builds what is applied from a request's inputs. Unknown values are left out.
func (d *Driver) object(ctx context.Context, r engine.Request) (o manifest.Object, unknown []string, err error) {
	return d.objectWith(ctx, r, nil)
}

// objectWith puts something in the place of unknown values; nil leaves them out.
func (d *Driver) objectWith(ctx context.Context, r engine.Request, instead any) (o manifest.Object, unknown []string, err error) {
	inputs := r.Inputs
	if inputs == nil && r.Record != nil {
		inputs = r.Record.Inputs
	}
	known, _ := withoutUnknown(engine.Reveal(inputs), "", instead, &unknown).(map[string]any)
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

// withoutUnknown copies a tree with something instead of what is not known yet, or without that, and notes its paths. References count as
// unknown.
func withoutUnknown(v any, path string, instead any, unknown *[]string) any {
	switch v := v.(type) {
	case engine.Unknown, engine.Reference, engine.External:
		*unknown = append(*unknown, path)
		return instead
	case map[string]any:
		m := make(map[string]any, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			below := k
			if path != "" {
				below = path + "." + k
			}
			before := len(*unknown)
			if e := withoutUnknown(v[k], below, instead, unknown); e != nil || len(*unknown) == before {
				m[k] = e
			}
		}
		return m
	case []any:
		list := make([]any, 0, len(v))
		for i, e := range v {
			before := len(*unknown)
			if e := withoutUnknown(e, fmt.Sprintf("%s[%d]", path, i), instead, unknown); e != nil || len(*unknown) == before {
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
	d.remember(live)
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

// Check finds objects that are described twice, and those of kinds that the cluster does not serve and nobody defines.
func (d *Driver) Check(ctx context.Context, requests []engine.Request) error {
	var errs []error
	first := make(map[manifest.Identity]engine.Request, len(requests))
	objects := make([]manifest.Object, 0, len(requests))
	kept := make([]engine.Request, 0, len(requests))
	for _, r := range requests {
		o, _, err := d.object(ctx, r)
		if err != nil {
			errs = append(errs, &engine.Problem{Origin: r.Origin, Resource: r.ID, Msg: err.Error(), Cause: err})
			continue
		}
		if other, twice := first[o.Identity()]; twice {
			errs = append(errs, &engine.Problem{Origin: r.Origin, Resource: r.ID, Msg: fmt.Sprintf("%s and %s are the same object: %s", at(other), at(r), o.Identity())})
			continue
		}
		first[o.Identity()] = r
		if o.GetKind() == "Namespace" {
			d.wanted[o.GetName()] = true
		}
		objects, kept = append(objects, o), append(kept, r)
	}
	d.definitions = kube.DefinitionsIn(objects)
	for i, o := range objects {
		if _, err := d.client.Namespaced(ctx, o.Unstructured); isUnknownKind(err) {
			for _, e := range manifest.Errors(placed(d.client.Check(ctx, d.definitions, o))) {
				origin := kept[i].Origin
				var f *fault
				if kept[i].Locate != nil && errors.As(e, &f) && f.field != "" {
					origin, _ = kept[i].Locate(f.field)
				}
				errs = append(errs, &engine.Problem{Origin: origin, Resource: kept[i].ID, Msg: e.Error(), Cause: e})
			}
		}
	}
	return errors.Join(errs...)
}

func at(r engine.Request) string {
	if r.Origin == "" {
		return string(r.ID)
	}
	return fmt.Sprintf("%s (%s)", r.ID, r.Origin)
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
			d.remember(u)
			if all[id], err = d.found(u); err != nil {
				return nil, err
			}
		}
	}
	return all, d.addAbsent(ctx, like, ids, all)
}

// addAbsent notes which of the objects that nothing was found of do not exist, so that they need not be asked for one by one.
func (d *Driver) addAbsent(ctx context.Context, like []*unstructured.Unstructured, ids map[manifest.Identity]engine.ID, all map[engine.ID]*engine.Object) error {
	var unseen []*unstructured.Unstructured
	for _, u := range like {
		if _, found := all[ids[manifest.IdentityOf(u)]]; !found {
			unseen = append(unseen, u)
		}
	}
	absent, err := d.client.Absent(ctx, unseen)
	for id := range absent {
		all[ids[id]] = nil
	}
	return err
}

// Compare asks the server by a dry run.
func (d *Driver) Compare(ctx context.Context, r engine.Request, object *engine.Object) (engine.Comparison, error) {
	c, err := d.compare(ctx, r, object)
	return c, placed(err)
}

func (d *Driver) compare(ctx context.Context, r engine.Request, object *engine.Object) (engine.Comparison, error) {
	o, unknown, err := d.object(ctx, r)
	if err != nil {
		return engine.Comparison{}, err
	}
	var live *unstructured.Unstructured
	if object != nil {
		if live = d.seen(o.Identity(), object.Identity); live == nil {
			if live, err = d.client.Get(ctx, o.Unstructured); err != nil {
				return engine.Comparison{}, err
			}
		}
	}
	if _, err := d.client.Namespaced(ctx, o.Unstructured); live == nil && isUnknownKind(err) {
		return engine.Comparison{}, nil // Check found its definition
	}
	if live != nil && r.Record == nil && !d.opts.Adopt {
		if other := live.GetLabels()[kube.OwnerLabel]; other != "" && other != d.opts.Owner {
			return engine.Comparison{}, o.ErrorAt("", fmt.Sprintf("it belongs to %q already", other), "give it another name, or adopt it")
		}
	}
	c, err := d.tried(ctx, r, o, live, unknown)
	if err != nil {
		return engine.Comparison{}, err
	}
	if live == nil && c.NoNamespace && !d.wanted[o.GetNamespace()] {
		return engine.Comparison{}, o.ErrorAt("metadata.namespace", fmt.Sprintf("the namespace %q does not exist", o.GetNamespace()), "add it to the manifests or create it first")
	}
	result := engine.Comparison{Replace: c.Immutable, Computed: []string{"spec", "data", "binaryData", "rules", "subjects"}}
	shown := 0
	for _, change := range c.Changes {
		if change.New == placeholder {
			change.New = engine.Unknown{}
			shown++
		}
		result.Changes = append(result.Changes, engine.Change{Path: change.Path, Before: change.Old, After: change.New})
	}
	for _, path := range unknown {
		if shown < len(unknown) && live != nil {
			result.Changes = append(result.Changes, engine.Change{Path: path, After: engine.Unknown{}})
		}
	}
	if c.Immutable != "" && len(result.Changes) == 0 {
		result.Changes = []engine.Change{{Path: "spec", After: engine.Unknown{}}}
	}
	return result, nil
}

// tried asks the server, with a placeholder for what is not known yet; where the server takes none there, without it. What it then finds
// wrong with just these fields is no fault yet.
func (d *Driver) tried(ctx context.Context, r engine.Request, o manifest.Object, live *unstructured.Unstructured, unknown []string) (kube.Comparison, error) {
	if len(unknown) == 0 {
		return d.client.Compare(ctx, o, live, d.opts.Force, r.Record == nil)
	}
	with, _, err := d.objectWith(ctx, r, placeholder)
	if err != nil {
		return kube.Comparison{}, err
	}
	c, err := d.client.Compare(ctx, with, live, d.opts.Force, r.Record == nil)
	if err == nil {
		return c, nil
	}
	c, err = d.client.Compare(ctx, o, live, d.opts.Force, r.Record == nil)
	var left []error
	for _, e := range manifest.Errors(err) {
		var m *manifest.Error
		if !errors.As(e, &m) || !slices.ContainsFunc(unknown, func(path string) bool { return path == m.Field || strings.HasPrefix(path, m.Field+".") }) {
			left = append(left, e)
		}
	}
	return c, errors.Join(left...)
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
	for {
		live, err := d.client.ApplyObject(ctx, o, d.opts.Force, false)
		if err != nil {
			return nil, placed(err)
		}
		if live.GetDeletionTimestamp() == nil {
			return d.made(ctx, o, live)
		}
		if err := d.client.DeleteObject(ctx, live, live.GetUID(), remaining(ctx)); err != nil {
			return nil, err
		}
	}
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
	live, err := d.client.ApplyObject(ctx, o, d.opts.Force, r.Record == nil)
	if err != nil {
		return nil, placed(err)
	}
	return d.made(ctx, o, live)
}

// made takes in what an apply led to. A definition is waited for at once, since what comes next may be of its kind.
func (d *Driver) made(ctx context.Context, o manifest.Object, live *unstructured.Unstructured) (*engine.Object, error) {
	if o.GetKind() == "CustomResourceDefinition" {
		if err := d.client.Wait(ctx, []manifest.Object{o}, nil); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	delete(d.live, o.Identity()) // its status is not that of the new version yet
	d.mu.Unlock()
	return d.found(live)
}

// Wait waits until objects are ready by the rules of package kube/status.
func (d *Driver) Wait(ctx context.Context, requests []engine.Request) map[engine.ID]error {
	failed := map[engine.ID]error{}
	ids := map[manifest.Identity]engine.ID{}
	var seen []kube.Seen
	for _, r := range requests {
		o, _, err := d.object(ctx, r)
		if err != nil {
			failed[r.ID] = err
			continue
		}
		ids[o.Identity()] = r.ID
		seen = append(seen, kube.Seen{Object: o, Live: d.seen(o.Identity(), r.Record.Identity)})
	}
	err := d.client.WaitFor(ctx, seen, func(e kube.Event) {
		if d.opts.Progress != nil {
			d.opts.Progress(ids[e.Object], e)
		}
	})
	var rest []error
	for _, e := range manifest.Errors(err) {
		var w *kube.WaitError
		if errors.As(e, &w) {
			failed[ids[w.Object]] = &readiness{w}
		} else {
			rest = append(rest, e)
		}
	}
	if len(rest) > 0 && len(requests) > 0 && len(failed) == 0 {
		failed[requests[0].ID] = errors.Join(rest...)
	}
	return failed
}

// readiness is a WaitError whose object is named by the engine.
type readiness struct{ *kube.WaitError }

func (e *readiness) Error() string {
	if e.Failed {
		return e.Reason
	}
	return "not ready in time: " + e.Reason
}
