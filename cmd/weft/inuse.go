package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/opencontainers/go-digest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/weft-dev/weft/cmd/internal/cluster"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/supervise/control"
)

// imageUsers are the kinds whose objects run an image or can go back to one: an older ReplicaSet or ControllerRevision is what
// `kubectl rollout undo` needs.
var imageUsers = []schema.GroupVersionResource{
	{Version: "v1", Resource: "pods"},
	{Version: "v1", Resource: "replicationcontrollers"},
	{Version: "v1", Resource: "podtemplates"},
	{Group: "apps", Version: "v1", Resource: "deployments"},
	{Group: "apps", Version: "v1", Resource: "replicasets"},
	{Group: "apps", Version: "v1", Resource: "statefulsets"},
	{Group: "apps", Version: "v1", Resource: "daemonsets"},
	{Group: "apps", Version: "v1", Resource: "controllerrevisions"},
	{Group: "batch", Version: "v1", Resource: "jobs"},
	{Group: "batch", Version: "v1", Resource: "cronjobs"},
}

// imagesInUse are the digests of images that objects of the cluster name, or its containers run. A cluster that was never started has
// none; one that is stopped cannot be asked, which is an error.
func imagesInUse(ctx context.Context, c *cluster.Cluster) ([]digest.Digest, error) {
	if _, err := os.Stat(filepath.Join(c.State, "data", "etcd")); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	s, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	if s.Phase != control.Ready {
		return nil, output.Advise(fmt.Errorf("the cluster is %s, so nobody can say which images its pods need", s.Phase),
			"Start it with `weft up` and try again, or go by tags alone with --ignore-cluster.")
	}
	config, _, err := kube.Config(s.Kubeconfig, "")
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	found := map[digest.Digest]bool{}
	for _, resource := range imageUsers {
		if err := digestsOf(ctx, client, resource, found); err != nil {
			return nil, fmt.Errorf("asking the cluster which images are in use: %w", err)
		}
	}
	list := make([]digest.Digest, 0, len(found))
	for d := range found {
		list = append(list, d)
	}
	return list, nil
}

// digestsOf adds the digests that the objects of a resource name, page by page.
func digestsOf(ctx context.Context, client dynamic.Interface, resource schema.GroupVersionResource, found map[digest.Digest]bool) error {
	options := metav1.ListOptions{Limit: 500}
	for {
		list, err := client.Resource(resource).List(ctx, options)
		if apierrors.IsNotFound(err) {
			return nil // that API is switched off
		}
		if err != nil {
			return fmt.Errorf("%s: %w", resource.Resource, err)
		}
		for i := range list.Items {
			findDigests(list.Items[i].Object, found)
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

var digestPattern = regexp.MustCompile(`(?:^|@)(sha(?:256|384|512):[0-9a-f]{64,128})$`)

// findDigests goes through an object for the fields that name images: image of a container, imageID of its status, reference of an
// image volume.
func findDigests(value any, found map[digest.Digest]bool) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			text, ok := inner.(string)
			if !ok {
				findDigests(inner, found)
				continue
			}
			if key != "image" && key != "imageID" && key != "reference" {
				continue
			}
			if m := digestPattern.FindStringSubmatch(text); m != nil && digest.Digest(m[1]).Validate() == nil {
				found[digest.Digest(m[1])] = true
			}
		}
	case []any:
		for _, inner := range value {
			findDigests(inner, found)
		}
	}
}
