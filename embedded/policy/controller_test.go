package policy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/weft-dev/weft/embedded/controlplane"
	"github.com/weft-dev/weft/embedded/pki"
	"github.com/weft-dev/weft/network"
)

// plane is the control plane that the tests share.
var plane struct {
	once   sync.Once
	client kubernetes.Interface
	config *rest.Config
	err    error
	stop   func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if plane.stop != nil {
		plane.stop()
	}
	os.Exit(code)
}

func api(t *testing.T) kubernetes.Interface {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	plane.once.Do(func() { plane.client, plane.err = startAPI() })
	if plane.err != nil {
		t.Fatal(plane.err)
	}
	return plane.client
}

func startAPI() (kubernetes.Interface, error) {
	dir, err := os.MkdirTemp("", "policy")
	if err != nil {
		return nil, err
	}
	cfg := controlplane.Config{
		Data: filepath.Join(dir, "etcd"), Run: filepath.Join(dir, "run"), PKI: pki.Folder{Path: filepath.Join(dir, "pki")},
		Components: filepath.Join(dir, "components"), Plugins: filepath.Join(dir, "plugins"),
		Advertise: net.IPv4(10, 44, 0, 1), ServiceCIDR: []string{"10.43.0.0/16"},
	}
	for _, d := range []string{cfg.Run, cfg.Components} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	cfg.Listeners = []net.Listener{listener}
	server := "https://" + listener.Addr().String()
	if err := controlplane.Certificates(cfg.PKI, cfg.Components, server, nil, nil); err != nil {
		return nil, err
	}
	ca, err := cfg.PKI.Authority("ca")
	if err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := controlplane.Kubeconfig(cfg.PKI, ca, "admin", server).Write(kubeconfig); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- controlplane.Run(ctx, cfg, func(*rest.Config) { close(ready) }) }()
	plane.stop = func() {
		cancel()
		<-done
		os.RemoveAll(dir)
	}
	select {
	case <-ready:
	case err := <-done:
		done <- err
		return nil, fmt.Errorf("the control plane ended: %w", err)
	case <-time.After(2 * time.Minute):
		return nil, errors.New("the control plane is not ready after two minutes")
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	plane.config = config
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	_, err = client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	return client, err
}

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

func TestTableFollowsAPI(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.pod("a", map[string]string{"app": "web"}, "10.42.0.2", "fd00:42::2")
	f.policy("deny", networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}})
	stop := f.run()
	f.eventually("at the start")
	f.pod("b", map[string]string{"app": "shop"}, "10.42.0.3")
	f.policy("allow", networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{
		{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "shop"}}}}}}})
	f.eventually("a second pod and policy")
	if !f.listed("10.42.0.3") {
		t.Fatal("the new pod's address is not in the table")
	}
	patch := `{"metadata":{"labels":{"app":"web"}}}`
	if _, err := f.client.CoreV1().Pods(f.space).Patch(ctx, "b", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	f.eventually("another label")
	if err := f.client.NetworkingV1().NetworkPolicies(f.space).Delete(ctx, "deny", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.eventually("a deleted policy")

	nft(t, f.options.NetNS, "flush", "ruleset")
	f.eventually("a flushed table")
	if s := f.reported(); s.Repairs+s.Replacements < 2 {
		t.Errorf("status after the repair: %+v", s)
	}

	// Policies hold while the controller is away, and what happened meanwhile is caught up with.
	stop()
	f.eventually("a stopped controller")
	f.pod("c", map[string]string{"app": "web"}, "10.42.0.4")
	if f.listed("10.42.0.4") {
		t.Fatal("the controller has not stopped")
	}
	f.run()
	f.eventually("a restart")
	s := f.reported()
	if !s.Synced || s.Error != "" || s.Policies < 1 || s.LastApplySeconds <= 0 {
		t.Errorf("status %+v", s)
	}
}

func TestClosedFromTheBeginning(t *testing.T) {
	f := newFixture(t)
	if err := Close(f.options); err != nil {
		t.Fatal(err)
	}
	_, empty, err := open(f.options)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := f.table.Check(empty.Ruleset()); err != nil || d != "" {
		t.Fatalf("Close wrote another table: %s %v", d, err)
	}
	if !f.listed("elements = { 10.42.0.0/16 }") || !f.listed("goto unknown-address") {
		t.Error("unknown addresses are not cut off")
	}
}

// cri is a container runtime that knows sandboxes only.
type cri struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	events chan *runtimeapi.ContainerEventResponse
	list   []*runtimeapi.PodSandboxStatus
}

