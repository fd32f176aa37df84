package kube

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weft-dev/weft/kube/status"
)

var (
	converter            = runtime.DefaultUnstructuredConverter
	eventKind            = schema.GroupKind{Kind: "Event"}
	podResource          = Resource{GVR: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Kind: "Pod", Namespaced: true}
	eventResource        = Resource{GVR: schema.GroupVersionResource{Version: "v1", Resource: "events"}, Kind: "Event", Namespaced: true}
	storageClassResource = Resource{GVR: schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses"}, Kind: "StorageClass"}
)

// group is what one watch covers: the targets of one kind in one namespace.
type group struct {
	resource  Resource
	kind      schema.GroupKind
	namespace string
}

// watchAll starts one watch for each group of targets, and for namespaces with workloads one for their pods and one for
// warnings. Without the permission for the latter two, reasons are shorter and nothing fails.
func (w *waiter) watchAll(ctx context.Context, sightings chan<- sighting, failures chan<- error) {
	groups := map[group][]*waited{}
	explain := map[string]bool{}
	for _, t := range w.targets {
		g := group{t.resource, t.object.GroupVersionKind().GroupKind(), t.object.GetNamespace()}
		groups[g] = append(groups[g], t)
		if g.namespace != "" {
			explain[g.namespace] = explain[g.namespace] || status.RunsPods(g.kind)
		}
	}
	send := func(kind schema.GroupKind) func(*unstructured.Unstructured, bool) {
		return func(u *unstructured.Unstructured, gone bool) {
			select {
			case sightings <- sighting{kind, u, gone}:
			case <-ctx.Done():
			}
		}
	}
	for g, targets := range groups {
		go func() {
			if err := w.client.follow(ctx, g.resource, g.namespace, optionsFor(targets), send(g.kind)); err != nil && ctx.Err() == nil {
				select {
				case failures <- targets[0].object.ErrorAt("", "cannot be waited for: "+err.Error(), ""):
				default:
				}
			}
		}()
	}
	for namespace, pods := range explain {
		warnings := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("type", "Warning").String()}
		go func() { _ = w.client.follow(ctx, eventResource, namespace, warnings, send(eventKind)) }()
		if pods {
			go func() { _ = w.client.follow(ctx, podResource, namespace, metav1.ListOptions{}, send(podKind)) }()
		}
	}
}

// optionsFor narrows a watch to one object by name, or to several by the label that they share.
func optionsFor(targets []*waited) metav1.ListOptions {
	if len(targets) == 1 {
		return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", targets[0].object.GetName()).String()}
	}
	owner := targets[0].object.GetLabels()[OwnerLabel]
	for _, t := range targets {
		if owner == "" || t.object.GetLabels()[OwnerLabel] != owner {
			return metav1.ListOptions{}
		}
	}
	return metav1.ListOptions{LabelSelector: OwnerLabel + "=" + owner}
}
