//go:build linux

package node

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestPodOnContainerd runs a pod with our own containerd, shim, runc and
// network plugins in namespaces of its own, on either version of control
// groups, and looks at everything that a kubelet relies on.
func TestPodOnContainerd(t *testing.T) {
	inside(t, func() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
		defer cancel()
		m := start(ctx, t)
		imagesAreThere(ctx, m)
		p := m.pod(ctx, "web", 18080)
		serve := p.container(ctx, "serve", nil)
		m.reachable(ctx, p.ip, 8080)

		isolated(ctx, m, serve)
		answersOverTheNetwork(ctx, m, p)
		logsAreWritten(m, p)
		survivesContainerd(ctx, m, p, serve)
		stopsOnTerm(ctx, m, serve)
		isKilledAfterGrace(ctx, m, p)
		runsOutOfMemory(ctx, m, p)
		startsUnderInit(ctx, m, p)
		p.remove(ctx)
		leavesNothing(m)
	})
}

func imagesAreThere(ctx context.Context, m *machine) {
	m.tb.Helper()
	answer, err := m.images.ListImages(ctx, &cri.ListImagesRequest{})
	m.must(err)
	pinned := map[string]bool{}
	for _, image := range answer.Images {
		for _, tag := range image.RepoTags {
			pinned[tag] = image.Pinned
		}
	}
	for _, name := range []string{"weft.local/pause:1", "weft.local/testpod:1"} {
		if !pinned[name] {
			m.tb.Errorf("image %s is not there or not pinned: %v", name, pinned)
		}
	}
}

// isolated checks host name, system call filter, memory limit and resolv.conf
// from within the container.
func isolated(ctx context.Context, m *machine, id string) {
	m.tb.Helper()
	if got := strings.TrimSpace(m.exec(ctx, id, "hostname")); got != "web" {
		m.tb.Errorf("host name %q, expected web", got)
	}
	status := m.exec(ctx, id, "cat", "/proc/1/status")
	if !filtersMissing(m) && !strings.Contains(status, "Seccomp:\t2") {
		m.tb.Errorf("no system call filter in\n%s", status)
	}
	if !strings.Contains(m.exec(ctx, id, "cat", "/etc/resolv.conf"), "nameserver 10.43.0.10") {
		m.tb.Error("resolv.conf has not the pod's name server")
	}
	limit := m.exec(ctx, id, "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max")
	if strings.TrimSpace(limit) != strconv.Itoa(64<<20) {
		m.tb.Errorf("memory limit %q", limit)
	}
}

// filtersMissing tells whether runc was built without system call filters.
func filtersMissing(m *machine) bool {
	_, err := os.Stat(filepath.Join(m.programs, "runc-core"))
	return err == nil
}

// answersOverTheNetwork asks the pod by its address from the node and from
// another pod, and by a port of the node.
func answersOverTheNetwork(ctx context.Context, m *machine, p *pod) {
	m.tb.Helper()
	for _, address := range []string{p.ip + ":8080", gateway + ":18080"} {
		answer, err := http.Get("http://" + address)
		m.must(err)
		body, err := io.ReadAll(answer.Body)
		m.must(err)
		m.must(answer.Body.Close())
		if !strings.Contains(string(body), "hostname=web") {
			m.tb.Errorf("%s answered %q", address, body)
		}
	}
	other := m.pod(ctx, "client", 0)
	id := other.container(ctx, "wait", func(c *cri.ContainerConfig) { c.Args = []string{"wait"} })
	if got := m.exec(ctx, id, "testpod", "udp", p.ip+":8082", "hello"); got != "hello\n" {
		m.tb.Errorf("UDP echo gave %q", got)
	}
	if got := m.exec(ctx, id, "testpod", "tcp", p.ip+":8081", "hello"); got != "hello\n" {
		m.tb.Errorf("TCP echo gave %q", got)
	}
	other.remove(ctx)
}

func logsAreWritten(m *machine, p *pod) {
	m.tb.Helper()
	content, err := os.ReadFile(filepath.Join(p.config.LogDirectory, "serve.log"))
	m.must(err)
	if !strings.Contains(string(content), " stdout F ") || !strings.Contains(string(content), "path=/") {
		m.tb.Errorf("the container's log has no request:\n%s", content)
	}
}

// survivesContainerd kills containerd and starts it again: the container goes
// on, and can be reached and controlled as before.
func survivesContainerd(ctx context.Context, m *machine, p *pod, id string) {
	m.tb.Helper()
	before := m.container(ctx, id)
	m.must(m.process.Process.Signal(syscall.SIGKILL))
	_ = m.process.Wait()
	m.reachable(ctx, p.ip, 8080)
	m.containerd(ctx)
	after := m.container(ctx, id)
	if after.State != cri.ContainerState_CONTAINER_RUNNING || after.StartedAt != before.StartedAt {
		m.tb.Errorf("after a restart of containerd the container is %v, started at %d, before %d", after.State, after.StartedAt, before.StartedAt)
	}
	m.exec(ctx, id, "true")
}

