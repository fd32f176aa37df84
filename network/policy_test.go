package network

import (
	"net/netip"
	"strings"
	"testing"
)

// badPolicies are what the API server would refuse but a file can hold. What is defective must allow nothing.
var badPolicies = []struct{ policy, problem string }{
	{`{spec: {podSelector: {matchExpressions: [{key: a, operator: Gt, values: ["1"]}]}, ingress: []}}`, `spec.podSelector: "Gt" is not a valid label selector operator`},
	{`{spec: {podSelector: {}, policyTypes: [Inward]}}`, `spec.policyTypes[0]: unknown type "Inward": expected Ingress or Egress`},
	{`{spec: {podSelector: {}, ingress: [{from: [{}]}]}}`, `spec.ingress[0].from[0]: empty peer`},
	{`{spec: {podSelector: {}, ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 0.0.0.0/0}}]}]}}`, `spec.ingress[0].from[0]: ipBlock cannot be combined`},
	{`{spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0}}]}]}}`, `spec.ingress[0].from[0].ipBlock.cidr: "10.0.0.0" is not a CIDR`},
	{`{spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [x]}}]}]}}`, `spec.ingress[0].from[0].ipBlock.except[0]: "x" is not a CIDR`},
	{`{spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/24, except: [10.0.0.0/8]}}]}]}}`, `except[0]: 10.0.0.0/8 is not strictly inside 10.244.0.0/24`},
	{`{spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {"a b": c}}}]}]}}`, `spec.ingress[0].from[0].podSelector: `},
	{`{spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}]}]}}`, `spec.ingress[0].from[0].namespaceSelector: `},
	{`{spec: {podSelector: {}, ingress: [{ports: [{protocol: ICMP, port: 80}]}]}}`, `spec.ingress[0].ports[0].protocol: unknown protocol "ICMP": expected TCP, UDP or SCTP`},
	{`{spec: {podSelector: {}, ingress: [{ports: [{endPort: 80}]}]}}`, `spec.ingress[0].ports[0].endPort: endPort needs port`},
	{`{spec: {podSelector: {}, ingress: [{ports: [{port: web, endPort: 80}]}]}}`, `endPort needs a numeric port, not "web"`},
	{`{spec: {podSelector: {}, ingress: [{ports: [{port: 0}]}]}}`, `spec.ingress[0].ports[0].port: port 0 is outside 1 to 65535`},
	{`{spec: {podSelector: {}, ingress: [{ports: [{port: 80, endPort: 79}]}]}}`, `spec.ingress[0].ports[0].endPort: endPort 79 is outside 80 to 65535`},
	{`{spec: {podSelector: {}, ingress: [{ports: [{port: ""}]}]}}`, `spec.ingress[0].ports[0].port: empty port name`},
}

func TestBadPolicies(t *testing.T) {
	for _, c := range badPolicies {
		o := scenarioObjects(t, c.policy)
		o.Policies[0].Name = "bad"
		s := NewSnapshot(o)
		var text []string
		for _, p := range s.Problems() {
			text = append(text, p.Error())
		}
		if got := strings.Join(text, "\n"); !strings.HasPrefix(got, "NetworkPolicy x/bad: spec.") || !strings.Contains(got, c.problem) {
			t.Errorf("%s\ngave   %s\nwanted %s", c.policy, got, c.problem)
		}
		from, to := s.Between(s.Pod("x", "b"), s.Pod("x", "a"), false)
		if d := Evaluate(s, from, to, TCP, 80); d.Allowed {
			t.Errorf("%s: the defect allows: %s", c.policy, d)
		}
		agree(t, o)
	}
}

