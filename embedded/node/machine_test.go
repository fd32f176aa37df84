//go:build linux

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// insideVariable tells the test program that it runs in namespaces of its own,
// cgroupVariable the control group below which its pods have to be.
const (
	insideVariable = "WEFT_NODE_TEST_INSIDE"
	cgroupVariable = "WEFT_NODE_TEST_CGROUP"
)

// patience bounds every wait; busy machines are slow.
const patience = 90 * time.Second

// programs is the folder of the built programs.
func programs(tb testing.TB) string {
	tb.Helper()
	folder := os.Getenv("WEFT_NODE_PROGRAMS")
	if folder == "" {
		folder = "../../bin/node"
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "runc", "bridge", "host-local", "portmap", "weft-import", "images/testpod.tar"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			tb.Skipf("%s is not built; run `make build` first", name)
		}
	}
	return folder
}

// inside runs the body in a mount, network, process and host name namespace of
// its own: it starts this test program again for the one test or benchmark.
// When the body's process ends, the kernel ends every process it started.
func inside(tb testing.TB, body func()) {
	tb.Helper()
	if os.Getenv(insideVariable) == tb.Name() {
		if err := enter(); err != nil {
			tb.Fatal(err)
		}
		body()
		return
	}
	if os.Getuid() != 0 {
		tb.Skip("needs root, for namespaces and mounts")
	}
	programs(tb)
	only := []string{"-test.run=^" + tb.Name() + "$"}
	if b, ok := tb.(*testing.B); ok {
		if b.N > 1 {
			return // the inner program counts its own rounds
		}
		only = []string{"-test.run=^$", "-test.bench=^" + tb.Name() + "$", "-test.benchtime=10x"}
	}
	cgroup := fmt.Sprintf("/weft-test-%d-%s", os.Getpid(), tb.Name())
	tb.Cleanup(func() {
		for _, left := range cgroups(cgroup) {
			if err := removeCgroup(left); err != nil {
				tb.Errorf("control group left behind: %v", err)
			}
		}
	})
	cmd := exec.Command("/proc/self/exe", append(only, "-test.v", "-test.timeout=10m")...)
	cmd.Env = append(os.Environ(), insideVariable+"="+tb.Name(), cgroupVariable+"="+cgroup, "TMPDIR="+tb.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	tb.Logf("in the namespaces:\n%s", out)
	if err != nil {
		tb.Fatal(err)
	}
}

// enter makes the namespaces usable: mounts that do not spread, an own /proc
// and /run, the loopback device up.
func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("run", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	// The bridge plugin switches it on; only in this network namespace.
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err == nil {
		if err := bindCgroups(); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// bindCgroups brings the host's control groups back below the new /sys.
func bindCgroups() error {
	// The old /sys lies under the new one and is reached by its mount only
	// through a process that still sees it; so mount the hierarchies anew.
	lines, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(lines), "\n") {
		before, after, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 3 || !strings.HasPrefix(fields[4], "/sys/fs/cgroup") {
			continue
		}
		target := fields[4]
		switch kind[0] {
		case "tmpfs":
			err = unix.Mount("cgroup", target, "tmpfs", 0, "mode=755")
		case "cgroup2":
			err = mountAt("cgroup2", target, "")
		case "cgroup":
			err = mountAt("cgroup", target, strings.TrimPrefix(strings.TrimPrefix(kind[2], "rw"), ","))
		}
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", kind[0], target, err)
		}
	}
	return nil
}

func mountAt(kind, target, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return unix.Mount(kind, target, kind, 0, data)
}

// machine is a containerd with its CRI client, alone in the test's namespaces.
type machine struct {
	tb       testing.TB
	programs string
	state    string
	socket   string
	cgroup   string // parent of all pods' control groups
	process  *exec.Cmd
	runtime  cri.RuntimeServiceClient
	images   cri.ImageServiceClient
	log      bytes.Buffer
}

const (
	bridgeName = "weft0"
	podSubnet  = "10.42.0.0/24"
	gateway    = "10.42.0.1"
)

// start brings containerd up and loads the images.
func start(ctx context.Context, tb testing.TB) *machine {
	tb.Helper()
	m := &machine{tb: tb, programs: programs(tb), state: tb.TempDir(), socket: "/run/weft/containerd.sock"}
	m.cgroup = os.Getenv(cgroupVariable)
	m.write("cni/weft.conflist", networkConfig(m.state))
	m.write("containerd.toml", m.config())
	m.containerd(ctx)
	tb.Cleanup(m.close)
	for _, image := range []string{"pause", "testpod"} {
		m.run(ctx, "weft-import", "-address", m.socket, "-pin", filepath.Join(m.programs, "images", image+".tar"))
	}
	return m
}

func networkConfig(state string) string {
	config, err := json.Marshal(map[string]any{
		"cniVersion": "1.1.0", "name": "weft",
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": bridgeName, "isDefaultGateway": true, "hairpinMode": true,
				"ipam": map[string]any{
					"type": "host-local", "dataDir": filepath.Join(state, "ipam"),
					"ranges": []any{[]any{map[string]string{"subnet": podSubnet}}},
				},
			},
			map[string]any{"type": "portmap", "backend": "nftables", "snat": true, "capabilities": map[string]bool{"portMappings": true}},
		},
	})
	if err != nil {
		panic(err)
	}
	return string(config)
}

