package network

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Config says for which node and under which table name policies are compiled.
type Config struct {
	// Table is the name of the nftables table (family inet), one per cluster instance.
	Table string
	// Node restricts enforcement to the pods of one node; pods of other nodes are only peers. Empty means all pods.
	Node string
	// PodCIDRs are the ranges from which the node's pods get their addresses. An address inside that belongs to no known pod is cut off in both
	// directions, so that a pod cannot speak before its policies are in place.
	PodCIDRs []netip.Prefix
	// GuardNode also applies egress policies to packets for the node itself. Kubernetes leaves them alone.
	GuardNode bool
	// Priority places the base chains among others of the hook; 0 is nftables' "filter".
	Priority int32
}

var tableName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,62}$`)

func (c *Config) validate() error {
	if !tableName.MatchString(c.Table) {
		return fmt.Errorf("table name %q: expected up to 63 letters, digits, - and _, beginning with a letter", c.Table)
	}
	for _, p := range c.PodCIDRs {
		if !p.IsValid() {
			return errors.New("pod CIDR is not valid")
		}
	}
	return nil
}

// Compiler keeps the wanted content of the table while pods, namespaces and policies come, change and go. The cost of
// a change depends on what it touches, not on the size of the cluster. It is not safe for concurrent use.
type Compiler struct {
	config Config
	store  *store

	pods       map[string]*podEntry
	claims     map[netip.Addr][]*podEntry
	spaces     map[string]*space
	policies   map[string]*compiledPolicy
	cluster    map[string]*compiledCluster
	nodes      map[string]Node
	selectors  map[string]*selector
	wide       map[*selector]struct{} // selectors with a namespaceSelector
	groups     map[string]*group
	blockers   map[*group]struct{} // groups that find members by address
	nodeGroups map[*group]struct{}
	shared     map[string]*sharedSet
	classes    map[string]*class

	classMaps [2][2]*setState // direction, family
	self      [2]*setState
}

// NewCompiler returns a compiler without pods and policies. Its first Changes hold the base chains.
func NewCompiler(config Config) (*Compiler, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	c := &Compiler{
		config: config, store: newStore(),
		pods: map[string]*podEntry{}, claims: map[netip.Addr][]*podEntry{}, spaces: map[string]*space{},
		policies: map[string]*compiledPolicy{}, selectors: map[string]*selector{}, wide: map[*selector]struct{}{},
		cluster: map[string]*compiledCluster{}, nodes: map[string]Node{}, nodeGroups: map[*group]struct{}{},
		groups: map[string]*group{}, blockers: map[*group]struct{}{}, shared: map[string]*sharedSet{}, classes: map[string]*class{},
	}
	c.base()
	return c, nil
}

// neighbourDiscovery are the ICMPv6 types without which IPv6 between the pods of a bridge stops: multicast listener (130-132, 143) and
// neighbour discovery (133-137). RFC 4890 section 4.4.
var neighbourDiscovery = [][]byte{{130}, {131}, {132}, {133}, {134}, {135}, {136}, {137}, {143}}

// base makes the part of the table that never changes.
func (c *Compiler) base() {
	local := [2]string{"local4", "local6"}
	for i, kind := range []SetKind{Blocks4, Blocks6} {
		var blocks []*block
		for _, p := range c.config.PodCIDRs {
			blocks = append(blocks, &block{prefix: p.Masked()})
		}
		set := c.store.set(local[i], kind)
		for _, r := range blockRanges(blocks, i == 1) {
			set.put(Element{Key: addressKey(r.first), End: addressKey(r.last)})
		}
	}
	discovery := c.store.set("neighbour-discovery", Messages)
	for _, message := range neighbourDiscovery {
		discovery.put(Element{Key: string(message)})
	}
	c.store.chain(unknownChain, []Rule{{Action: Drop, Comment: "no pod is known at this address"}})
	c.self = [2]*setState{c.store.set("self4", Pairs4), c.store.set("self6", Pairs6)}
	for _, d := range []Direction{Ingress, Egress} {
		c.classMaps[d] = [2]*setState{
			c.store.set(fmt.Sprintf("%s-class4", d), Classes4), c.store.set(fmt.Sprintf("%s-class6", d), Classes6),
		}
		// Egress stands first: its accept lets the packet go on to the ingress chain, only its drop is final.
		c.store.chain(deniedChain(d), []Rule{{Action: Drop, Comment: fmt.Sprintf("no policy allows this %s", d)}})
		c.store.baseChain("guard-"+d.String(), Forward, c.config.Priority-int32(d), c.baseRules(d))
	}
	if c.config.GuardNode {
		c.store.baseChain("guard-node", Input, c.config.Priority, c.baseRules(Egress))
	}
}

// Packets end in these chains, so that their counters outlive the policies.
const unknownChain = "unknown-address"

func deniedChain(d Direction) string { return "denied-" + d.String() }

func (c *Compiler) baseRules(d Direction) []Rule {
	classify, local := ClassifyTarget, TargetIn
	if d == Egress {
		classify, local = ClassifySource, SourceIn
	}
	rules := []Rule{
		{Conditions: []Condition{{Test: Established}}},
		{Family: 6, Conditions: []Condition{{NeighbourDiscovery, "neighbour-discovery"}}},
	}
	for i, family := range families {
		rules = append(rules,
			Rule{Family: family, Conditions: []Condition{{PairIn, c.self[i].name}}, Comment: "a pod reaches itself"},
			Rule{Family: family, Action: classify, Target: c.classMaps[d][i].name},
			Rule{Family: family, Conditions: []Condition{{local, fmt.Sprintf("local%d", family)}}, Action: Goto, Target: unknownChain})
	}
	return rules
}

var families = [2]uint8{4, 6}

func familyIndex(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// podEntry is a pod with what follows from it.
type podEntry struct {
	pod       Pod
	owned     []netip.Addr
	selectors map[*selector]struct{}
	class     [2]*class
}

// space is a namespace with its pods and the selectors that may find pods in it.
type space struct {
	name      string
	labels    map[string]string
	known     bool // by SetNamespace, not only because it has pods
	pods      map[string]*podEntry
	selectors map[*selector]struct{}
}

// SetPod adds a pod or replaces it.
func (c *Compiler) SetPod(pod Pod) {
	pod.IPs = slices.Clone(pod.IPs)
	for i, a := range pod.IPs {
		pod.IPs[i] = a.Unmap().WithZone("")
	}
	if old := c.pods[pod.Key()]; old != nil {
		if old.pod.equal(&pod) {
			return
		}
		c.removePod(old)
	}
	entry := &podEntry{pod: pod, selectors: map[*selector]struct{}{}}
	c.pods[pod.Key()] = entry
	if !pod.subject() {
		return
	}
	sp := c.space(pod.Namespace)
	sp.pods[pod.Key()] = entry
	for s := range sp.selectors {
		if s.pods.Matches(labels.Set(pod.Labels)) {
			s.link(entry)
		}
	}
	for _, a := range pod.IPs {
		c.claim(entry, a)
	}
	c.classify(entry)
}

// DeletePod forgets a pod.
func (c *Compiler) DeletePod(namespace, name string) {
	if entry := c.pods[namespace+"/"+name]; entry != nil {
		c.removePod(entry)
	}
}

func (c *Compiler) removePod(entry *podEntry) {
	delete(c.pods, entry.pod.Key())
	if !entry.pod.subject() {
		return
	}
	for _, a := range entry.pod.IPs {
		c.unclaim(entry, a)
	}
	for s := range entry.selectors {
		s.unlink(entry)
	}
	for d := range entry.class {
		c.releaseClass(entry.class[d])
	}
	sp := c.spaces[entry.pod.Namespace]
	delete(sp.pods, entry.pod.Key())
	c.dropSpace(sp)
}

// claim makes the entry one of those that want the address; the youngest pod gets it.
func (c *Compiler) claim(entry *podEntry, a netip.Addr) {
	list := c.claims[a]
	if slices.Contains(list, entry) || !a.IsValid() {
		return
	}
	c.claims[a] = append(list, entry)
	if owner := ownerOf(list); owner == nil || entry.pod.takesOver(&owner.pod) {
		if owner != nil {
			c.disown(owner, a)
		}
		c.own(entry, a)
	}
}

func (c *Compiler) unclaim(entry *podEntry, a netip.Addr) {
	list := slices.DeleteFunc(c.claims[a], func(e *podEntry) bool { return e == entry })
	if len(list) == 0 {
		delete(c.claims, a)
	} else {
		c.claims[a] = list
	}
	if slices.Contains(entry.owned, a) {
		c.disown(entry, a)
		if next := ownerOf(list); next != nil {
			c.own(next, a)
		}
	}
}

func ownerOf(list []*podEntry) *podEntry {
	var owner *podEntry
	for _, e := range list {
		if owner == nil || e.pod.takesOver(&owner.pod) {
			owner = e
		}
	}
	return owner
}

func (c *Compiler) own(entry *podEntry, a netip.Addr) {
	entry.owned = append(entry.owned, a)
	for s := range entry.selectors {
		for g := range s.groups {
			g.count(entry, a, 1)
		}
	}
	for g := range c.blockers {
		if g.holds(a) {
			g.count(entry, a, 1)
		}
	}
	if c.local(entry) {
		key := addressKey(a)
		c.self[familyIndex(a)].put(Element{Key: key + key})
		c.mapClass(entry, a)
	}
}

func (c *Compiler) disown(entry *podEntry, a netip.Addr) {
	for s := range entry.selectors {
		for g := range s.groups {
			g.count(entry, a, -1)
		}
	}
	for g := range c.blockers {
		if g.holds(a) {
			g.count(entry, a, -1)
		}
	}
	entry.owned = slices.DeleteFunc(entry.owned, func(b netip.Addr) bool { return a == b })
	key := addressKey(a)
	c.self[familyIndex(a)].remove(key + key)
	for d := range c.classMaps {
		c.classMaps[d][familyIndex(a)].remove(key)
	}
}

func (c *Compiler) local(entry *podEntry) bool {
	return c.config.Node == "" || entry.pod.Node == c.config.Node
}

// SetNamespace adds a namespace or changes its labels.
func (c *Compiler) SetNamespace(ns Namespace) {
	sp := c.space(ns.Name)
	sp.known = true
	sp.labels = withNameLabel(ns.Name, ns.Labels)
	c.matchSpace(sp)
}

// DeleteNamespace forgets a namespace's labels. Pods that are still there stay.
func (c *Compiler) DeleteNamespace(name string) {
	sp := c.spaces[name]
	if sp == nil {
		return
	}
	sp.known = false
	sp.labels = withNameLabel(name, nil)
	c.matchSpace(sp)
	c.dropSpace(sp)
}

func (c *Compiler) space(name string) *space {
	sp := c.spaces[name]
	if sp == nil {
		sp = &space{name: name, labels: withNameLabel(name, nil), pods: map[string]*podEntry{}, selectors: map[*selector]struct{}{}}
		c.spaces[name] = sp
		c.matchSpace(sp)
	}
	return sp
}

// dropSpace forgets a namespace of which nothing is left.
func (c *Compiler) dropSpace(sp *space) {
	if sp.known || len(sp.pods) > 0 {
		return
	}
	for s := range sp.selectors {
		if s.namespaces == nil {
			return
		}
	}
	delete(c.spaces, sp.name)
}

// matchSpace finds out anew which selectors by namespace labels look into the namespace.
func (c *Compiler) matchSpace(sp *space) {
	affected := map[*podEntry]struct{}{} // pods that other policies guard now
	defer func() {
		for e := range affected {
			c.classify(e)
		}
	}()
	for s := range c.wide {
		_, had := sp.selectors[s]
		has := s.namespaces.Matches(labels.Set(sp.labels))
		if had != has && len(s.cluster) > 0 {
			for _, e := range sp.pods {
				affected[e] = struct{}{}
			}
		}
		switch {
		case has && !had:
			sp.selectors[s] = struct{}{}
			for _, e := range sp.pods {
				if s.pods.Matches(labels.Set(e.pod.Labels)) {
					s.join(e)
				}
			}
		case had && !has:
			delete(sp.selectors, s)
			for _, e := range sp.pods {
				s.leave(e)
			}
		}
	}
}

// SetPolicy adds a policy or replaces it. Defects are returned; the sound rest of the policy is in force.
func (c *Compiler) SetPolicy(np *networkingv1.NetworkPolicy) []Problem {
	parsed, problems := parsePolicy(np)
	old := c.policies[parsed.key()]
	fresh := c.compilePolicy(parsed) // before the old one is released, so that what both use stays
	c.policies[parsed.key()] = fresh
	affected := map[*podEntry]struct{}{}
	if old != nil {
		c.releasePolicy(old, fresh, affected)
	}
	fresh.subject.policies[fresh] = struct{}{}
	for e := range fresh.subject.members {
		affected[e] = struct{}{}
	}
	for e := range affected {
		c.classify(e)
	}
	return problems
}

// DeletePolicy forgets a policy.
func (c *Compiler) DeletePolicy(namespace, name string) {
	old := c.policies[namespace+"/"+name]
	if old == nil {
		return
	}
	delete(c.policies, namespace+"/"+name)
	affected := map[*podEntry]struct{}{}
	c.releasePolicy(old, nil, affected)
	for e := range affected {
		c.classify(e)
	}
}

// Ruleset returns the complete wanted table.
func (c *Compiler) Ruleset() *Ruleset { return c.store.ruleset(c.config.Table) }

// Changes returns what changed since the last call (or since the beginning) and begins anew. A caller that fails to apply
// them must apply the whole Ruleset.
func (c *Compiler) Changes() *Changes { return c.store.changes(c.config.Table) }
