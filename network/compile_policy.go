package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// selector is a set of pods that policies share: as peers and as the pods they isolate.
type selector struct {
	key        string
	namespace  string
	namespaces labels.Selector // nil if namespace is set
	pods       labels.Selector
	refs       int
	members    map[*podEntry]struct{}
	groups     map[*group]struct{}
	policies   map[*compiledPolicy]struct{} // whose subject this is
	cluster    map[*compiledCluster]struct{}
}

// link makes the pod a member before it owns an address.
func (s *selector) link(e *podEntry) {
	s.members[e] = struct{}{}
	e.selectors[s] = struct{}{}
}

func (s *selector) unlink(e *podEntry) {
	delete(s.members, e)
	delete(e.selectors, s)
}

// join makes the pod with its addresses a member.
func (s *selector) join(e *podEntry) {
	if _, ok := s.members[e]; ok {
		return
	}
	s.link(e)
	for g := range s.groups {
		for _, a := range e.owned {
			g.count(e, a, 1)
		}
	}
}

func (s *selector) leave(e *podEntry) {
	if _, ok := s.members[e]; !ok {
		return
	}
	for g := range s.groups {
		for _, a := range e.owned {
			g.count(e, a, -1)
		}
	}
	s.unlink(e)
}

func (c *Compiler) acquireSelector(namespace string, namespaces, pods labels.Selector) *selector {
	key := "=" + namespace + "|" + pods.String()
	if namespaces != nil {
		key = "~" + namespaces.String() + "|" + pods.String()
	}
	if s := c.selectors[key]; s != nil {
		s.refs++
		return s
	}
	s := &selector{key: key, namespace: namespace, namespaces: namespaces, pods: pods, refs: 1,
		members: map[*podEntry]struct{}{}, groups: map[*group]struct{}{}, policies: map[*compiledPolicy]struct{}{},
		cluster: map[*compiledCluster]struct{}{}}
	c.selectors[key] = s
	spaces := []*space{}
	if namespaces == nil {
		spaces = append(spaces, c.space(namespace))
	} else {
		c.wide[s] = struct{}{}
		for _, sp := range c.spaces {
			if namespaces.Matches(labels.Set(sp.labels)) {
				spaces = append(spaces, sp)
			}
		}
	}
	for _, sp := range spaces {
		sp.selectors[s] = struct{}{}
		for _, e := range sp.pods {
			if pods.Matches(labels.Set(e.pod.Labels)) {
				s.link(e)
			}
		}
	}
	return s
}

func (c *Compiler) releaseSelector(s *selector) {
	if s.refs--; s.refs > 0 {
		return
	}
	delete(c.selectors, s.key)
	delete(c.wide, s)
	for e := range s.members {
		delete(e.selectors, s)
	}
	for _, sp := range c.spacesOf(s) {
		delete(sp.selectors, s)
		c.dropSpace(sp)
	}
}

func (c *Compiler) spacesOf(s *selector) []*space {
	if s.namespaces == nil {
		return []*space{c.spaces[s.namespace]}
	}
	var out []*space
	for _, sp := range c.spaces {
		if _, ok := sp.selectors[s]; ok {
			out = append(out, sp)
		}
	}
	return out
}

// group is a pair of sets (IPv4, IPv6) whose elements come from the members of selectors: their addresses, or with names the
// addresses with the numbers of those named ports.
type group struct {
	key       string
	selectors []*selector
	blocks    []*block          // members are found by address too
	nodes     []labels.Selector // addresses of nodes are members
	names     []portRange
	refs      int
	counts    map[string]int // how often an element is due
	sets      [2]*setState
}

func (g *group) holds(a netip.Addr) bool {
	return slices.ContainsFunc(g.blocks, func(b *block) bool { return b.contains(a) })
}

func (g *group) count(e *podEntry, a netip.Addr, by int) {
	if g.names == nil {
		g.add(a, addressKey(a), by)
		return
	}
	for _, p := range g.names {
		if number, ok := e.pod.NamedPort(p.name, p.protocol); ok {
			g.add(a, addressKey(a)+portKey(p.protocol, number), by)
		}
	}
}

// countNode adds or removes the addresses of a node, if the group wants it.
func (g *group) countNode(n Node, by int) {
	for _, selector := range g.nodes {
		if !selector.Matches(labels.Set(n.Labels)) {
			continue
		}
		for _, a := range n.IPs {
			g.add(a.Unmap(), addressKey(a.Unmap()), by)
		}
	}
}

func (g *group) add(a netip.Addr, key string, by int) {
	n := g.counts[key] + by
	switch {
	case n == 0:
		delete(g.counts, key)
		g.sets[familyIndex(a)].remove(key)
		return
	case n == 1 && by > 0:
		g.sets[familyIndex(a)].put(Element{Key: key})
	}
	g.counts[key] = n
}

// peerSet is what a rule's peers select.
type peerSet struct {
	selectors []*selector
	blocks    []*block
	nodes     []labels.Selector
}

