package network

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	packets "github.com/weft-dev/weft/network"
)

// Priorities of ClusterNetworkPolicies in the tier Admin: each kind of rule has a band, the first of which is asked first. No two policies share one.
const (
	blackBand = 100
	levelBand = 200
	bandWidth = 100
)

const (
	prefix    = "weft-levels-"
	nameLabel = "kubernetes.io/metadata.name"
)

// class are the namespaces that refuse the same others.
type class struct {
	members []string
	allowed []string // for NotIn lists: whoever is not known is refused
	denied  []string
}

// classes groups namespaces by whom a rule refuses. With closed those that are not known are refused as well.
func (r *Rules) classes(refuses func(from, to string) bool) []class {
	by := map[string]*class{}
	for _, to := range r.Names() {
		c := class{}
		for _, from := range r.Names() {
			if refuses(from, to) {
				c.denied = append(c.denied, from)
			} else {
				c.allowed = append(c.allowed, from)
			}
		}
		key := strings.Join(c.denied, ",")
		if by[key] == nil {
			by[key] = &c
		}
		by[key].members = append(by[key].members, to)
	}
	var all []class
	for _, key := range slices.Sorted(maps.Keys(by)) {
		all = append(all, *by[key])
	}
	return all
}

func names(operator metav1.LabelSelectorOperator, list []string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: nameLabel, Operator: operator, Values: list}}}
}

// ClusterPolicies compiles the rules for clusters that know ClusterNetworkPolicies. What levels and black lists refuse stands in the tier Admin,
// where no NetworkPolicy of a namespace can open it; isolation stands in the tier Baseline. Namespaces that are not known are on the level of those
// without a label, and refused where that is too low.
func (r *Rules) ClusterPolicies() ([]*packets.ClusterPolicy, error) {
	var all []*packets.ClusterPolicy
	unknown, _ := r.snapshot.Registry().Unlabelled("")
	lowest := func(to string) bool { // are namespaces that come later refused?
		target, _ := r.snapshot.Namespace(to)
		return !unknown.Dominates(target)
	}
	add := func(tier packets.ClusterTier, band int, kind string, n int, c class, from *metav1.LabelSelector) error {
		if n >= bandWidth {
			return fmt.Errorf("more than %d sets of namespaces with different rules (%s): label them alike, or use NetworkPolicies", bandWidth, kind)
		}
		all = append(all, &packets.ClusterPolicy{
			TypeMeta:   metav1.TypeMeta{APIVersion: "policy.networking.k8s.io/v1alpha2", Kind: "ClusterNetworkPolicy"},
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s%s-%d", prefix, kind, n)},
			Spec: packets.ClusterPolicySpec{Tier: tier, Priority: int32(band + n), Subject: packets.ClusterSubject{Namespaces: names(metav1.LabelSelectorOpIn, c.members)},
				Ingress: []packets.ClusterRule{{Name: kind, Action: packets.ActionDeny, From: []packets.ClusterPeer{{Namespaces: from}}}}},
		})
		return nil
	}
	for _, band := range []struct {
		tier  packets.ClusterTier
		first int
		kind  string
		rule  Rule
	}{{packets.AdminTier, blackBand, "black", BlackList}, {packets.AdminTier, levelBand, "level", Level}, {packets.BaselineTier, blackBand, "isolation", Isolation}} {
		n := 0
		for _, c := range r.classes(func(from, to string) bool { return r.Judge(from, to).Rule == band.rule }) {
			from := names(metav1.LabelSelectorOpIn, c.denied)
			if band.rule == Level && lowest(c.members[0]) || band.rule == Isolation && len(c.denied) > 0 {
				from = names(metav1.LabelSelectorOpNotIn, c.allowed)
			} else if len(c.denied) == 0 {
				continue
			}
			if err := add(band.tier, band.first, band.kind, n, c, from); err != nil {
				return nil, err
			}
			n++
		}
	}
	return all, nil
}

