package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/kube/status"
)

// patience is how long an object may be stuck (see status.Status) before waiting for it is given up.
const patience = 45 * time.Second

// waitTarget is an object to wait for.
type waitTarget struct {
	object   manifest.Object
	resource Resource
	seen     *unstructured.Unstructured // its latest known state, nil if it was just applied
}

// WaitError says that an object is not ready.
type WaitError struct {
	Object manifest.Identity
	Pos    manifest.Position
	Reason string
	Failed bool // it will not become ready; otherwise time ran out
}

// Error names the object, its place and the reason.
func (e *WaitError) Error() string {
	s := e.Object.String() + ": "
	if p := e.Pos.String(); p != "" {
		s = p + ": " + s
	}
	if !e.Failed {
		s += "not ready in time: "
	}
	return s + e.Reason
}

// Wait waits until the given live or applied objects are ready, as long as the context lasts. The error joins one
// WaitError for each that is not. Progress may be nil.
func (c *Client) Wait(ctx context.Context, objects []manifest.Object, progress func(Event)) error {
	var targets []waitTarget
	for _, o := range objects {
		r, err := c.kinds.find(ctx, o.GroupVersionKind())
		if err != nil {
			return o.ErrorAt("kind", err.Error(), "")
		}
		targets = append(targets, waitTarget{object: o, resource: r})
	}
	return c.wait(ctx, targets, progress)
}

