package manager

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/weft-dev/weft/kube"
)

// reconciler brings the cluster to what parts plan.
type reconciler struct {
	client   *kube.Client
	objects  dynamic.Interface
	clients  kubernetes.Interface
	log      *slog.Logger
	resync   time.Duration
	applied  map[kube.Owner]applied
	failures int
}

// applied is what was applied last for an owner, and when.
type applied struct {
	fingerprint [sha256.Size]byte
	at          time.Time
}

// backoff is when to try again after an error: soon, then less often.
func (r *reconciler) backoff(longest time.Duration) time.Duration {
	r.failures++
	return min(longest, time.Second<<min(r.failures, 8))
}

func (r *reconciler) reconcile(ctx context.Context, part Part, listers []cache.GenericLister) error {
	var all []*unstructured.Unstructured
	for _, lister := range listers {
		objects, err := lister.List(labels.Everything())
		if err != nil {
			return err
		}
		for _, o := range objects {
			if u, ok := o.(*unstructured.Unstructured); ok {
				all = append(all, u)
			}
		}
	}
	plan, err := part.Plan(ctx, all, r, time.Now())
	if err != nil {
		return err
	}
	var errs []error
	wanted := map[kube.Owner]bool{}
	failed := map[Ref]error{}
	for _, set := range plan.Sets {
		owner := ownerOf(part, set.Of)
		wanted[owner] = true
		if err := r.apply(ctx, owner, set); err != nil {
			failed[set.Of] = err
			errs = append(errs, fmt.Errorf("%s %s/%s: %w", set.Of.Kind, set.Of.Namespace, set.Of.Name, err))
		}
	}
	errs = append(errs, r.remove(ctx, part, wanted))
	for _, s := range plan.Statuses {
		if err := failed[s.Ref]; err != nil {
			s.notApplied(err)
		}
		errs = append(errs, r.status(ctx, s, all))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.failures = 0
	return nil
}

// ownerOf names the set of a resource. The name of its inventory tells the part, the kind and the name.
func ownerOf(part Part, of Ref) kube.Owner {
	return kube.Owner{Namespace: of.Namespace, Name: part.Name() + "-" + strings.ToLower(of.Kind) + "-" + of.Name}
}

// apply applies a set unless it was applied as it is a short time ago.
func (r *reconciler) apply(ctx context.Context, owner kube.Owner, set Set) error {
	h := sha256.New()
	for _, o := range set.Objects {
		if err := json.NewEncoder(h).Encode(o.Object); err != nil {
			return err
		}
	}
	fingerprint := [sha256.Size]byte(h.Sum(nil))
	if last := r.applied[owner]; last.fingerprint == fingerprint && time.Since(last.at) < r.resync {
		return nil
	}
	result, err := r.client.Apply(ctx, kube.Set{Owner: owner, Objects: set.Objects, Force: true})
	if err != nil {
		return err
	}
	if result.Changed() {
		r.log.Info("applied", "kind", set.Of.Kind, "namespace", set.Of.Namespace, "name", set.Of.Name, "counts", fmt.Sprint(result.Counts))
	}
	r.applied[owner] = applied{fingerprint, time.Now()}
	return nil
}

// remove deletes the sets of resources that are gone.
func (r *reconciler) remove(ctx context.Context, part Part, wanted map[kube.Owner]bool) error {
	list, err := r.clients.CoreV1().Secrets("").List(ctx, metav1.ListOptions{FieldSelector: "type=" + inventoryType})
	if err != nil {
		return fmt.Errorf("listing inventories: %w", err)
	}
	var errs []error
	prefix := kube.Owner{Name: part.Name() + "-"}.SecretName()
	for _, s := range list.Items {
		name, ours := strings.CutPrefix(s.Name, prefix)
		owner := kube.Owner{Namespace: s.Namespace, Name: part.Name() + "-" + name}
		if !ours || wanted[owner] {
			continue
		}
		if _, err := r.client.Delete(ctx, kube.Set{Owner: owner}); err != nil {
			errs = append(errs, fmt.Errorf("removing what %s left behind: %w", name, err))
			continue
		}
		delete(r.applied, owner)
		r.log.Info("removed", "namespace", s.Namespace, "set", name)
	}
	return errors.Join(errs...)
}

// inventoryType is the type of the Secrets in which package kube keeps inventories.
const inventoryType = "weft.dev/inventory"

// status writes a status that differs from the live one.
func (r *reconciler) status(ctx context.Context, s Status, all []*unstructured.Unstructured) error {
	var live *unstructured.Unstructured
	for _, o := range all {
		if o.GetKind() == s.Kind && o.GetNamespace() == s.Namespace && o.GetName() == s.Name && o.GroupVersionKind().Group == s.Resource.Group {
			live = o
		}
	}
	if live == nil {
		return nil
	}
	old, _, _ := unstructured.NestedMap(live.Object, "status")
	keepTimes(old, s.Status)
	if same(old, s.Status) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": s.Status})
	if err != nil {
		return err
	}
	_, err = r.objects.Resource(s.Resource).Namespace(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: kube.FieldManager}, "status")
	if apierrors.IsNotFound(err) { // it was deleted meanwhile
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing the status of %s %s/%s: %w", s.Kind, s.Namespace, s.Name, err)
	}
	var errs []error
	for _, w := range s.Warnings {
		if !said(old, w) {
			errs = append(errs, r.event(ctx, s, w, live))
		}
	}
	return errors.Join(errs...)
}

