package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/version"

	"github.com/weft-dev/weft/embedded/cgroup"
	"github.com/weft-dev/weft/embedded/controlplane"
	"github.com/weft-dev/weft/embedded/pki"
	"github.com/weft-dev/weft/supervise"
	"github.com/weft-dev/weft/supervise/control"
)

const (
	defaultAPIPort      = 6443
	defaultRegistryPort = 5000
	// DefaultStartTimeout is how long a start may take on a busy machine.
	DefaultStartTimeout = 3 * time.Minute
	stopPatience        = 20 * time.Second
)

// cluster is one running cluster, as its supervisor holds it.
type cluster struct {
	options Options
	state   State
	id      Identity
	mode    control.Mode
	tree    *cgroup.Tree
	ns      *namespaces
	board   *board
	group   supervise.Group

	apiListener   *os.File
	client        kubernetes.Interface
	closers       []func()
	background    context.Context // ends when the cluster stops
	endBackground context.CancelFunc
}

// Run starts the cluster of a state folder and keeps it running until ctx ends or a client asks for its end. It returns
// nil after an orderly end. Whatever an earlier run left behind is removed first.
func Run(ctx context.Context, o Options) error {
	if o.StartTimeout <= 0 {
		o.StartTimeout = DefaultStartTimeout
	}
	dir, err := filepath.Abs(o.State)
	if err != nil {
		return err
	}
	if err := control.Create(dir); err != nil {
		return err
	}
	server, err := control.Listen(dir)
	if err != nil {
		return err
	}
	defer server.Close()
	c := &cluster{options: o, state: State{Dir: dir}, board: newBoard(server, dir)}
	c.background, c.endBackground = context.WithCancel(context.Background())
	defer c.endBackground()

	startCtx, cancel := context.WithTimeoutCause(ctx, o.StartTimeout, fmt.Errorf("the start took longer than %s; the files in %s say what each part did", o.StartTimeout, c.state.path("logs")))
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- c.start(startCtx) }()

	var request control.StopRequest
	running := true
	for running {
		select {
		case err = <-started:
			if err != nil {
				running = false
			}
			started = nil
		case <-ctx.Done():
			request.GraceSeconds = o.Grace.Seconds()
			running = false
		case request = <-server.Stops():
			running = false
		}
	}
	cancel()
	if started != nil {
		<-started
	}
	if err != nil {
		c.board.fail(err)
	} else {
		c.board.phase(control.Stopping)
	}
	stopCtx, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), stopPatience+time.Duration(request.GraceSeconds*float64(time.Second)))
	defer cancelStop()
	return errors.Join(err, c.stop(stopCtx, time.Duration(request.GraceSeconds*float64(time.Second))))
}

