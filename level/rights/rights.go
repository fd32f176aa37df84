// Package rights follows the roles of a cluster and whom they are bound to, for what is written about rights: a binding is judged by the
// rules of its role, a role by those who have it. It must not know what levels say of either.
package rights

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/reference"
)

// patience is how long a question waits until everything was listed once.
const patience = 5 * time.Second

const (
	group  = "rbac.authorization.k8s.io"
	byRole = "role" // the index of bindings by their role
)

// Rights are the roles and their bindings. Its methods are for many goroutines.
type Rights struct {
	clusterRoles, roles, clusterBindings, bindings cache.SharedIndexInformer

	listed chan struct{}
}

// New prepares to follow a cluster, as an account that may read roles and their bindings.
func New(config *rest.Config) (*Rights, error) {
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	index := cache.Indexers{byRole: roleOf}
	follow := func(resource string, indexers cache.Indexers) cache.SharedIndexInformer {
		return dynamicinformer.NewFilteredDynamicInformer(objects, schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}, "", 0, indexers, nil).Informer()
	}
	r := &Rights{clusterRoles: follow("clusterroles", nil), roles: follow("roles", nil), clusterBindings: follow("clusterrolebindings", index), bindings: follow("rolebindings", index),
		listed: make(chan struct{})}
	light := func(o any) (any, error) {
		if u, ok := o.(*unstructured.Unstructured); ok {
			u.SetManagedFields(nil)
		}
		return o, nil
	}
	for _, one := range r.all() {
		err = errors.Join(err, one.SetTransform(light))
	}
	return r, err
}

func (r *Rights) all() []cache.SharedIndexInformer {
	return []cache.SharedIndexInformer{r.clusterRoles, r.roles, r.clusterBindings, r.bindings}
}

// roleOf is the key by which bindings are found: NAME of a cluster role, NAMESPACE/NAME of a role.
func roleOf(o any) ([]string, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("%T is no object", o)
	}
	kind, _, err1 := unstructured.NestedString(u.Object, "roleRef", "kind")
	name, _, err2 := unstructured.NestedString(u.Object, "roleRef", "name")
	if kind == "Role" {
		name = u.GetNamespace() + "/" + name
	}
	return []string{name}, errors.Join(err1, err2)
}

// Run follows the cluster until the context ends.
func (r *Rights) Run(ctx context.Context) {
	var running sync.WaitGroup
	var synced []cache.InformerSynced
	for _, one := range r.all() {
		running.Go(func() { one.RunWithContext(ctx) })
		synced = append(synced, one.HasSynced)
	}
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		close(r.listed)
	}
	running.Wait()
}

// Known says whether everything was listed once.
func (r *Rights) Known() bool {
	select {
	case <-r.listed:
		return true
	default:
		return false
	}
}

// wait waits a while until everything was listed once.
func (r *Rights) wait() bool {
	if r.Known() {
		return true
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-r.listed:
		return true
	case <-timer.C:
		return false
	}
}

// Rules are those of a role; namespace is empty for cluster roles.
func (r *Rights) Rules(namespace, name string) ([]reference.Rule, bool) {
	if !r.wait() {
		return nil, false
	}
	from, key := r.clusterRoles, name
	if namespace != "" {
		from, key = r.roles, namespace+"/"+name
	}
	o, there, err := from.GetStore().GetByKey(key)
	u, ok := o.(*unstructured.Unstructured)
	if err != nil || !there || !ok {
		return nil, false
	}
	return reference.RulesOf(u.Object), true
}

// Bound are those who have a role, a cluster role (namespace is empty) by its name or by a role that collects those with its labels.
func (r *Rights) Bound(namespace, name string, of map[string]string) []reference.Holding {
	if !r.wait() {
		return nil
	}
	keys := []string{namespace + "/" + name}
	if namespace == "" {
		keys = append([]string{name}, r.collectors(of)...)
	}
	var all []reference.Holding
	seen := map[reference.Holding]bool{}
	for _, key := range keys {
		for _, from := range []cache.SharedIndexInformer{r.clusterBindings, r.bindings} {
			found, err := from.GetIndexer().ByIndex(byRole, key)
			if err != nil {
				continue // there is no other error than an index that is missing
			}
			for _, o := range found {
				for _, h := range holdings(o) {
					if !seen[h] {
						seen[h] = true
						all = append(all, h)
					}
				}
			}
		}
	}
	return all
}

// collectors are the roles into which a controller puts the rules of roles with these labels (aggregationRule).
func (r *Rights) collectors(of map[string]string) []string {
	if len(of) == 0 {
		return nil
	}
	var names []string
	for _, o := range r.clusterRoles.GetStore().List() {
		u, ok := o.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		list, _, err := unstructured.NestedSlice(u.Object, "aggregationRule", "clusterRoleSelectors")
		if err != nil {
			continue
		}
		for _, one := range list {
			if m, ok := one.(map[string]any); ok && selects(m, of) {
				names = append(names, u.GetName())
				break
			}
		}
	}
	return names
}

// selects says whether a selector, in its JSON form, selects labels. One that cannot be read selects nothing, as the controller has it.
func selects(selector map[string]any, of map[string]string) bool {
	var s metav1.LabelSelector
	if runtime.DefaultUnstructuredConverter.FromUnstructured(selector, &s) != nil {
		return false
	}
	parsed, err := metav1.LabelSelectorAsSelector(&s)
	return err == nil && parsed.Matches(labels.Set(of))
}

func holdings(binding any) []reference.Holding {
	u, ok := binding.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	list, _, err := unstructured.NestedSlice(u.Object, "subjects")
	if err != nil {
		return nil
	}
	var all []reference.Holding
	for _, one := range list {
		m, _ := one.(map[string]any)
		text := func(field string) string { s, _ := m[field].(string); return s }
		h := reference.Holding{Subject: level.SubjectName{Kind: level.SubjectKind(text("kind")), Name: text("name"), Namespace: text("namespace")}, Namespace: u.GetNamespace()}
		if h.Subject.Kind == level.ServiceAccount && h.Subject.Namespace == "" {
			h.Subject.Namespace = h.Namespace
		}
		all = append(all, h)
	}
	return all
}
