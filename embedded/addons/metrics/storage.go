package metrics

import (
	"context"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/metrics/pkg/apis/metrics"
)

// nodes serves NodeMetrics.
type nodes struct {
	history *history
	name    string
	lister  cache.GenericLister // of nodes, metadata only
}

var (
	_ rest.KindProvider         = &nodes{}
	_ rest.Lister               = &nodes{}
	_ rest.Getter               = &nodes{}
	_ rest.Scoper               = &nodes{}
	_ rest.SingularNameProvider = &nodes{}
	_ rest.KindProvider         = &pods{}
	_ rest.Lister               = &pods{}
	_ rest.Getter               = &pods{}
	_ rest.Scoper               = &pods{}
	_ rest.SingularNameProvider = &pods{}
)

func (*nodes) New() runtime.Object { return &metrics.NodeMetrics{} }

func (*nodes) NewList() runtime.Object { return &metrics.NodeMetricsList{} }

func (*nodes) Destroy() {}

func (*nodes) Kind() string { return "NodeMetrics" }

// GetSingularName is empty as upstream's, so that `kubectl get nodemetrics` works.
func (*nodes) GetSingularName() string { return "" }

func (*nodes) NamespaceScoped() bool { return false }

// List lists the one node, if it matches and has been measured.
func (n *nodes) List(_ context.Context, o *metainternalversion.ListOptions) (runtime.Object, error) {
	list := &metrics.NodeMetricsList{Items: []metrics.NodeMetrics{}}
	if m, ok := n.measured(); ok && matches(m, o) {
		list.Items = append(list.Items, *m)
	}
	return list, nil
}

// Get returns the metrics of a node.
func (n *nodes) Get(_ context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	if m, ok := n.measured(); ok && name == n.name {
		return m, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: metrics.GroupName, Resource: "nodes"}, name)
}

func (n *nodes) measured() (*metrics.NodeMetrics, bool) {
	u, ok := n.history.node()
	if !ok {
		return nil, false
	}
	object, err := n.lister.Get(n.name)
	if err != nil {
		return nil, false
	}
	m := &metrics.NodeMetrics{ObjectMeta: metaOf(object, u), Timestamp: metav1.NewTime(u.at), Window: metav1.Duration{Duration: u.window}, Usage: u.list}
	return m, true
}

// metaOf carries over name, namespace and labels, by which lists are selected.
func metaOf(object runtime.Object, u usage) metav1.ObjectMeta {
	from, err := meta.Accessor(object)
	if err != nil {
		return metav1.ObjectMeta{}
	}
	return metav1.ObjectMeta{Name: from.GetName(), Namespace: from.GetNamespace(), Labels: maps.Clone(from.GetLabels()), CreationTimestamp: metav1.NewTime(u.at)}
}

// matches says whether an object has what a list asks for. Fields other than name and namespace are refused before.
func matches(o metav1.Object, options *metainternalversion.ListOptions) bool {
	if options == nil {
		return true
	}
	if options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(o.GetLabels())) {
		return false
	}
	return options.FieldSelector == nil || options.FieldSelector.Matches(fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()})
}

// ConvertToTable is what kubectl get prints.
func (n *nodes) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	var items []metrics.NodeMetrics
	switch o := object.(type) {
	case *metrics.NodeMetrics:
		items = []metrics.NodeMetrics{*o}
	case *metrics.NodeMetricsList:
		items = o.Items
	default:
		return nil, fmt.Errorf("no table of %T", object)
	}
	table := newTable(options)
	for i := range items {
		addRow(table, &items[i], &items[i].ObjectMeta, usage{items[i].Timestamp.Time, items[i].Window.Duration, items[i].Usage})
	}
	return table, nil
}

// pods serves PodMetrics.
type pods struct {
	history *history
	lister  cache.GenericLister // of pods, metadata only
}

func (*pods) New() runtime.Object { return &metrics.PodMetrics{} }

func (*pods) NewList() runtime.Object { return &metrics.PodMetricsList{} }

func (*pods) Destroy() {}

func (*pods) Kind() string { return "PodMetrics" }

// GetSingularName is empty as upstream's, so that `kubectl get podmetrics` works.
func (*pods) GetSingularName() string { return "" }

func (*pods) NamespaceScoped() bool { return true }

// List lists the measured pods of a namespace, or of all, by namespace and name.
func (p *pods) List(ctx context.Context, o *metainternalversion.ListOptions) (runtime.Object, error) {
	namespace := genericapirequest.NamespaceValue(ctx)
	list := &metrics.PodMetricsList{Items: []metrics.PodMetrics{}}
	all := p.history.pods()
	for _, name := range slices.SortedFunc(maps.Keys(all), func(a, b types.NamespacedName) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	}) {
		if namespace != "" && name.Namespace != namespace {
			continue
		}
		if m, ok := p.measured(name, all[name]); ok && matches(m, o) {
			list.Items = append(list.Items, *m)
		}
	}
	return list, nil
}

// Get returns the metrics of a pod.
func (p *pods) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	key := types.NamespacedName{Namespace: genericapirequest.NamespaceValue(ctx), Name: name}
	if containers, ok := p.history.pods()[key]; ok {
		if m, ok := p.measured(key, containers); ok {
			return m, nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: metrics.GroupName, Resource: "pods"}, key.String())
}

func (p *pods) measured(name types.NamespacedName, containers map[string]usage) (*metrics.PodMetrics, bool) {
	object, err := p.lister.ByNamespace(name.Namespace).Get(name.Name)
	if err != nil {
		return nil, false // the pod has gone and the kubelet still remembers it
	}
	m := &metrics.PodMetrics{}
	var oldest usage
	for _, c := range slices.Sorted(maps.Keys(containers)) {
		u := containers[c]
		if oldest.at.IsZero() || u.at.Before(oldest.at) {
			oldest = u
		}
		m.Containers = append(m.Containers, metrics.ContainerMetrics{Name: c, Usage: u.list})
	}
	m.ObjectMeta, m.Timestamp, m.Window = metaOf(object, oldest), metav1.NewTime(oldest.at), metav1.Duration{Duration: oldest.window}
	return m, true
}

// ConvertToTable is what kubectl get prints.
func (p *pods) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	var items []metrics.PodMetrics
	switch o := object.(type) {
	case *metrics.PodMetrics:
		items = []metrics.PodMetrics{*o}
	case *metrics.PodMetricsList:
		items = o.Items
	default:
		return nil, fmt.Errorf("no table of %T", object)
	}
	table := newTable(options)
	for i := range items {
		sum := usage{at: items[i].Timestamp.Time, window: items[i].Window.Duration}
		for _, c := range items[i].Containers {
			sum.list = plus(sum.list, c.Usage)
		}
		addRow(table, &items[i], &items[i].ObjectMeta, sum)
	}
	return table, nil
}