// Policies compiles the rules for clusters that know NetworkPolicies alone: for each namespace that refuses somebody, one that lets in all others. Such
// policies only add to each other, so one of the namespace's own can open what these close: Check tells. Packets from outside the cluster pass where pods are
// the addresses that they are told to be; without such ranges they are refused by namespaces that refuse anybody.
func (r *Rules) Policies(podRanges []netip.Prefix) []*networkingv1.NetworkPolicy {
	var all []*networkingv1.NetworkPolicy
	for _, c := range r.classes(func(from, to string) bool { return !r.Judge(from, to).Allowed }) {
		unknown, _ := r.snapshot.Registry().Unlabelled("")
		target, _ := r.snapshot.Namespace(c.members[0])
		if len(c.denied) == 0 && unknown.Dominates(target) {
			continue
		}
		peers := []networkingv1.NetworkPolicyPeer{{NamespaceSelector: names(metav1.LabelSelectorOpIn, c.allowed)}}
		for _, everything := range []string{"0.0.0.0/0", "::/0"} {
			var except []string
			for _, p := range podRanges {
				if p.Addr().Is4() == (everything == "0.0.0.0/0") {
					except = append(except, p.Masked().String())
				}
			}
			if len(except) > 0 {
				peers = append(peers, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: everything, Except: except}})
			}
		}
		for _, member := range c.members {
			all = append(all, &networkingv1.NetworkPolicy{
				TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
				ObjectMeta: metav1.ObjectMeta{Name: prefix + "ingress", Namespace: member},
				Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, Ingress: []networkingv1.NetworkPolicyIngressRule{{From: peers}}},
			})
		}
	}
	slices.SortFunc(all, func(a, b *networkingv1.NetworkPolicy) int { return cmp.Compare(a.Namespace, b.Namespace) })
	return all
}

// Matrix compiles the rules for the kernel: pods by the namespace that they are in.
func (r *Rules) Matrix(table string, pods []packets.Pod) *packets.Matrix {
	m := &packets.Matrix{Table: table, Addresses: map[netip.Addr]string{}, Denied: map[string][]string{}}
	mentioned := map[string]bool{}
	for _, space := range r.spaces {
		for _, entry := range slices.Concat(space.Deny, space.Allow) {
			mentioned[entry] = true
		}
	}
	// Namespaces of one level and workspace of which no list speaks are one class, whose members refuse each other nothing.
	class := map[string]string{}
	members := map[string]string{} // one of each class
	for name, space := range r.spaces {
		label, _ := r.snapshot.Namespace(name)
		c := "level " + r.snapshot.Registry().Format(label) + " workspace " + space.Workspace
		if _, system := r.snapshot.Registry().Unlabelled(name); system || mentioned[name] || space.Isolated || len(space.Deny)+len(space.Allow) > 0 {
			c = "namespace " + name
		}
		class[name], members[c] = c, name
	}
	for _, from := range slices.Sorted(maps.Keys(members)) {
		for _, to := range slices.Sorted(maps.Keys(members)) {
			if from != to && !r.Judge(members[from], members[to]).Allowed {
				m.Denied[from] = append(m.Denied[from], to)
			}
		}
	}
	for i := range pods {
		if c, ok := class[pods[i].Namespace]; ok && !pods[i].HostNetwork && !pods[i].Finished {
			for _, a := range pods[i].IPs {
				m.Addresses[a] = c
			}
		}
	}
	return m
}

// Breach is a pair of pods between which packets pass though the rules refuse them, or the reverse.
type Breach struct {
	From, To string
	Wanted   Verdict
	Decision packets.Decision
}

// Check asks for each pair of pods whether policies do what the rules say. Refusals of policies that are none of the rules' are no breach.
func (r *Rules) Check(objects packets.Objects, protocol packets.Protocol, port uint16) []Breach {
	s := packets.NewSnapshot(objects)
	var all []Breach
	for i := range objects.Pods {
		for j := range objects.Pods {
			a, b := &objects.Pods[i], &objects.Pods[j]
			if i == j || a.HostNetwork || b.HostNetwork || a.Finished || b.Finished {
				continue
			}
			wanted := r.Judge(a.Namespace, b.Namespace)
			from, to := s.Between(a, b, false)
			d := packets.Evaluate(s, from, to, protocol, port)
			if d.Allowed && !wanted.Allowed {
				all = append(all, Breach{a.Key(), b.Key(), wanted, d})
			}
		}
	}
	return all
}