func (r *runner) wait(ctx context.Context) error {
	var targets []waitTarget
	for _, s := range r.plan.Steps {
		switch s.Action {
		case Unchanged:
			targets = append(targets, waitTarget{object: s.desired, resource: s.resource, seen: s.live})
		case Create, Update, AdoptIt:
			targets = append(targets, waitTarget{object: s.desired, resource: s.resource})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.set.Timeout)
	defer cancel()
	return r.client.wait(ctx, targets, func(e Event) {
		if r.set.Progress != nil {
			r.set.Progress(e)
		}
	})
}

// waiter holds what is known of the targets. Only its own goroutine touches it; watches send it what they see.
type waiter struct {
	client   *Client
	progress func(Event)
	targets  map[manifest.Identity]*waited
	pods     map[types.NamespacedName]*unstructured.Unstructured
	warnings map[about]string
	late     map[string]bool // storage classes by name: binds late
	total    int
}

type waited struct {
	waitTarget
	status     status.Status
	stuckSince time.Time
}

type about struct{ kind, namespace, name string }

// sighting is what a watch saw.
type sighting struct {
	kind   schema.GroupKind
	object *unstructured.Unstructured
	gone   bool
}

func (c *Client) wait(ctx context.Context, targets []waitTarget, progress func(Event)) error {
	if progress == nil {
		progress = func(Event) {}
	}
	w := &waiter{client: c, progress: progress, targets: map[manifest.Identity]*waited{}, pods: map[types.NamespacedName]*unstructured.Unstructured{},
		warnings: map[about]string{}, late: map[string]bool{}}
	for _, t := range targets {
		if status.Immediate(t.object.GroupVersionKind().GroupKind()) {
			continue
		}
		target := &waited{waitTarget: t}
		if t.seen != nil && status.Of(t.seen, w.related(ctx, target)).State == status.Ready {
			continue
		}
		target.seen = nil
		w.targets[t.object.Identity()] = target
	}
	if w.total = len(w.targets); w.total == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sightings := make(chan sighting, 64)
	failures := make(chan error, 1)
	w.watchAll(ctx, sightings, failures)
	return w.loop(ctx, sightings, failures)
}

func (w *waiter) loop(ctx context.Context, sightings <-chan sighting, failures <-chan error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	dirty := true
	for {
		select {
		case <-ctx.Done():
			return w.unfinished(context.Cause(ctx))
		case err := <-failures:
			return err
		case s := <-sightings:
			w.see(s)
			dirty = true
			if len(sightings) > 0 {
				continue
			}
		case <-tick.C:
		}
		if dirty {
			w.judge(ctx)
			dirty = false
		}
		if done, err := w.verdict(time.Now()); done {
			return err
		}
	}
}

func (w *waiter) see(s sighting) {
	u := s.object
	switch s.kind {
	case podKind:
		key := types.NamespacedName{Namespace: u.GetNamespace(), Name: u.GetName()}
		if s.gone {
			delete(w.pods, key)
		} else {
			w.pods[key] = u
		}
	case eventKind:
		kind, _, _ := unstructured.NestedString(u.Object, "involvedObject", "kind")
		name, _, _ := unstructured.NestedString(u.Object, "involvedObject", "name")
		message, _, _ := unstructured.NestedString(u.Object, "message")
		reason, _, _ := unstructured.NestedString(u.Object, "reason")
		w.warnings[about{kind, u.GetNamespace(), name}] = reason + ": " + message
	}
	if t := w.targets[manifest.IdentityOf(u)]; t != nil && s.kind == t.object.GroupVersionKind().GroupKind() {
		t.seen = u
		if s.gone {
			t.seen = nil
		}
	}
}

// judge looks at every target again and tells what changed.
func (w *waiter) judge(ctx context.Context) {
	for id, t := range w.targets {
		now := status.Status{State: status.Waiting, Reason: "not seen yet"}
		if t.seen != nil {
			now = status.Of(t.seen, w.related(ctx, t))
		}
		if now == t.status {
			continue
		}
		if !now.Stuck {
			t.stuckSince = time.Time{}
		} else if t.stuckSince.IsZero() {
			t.stuckSince = time.Now()
		}
		told := t.status.State != now.State || t.status.Reason != now.Reason
		t.status = now
		if told {
			w.progress(Event{Phase: Waiting, Object: id, State: string(now.State), Reason: now.Reason, Done: w.ready(), Total: w.total})
		}
	}
}

func (w *waiter) ready() int {
	n := 0
	for _, t := range w.targets {
		if t.status.State == status.Ready {
			n++
		}
	}
	return n
}

// verdict says whether waiting is over: all are ready, or one failed or was stuck for too long.
func (w *waiter) verdict(now time.Time) (done bool, err error) {
	var errs []error
	for _, t := range w.targets {
		hopeless := t.status.State == status.Failed || t.status.Stuck && !t.stuckSince.IsZero() && now.Sub(t.stuckSince) >= patience
		if hopeless {
			errs = append(errs, &WaitError{Object: t.object.Identity(), Pos: t.object.Start(), Reason: t.status.Reason, Failed: true})
		}
	}
	if len(errs) > 0 {
		return true, errors.Join(errs...)
	}
	return w.ready() == w.total, nil
}

func (w *waiter) unfinished(cause error) error {
	if !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	var errs []error
	for _, t := range w.targets {
		if t.status.State != status.Ready {
			errs = append(errs, &WaitError{Object: t.object.Identity(), Pos: t.object.Start(), Reason: t.status.Reason})
		}
	}
	return errors.Join(errs...)
}

// related gathers what explains a target.
func (w *waiter) related(ctx context.Context, t *waited) status.Related {
	u := t.seen
	if u == nil {
		return status.Related{}
	}
	gk := u.GroupVersionKind().GroupKind()
	r := status.Related{Warning: w.warnings[about{gk.Kind, u.GetNamespace(), u.GetName()}]}
	switch {
	case gk == claimKind:
		r.BindsLate = w.bindsLate(ctx, u)
	case gk == podKind:
	case status.RunsPods(gk):
		selector := selectorOf(u)
		r.PodWarnings = map[string]string{}
		for key, p := range w.pods {
			if key.Namespace == u.GetNamespace() && selector.Matches(labels.Set(p.GetLabels())) {
				r.Pods = append(r.Pods, p)
				if text := w.warnings[about{"Pod", key.Namespace, key.Name}]; text != "" {
					r.PodWarnings[key.Name] = text
				}
			}
		}
	}
	return r
}

func selectorOf(u *unstructured.Unstructured) labels.Selector {
	if plain, found, err := unstructured.NestedStringMap(u.Object, "spec", "selector"); err == nil && found {
		return labels.SelectorFromSet(plain) // a ReplicationController's
	}
	object, found, err := unstructured.NestedMap(u.Object, "spec", "selector")
	if err != nil || !found {
		return labels.Nothing()
	}
	var ls metav1.LabelSelector
	if err := converter.FromUnstructured(object, &ls); err != nil {
		return labels.Nothing()
	}
	s, err := metav1.LabelSelectorAsSelector(&ls)
	if err != nil {
		return labels.Nothing()
	}
	return s
}

// bindsLate asks once for each storage class; without the permission to read it, it is taken to bind at once.
func (w *waiter) bindsLate(ctx context.Context, claim *unstructured.Unstructured) bool {
	name, _, _ := unstructured.NestedString(claim.Object, "spec", "storageClassName")
	if name == "" {
		return false
	}
	late, asked := w.late[name]
	if !asked {
		class, err := w.client.get(ctx, storageClassResource, "", name)
		if err == nil && class != nil {
			mode, _, _ := unstructured.NestedString(class.Object, "volumeBindingMode")
			late = mode == "WaitForFirstConsumer"
		}
		w.late[name] = late
	}
	return late
}

// untilGone waits until the object with this UID is no longer there.
func (c *Client) untilGone(ctx context.Context, r Resource, live *unstructured.Unstructured, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		now, err := c.get(ctx, r, live.GetNamespace(), live.GetName())
		if err == nil && (now == nil || now.GetUID() != live.GetUID()) {
			return nil
		}
		if err == nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(delay):
				continue
			}
		}
		if ctx.Err() != nil {
			if now == nil {
				now = live
			}
			return fmt.Errorf("%s is still being deleted after %s%s", manifest.IdentityOf(live), timeout, heldBy(now))
		}
		return err
	}
}

