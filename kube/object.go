package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-dev/weft/kube/manifest"
)

// The methods of this file are for callers that keep their own record of what they own and handle one object at a time.

// Comparison is what an apply of one object would do.
type Comparison struct {
	Exists  bool
	Changes []Change
	// NoNamespace says that the object's namespace does not exist; what the object is could not be tried.
	NoNamespace bool
	// Immutable says why the object cannot be changed in place, with the field; empty if it can.
	Immutable string
}

// Compare asks the server by a dry run what an apply of the object would make of the live one (from Get; nil if there is
// none). With force conflicts are overridden; with takeOver those with predecessors are, and what taking over removes is
// told too.
func (c *Client) Compare(ctx context.Context, o manifest.Object, live *unstructured.Unstructured, force, takeOver bool) (Comparison, error) {
	r, err := c.kinds.find(ctx, o.GroupVersionKind())
	if err != nil {
		return Comparison{}, o.ErrorAt("kind", err.Error(), "check apiVersion and kind")
	}
	result, err := c.patch(ctx, r, o.Unstructured, patchOptions{dryRun: true, force: force})
	if takeOver && isFieldConflict(err) {
		if foreign := withoutPredecessors(explain(o, err)); foreign != nil {
			return Comparison{}, foreign
		}
		result, err = c.patch(ctx, r, o.Unstructured, patchOptions{dryRun: true, force: true})
	}
	switch {
	case isTypeError(err):
		return Comparison{}, c.allTypeErrors(ctx, o, err)
	case live != nil && isImmutable(err):
		return Comparison{Exists: true, Immutable: explain(o, err).Error()}, nil
	case live == nil && apierrors.IsNotFound(err):
		return Comparison{NoNamespace: true}, nil // it may be made in the same run
	case err != nil:
		return Comparison{}, explain(o, err)
	case live == nil:
		return Comparison{}, nil
	}
	if takeOver && len(predecessorsOf(live)) > 0 {
		if err := c.foreseeTakeOver(ctx, r, o, live, result); err != nil {
			return Comparison{}, o.ErrorAt("", err.Error(), "")
		}
	}
	return Comparison{Exists: true, Changes: Diff(live, result)}, nil
}

func isImmutable(err error) bool {
	return apierrors.IsInvalid(err) && (strings.Contains(err.Error(), "field is immutable") || strings.Contains(err.Error(), "may not change once set") ||
		strings.Contains(err.Error(), "updates to statefulset spec for fields other than"))
}

// ApplyObject applies one object and returns what the server made of it. With takeOver the fields of predecessors become
// the manager's own first.
func (c *Client) ApplyObject(ctx context.Context, o manifest.Object, force, takeOver bool) (*unstructured.Unstructured, error) {
	r, err := c.kinds.find(ctx, o.GroupVersionKind())
	if err != nil {
		return nil, o.ErrorAt("kind", err.Error(), "check apiVersion and kind")
	}
	if takeOver {
		if err := c.adopt(ctx, Step{Object: o.Identity(), resource: r}); err != nil {
			return nil, explain(o, err)
		}
	}
	result, err := c.patch(ctx, r, o.Unstructured, patchOptions{force: force})
	return result, explain(o, err)
}

// DeleteObject deletes the object if it still has the UID and waits until it is gone. An object that is gone, or is
// another by now, is no error.
func (c *Client) DeleteObject(ctx context.Context, u *unstructured.Unstructured, uid types.UID, timeout time.Duration) error {
	r, err := c.kinds.find(ctx, u.GroupVersionKind())
	if isUnknownKind(err) {
		var unknown *UnknownKindError
		if errors.As(err, &unknown) && unknown.Cause == nil {
			return nil // its kind is gone and the object with it
		}
	}
	if err != nil {
		return err
	}
	done, err := c.deleteUID(ctx, r, u.GetNamespace(), u.GetName(), uid)
	if err != nil || !done {
		return err
	}
	gone := u.DeepCopy()
	gone.SetUID(uid)
	return c.untilGone(ctx, r, gone, timeout)
}