// acquireGroup takes over the references to the selectors.
func (c *Compiler) acquireGroup(prefix string, peers peerSet, names []portRange) *group {
	key := prefix + "/" + digest(peers.describe(names))
	if g := c.groups[key]; g != nil {
		g.refs++
		for _, s := range peers.selectors {
			c.releaseSelector(s)
		}
		return g
	}
	kinds := [2]SetKind{Addresses4, Addresses6}
	if names != nil {
		kinds = [2]SetKind{AddressPorts4, AddressPorts6}
	}
	g := &group{key: key, selectors: peers.selectors, blocks: peers.blocks, nodes: peers.nodes, names: names, refs: 1, counts: map[string]int{}}
	for i := range kinds {
		g.sets[i] = c.store.set(fmt.Sprintf("%s-%d", key, families[i]), kinds[i])
	}
	c.groups[key] = g
	for _, s := range peers.selectors {
		s.groups[g] = struct{}{}
		for e := range s.members {
			for _, a := range e.owned {
				g.count(e, a, 1)
			}
		}
	}
	if len(g.nodes) > 0 {
		c.nodeGroups[g] = struct{}{}
		for _, n := range c.nodes {
			g.countNode(n, 1)
		}
	}
	if len(g.blocks) > 0 {
		c.blockers[g] = struct{}{}
		for _, e := range c.pods {
			for _, a := range e.owned {
				if g.holds(a) {
					g.count(e, a, 1)
				}
			}
		}
	}
	return g
}

func (c *Compiler) releaseGroup(g *group) {
	if g.refs--; g.refs > 0 {
		return
	}
	delete(c.groups, g.key)
	delete(c.blockers, g)
	delete(c.nodeGroups, g)
	for _, s := range g.selectors {
		delete(s.groups, g)
		c.releaseSelector(s)
	}
	for _, set := range g.sets {
		c.store.deleteSet(set)
	}
}

func (p *peerSet) describe(names []portRange) string {
	var parts []string
	for _, s := range p.selectors {
		parts = append(parts, s.key)
	}
	for _, b := range p.blocks {
		parts = append(parts, fmt.Sprint(b.prefix, b.except))
	}
	for _, n := range p.nodes {
		parts = append(parts, "nodes "+n.String())
	}
	slices.Sort(parts)
	for _, p := range names {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, "\n")
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// sharedSet is a set of constant content that rules share.
type sharedSet struct {
	refs int
	set  *setState
}

func (c *Compiler) acquireSet(prefix string, kind SetKind, elements []Element) *sharedSet {
	var b strings.Builder
	for _, e := range elements {
		fmt.Fprintf(&b, "%x-%x\n", e.Key, e.End)
	}
	name := fmt.Sprintf("%s/%s", prefix, digest(b.String()))
	if v6, ok := kind.v6(); ok {
		name += map[bool]string{false: "-4", true: "-6"}[v6]
	}
	s := c.shared[name]
	if s == nil {
		s = &sharedSet{set: c.store.set(name, kind)}
		for _, e := range elements {
			s.set.put(e)
		}
		c.shared[name] = s
	}
	s.refs++
	return s
}

func (c *Compiler) releaseSet(s *sharedSet) {
	if s.refs--; s.refs == 0 {
		delete(c.shared, s.set.name)
		c.store.deleteSet(s.set)
	}
}

// holder remembers what to give back.
type holder []func()

func (h *holder) add(release func()) { *h = append(*h, release) }

func (h holder) release() {
	for _, f := range h {
		f()
	}
}

// compiledPolicy is a policy with all that it holds on to.
type compiledPolicy struct {
	policy  *policy
	subject *selector
	chains  [2]*chainState // by direction; nil where the policy does not isolate
	held    holder
}

func (c *Compiler) compilePolicy(p *policy) *compiledPolicy {
	out := &compiledPolicy{policy: p, subject: c.acquireSelector(p.namespace, nil, p.subject)}
	for _, d := range []Direction{Ingress, Egress} {
		if !p.isolates(d) {
			continue
		}
		var rules []Rule
		for i, r := range p.rules(d) {
			rules = append(rules, c.compileRule(&out.held, out.subject, d, fmt.Sprintf("%s rule %d", d, i), &r)...)
		}
		out.chains[d] = c.store.chain(chainName(d.String()+"/"+p.key()), rules)
	}
	return out
}

// chainName shortens names that the kernel or nft would refuse (NFT_NAME_MAXLEN is 256, nft(8) wants less).
func chainName(name string) string {
	if len(name) > 120 {
		return name[:100] + "/" + digest(name)
	}
	return name
}

// releasePolicy gives back what old holds; chains that fresh uses under the same name stay.
func (c *Compiler) releasePolicy(old, fresh *compiledPolicy, affected map[*podEntry]struct{}) {
	for e := range old.subject.members {
		affected[e] = struct{}{}
	}
	delete(old.subject.policies, old)
	for d, chain := range old.chains {
		if chain != nil && (fresh == nil || fresh.chains[d] == nil) {
			c.store.deleteChain(chain)
		}
	}
	old.held.release()
	c.releaseSelector(old.subject)
}
