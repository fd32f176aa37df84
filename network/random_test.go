package network

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// generator makes small random clusters in which rules often, but not always, match.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 7))} }

var spaceNames = []string{"x", "y", "z"}

func pick[T any](g generator, list ...T) T { return list[g.IntN(len(list))] }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g generator) labels() map[string]string {
	out := map[string]string{}
	for _, key := range []string{"app", "tier"} {
		if g.chance(70) {
			out[key] = pick(g, "a", "b", "c")
		}
	}
	return out
}

// pods are three in each namespace with fixed addresses, as the packets need them.
func (g generator) pods() []Pod {
	var out []Pod
	for _, ns := range spaceNames {
		for i, name := range []string{"a", "b", "c"} {
			out = append(out, g.pod(ns, name, int(ns[0]-'x')*16+i+1))
		}
	}
	return out
}

func (g generator) pod(ns, name string, number int) Pod {
	p := Pod{Namespace: ns, Name: name, Labels: g.labels(), IPs: addrs(number), Node: "n1"}
	p.Labels["pod"] = name
	if g.chance(60) {
		p.Ports = append(p.Ports, NamedPort{"web", pick(g, TCP, UDP), pick(g, listenPortsAll...)})
	}
	if g.chance(40) {
		p.Ports = append(p.Ports, NamedPort{"web", TCP, pick(g, listenPortsAll...)})
	}
	return p
}

var listenPortsAll = []uint16{80, 81, 5005, 8080}

func (g generator) namespaces() []Namespace {
	var out []Namespace
	for _, ns := range spaceNames {
		out = append(out, Namespace{Name: ns, Labels: g.labels()})
	}
	return out
}

func (g generator) selector() *metav1.LabelSelector {
	switch g.IntN(5) {
	case 0:
		return &metav1.LabelSelector{}
	case 1:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "app", Operator: pick(g, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}}}
	case 2:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: pick(g, "app", "tier"), Operator: pick(g, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn), Values: []string{"a", pick(g, "b", "c")}}}}
	case 3:
		return &metav1.LabelSelector{MatchLabels: map[string]string{"pod": pick(g, "a", "b", "c")}}
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{pick(g, "app", "tier"): pick(g, "a", "b", "c")}}
}

func (g generator) peer() networkingv1.NetworkPolicyPeer {
	switch g.IntN(4) {
	case 0:
		return networkingv1.NetworkPolicyPeer{IPBlock: g.block()}
	case 1:
		return networkingv1.NetworkPolicyPeer{NamespaceSelector: g.selector()}
	case 2:
		return networkingv1.NetworkPolicyPeer{PodSelector: g.selector()}
	}
	return networkingv1.NetworkPolicyPeer{NamespaceSelector: g.selector(), PodSelector: g.selector()}
}

func (g generator) block() *networkingv1.IPBlock {
	if g.chance(50) {
		b := &networkingv1.IPBlock{CIDR: pick(g, "10.244.0.0/24", "0.0.0.0/0", "192.0.2.0/24", "10.244.0.16/28", "192.0.2.10/32")}
		p := netip.MustParsePrefix(b.CIDR)
		for range g.IntN(3) {
			e := netip.PrefixFrom(pick(g, mustParse("10.244.0.2"), mustParse("10.244.0.17"), mustParse("192.0.2.10"), mustParse("10.244.0.48")), pick(g, 28, 29, 32))
			if p.Contains(e.Addr()) && e.Bits() > p.Bits() {
				b.Except = append(b.Except, e.Masked().String())
			}
		}
		return b
	}
	b := &networkingv1.IPBlock{CIDR: pick(g, "fd00:10:244::/64", "::/0", "2001:db8::/32", "fd00:10:244::10/124", "2001:db8::10/128")}
	p := netip.MustParsePrefix(b.CIDR)
	for range g.IntN(3) {
		e := netip.PrefixFrom(pick(g, mustParse("fd00:10:244::2"), mustParse("fd00:10:244::11"), mustParse("2001:db8::10")), pick(g, 124, 125, 128))
		if p.Contains(e.Addr()) && e.Bits() > p.Bits() {
			b.Except = append(b.Except, e.Masked().String())
		}
	}
	return b
}

func mustParse(s string) netip.Addr { return netip.MustParseAddr(s) }

