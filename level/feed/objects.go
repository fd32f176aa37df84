package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/kube/manifest"
)

const page = 500

// Objects reads once everything that levels are made of: what declares them, namespaces, nodes, and each object with a label.
func Objects(ctx context.Context, config *rest.Config) ([]manifest.Object, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{} // all kinds are listed, deprecated ones as well
	objects, err1 := dynamic.NewForConfig(config)
	metas, err2 := metadata.NewForConfig(config)
	kinds, err3 := discovery.NewDiscoveryClientForConfig(config)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	var all []manifest.Object
	for _, key := range []watchKey{registries, clearances, workspaces} {
		list, err := objects.Resource(key.resource).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			return nil, errors.New("the cluster has no levels: their kinds are not installed")
		}
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", key, err)
		}
		for i := range list.Items {
			all = append(all, manifest.New(&list.Items[i], "cluster"))
		}
	}
	lists, err := discovery.ServerPreferredResources(kinds)
	if _, partly := discovery.GroupDiscoveryFailedErrorGroups(err); err != nil && !partly {
		return nil, fmt.Errorf("looking up the kinds of the cluster: %w", err)
	}
	seen := map[manifest.Identity]bool{}
	take := func(resource schema.GroupVersionResource, kind, label string) error {
		found, err := listed(ctx, metas, resource, kind, label)
		for _, o := range found {
			if !seen[o.Identity()] {
				seen[o.Identity()] = true
				all = append(all, o)
			}
		}
		return err
	}
	err = errors.Join(take(namespaces.resource, "Namespace", ""), take(nodes.resource, "Node", ""))
	for _, list := range lists {
		version, parsed := schema.ParseGroupVersion(list.GroupVersion)
		if parsed != nil {
			continue
		}
		for _, r := range list.APIResources {
			resource := version.WithResource(r.Name)
			if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "watch") || unlabelled[resource.GroupResource()] {
				continue
			}
			err = errors.Join(err, take(resource, r.Kind, api.LevelLabel), take(resource, r.Kind, api.TalkLabel))
		}
	}
	return all, err
}

// listed are the objects of a kind, without their content.
func listed(ctx context.Context, metas metadata.Interface, resource schema.GroupVersionResource, kind, label string) (all []manifest.Object, err error) {
	options := metav1.ListOptions{LabelSelector: label, Limit: page}
	for {
		list, err := metas.Resource(resource).List(ctx, options)
		if err != nil {
			return all, fmt.Errorf("listing %s: %w", resource.GroupResource(), err)
		}
		for i := range list.Items {
			m := &list.Items[i]
			m.ManagedFields = nil
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(m)
			if err != nil {
				return all, err
			}
			u := &unstructured.Unstructured{Object: content}
			u.SetGroupVersionKind(resource.GroupVersion().WithKind(kind))
			all = append(all, manifest.New(u, "cluster"))
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return all, nil
		}
	}
}
