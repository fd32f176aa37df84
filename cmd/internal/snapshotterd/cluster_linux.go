package snapshotterd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/weft-dev/weft/lazy/snapshotter"
	"github.com/weft-dev/weft/lazy/snapshotter/apiserver"
)

// cluster is what the process has to do with the API server of its node's cluster.
type cluster struct {
	client  *apiserver.Client // nil: nothing
	node    string
	log     *slog.Logger
	events  chan unguarded // nil: pods get none
	running sync.WaitGroup
}

// unguarded are mounts of an image that no process guarded for a while.
type unguarded struct {
	image   string
	targets []string
}

var namespacePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// checkCluster looks at the flags about the cluster.
func (f flags) checkCluster() error {
	for _, ns := range f.pullSecrets {
		switch {
		case ns == allNamespaces && len(f.pullSecrets) > 1:
			return usage("--pull-secrets: * stands for all namespaces: name no others")
		case ns != allNamespaces && !namespacePattern.MatchString(ns):
			return usage("--pull-secrets: %q is no name of a namespace", ns)
		}
	}
	if len(f.pullSecrets) > 0 || f.podEvents {
		return nil
	}
	for flag, v := range map[string]string{"--kubeconfig": f.kubeconfig, "--node-name": f.node} {
		if v != "" && f.config == "" {
			return usage("%s says nothing without --pull-secrets or --pod-events", flag)
		}
	}
	return nil
}

// openCluster reads how the API server is asked, if it is asked anything.
func (f flags) openCluster(log *slog.Logger) (*cluster, error) {
	c := &cluster{node: f.node, log: log}
	if len(f.pullSecrets) == 0 && !f.podEvents {
		return c, nil
	}
	file := f.kubeconfig
	if file == "" {
		file = apiserver.Find()
	}
	var err error
	if c.client, err = apiserver.Open(file); err != nil {
		return nil, usage("--kubeconfig: %w", err)
	}
	if c.node == "" {
		c.node = os.Getenv("NODE_NAME")
	}
	if c.node == "" {
		if c.node, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("--node-name: %w", err)
		}
	}
	if f.podEvents {
		c.events = make(chan unguarded, 100)
	}
	return c, nil
}

// end waits for what goes on in the background.
func (c *cluster) end(cancel context.CancelFunc) {
	cancel()
	c.running.Wait()
	if c.client != nil {
		c.client.Close()
	}
}

// firstSecrets is how long the start waits for the Secrets: what is mounted again after a restart of the machine may need them.
const firstSecrets = 5 * time.Second

// followSecrets puts what Secrets hold before other credentials.
func (c *cluster) followSecrets(ctx context.Context, namespaces []string, next authn.Keychain) authn.Keychain {
	if len(namespaces) == 0 {
		return next
	}
	if slices.Contains(namespaces, allNamespaces) {
		namespaces = nil
	}
	secrets := apiserver.NewSecrets(c.client, namespaces, next, c.log)
	ready := make(chan struct{})
	c.running.Go(func() { secrets.Run(ctx, ready) })
	select {
	case <-ready:
	case <-time.After(firstSecrets):
		c.log.Warn("Secrets with credentials of registries are not read yet; the start goes on without", "server", c.client.Server())
	case <-ctx.Done():
	}
	return secrets
}

// unguarded is told of mounts, by the service.
func (c *cluster) unguarded(image string, targets []string) {
	if c.events == nil {
		return
	}
	select {
	case c.events <- unguarded{image, targets}:
	default:
		c.log.Error("pods on mounts that were unguarded get no event: too many wait for theirs", "image", image, "mounts", targets)
	}
}

// tellPods gives events to the pods on unguarded mounts, until the context ends.
func (c *cluster) tellPods(ctx context.Context, s *snapshotter.Snapshotter) {
	if c.events == nil {
		return
	}
	c.running.Go(func() {
		for {
			select {
			case u := <-c.events:
				c.running.Go(func() { c.tell(ctx, s, u) })
			case <-ctx.Done():
				return
			}
		}
	})
}

// How often it is tried to tell a pod, and how long between.
const (
	tries     = 12
	lastPause = time.Minute
)

// tell gives an event to each container on unguarded mounts. The API server may not answer yet, since nodes and clusters start together, and may learn of a
// container only later.
func (c *cluster) tell(ctx context.Context, s *snapshotter.Snapshotter, u unguarded) {
	told := map[string]bool{}
	pause := time.Second
	for range tries {
		left, err := c.tellOnce(ctx, s, u, told)
		if err == nil && left == 0 {
			return
		}
		if err != nil && ctx.Err() == nil {
			c.log.Warn("pods on a mount that was unguarded cannot be given an event; it is tried again", "image", u.image, "server", c.client.Server(), "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, lastPause)
	}
}

// tellOnce says how many snapshots on the mounts are of no container that the API server knows. Such may be of containers that have ended.
func (c *cluster) tellOnce(ctx context.Context, s *snapshotter.Snapshotter, u unguarded, told map[string]bool) (left int, err error) {
	users := map[string]string{} // the mount by container
	for _, target := range u.targets {
		ids, err := s.Users(ctx, target)
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			if !told[id] {
				users[id] = target
			}
		}
	}
	if len(users) == 0 {
		return 0, nil
	}
	containers, err := c.client.Containers(ctx, c.node)
	if err != nil {
		return len(users), err
	}
	left = len(users)
	for _, of := range containers {
		target, ok := users[of.ID]
		if !ok {
			continue
		}
		message := fmt.Sprintf("Image %s is mounted on demand (%s), and for a while no process guarded its files: what container %s read then may have been zeros. "+
			"Start the pod again.", u.image, target, of.Name)
		if err := c.client.Warn(ctx, c.node, of, "ImageUnguarded", message); err != nil {
			return left, err
		}
		told[of.ID] = true
		left--
		c.log.Error("a pod uses a mount that nobody guarded for a while; start it again", "namespace", of.Namespace, "pod", of.Pod, "container", of.Name, "mount", target)
	}
	return left, nil
}
