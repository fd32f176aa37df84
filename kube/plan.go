package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/weft-dev/weft/kube/manifest"
)

// Set is what a cluster should hold for one owner, and how to get there.
type Set struct {
	Owner   Owner
	Objects []manifest.Object
	// Namespace is for namespaced objects that name none; empty means the owner's.
	Namespace string
	// CreateNamespaces makes the namespaces that objects name and that neither exist nor are in the set.
	CreateNamespaces bool
	// Force takes over fields that other managers have set to other values.
	Force bool
	// Adopt takes objects that carry another owner's label.
	Adopt bool
	// NoPrune leaves objects that are no longer in the set, and keeps them in the inventory.
	NoPrune bool
	// AllowDelete names the kinds among Namespace, PersistentVolume, PersistentVolumeClaim and
	// CustomResourceDefinition that may be pruned.
	AllowDelete []string
	// Workers is how many requests run at once; default 8.
	Workers int
	// Wait makes an apply wait until everything is ready, and until what was pruned is gone, before it prunes and ends.
	Wait bool
	// Timeout bounds waiting, for kinds to be served and for readiness each; default 5 minutes.
	Timeout time.Duration
	// Progress is told what happens, one call at a time; may be nil.
	Progress func(Event)
}

// Action is what an apply does with an object.
type Action string

// The actions.
const (
	Create    Action = "create"
	Update    Action = "update"
	AdoptIt   Action = "adopt" // it exists and becomes ours
	Unchanged Action = "unchanged"
	Delete    Action = "delete"
	Forget    Action = "forget" // it stays in the cluster and is no longer ours
	Blocked   Action = "keep"   // it should be deleted, but the caller did not allow it; it stays ours
)

// Step is what a plan does with one object, and why.
type Step struct {
	Action Action            `json:"action"`
	Object manifest.Identity `json:"object"`
	Pos    manifest.Position `json:"position"` // empty for what is no longer in the set
	Reason string            `json:"reason"`
	// Changes lists the fields for update and adopt.
	Changes []Change `json:"changes,omitempty"`

	desired     manifest.Object
	resource    Resource
	live        *unstructured.Unstructured // what was found, nil if nothing was
	entry       Entry                      // what the inventory records, or will
	terminating bool                       // the live object has to go first
}

// Plan is what an apply of a set would do, in the order in which it does it.
type Plan struct {
	Owner    Owner    `json:"owner"`
	Steps    []Step   `json:"steps"`
	Warnings []string `json:"warnings,omitempty"` // from the server, about deprecated or doubtful fields

	set       Set
	inventory *Inventory
	kept      []Entry // entries that no step is about
}

// Changed says whether an apply would write anything but the inventory.
func (p *Plan) Changed() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Action != Unchanged && s.Action != Blocked && s.Action != Forget })
}

// Plan finds out what Apply would do, by reading and dry runs. All errors are found before anything is changed; they
// are joined (see manifest.Errors), and each names file, line and field.
func (c *Client) Plan(ctx context.Context, set Set) (*Plan, error) {
	set, err := checked(set)
	if err != nil {
		return nil, err
	}
	p := &planner{client: c, set: set, plan: &Plan{Owner: set.Owner, set: set}, definitions: definitions(set.Objects)}
	c.warnings.to(func(text string) { p.warn(text) })
	defer c.warnings.to(nil)
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	if p.plan.inventory, err = c.Inventory(ctx, set.Owner); err != nil {
		return nil, err
	}
	if err := p.readLive(ctx); err != nil {
		return nil, err
	}
	if err := p.planObjects(ctx); err != nil {
		return nil, err
	}
	if err := p.planRemovals(ctx); err != nil {
		return nil, err
	}
	return p.plan, nil
}

func checked(set Set) (Set, error) {
	for what, name := range map[string]string{"owner": set.Owner.Name, "owner's namespace": set.Owner.Namespace} {
		if wrong := validation.IsDNS1123Label(name); len(wrong) > 0 {
			return set, fmt.Errorf("the %s %q is no valid name: %s", what, name, strings.Join(wrong, ", "))
		}
	}
	if err := CheckAllowDelete(set.AllowDelete); err != nil {
		return set, err
	}
	set.Namespace = cmp.Or(set.Namespace, set.Owner.Namespace)
	set.Workers = cmp.Or(max(set.Workers, 0), 8)
	set.Timeout = cmp.Or(set.Timeout, 5*time.Minute)
	return set, nil
}

type planner struct {
	client      *Client
	set         Set
	plan        *Plan
	definitions map[schema.GroupKind]definition
	targets     []target
	live        map[manifest.Identity]*unstructured.Unstructured // what carries our label
	namespaces  map[string]bool                                  // that the set makes
}

type target struct {
	object   manifest.Object
	resource Resource
	pending  bool // its kind is defined by the set and not served yet
}

func (p *planner) warn(text string) {
	if !slices.Contains(p.plan.Warnings, text) {
		p.plan.Warnings = append(p.plan.Warnings, text)
	}
}

// prepare resolves kinds, fills in namespaces and the label, and looks for objects that turn out to be the same.
func (p *planner) prepare(ctx context.Context) error {
	var errs []error
	var objects []manifest.Object
	for _, o := range p.set.Objects {
		t, err := p.resolve(ctx, o)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.targets = append(p.targets, t)
		objects = append(objects, t.object)
	}
	if errs = append(errs, manifest.Duplicates(objects)...); len(errs) > 0 {
		return errors.Join(errs...)
	}
	p.namespaces = map[string]bool{}
	for _, t := range p.targets {
		if t.object.GroupVersionKind().GroupKind() == namespaceKind {
			p.namespaces[t.object.GetName()] = true
		}
	}
	return p.addNamespaces(ctx)
}

