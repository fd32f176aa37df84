package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// class is what pods guarded by the same policies have in common: a chain.
type class struct {
	key       string
	direction Direction
	refs      int
	chain     *chainState // nil for the class of pods that no policy guards
	// The chain of a class with policies of a tier holds their rules, because Pass has to lead on to rest, which differs from class to class.
	cluster []*compiledCluster
	rest    *class
}

// guards are the policies for one direction of a pod: tier Admin, NetworkPolicies, tier Baseline, each in order.
type guards struct {
	admin, baseline []*compiledCluster
	policies        []*compiledPolicy
}

func (e *podEntry) guards(d Direction) guards {
	var g guards
	for s := range e.selectors {
		for p := range s.policies {
			if p.policy.isolates(d) {
				g.policies = append(g.policies, p)
			}
		}
		for p := range s.cluster {
			switch {
			case len(p.policy.rules(d)) == 0:
			case p.policy.tier == AdminTier:
				g.admin = append(g.admin, p)
			default:
				g.baseline = append(g.baseline, p)
			}
		}
	}
	slices.SortFunc(g.policies, func(a, b *compiledPolicy) int { return cmp.Compare(a.policy.key(), b.policy.key()) })
	for _, list := range [][]*compiledCluster{g.admin, g.baseline} {
		slices.SortFunc(list, func(a, b *compiledCluster) int { return a.policy.before(b.policy) })
	}
	if len(g.policies) > 0 {
		g.baseline = nil // NetworkPolicies always decide
	}
	return g
}

// classify finds the pod's classes and writes them to the maps.
func (c *Compiler) classify(e *podEntry) {
	if !c.local(e) {
		return
	}
	for _, d := range []Direction{Ingress, Egress} {
		fresh := c.acquireClass(d, e.guards(d))
		c.releaseClass(e.class[d])
		if fresh != e.class[d] {
			e.class[d] = fresh
			for _, a := range e.owned {
				c.mapClass(e, a)
			}
		}
	}
}

// mapClass writes the classes of one address, once they are known.
func (c *Compiler) mapClass(e *podEntry, a netip.Addr) {
	for d, cl := range e.class {
		if cl == nil {
			continue
		}
		element := Element{Key: addressKey(a)}
		if cl.chain != nil {
			element.Chain = cl.chain.name
		}
		c.classMaps[d][familyIndex(a)].put(element)
	}
}

func (c *Compiler) acquireClass(d Direction, g guards) *class {
	key := d.String()
	for _, p := range g.admin {
		key += "\nAdmin " + p.policy.name
	}
	for _, p := range g.policies {
		key += "\n" + p.policy.key()
	}
	for _, p := range g.baseline {
		key += "\nBaseline " + p.policy.name
	}
	if cl := c.classes[key]; cl != nil {
		cl.refs++
		return cl
	}
	cl := &class{key: key, direction: d, refs: 1}
	c.classes[key] = cl
	var rules []Rule
	switch {
	case len(g.admin) > 0:
		cl.cluster = g.admin
		cl.rest = c.acquireClass(d, guards{policies: g.policies, baseline: g.baseline})
		rules = cl.clusterRules()
	case len(g.policies) > 0:
		for _, p := range g.policies {
			rules = append(rules, Rule{Action: Jump, Target: p.chains[d].name})
		}
		rules = append(rules, Rule{Action: Goto, Target: deniedChain(d)})
	case len(g.baseline) > 0:
		cl.cluster = g.baseline
		rules = cl.clusterRules()
	default:
		return cl
	}
	cl.chain = c.store.chain(fmt.Sprintf("%s-class/%s", d, digest(key)), rules)
	return cl
}

// clusterRules are the rules of the class's tier, in order, and the way on.
func (cl *class) clusterRules() []Rule {
	next := Rule{Action: Accept}
	if cl.rest != nil && cl.rest.chain != nil {
		next = Rule{Action: Goto, Target: cl.rest.chain.name}
	}
	var out []Rule
	for _, p := range cl.cluster {
		for i, rules := range p.rules[cl.direction] {
			for _, r := range rules {
				switch p.policy.rules(cl.direction)[i].action {
				case ActionDeny:
					r.Action, r.Target = Goto, deniedChain(cl.direction)
				case ActionPass:
					r.Action, r.Target = next.Action, next.Target
				}
				out = append(out, r)
			}
		}
	}
	return append(out, next)
}