// config renders the template that the embedded cluster uses.
func (m *machine) config() string {
	source, err := os.ReadFile("../runtime/containerd.toml.tmpl")
	m.must(err)
	t, err := template.New("").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(string(source))
	m.must(err)
	var out strings.Builder
	m.must(t.Execute(&out, map[string]any{
		"Root": filepath.Join(m.state, "containerd"), "State": "/run/weft/containerd", "Socket": m.socket,
		"ShimSockets": "/run/weft/s", "Programs": m.programs, "NetworkConfig": filepath.Join(m.state, "cni"),
		"RegistryHosts": filepath.Join(m.state, "certs.d"), "SandboxImage": "weft.local/pause:1", "Snapshotter": "overlayfs",
		"LogLevel": "info", "RestrictOOMScore": !mayLowerOOMScore(), "Proxies": nil, "Platform": "linux/" + runtime.GOARCH, "Unpackers": []string{"overlayfs"},
	}))
	return out.String()
}

// mayLowerOOMScore tries it.
func mayLowerOOMScore() bool {
	cmd := exec.Command("sh", "-c", "echo -998 > /proc/self/oom_score_adj")
	return cmd.Run() == nil
}

// containerd starts the program and waits until CRI answers.
func (m *machine) containerd(ctx context.Context) {
	m.tb.Helper()
	m.process = exec.Command(filepath.Join(m.programs, "containerd"), "--config", filepath.Join(m.state, "containerd.toml"))
	m.process.Env = append(os.Environ(), "PATH="+m.programs+":"+os.Getenv("PATH"))
	m.process.Stdout, m.process.Stderr = &m.log, &m.log
	m.must(m.process.Start())
	if m.runtime == nil {
		conn, err := grpc.NewClient("unix://"+m.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		m.must(err)
		m.tb.Cleanup(func() { _ = conn.Close() })
		m.runtime, m.images = cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	}
	m.eventually(ctx, "containerd is ready", func() error {
		answer, err := m.runtime.Status(ctx, &cri.StatusRequest{})
		if err != nil {
			return err
		}
		for _, condition := range answer.Status.Conditions {
			if needed := condition.Type == cri.RuntimeReady || condition.Type == cri.NetworkReady; needed && !condition.Status {
				return fmt.Errorf("%s: %s", condition.Type, condition.Message)
			}
		}
		return nil
	})
}

// close ends containerd; the namespaces' end takes everything else with it.
func (m *machine) close() {
	_ = m.process.Process.Kill()
	_ = m.process.Wait()
	if m.tb.Failed() {
		m.tb.Logf("containerd said:\n%s", m.log.String())
	}
}

// cgroups lists a control group and those below it in every hierarchy, the
// deepest first.
func cgroups(name string) []string {
	var found []string
	roots, _ := filepath.Glob("/sys/fs/cgroup/*" + name)
	for _, root := range append(roots, "/sys/fs/cgroup"+name) {
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				found = append([]string{path}, found...)
			}
			return nil
		})
	}
	return found
}