func heldBy(u *unstructured.Unstructured) string {
	if f := u.GetFinalizers(); len(f) > 0 {
		return fmt.Sprintf(", held back by the finalizers %v", f)
	}
	return ""
}

// follow lists and watches until the context ends, and begins again when the server ends the watch. Only a refusal by
// the server is returned.
func (c *Client) follow(ctx context.Context, r Resource, namespace string, opts metav1.ListOptions, tell func(u *unstructured.Unstructured, gone bool)) error {
	known := map[string]*unstructured.Unstructured{}
	for ctx.Err() == nil {
		list, err := retry(ctx, func(ctx context.Context) (*unstructured.UnstructuredList, error) {
			return c.on(r, namespace).List(ctx, opts)
		})
		if err != nil {
			return err
		}
		now := make(map[string]*unstructured.Unstructured, len(list.Items))
		for i := range list.Items {
			u := &list.Items[i]
			now[u.GetNamespace()+"/"+u.GetName()] = u
			tell(u, false)
		}
		for key, u := range known {
			if now[key] == nil {
				tell(u, true)
			}
		}
		known = now
		if err := c.watch(ctx, r, namespace, opts, list.GetResourceVersion(), known, tell); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) watch(ctx context.Context, r Resource, namespace string, opts metav1.ListOptions, version string, known map[string]*unstructured.Unstructured, tell func(*unstructured.Unstructured, bool)) error {
	for ctx.Err() == nil {
		opts.ResourceVersion, opts.AllowWatchBookmarks = version, true
		stream, err := c.on(r, namespace).Watch(ctx, opts)
		if err != nil {
			if apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err) {
				return err
			}
			pause(ctx, time.Second)
			return nil
		}
		for e := range stream.ResultChan() {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok || e.Type == watch.Error {
				stream.Stop()
				pause(ctx, 200*time.Millisecond)
				return nil // list again
			}
			version = u.GetResourceVersion()
			key := u.GetNamespace() + "/" + u.GetName()
			switch e.Type {
			case watch.Added, watch.Modified:
				known[key] = u
				tell(u, false)
			case watch.Deleted:
				delete(known, key)
				tell(u, true)
			}
		}
		pause(ctx, 100*time.Millisecond)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
