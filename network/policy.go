package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// policy is a NetworkPolicy read once: selectors compiled, addresses and ports parsed, defaults applied.
type policy struct {
	namespace, name string
	subject         labels.Selector
	ingress, egress bool
	ingressRules    []rule
	egressRules     []rule
}

func (p *policy) key() string { return p.namespace + "/" + p.name }

func (p *policy) rules(d Direction) []rule {
	if d == Ingress {
		return p.ingressRules
	}
	return p.egressRules
}

func (p *policy) isolates(d Direction) bool {
	if d == Ingress {
		return p.ingress
	}
	return p.egress
}

// rule is one entry of spec.ingress or spec.egress.
type rule struct {
	anyPeer bool
	peers   []peer
	anyPort bool
	ports   []portRange
}

// peer is a selector of pods, a selector of nodes or an IP block (types.go NetworkPolicyPeer).
type peer struct {
	block *block
	nodes labels.Selector
	// namespace is set when the peer has no namespaceSelector; namespaces otherwise.
	namespace  string
	namespaces labels.Selector
	pods       labels.Selector
}

// matchesPod reports whether the pod is one the peer selects.
func (p *peer) matchesPod(pod *Pod, namespaceLabels map[string]string) bool {
	if p.block != nil || p.nodes != nil || !pod.subject() {
		return false
	}
	if p.namespaces == nil {
		if pod.Namespace != p.namespace {
			return false
		}
	} else if !p.namespaces.Matches(labels.Set(namespaceLabels)) {
		return false
	}
	return p.pods.Matches(labels.Set(pod.Labels))
}

// block is an ipBlock: a prefix without some parts of it.
type block struct {
	prefix netip.Prefix
	except []netip.Prefix
}

func (b *block) contains(a netip.Addr) bool {
	if !a.IsValid() || !b.prefix.Contains(a) {
		return false
	}
	return !slices.ContainsFunc(b.except, func(e netip.Prefix) bool { return e.Contains(a) })
}

// portRange is one entry of ports: a named port, or a range of numbers (0 to 65535 when the entry has none).
type portRange struct {
	protocol    Protocol
	name        string
	first, last uint16
}

func (r portRange) String() string {
	switch {
	case r.name != "":
		return fmt.Sprintf("%s %s", r.protocol, r.name)
	case r.first == 0 && r.last == 65535:
		return fmt.Sprintf("any %s port", r.protocol)
	case r.first == r.last:
		return fmt.Sprintf("%s %d", r.protocol, r.first)
	}
	return fmt.Sprintf("%s %d-%d", r.protocol, r.first, r.last)
}

// parser collects the problems of one policy with the path to each.
type parser struct {
	policy   string
	problems []Problem
}

func (r *parser) problem(field, format string, args ...any) {
	r.problems = append(r.problems, Problem{Policy: r.policy, Field: field, Message: fmt.Sprintf(format, args...)})
}

// parsePolicy reads a policy as the API server's defaulting and validation would
// (k8s.io/kubernetes pkg/apis/networking/v1/defaults.go and pkg/apis/networking/validation). What that validation would refuse becomes a
// problem: a defective peer or port matches nothing, a defective podSelector selects the whole namespace.
func parsePolicy(np *networkingv1.NetworkPolicy) (*policy, []Problem) {
	r := &parser{policy: "NetworkPolicy " + np.Namespace + "/" + np.Name}
	p := &policy{namespace: np.Namespace, name: np.Name}
	var err error
	if p.subject, err = metav1.LabelSelectorAsSelector(&np.Spec.PodSelector); err != nil {
		r.problem("spec.podSelector", "%v; the policy isolates every pod of its namespace until this is corrected", err)
		p.subject = labels.Everything()
	}
	if len(np.Spec.PolicyTypes) == 0 {
		p.ingress, p.egress = true, len(np.Spec.Egress) > 0
	}
	for i, t := range np.Spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			p.ingress = true
		case networkingv1.PolicyTypeEgress:
			p.egress = true
		default:
			r.problem(fmt.Sprintf("spec.policyTypes[%d]", i), "unknown type %q: expected Ingress or Egress", t)
			p.ingress, p.egress = true, true
		}
	}
	if p.ingress {
		for i, in := range np.Spec.Ingress {
			p.ingressRules = append(p.ingressRules, r.rule(np.Namespace, fmt.Sprintf("spec.ingress[%d]", i), "from", in.From, in.Ports))
		}
	}
	if p.egress {
		for i, out := range np.Spec.Egress {
			p.egressRules = append(p.egressRules, r.rule(np.Namespace, fmt.Sprintf("spec.egress[%d]", i), "to", out.To, out.Ports))
		}
	}
	return p, r.problems
}

