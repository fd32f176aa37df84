package policy

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTableFollowsAPI(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.pod("a", map[string]string{"app": "web"}, "10.42.0.2", "fd00:42::2")
	f.policy("deny", networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}})
	stop := f.run()
	f.eventually("at the start")
	f.pod("b", map[string]string{"app": "shop"}, "10.42.0.3")
	f.policy("allow", networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{
		{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "shop"}}}}}}})
	f.eventually("a second pod and policy")
	if !f.listed("10.42.0.3") {
		t.Fatal("the new pod's address is not in the table")
	}
	patch := `{"metadata":{"labels":{"app":"web"}}}`
	if _, err := f.client.CoreV1().Pods(f.space).Patch(ctx, "b", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	f.eventually("another label")
	if err := f.client.NetworkingV1().NetworkPolicies(f.space).Delete(ctx, "deny", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.eventually("a deleted policy")

	nft(t, f.options.NetNS, "flush", "ruleset")
	f.eventually("a flushed table")
	if s := f.reported(); s.Repairs+s.Replacements < 2 {
		t.Errorf("status after the repair: %+v", s)
	}

	// Policies hold while the controller is away, and what happened meanwhile is caught up with.
	stop()
	f.eventually("a stopped controller")
	f.pod("c", map[string]string{"app": "web"}, "10.42.0.4")
	if f.listed("10.42.0.4") {
		t.Fatal("the controller has not stopped")
	}
	f.run()
	f.eventually("a restart")
	s := f.reported()
	if !s.Synced || s.Error != "" || s.Policies < 1 || s.LastApplySeconds <= 0 {
		t.Errorf("status %+v", s)
	}
}

func TestClosedFromTheBeginning(t *testing.T) {
	f := newFixture(t)
	if err := Close(f.options); err != nil {
		t.Fatal(err)
	}
	_, empty, err := open(f.options)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := f.table.Check(empty.Ruleset()); err != nil || d != "" {
		t.Fatalf("Close wrote another table: %s %v", d, err)
	}
	if !f.listed("elements = { 10.42.0.0/16 }") || !f.listed("goto unknown-address") {
		t.Error("unknown addresses are not cut off")
	}
}