func (p *planner) resolve(ctx context.Context, o manifest.Object) (target, error) {
	gvk := o.GroupVersionKind()
	t := target{}
	var err error
	if t.resource, err = p.client.kinds.find(ctx, gvk); err != nil {
		d, defined := p.definitions[gvk.GroupKind()]
		if !isUnknownKind(err) {
			return t, err
		}
		if _, served := d.served[gvk.Version]; !defined || !served {
			return t, o.ErrorAt("kind", err.Error(), "check apiVersion and kind, or add the CustomResourceDefinition")
		}
		t.resource, t.pending = d.res, true
		t.resource.GVR.Version = gvk.Version
	}
	u := o.DeepCopy()
	switch {
	case !t.resource.Namespaced:
		u.SetNamespace("")
	case u.GetNamespace() == "":
		u.SetNamespace(p.set.Namespace)
	}
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[OwnerLabel] = p.set.Owner.Label()
	u.SetLabels(labels)
	t.object = o.With(u)
	if t.pending {
		if errs := checkSchema(t.object, schemaOf(p.definitions[gvk.GroupKind()].served[gvk.Version], nil)); len(errs) > 0 {
			return t, errors.Join(errs...)
		}
	}
	return t, nil
}

// addNamespaces adds the namespaces that are asked for and missing.
func (p *planner) addNamespaces(ctx context.Context) error {
	if !p.set.CreateNamespaces {
		return nil
	}
	wanted := map[string]bool{p.set.Owner.Namespace: true}
	for _, t := range p.targets {
		if ns := t.object.GetNamespace(); ns != "" {
			wanted[ns] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if p.namespaces[name] {
			continue
		}
		found, err := p.client.get(ctx, namespaceResource, "", name)
		if err != nil {
			return fmt.Errorf("read the namespace %s: %w", name, err)
		}
		if found != nil {
			continue
		}
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
		t, err := p.resolve(ctx, manifest.New(u, "namespace "+name))
		if err != nil {
			return err
		}
		p.targets = append(p.targets, t)
		p.namespaces[name] = true
	}
	return nil
}

// readLive lists what carries the owner's label: one list for each kind that is wanted or recorded.
func (p *planner) readLive(ctx context.Context) error {
	type kindIn struct {
		resource   Resource
		namespaces map[string]bool
	}
	byKind := map[schema.GroupKind]*kindIn{}
	for _, t := range p.targets {
		gk := t.object.GroupVersionKind().GroupKind()
		if t.pending {
			continue
		}
		if byKind[gk] == nil {
			byKind[gk] = &kindIn{t.resource, map[string]bool{}}
		}
		byKind[gk].namespaces[t.object.GetNamespace()] = true
	}
	for _, e := range p.plan.inventory.Entries {
		gk := e.GroupKind()
		if byKind[gk] == nil {
			r, err := p.client.kinds.findKind(ctx, gk)
			if isUnknownKind(err) {
				continue
			}
			if err != nil {
				return err
			}
			byKind[gk] = &kindIn{r, map[string]bool{}}
		}
		byKind[gk].namespaces[e.Namespace] = true
	}
	kinds := slices.Collect(maps.Values(byKind))
	lists := make([][]unstructured.Unstructured, len(kinds))
	err := inParallel(ctx, p.set.Workers, len(kinds), func(ctx context.Context, i int) error {
		var err error
		lists[i], err = p.client.listIn(ctx, kinds[i].resource, slices.Sorted(maps.Keys(kinds[i].namespaces)), OwnerLabel+"="+p.set.Owner.Label())
		if err != nil {
			return fmt.Errorf("list %s: %w", kinds[i].resource.GVR.Resource, err)
		}
		return nil
	})
	p.live = map[manifest.Identity]*unstructured.Unstructured{}
	for _, list := range lists {
		for i := range list {
			p.live[manifest.IdentityOf(&list[i])] = &list[i]
		}
	}
	return err
}

// listIn lists a kind with one request; where the objects are in several namespaces and the user may not list all, with
// one for each.
func (c *Client) listIn(ctx context.Context, r Resource, namespaces []string, selector string) ([]unstructured.Unstructured, error) {
	if len(namespaces) == 1 {
		return c.list(ctx, r, namespaces[0], selector)
	}
	all, err := c.list(ctx, r, "", selector)
	if !apierrors.IsForbidden(err) {
		return all, err
	}
	all = nil
	for _, ns := range namespaces {
		some, err := c.list(ctx, r, ns, selector)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func (p *planner) planObjects(ctx context.Context) error {
	steps := make([]Step, len(p.targets))
	errs := make([]error, len(p.targets))
	recorded := p.plan.inventory.byIdentity()
	err := inParallel(ctx, p.set.Workers, len(p.targets), func(ctx context.Context, i int) error {
		t := p.targets[i]
		steps[i], errs[i] = p.planObject(ctx, t, recorded[t.object.Identity()])
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(waveOf(a.Object.GroupKind()), waveOf(b.Object.GroupKind())) })
	p.plan.Steps = steps
	return nil
}

// CheckAllowDelete refuses kinds whose deletion needs no permission, which are spelling mistakes more often than not.
func CheckAllowDelete(kinds []string) error {
	for _, kind := range kinds {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(precious)), func(gk schema.GroupKind) bool { return gk.Kind == kind }) {
			return fmt.Errorf("deleting cannot be allowed for kind %q: expected Namespace, PersistentVolume, PersistentVolumeClaim or CustomResourceDefinition", kind)
		}
	}
	return nil
}