func (c *Compiler) releaseClass(cl *class) {
	if cl == nil {
		return
	}
	if cl.refs--; cl.refs > 0 {
		return
	}
	delete(c.classes, cl.key)
	if cl.chain != nil {
		c.store.deleteChain(cl.chain)
	}
	c.releaseClass(cl.rest)
}

// compiledCluster is a ClusterPolicy with all that it holds on to. It lives as long as its name, so that classes can refer to it.
type compiledCluster struct {
	policy  *clusterPolicy
	subject *selector
	rules   [2][][]Rule // by direction and rule; their action is still to be set
	held    holder
}

// SetClusterPolicy adds a policy or replaces it. Defects are returned; a rule with a defect fails closed.
func (c *Compiler) SetClusterPolicy(in *ClusterPolicy) []Problem {
	parsed, problems := parseClusterPolicy(in)
	p := c.cluster[parsed.name]
	affected := map[*podEntry]struct{}{}
	var old compiledCluster
	if p == nil {
		p = &compiledCluster{}
		c.cluster[parsed.name] = p
	} else {
		old = *p
		p.held = nil
		delete(old.subject.cluster, p)
		old.subject.mark(affected)
	}
	p.policy = parsed
	p.subject = c.acquireSelector(parsed.subject.namespace, parsed.subject.namespaces, parsed.subject.pods)
	p.subject.cluster[p] = struct{}{}
	p.subject.mark(affected)
	for _, d := range []Direction{Ingress, Egress} {
		p.rules[d] = nil
		for i, r := range parsed.rules(d) {
			comment := fmt.Sprintf("%s %s: %s %s", parsed.tier, parsed.name, d, r.label(i))
			p.rules[d] = append(p.rules[d], c.compileRule(&p.held, p.subject, d, short(comment), &r.rule))
		}
	}
	for e := range affected {
		c.classify(e)
	}
	c.renderClasses(p)
	if old.subject != nil {
		old.held.release()
		c.releaseSelector(old.subject)
	}
	return problems
}

// DeleteClusterPolicy forgets a policy.
func (c *Compiler) DeleteClusterPolicy(name string) {
	p := c.cluster[name]
	if p == nil {
		return
	}
	delete(c.cluster, name)
	affected := map[*podEntry]struct{}{}
	delete(p.subject.cluster, p)
	p.subject.mark(affected)
	for e := range affected {
		c.classify(e)
	}
	p.held.release()
	c.releaseSelector(p.subject)
}

// ClusterTies names policies of one tier and priority: which of them comes first is nothing to rely on.
func (c *Compiler) ClusterTies() []Problem {
	list := make([]*clusterPolicy, 0, len(c.cluster))
	for _, p := range c.cluster {
		list = append(list, p.policy)
	}
	_, problems := sortCluster(list)
	return problems
}

// renderClasses writes the chains anew that hold rules of the policy.
func (c *Compiler) renderClasses(p *compiledCluster) {
	for _, cl := range c.classes {
		if slices.Contains(cl.cluster, p) {
			c.store.chain(cl.chain.name, cl.clusterRules())
		}
	}
}

func (s *selector) mark(affected map[*podEntry]struct{}) {
	for e := range s.members {
		affected[e] = struct{}{}
	}
}

// SetNode adds a node or replaces it: egress rules of ClusterPolicies can name nodes.
func (c *Compiler) SetNode(n Node) {
	c.DeleteNode(n.Name)
	n.IPs = slices.Clone(n.IPs)
	c.nodes[n.Name] = n
	for g := range c.nodeGroups {
		g.countNode(n, 1)
	}
}

// DeleteNode forgets a node.
func (c *Compiler) DeleteNode(name string) {
	n, ok := c.nodes[name]
	if !ok {
		return
	}
	delete(c.nodes, name)
	for g := range c.nodeGroups {
		g.countNode(n, -1)
	}
}

// short keeps a comment below the kernel's limit for what belongs to a rule (256 bytes).
func short(comment string) string {
	if len(comment) > 200 {
		return strings.ToValidUTF8(comment[:200], "")
	}
	return comment
}
