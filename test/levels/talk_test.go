package levels

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/network"
	"github.com/weft-dev/weft/test/graded"
)

// TestTheTalk applies the manifests of graded management as they were published, which an API server refuses, and as they are translated: what each
// of them meant holds. Nodes are objects without a machine, so that there can be several; who runs where is decided by the real scheduler.
func TestTheTalk(t *testing.T) {
	h := newHouse(t)
	talk := filepath.Join("..", "..", "examples", "levels", "talk")
	for file, want := range map[string]string{"namespace.yaml": "number", "network.yaml": "number", "pod.yaml": "could not find the requested resource"} {
		if err := h.raw(filepath.Join(talk, file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s as it was published: %v", file, err)
		}
	}
	code, said := h.weft("level", "translate", talk)
	if code != 0 {
		t.Fatal(said)
	}
	at := strings.Index(said, "---\n") // warnings come before
	file := filepath.Join(t.TempDir(), "translated.yaml")
	if err := os.WriteFile(file, []byte(said[at:]), 0o600); err != nil {
		t.Fatal(err)
	}
	h.node("high", "3")
	if code, said := h.weft("level", "enable", file); code != 0 {
		t.Fatal(said)
	}
	for _, user := range []string{"demo-user", "somebody", "middle-user"} {
		h.Grant(user)
	}
	h.talkNamespace("above", "3")
	h.talkNamespace("beside", "2")
	h.talkNamespace("free", "")
	h.Eventually("the door audits", func() string { return h.door().Setting() }, string(api.Audit))
	h.doors("AtMost")

	h.Eventually("a user of level 3, and one of none, in the project of level 2, and in one of level 3", func() string {
		return strings.Join([]string{h.lists("demo-user", "demo-ns"), h.lists("somebody", "demo-ns"), h.lists("demo-user", "above"), h.lists("somebody", "free")}, ", ")
	}, "ok, levels, ok, ok")

	h.Eventually("the pod finds no node but one above it", func() string { return h.placed("demo-ns", "nginx") }, "Unschedulable")
	if got := outcome(h.bind("demo-user", "demo-ns", "nginx", "high")); got != "levels" {
		t.Errorf("bound to the higher node by hand: %s", got)
	}
	h.node("low", "2")
	h.Eventually("a node of its own level has come", func() string { return h.placed("demo-ns", "nginx") }, "low")

	h.Eventually("who reaches the pod", func() string {
		return fmt.Sprintf("above %t, beside %t, free %t", h.reaches("above", "demo-ns"), h.reaches("beside", "demo-ns"), h.reaches("free", "demo-ns"))
	}, "above true, beside true, free false")

	// A level between two others: no object is touched.
	before := h.version("demo-ns")
	h.registry("AtMost", "0", "2", "2.5", "3")
	h.talkNamespace("between", "2.5")
	h.Clear("middle-user", "2.5")
	h.Eventually("a level was put in between", func() string {
		return h.lists("middle-user", "between") + ", " + h.lists("middle-user", "demo-ns") + ", " + h.lists("middle-user", "above") + ", " + h.lists("demo-user", "between")
	}, "ok, ok, levels, ok")
	if now := h.version("demo-ns"); now != before {
		t.Error("the project was touched")
	}
	h.placements()
}

// placements tries each placement: which of two pods of levels 2 and 3 may be bound to which of two nodes.
func (h *house) placements() {
	h.t.Helper()
	for _, c := range []struct{ placement, want string }{
		{"AtMost", "2 low ok, 2 high levels, 3 low ok, 3 high ok"},
		{"AtLeast", "2 low ok, 2 high ok, 3 low levels, 3 high ok"},
		{"Equal", "2 low ok, 2 high levels, 3 low levels, 3 high ok"},
	} {
		h.registry(c.placement, "0", "2", "2.5", "3")
		h.Eventually(c.placement, func() string {
			var all []string
			for _, namespace := range []string{"beside", "above"} {
				for _, node := range []string{"low", "high"} {
					all = append(all, fmt.Sprintf("%s %s %s", map[string]string{"beside": "2", "above": "3"}[namespace], node, h.mayRun(namespace, node)))
				}
			}
			return strings.Join(all, ", ")
		}, c.want)
	}
}

// mayRun has somebody who is cleared for all name a node in a new pod, which is the other way to it.
func (h *house) mayRun(namespace, node string) string {
	h.t.Helper()
	pod := podOf("named", "10m")
	pod.Spec.NodeName = node
	return outcome(second(h.As("demo-user").CoreV1().Pods(namespace).Create(h.t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})))
}

