package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/weft-dev/weft/supervise/control"
)

// kills is how often each process is killed.
func kills() int {
	if testing.Short() {
		return 2
	}
	return 20
}

// writer creates ConfigMaps as fast as it can and keeps the names of those that the API acknowledged.
type writer struct {
	mu    sync.Mutex
	names []string
	stop  context.CancelFunc
	done  chan struct{}
}

func write(ctx context.Context, clients kubernetes.Interface) *writer {
	ctx, stop := context.WithCancel(ctx)
	w := &writer{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("written-%d-%d", time.Now().UnixNano(), i)
			object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"name": name}}
			if _, err := clients.CoreV1().ConfigMaps("default").Create(ctx, object, metav1.CreateOptions{}); err == nil {
				w.mu.Lock()
				w.names = append(w.names, name)
				w.mu.Unlock()
			}
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return w
}

// end stops the writer and returns what was acknowledged.
func (w *writer) end() []string {
	w.stop()
	<-w.done
	return w.names
}

// missing lists the acknowledged objects that are not there.
func missing(t *testing.T, clients kubernetes.Interface, names []string) []string {
	t.Helper()
	list, err := clients.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, m := range list.Items {
		there[m.Name] = m.Data["name"] == m.Name
	}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return there[n] })
}

func (c *Cluster) component(t *testing.T, name string) control.Component {
	t.Helper()
	status, err := c.Control.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, component := range status.Components {
		if component.Name == name {
			return component
		}
	}
	t.Fatalf("there is no component %s", name)
	return control.Component{}
}

