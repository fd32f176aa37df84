package network

import (
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// Direction is the side of a pod that a policy guards.
type Direction uint8

// Ingress is traffic to a pod, Egress traffic from it.
const (
	Ingress Direction = iota
	Egress
)

func (d Direction) String() string {
	if d == Ingress {
		return "ingress"
	}
	return "egress"
}

// Verdict is a tier's answer for one direction of a flow.
type Verdict uint8

// Next leaves the question to the following tier; Allow and Deny settle the direction.
const (
	Next Verdict = iota
	Allow
	Deny
)

func (v Verdict) String() string { return [...]string{"next", "allow", "deny"}[v] }

// Endpoint is one end of a flow.
type Endpoint struct {
	// Pod is nil for something that is not a pod of the snapshot.
	Pod *Pod
	// Addr is the address in use. It may be missing for a pod; then only IP blocks cannot match it.
	Addr netip.Addr
}

func (e Endpoint) String() string {
	switch {
	case e.Pod != nil && e.Addr.IsValid():
		return fmt.Sprintf("pod %s (%s)", e.Pod.Key(), e.Addr)
	case e.Pod != nil:
		return "pod " + e.Pod.Key()
	case e.Addr.IsValid():
		return e.Addr.String()
	}
	return "unknown"
}

// Flow is the first packet of a connection. Port is the destination port as the pod sees it, after any Service
// translation; it is 0 for protocols without ports.
type Flow struct {
	From, To Endpoint
	Protocol Protocol
	Port     uint16
}

// ends returns the end that a direction's policies guard, and the other one.
func (f *Flow) ends(d Direction) (subject, peer Endpoint) {
	if d == Ingress {
		return f.To, f.From
	}
	return f.From, f.To
}

// Finding is what one tier found about one direction of a flow.
type Finding struct {
	Direction Direction
	Verdict   Verdict
	// Tier is the name of the tier that decided, "default" if none did.
	Tier string
	// Policy is the deciding policy, "shop/web" for a namespaced one; empty if no single policy decided.
	Policy string
	// Rule is the index of the deciding rule in the policy's list for the direction, -1 if none.
	Rule int
	// Reason is a sentence for people.
	Reason string
}

// Decision is the answer for a whole flow: both directions must allow it.
type Decision struct {
	Allowed         bool
	Egress, Ingress Finding
}

// Deciding is the finding that explains the answer: the denial, or for an allowed flow the more specific of the two.
func (d Decision) Deciding() Finding {
	if d.Egress.Verdict == Deny || (d.Ingress.Verdict != Deny && d.Ingress.Policy == "" && d.Egress.Policy != "") {
		return d.Egress
	}
	return d.Ingress
}

func (d Decision) String() string {
	word := "denied"
	if d.Allowed {
		word = "allowed"
	}
	return fmt.Sprintf("%s: egress: %s; ingress: %s", word, d.Egress.Reason, d.Ingress.Reason)
}

// Tier judges one direction of a flow. Tiers are asked in order until one answers Allow or Deny.
type Tier interface {
	// Name is shown in findings.
	Name() string
	// Judge must not keep or change the snapshot.
	Judge(s *Snapshot, d Direction, f Flow) Finding
}

// Engine asks its tiers in order, for egress of the source and then for ingress of the target. A direction that no
// tier settles is allowed.
type Engine struct{ tiers []Tier }

// NewEngine returns an engine of these tiers. What Kubernetes never filters (a pod and itself, a node and its own
// pods) is allowed before the first tier is asked.
func NewEngine(tiers ...Tier) *Engine { return &Engine{tiers: tiers} }

// Evaluate decides a flow and says why.
func (e *Engine) Evaluate(s *Snapshot, f Flow) Decision {
	f.From.Addr, f.To.Addr = f.From.Addr.Unmap(), f.To.Addr.Unmap()
	out := Decision{Egress: e.judge(s, Egress, f), Ingress: e.judge(s, Ingress, f)}
	out.Allowed = out.Egress.Verdict == Allow && out.Ingress.Verdict == Allow
	return out
}

func (e *Engine) judge(s *Snapshot, d Direction, f Flow) Finding {
	settled := func(reason string) Finding {
		return Finding{Direction: d, Verdict: Allow, Tier: "default", Rule: -1, Reason: reason}
	}
	subject, peer := f.ends(d)
	switch {
	case subject.Pod == nil:
		return settled(subject.String() + " is not a pod, no policy guards it")
	case subject.Pod.HostNetwork:
		return settled(subject.String() + " uses the host's network, no policy guards it")
	case peer.Pod == subject.Pod || (peer.Addr.IsValid() && peer.Addr == subject.Addr):
		return settled("a pod always reaches itself")
	}
	if node := s.nodeOf(peer); node != "" && node == subject.Pod.Node {
		return settled(fmt.Sprintf("traffic between node %s and its own pods is never filtered", node))
	}
	var passed []string
	for _, t := range e.tiers {
		found := t.Judge(s, d, f)
		if found.Verdict != Next {
			return found
		}
		if found.Reason != "" {
			passed = append(passed, found.Reason)
		}
	}
	if len(passed) == 0 {
		passed = []string{"no policy applies"}
	}
	return settled(strings.Join(passed, "; "))
}

// nodeOf returns the name of the node whose own address the endpoint is, empty if it is none.
func (s *Snapshot) nodeOf(e Endpoint) string {
	if e.Pod != nil {
		if e.Pod.HostNetwork {
			return e.Pod.Node
		}
		return ""
	}
	if n := s.nodeByIP[e.Addr]; n != nil {
		return n.Name
	}
	return ""
}

// Evaluate decides a flow by all policies of the snapshot, in the order of Kubernetes: tier Admin, NetworkPolicies, tier Baseline.
func Evaluate(s *Snapshot, from, to Endpoint, protocol Protocol, port uint16) Decision {
	return NewEngine(ClusterPolicies{AdminTier}, NetworkPolicies{}, ClusterPolicies{BaselineTier}).Evaluate(s, Flow{From: from, To: to, Protocol: protocol, Port: port})
}

// NetworkPolicies is the tier of networking.k8s.io/v1 NetworkPolicy: a pod that some policy selects for a direction accepts there only
// what one of those policies allows; the order of policies and rules has no meaning.
type NetworkPolicies struct{}

// Name returns "NetworkPolicy".
func (NetworkPolicies) Name() string { return "NetworkPolicy" }

// Judge answers Next for a pod that no policy isolates in the direction.
func (t NetworkPolicies) Judge(s *Snapshot, d Direction, f Flow) Finding {
	subject, peer := f.ends(d)
	var isolating, near []string
	for _, p := range s.policies[subject.Pod.Namespace] {
		if !p.isolates(d) || !subject.Pod.subject() || !p.subject.Matches(labels.Set(subject.Pod.Labels)) {
			continue
		}
		isolating = append(isolating, p.key())
		for i, r := range p.rules(d) {
			if !s.peerMatches(&r, peer) {
				continue
			}
			if r.matchesPort(f) {
				return Finding{Direction: d, Verdict: Allow, Tier: t.Name(), Policy: p.key(), Rule: i,
					Reason: fmt.Sprintf("%s rule %d of %s allows it", d, i, p.key())}
			}
			near = append(near, fmt.Sprintf("%s rule %d of %s allows this peer but only %s", d, i, p.key(), joinPorts(r.ports)))
		}
	}
	if len(isolating) == 0 {
		return Finding{Direction: d, Tier: t.Name(), Rule: -1, Reason: fmt.Sprintf("no policy isolates pod %s for %s", subject.Pod.Key(), d)}
	}
	found := Finding{Direction: d, Verdict: Deny, Tier: t.Name(), Rule: -1}
	if len(isolating) == 1 {
		found.Policy = isolating[0]
	}
	found.Reason = fmt.Sprintf("pod %s is isolated for %s by %s and no rule allows %s", subject.Pod.Key(), d, strings.Join(isolating, ", "), describe(d, f))
	if len(near) > 0 {
		found.Reason += " (" + strings.Join(near, "; ") + ")"
	}
	return found
}

func describe(d Direction, f Flow) string {
	_, peer := f.ends(d)
	word := "from"
	if d == Egress {
		word = "to"
	}
	if !f.Protocol.hasPorts() {
		return fmt.Sprintf("%s %s %s", f.Protocol, word, peer)
	}
	return fmt.Sprintf("%s %d %s %s", f.Protocol, f.Port, word, peer)
}

func joinPorts(ports []portRange) string {
	if len(ports) == 0 {
		return "ports that are not valid"
	}
	var parts []string
	for _, p := range ports {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, ", ")
}

// peerMatches reports whether the rule names the endpoint as a peer.
func (s *Snapshot) peerMatches(r *rule, e Endpoint) bool {
	if r.anyPeer {
		return true
	}
	for i := range r.peers {
		p := &r.peers[i]
		switch {
		case p.block != nil:
			if p.block.contains(e.Addr) {
				return true
			}
			continue
		case p.nodes != nil:
			if n := s.nodes[s.nodeOf(e)]; n != nil && p.nodes.Matches(labels.Set(n.Labels)) {
				return true
			}
			continue
		}
		if e.Pod != nil && p.matchesPod(e.Pod, s.namespaces[e.Pod.Namespace]) {
			return true
		}
	}
	return false
}

// matchesPort reports whether the rule allows the flow's protocol and port. A named port is looked up in the pod that
// receives the traffic, whichever direction is judged.
func (r *rule) matchesPort(f Flow) bool {
	if r.anyPort {
		return true
	}
	for _, p := range r.ports {
		if p.protocol != f.Protocol {
			continue
		}
		if p.name == "" {
			if p.first <= f.Port && f.Port <= p.last {
				return true
			}
			continue
		}
		if f.To.Pod == nil || !f.To.Pod.subject() {
			continue
		}
		if number, ok := f.To.Pod.NamedPort(p.name, p.protocol); ok && number == f.Port {
			return true
		}
	}
	return false
}
