package levels

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level/chain"
	"github.com/weft-dev/weft/test/graded"
)

const registry = `{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: low}, {name: high}], doors: {webhook: Enforce, admission: Enforce}}}`

// TestClosedAndAliveFromAStoppedCluster stops and starts the cluster and the webhook, which is set to Deny, in every order.
func TestClosedAndAliveFromAStoppedCluster(t *testing.T) {
	p := newPlace(t)
	stopCluster := p.startCluster() // with every replica of the webhook down
	p.Eventually("the controllers work", func() string { return p.account("default") }, "ok")
	if got := p.reads("alice", "default"); got != "closed" {
		t.Errorf("nobody can say whether alice may: %s", got)
	}
	stopWebhook := p.startWebhook()
	p.Install()
	for _, user := range []string{"alice", "bob"} { // before the embedded door judges bindings, which it does a moment after there is a registry
		p.Grant(user)
	}
	p.Apply("registries", registry)
	p.Clear("bob", "high")
	p.AddNamespace("upper", map[string]string{api.LevelLabel: "high"})
	judged := func() string {
		return strings.Join([]string{p.reads("alice", "default"), p.reads("alice", "upper"), p.reads("alice", ""), p.reads("bob", "upper"), p.reads("bob", "kube-system"), p.reads("carol", "default")}, " ")
	}
	want := "ok levels levels ok ok forbidden"
	p.Eventually("with the webhook", judged, want)
	p.Eventually("the door reports", func() string { return p.door() }, "Webhook Enforce Ready")
	p.admits()

	stopWebhook()
	p.Eventually("without the webhook", judged, strings.TrimSpace(strings.Repeat("closed ", 6)))
	stopCluster()
	stopCluster = p.startCluster()
	p.AddNamespace("after", nil)
	p.Eventually("the controllers work, from a stopped cluster without a webhook", func() string { return p.account("after") }, "ok")
	if got := judged(); strings.Contains(got, "ok") {
		t.Errorf("from a stopped cluster without a webhook: %s", got)
	}
	stopWebhook = p.startWebhook()
	p.Eventually("the door is closed again by itself, and open for others", judged, want)
	stopWebhook()
	stopCluster()
	events := map[string]int{}
	if _, err := chain.Verify(filepath.Join(p.dir, "audit.jsonl"), func(r chain.Record) { events[r.Event+" "+r.User]++ }); err != nil || events["Denied alice"] == 0 {
		t.Error(events, err)
	}
}

// admits registers the webhook for what is written, and tries what objects name: a binding of carol, who is cleared for nothing, in a higher namespace.
func (p *place) admits() {
	p.t.Helper()
	remove := p.register()
	bind := func(user string) func() string {
		return func() string {
			_, err := p.As("bob").RbacV1().RoleBindings("upper").Create(p.t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "for-" + user},
				RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}},
				metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			switch {
			case err == nil:
				return "ok"
			case strings.Contains(err.Error(), "admission webhook \""+AuthorizerName+"\" denied the request"):
				return "levels"
			}
			return err.Error()
		}
	}
	p.Eventually("bob gives carol what she is not cleared for", bind("carol"), "levels")
	p.Eventually("bob gives himself what he is cleared for", bind("bob"), "ok")
	p.judgesRoles()
	p.ceilings()
	remove()
}

// judgesRoles has bob bind a role that gives nothing which carol is not cleared for, and change it then.
func (p *place) judgesRoles() {
	p.t.Helper()
	roles, bindings := p.As("bob").RbacV1().ClusterRoles(), p.As("bob").RbacV1().ClusterRoleBindings()
	classes := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"storage.k8s.io"}, Resources: []string{"storageclasses"}}
	role, err := roles.Create(p.t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "little"}, Rules: []rbacv1.PolicyRule{classes}}, metav1.CreateOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	p.Eventually("bob gives carol a role of little", func() string {
		_, err := bindings.Create(p.t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "little"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "little"},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "carol"}}}, metav1.CreateOptions{})
		return fmt.Sprint(err)
	}, "<nil>")
	change := func(rule rbacv1.PolicyRule) error {
		role.Rules = []rbacv1.PolicyRule{classes, rule}
		_, err := roles.Update(p.t.Context(), role, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	p.Eventually("bob puts secrets into it", func() string {
		err := change(rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}})
		return fmt.Sprint(err != nil && strings.Contains(err.Error(), "rules[1] gives rights that levels do not let the subject have"))
	}, "true")
	if err := change(rbacv1.PolicyRule{Verbs: []string{"list"}, APIGroups: []string{"storage.k8s.io"}, Resources: []string{"storageclasses"}}); err != nil {
		p.t.Errorf("bob puts more of the same into it: %v", err)
	}
}

// ceilings has pods come at once into a workspace, as a user who is asked about nothing else, and of a controller: the webhook counts them together.
func (p *place) ceilings() {
	p.t.Helper()
	p.Apply("workspaces", `{apiVersion: level.weft.dev/v1alpha1, kind: Workspace, metadata: {name: shops}, spec: {ceiling: {cpu: "1", pods: "3"}}}`)
	p.AddNamespace("shop", map[string]string{api.WorkspaceLabel: "shops"})
	p.Eventually("the account", func() string { return p.account("shop") }, "ok")
	pod := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	create := func(name string, spec corev1.PodSpec, dry ...string) string {
		_, err := p.As("").CoreV1().Pods("shop").Create(p.t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{DryRun: dry})
		switch {
		case err == nil:
			return "ok"
		case strings.Contains(err.Error(), "its ceiling is "):
			return "full"
		}
		return err.Error()
	}
	large := *pod.DeepCopy()
	large.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}
	p.Eventually("the webhook knows the ceiling and the pods", func() string { return create("dry", large, metav1.DryRunAll) }, "full")
	got := make(chan string)
	for i := range 12 {
		go func() { got <- create(fmt.Sprint("p", i), pod) }()
	}
	count := map[string]int{}
	for range 12 {
		count[<-got]++
	}
	if count["ok"] != 3 || count["full"] != 9 {
		p.t.Errorf("of 12 pods at once, with a ceiling of 3: %v", count)
	}
	one, labels := int32(1), map[string]string{"app": "web"}
	_, err := p.As("").AppsV1().ReplicaSets("shop").Create(p.t.Context(), &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.ReplicaSetSpec{Replicas: &one,
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod}}}, metav1.CreateOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	p.Eventually("a controller is refused as well", func() string {
		s, err := p.As("").AppsV1().ReplicaSets("shop").Get(p.t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		for _, c := range s.Status.Conditions {
			if strings.Contains(c.Message, "its ceiling is 3") {
				return "full"
			}
		}
		return fmt.Sprint(s.Status)
	}, "full")
	p.Eventually("the status", func() string {
		u, err := p.Objects.Resource(graded.Resource("workspaces")).Get(p.t.Context(), "shops", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		used, _, _ := unstructured.NestedString(u.Object, "status", "used", "pods")
		return used
	}, "3")
	if err := p.As("").CoreV1().Namespaces().Delete(p.t.Context(), "shop", metav1.DeleteOptions{}); err != nil {
		p.t.Fatal(err)
	}
}
