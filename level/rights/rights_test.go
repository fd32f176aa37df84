package rights

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// What is bound by a role's name, and by the roles that collect it, is found, and follows changes.
func TestRights(t *testing.T) {
	server := kube.Start(t)
	clients, err := kubernetes.NewForConfig(server.Config)
	if err != nil {
		t.Fatal(err)
	}
	roles, bindings := clients.RbacV1().ClusterRoles(), clients.RbacV1().ClusterRoleBindings()
	collects := map[string]string{"rights.test/collect": "yes"}
	for _, role := range []*rbacv1.ClusterRole{
		{ObjectMeta: metav1.ObjectMeta{Name: "rights-part", Labels: collects}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "rights-whole"}, AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: collects}}}},
	} {
		if _, err := roles.Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	bind := func(name, role, user string) {
		_, err := bindings.Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	bind("rights-a", "rights-part", "alice")
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "rights-part"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}}}}
	if _, err := clients.RbacV1().Roles("default").Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for kind, subject := range map[string]rbacv1.Subject{"ClusterRole": {Kind: "User", APIGroup: rbacv1.GroupName, Name: "dora"}, "Role": {Kind: "ServiceAccount", Name: "web", Namespace: "default"}} {
		_, err := clients.RbacV1().RoleBindings("default").Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "rights-" + strings.ToLower(kind)},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: "rights-part"}, Subjects: []rbacv1.Subject{subject}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	bind("rights-b", "rights-whole", "bob")
	r, err := New(server.Config)
	if err != nil {
		t.Fatal(err)
	}
	if r.Known() {
		t.Error("known before anything was listed")
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	defer func() { stop(); <-done }()
	names := func(labels map[string]string) []string {
		var all []string
		for _, s := range r.Bound("", "rights-part", labels) {
			if s.Subject.Kind == level.User {
				all = append(all, strings.TrimPrefix(s.Namespace+"/"+s.Subject.Name, "/"))
			}
		}
		slices.Sort(all)
		return all
	}
	if got := names(collects); !slices.Equal(got, []string{"alice", "bob", "default/dora"}) {
		t.Errorf("who has the role: %v", got)
	}
	if got := names(nil); !slices.Equal(got, []string{"alice", "default/dora"}) {
		t.Errorf("who has it while nothing collects it: %v", got)
	}
	rules, ok := r.Rules("", "rights-part")
	if !ok || len(rules) != 1 || rules[0].Resources[0] != "pods" {
		t.Errorf("its rules: %v %v", rules, ok)
	}
	if _, ok := r.Rules("", "rights-none"); ok {
		t.Error("a role that is not there has rules")
	}
	if rules, ok := r.Rules("default", "rights-part"); !ok || len(rules) != 1 || rules[0].Resources[0] != "secrets" {
		t.Errorf("the rules of the namespace's role of that name: %v %v", rules, ok)
	}
	held := fmt.Sprint(r.Bound("default", "rights-part", collects), r.Bound("kube-system", "rights-part", collects))
	if held != "[{service account default/web default}] []" {
		t.Errorf("who has the namespace's role, and that of another: %s", held)
	}
	bind("rights-c", "rights-part", "carol")
	for deadline := time.Now().Add(time.Minute); !slices.Contains(names(nil), "carol"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a new binding is not seen")
		}
	}
}