// stopsOnTerm expects that the program ends by itself on SIGTERM.
func stopsOnTerm(ctx context.Context, m *machine, id string) {
	m.tb.Helper()
	_, err := m.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 60})
	m.must(err)
	if s := m.container(ctx, id); s.ExitCode != 0 || s.Reason != "Completed" {
		m.tb.Errorf("stopped with exit code %d, %s; expected 0, Completed", s.ExitCode, s.Reason)
	}
}

func isKilledAfterGrace(ctx context.Context, m *machine, p *pod) {
	m.tb.Helper()
	id := p.container(ctx, "deaf", func(c *cri.ContainerConfig) { c.Args = []string{"wait", "-ignore-term"} })
	m.logHas(ctx, p, "deaf", "waiting")
	_, err := m.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 1})
	m.must(err)
	if s := m.container(ctx, id); s.ExitCode != 137 {
		m.tb.Errorf("exit code %d, expected 137", s.ExitCode)
	}
}

func runsOutOfMemory(ctx context.Context, m *machine, p *pod) {
	m.tb.Helper()
	id := p.container(ctx, "eater", func(c *cri.ContainerConfig) { c.Args = []string{"fill", "-mib", "256", "-step", "0s"} })
	m.eventually(ctx, "the container ran out of memory", func() error {
		if s := m.container(ctx, id); s.State != cri.ContainerState_CONTAINER_EXITED || s.Reason != "OOMKilled" {
			return fmt.Errorf("it is %v, %s", s.State, s.Reason)
		}
		return nil
	})
}

// startsUnderInit runs a shell that has no handler for SIGTERM: as the first
// process it would ignore the signal, under weft-init it ends.
func startsUnderInit(ctx context.Context, m *machine, p *pod) {
	m.tb.Helper()
	id := p.container(ctx, "shell", func(c *cri.ContainerConfig) {
		c.Command = []string{"/bin/weft-init", "sh", "-c", "echo started; while true; do sleep 1; done"}
	})
	m.logHas(ctx, p, "shell", "started")
	_, err := m.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 60})
	m.must(err)
	if s := m.container(ctx, id); s.ExitCode != 128+int32(syscall.SIGTERM) {
		m.tb.Errorf("exit code %d, expected 143", s.ExitCode)
	}
}

// leavesNothing looks for what a removed pod could leave behind.
func leavesNothing(m *machine) {
	m.tb.Helper()
	leases, err := filepath.Glob(filepath.Join(m.state, "ipam/weft/10.*"))
	m.must(err)
	if len(leases) > 0 {
		m.tb.Errorf("addresses still in use: %q", leases)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	m.must(err)
	if strings.Contains(string(mounts), "/run/weft/containerd/io.containerd.runtime") || strings.Contains(string(mounts), "cni-") {
		m.tb.Errorf("mounts left:\n%s", mounts)
	}
	for _, group := range cgroups(m.cgroup) {
		if filepath.Base(group) != filepath.Base(m.cgroup) && !strings.HasSuffix(group, "/web") && !strings.HasSuffix(group, "/client") {
			m.tb.Errorf("control group of a container left: %s", group)
		}
	}
	if left := processes(m.tb, "containerd-shim-runc-v2"); len(left) > 0 {
		m.tb.Errorf("shims left: %v", left)
	}
}

func (m *machine) logHas(ctx context.Context, p *pod, name, text string) {
	m.tb.Helper()
	m.eventually(ctx, name+" logs "+text, func() error {
		content, err := os.ReadFile(filepath.Join(p.config.LogDirectory, name+".log"))
		if err == nil && !strings.Contains(string(content), text) {
			err = fmt.Errorf("the log is %q", content)
		}
		return err
	})
}

// processes finds the live processes of a program in this process namespace.
func processes(tb testing.TB, program string) []int {
	tb.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		tb.Fatal(err)
	}
	var pids []int
	for _, file := range found {
		line, err := os.ReadFile(file)
		first, _, _ := strings.Cut(string(line), "\x00")
		if err != nil || filepath.Base(first) != program { // a zombie has an empty line
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// proportional gives a process's memory in MiB, shared pages counted in parts
// (PSS), by its number in this process namespace.
func proportional(tb testing.TB, pid int) float64 {
	tb.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kib / 1024
		}
	}
	tb.Fatalf("process %d has no Pss line", pid)
	return 0
}

// BenchmarkPod measures from RunPodSandbox to a started container, and the
// memory of containerd, a shim and a pause process beside ten pods.
func BenchmarkPod(b *testing.B) {
	inside(b, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
		defer cancel()
		m := start(ctx, b)
		idle := proportional(b, m.process.Process.Pid)
		for i := 0; b.Loop(); i++ {
			m.pod(ctx, fmt.Sprintf("pod%d", i), 0).container(ctx, "wait", func(c *cri.ContainerConfig) { c.Args = []string{"wait"} })
		}
		b.ReportMetric(idle, "MiB-containerd-idle")
		b.ReportMetric(proportional(b, m.process.Process.Pid), "MiB-containerd")
		for name, program := range map[string]string{"MiB-shim": "containerd-shim-runc-v2", "MiB-pause": "pause"} {
			sum, pids := 0.0, processes(b, program)
			for _, pid := range pids {
				sum += proportional(b, pid)
			}
			b.ReportMetric(sum/float64(len(pids)), name)
		}
	})
}
