package policy

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/weft-dev/weft/network"
)

// newNetns returns a descriptor of a fresh network namespace.
func newNetns(t *testing.T) int {
	t.Helper()
	type result struct {
		f   *os.File
		err error
	}
	c := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			c <- result{err: err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		c <- result{f, err}
	}()
	r := <-c
	if r.err != nil {
		t.Skipf("cannot make network namespaces: %v", r.err)
	}
	t.Cleanup(func() { r.f.Close() })
	return int(r.f.Fd())
}

func nft(t *testing.T, netns int, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the nft program, to interfere as another program would")
	}
	c := make(chan string)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			c <- err.Error()
			return
		}
		out, err := exec.Command("nft", args...).CombinedOutput()
		if err != nil {
			out = append(out, err.Error()...)
		}
		c <- string(out)
	}()
	return <-c
}

// fixture is a controller with a namespace of the API for itself.
type fixture struct {
	t       *testing.T
	client  kubernetes.Interface
	space   string
	options Options
	table   *network.Table
	cluster []*network.ClusterPolicy // that are to be in force

	mu     sync.Mutex
	status Status
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, client: api(t)}
	space, err := f.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "policy-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Pods are refused until the namespace's service account is there.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err = f.client.CoreV1().ServiceAccounts(space.Name).Get(t.Context(), "default", metav1.GetOptions{}); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no default service account: %v", err)
		}
	}
	f.space = space.Name
	f.options = Options{Client: f.client, Node: "n1", Table: "weft-test", NetNS: newNetns(t),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd00:42::/64")},
		Report: func(s Status) {
			f.mu.Lock()
			f.status = s
			f.mu.Unlock()
		}}
	if f.table, err = network.OpenTable(f.options.Table, f.options.NetNS); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.client.CoreV1().Namespaces().Delete(context.Background(), f.space, metav1.DeleteOptions{})
	})
	return f
}

// run starts the controller; the returned function stops it.
func (f *fixture) run() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, f.options) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			f.t.Error(err)
		}
	}
	f.t.Cleanup(stop)
	return stop
}

func (f *fixture) reported() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// pod makes a pod of the node; its addresses are set if given.
func (f *fixture) pod(name string, labels map[string]string, ips ...string) *corev1.Pod {
	f.t.Helper()
	zero := int64(0)
	p, err := f.client.CoreV1().Pods(f.space).Create(f.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: corev1.PodSpec{NodeName: "n1", TerminationGracePeriodSeconds: &zero, Containers: []corev1.Container{{Name: "c", Image: "none",
			Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}}},
	}, metav1.CreateOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	if len(ips) > 0 {
		f.setIPs(p, ips...)
	}
	return p
}

func (f *fixture) setIPs(p *corev1.Pod, ips ...string) {
	f.t.Helper()
	p.Status.Phase, p.Status.PodIP = corev1.PodRunning, ips[0]
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	if _, err := f.client.CoreV1().Pods(f.space).UpdateStatus(f.t.Context(), p, metav1.UpdateOptions{}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) policy(name string, spec networkingv1.NetworkPolicySpec) {
	f.t.Helper()
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	if _, err := f.client.NetworkingV1().NetworkPolicies(f.space).Create(f.t.Context(), np, metav1.CreateOptions{}); err != nil {
		f.t.Fatal(err)
	}
}

// wanted is the table as compiled at once from what the API has.
func (f *fixture) wanted() *network.Ruleset {
	f.t.Helper()
	_, c, err := open(f.options)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx := f.t.Context()
	pods, err1 := f.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	spaces, err2 := f.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	policies, err3 := f.client.NetworkingV1().NetworkPolicies("").List(ctx, metav1.ListOptions{})
	if err := errors.Join(err1, err2, err3); err != nil {
		f.t.Fatal(err)
	}
	for _, ns := range spaces.Items {
		c.SetNamespace(network.Namespace{Name: ns.Name, Labels: ns.Labels})
	}
	for i := range pods.Items {
		c.SetPod(convertPod(&pods.Items[i]))
	}
	for i := range policies.Items {
		c.SetPolicy(&policies.Items[i])
	}
	for _, p := range f.cluster {
		c.SetClusterPolicy(p)
	}
	return c.Ruleset()
}

// eventually waits until the kernel's table is the wanted one.
func (f *fixture) eventually(what string) {
	f.t.Helper()
	difference := ""
	for range 400 {
		var err error
		if difference, err = f.table.Check(f.wanted()); err != nil {
			difference = err.Error()
		}
		if difference == "" {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	f.t.Fatalf("%s: %s\nstatus %s\n%s", what, difference, f.reported(), nft(f.t, f.options.NetNS, "list", "ruleset"))
}

func (f *fixture) listed(text string) bool {
	return strings.Contains(nft(f.t, f.options.NetNS, "list", "ruleset"), text)
}
