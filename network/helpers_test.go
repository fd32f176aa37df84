package network

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// addrs are the two addresses of the pod with that number.
func addrs(n int) []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.244.0.%d", n)), netip.MustParseAddr(fmt.Sprintf("fd00:10:244::%x", n))}
}

func parseYAML(t testing.TB, text string) []*networkingv1.NetworkPolicy {
	t.Helper()
	var out []*networkingv1.NetworkPolicy
	for _, doc := range strings.Split(text, "\n---\n") {
		np := &networkingv1.NetworkPolicy{}
		if err := yaml.UnmarshalStrict([]byte(doc), np); err != nil {
			t.Fatal(err)
		}
		if np.Namespace == "" {
			np.Namespace = "x"
		}
		out = append(out, np)
	}
	return out
}

const everyForm = `
metadata: {name: web, namespace: x}
spec:
  podSelector: {matchLabels: {pod: a}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector: {matchLabels: {pod: b}}
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}
      podSelector: {matchExpressions: [{key: pod, operator: In, values: [b, c]}]}
    - ipBlock: {cidr: 192.168.0.0/16, except: [192.168.7.0/24, 192.168.255.255/32]}
    - ipBlock: {cidr: "fd00::/8", except: ["fd00:7::/32"]}
    ports:
    - {port: 80}
    - {protocol: UDP, port: 5000, endPort: 5010}
    - {port: serve-80}
    - {protocol: SCTP}
  - {}
  egress:
  - to: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: "::/0"}}]
    ports: [{port: serve-80}, {port: 53, protocol: UDP}]
  - ports: [{port: 443}]
---
metadata: {name: deny-all, namespace: x}
spec: {podSelector: {}}
`

func everyFormCompiler(t testing.TB) *Compiler {
	t.Helper()
	c, err := NewCompiler(Config{Table: "weft-test", PodCIDRs: prefixes("10.244.0.0/24", "fd00:10:244::/64")})
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"x", "y"} {
		for i, name := range []string{"a", "b", "c"} {
			base := i + 1 + 16*int(ns[0]-'x')
			c.SetPod(Pod{Namespace: ns, Name: name, Labels: map[string]string{"pod": name}, IPs: addrs(base),
				Ports: []NamedPort{{"serve-80", TCP, 8080}}})
		}
	}
	for _, np := range parseYAML(t, everyForm) {
		if problems := c.SetPolicy(np); len(problems) > 0 {
			t.Fatal(problems)
		}
	}
	return c
}

// lineDifference lists the lines that only one of two texts has.
func lineDifference(want, got string) string {
	var b strings.Builder
	have := map[string]int{}
	for _, l := range strings.Split(want, "\n") {
		have[l]++
	}
	for _, l := range strings.Split(got, "\n") {
		if have[l]--; have[l] < 0 {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
	}
	for l, n := range have {
		if n > 0 {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	return b.String()
}