func (r *parser) rule(namespace, field, side string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) rule {
	out := rule{anyPeer: len(peers) == 0, anyPort: len(ports) == 0}
	for i := range peers {
		if p, ok := r.peer(namespace, fmt.Sprintf("%s.%s[%d]", field, side, i), &peers[i]); ok {
			out.peers = append(out.peers, p)
		}
	}
	for i := range ports {
		if p, ok := r.port(fmt.Sprintf("%s.ports[%d]", field, i), &ports[i]); ok {
			out.ports = append(out.ports, p)
		}
	}
	return out
}

func (r *parser) peer(namespace, field string, np *networkingv1.NetworkPolicyPeer) (peer, bool) {
	if np.IPBlock != nil {
		if np.PodSelector != nil || np.NamespaceSelector != nil {
			r.problem(field, "ipBlock cannot be combined with podSelector or namespaceSelector: make two entries")
			return peer{}, false
		}
		b, ok := r.block(field+".ipBlock", np.IPBlock)
		return peer{block: b}, ok
	}
	if np.PodSelector == nil && np.NamespaceSelector == nil {
		r.problem(field, "empty peer: expected podSelector, namespaceSelector or ipBlock")
		return peer{}, false
	}
	p := peer{namespace: namespace, pods: labels.Everything()}
	var err error
	if np.PodSelector != nil {
		if p.pods, err = metav1.LabelSelectorAsSelector(np.PodSelector); err != nil {
			r.problem(field+".podSelector", "%v", err)
			return peer{}, false
		}
	}
	if np.NamespaceSelector != nil {
		p.namespace = ""
		if p.namespaces, err = metav1.LabelSelectorAsSelector(np.NamespaceSelector); err != nil {
			r.problem(field+".namespaceSelector", "%v", err)
			return peer{}, false
		}
	}
	return p, true
}

func (r *parser) block(field string, in *networkingv1.IPBlock) (*block, bool) {
	prefix, err := parsePrefix(in.CIDR)
	if err != nil {
		r.problem(field+".cidr", "%v", err)
		return nil, false
	}
	b := &block{prefix: prefix}
	for i, e := range in.Except {
		except, err := parsePrefix(e)
		if err != nil {
			// Without the exception the block would allow more than was meant.
			r.problem(fmt.Sprintf("%s.except[%d]", field, i), "%v", err)
			return nil, false
		}
		if except.Addr().Is4() != prefix.Addr().Is4() || !prefix.Contains(except.Addr()) || except.Bits() <= prefix.Bits() {
			r.problem(fmt.Sprintf("%s.except[%d]", field, i), "%s is not strictly inside %s", e, in.CIDR)
			if except.Overlaps(prefix) {
				return nil, false
			}
			continue
		}
		b.except = append(b.except, except)
	}
	return b, true
}

// parsePrefix reads a CIDR; the host bits are ignored, as Kubernetes does.
func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(strings.TrimSpace(s))
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a CIDR: expected for example 10.0.0.0/8 or fd00::/8", s)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q mixes IPv4 and IPv6: write the IPv4 form", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

func (r *parser) port(field string, in *networkingv1.NetworkPolicyPort) (portRange, bool) {
	out := portRange{protocol: TCP, last: 65535}
	if in.Protocol != nil {
		switch *in.Protocol {
		case corev1.ProtocolTCP:
		case corev1.ProtocolUDP:
			out.protocol = UDP
		case corev1.ProtocolSCTP:
			out.protocol = SCTP
		default:
			r.problem(field+".protocol", "unknown protocol %q: expected TCP, UDP or SCTP", *in.Protocol)
			return out, false
		}
	}
	if in.Port == nil {
		if in.EndPort != nil {
			r.problem(field+".endPort", "endPort needs port")
			return out, false
		}
		return out, true
	}
	if in.Port.Type == intstr.String {
		if in.EndPort != nil {
			r.problem(field+".endPort", "endPort needs a numeric port, not %q", in.Port.StrVal)
			return out, false
		}
		if in.Port.StrVal == "" {
			r.problem(field+".port", "empty port name")
			return out, false
		}
		out.name, out.last = in.Port.StrVal, 0
		return out, true
	}
	first := in.Port.IntVal
	last := first
	if in.EndPort != nil {
		last = *in.EndPort
	}
	if first < 1 || first > 65535 {
		r.problem(field+".port", "port %d is outside 1 to 65535", first)
		return out, false
	}
	if last < first || last > 65535 {
		r.problem(field+".endPort", "endPort %d is outside %d to 65535", last, first)
		return out, false
	}
	out.first, out.last = uint16(first), uint16(last)
	return out, true
}