// start brings everything up in the order of need.
func (c *cluster) start(ctx context.Context) error {
	for _, dir := range c.state.folders() {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := enoughSpace(c.state.Dir); err != nil {
		return err
	}
	var err error
	if c.id, err = c.state.Identity(); err != nil {
		return err
	}
	if c.options.Snapshotter != "" {
		c.id.Snapshotter = c.options.Snapshotter
	}
	c.options.Snapshotter = c.id.snapshotter()
	tree, treeErr := cgroup.Find("/weft-" + c.id.ID)
	if treeErr == nil && os.Geteuid() == 0 {
		if err := tree.Remove(ctx); err != nil { // what a killed supervisor left behind
			return err
		}
	}
	mode, missing, err := chooseMode(c.options, tree, treeErr)
	if err != nil {
		return err
	}
	c.mode = mode
	if mode == control.ModeNode {
		c.tree = tree
	}
	registryListener, err := c.openPorts()
	if err != nil {
		return err
	}
	if err := c.certificates(); err != nil {
		return err
	}
	c.board.update(func(s *control.Status) {
		s.Mode, s.Missing = mode, missing
		s.Kubernetes = version.Get().GitVersion
		s.API = c.hostURL()
		s.Kubeconfig = c.state.Kubeconfig()
	})
	c.board.step("prepared")
	return c.startProcesses(ctx, registryListener)
}

// spaceNeeded is what a start takes at most, in bytes: etcd lays out its log of 64 MiB in advance, twice, and ends in a
// panic where that fails.
const spaceNeeded = 256 << 20

func enoughSpace(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < spaceNeeded {
		return fmt.Errorf("the disk of %s has %d MiB of free space, a cluster needs %d MiB: free some, or choose another state folder", dir, free>>20, spaceNeeded>>20)
	}
	return nil
}

// startProcesses starts what a mode needs; what does not depend on each other starts at the same time.
func (c *cluster) startProcesses(ctx context.Context, registryListener net.Listener) error {
	if c.mode == control.ModeAPI {
		if err := c.startRegistry(registryListener); err != nil {
			return err
		}
		if err := c.startServer(ctx); err != nil {
			return err
		}
		c.board.step("api ready")
		c.board.phase(control.Ready)
		return nil
	}
	var err error
	if c.ns, err = newNamespaces(c.state); err != nil {
		return err
	}
	c.closers = append(c.closers, c.ns.Close)
	if err := c.closeNetwork(); err != nil {
		return err
	}
	if err := c.startRegistry(registryListener); err != nil {
		return err
	}
	runtimeReady := make(chan error, 1)
	go func() { runtimeReady <- c.startRuntime(ctx) }()
	err = c.startServer(ctx)
	if err == nil {
		c.board.step("api ready")
	}
	if err = errors.Join(err, <-runtimeReady); err != nil {
		return err
	}
	if err := c.grantPolicies(ctx); err != nil {
		return err
	}
	if err := c.grantAddons(ctx); err != nil {
		return err
	}
	if err := c.announceMetrics(ctx); err != nil {
		return err
	}
	if err := c.startNode(ctx); err != nil {
		return err
	}
	c.board.step("node ready")
	c.watchLoadBalancers()
	c.board.phase(control.Ready)
	return nil
}

// openPorts opens the host's listeners. A taken port is exchanged for a free one, which is then kept.
func (c *cluster) openPorts() (registry net.Listener, err error) {
	listener, port, err := listenLoopback(c.options.APIPort, c.id.APIPort, defaultAPIPort)
	if err != nil {
		return nil, fmt.Errorf("opening a port for the API: %w", err)
	}
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	listener.Close() // the descriptor lives on in file
	c.apiListener = file
	c.closers = append(c.closers, func() { file.Close() })
	c.id.APIPort = port
	if registry, err = c.openRegistryPort(); err != nil {
		return nil, err
	}
	return registry, c.state.Save(c.id)
}

// listenLoopback listens on the wanted port or fails; without a wanted one it takes the first that is free of the others,
// or any.
func listenLoopback(wanted int, others ...int) (net.Listener, int, error) {
	candidates := []int{wanted}
	if wanted == 0 {
		candidates = append(slices.Clone(others), 0)
	}
	var firstErr error
	for i, port := range candidates {
		if port == 0 && i != len(candidates)-1 {
			continue // not chosen yet
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return l, l.Addr().(*net.TCPAddr).Port, nil
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return nil, 0, firstErr
}

func (c *cluster) hostURL() string { return fmt.Sprintf("https://127.0.0.1:%d", c.id.APIPort) }

// componentURL is where the components on this machine reach the API.
func (c *cluster) componentURL() string {
	if c.mode == control.ModeNode {
		return fmt.Sprintf("https://%s:%d", nodeIPv4, apiPort)
	}
	return c.hostURL()
}

// certificates makes the certificates and kubeconfig files.
func (c *cluster) certificates() error {
	ips := append([]net.IP{net.ParseIP(nodeIPv4), net.ParseIP(nodeIPv6)}, kubernetesService...)
	folder := c.state.PKI()
	if err := controlplane.Certificates(folder, c.state.Components(), c.componentURL(), []string{nodeName}, ips); err != nil {
		return err
	}
	if c.mode == control.ModeNode {
		if err := nodeCertificates(c.state); err != nil {
			return err
		}
	}
	ca, err := folder.Authority("ca")
	if err != nil {
		return err
	}
	if err := controlplane.Kubeconfig(folder, ca, "admin", c.hostURL()).Write(c.state.Kubeconfig()); err != nil {
		return err
	}
	// The supervisor is not the administrator: levels may bind that one.
	if _, err := ca.Issue(pki.Request{Name: "supervisor", CommonName: supervisorUser, Organization: []string{controlplane.AdminGroup}, Client: true}); err != nil {
		return err
	}
	own := c.state.component("supervisor")
	if err := controlplane.Kubeconfig(folder, ca, "supervisor", c.hostURL()).Write(own); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", own)
	if err != nil {
		return err
	}
	config.QPS = -1
	c.client, err = kubernetes.NewForConfig(config)
	return err
}
