package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/embedded/pki"
	"github.com/weft-dev/weft/embedded/runtime"
	"github.com/weft-dev/weft/supervise"
	"github.com/weft-dev/weft/supervise/control"
)

// systemGroup is the child control group of the cluster's own processes.
const systemGroup = "system"

// spawn starts a process and keeps it alive. On a node it runs in the node's namespaces and control group.
func (c *cluster) spawn(ctx context.Context, spec supervise.Spec) (*supervise.Process, error) {
	spec.Log = c.state.Log(spec.Name)
	// What the whole cluster stands on is tried again soon, however often it was killed.
	spec.Backoff = supervise.Backoff{Initial: 100 * time.Millisecond, Max: time.Second, Reset: 5 * time.Second}
	if c.ns != nil && spec.Enter == nil {
		spec.Enter = c.ns.Enter
	}
	spec.OnChange = func(s supervise.Status) {
		if s.State == supervise.Starting && c.tree != nil {
			if err := c.tree.AddAll(systemGroup, s.PID); err != nil && s.LastError == "" {
				s.LastError = err.Error()
			}
		}
		c.board.component(s)
	}
	return c.group.Start(ctx, spec)
}

// startServer starts the control plane and waits until the API answers.
func (c *cluster) startServer(ctx context.Context) error {
	config := ServerConfig{
		State:               c.state.Dir,
		Advertise:           nodeIPv4,
		ServiceCIDR:         strings.Split(serviceCIDR, ","),
		Fsync:               c.options.Fsync,
		AuthorizationConfig: c.options.AuthorizationConfig,
		AdmissionManifests:  c.options.AdmissionManifests,
		ExtraArgs:           c.options.APIServerArgs,
	}
	if c.mode == control.ModeNode {
		config.NodeListen = fmt.Sprintf(":%d", apiPort)
		config.Endpoints = true
		config.State = stateMount
	}
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	file := filepath.Join(c.state.Run(), "server.json")
	if err := pki.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	if c.mode == control.ModeNode {
		file = inNode(c.state, file)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	c.closers = append(c.closers, func() { r.Close(); w.Close() })
	_, err = c.spawn(ctx, supervise.Spec{
		Name:  "server",
		Path:  c.options.Self,
		Args:  []string{"server", file},
		Files: []*os.File{c.apiListener, w},
		Ready: func(ctx context.Context) error { return waitLine(ctx, r) },
		Grace: 3 * time.Second,
	})
	return err
}

// waitLine reads one line from a pipe, after dropping what an earlier process may have left in it.
func waitLine(ctx context.Context, r *os.File) error {
	_ = r.SetReadDeadline(time.Now())
	for buf := make([]byte, 64); ; {
		if _, err := r.Read(buf); err != nil {
			break // the pipe is empty
		}
	}
	if err := r.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })
	defer stop()
	_, err := bufio.NewReader(r).ReadString('\n')
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// startRuntime starts what pods need besides the API: the way out and containerd.
func (c *cluster) startRuntime(ctx context.Context) error {
	programs, err := filepath.Abs(c.options.Programs)
	if err != nil {
		return err
	}
	environment, err := runtime.NodeEnvironment(os.Environ(), netip.MustParseAddr(egressGateway),
		[]string{"127.0.0.1", "localhost", "10.42.0.0/16", "10.43.0.0/16", "10.44.0.0/16", ".svc", ".cluster.local"})
	if err != nil {
		return err
	}
	if err := c.startEgress(ctx, programs, environment.HostPorts); err != nil {
		return err
	}
	args, err := containerdArgs(c.state, c.id, programs)
	if err != nil {
		return err
	}
	if c.id.Snapshotter == snapshotterWeft {
		if err := c.startSnapshotter(ctx, environment.Variables); err != nil {
			return err
		}
	}
	_, err = c.spawn(ctx, supervise.Spec{
		Name: "containerd",
		Path: filepath.Join(programs, "containerd"),
		Args: args,
		// Without a PATH the shim finds neither runc nor the network plugins the program nft.
		Env:   append(environment.Variables, "PATH="+runtime.ProgramPath(programs, os.Getenv("PATH"))),
		Ready: func(ctx context.Context) error { return waitSocket(ctx, c.state.path("run", "containerd.sock")) },
		Grace: 3 * time.Second,
	})
	if err != nil {
		return err
	}
	c.board.update(func(s *control.Status) { s.Containerd = c.state.path("run", "containerd.sock") })
	if err := c.importImages(ctx, programs); err != nil {
		return err
	}
	c.board.step("containerd ready")
	return nil
}

