package network

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// clusterPolicy is a ClusterPolicy read once.
type clusterPolicy struct {
	name     string
	tier     ClusterTier
	priority int32
	subject  peer
	ingress  []clusterRule
	egress   []clusterRule
}

func (p *clusterPolicy) rules(d Direction) []clusterRule {
	if d == Ingress {
		return p.ingress
	}
	return p.egress
}

// before orders policies of one tier.
func (p *clusterPolicy) before(q *clusterPolicy) int {
	return cmp.Or(cmp.Compare(p.priority, q.priority), cmp.Compare(p.name, q.name))
}

type clusterRule struct {
	rule
	name   string
	action ClusterAction
}

// label is how people know the rule.
func (r *clusterRule) label(index int) string {
	if r.name != "" {
		return fmt.Sprintf("rule %d (%s)", index, r.name)
	}
	return fmt.Sprintf("rule %d", index)
}

// parseClusterPolicy reads a policy. A rule with a defect fails closed as the API's documentation has it: an Accept rule matches
// nothing, a Deny or Pass rule denies everything.
func parseClusterPolicy(in *ClusterPolicy) (*clusterPolicy, []Problem) {
	r := &parser{policy: "ClusterNetworkPolicy " + in.Name}
	p := &clusterPolicy{name: in.Name, tier: in.Spec.Tier, priority: in.Spec.Priority}
	if p.tier != AdminTier && p.tier != BaselineTier {
		r.problem("spec.tier", "unknown tier %q: expected Admin or Baseline", p.tier)
		p.tier = AdminTier
	}
	if p.priority < 0 || p.priority > 1000 {
		r.problem("spec.priority", "%d is outside 0 to 1000", p.priority)
	}
	subject, ok := r.clusterPods("spec.subject", in.Spec.Subject.Namespaces, in.Spec.Subject.Pods)
	if !ok {
		subject = peer{namespaces: labels.Everything(), pods: labels.Everything()}
	}
	p.subject = subject
	for _, side := range []struct {
		name  string
		rules []ClusterRule
		out   *[]clusterRule
	}{{"ingress", in.Spec.Ingress, &p.ingress}, {"egress", in.Spec.Egress, &p.egress}} {
		if len(side.rules) > 25 {
			r.problem("spec."+side.name, "%d rules: at most 25 are allowed", len(side.rules))
		}
		for i := range side.rules {
			*side.out = append(*side.out, r.clusterRule(fmt.Sprintf("spec.%s[%d]", side.name, i), side.name == "egress", &side.rules[i]))
		}
	}
	return p, r.problems
}

// clusterPods reads the two ways to select pods; exactly one has to be there.
func (r *parser) clusterPods(field string, namespaces *metav1.LabelSelector, pods *ClusterPods) (peer, bool) {
	var err error
	out := peer{pods: labels.Everything()}
	switch {
	case (namespaces == nil) == (pods == nil):
		r.problem(field, "expected exactly one of namespaces and pods")
		return peer{}, false
	case namespaces != nil:
		if out.namespaces, err = metav1.LabelSelectorAsSelector(namespaces); err != nil {
			r.problem(field+".namespaces", "%v", err)
			return peer{}, false
		}
	default:
		if out.namespaces, err = metav1.LabelSelectorAsSelector(&pods.NamespaceSelector); err != nil {
			r.problem(field+".pods.namespaceSelector", "%v", err)
			return peer{}, false
		}
		if out.pods, err = metav1.LabelSelectorAsSelector(&pods.PodSelector); err != nil {
			r.problem(field+".pods.podSelector", "%v", err)
			return peer{}, false
		}
	}
	return out, true
}

func (r *parser) clusterRule(field string, egress bool, in *ClusterRule) clusterRule {
	before := len(r.problems)
	out := clusterRule{name: in.Name, action: in.Action, rule: rule{anyPort: len(in.Protocols) == 0}}
	switch in.Action {
	case ActionAccept, ActionDeny, ActionPass:
	default:
		r.problem(field+".action", "unknown action %q: expected Accept, Deny or Pass", in.Action)
	}
	peers, word, wrong, wrongWord := in.From, "from", in.To, "to"
	if egress {
		peers, word, wrong, wrongWord = in.To, "to", in.From, "from"
	}
	if len(wrong) > 0 {
		r.problem(field+"."+wrongWord, "unknown field here: expected %s", word)
	}
	if len(peers) == 0 || len(peers) > 25 {
		r.problem(field+"."+word, "%d peers: expected 1 to 25", len(peers))
	}
	for i := range peers {
		out.peers = append(out.peers, r.clusterPeer(fmt.Sprintf("%s.%s[%d]", field, word, i), egress, &peers[i])...)
	}
	for i := range in.Protocols {
		out.ports = append(out.ports, r.clusterProtocol(fmt.Sprintf("%s.protocols[%d]", field, i), &in.Protocols[i])...)
	}
	if len(r.problems) > before {
		if in.Action == ActionAccept {
			out.rule = rule{}
		} else {
			out.rule, out.action = rule{anyPeer: true, anyPort: true}, ActionDeny
		}
	}
	return out
}