// badClusterPolicies are spec.tier and so on of policies that deny or accept; each must deny what it concerns.
var badClusterPolicies = []struct{ spec, problem string }{
	{`{tier: Middle, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}`, `spec.tier: unknown tier "Middle": expected Admin or Baseline`},
	{`{tier: Admin, priority: 1001, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}`, `spec.priority: 1001 is outside 0 to 1000`},
	{`{tier: Admin, priority: 1, subject: {}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}`, `spec.subject: expected exactly one of namespaces and pods`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Reject, from: [{namespaces: {}}]}]}`, `spec.ingress[0].action: unknown action "Reject": expected Accept, Deny or Pass`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Pass}]}`, `spec.ingress[0].from: 0 peers: expected 1 to 25`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Pass, to: [{namespaces: {}}], from: [{namespaces: {}}]}]}`, `spec.ingress[0].to: unknown field here: expected from`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Pass, from: [{networks: [10.0.0.0/8]}]}]}`, `spec.ingress[0].from[0]: nodes, networks and domainNames are peers of egress rules only`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [10.0.0.0]}]}]}`, `spec.egress[0].to[0].networks[0]: "10.0.0.0" is not a CIDR`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{nodes: {matchExpressions: [{key: a, operator: Gt}]}}]}]}`, `spec.egress[0].to[0].nodes: `},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}, nodes: {}}]}]}`, `spec.egress[0].to[0]: 2 kinds of peers`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Pass, to: [{domainNames: [a.example]}]}]}`, `spec.egress[0].to[0].domainNames: names are not enforced`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{}]}]}`, `spec.egress[0].protocols[0]: 0 fields: expected exactly one of tcp, udp, sctp and destinationNamedPort`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 9, end: 9}}}}]}]}`, `spec.egress[0].protocols[0].tcp.destinationPort.range: start 9 is not less than end 9`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{udp: {destinationPort: {number: 70000}}}]}]}`, `spec.egress[0].protocols[0].udp.destinationPort: 70000 to 70000 is outside 1 to 65535`},
	{`{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{sctp: {destinationPort: {}}}]}]}`, `spec.egress[0].protocols[0].sctp.destinationPort: expected exactly one of number and range`},
}

func TestBadClusterPolicies(t *testing.T) {
	for _, c := range badClusterPolicies {
		o := scenarioObjects(t, "{kind: ClusterNetworkPolicy, metadata: {name: bad}, spec: "+c.spec+"}")
		s := NewSnapshot(o)
		var text []string
		for _, p := range s.Problems() {
			text = append(text, p.Error())
		}
		if got := strings.Join(text, "\n"); !strings.Contains(got, "ClusterNetworkPolicy bad: "+c.problem) {
			t.Errorf("%s\ngave   %s\nwanted %s", c.spec, got, c.problem)
		}
		from, to := s.Between(s.Pod("x", "b"), s.Pod("x", "a"), false)
		if d := Evaluate(s, from, to, TCP, 80); d.Allowed {
			t.Errorf("%s: the defect allows: %s", c.spec, d)
		}
		agree(t, o)
	}
}

// Two policies of one tier and priority have a fixed order, but nobody should rely on it.
func TestTies(t *testing.T) {
	const policy = `{kind: ClusterNetworkPolicy, metadata: {name: NAME}, spec: {tier: Admin, priority: 7, subject: {namespaces: {}}, ingress: [{name: r, action: ACTION, from: [{namespaces: {}}]}]}}`
	text := func(name, action string) string {
		return strings.NewReplacer("NAME", name, "ACTION", action).Replace(policy)
	}
	for _, order := range []string{text("a", "Deny") + "\n---\n" + text("b", "Accept"), text("b", "Accept") + "\n---\n" + text("a", "Deny")} {
		o := scenarioObjects(t, order)
		s := NewSnapshot(o)
		if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0].Error(), "ClusterNetworkPolicy b: spec.priority: 7 is also the priority of a in tier Admin") {
			t.Errorf("problems %v", p)
		}
		from, to := s.Between(s.Pod("x", "b"), s.Pod("x", "a"), true)
		d := Evaluate(s, from, to, UDP, 80)
		if d.Allowed || d.Deciding().Reason != "ingress rule 0 (r) of Admin policy a denies it" || d.Deciding().Policy != "a" {
			t.Errorf("%s", d)
		}
	}
}

func TestReasons(t *testing.T) {
	o := scenarioObjects(t, `{metadata: {name: web}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 80}, {port: 8000, endPort: 8080, protocol: UDP}]}]}}