// said tells whether a status holds a warning already.
func said(status map[string]any, w Warning) bool {
	conditions, _ := status["conditions"].([]any)
	return slices.ContainsFunc(conditions, func(item any) bool {
		c, _ := item.(map[string]any)
		return c["status"] == "False" && c["reason"] == w.Reason && c["message"] == w.Message
	})
}

// notApplied adds to a status that the cluster did not take what the resource leads to.
func (s *Status) notApplied(err error) {
	conditions, _ := s.Status["conditions"].([]any)
	s.Status["conditions"] = append(conditions, map[string]any{"type": "Applied", "status": "False", "reason": "Refused", "message": err.Error(), "lastTransitionTime": time.Now().UTC().Format(time.RFC3339)})
	s.Warnings = append(s.Warnings, Warning{"Refused", err.Error()})
}

// keepTimes keeps the time of each condition whose state is as before.
func keepTimes(old, status map[string]any) {
	before, _ := old["conditions"].([]any)
	now, _ := status["conditions"].([]any)
	for _, item := range now {
		c, _ := item.(map[string]any)
		for _, item := range before {
			if o, _ := item.(map[string]any); o["type"] == c["type"] && o["status"] == c["status"] && o["lastTransitionTime"] != nil {
				c["lastTransitionTime"] = o["lastTransitionTime"]
			}
		}
	}
}

// same compares two values as JSON has them.
func same(a, b any) bool {
	var x, y any
	p, err1 := json.Marshal(a)
	q, err2 := json.Marshal(b)
	if err1 != nil || err2 != nil || json.Unmarshal(p, &x) != nil || json.Unmarshal(q, &y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}

// event tells a warning to those who look at the object's events.
func (r *reconciler) event(ctx context.Context, s Status, w Warning, live *unstructured.Unstructured) error {
	namespace := s.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	now := metav1.Now()
	message := w.Message
	if len(message) > 1000 {
		message = message[:1000] + "..."
	}
	_, err := r.clients.CoreV1().Events(namespace).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: s.Name + ".", Namespace: namespace},
		InvolvedObject: corev1.ObjectReference{APIVersion: live.GetAPIVersion(), Kind: s.Kind, Namespace: s.Namespace, Name: s.Name, UID: live.GetUID(), ResourceVersion: live.GetResourceVersion()},
		Reason:         w.Reason, Message: message, Type: corev1.EventTypeWarning, Source: corev1.EventSource{Component: "weft"},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("writing an event for %s %s/%s: %w", s.Kind, s.Namespace, s.Name, err)
	}
	return nil
}

// Read reads one object.
func (r *reconciler) Read(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	u, err := r.objects.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return u, err
}

// List lists the objects that a selector selects.
func (r *reconciler) List(ctx context.Context, resource schema.GroupVersionResource, namespace, selector string) ([]*unstructured.Unstructured, error) {
	list, err := r.objects.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("listing %s in %s: %w", resource.Resource, namespace, err)
	}
	all := make([]*unstructured.Unstructured, len(list.Items))
	for i := range list.Items {
		all[i] = &list.Items[i]
	}
	return all, nil
}
