package cluster

import (
	"context"
	"path/filepath"
	"time"

	"github.com/weft-dev/weft/embedded/runtime"
	"github.com/weft-dev/weft/supervise"
)

// Snapshotters, by containerd's names.
const (
	snapshotterOverlay = "overlayfs"
	snapshotterWeft    = "weft"
)

const snapshotterSocket = stateMount + "/run/snapshotter.sock"

// snapshotter is the one that the cluster uses.
func (id Identity) snapshotter() string {
	if id.Snapshotter == "" {
		return snapshotterOverlay
	}
	return id.Snapshotter
}

// lazyd is the program that serves snapshots. It lies beside this one.
func (o Options) lazyd() string { return filepath.Join(filepath.Dir(o.Self), "lazyd") }

// snapshotterProxy is what containerd has to know of it.
func snapshotterProxy(s State) runtime.Proxy {
	return runtime.Proxy{Name: snapshotterWeft, Socket: snapshotterSocket, Root: inNode(s, s.Data("snapshots")), Capabilities: []string{"rebase"}}
}

// startSnapshotter starts the process by which images are mounted before they are there. It runs in the node's namespaces, where its mounts are, and
// takes what the registry has on this disk without a copy.
func (c *cluster) startSnapshotter(ctx context.Context, environment []string) error {
	_, err := c.spawn(ctx, supervise.Spec{
		Name: "snapshotter",
		Path: c.options.lazyd(),
		Args: []string{"snapshotter", "--root", inNode(c.state, c.state.Data("snapshots")), "--address", snapshotterSocket,
			"--registry-hosts", inNode(c.state, c.state.path("run", "certs.d")), "--store", inNode(c.state, c.state.Data("store")),
			"--image-service", containerdSocket,
			// Pods get events in the name of the node, which may do that for its own.
			"--pod-events", "--node-name", nodeName, "--kubeconfig", inNode(c.state, c.state.component("kubelet"))},
		Env:   environment,
		Ready: func(ctx context.Context) error { return waitSocket(ctx, c.state.path("run", "snapshotter.sock")) },
		Grace: 3 * time.Second,
	})
	return err
}
