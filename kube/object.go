package kube

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-dev/weft/kube/manifest"
)

// The methods of this file are for callers that keep their own record of what they own and handle one object at a time.

// Comparison is what an apply of one object would do.
type Comparison struct {
	Exists  bool
	Changes []Change
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
		return Comparison{}, nil // the namespace may be made in the same run
	case err != nil:
		return Comparison{}, explain(o, err)
	case live == nil:
		return Comparison{}, nil
	}
	if takeOver && len(predecessorsOf(live)) > 0 {
		if err := foreseeTakeOver(live, result, c.manager); err != nil {
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
