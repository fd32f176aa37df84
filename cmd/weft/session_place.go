package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/project"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/supervise/control"
)

// locations are folders on this machine.
type locations struct {
	builds string // caches of builds
	store  string // content store that keeps layers of builds, the registry's; empty for one of the builds' own
	states string // states of the embedded cluster; empty for others
}

// place connects to the cluster: the one that was named, or the embedded one.
func (a *app) place(ctx context.Context, s *session, r sessionRequest) (locations, error) {
	c, err := a.cluster()
	if err != nil {
		return locations{}, err
	}
	where := locations{builds: filepath.Join(c.State, "build"), store: filepath.Join(c.State, "data", "store"), states: filepath.Join(c.State, "engine")}
	config := a.kubeconfig
	s.place.Registry = r.settings.Registry
	if a.foreign() {
		where.states, where.store = "", ""
		if r.source != nil && r.source.About().Builds && s.place.Registry == "" {
			return where, output.Advise(errors.New("no registry is named, from which that cluster could pull the built images"),
				"Name one with --registry HOST/PATH, or in "+project.ConfigName+" with registry: HOST/PATH.")
		}
		if where.builds, err = buildState(a.getenv); err != nil {
			return where, err
		}
	} else {
		status, err := a.embedded(ctx, r)
		if err != nil {
			return where, err
		}
		config, s.place.Registry, s.addresses = status.Kubeconfig, status.Registry, c
		s.mounts = mountsImages(status)
	}
	cfg, namespace, err := kube.Config(config, a.context)
	if err != nil {
		return where, err
	}
	s.rest, s.place.Namespace = cfg, cmp.Or(r.settings.Namespace, namespace)
	s.place.Client, err = kube.New(cfg)
	return where, err
}

func (a *app) embedded(ctx context.Context, r sessionRequest) (control.Status, error) {
	c, err := a.cluster()
	if err != nil {
		return control.Status{}, err
	}
	status, err := c.Status(ctx)
	if err == nil && status.Phase != control.Ready && r.starts {
		status, _, err = a.startCluster(ctx)
	}
	switch {
	case err != nil:
		return status, err
	case status.Phase != control.Ready:
		return status, output.Advise(fmt.Errorf("the embedded Kubernetes in %s is not running (it is %s)", c.State, status.Phase),
			"Start it with `weft up`, or name another cluster with --kubeconfig or --context.")
	case r.runsPods && status.Mode == control.ModeAPI:
		return status, output.Advise(errors.New("pods cannot run on this machine: "+strings.Join(status.Missing, "; ")), "See `weft doctor`, or name another cluster with --kubeconfig or --context.")
	}
	return status, nil
}

// mountsImages says whether the cluster's pods start from images before they are downloaded.
func mountsImages(status control.Status) bool {
	return slices.ContainsFunc(status.Components, func(c control.Component) bool { return c.Name == "snapshotter" })
}

// clusterID is what tells a cluster from all others.
func clusterID(ctx context.Context, client *kube.Client) (string, error) {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "kube-system"}}}
	live, err := client.Get(ctx, u)
	if err != nil {
		return "", fmt.Errorf("the cluster does not answer: %w", err)
	}
	if live == nil {
		return "", nil
	}
	return string(live.GetUID()), nil
}
