package network

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	packets "github.com/weft-dev/weft/network"
)

func rules(t testing.TB, levels []string, spaces []Space, isolated ...string) *Rules {
	t.Helper()
	registry, err := level.NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "base"}, {Name: "low"}, {Name: "high"}}})
	if err != nil {
		t.Fatal(err)
	}
	m := &level.Model{Registry: registry}
	workspaces := map[string]bool{}
	for i, s := range spaces {
		n := level.Namespace{Name: s.Name, Workspace: s.Workspace}
		if levels[i] != "" {
			l, err := registry.Parse(levels[i])
			if err != nil {
				t.Fatal(err)
			}
			n.Label = &l
		}
		m.Namespaces = append(m.Namespaces, n)
		if s.Workspace != "" && !workspaces[s.Workspace] {
			workspaces[s.Workspace] = true
			m.Workspaces = append(m.Workspaces, level.Workspace{Name: s.Workspace})
		}
	}
	return NewRules(level.NewSnapshot(m, time.Now()), spaces, isolated)
}

// Each step of the order of conflicts is seen to hold against all that follow it.
func TestOrder(t *testing.T) {
	r := rules(t, []string{"base", "low", "high", "low", "low", "low", "low", "", "low"}, []Space{
		{Name: "base"}, {Name: "peer"},
		{Name: "high", Allow: []string{"base", "peer"}},
		{Name: "black", Deny: []string{"peer"}, Allow: []string{"peer", "level"}},
		{Name: "white", Allow: []string{"peer"}, Isolated: true},
		{Name: "levels", Allow: []string{"level"}, Isolated: true},
		{Name: "isolated", Isolated: true},
		{Name: "kube-system"},
		{Name: "shop", Workspace: "shop"},
	}, "shop")
	for _, c := range []struct {
		from, to string
		allowed  bool
		rule     Rule
	}{
		{"peer", "high", false, Level}, {"base", "high", false, Level}, {"high", "peer", true, Open},
		{"peer", "black", false, BlackList}, {"white", "black", true, LevelList},
		{"peer", "white", true, WhiteList}, {"high", "white", false, Isolation}, {"base", "white", false, Level},
		{"high", "levels", true, LevelList}, {"peer", "levels", true, LevelList}, {"base", "levels", false, Level},
		{"peer", "isolated", false, Isolation}, {"isolated", "isolated", true, Open},
		{"kube-system", "high", false, Isolation}, {"kube-system", "peer", true, Open}, {"peer", "kube-system", false, Level},
		{"peer", "shop", false, Isolation}, {"shop", "peer", true, Open},
		{"unknown", "peer", false, Level}, {"unknown", "base", true, Open},
	} {
		if got := r.Judge(c.from, c.to); got.Allowed != c.allowed || got.Rule != c.rule {
			t.Errorf("%s to %s: %+v", c.from, c.to, got)
		}
	}
}

func TestFindings(t *testing.T) {
	r := rules(t, []string{"base", "low", "low"}, []Space{{Name: "base"}, {Name: "peer"},
		{Name: "it", Deny: []string{"base", "peer", "ghost"}, Allow: []string{"peer", "base", "workspace:none", "*"}}})
	var got []string
	for _, f := range r.Findings() {
		got = append(got, strings.TrimPrefix(f.Annotation, "level.weft.dev/network-")+" "+f.Entry+": "+f.Message)
	}
	want := []string{
		"deny ghost: names nothing that is there: a namespace, workspace:NAME or *",
		"allow workspace:none: names nothing that is there: a namespace, workspace:NAME or *",
		"allow peer: contradicts level.weft.dev/network-deny, which holds",
		"allow base: contradicts level.weft.dev/network-deny, which holds",
		"deny base: refuses what levels refuse already: base",
		"allow base: lets nothing in: levels refuse base",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// random makes namespaces with random levels, lists and isolation, and a pod or two in each.
func random(t testing.TB, seed uint64) (*Rules, packets.Objects) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var spaces []Space
	var levels []string
	name := func(i int) string { return fmt.Sprint("n", i) }
	count := 3 + rnd.IntN(6)
	list := func() []string {
		var all []string
		for range rnd.IntN(3) {
			all = append(all, []string{name(rnd.IntN(count)), "workspace:w0", "workspace:w1", "*"}[rnd.IntN(4)])
		}
		return all
	}
	var o packets.Objects
	for i := range count {
		s := Space{Name: name(i), Isolated: rnd.IntN(4) == 0}
		if rnd.IntN(2) == 0 {
			s.Workspace = fmt.Sprint("w", rnd.IntN(2))
		}
		if rnd.IntN(3) == 0 {
			s.Deny = list()
		}
		if rnd.IntN(3) == 0 {
			s.Allow = append(list(), []string{"level", "n0"}[rnd.IntN(2)])
		}
		spaces = append(spaces, s)
		levels = append(levels, []string{"", "base", "low", "high"}[rnd.IntN(4)])
		o.Namespaces = append(o.Namespaces, packets.Namespace{Name: s.Name})
		for j := range 2 {
			o.Pods = append(o.Pods, packets.Pod{Namespace: s.Name, Name: fmt.Sprint("p", j), IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, byte(i), byte(j + 1)})}})
		}
	}
	return rules(t, levels, spaces, []string{"w0", "w1", "w2"}[rnd.IntN(3)]), o
}