func (r *cri) GetContainerEvents(_ *runtimeapi.GetEventsRequest, s runtimeapi.RuntimeService_GetContainerEventsServer) error {
	for {
		select {
		case e := <-r.events:
			if e == nil {
				return errors.New("the runtime is restarted")
			}
			if err := s.Send(e); err != nil {
				return err
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func (r *cri) ListPodSandbox(context.Context, *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	out := &runtimeapi.ListPodSandboxResponse{}
	for _, s := range r.list {
		out.Items = append(out.Items, &runtimeapi.PodSandbox{Id: s.Id, Metadata: s.Metadata, State: s.State})
	}
	return out, nil
}

func (r *cri) PodSandboxStatus(_ context.Context, q *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	for _, s := range r.list {
		if s.Id == q.PodSandboxId {
			return &runtimeapi.PodSandboxStatusResponse{Status: s}, nil
		}
	}
	return nil, errors.New("not found")
}

func sandboxStatus(p *corev1.Pod, id string, state runtimeapi.PodSandboxState, ips ...string) *runtimeapi.PodSandboxStatus {
	out := &runtimeapi.PodSandboxStatus{Id: id, State: state,
		Metadata: &runtimeapi.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace, Uid: string(p.UID)}}
	if len(ips) > 0 {
		out.Network = &runtimeapi.PodSandboxNetworkStatus{Ip: ips[0]}
		for _, ip := range ips[1:] {
			out.Network.AdditionalIps = append(out.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
		}
	}
	return out
}

// The runtime's word comes before the API's: the pod is let in as soon as its sandbox stands.
func TestRuntimeTellsAddressesFirst(t *testing.T) {
	f := newFixture(t)
	early, old := f.pod("early", nil), f.pod("old", nil)
	r := &cri{events: make(chan *runtimeapi.ContainerEventResponse)}
	r.list = []*runtimeapi.PodSandboxStatus{sandboxStatus(old, "s0", runtimeapi.PodSandboxState_SANDBOX_READY, "10.42.7.1")}
	socket := filepath.Join(t.TempDir(), "cri.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, r)
	go func() { _ = server.Serve(listener) }() // ends with the test
	t.Cleanup(server.Stop)
	f.options.Runtime = socket
	f.run()
	wait := func(text string, there bool) {
		t.Helper()
		for range 400 {
			if f.listed(text) == there {
				return
			}
			time.Sleep(25 * time.Millisecond)
		}
		t.Fatalf("%s in the table: wanted %v\n%s", text, there, nft(t, f.options.NetNS, "list", "ruleset"))
	}
	send := func(s *runtimeapi.PodSandboxStatus) {
		r.events <- &runtimeapi.ContainerEventResponse{ContainerId: s.Id, PodSandboxStatus: s}
	}
	wait("10.42.7.1", true) // from the list
	send(sandboxStatus(early, "s1", runtimeapi.PodSandboxState_SANDBOX_READY))
	send(sandboxStatus(early, "s1", runtimeapi.PodSandboxState_SANDBOX_READY, "10.42.7.2", "fd00:42::7:2"))
	wait("10.42.7.2", true)
	wait("fd00:42::7:2", true)
	// A sandbox made anew has another address; the end of the first one must not take it away.
	send(sandboxStatus(early, "s2", runtimeapi.PodSandboxState_SANDBOX_READY, "10.42.7.3"))
	send(sandboxStatus(early, "s1", runtimeapi.PodSandboxState_SANDBOX_NOTREADY))
	wait("10.42.7.3", true)
	wait("10.42.7.2", false)
	send(sandboxStatus(early, "s2", runtimeapi.PodSandboxState_SANDBOX_NOTREADY))
	wait("10.42.7.3", false)
	// After the runtime's restart its list counts: what is not in it is gone.
	r.list = nil
	r.events <- nil
	wait("10.42.7.1", false)
}

func TestTrimKeepsWhatCounts(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "a", Labels: map[string]string{"l": "v"}, Annotations: map[string]string{"big": "text"}, CreationTimestamp: metav1.Now()},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80, Protocol: corev1.ProtocolTCP}}}},
			InitContainers: []corev1.Container{
				{Ports: []corev1.ContainerPort{{Name: "init", ContainerPort: 1, Protocol: corev1.ProtocolTCP}}},
				{RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 81, Protocol: corev1.ProtocolTCP}, {Name: "side", ContainerPort: 82, Protocol: corev1.ProtocolUDP}}},
			}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.42.0.9"}, {IP: "nonsense"}}},
	}
	trimmed, err := trim(p)
	if err != nil {
		t.Fatal(err)
	}
	full, kept := convertPod(p), convertPod(trimmed.(*corev1.Pod))
	if fmt.Sprintf("%+v", full) != fmt.Sprintf("%+v", kept) {
		t.Errorf("trimming changed\n%+v\nto\n%+v", full, kept)
	}
	if trimmed.(*corev1.Pod).Annotations != nil {
		t.Error("annotations are kept")
	}
	if n, _ := kept.NamedPort("web", network.TCP); n != 80 {
		t.Errorf("web is %d: a container's port goes before a sidecar's", n)
	}
	if n, _ := kept.NamedPort("side", network.UDP); n != 82 {
		t.Errorf("the sidecar's port is %d", n)
	}
	if _, ok := kept.NamedPort("init", network.TCP); ok {
		t.Error("an init container that ends has no port")
	}
}
