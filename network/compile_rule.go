package network

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// compileRule makes a few rules of a policy's rule: their number follows from what is written in the policy, not from how many
// pods that means.
func (c *Compiler) compileRule(held *holder, subject *selector, d Direction, comment string, r *rule) []Rule {
	var numeric, named []portRange
	for _, p := range r.ports {
		if p.name != "" {
			named = append(named, p)
		} else {
			numeric = append(numeric, p)
		}
	}
	var rules []Rule
	emit := func(family uint8, conditions ...Condition) {
		rules = append(rules, Rule{Family: family, Conditions: conditions, Action: Accept, Comment: comment})
	}
	peers := c.peerConditions(held, d, r)
	if r.anyPort || len(numeric) > 0 {
		var port []Condition
		if !r.anyPort {
			set := c.acquireSet("ports", Ports, portElements(numeric))
			held.add(func() { c.releaseSet(set) })
			port = []Condition{{PortIn, set.set.name}}
		}
		for _, p := range peers {
			emit(p.family, append(slices.Clone(p.conditions), port...)...)
		}
		if r.anyPeer {
			emit(0, port...)
		}
	}
	if len(named) == 0 {
		return rules
	}
	slices.SortFunc(named, func(a, b portRange) int { return cmp.Compare(a.String(), b.String()) })
	named = slices.Compact(named)
	if d == Egress {
		// The named port is that of the peer: address and number together say that it is one.
		peers := c.peerSelectors(r)
		peers.nodes = nil // nodes have no named ports
		g := c.acquireGroup("named", peers, named)
		held.add(func() { c.releaseGroup(g) })
		for i, family := range families {
			emit(family, Condition{TargetPortIn, g.sets[i].name})
		}
		return rules
	}
	// The named port is that of the isolated pod.
	subject.refs++ // the group takes one over
	g := c.acquireGroup("named", peerSet{selectors: []*selector{subject}}, named)
	held.add(func() { c.releaseGroup(g) })
	for i, family := range families {
		target := Condition{TargetPortIn, g.sets[i].name}
		if r.anyPeer {
			emit(family, target)
		}
		for _, p := range peers {
			if p.family == family {
				emit(family, append(slices.Clone(p.conditions), target)...)
			}
		}
	}
	return rules
}

type familyConditions struct {
	family     uint8
	conditions []Condition
}

// peerConditions returns the ways in which a packet's other end can be a peer; none for a rule that names no peers.
func (c *Compiler) peerConditions(held *holder, d Direction, r *rule) []familyConditions {
	test := SourceIn
	if d == Egress {
		test = TargetIn
	}
	var list []familyConditions
	if r.anyPeer {
		return nil
	}
	peers := c.peerSelectors(r)
	// Selectors across namespaces find many pods and are common to many policies: each has a set that all share. Those of
	// the policy's own namespace find few: one set holds them all.
	var sets []peerSet
	own := peerSet{nodes: peers.nodes}
	for _, s := range peers.selectors {
		if s.namespaces != nil {
			sets = append(sets, peerSet{selectors: []*selector{s}})
		} else {
			own.selectors = append(own.selectors, s)
		}
	}
	if len(own.selectors)+len(own.nodes) > 0 {
		sets = append(sets, own)
	}
	for _, set := range sets {
		g := c.acquireGroup("peers", set, nil)
		held.add(func() { c.releaseGroup(g) })
		for i, family := range families {
			list = append(list, familyConditions{family, []Condition{{test, g.sets[i].name}}})
		}
	}
	for i, kind := range []SetKind{Blocks4, Blocks6} {
		var elements []Element
		for _, a := range blockRanges(peers.blocks, i == 1) {
			elements = append(elements, Element{Key: addressKey(a.first), End: addressKey(a.last)})
		}
		if len(elements) == 0 {
			continue
		}
		set := c.acquireSet("blocks", kind, elements)
		held.add(func() { c.releaseSet(set) })
		list = append(list, familyConditions{families[i], []Condition{{test, set.set.name}}})
	}
	return list
}

// peerSelectors acquires the selectors of a rule's peers; for a rule without peers one that finds every pod.
func (c *Compiler) peerSelectors(r *rule) peerSet {
	if r.anyPeer {
		return peerSet{selectors: []*selector{c.acquireSelector("", labels.Everything(), labels.Everything())}}
	}
	var out peerSet
	for i := range r.peers {
		p := &r.peers[i]
		switch {
		case p.block != nil:
			out.blocks = append(out.blocks, p.block)
			continue
		case p.nodes != nil:
			out.nodes = append(out.nodes, p.nodes)
			continue
		}
		s := c.acquireSelector(p.namespace, p.namespaces, p.pods)
		if slices.Contains(out.selectors, s) {
			c.releaseSelector(s)
			continue
		}
		out.selectors = append(out.selectors, s)
	}
	return out
}