// raw sends the documents of a file as they are.
func (h *house) raw(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	var wrong error
	for _, document := range strings.Split(string(data), "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
			h.t.Fatal(err)
		}
		content, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			h.t.Fatal(err)
		}
		client := h.As("").CoreV1().RESTClient()
		path := map[string]string{"Namespace": "/api/v1/namespaces", "Pod": "/apis/apps/v1/namespaces/default/pods", "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"}[u.GetKind()]
		wrong = client.Post().AbsPath(path).Param("dryRun", "All").Body(content).SetHeader("Content-Type", "application/json").Do(h.t.Context()).Error()
		if wrong == nil {
			return nil
		}
	}
	return wrong
}

func (h *house) talkNamespace(name, label string) {
	h.t.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if label != "" {
		n.Labels = map[string]string{api.TalkLabel: label}
	}
	if _, err := h.As("").CoreV1().Namespaces().Create(h.t.Context(), n, metav1.CreateOptions{}); err != nil {
		h.t.Fatal(err)
	}
	h.Eventually("the account of "+name, func() string {
		return outcome(second(h.As("").CoreV1().ServiceAccounts(name).Get(h.t.Context(), "default", metav1.GetOptions{})))
	}, "ok")
}

// registry sets levels and placement, and both doors to enforce.
func (h *house) registry(placement string, levels ...string) {
	h.t.Helper()
	var names []string
	for _, l := range levels {
		names = append(names, fmt.Sprintf("{name: %q}", l))
	}
	h.Apply("registries", fmt.Sprintf(`{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [%s], placement: %s, doors: {authorizer: Enforce, admission: Enforce}}}`,
		strings.Join(names, ", "), placement))
	u, err := h.Objects.Resource(graded.Resource("registries")).Get(h.t.Context(), "cluster", metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Eventually("the door knows the registry", func() string { return h.door().Registry }, u.GetResourceVersion())
}

// doors enforces what was translated.
func (h *house) doors(placement string) {
	h.t.Helper()
	h.registry(placement, "0", "2", "3")
	h.Eventually("the door is set", func() string { return h.door().Setting() }, string(api.Enforce))
}

// node is a node without a machine, whose state is told as an agent would.
func (h *house) node(name, label string) {
	h.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{api.TalkLabel: label}}}
	made, err := h.As("").CoreV1().Nodes().Create(h.t.Context(), n, metav1.CreateOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(h.t.Context())
	done := make(chan struct{})
	h.t.Cleanup(func() { stop(); <-done })
	nodes := h.As("").CoreV1().Nodes()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			some := podOf("", "64").Spec.Containers[0].Resources.Requests.DeepCopy()
			some[corev1.ResourceMemory], some[corev1.ResourcePods] = some[corev1.ResourceCPU], some[corev1.ResourceCPU]
			state := made.DeepCopy()
			state.ResourceVersion = ""
			state.Status = corev1.NodeStatus{Capacity: some, Allocatable: some, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue,
				LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(), Reason: "Test"}}}
			_, _ = nodes.UpdateStatus(ctx, state, metav1.UpdateOptions{}) // the next one may get through
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
		}
	}()
}

// placed is the node of a pod, or why it has none.
func (h *house) placed(namespace, name string) string {
	p, err := h.As("").CoreV1().Pods(namespace).Get(h.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Reason
		}
	}
	return "not looked at"
}

func (h *house) bind(user, namespace, pod, node string) error {
	return h.As(user).CoreV1().Pods(namespace).Bind(h.t.Context(), &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}, metav1.CreateOptions{})
}

func (h *house) version(namespace string) string {
	n, err := h.As("").CoreV1().Namespaces().Get(h.t.Context(), namespace, metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return n.ResourceVersion
}

// reaches judges a connection between two namespaces by the network policies that the cluster has.
func (h *house) reaches(from, to string) bool {
	h.t.Helper()
	spaces, err1 := h.As("").CoreV1().Namespaces().List(h.t.Context(), metav1.ListOptions{})
	policies, err2 := h.As("").NetworkingV1().NetworkPolicies("").List(h.t.Context(), metav1.ListOptions{})
	if err1 != nil || err2 != nil {
		h.t.Fatal(err1, err2)
	}
	var o network.Objects
	for _, n := range spaces.Items {
		o.Namespaces = append(o.Namespaces, network.Namespace{Name: n.Name, Labels: n.Labels})
	}
	for i := range policies.Items {
		o.Policies = append(o.Policies, &policies.Items[i])
	}
	for i, name := range []string{from, to} {
		o.Pods = append(o.Pods, network.Pod{Namespace: name, Name: "p", IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}})
	}
	s := network.NewSnapshot(o)
	a, b := s.Between(s.Pod(from, "p"), s.Pod(to, "p"), false)
	return network.Evaluate(s, a, b, network.TCP, 80).Allowed
}