// startEgress starts the user-space network stack by which the node and its pods reach what the host reaches. hostPorts
// are the ports of the host's loopback that they may reach: those of a proxy.
func (c *cluster) startEgress(ctx context.Context, programs string, hostPorts []int) error {
	args := []string{"-netns", "/proc/self/fd/3", "-gateway", egressGateway, "-address", egressAddress, "-log-level", "warn"}
	// What is the cluster's own and has no route yet, as a Service before kube-proxy knows it, must not be asked of the world outside.
	for _, own := range []string{podCIDRv4, podCIDRv6, serviceCIDRv4, serviceCIDRv6} {
		args = append(args, "-deny", own)
	}
	for _, port := range hostPorts {
		args = append(args, "-host-port", strconv.Itoa(port))
	}
	_, err := c.spawn(ctx, supervise.Spec{
		Name:  "egress",
		Path:  filepath.Join(programs, "weft-egress"),
		Args:  args,
		Files: []*os.File{c.ns.net},
		Enter: func() error { return nil }, // it connects from the host's namespace
		Grace: time.Second,
	})
	return err
}

// importImages brings the images that are built with weft into containerd: no node can start a pod without the first.
func (c *cluster) importImages(ctx context.Context, programs string) error {
	archives, err := filepath.Glob(filepath.Join(programs, "images", "*.tar"))
	if err != nil {
		return err
	}
	if len(archives) == 0 {
		return fmt.Errorf("no images in %s: run `make build`", filepath.Join(programs, "images"))
	}
	out, err := exec.CommandContext(ctx, filepath.Join(programs, "weft-import"),
		append([]string{"-pin", "-snapshotter", c.id.snapshotter(), "-address", c.state.path("run", "containerd.sock")}, archives...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("loading the node's images: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// waitSocket waits until a unix socket accepts connections.
func waitSocket(ctx context.Context, path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)) // a socket path may not be long
	for {
		conn, err := net.Dial("unix", short)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// startNode starts kubelet, kube-proxy and DNS and waits until the node takes pods.
func (c *cluster) startNode(ctx context.Context) error {
	kubelet, err := kubeletArgs(c.state, c.id, c.tree)
	if err != nil {
		return err
	}
	proxy, err := proxyArgs(c.state)
	if err != nil {
		return err
	}
	dns, err := dnsArgs(c.state)
	if err != nil {
		return err
	}
	programs, err := filepath.Abs(c.options.Programs)
	if err != nil {
		return err
	}
	agent, err := c.agentArgs()
	if err != nil {
		return err
	}
	began := time.Now()
	for _, spec := range []supervise.Spec{
		{Name: "kubelet", Path: c.options.Self, Args: kubelet, Grace: time.Second},
		{Name: "kube-proxy", Path: c.options.Self, Args: proxy, Grace: time.Second},
		{Name: "dns", Path: filepath.Join(programs, "weft-dns"), Args: dns, Grace: time.Second},
		{Name: "agent", Path: c.options.Self, Args: agent, Files: []*os.File{c.ns.host}, Grace: time.Second},
	} {
		if _, err := c.spawn(ctx, spec); err != nil {
			return err
		}
	}
	if err := c.announceDNS(ctx); err != nil {
		return err
	}
	return c.waitNode(ctx, began)
}

// openAppend opens a log file that is written by the supervisor itself.
func openAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}
