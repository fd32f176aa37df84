package network

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
)

var testConfig = Config{Table: "weft-test", Node: "n1", PodCIDRs: prefixes("10.244.0.0/24", "fd00:10:244::/64")}

func newTestCompiler(t testing.TB) *Compiler {
	t.Helper()
	c, err := NewCompiler(testConfig)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// scratch compiles the objects all at once.
func scratch(t testing.TB, o Objects) *Ruleset {
	c := newTestCompiler(t)
	for _, ns := range o.Namespaces {
		c.SetNamespace(ns)
	}
	for _, p := range o.Pods {
		c.SetPod(p)
	}
	for _, np := range o.Policies {
		c.SetPolicy(np)
	}
	for _, cp := range o.Cluster {
		c.SetClusterPolicy(cp)
	}
	for _, n := range o.Nodes {
		c.SetNode(n)
	}
	return c.Ruleset()
}

// model is the state that a sequence of random steps leads to.
type model struct {
	pods       map[string]Pod
	namespaces map[string]Namespace
	policies   map[string]*networkingv1.NetworkPolicy
	cluster    map[string]*ClusterPolicy
	nodes      map[string]Node
}

func newModel() *model {
	return &model{map[string]Pod{}, map[string]Namespace{}, map[string]*networkingv1.NetworkPolicy{}, map[string]*ClusterPolicy{}, map[string]Node{}}
}

func (m *model) objects() Objects {
	return Objects{Cluster: slices.Collect(maps.Values(m.cluster)), Nodes: slices.Collect(maps.Values(m.nodes)), Pods: slices.Collect(maps.Values(m.pods)), Namespaces: slices.Collect(maps.Values(m.namespaces)),
		Policies: slices.Collect(maps.Values(m.policies))}
}

// step does one random thing to both.
func (m *model) step(g generator, c *Compiler) {
	ns, name := pick(g, spaceNames...), pick(g, "a", "b", "c")
	key := ns + "/" + name
	switch g.IntN(12) {
	case 8, 9:
		cp := g.clusterPolicy(name)
		m.cluster[name] = cp
		c.SetClusterPolicy(cp)
	case 10:
		delete(m.cluster, name)
		c.DeleteClusterPolicy(name)
	case 11:
		n := Node{Name: name, Labels: g.labels(), IPs: addrs(200 + g.IntN(3))}
		if g.chance(50) {
			delete(m.nodes, name)
			c.DeleteNode(name)
			break
		}
		m.nodes[name] = n
		c.SetNode(n)
	case 0, 1:
		p := g.pod(ns, name, 1+g.IntN(12)) // two pods may claim one address
		p.HostNetwork, p.Finished = g.chance(10), g.chance(10)
		p.Node = pick(g, "n1", "n1", "n2")
		if g.chance(20) {
			p.IPs = nil
		}
		m.pods[key] = p
		c.SetPod(p)
	case 2:
		delete(m.pods, key)
		c.DeletePod(ns, name)
	case 3:
		n := Namespace{Name: ns, Labels: g.labels()}
		m.namespaces[ns] = n
		c.SetNamespace(n)
	case 4:
		delete(m.namespaces, ns)
		c.DeleteNamespace(ns)
	case 5, 6:
		np := g.policy(ns, name)
		m.policies[key] = np
		c.SetPolicy(np)
	case 7:
		delete(m.policies, key)
		c.DeletePolicy(ns, name)
	}
}

// Whatever the order of events, the table is the one that a fresh start would make.
func TestIncrementalEqualsScratch(t *testing.T) {
	for seed := range uint64(60) {
		g := newGenerator(seed)
		c := newTestCompiler(t)
		m := newModel()
		applied := replay{}
		for i := range 60 {
			m.step(g, c)
			if want, got := scratch(t, m.objects()).String(), c.Ruleset().String(); want != got {
				t.Fatalf("seed %d step %d: incremental (+) and from scratch (-) differ\n%s", seed, i, lineDifference(want, got))
			}
			if g.chance(40) {
				applied.apply(t, c.Changes())
				if want, got := c.Ruleset().String(), applied.ruleset().String(); want != got {
					t.Fatalf("seed %d step %d: what the changes lead to (+) and what is wanted (-)\n%s", seed, i, lineDifference(want, got))
				}
			}
		}
		for key := range m.policies {
			ns, name, _ := strings.Cut(key, "/")
			c.DeletePolicy(ns, name)
		}
		for key := range m.pods {
			ns, name, _ := strings.Cut(key, "/")
			c.DeletePod(ns, name)
		}
		for ns := range m.namespaces {
			c.DeleteNamespace(ns)
		}
		for name := range m.cluster {
			c.DeleteClusterPolicy(name)
		}
		for name := range m.nodes {
			c.DeleteNode(name)
		}
		if want, got := newTestCompiler(t).Ruleset().String(), c.Ruleset().String(); want != got {
			t.Fatalf("seed %d: after everything is deleted there remains\n%s", seed, got)
		}
		if n := len(c.pods) + len(c.claims) + len(c.spaces) + len(c.selectors) + len(c.groups) + len(c.shared) + len(c.classes) + len(c.wide) + len(c.blockers) + len(c.cluster) + len(c.nodes) + len(c.nodeGroups); n > 0 {
			t.Fatalf("seed %d: %d things are still held: %d spaces, %d selectors, %d groups, %d classes", seed, n, len(c.spaces), len(c.selectors), len(c.groups), len(c.classes))
		}
	}
}

// replay is a table in memory that refuses what the kernel would refuse.
type replay struct {
	sets   map[string]map[Element]bool
	kinds  map[string]SetKind
	chains map[string]Chain
}

func (r *replay) apply(t testing.TB, c *Changes) {
	t.Helper()
	if r.sets == nil {
		r.sets, r.kinds, r.chains = map[string]map[Element]bool{}, map[string]SetKind{}, map[string]Chain{}
	}
	fail := func(format string, args ...any) { t.Helper(); t.Fatalf(format, args...) }
	for _, s := range c.AddSets {
		if r.sets[s.Name] != nil {
			fail("set %s is added twice", s.Name)
		}
		r.sets[s.Name], r.kinds[s.Name] = map[Element]bool{}, s.Kind
	}
	for _, s := range c.DeleteElements {
		for _, e := range s.Elements {
			if !r.sets[s.Name][e] {
				fail("set %s: element %v to delete is not there", s.Name, e)
			}
			delete(r.sets[s.Name], e)
		}
	}
	for _, s := range append(slices.Clone(c.AddSets), c.AddElements...) {
		for _, e := range s.Elements {
			if r.sets[s.Name] == nil || r.sets[s.Name][e] {
				fail("set %s: element %v is added twice or has no set", s.Name, e)
			}
			r.sets[s.Name][e] = true
		}
	}
	for _, ch := range c.AddChains {
		if _, ok := r.chains[ch.Name]; ok {
			fail("chain %s is added twice", ch.Name)
		}
		r.chains[ch.Name] = ch
	}
	for _, ch := range c.ReplaceChains {
		if _, ok := r.chains[ch.Name]; !ok {
			fail("chain %s is replaced but not there", ch.Name)
		}
		r.chains[ch.Name] = ch
	}
	for _, name := range c.DeleteChains {
		delete(r.chains, name)
	}
	for _, s := range c.DeleteSets {
		delete(r.sets, s.Name)
	}
	for name, ch := range r.chains {
		for _, rule := range ch.Rules {
			if _, ok := r.chains[rule.Target]; (rule.Action == Jump || rule.Action == Goto) && !ok {
				fail("chain %s jumps to %s, which is gone", name, rule.Target)
			}
			for _, cond := range rule.Conditions {
				if cond.Set != "" && r.sets[cond.Set] == nil {
					fail("chain %s uses set %s, which is gone", name, cond.Set)
				}
			}
		}
	}
	for name, set := range r.sets {
		for e := range set {
			if _, ok := r.chains[e.Chain]; e.Chain != "" && !ok {
				fail("map %s leads to %s, which is gone", name, e.Chain)
			}
		}
	}
}

func (r *replay) ruleset() *Ruleset {
	out := &Ruleset{Table: testConfig.Table}
	for name, set := range r.sets {
		s := Set{Name: name, Kind: r.kinds[name], Elements: slices.Collect(maps.Keys(set))}
		sortElements(s.Elements)
		out.Sets = append(out.Sets, s)
	}
	for _, ch := range r.chains {
		out.Chains = append(out.Chains, ch)
	}
	sortSets(out.Sets)
	sortChains(out.Chains)
	return out
}

// The number of rules depends on what a policy says, never on how many pods it concerns; and one pod changes only elements.
func TestPodsChangeOnlyElements(t *testing.T) {
	c := newTestCompiler(t)
	for _, np := range parseYAML(t, everyForm) {
		c.SetPolicy(np)
	}
	c.SetPod(Pod{Namespace: "x", Name: "first", Labels: map[string]string{"pod": "a"}, IPs: addrs(1), Node: "n1"})
	before := c.Changes()
	if before.Empty() {
		t.Fatal("no changes at the beginning")
	}
	rules := countRules(c.Ruleset())
	for i := range 200 {
		c.SetPod(Pod{Namespace: "x", Name: fmt.Sprint("p", i), Labels: map[string]string{"pod": "a"}, IPs: addrs(i + 2), Node: "n1"})
	}
	if n := countRules(c.Ruleset()); n != rules {
		t.Errorf("%d rules with one pod, %d with 201", rules, n)
	}
	c.Changes()
	c.SetPod(Pod{Namespace: "x", Name: "one-more", Labels: map[string]string{"pod": "a"}, IPs: addrs(250), Node: "n1"})
	changes := c.Changes()
	if len(changes.AddSets)+len(changes.AddChains)+len(changes.ReplaceChains)+len(changes.DeleteElements) > 0 || changes.Size() > 8 {
		t.Errorf("one pod changed %+v", changes)
	}
}

func countRules(r *Ruleset) (n int) {
	for _, ch := range r.Chains {
		n += len(ch.Rules)
	}
	return n
}

func TestBadConfig(t *testing.T) {
	for _, name := range []string{"", "4pods", "a b", "x}; drop", strings.Repeat("a", 64)} {
		if _, err := NewCompiler(Config{Table: name}); err == nil || !strings.Contains(err.Error(), "table name") {
			t.Errorf("table name %q: %v", name, err)
		}
	}
}

// What is done and undone between two writes is not written.
func TestNothingChanged(t *testing.T) {
	c := newTestCompiler(t)
	o := newGenerator(4).objects()
	for _, p := range o.Pods {
		c.SetPod(p)
	}
	for _, np := range o.Policies {
		c.SetPolicy(np)
	}
	for _, cp := range o.Cluster {
		c.SetClusterPolicy(cp)
	}
	c.Changes()
	other := o.Pods[0]
	other.IPs, other.Labels = addrs(99), map[string]string{"app": "elsewhere"}
	c.SetPod(other)
	c.SetPod(o.Pods[0])
	for _, np := range o.Policies {
		c.DeletePolicy(np.Namespace, np.Name)
	}
	for _, np := range o.Policies {
		c.SetPolicy(np)
	}
	for _, cp := range o.Cluster {
		c.SetClusterPolicy(cp)
	}
	if changes := c.Changes(); !changes.Empty() {
		t.Errorf("nothing changed, but %d things are written: %+v", changes.Size(), changes)
	}
}

// A pod that has ended has lost its address: whoever got it is judged as itself. Of two living ones the younger has it.
func TestAddressIsUsedAgain(t *testing.T) {
	o := scenarioObjects(t, `{metadata: {name: deny}, spec: {podSelector: {matchLabels: {pod: old}}}}`)
	old := Pod{Namespace: "x", Name: "old", Labels: map[string]string{"pod": "old"}, IPs: addrs(100), Node: "n1", Created: time.Unix(200, 0)}
	young := Pod{Namespace: "y", Name: "young", Labels: map[string]string{"pod": "young"}, IPs: addrs(100), Node: "n1", Created: time.Unix(100, 0)}
	for _, c := range []struct {
		finished bool
		want     bool
	}{{true, true}, {false, false}} {
		old.Finished = c.finished
		o.Pods = append(o.Pods[:9:9], old, young)
		s := NewSnapshot(o)
		d := Evaluate(s, s.Address(addrs(2)[0]), s.Address(addrs(100)[0]), TCP, 80)
		if d.Allowed != c.want {
			t.Errorf("finished %v: %s", c.finished, d)
		}
		agree(t, o)
	}
}