// List reads the objects of the kinds of the given ones that carry the owner's label: one request for each kind.
func (c *Client) List(ctx context.Context, like []*unstructured.Unstructured, owner string) (map[manifest.Identity]*unstructured.Unstructured, error) {
	type kindIn struct {
		resource   Resource
		namespaces []string
	}
	byKind := map[string]*kindIn{}
	for _, u := range like {
		r, err := c.kinds.find(ctx, u.GroupVersionKind())
		if isUnknownKind(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		key := r.GVR.String()
		if byKind[key] == nil {
			byKind[key] = &kindIn{resource: r}
		}
		if k := byKind[key]; !slices.Contains(k.namespaces, u.GetNamespace()) {
			k.namespaces = append(k.namespaces, u.GetNamespace())
		}
	}
	kinds := make([]*kindIn, 0, len(byKind))
	for _, k := range byKind {
		kinds = append(kinds, k)
	}
	lists := make([][]unstructured.Unstructured, len(kinds))
	err := inParallel(ctx, 8, len(kinds), func(ctx context.Context, i int) (err error) {
		lists[i], err = c.listIn(ctx, kinds[i].resource, kinds[i].namespaces, OwnerLabel+"="+owner)
		return err
	})
	found := map[manifest.Identity]*unstructured.Unstructured{}
	for _, list := range lists {
		for i := range list {
			found[manifest.IdentityOf(&list[i])] = &list[i]
		}
	}
	return found, err
}

// worthListing is how many objects of one kind in one namespace are looked for before listing names is cheaper than asking for each.
const worthListing = 8

// Absent says which of the objects surely do not exist, for kinds and namespaces where that can be told by one list of names.
func (c *Client) Absent(ctx context.Context, objects []*unstructured.Unstructured) (map[manifest.Identity]bool, error) {
	type place struct {
		resource  Resource
		namespace string
	}
	groups := map[place][]manifest.Identity{}
	for _, u := range objects {
		r, err := c.kinds.find(ctx, u.GroupVersionKind())
		if isUnknownKind(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		at := place{r, u.GetNamespace()}
		groups[at] = append(groups[at], manifest.IdentityOf(u))
	}
	var places []place
	for at, ids := range groups {
		if len(ids) >= worthListing {
			places = append(places, at)
		}
	}
	absent := map[manifest.Identity]bool{}
	names := make([]map[string]bool, len(places))
	err := inParallel(ctx, 8, len(places), func(ctx context.Context, i int) error {
		list, err := retry(ctx, func(ctx context.Context) (*metav1.PartialObjectMetadataList, error) {
			return c.metadata.Resource(places[i].resource.GVR).Namespace(places[i].namespace).List(ctx, metav1.ListOptions{Limit: pageSize})
		})
		if apierrors.IsForbidden(err) || err == nil && list.Continue != "" {
			return nil // each is asked for
		}
		if err != nil {
			return err
		}
		names[i] = map[string]bool{}
		for _, item := range list.Items {
			names[i][item.Name] = true
		}
		return nil
	})
	for i, at := range places {
		if names[i] == nil {
			continue
		}
		for _, id := range groups[at] {
			if !names[i][id.Name] {
				absent[id] = true
			}
		}
	}
	return absent, err
}

// OwnedFingerprint changes when a field of the live object that the client's manager owns is changed or taken by another,
// and does not when others change what is theirs.
func (c *Client) OwnedFingerprint(live *unstructured.Unstructured) (string, error) {
	return ownedFingerprint(live, c.manager)
}

// Namespaced says whether the kind's objects live in namespaces.
func (c *Client) Namespaced(ctx context.Context, u *unstructured.Unstructured) (bool, error) {
	r, err := c.kinds.find(ctx, u.GroupVersionKind())
	return r.Namespaced, err
}

// Refresh forgets which kinds the cluster serves; the next kind that is missing has the list read again.
func (c *Client) Refresh() { c.kinds.invalidate() }

// Seen is an object to wait for, with its live state if that is known.
type Seen struct {
	Object manifest.Object
	Live   *unstructured.Unstructured
}

// WaitFor waits until the objects are ready, as long as the context lasts, and returns a WaitError for each that is not. What is ready by
// what was seen of it costs nothing. Progress may be nil.
func (c *Client) WaitFor(ctx context.Context, objects []Seen, progress func(Event)) error {
	var targets []waitTarget
	for _, o := range objects {
		r, err := c.kinds.find(ctx, o.Object.GroupVersionKind())
		if err != nil {
			return o.Object.ErrorAt("kind", err.Error(), "")
		}
		targets = append(targets, waitTarget{object: o.Object, resource: r, seen: o.Live})
	}
	return c.wait(ctx, targets, progress)
}

// Disown takes the owner's label off an object that is forgotten, if it still has the UID and the label.
func (c *Client) Disown(ctx context.Context, u *unstructured.Unstructured, uid types.UID, owner string) error {
	r, err := c.kinds.find(ctx, u.GroupVersionKind())
	if isUnknownKind(err) {
		return nil
	}
	if err != nil {
		return err
	}
	live := u.DeepCopy()
	live.SetUID(uid)
	live.SetLabels(map[string]string{OwnerLabel: owner})
	return c.disown(ctx, Step{Object: manifest.IdentityOf(u), resource: r, live: live})
}

// maxCounted is how many objects are counted of one kind at most.
const maxCounted = 1000

// GoesWith says what would go with a live object of a precious kind if it were deleted, for people: how many objects of which kinds are
// in a namespace, how many a definition has, which volume a claim has.
func (c *Client) GoesWith(ctx context.Context, live *unstructured.Unstructured) (string, error) {
	switch live.GroupVersionKind().GroupKind() {
	case namespaceKind:
		return c.contentsOf(ctx, live.GetName())
	case crdKind:
		group, _, _ := unstructured.NestedString(live.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(live.Object, "spec", "names", "kind")
		r, err := c.kinds.findKind(ctx, schema.GroupKind{Group: group, Kind: kind})
		if isUnknownKind(err) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		n, err := c.count(ctx, r, "")
		return countText(n, kind), err
	case claimKind:
		volume, _, _ := unstructured.NestedString(live.Object, "spec", "volumeName")
		size, _, _ := unstructured.NestedString(live.Object, "status", "capacity", "storage")
		return strings.TrimSpace("PersistentVolume " + volume + " " + size), nil
	case volumeKind:
		size, _, _ := unstructured.NestedString(live.Object, "spec", "capacity", "storage")
		return size, nil
	}
	return "", nil
}

// contentsOf counts the objects of a namespace by kind, without those that come with every namespace or make themselves.
func (c *Client) contentsOf(ctx context.Context, namespace string) (string, error) {
	all, err := c.kinds.namespaced(ctx)
	if err != nil {
		return "", err
	}
	counts := make([]int, len(all))
	if err := inParallel(ctx, 8, len(all), func(ctx context.Context, i int) error {
		n, err := c.count(ctx, all[i], namespace)
		if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
			return nil
		}
		counts[i] = n
		return err
	}); err != nil {
		return "", err
	}
	var parts []string
	for i, r := range all {
		if text := countText(counts[i], r.Kind); text != "" {
			parts = append(parts, text)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", "), nil
}

func countText(n int, kind string) string {
	switch {
	case n == 0:
		return ""
	case n >= maxCounted:
		return fmt.Sprintf("%s (%d or more)", kind, maxCounted)
	}
	return fmt.Sprintf("%s (%d)", kind, n)
}

func (c *Client) count(ctx context.Context, r Resource, namespace string) (int, error) {
	list, err := c.on(r, namespace).List(ctx, metav1.ListOptions{Limit: maxCounted})
	if err != nil {
		return 0, err
	}
	n := 0
	for i := range list.Items {
		name := list.Items[i].GetName()
		if r.Kind == "ServiceAccount" && name == "default" || r.Kind == "ConfigMap" && name == "kube-root-ca.crt" {
			continue
		}
		n++
	}
	return n, nil
}

// Definitions are the CustomResourceDefinitions among objects.
type Definitions struct {
	byKind map[schema.GroupKind]definition
}

// DefinitionsIn finds the definitions among the objects.
func DefinitionsIn(objects []manifest.Object) Definitions { return Definitions{definitions(objects)} }

// Check looks at an object whose kind the cluster does not serve yet: it is good if the definitions serve the kind and its fields fit the
// schema that they give.
func (c *Client) Check(ctx context.Context, d Definitions, o manifest.Object) error {
	gvk := o.GroupVersionKind()
	found, defined := d.byKind[gvk.GroupKind()]
	openAPI, served := found.served[gvk.Version]
	if !defined || !served {
		_, err := c.kinds.find(ctx, gvk)
		if err == nil {
			return nil
		}
		return o.ErrorAt("kind", err.Error(), "check apiVersion and kind, or add the CustomResourceDefinition")
	}
	return errors.Join(checkSchema(o, schemaOf(openAPI, nil))...)
}

// EnsureNamespace makes a namespace if it does not exist.
func (c *Client) EnsureNamespace(ctx context.Context, name string) error {
	found, err := c.get(ctx, namespaceResource, "", name)
	if err != nil || found != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
	_, err = retry(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return c.on(namespaceResource, "").Create(ctx, u, metav1.CreateOptions{FieldManager: c.manager})
	})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
