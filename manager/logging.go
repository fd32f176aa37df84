package manager

import (
	"context"
	"embed"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	fluentbit "github.com/weft-dev/weft/api/fluentbit/v1alpha2"
	fluentd "github.com/weft-dev/weft/api/fluentd/v1alpha1"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/logging"
	"github.com/weft-dev/weft/logging/resource"
)

// Logging serves Fluent Operator's resources: configurations in Secrets, agents, rights, Services, status.
type Logging struct {
	planner logging.Planner
	known   map[string]remembered
	quotas  *quotas
}

// remembered is a document made of an object that has not changed since.
type remembered struct {
	version  string
	document *resource.Document
}

// NewLogging makes the part. Namespace is where the Secrets of a ClusterFluentBitConfig without namespace are.
func NewLogging(namespace string) *Logging {
	return &Logging{planner: logging.Planner{Namespace: namespace}, known: map[string]remembered{}, quotas: newQuotas()}
}

// Name is the part's name.
func (l *Logging) Name() string { return "logging" }

// Definitions are those of the 22 kinds.
func (l *Logging) Definitions() ([]manifest.Object, error) {
	var all []manifest.Object
	for _, fs := range []embed.FS{fluentbit.CRDs, fluentd.CRDs} {
		entries, err := fs.ReadDir("crds")
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			data, err := fs.ReadFile("crds/" + e.Name())
			if err != nil {
				return nil, err
			}
			objects, err := manifest.Parse(e.Name(), data, manifest.Limits{})
			if err != nil {
				return nil, err
			}
			all = append(all, objects...)
		}
	}
	return all, nil
}

var loggingKinds = map[string][]string{
	"fluentbit.fluent.io/v1alpha2": {"FluentBit", "Collector", "ClusterFluentBitConfig", "FluentBitConfig", "ClusterInput", "ClusterFilter", "Filter", "ClusterOutput", "Output", "ClusterParser",
		"Parser", "ClusterMultilineParser", "MultilineParser"},
	"fluentd.fluent.io/v1alpha1": {"Fluentd", "ClusterFluentdConfig", "FluentdConfig", "ClusterInput", "Input", "ClusterFilter", "Filter", "ClusterOutput", "Output"},
}

func loggingResource(group, kind string) schema.GroupVersionResource {
	version := map[string]string{resource.FluentBitGroup: "v1alpha2", resource.FluentdGroup: "v1alpha1"}[group]
	return schema.GroupVersionResource{Group: group, Version: version, Resource: strings.ToLower(kind) + "s"}
}

// Resources are the 22 kinds.
func (l *Logging) Resources() []schema.GroupVersionResource {
	var all []schema.GroupVersionResource
	for group, kinds := range loggingKinds {
		name, _, _ := strings.Cut(group, "/")
		for _, kind := range kinds {
			all = append(all, loggingResource(name, kind))
		}
	}
	return all
}

// Watches are the Jobs in which engines check configurations.
func (l *Logging) Watches() []schema.GroupVersionResource { return []schema.GroupVersionResource{jobs} }

// Poll follows whether namespaces keep their quotas.
func (l *Logging) Poll(ctx context.Context, read Reader, changed func()) {
	l.quotas.poll(ctx, read, changed)
}

// Plan makes of all resources the objects of each FluentBit, Collector and Fluentd, and every resource's status.
func (l *Logging) Plan(ctx context.Context, objects []*unstructured.Unstructured, read Reader, now time.Time) (*Plan, error) {
	set := l.documents(objects)
	found, err := lookUp(ctx, logging.Needs(set, l.planner.Namespace), read)
	if err != nil {
		return nil, err
	}
	result := l.planner.Plan(set, found)
	plan := &Plan{}
	sets := map[*resource.Document]*Set{}
	order := []*resource.Document{}
	of := func(d *resource.Document) *Set {
		if sets[d] == nil {
			sets[d] = &Set{Of: refOf(d)}
			order = append(order, d)
		}
		return sets[d]
	}
	add := func(owner *resource.Document, o manifest.Object) {
		s := of(owner)
		s.Objects = append(s.Objects, o)
	}
	if err := l.checked(ctx, result, read, add); err != nil {
		return nil, err
	}
	for _, d := range order {
		plan.Sets = append(plan.Sets, *sets[d])
	}
	for _, s := range logging.Observe(set, result, l.quotas.want(result), now) {
		plan.Statuses = append(plan.Statuses, statusOf(s))
	}
	return plan, nil
}

// documents makes documents of objects, the same as before for those that did not change.
func (l *Logging) documents(objects []*unstructured.Unstructured) *resource.Set {
	var all []*resource.Document
	known := map[string]remembered{}
	for _, o := range objects {
		if o.GetDeletionTimestamp() != nil {
			continue
		}
		key := o.GetAPIVersion() + " " + o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		r := l.known[key]
		if r.document == nil || r.version != o.GetResourceVersion()+string(o.GetUID()) {
			r = remembered{o.GetResourceVersion() + string(o.GetUID()), resource.New(o.Object, nil)}
		}
		known[key] = r
		all = append(all, r.document)
	}
	l.known = known
	return resource.NewSet(all)
}

func refOf(d *resource.Document) Ref {
	return Ref{Resource: loggingResource(d.Group, d.Kind), Kind: d.Kind, Namespace: d.Namespace, Name: d.Name}
}

// lookUp reads the Secrets and ConfigMaps that documents refer to.
func lookUp(ctx context.Context, needs []resource.Reference, read Reader) (resource.Found, error) {
	var all []*resource.Document
	seen := map[resource.Reference]bool{}
	for _, n := range needs {
		n.Key = ""
		if seen[n] {
			continue
		}
		seen[n] = true
		kind := secrets
		if n.Kind == "ConfigMap" {
			kind = configMaps
		}
		u, err := read.Read(ctx, kind, n.Namespace, n.Name)
		if err != nil {
			return nil, fmt.Errorf("reading %s %s/%s: %w", n.Kind, n.Namespace, n.Name, err)
		}
		if u != nil {
			u.SetKind(n.Kind)
			u.SetAPIVersion("v1")
			all = append(all, resource.New(u.Object, nil))
		}
	}
	return resource.FoundIn(resource.NewSet(all)), nil
}

func statusOf(s logging.Status) Status {
	conditions := []any{}
	status := Status{Ref: refOf(s.Document)}
	for _, c := range s.Conditions {
		condition := map[string]any{"type": c.Type, "status": c.Status, "reason": c.Reason, "message": c.Message, "lastTransitionTime": c.LastTransitionTime}
		if c.ObservedGeneration > 0 {
			condition["observedGeneration"] = c.ObservedGeneration
		}
		conditions = append(conditions, condition)
		if c.Status == "False" {
			status.Warnings = append(status.Warnings, Warning{c.Reason, c.Message})
		}
	}
	status.Status = map[string]any{"conditions": conditions}
	if s.Document.Group == resource.FluentdGroup {
		status.Status["state"], status.Status["messages"] = s.State, s.Messages
	}
	return status
}
