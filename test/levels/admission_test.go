package levels

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

// TestWhatIsWrittenIsJudged has a low user write objects that lead to higher ones: roles and the authorizer let her, admission does not.
func TestWhatIsWrittenIsJudged(t *testing.T) {
	h := newHouse(t)
	h.levels(api.Enforce, "alice", "bob")
	h.Clear("bob", "high")
	name := func(user, namespace, to string) error {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "way"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: to}}
		return second(h.As(user).CoreV1().Services(namespace).Create(t.Context(), s, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}))
	}
	const up = "db.high.svc.cluster.local"
	if got := outcome(name("alice", "low", up)); got != "ok" {
		t.Errorf("while admission is audited: %s", got)
	}
	h.Apply("registries", `{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: low}, {name: middle}, {name: high}], doors: {authorizer: Enforce, admission: Enforce}}}`)
	h.Eventually("a name that leads to a higher level", func() string { return outcome(name("alice", "low", up)) }, "levels")
	if err := name("alice", "low", up); err == nil || !strings.Contains(err.Error(), "spec.externalName") {
		t.Errorf("the message does not name the field: %v", err)
	}
	for what, c := range map[string]struct{ got, want string }{
		"from below, whoever writes it": {outcome(name("bob", "low", up)), "levels"},
		"within the higher level":       {outcome(name("bob", "high", up)), "ok"},
		"that stays on its level":       {outcome(name("alice", "low", "db.low.svc.cluster.local")), "ok"},
		"that leaves the cluster":       {outcome(name("alice", "low", "example.com")), "ok"},
	} {
		if c.got != c.want {
			t.Errorf("a name %s: got %q, want %q", what, c.got, c.want)
		}
	}
	// The components of the cluster go on: an account is made in a new namespace by a controller.
	if _, err := h.As("").CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "fresh"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.Eventually("the controllers' work", func() string {
		return outcome(second(h.As("").CoreV1().ServiceAccounts("fresh").Get(t.Context(), "default", metav1.GetOptions{})))
	}, "ok")
	h.ceilings()
}