// removeCgroup removes a control group; the processes that the end of their
// namespace killed may take a moment to leave it.
func removeCgroup(path string) error {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := os.Remove(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			return err
		}
	}
}

func (m *machine) write(name, content string) {
	m.tb.Helper()
	file := filepath.Join(m.state, name)
	m.must(os.MkdirAll(filepath.Dir(file), 0o755))
	m.must(os.WriteFile(file, []byte(content), 0o644))
}

// run starts one of the node's programs and gives its output.
func (m *machine) run(ctx context.Context, name string, args ...string) string {
	m.tb.Helper()
	out, err := exec.CommandContext(ctx, filepath.Join(m.programs, name), args...).CombinedOutput()
	if err != nil {
		m.tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (m *machine) must(err error) {
	m.tb.Helper()
	if err != nil {
		m.tb.Fatal(err)
	}
}

func (m *machine) eventually(ctx context.Context, what string, try func() error) {
	m.tb.Helper()
	end := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) || ctx.Err() != nil {
			m.tb.Fatalf("waited in vain until %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// pod is a sandbox with its configuration.
type pod struct {
	m      *machine
	id     string
	config *cri.PodSandboxConfig
	ip     string
}

// pod starts a sandbox; hostPort 0 maps none.
func (m *machine) pod(ctx context.Context, name string, hostPort int32) *pod {
	m.tb.Helper()
	p := &pod{m: m, config: &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "test", Uid: name + "-uid"},
		Hostname:     name,
		LogDirectory: filepath.Join(m.state, "logs", name),
		DnsConfig:    &cri.DNSConfig{Servers: []string{"10.43.0.10"}, Searches: []string{"test.svc.cluster.local"}},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    m.cgroup + "/" + name,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}},
		},
	}}
	if hostPort != 0 {
		p.config.PortMappings = []*cri.PortMapping{{Protocol: cri.Protocol_TCP, ContainerPort: 8080, HostPort: hostPort}}
	}
	m.must(os.MkdirAll(p.config.LogDirectory, 0o755))
	answer, err := m.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.config})
	m.must(err)
	p.id = answer.PodSandboxId
	status, err := m.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.id})
	m.must(err)
	p.ip = status.Status.Network.GetIp()
	return p
}

// container starts a container of the test image in the pod.
func (p *pod) container(ctx context.Context, name string, change func(*cri.ContainerConfig)) string {
	p.m.tb.Helper()
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: "weft.local/testpod:1"},
		LogPath:  name + ".log",
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuShares: 102, OomScoreAdj: 999},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}
	if change != nil {
		change(config)
	}
	created, err := p.m.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config})
	p.m.must(err)
	_, err = p.m.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: created.ContainerId})
	p.m.must(err)
	return created.ContainerId
}

// exec runs a program in a container and gives its output.
func (m *machine) exec(ctx context.Context, id string, command ...string) string {
	m.tb.Helper()
	answer, err := m.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: command, Timeout: 30})
	m.must(err)
	if answer.ExitCode != 0 {
		m.tb.Fatalf("%q in the container: exit code %d, %s", command, answer.ExitCode, answer.Stderr)
	}
	return string(answer.Stdout)
}

func (m *machine) container(ctx context.Context, id string) *cri.ContainerStatus {
	m.tb.Helper()
	answer, err := m.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
	m.must(err)
	return answer.Status
}

// remove stops and removes the pod with all its containers.
func (p *pod) remove(ctx context.Context) {
	p.m.tb.Helper()
	_, err := p.m.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id})
	p.m.must(err)
	_, err = p.m.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id})
	p.m.must(err)
}

// reachable waits until a TCP connection works.
func (m *machine) reachable(ctx context.Context, host string, port int) {
	m.tb.Helper()
	address := net.JoinHostPort(host, strconv.Itoa(port))
	m.eventually(ctx, address+" answers", func() error {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}
