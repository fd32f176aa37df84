package network

import (
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
	packets "github.com/weft-dev/weft/network"
)

const objects = `
{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: low}, {name: high}]}}
---
{apiVersion: tenant.kubesphere.io/v1alpha1, kind: Workspace, metadata: {name: shop, annotations: {kubesphere.io/network-isolate: enabled}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: web, labels: {kubesphere.io/workspace: shop}, annotations: {level.weft.dev/network-deny: "batch, workspace:other"}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: db, labels: {kubesphere.io/workspace: shop}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: batch, annotations: {kubesphere.io/network-isolate: disabled}}}
---
{apiVersion: v1, kind: Service, metadata: {name: store, namespace: db}, spec: {selector: {app: store}, ports: [{port: 80, targetPort: 5432}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: front, namespace: web}, spec: {template: {metadata: {labels: {app: front}}, spec: {containers: [{name: c}]}}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: store-0, namespace: db, labels: {app: store}}, spec: {containers: [{name: c}]}, status: {podIPs: [{ip: 10.0.0.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other-0, namespace: db}, spec: {containers: [{name: c}]}}
---
{apiVersion: network.kubesphere.io/v1alpha1, kind: NamespaceNetworkPolicy, metadata: {name: out, namespace: web}, spec: {policyTypes: [Egress], egress: [{to: [{service: {name: store, namespace: db}}]}]}}
---
{apiVersion: network.kubesphere.io/v1alpha1, kind: NamespaceNetworkPolicy, metadata: {name: in, namespace: db}, spec: {policyTypes: [Ingress], ingress: [{from: [{namespace: {name: web}}]}]}}
`

func load(t *testing.T, text string) (*Source, error) {
	t.Helper()
	read, err := manifest.Reader{Stdin: strings.NewReader(text)}.Read(t.Context(), "-")
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := level.Load(read)
	if err != nil {
		t.Fatal(err)
	}
	return Load(read, level.NewSnapshot(loaded.Model, time.Now()))
}

// KubeSphere's policies mean what its users expect: a service is its pods at their ports, not at the service's, and DNS works.
func TestKubeSphere(t *testing.T) {
	source, err := load(t, objects)
	if err != nil || len(source.Problems) > 0 {
		t.Fatal(err, source)
	}
	s := packets.NewSnapshot(source.Objects)
	for _, c := range []struct {
		to   string
		port uint16
		udp  bool
		want bool
	}{{"store-0", 5432, false, true}, {"store-0", 80, false, false}, {"other-0", 5432, false, false}, {"other-0", 53, true, true}} {
		protocol := packets.TCP
		if c.udp {
			protocol = packets.UDP
		}
		from, to := s.Between(s.Pod("web", "front"), s.Pod("db", c.to), false)
		if d := packets.Evaluate(s, from, to, protocol, c.port); d.Allowed != c.want {
			t.Errorf("web/front to db/%s:%d: %s", c.to, c.port, d)
		}
	}
	for pair, want := range map[string]Rule{"web>db": Open, "batch>db": Isolation, "batch>web": BlackList, "web>batch": Open} {
		from, to, _ := strings.Cut(pair, ">")
		if got := source.Rules.Judge(from, to); got.Rule != want {
			t.Errorf("%s: %+v", pair, got)
		}
	}
}

func TestFaultsOfSources(t *testing.T) {
	registry := strings.SplitAfter(objects, "---\n")[0]
	for text, want := range map[string]string{
		`{apiVersion: v1, kind: Namespace, metadata: {name: a, annotations: {kubesphere.io/network-isolate: "yes"}}}`:                                                                                    "use enabled or disabled",
		`{apiVersion: network.kubesphere.io/v1alpha1, kind: NamespaceNetworkPolicy, metadata: {name: a, namespace: b}, spec: {ingress: [{from: [{}]}]}}`:                                                 "spec.ingress[0].from[0]: 0 kinds of peers",
		`{apiVersion: network.kubesphere.io/v1alpha1, kind: NamespaceNetworkPolicy, metadata: {name: a, namespace: b}, spec: {egress: [{to: [{service: {name: x, namespace: z}}]}]}}`:                    "the Service z/x is not among the objects",
		`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a, namespace: b}, spec: {podSelector: {matchExpressions: [{key: kubernetes.io/level, operator: Gt, values: ["2"]}]}}}`: "spec.podSelector",
		`{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: b}, spec: {containers: 3}}`:                                                                                                          "Pod b/a",
	} {
		source, err := load(t, registry+text)
		if err == nil && len(source.Problems) > 0 {
			err = source.Problems[0]
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "stdin:") {
			t.Errorf("%s:\n%v, want %q", text, err, want)
		}
	}
}