// What the rules say is what the compiled policies do, in all three forms, between all pods.
func TestCompiledFormsAgreeWithTheRules(t *testing.T) {
	for seed := range uint64(300) {
		r, o := random(t, seed)
		cluster, err := r.ClusterPolicies()
		if err != nil {
			t.Fatal(err)
		}
		first, second := o, o
		first.Cluster = cluster
		second.Policies = r.Policies(nil)
		matrix := r.Matrix("weft", o.Pods)
		denied := map[string]bool{}
		for from, list := range matrix.Denied {
			for _, to := range list {
				denied[from+">"+to] = true
			}
		}
		a, b := packets.NewSnapshot(first), packets.NewSnapshot(second)
		if p := append(a.Problems(), b.Problems()...); len(p) > 0 {
			t.Fatal(seed, p)
		}
		for i := range o.Pods {
			for j := range o.Pods {
				from, to := &o.Pods[i], &o.Pods[j]
				if i == j {
					continue
				}
				want := r.Judge(from.Namespace, to.Namespace)
				for form, s := range map[string]*packets.Snapshot{"ClusterNetworkPolicies": a, "NetworkPolicies": b} {
					x, y := s.Between(from, to, false)
					if d := packets.Evaluate(s, x, y, packets.TCP, 80); d.Allowed != want.Allowed {
						t.Fatalf("%d: %s to %s: %+v, but %s: %s", seed, from.Key(), to.Key(), want, form, d)
					}
				}
				if got := !denied[matrix.Addresses[from.IPs[0]]+">"+matrix.Addresses[to.IPs[0]]]; got != want.Allowed {
					t.Fatalf("%d: %s to %s: %+v, but the matrix says %v", seed, from.Key(), to.Key(), want, got)
				}
			}
		}
		if breaches := r.Check(first, packets.TCP, 80); len(breaches) > 0 {
			t.Fatal(seed, breaches)
		}
	}
}

// A namespace that appears after the policies were made is refused where its level is too low, until it is known.
func TestANewNamespaceIsRefused(t *testing.T) {
	r := rules(t, []string{"high"}, []Space{{Name: "high"}})
	o := packets.Objects{Namespaces: []packets.Namespace{{Name: "high"}, {Name: "new"}}, Pods: []packets.Pod{
		{Namespace: "high", Name: "a", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}, {Namespace: "new", Name: "b", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}}}
	cluster, err := r.ClusterPolicies()
	if err != nil {
		t.Fatal(err)
	}
	first, second := o, o
	first.Cluster, second.Policies = cluster, r.Policies(nil)
	for _, objects := range []packets.Objects{first, second} {
		s := packets.NewSnapshot(objects)
		from, to := s.Between(s.Pod("new", "b"), s.Pod("high", "a"), false)
		if d := packets.Evaluate(s, from, to, packets.TCP, 80); d.Allowed {
			t.Error("a new namespace reaches a high one:", d)
		}
	}
}

// A NetworkPolicy of one's own opens nothing that a ClusterNetworkPolicy closes, and where there are none of these it is told.
func TestAPolicyOfOnesOwn(t *testing.T) {
	r := rules(t, []string{"high", "low"}, []Space{{Name: "high"}, {Name: "low"}})
	o := packets.Objects{Namespaces: []packets.Namespace{{Name: "high"}, {Name: "low"}}, Pods: []packets.Pod{
		{Namespace: "high", Name: "a", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}, {Namespace: "low", Name: "b", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}}}
	open := r.Policies(nil)[0].DeepCopy()
	open.Name = "open"
	open.Spec.Ingress[0].From = nil
	cluster, err := r.ClusterPolicies()
	if err != nil {
		t.Fatal(err)
	}
	first, second := o, o
	first.Cluster, first.Policies = cluster, append(r.Policies(nil), open)
	second.Policies = first.Policies
	if b := r.Check(first, packets.TCP, 80); len(b) > 0 {
		t.Error("a namespace's own policy opens what levels close:", b)
	}
	if b := r.Check(second, packets.TCP, 80); len(b) != 1 || b[0].From != "low/b" {
		t.Error("the breach is not told:", b)
	}
}

func TestCompare(t *testing.T) {
	before := rules(t, []string{"low", "low"}, []Space{{Name: "a"}, {Name: "b"}})
	after := rules(t, []string{"low", "low", "high"}, []Space{{Name: "a", Deny: []string{"b"}}, {Name: "b"}, {Name: "c"}})
	got := Compare(before, after)
	var pairs []string
	for _, p := range got {
		pairs = append(pairs, fmt.Sprint(p.From, ">", p.To, " ", p.After.Rule))
	}
	if want := []string{"a>c Level", "b>a BlackList", "b>c Level", "c>a Open", "c>b Open"}; !slices.Equal(pairs, want) {
		t.Errorf("%v", pairs)
	}
}
