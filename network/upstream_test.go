package network

import (
	"bytes"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// conformance is the cluster of kubernetes-sigs/network-policy-api's conformance tests, without the cluster: its manifests as objects, its connections as
// questions to Evaluate.
type conformance struct {
	dir    string
	v6     bool
	ports  []any // of pods in the host's network
	nodes  []Node
	pods   []Pod
	spaces map[string]map[string]string
	// By name; a NetworkPolicy by NAMESPACE/NAME.
	cluster, policies map[string]map[string]any
	probes            int
}

// TestUpstreamConformance replays the conformance tests of a checkout of kubernetes-sigs/network-policy-api, UPSTREAM/network-policy-api, as they are
// written there: the tests are read, not compiled, and what they do with a cluster is done with objects.
func TestUpstreamConformance(t *testing.T) {
	dir := filepath.Join(os.Getenv("UPSTREAM"), "network-policy-api", "conformance")
	if _, err := os.Stat(dir); os.Getenv("UPSTREAM") == "" || err != nil {
		t.Skip("UPSTREAM names no folder with a checkout of kubernetes-sigs/network-policy-api")
	}
	files, err := filepath.Glob(filepath.Join(dir, "tests", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for family, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		cases, probes := 0, 0
		for _, file := range files {
			parsed, err := goparser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				if c, ok := n.(*ast.CompositeLit); ok && nameOf(c.Type) == "suite.ConformanceTest" {
					found := fields(c)
					t.Run(family+"/"+text(found["ShortName"]), func(t *testing.T) {
						w := &conformance{dir: dir, v6: v6}
						w.begin(t, found["Manifests"].(*ast.CompositeLit))
						s := &script{world: w, cases: &cases}
						s.block(t, vars{}, found["Test"].(*ast.FuncLit).Body)
						probes += w.probes
					})
					return false
				}
				return true
			})
		}
		t.Logf("%s: %d cases, %d connections", family, cases, probes)
		if cases < 90 || probes < 300 {
			t.Errorf("%s: only %d cases with %d connections were found", family, cases, probes)
		}
	}
}

// begin makes the objects that all tests share and those of one test.
func (w *conformance) begin(t *testing.T, manifests *ast.CompositeLit) {
	t.Helper()
	w.spaces, w.cluster, w.policies = map[string]map[string]string{}, map[string]map[string]any{}, map[string]map[string]any{}
	for i := range 10 {
		w.ports = append(w.ports, int64(34345+i))
	}
	for i := range 2 {
		w.nodes = append(w.nodes, Node{Name: fmt.Sprint("node", i), Labels: map[string]string{"kubernetes.io/os": "linux"}, IPs: []netip.Addr{w.address(0, i+1)}})
	}
	w.apply(t, "base/manifests.yaml")
	for _, m := range manifests.Elts {
		w.apply(t, text(m))
	}
}

func (w *conformance) address(net, host int) netip.Addr {
	if w.v6 {
		return netip.MustParseAddr(fmt.Sprintf("fd00:%x::%x", net, host))
	}
	return netip.AddrFrom4([4]byte{10, byte(net), 0, byte(host)})
}

func (w *conformance) apply(t *testing.T, name string) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(w.dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	parsed, err := template.New(name).Parse(string(source))
	if err == nil {
		err = parsed.Execute(&file, map[string]any{"HostNetworkPorts": w.ports})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range strings.Split(file.String(), "\n---") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatal(name, err)
		}
		metadata, _ := o["metadata"].(map[string]any)
		switch o["kind"] {
		case nil:
		case "Namespace":
			var n corev1.Namespace
			decode(t, o, &n)
			w.spaces[n.Name] = n.Labels
		case "StatefulSet":
			var s appsv1.StatefulSet
			decode(t, o, &s)
			w.replicas(t, &s)
		case "NetworkPolicy":
			w.policies[fmt.Sprint(metadata["namespace"], "/", metadata["name"])] = o
		case "ClusterNetworkPolicy":
			w.cluster[metadata["name"].(string)] = o
		default:
			t.Fatalf("%s: an object of kind %v", name, o["kind"])
		}
	}
}

func decode(t *testing.T, o map[string]any, to any) {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o, to); err != nil {
		t.Fatal(err)
	}
}

// replicas are the pods of a StatefulSet: those in the host's network on a node each, all others elsewhere.
func (w *conformance) replicas(t *testing.T, s *appsv1.StatefulSet) {
	t.Helper()
	for i := range int(*s.Spec.Replicas) {
		p := Pod{Namespace: s.Namespace, Name: fmt.Sprint(s.Name, "-", i), Labels: s.Spec.Template.Labels, IPs: []netip.Addr{w.address(1, len(w.pods)+1)}}
		if p.HostNetwork = s.Spec.Template.Spec.HostNetwork; p.HostNetwork {
			p.Node, p.IPs = w.nodes[i].Name, w.nodes[i].IPs
		}
		for _, c := range s.Spec.Template.Spec.Containers {
			for _, port := range c.Ports {
				protocol, err := ParseProtocol(string(port.Protocol))
				if err != nil {
					t.Fatal(err)
				}
				p.Ports = append(p.Ports, NamedPort{port.Name, protocol, uint16(port.ContainerPort)})
			}
		}
		w.pods = append(w.pods, p)
	}
}

// poke compares what a test expects of a connection with what Evaluate says.
func (w *conformance) poke(t *testing.T, namespace, pod, protocol, address string, port int64, want bool) {
	t.Helper()
	w.probes++
	o := Objects{Pods: w.pods, Nodes: w.nodes}
	for name, labels := range w.spaces {
		o.Namespaces = append(o.Namespaces, Namespace{name, labels})
	}
	for _, p := range w.policies {
		var np networkingv1.NetworkPolicy
		decode(t, p, &np)
		o.Policies = append(o.Policies, &np)
	}
	for _, p := range w.cluster {
		var cp ClusterPolicy
		decode(t, p, &cp)
		o.Cluster = append(o.Cluster, &cp)
	}
	s := NewSnapshot(o)
	for _, p := range s.Problems() {
		t.Error(p)
	}
	number, err := ParseProtocol(protocol)
	if err != nil {
		t.Fatal(err)
	}
	from := s.Pod(namespace, pod)
	if from == nil {
		t.Fatalf("there is no pod %s/%s", namespace, pod)
	}
	d := Evaluate(s, Endpoint{Pod: from, Addr: from.IPs[0]}, s.Address(netip.MustParseAddr(address)), number, uint16(port))
	if d.Allowed != want {
		t.Errorf("%s/%s to %s %s %d: %s; the test expects allowed=%t", namespace, pod, address, protocol, port, d, want)
	}
}