---
{metadata: {name: deny}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}
---
{metadata: {name: out}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{}]}}`)
	s := NewSnapshot(o)
	for _, c := range []struct {
		from, to string
		port     uint16
		want     string
	}{
		{"b", "a", 80, "allowed: egress: egress rule 0 of x/out allows it; ingress: ingress rule 0 of x/web allows it"},
		{"b", "a", 81, "ingress: pod x/a is isolated for ingress by x/deny, x/web and no rule allows TCP 81 from pod x/b (10.244.0.2) (ingress rule 0 of x/web allows this peer but only TCP 80, UDP 8000-8080)"},
		{"a", "a", 81, "allowed: egress: a pod always reaches itself; ingress: a pod always reaches itself"},
		{"a", "b", 80, "denied: egress: egress rule 0 of x/out allows it; ingress: pod x/b is isolated for ingress by x/deny and no rule allows TCP 80 from pod x/a (10.244.0.1)"},
	} {
		from, to := s.Between(s.Pod("x", c.from), s.Pod("x", c.to), false)
		d := Evaluate(s, from, to, TCP, c.port)
		if !strings.Contains(d.String(), c.want) {
			t.Errorf("%s > %s %d:\n%s\nwanted\n%s", c.from, c.to, c.port, d, c.want)
		}
	}
	outside, pod := s.Address(mustParse("192.0.2.10")), s.Address(mustParse("10.244.0.1"))
	if d := Evaluate(s, outside, pod, TCP, 80); d.Allowed || d.Deciding().Direction != Ingress {
		t.Errorf("from outside: %s", d)
	}
	node := s.Address(mustParse("10.244.0.254"))
	if d := Evaluate(s, node, pod, TCP, 80); !d.Allowed || !strings.Contains(d.String(), "traffic between node n1 and its own pods is never filtered") {
		t.Errorf("from the node: %s", d)
	}
	other := o.Pods[1]
	other.HostNetwork, other.Node = true, "n2"
	if d := Evaluate(s, Endpoint{Pod: &other}, pod, TCP, 80); d.Allowed {
		t.Errorf("a pod of another node's network is not the pod that the rule means: %s", d)
	}
	other.Node = "n1"
	if d := Evaluate(s, Endpoint{Pod: &other}, pod, TCP, 80); !d.Allowed {
		t.Errorf("a pod of the node's own network: %s", d)
	}
}

// What no packet can show here: SCTP, which the kernel may not speak, other nodes, and a namespace whose labels change.
func TestClusterPoliciesBeyondPackets(t *testing.T) {
	const policy = `{kind: ClusterNetworkPolicy, metadata: {name: p}, spec: {tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {ns: x}}}, egress: [
		{action: Accept, to: [{namespaces: {matchLabels: {ns: 'y'}}}], protocols: [{sctp: {destinationPort: {number: 9003}}}]},
		{action: Accept, to: [{nodes: {matchLabels: {os: linux}}}], protocols: [{tcp: {destinationPort: {number: 443}}}]},
		{action: Deny, to: [{namespaces: {}}, {nodes: {}}]}]}}`
	o := scenarioObjects(t, policy)
	far := netip.MustParseAddr("192.0.2.77")
	o.Nodes = append(o.Nodes, Node{Name: "far", Labels: map[string]string{"os": "linux"}, IPs: []netip.Addr{far}})
	o.Pods = append(o.Pods, Pod{Namespace: "z", Name: "host", HostNetwork: true, Node: "far", IPs: []netip.Addr{far}})
	ask := func(what string, to Endpoint, protocol Protocol, port uint16, want bool) {
		t.Helper()
		s := NewSnapshot(o)
		from := s.Pod("x", "a")
		if d := Evaluate(s, Endpoint{Pod: from, Addr: from.IPs[0]}, to, protocol, port); d.Allowed != want {
			t.Errorf("%s: %s", what, d)
		}
	}
	pod := func() Endpoint {
		s := NewSnapshot(o)
		return s.Address(s.Pod("y", "a").IPs[0])
	}
	ask("SCTP at the port", pod(), SCTP, 9003, true)
	ask("SCTP at another", pod(), SCTP, 9005, false)
	ask("the port by TCP", pod(), TCP, 9003, false)
	ask("a node, and what runs in its network, at the port", Endpoint{Addr: far}, TCP, 443, true)
	ask("a node at another port", Endpoint{Addr: far}, UDP, 443, false)
	for i := range o.Namespaces {
		if o.Namespaces[i].Name == "y" {
			o.Namespaces[i].Labels = map[string]string{"ns": "other"}
		}
	}
	ask("a namespace that has lost the label", pod(), SCTP, 9003, false)
}