func (r *parser) clusterPeer(field string, egress bool, in *ClusterPeer) []peer {
	set := 0
	for _, there := range []bool{in.Namespaces != nil, in.Pods != nil, in.Nodes != nil, in.Networks != nil, in.DomainNames != nil} {
		if there {
			set++
		}
	}
	if set != 1 {
		r.problem(field, "%d kinds of peers: expected exactly one of namespaces, pods, nodes and networks", set)
		return nil
	}
	if !egress && (in.Nodes != nil || in.Networks != nil || in.DomainNames != nil) {
		r.problem(field, "nodes, networks and domainNames are peers of egress rules only")
		return nil
	}
	switch {
	case in.DomainNames != nil:
		r.problem(field+".domainNames", "names are not enforced: write the networks")
		return nil
	case in.Nodes != nil:
		selector, err := metav1.LabelSelectorAsSelector(in.Nodes)
		if err != nil {
			r.problem(field+".nodes", "%v", err)
		}
		return []peer{{nodes: selector}}
	case in.Networks != nil:
		var out []peer
		for i, text := range in.Networks {
			prefix, err := parsePrefix(text)
			if err != nil {
				r.problem(fmt.Sprintf("%s.networks[%d]", field, i), "%v", err)
				continue
			}
			out = append(out, peer{block: &block{prefix: prefix}})
		}
		return out
	}
	p, ok := r.clusterPods(field, in.Namespaces, in.Pods)
	if !ok {
		return nil
	}
	return []peer{p}
}

func (r *parser) clusterProtocol(field string, in *ClusterProtocol) []portRange {
	set := 0
	var out []portRange
	for _, one := range []struct {
		match    *ClusterPortMatch
		protocol Protocol
		name     string
	}{{in.TCP, TCP, "tcp"}, {in.UDP, UDP, "udp"}, {in.SCTP, SCTP, "sctp"}} {
		if one.match == nil {
			continue
		}
		set++
		out = append(out, r.clusterPort(field+"."+one.name+".destinationPort", one.protocol, one.match.DestinationPort))
	}
	if in.DestinationNamedPort != "" {
		set++
		for _, protocol := range []Protocol{TCP, UDP, SCTP} {
			out = append(out, portRange{protocol: protocol, name: in.DestinationNamedPort})
		}
	}
	if set != 1 {
		r.problem(field, "%d fields: expected exactly one of tcp, udp, sctp and destinationNamedPort", set)
	}
	return out
}

func (r *parser) clusterPort(field string, protocol Protocol, in *ClusterPort) portRange {
	out := portRange{protocol: protocol, last: 65535}
	if in == nil {
		return out
	}
	first, last := in.Number, in.Number
	if (in.Number == 0) == (in.Range == nil) {
		r.problem(field, "expected exactly one of number and range")
		return out
	}
	if in.Range != nil {
		first, last = in.Range.Start, in.Range.End
		if first >= last {
			r.problem(field+".range", "start %d is not less than end %d", first, last)
			return out
		}
	}
	if first < 1 || last > 65535 {
		r.problem(field, "%d to %d is outside 1 to 65535", first, last)
		return out
	}
	out.first, out.last = uint16(first), uint16(last)
	return out
}

// ties names policies of one tier and priority: which of them comes first is nothing to rely on.
func ties(policies []*clusterPolicy) []Problem {
	var out []Problem
	for i := 1; i < len(policies); i++ {
		if a, b := policies[i-1], policies[i]; a.priority == b.priority {
			out = append(out, Problem{Policy: "ClusterNetworkPolicy " + b.name, Field: "spec.priority",
				Message: fmt.Sprintf("%d is also the priority of %s in tier %s: give each policy its own", b.priority, a.name, a.tier)})
		}
	}
	return out
}

// ClusterPolicies is a tier of ClusterPolicies.
type ClusterPolicies struct{ Tier ClusterTier }

// Name returns the tier's name.
func (t ClusterPolicies) Name() string { return string(t.Tier) }

// Judge asks the policies by priority and their rules in order; the first rule that matches decides.
func (t ClusterPolicies) Judge(s *Snapshot, d Direction, f Flow) Finding {
	subject, other := f.ends(d)
	for _, p := range s.cluster[t.Tier] {
		if !p.subject.matchesPod(subject.Pod, s.namespaces[subject.Pod.Namespace]) {
			continue
		}
		for i, r := range p.rules(d) {
			if !s.peerMatches(&r.rule, other) || !r.matchesPort(f) {
				continue
			}
			found := Finding{Direction: d, Tier: t.Name(), Policy: p.name, Rule: i}
			verb := "passes it to the next tier"
			switch r.action {
			case ActionAccept:
				found.Verdict, verb = Allow, "accepts it"
			case ActionDeny:
				found.Verdict, verb = Deny, "denies it"
			}
			found.Reason = fmt.Sprintf("%s %s of %s policy %s %s", d, r.label(i), t.Tier, p.name, verb)
			return found
		}
	}
	return Finding{Direction: d, Tier: t.Name(), Rule: -1}
}

// sortCluster puts policies into their tiers, in order.
func sortCluster(list []*clusterPolicy) (map[ClusterTier][]*clusterPolicy, []Problem) {
	out := map[ClusterTier][]*clusterPolicy{}
	for _, p := range list {
		out[p.tier] = append(out[p.tier], p)
	}
	var problems []Problem
	for _, tier := range []ClusterTier{AdminTier, BaselineTier} {
		slices.SortFunc(out[tier], (*clusterPolicy).before)
		problems = append(problems, ties(out[tier])...)
	}
	return out, problems
}
