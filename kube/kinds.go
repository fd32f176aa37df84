package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/weft-dev/weft/kube/manifest"
)

// Resource is how a cluster serves a kind.
type Resource struct {
	GVR        schema.GroupVersionResource
	Kind       string
	Namespaced bool
}

// UnknownKindError says that the cluster serves no such kind.
type UnknownKindError struct {
	GVK   schema.GroupVersionKind
	Cause error // why the list of kinds is incomplete, if it is
	other string
}

// Error names the kind and, if the cluster serves it in another version, that version.
func (e *UnknownKindError) Error() string {
	s := fmt.Sprintf("the cluster serves no kind %s in %s", e.GVK.Kind, e.GVK.GroupVersion())
	if e.other != "" {
		s += fmt.Sprintf("; it serves it in %s", e.other)
	}
	if e.Cause != nil {
		s += fmt.Sprintf("; part of its kinds could not be read: %v", e.Cause)
	}
	return s
}

// Unwrap returns the cause.
func (e *UnknownKindError) Unwrap() error { return e.Cause }

// kinds is the cached list of what a cluster serves. It is read once and again when a kind is missing.
type kinds struct {
	disco discovery.DiscoveryInterfaceWithContext

	mu        sync.Mutex
	served    map[schema.GroupVersionKind]Resource
	preferred map[schema.GroupKind]schema.GroupVersionKind
	partial   error
	stale     bool // something may have been added since it was read
}

func newKinds(d discovery.DiscoveryInterfaceWithContext) *kinds {
	return &kinds{disco: d, stale: true}
}

// invalidate makes the next miss read the list again.
func (k *kinds) invalidate() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stale = true
}

func (k *kinds) find(ctx context.Context, gvk schema.GroupVersionKind) (Resource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r, ok := k.served[gvk]; ok {
		return r, nil
	}
	if k.stale {
		if err := k.read(ctx); err != nil {
			return Resource{}, err
		}
	}
	r, ok := k.served[gvk]
	if !ok {
		e := &UnknownKindError{GVK: gvk, Cause: k.partial}
		if p, ok := k.preferred[gvk.GroupKind()]; ok {
			e.other = p.GroupVersion().String()
		}
		return Resource{}, e
	}
	return r, nil
}

// findKind returns the version that the cluster prefers.
func (k *kinds) findKind(ctx context.Context, gk schema.GroupKind) (Resource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.preferred[gk]; !ok && k.stale {
		if err := k.read(ctx); err != nil {
			return Resource{}, err
		}
	}
	if gvk, ok := k.preferred[gk]; ok {
		return k.served[gvk], nil
	}
	return Resource{}, &UnknownKindError{GVK: gk.WithVersion(""), Cause: k.partial}
}

// read fetches the list; the caller holds the lock. A group that does not answer (a broken APIService) costs only its
// own kinds.
func (k *kinds) read(ctx context.Context) error {
	groups, lists, err := k.disco.ServerGroupsAndResourcesWithContext(ctx)
	if err != nil && (len(lists) == 0 || !discovery.IsGroupDiscoveryFailedError(err)) {
		return fmt.Errorf("read the list of kinds: %w", err)
	}
	k.partial = err
	k.served = map[schema.GroupVersionKind]Resource{}
	k.preferred = map[schema.GroupKind]schema.GroupVersionKind{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range list.APIResources {
			if len(r.Name) == 0 || containsSlash(r.Name) {
				continue
			}
			k.served[gv.WithKind(r.Kind)] = Resource{GVR: gv.WithResource(r.Name), Kind: r.Kind, Namespaced: r.Namespaced}
		}
	}
	for gvk := range k.served {
		if _, ok := k.preferred[gvk.GroupKind()]; !ok {
			k.preferred[gvk.GroupKind()] = gvk
		}
	}
	for _, g := range groups {
		gv, err := schema.ParseGroupVersion(g.PreferredVersion.GroupVersion)
		if err != nil {
			continue
		}
		for gk := range k.preferred {
			if _, ok := k.served[gv.WithKind(gk.Kind)]; ok && gk.Group == gv.Group {
				k.preferred[gk] = gv.WithKind(gk.Kind)
			}
		}
	}
	k.stale = false
	return nil
}

// ofItself are kinds whose objects nobody writes: they come and go with others.
var ofItself = []string{"Event", "EndpointSlice", "Endpoints", "PodMetrics", "Lease", "ControllerRevision"}

// namespaced lists the kinds whose objects live in namespaces, each in one version.
func (k *kinds) namespaced(ctx context.Context) ([]Resource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.served == nil {
		if err := k.read(ctx); err != nil {
			return nil, err
		}
	}
	var all []Resource
	for gk, gvk := range k.preferred {
		if r := k.served[gvk]; r.Namespaced && !slices.Contains(ofItself, gk.Kind) {
			all = append(all, r)
		}
	}
	return all, nil
}

func containsSlash(s string) bool {
	for i := range len(s) {
		if s[i] == '/' {
			return true
		}
	}
	return false
}

// definition is what a CustomResourceDefinition of the set promises to serve.
type definition struct {
	crd    manifest.Object
	served map[string]map[string]any // version -> openAPIV3Schema, nil if it has none
	res    Resource
}

// definitions indexes the CustomResourceDefinitions among the objects by the kind they define.
func definitions(objects []manifest.Object) map[schema.GroupKind]definition {
	found := map[schema.GroupKind]definition{}
	for _, o := range objects {
		if o.GroupVersionKind().GroupKind() != crdKind {
			continue
		}
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
		plural, _, _ := unstructured.NestedString(o.Object, "spec", "names", "plural")
		scope, _, _ := unstructured.NestedString(o.Object, "spec", "scope")
		versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
		d := definition{crd: o, served: map[string]map[string]any{},
			res: Resource{GVR: schema.GroupVersionResource{Group: group, Resource: plural}, Kind: kind, Namespaced: scope == "Namespaced"}}
		for _, v := range versions {
			m, _ := v.(map[string]any)
			name, _ := m["name"].(string)
			if served, _ := m["served"].(bool); !served || name == "" {
				continue
			}
			openAPI, _, _ := unstructured.NestedMap(m, "schema", "openAPIV3Schema")
			d.served[name] = openAPI
		}
		found[schema.GroupKind{Group: group, Kind: kind}] = d
	}
	return found
}

// isUnknownKind tells a kind that is not served from other errors.
func isUnknownKind(err error) bool {
	var unknown *UnknownKindError
	return errors.As(err, &unknown)
}

// Scopes says of kinds whether their objects live in namespaces.
type Scopes map[schema.GroupKind]bool

// ScopesIn are the scopes of the kinds that CustomResourceDefinitions among the objects define.
func ScopesIn(objects []manifest.Object) Scopes {
	scopes := Scopes{}
	for gk, d := range definitions(objects) {
		scopes[gk] = d.res.Namespaced
	}
	return scopes
}
