//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy/trace"
	"github.com/weft-dev/weft/registry"
)

type bench struct {
	options
	registry   *slowRegistry
	dir, group string
	runs       int
}

// patience bounds every wait.
const patience = 2 * time.Minute

// node is one containerd with nothing on it.
type node struct {
	bench   *bench
	dir     string
	logs    bytes.Buffer
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
	conns   []*grpc.ClientConn
}

const (
	containerdSocket = "/run/benchpod/containerd.sock"
	proxySocket      = "/run/benchpod/snapshotter.sock"
)

// once runs a pod on a new node until it answers. after runs before the node ends.
func (b *bench) once(ctx context.Context, k kind, after func(*node, *pod) error) (res result, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b.runs++
	res.stages = map[string]time.Duration{}
	res.stage = stopwatch(res.stages)
	n := &node{bench: b, dir: filepath.Join(b.dir, fmt.Sprint("node-", b.runs))}
	defer func() {
		err = errors.Join(err, n.end())
		if err != nil && b.verbose {
			fmt.Fprintln(os.Stderr, n.logs.String())
		}
	}()
	if err := n.start(ctx, k); err != nil {
		return res, err
	}
	if k.name == present {
		if _, err := n.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: k.image}}); err != nil {
			return res, err
		}
	}
	before, began := b.registry.sent.Load(), time.Now()
	if b.verbose {
		b.registry.began.Store(began.UnixNano())
		defer b.registry.began.Store(0)
	}
	p, err := n.pod(ctx, k.image, res.stage)
	if err != nil {
		return res, err
	}
	if err := answers(ctx); err != nil {
		return res, err
	}
	res.took, res.fetched = time.Since(began), b.registry.sent.Load()-before
	res.stage("answer")
	if after != nil {
		err = after(n, p)
	}
	return res, err
}

// teach starts the image once so that what the start reads is pushed beside it.
func (b *bench) teach(ctx context.Context, name string) error {
	_, err := b.once(ctx, kind{"teach", name, "weft"}, func(n *node, p *pod) error {
		if err := n.remove(ctx, p); err != nil { // then the image is unmounted, and its start over
			return err
		}
		client := registry.New(registry.Options{})
		defer client.Close()
		place, err := image.OpenPlace(client, strings.Replace(name, registryHost, prepareHost, 1), b.dir, false)
		if err != nil {
			return err
		}
		defer place.Close()
		desc, _, err := place.Manifest(ctx)
		if err != nil {
			return err
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			list, err := place.Referrers(ctx, desc.Digest, "")
			if err != nil {
				return err
			}
			for _, d := range list {
				of, err := place.Referrers(ctx, d.Digest, trace.MediaType)
				if err == nil && len(of) > 0 || d.ArtifactType == trace.MediaType {
					return nil
				}
			}
			if time.Now().After(end) {
				return errors.New("nothing was learned within a minute")
			}
		}
	})
	return err
}

func (n *node) start(ctx context.Context, k kind) error {
	programs := filepath.Join(n.bench.top, "bin/node")
	hosts := filepath.Join(n.dir, "certs.d", registryHost)
	if err := os.MkdirAll(hosts, 0o755); err != nil {
		return err
	}
	toml := fmt.Sprintf("server = \"http://%[1]s\"\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", registryHost)
	if err := os.WriteFile(filepath.Join(hosts, "hosts.toml"), []byte(toml), 0o644); err != nil {
		return err
	}
	config, err := n.config(k, programs)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(n.dir, "containerd.toml"), config, 0o644); err != nil {
		return err
	}
	if err := n.startProxy(ctx, k); err != nil {
		return err
	}
	if err := n.spawn(filepath.Join(programs, "containerd"), "--config", filepath.Join(n.dir, "containerd.toml")); err != nil {
		return err
	}
	if err := listens(ctx, containerdSocket); err != nil {
		return fmt.Errorf("containerd: %w", err)
	}
	if err := n.connect(k); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if _, err := n.runtime.Status(ctx, &cri.StatusRequest{}); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(programs, "weft-import"), "-address", containerdSocket, "-pin", "-snapshotter", k.snapshotter,
		filepath.Join(programs, "images/pause.tar")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("loading the pause image: %w: %s", err, out)
	}
	return nil
}

// connect connects to containerd; pulls pass through the snapshotter where it takes them, as the embedded cluster's kubelet has it.
func (n *node) connect(k kind) error {
	var conns [2]*grpc.ClientConn
	for i, socket := range []string{containerdSocket, containerdSocket} {
		if i == 1 && k.snapshotter == "weft" {
			socket = proxySocket
		}
		var err error
		if conns[i], err = grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			return err
		}
		n.conns = append(n.conns, conns[i])
	}
	n.runtime, n.images = cri.NewRuntimeServiceClient(conns[0]), cri.NewImageServiceClient(conns[1])
	return nil
}

