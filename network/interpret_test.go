package network

import (
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// passes interprets the ruleset for the first packet of a connection, as the kernel would.
func (r *Ruleset) passes(from, to netip.Addr, protocol Protocol, port uint16) bool {
	p := interpreter{ruleset: r, from: from, to: to, protocol: protocol, port: port}
	for _, name := range []string{"guard-egress", "guard-ingress"} {
		if p.chain(name) == Deny {
			return false
		}
	}
	return true
}

type interpreter struct {
	ruleset  *Ruleset
	from, to netip.Addr
	protocol Protocol
	port     uint16
}

func (p *interpreter) chain(name string) Verdict {
	for _, ch := range p.ruleset.Chains {
		if ch.Name != name {
			continue
		}
		for _, rule := range ch.Rules {
			if v, end := p.rule(rule); end {
				return v
			}
		}
		return Next
	}
	panic("no chain " + name)
}

// rule reports whether the rule ends the chain, and how.
func (p *interpreter) rule(r Rule) (Verdict, bool) {
	if r.Family != 0 && (r.Family == 4) != p.from.Is4() {
		return Next, false
	}
	for _, c := range r.Conditions {
		if !p.condition(c) {
			return Next, false
		}
	}
	address := p.to
	switch r.Action {
	case Accept:
		return Allow, true
	case Drop:
		return Deny, true
	case Jump:
		v := p.chain(r.Target)
		return v, v != Next
	case Goto:
		return p.chain(r.Target), true
	case ClassifySource:
		address = p.from
	}
	e, ok := p.lookup(r.Target, addressKey(address))
	switch {
	case !ok:
		return Next, false
	case e.Chain == "":
		return Allow, true
	}
	return p.chain(e.Chain), true
}

func (p *interpreter) condition(c Condition) bool {
	var key string
	switch c.Test {
	case Established:
		return false
	case NeighbourDiscovery:
		return false // no probe is one
	case SourceIn:
		key = addressKey(p.from)
	case TargetIn:
		key = addressKey(p.to)
	case PairIn:
		key = addressKey(p.from) + addressKey(p.to)
	case PortIn:
		key = portKey(p.protocol, p.port)
	case TargetPortIn:
		key = addressKey(p.to) + portKey(p.protocol, p.port)
	}
	_, ok := p.lookup(c.Set, key)
	return ok
}

func (p *interpreter) lookup(name, key string) (Element, bool) {
	for _, s := range p.ruleset.Sets {
		if s.Name != name {
			continue
		}
		for _, e := range s.Elements {
			if e.Key == key || (e.End != "" && within(s.Kind, key, e)) {
				return e, true
			}
		}
		return Element{}, false
	}
	panic("no set " + name)
}

// within compares a range field by field, as the kernel does for concatenations.
func within(k SetKind, key string, e Element) bool {
	if k != Ports {
		return e.Key <= key && key <= e.End
	}
	return e.Key[:4] <= key[:4] && key[:4] <= e.End[:4] && e.Key[4:] <= key[4:] && key[4:] <= e.End[4:]
}

// agree checks Evaluate against the compiled rules for flows between all places of the objects.
func agree(t testing.TB, o Objects) {
	t.Helper()
	r, s := scratch(t, o), NewSnapshot(o)
	places := [2][]netip.Addr{{mustParse("192.0.2.10")}, {mustParse("2001:db8::10")}}
	for _, p := range o.Pods {
		for _, a := range p.IPs {
			places[familyIndex(a)] = append(places[familyIndex(a)], a)
		}
	}
	for _, list := range places {
		for _, from := range list {
			for _, to := range list {
				for _, probe := range []struct {
					protocol Protocol
					port     uint16
				}{{TCP, 80}, {TCP, 81}, {UDP, 80}, {UDP, 5005}, {SCTP, 8080}, {TCP, 65535}, {ICMP, 0}} {
					d := Evaluate(s, s.Address(from), s.Address(to), probe.protocol, probe.port)
					if got := r.passes(from, to, probe.protocol, probe.port); got != d.Allowed {
						y, _ := yaml.Marshal(struct {
							Policies []*networkingv1.NetworkPolicy
							Cluster  []*ClusterPolicy
						}{o.Policies, o.Cluster})
						t.Fatalf("%s -> %s %s %d: rules say %v, Evaluate %s\n%s", from, to, probe.protocol, probe.port, got, d, y)
					}
				}
			}
		}
	}
}

func TestRulesAgreeWithEvaluate(t *testing.T) {
	for seed := range uint64(150) {
		agree(t, newGenerator(seed).objects())
	}
}

// FuzzPolicy reads any bytes as a policy: nothing panics, defects open nothing, and rules and Evaluate agree.
func FuzzPolicy(f *testing.F) {
	for _, s := range scenarios {
		f.Add([]byte(s.policies))
	}
	for _, s := range badPolicies {
		f.Add([]byte(s.policy))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		np := &networkingv1.NetworkPolicy{}
		if len(data) > 4096 || yaml.Unmarshal(data, np) != nil {
			return
		}
		np.Namespace, np.Name = "x", "fuzz"
		o := scenarioObjects(t, "")
		o.Pods = o.Pods[:4]
		o.Policies = []*networkingv1.NetworkPolicy{np}
		agree(t, o)
	})
}

// FuzzClusterPolicy does the same with cluster-wide policies.
func FuzzClusterPolicy(f *testing.F) {
	for _, s := range scenarios {
		f.Add([]byte(s.policies))
	}
	for _, s := range badClusterPolicies {
		f.Add([]byte("{spec: " + s.spec + "}"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cp := &ClusterPolicy{}
		if len(data) > 4096 || yaml.Unmarshal(data, cp) != nil {
			return
		}
		cp.Name = "fuzz"
		o := scenarioObjects(t, "")
		o.Pods = o.Pods[:4]
		o.Cluster = []*ClusterPolicy{cp}
		agree(t, o)
	})
}