// TestKilledProcessesLoseNothing kills every process of a cluster at random moments while objects are written. The pod that
// runs all the time is never restarted by it.
func TestKilledProcessesLoseNothing(t *testing.T) {
	c := Own(t)
	if _, err := c.Kubectl(t.Context(), strings.ReplaceAll(shell("witness", forever), "IMAGE", TestImage), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(t.Context(), "", "wait", "--for=condition=Ready", "pod/witness", "--timeout=180s"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"server", "kubelet", "kube-proxy", "containerd", "dns", "egress", "agent"} {
		t.Run(name, func(t *testing.T) {
			w := write(t.Context(), c.Clients)
			for range kills() {
				time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
				before := c.component(t, name)
				if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				await(t, name+" to run again", func() bool {
					after := c.component(t, name)
					return after.State == "running" && after.PID != before.PID
				})
			}
			names := w.end()
			if len(names) == 0 {
				t.Error("nothing was written: the test says nothing")
			}
			if lost := missing(t, c.Clients, names); len(lost) > 0 {
				t.Errorf("%d of %d acknowledged objects are lost, the first is %s", len(lost), len(names), lost[0])
			}
			t.Logf("%d kills, %d objects acknowledged", kills(), len(names))
		})
	}
	if _, err := c.Kubectl(t.Context(), strings.ReplaceAll(shell("after", "exit 0"), "IMAGE", TestImage), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(t.Context(), "", "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/after", "--timeout=180s"); err != nil {
		t.Errorf("a new pod does not run after the kills: %v", err)
	}
	pod, err := c.Clients.CoreV1().Pods("default").Get(t.Context(), "witness", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := pod.Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Errorf("the running pod was restarted %d times", n)
	}
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestKilledSupervisorIsReplaced kills the supervisor, with which all but the pods' processes end, and starts again.
func TestKilledSupervisorIsReplaced(t *testing.T) {
	node := program(t)
	state := filepath.Join(t.TempDir(), "state")
	var names []string
	var c *Cluster
	t.Cleanup(func() {
		if c != nil {
			if err := errors.Join(c.Stop(0), c.Clean()); err != nil {
				t.Error(err)
			}
		}
	})
	for range kills() + 1 {
		var err error
		if c, err = Run(t.Context(), node, state); err != nil {
			t.Fatal(err)
		}
		if lost := missing(t, c.Clients, names); len(lost) > 0 {
			t.Fatalf("%d of %d acknowledged objects are lost", len(lost), len(names))
		}
		w := write(t.Context(), c.Clients)
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		if err := c.Kill(); err != nil {
			t.Fatal(err)
		}
		names = append(names, w.end()...)
	}
	if err := c.Clean(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills, %d objects acknowledged, none lost", kills()+1, len(names))
	noTrace(t, state)
}

// TestInterruptedStartIsRepeated ends a start at random moments, by Ctrl-C and by kill -9.
func TestInterruptedStartIsRepeated(t *testing.T) {
	node := program(t)
	state := filepath.Join(t.TempDir(), "state")
	for i := range kills() {
		cmd := exec.Command(node, "run", "--state", state)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(2500)) * time.Millisecond)
		signal := os.Interrupt
		if i%2 == 1 {
			signal = os.Kill
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // an interrupted start may end with any status
	}
	c, err := Run(t.Context(), node, state)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(time.Second); err != nil {
		t.Error(err)
	}
	noTrace(t, state)
}

// noTrace checks that nothing of a cluster is left outside its folder.
func noTrace(t *testing.T, state string) {
	t.Helper()
	out, _ := exec.Command("pgrep", "-af", state).CombinedOutput() // finds nothing: status 1
	if strings.TrimSpace(string(out)) != "" {
		t.Errorf("processes are left:\n%s", out)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, state) || strings.Contains(line, "/run/containerd") || strings.Contains(line, "/run/weft") {
			t.Errorf("a mount is left: %s", line)
		}
	}
	identity, err := os.ReadFile(filepath.Join(state, "cluster.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(identity, []byte(`"id": "`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	for _, pattern := range []string{"/sys/fs/cgroup/weft-%s", "/sys/fs/cgroup/*/weft-%s"} {
		if left, _ := filepath.Glob(fmt.Sprintf(pattern, id)); len(left) > 0 {
			t.Errorf("control groups are left: %v", left)
		}
	}
}

// hostTraces lists what a node could leave on the host. Control groups of clusters are not in it: those of other tests come and go
// beside this one, and noTrace looks for the cluster's own.
func hostTraces(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range []string{"/var/lib", "/run", "/run/netns", "/usr/libexec", "/etc/cni", "/opt", "/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/class/net"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // not on this machine
		}
		for _, e := range entries {
			if strings.HasPrefix(dir, "/sys/fs/cgroup") && strings.HasPrefix(e.Name(), "weft-") {
				continue
			}
			fmt.Fprintln(&b, filepath.Join(dir, e.Name()))
		}
	}
	for _, key := range []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "kernel/keys/root_maxkeys"} {
		value, _ := os.ReadFile("/proc/sys/" + key)
		fmt.Fprintf(&b, "%s=%s", key, value)
	}
	rules, _ := exec.Command("nft", "list", "tables").CombinedOutput()
	b.Write(rules)
	return b.String()
}

func TestDownLeavesNothing(t *testing.T) {
	node := program(t)
	state := filepath.Join(t.TempDir(), "state")
	before := hostTraces(t)
	c, err := Run(t.Context(), node, state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(t.Context(), "", "create", "deployment", "web", "--image="+TestImage, "--replicas=2"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(t.Context(), "", "wait", "--for=condition=Available", "deployment/web", "--timeout=180s"); err != nil {
		t.Fatal(err)
	}
	running := hostTraces(t)
	if err := c.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if left := difference(before, hostTraces(t)); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	// Addresses, rules and mounts are in the node's namespaces while it runs.
	for line := range strings.Lines(difference(before, running)) {
		t.Errorf("on the host while it runs: %s", line)
	}
	noTrace(t, state)
	if again, err := Run(t.Context(), node, state); err != nil {
		t.Error(err)
	} else {
		if _, err := again.Kubectl(t.Context(), "", "wait", "--for=condition=Available", "deployment/web", "--timeout=180s"); err != nil {
			t.Errorf("the deployment did not come back: %v", err)
		}
		if err := again.Stop(time.Second); err != nil {
			t.Error(err)
		}
	}
}

// difference lists the lines of b that a has not.
func difference(a, b string) string {
	var out strings.Builder
	for line := range strings.Lines(b) {
		if !strings.Contains(a, line) {
			out.WriteString(line)
		}
	}
	return out.String()
}

func TestTwoClustersDoNotCollide(t *testing.T) {
	t.Parallel()
	one, two := Shared(t), Own(t)
	for i, c := range []*Cluster{one, two} {
		name := fmt.Sprintf("only-in-%d", i)
		if _, err := c.Kubectl(t.Context(), "", "create", "configmap", name); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := two.Kubectl(t.Context(), "", "get", "configmap", "only-in-0"); err == nil {
		t.Errorf("one cluster shows the other's objects: %s", out)
	}
	if out, err := two.Kubectl(t.Context(), "", "run", "same-address", "--image="+TestImage); err != nil {
		t.Errorf("%v %s", err, out)
	}
	if _, err := two.Kubectl(t.Context(), "", "wait", "--for=condition=Ready", "pod/same-address", "--timeout=180s"); err != nil {
		t.Error(err)
	}
}

func TestTakenPortIsSaidOrAvoided(t *testing.T) {
	t.Parallel()
	node := program(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	state := filepath.Join(t.TempDir(), "state")
	out, err := exec.Command(node, "run", "--state", state, "--mode", "api", "--api-port", fmt.Sprint(port)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprint(port)) || !strings.Contains(string(out), "in use") {
		t.Errorf("status %v, printed %q", err, out)
	}
}

func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	c := Shared(t)
	out, err := exec.Command(c.Node, "run", "--state", c.State).CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprint(c.process.Process.Pid)) {
		t.Errorf("status %v, printed %q, expected the process that is at work", err, out)
	}
}

func TestFullDiskIsSaid(t *testing.T) {
	t.Parallel()
	node := program(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	out, err := exec.Command(node, "run", "--state", filepath.Join(dir, "state"), "--mode", "api").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "space") {
		t.Errorf("status %v, printed %q, expected what is full", err, out)
	}
}

func TestForeignFolderIsRefused(t *testing.T) {
	t.Parallel()
	node := program(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(file, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"run", "clean"} {
		out, err := exec.Command(node, verb, "--state", dir).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "not a state folder") {
			t.Errorf("%s: status %v, printed %q", verb, err, out)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestWithoutRootThereIsAnAPI(t *testing.T) {
	t.Parallel()
	node := program(t)
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "weft-node") // the built one may lie where only root may read
	if out, err := exec.Command("cp", node, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	state := filepath.Join(dir, "state")
	cmd := exec.Command(copied, "run", "--state", state)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	c := &Cluster{State: state, Node: node, Control: control.NewClient(state), process: cmd, ended: ended}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	status, err := c.Await(ctx, control.Ready)
	if err != nil {
		t.Fatal(errors.Join(err, errors.New(out.String())))
	}
	if status.Mode != control.ModeAPI || len(status.Missing) == 0 || !strings.Contains(strings.Join(status.Missing, " "), "root") {
		t.Errorf("mode %s, missing %q, expected the API alone and that root is missing", status.Mode, status.Missing)
	}
	if out, err := c.Kubectl(t.Context(), "", "create", "deployment", "web", "--image="+TestImage); err != nil {
		t.Errorf("%v %s", err, out)
	}
	if err := c.Stop(0); err != nil {
		t.Error(err)
	}
}

func TestAuthorizationConfigurationIsTaken(t *testing.T) {
	t.Parallel()
	node := program(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "authorization.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	state := filepath.Join(dir, "state")
	write("- {type: Node, name: node}\n- {type: Nonsense, name: other}\n")
	out, err := exec.Command(node, "run", "--state", state, "--mode", "api", "--authorization-config", file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Nonsense") {
		t.Errorf("status %v, printed %q, expected the wrong value", err, out)
	}
	// Without RBAC nobody but the system itself has rights: the file is what counts.
	write("- {type: Node, name: node}\n")
	c, err := Run(t.Context(), node, state, "--mode", "api", "--authorization-config", file)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := c.Kubectl(t.Context(), "", "get", "configmaps"); err == nil || !strings.Contains(err.Error(), "orbidden") {
		t.Errorf("%v %s, expected to be refused", err, out)
	}
	if err := c.Stop(0); err != nil {
		t.Error(err)
	}
}