// startProxy starts the snapshotter that is not containerd's own.
func (n *node) startProxy(ctx context.Context, k kind) error {
	root := filepath.Join(n.dir, "snapshots")
	switch k.snapshotter {
	case "weft":
		args := []string{"snapshotter", "--root", root, "--address", proxySocket, "--registry-hosts", filepath.Join(n.dir, "certs.d"), "--image-service", containerdSocket}
		if k.name == "teach" {
			args = append(args, "--share")
		}
		if err := n.spawn(filepath.Join(n.bench.top, "bin/lazyd"), args...); err != nil {
			return err
		}
	case "stargz":
		if err := n.spawn(n.bench.rival, "--address", proxySocket, "--root", root, "--log-level", "info"); err != nil {
			return err
		}
	default:
		return nil
	}
	if err := listens(ctx, proxySocket); err != nil {
		return fmt.Errorf("the snapshotter: %w", err)
	}
	return nil
}

// config is that of the embedded cluster's nodes.
func (n *node) config(k kind, programs string) ([]byte, error) {
	source, err := os.ReadFile(filepath.Join(n.bench.top, "embedded/runtime/containerd.toml.tmpl"))
	if err != nil {
		return nil, err
	}
	t, err := template.New("").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(string(source))
	if err != nil {
		return nil, err
	}
	type proxy struct {
		Name, Socket, Root string
		Capabilities       []string
	}
	unpackers, proxies := []string{"overlayfs"}, []proxy(nil)
	if k.snapshotter != "overlayfs" {
		unpackers = append(unpackers, k.snapshotter)
		p := proxy{Name: k.snapshotter, Socket: proxySocket, Root: filepath.Join(n.dir, "snapshots")}
		if k.snapshotter == "weft" {
			p.Capabilities = []string{"rebase"}
		}
		proxies = append(proxies, p)
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Root": filepath.Join(n.dir, "containerd"), "State": "/run/benchpod/containerd", "Socket": containerdSocket, "ShimSockets": "/run/benchpod/s",
		"Programs": programs, "NetworkConfig": filepath.Join(n.dir, "cni"), "RegistryHosts": filepath.Join(n.dir, "certs.d"),
		"SandboxImage": "weft.local/pause:1", "Snapshotter": k.snapshotter, "LogLevel": "warn", "RestrictOOMScore": true,
		"Platform": "linux/" + runtime.GOARCH, "Unpackers": unpackers, "Proxies": proxies,
	})
	return out.Bytes(), err
}

// spawn starts a program that goes on until the node ends.
func (n *node) spawn(program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(n.bench.top, "bin/node")+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = &n.logs, &n.logs
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // end kills it
	return nil
}

func listens(ctx context.Context, socket string) error {
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			return c.Close()
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// end kills everything in the process namespace but this program, which is its first, and removes what is mounted and left.
func (n *node) end() error {
	for _, c := range n.conns {
		_ = c.Close()
	}
	_ = syscall.Kill(-1, syscall.SIGKILL)
	time.Sleep(100 * time.Millisecond)
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
			break
		}
	}
	lines, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	list := strings.Split(string(lines), "\n")
	for i := len(list) - 1; i >= 0; i-- {
		if f := strings.Fields(list[i]); len(f) > 4 && (strings.HasPrefix(f[4], n.dir+"/") || strings.HasPrefix(f[4], "/run/benchpod/")) {
			_ = unix.Unmount(f[4], unix.MNT_DETACH)
		}
	}
	return errors.Join(os.RemoveAll(n.dir), os.RemoveAll("/run/benchpod"))
}

// pod is a started one.
type pod struct{ id, image string }

// stopwatch notes under a name how long it is since the name before, or since the first.
func stopwatch(into map[string]time.Duration) func(string) {
	last := time.Now()
	return func(name string) {
		now := time.Now()
		into[name], last = now.Sub(last), now
	}
}

// pod starts a pod with one container in the node's network, as the kubelet does it. stage is told what was done.
func (n *node) pod(ctx context.Context, name string, stage func(string)) (*pod, error) {
	stage("")
	network := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER}
	sandbox := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: "app", Namespace: "bench", Uid: fmt.Sprint("uid-", n.bench.runs)},
		LogDirectory: filepath.Join(n.dir, "logs"),
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: fmt.Sprint(n.bench.group, "/pod-", n.bench.runs),
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: network}},
	}
	if err := os.MkdirAll(sandbox.LogDirectory, 0o755); err != nil {
		return nil, err
	}
	made, err := n.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: sandbox})
	if err != nil {
		return nil, err
	}
	stage("sandbox")
	pulled, err := n.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: name}, SandboxConfig: sandbox})
	if err != nil {
		return nil, err
	}
	stage("pull")
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "app"}, Image: &cri.ImageSpec{Image: pulled.ImageRef}, LogPath: "app.log",
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: network}},
	}
	created, err := n.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: made.PodSandboxId, Config: config, SandboxConfig: sandbox})
	if err != nil {
		return nil, err
	}
	stage("create")
	_, err = n.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: created.ContainerId})
	stage("start")
	return &pod{made.PodSandboxId, pulled.ImageRef}, err
}

func (n *node) remove(ctx context.Context, p *pod) error {
	if _, err := n.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		return err
	}
	if _, err := n.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
		return err
	}
	_, err := n.images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: p.image}})
	return err
}

// answers waits for the first HTTP 200.
func answers(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8080/", nil)
		if err != nil {
			return err
		}
		a, err := client.Do(req)
		if err == nil {
			_ = a.Body.Close()
			if a.StatusCode == http.StatusOK {
				return nil
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the service does not answer: %w", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
