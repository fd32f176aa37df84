package network

import (
	"fmt"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// largeCluster has 100 namespaces of 100 pods and ten policies in each namespace.
func largeCluster() Objects {
	var o Objects
	v4, v6 := netip.MustParseAddr("10.128.0.0"), netip.MustParseAddr("fd00:10::")
	for n := range 100 {
		ns := fmt.Sprintf("ns%02d", n)
		o.Namespaces = append(o.Namespaces, Namespace{Name: ns, Labels: map[string]string{"team": fmt.Sprint(n % 10)}})
		for p := range 100 {
			v4, v6 = v4.Next(), v6.Next()
			o.Pods = append(o.Pods, Pod{Namespace: ns, Name: fmt.Sprint("pod", p), IPs: []netip.Addr{v4, v6}, Node: "n1",
				Labels: map[string]string{"app": fmt.Sprint("app", p%10), "tier": fmt.Sprint(p % 3)}, Ports: []NamedPort{{"web", TCP, 8080}}})
		}
		for p := range 10 {
			o.Policies = append(o.Policies, largePolicy(ns, p))
		}
	}
	return o
}

func largePolicy(ns string, p int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprint("policy", p)}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": fmt.Sprint("app", p)}
	port, web := intstr.FromInt32(int32(8000+p)), intstr.FromString("web")
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{
		{From: []networkingv1.NetworkPolicyPeer{
			{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint("app", (p+1)%10)}}},
			{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprint(p)}}},
		}, Ports: []networkingv1.NetworkPolicyPort{{Port: &port}}},
		{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "192.168.0.0/16", Except: []string{"192.168.7.0/24"}}}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: &web}}},
	}
	return np
}

func loaded(b *testing.B, o Objects) *Compiler {
	c, err := NewCompiler(Config{Table: "weft-bench", PodCIDRs: prefixes("10.128.0.0/14", "fd00:10::/64")})
	if err != nil {
		b.Fatal(err)
	}
	for _, ns := range o.Namespaces {
		c.SetNamespace(ns)
	}
	for _, p := range o.Pods {
		c.SetPod(p)
	}
	for _, np := range o.Policies {
		c.SetPolicy(np)
	}
	return c
}

// BenchmarkCompileAll compiles 1,000 policies and 10,000 pods from nothing.
func BenchmarkCompileAll(b *testing.B) {
	o := largeCluster()
	b.ReportAllocs()
	for b.Loop() {
		c := loaded(b, o)
		c.Changes()
	}
}

// BenchmarkCompilePodChange changes the labels of one of 10,000 pods.
func BenchmarkCompilePodChange(b *testing.B) {
	o := largeCluster()
	c := loaded(b, o)
	c.Changes()
	p := o.Pods[4321]
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.Labels = map[string]string{"app": fmt.Sprint("app", i%10), "tier": "1"}
		c.SetPod(p)
		c.Changes()
	}
}

// BenchmarkCompilePolicyChange changes one of 1,000 policies.
func BenchmarkCompilePolicyChange(b *testing.B) {
	c := loaded(b, largeCluster())
	c.Changes()
	for i := 0; b.Loop(); i++ {
		np := largePolicy("ns50", i%10)
		np.Name = "policy3"
		c.SetPolicy(np)
		c.Changes()
	}
}

// BenchmarkEvaluate decides one flow among 1,000 policies and 10,000 pods.
func BenchmarkEvaluate(b *testing.B) {
	o := largeCluster()
	s := NewSnapshot(o)
	from, to := s.Between(s.Pod("ns01", "pod1"), s.Pod("ns00", "pod0"), false)
	b.ReportAllocs()
	for b.Loop() {
		Evaluate(s, from, to, TCP, 8000)
	}
}

// BenchmarkSnapshot indexes 1,000 policies and 10,000 pods.
func BenchmarkSnapshot(b *testing.B) {
	o := largeCluster()
	for b.Loop() {
		NewSnapshot(o)
	}
}
