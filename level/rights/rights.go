// Package rights follows the cluster roles of a cluster and whom they are bound to, for what is written about rights: a binding is judged by the
// rules of its role, a role by those who have it. It must not know what levels say of either.
package rights

import (
	"context"
	"errors"
	"fmt"
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
	byRole = "role" // the index of bindings by the name of their role
)

// Rights are the cluster roles and their bindings. Its methods are for many goroutines.
type Rights struct {
	roles, bindings cache.SharedIndexInformer
	listed          chan struct{}
}

// New prepares to follow a cluster, as an account that may read cluster roles and their bindings.
func New(config *rest.Config) (*Rights, error) {
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	follow := func(resource string, indexers cache.Indexers) cache.SharedIndexInformer {
		return dynamicinformer.NewFilteredDynamicInformer(objects, schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}, "", 0, indexers, nil).Informer()
	}
	r := &Rights{roles: follow("clusterroles", nil), listed: make(chan struct{})}
	r.bindings = follow("clusterrolebindings", cache.Indexers{byRole: func(o any) ([]string, error) {
		u, ok := o.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("%T is no object", o)
		}
		name, _, err := unstructured.NestedString(u.Object, "roleRef", "name")
		return []string{name}, err
	}})
	light := func(o any) (any, error) {
		if u, ok := o.(*unstructured.Unstructured); ok {
			u.SetManagedFields(nil)
		}
		return o, nil
	}
	return r, errors.Join(r.roles.SetTransform(light), r.bindings.SetTransform(light))
}

// Run follows the cluster until the context ends.
func (r *Rights) Run(ctx context.Context) {
	done := make(chan struct{})
	go func() { defer close(done); r.roles.RunWithContext(ctx) }()
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), r.roles.HasSynced, r.bindings.HasSynced) {
			close(r.listed)
		}
	}()
	r.bindings.RunWithContext(ctx)
	<-done
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

// Rules are those of a cluster role. Roles of namespaces are not known: what they may give at most is what is in their namespace.
func (r *Rights) Rules(namespace, name string) ([]reference.Rule, bool) {
	if namespace != "" || !r.wait() {
		return nil, false
	}
	o, there, err := r.roles.GetStore().GetByKey(name)
	u, ok := o.(*unstructured.Unstructured)
	if err != nil || !there || !ok {
		return nil, false
	}
	return reference.RulesOf(u.Object), true
}

// Bound are the subjects that have a cluster role everywhere: by its name, or by a role that collects those with its labels.
func (r *Rights) Bound(name string, of map[string]string) []level.SubjectName {
	if !r.wait() {
		return nil
	}
	names := append([]string{name}, r.collectors(of)...)
	var all []level.SubjectName
	seen := map[level.SubjectName]bool{}
	for _, name := range names {
		found, err := r.bindings.GetIndexer().ByIndex(byRole, name)
		if err != nil {
			continue // there is no other error than an index that is missing
		}
		for _, o := range found {
			for _, s := range subjectsOf(o) {
				if !seen[s] {
					seen[s] = true
					all = append(all, s)
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
	for _, o := range r.roles.GetStore().List() {
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

func subjectsOf(binding any) []level.SubjectName {
	u, ok := binding.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	list, _, err := unstructured.NestedSlice(u.Object, "subjects")
	if err != nil {
		return nil
	}
	var all []level.SubjectName
	for _, one := range list {
		m, _ := one.(map[string]any)
		text := func(field string) string { s, _ := m[field].(string); return s }
		all = append(all, level.SubjectName{Kind: level.SubjectKind(text("kind")), Name: text("name"), Namespace: text("namespace")})
	}
	return all
}