func (g generator) port() networkingv1.NetworkPolicyPort {
	var out networkingv1.NetworkPolicyPort
	if g.chance(70) {
		p := pick(g, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		out.Protocol = &p
	}
	switch g.IntN(5) {
	case 0:
		return out
	case 1, 2:
		name := intstr.FromString("web")
		out.Port = &name
	default:
		n := intstr.FromInt32(int32(pick(g, listenPortsAll...)))
		out.Port = &n
		if g.chance(40) {
			end := n.IntVal + pick[int32](g, 0, 1, 5000)
			out.EndPort = &end
		}
	}
	return out
}

func (g generator) policy(ns, name string) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{}
	np.Namespace, np.Name = ns, name
	np.Spec.PodSelector = *g.selector()
	switch g.IntN(4) {
	case 0:
	case 1:
		np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	case 2:
		np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
	case 3:
		np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	}
	peersAndPorts := func() (peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
		for range g.IntN(3) {
			peers = append(peers, g.peer())
		}
		for range g.IntN(3) {
			ports = append(ports, g.port())
		}
		return peers, ports
	}
	for range g.IntN(3) {
		peers, ports := peersAndPorts()
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: peers, Ports: ports})
	}
	for range g.IntN(3) {
		peers, ports := peersAndPorts()
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: peers, Ports: ports})
	}
	return np
}

func (g generator) clusterPods() *ClusterPods {
	return &ClusterPods{NamespaceSelector: *g.selector(), PodSelector: *g.selector()}
}

func (g generator) clusterRule(egress bool) ClusterRule {
	r := ClusterRule{Action: pick(g, ActionAccept, ActionDeny, ActionPass)}
	var peers []ClusterPeer
	for range 1 + g.IntN(2) {
		switch n := g.IntN(10); {
		case n < 4:
			peers = append(peers, ClusterPeer{Namespaces: g.selector()})
		case n < 7 || !egress:
			peers = append(peers, ClusterPeer{Pods: g.clusterPods()})
		case n < 9:
			peers = append(peers, ClusterPeer{Networks: []string{g.block().CIDR, g.block().CIDR}})
		default:
			peers = append(peers, ClusterPeer{Nodes: g.selector()})
		}
	}
	r.From = peers
	if egress {
		r.From, r.To = nil, peers
	}
	for range g.IntN(3) {
		var p ClusterProtocol
		var m ClusterPortMatch
		if g.chance(80) {
			m.DestinationPort = &ClusterPort{Number: int32(pick(g, listenPortsAll...))}
			if g.chance(40) {
				m.DestinationPort = &ClusterPort{Range: &ClusterPortRange{Start: m.DestinationPort.Number, End: m.DestinationPort.Number + 1 + g.Int32N(5000)}}
			}
		}
		switch g.IntN(4) {
		case 0:
			p.TCP = &m
		case 1:
			p.UDP = &m
		case 2:
			p.SCTP = &m
		case 3:
			p.DestinationNamedPort = "web"
		}
		r.Protocols = append(r.Protocols, p)
	}
	return r
}

func (g generator) clusterPolicy(name string) *ClusterPolicy {
	p := &ClusterPolicy{}
	p.Name = name
	p.Spec.Tier = pick(g, AdminTier, AdminTier, BaselineTier)
	p.Spec.Priority = int32(g.IntN(20))
	if g.chance(50) {
		p.Spec.Subject.Namespaces = g.selector()
	} else {
		p.Spec.Subject.Pods = g.clusterPods()
	}
	for range g.IntN(4) {
		p.Spec.Ingress = append(p.Spec.Ingress, g.clusterRule(false))
	}
	for range g.IntN(4) {
		p.Spec.Egress = append(p.Spec.Egress, g.clusterRule(true))
	}
	return p
}

// objects is a whole random cluster of one node.
func (g generator) objects() Objects {
	o := Objects{Pods: g.pods(), Namespaces: g.namespaces(),
		Nodes: []Node{{Name: "n1", IPs: []netip.Addr{mustParse("10.244.0.254"), mustParse("fd00:10:244::fe")}}}}
	for i := range 1 + g.IntN(6) {
		o.Policies = append(o.Policies, g.policy(pick(g, spaceNames...), fmt.Sprintf("p%d", i)))
	}
	for i := range g.IntN(4) {
		o.Cluster = append(o.Cluster, g.clusterPolicy(fmt.Sprintf("c%d", i)))
	}
	return o
}
