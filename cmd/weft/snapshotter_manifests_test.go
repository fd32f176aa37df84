package main

import (
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	kubetest "github.com/weft-dev/weft/test/kube"
)

func TestSnapshotterManifestsRefuse(t *testing.T) {
	good := snapshotterManifest{Image: "registry.example.com/lazyd:v1", Namespace: "weft-system", Root: "/var/lib/weft", Address: "/run/weft/s.sock", KeeperCgroup: "weft-keeper", KeeperMounts: "/proc/1/ns/mnt", MetricsPort: 9110}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for flag, spoil := range map[string]func(*snapshotterManifest){
		"--image: name the image":   func(m *snapshotterManifest) { m.Image = "" },
		"--image: ":                 func(m *snapshotterManifest) { m.Image = "a b" },
		"--namespace: ":             func(m *snapshotterManifest) { m.Namespace = "x\ny" },
		"--root: ":                  func(m *snapshotterManifest) { m.Root = "var" },
		"--address: ":               func(m *snapshotterManifest) { m.Address = "/run/../s" },
		"--image-service: ":         func(m *snapshotterManifest) { m.ImageService = "run/c.sock" },
		"--keeper-cgroup: \"../x\"": func(m *snapshotterManifest) { m.KeeperCgroup = "../x" },
		"--keeper-cgroup: \"\"":     func(m *snapshotterManifest) { m.KeeperCgroup = "" },
		"--keeper-mounts: ":         func(m *snapshotterManifest) { m.KeeperMounts = "ns" },
		"--metrics-port: ":          func(m *snapshotterManifest) { m.MetricsPort = 0 },
		"--pull-secrets: *":         func(m *snapshotterManifest) { m.PullSecrets = []string{"*", "a"} },
		"--pull-secrets: \"a/b\"":   func(m *snapshotterManifest) { m.PullSecrets = []string{"a", "a/b"} },
	} {
		m := good
		spoil(&m)
		if err := m.check(); err == nil || !strings.HasPrefix(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestSnapshotterManifestsRights applies the manifests to a real API server, and asks it what the service account may do.
func TestSnapshotterManifestsRights(t *testing.T) {
	p, own := kubetest.Namespace(t), kubetest.Namespace(t)
	may := func(verb, resource, ns string) bool {
		t.Helper()
		r := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: "system:serviceaccount:" + own.Namespace + ":weft-snapshotter",
			Groups:             []string{"system:serviceaccounts", "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: ns, Verb: verb, Resource: resource}}}
		r, err := p.Clients.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), r, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status.Allowed
	}
	for _, c := range []struct {
		secrets []string
		events  bool
		allowed []string // VERB RESOURCE NAMESPACE
	}{
		{},
		{secrets: []string{p.Namespace}, allowed: []string{"list secrets " + p.Namespace, "watch secrets " + p.Namespace}},
		{events: true, allowed: []string{"list pods ", "list pods default", "list pods " + p.Namespace, "create events ", "create events default", "create events " + p.Namespace}},
		{secrets: []string{"*"}, allowed: []string{
			"list secrets ", "watch secrets ", "list secrets default", "watch secrets default", "list secrets " + p.Namespace, "watch secrets " + p.Namespace}},
	} {
		m := snapshotterManifest{Image: "r/lazyd:v1", Namespace: own.Namespace, Root: "/r", Address: "/run/s.sock", KeeperCgroup: "k", KeeperMounts: "/m", MetricsPort: 1, PullSecrets: c.secrets, PodEvents: c.events}
		text, err := m.render()
		if err != nil {
			t.Fatal(err)
		}
		remove := createRights(t, p, text)
		for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete"} {
			for _, resource := range []string{"secrets", "pods", "events", "nodes", "configmaps"} {
				for _, ns := range []string{"", "default", p.Namespace} {
					right := verb + " " + resource + " " + ns
					if want := slices.Contains(c.allowed, right); may(verb, resource, ns) != want {
						t.Errorf("secrets %v, events %v: that it may %q is %v", c.secrets, c.events, right, !want)
					}
				}
			}
		}
		remove()
	}
}

// createRights creates the roles of manifests and their bindings.
func createRights(t *testing.T, p kubetest.Place, text string) (remove func()) {
	t.Helper()
	ctx, rbac := t.Context(), p.Clients.RbacV1()
	for doc := range strings.SplitSeq(text, "\n---\n") {
		var o struct {
			metav1.TypeMeta
			rbacv1.Role                  // and ClusterRole
			RoleRef     rbacv1.RoleRef   `json:"roleRef"`
			Subjects    []rbacv1.Subject `json:"subjects"`
		}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatalf("%v:\n%s", err, doc)
		}
		var err error
		switch o.TypeMeta.Kind {
		case "Role":
			_, err = rbac.Roles(o.Namespace).Create(ctx, &rbacv1.Role{ObjectMeta: o.ObjectMeta, Rules: o.Rules}, metav1.CreateOptions{})
		case "RoleBinding":
			_, err = rbac.RoleBindings(o.Namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: o.ObjectMeta, RoleRef: o.RoleRef, Subjects: o.Subjects}, metav1.CreateOptions{})
		case "ClusterRole":
			_, err = rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: o.ObjectMeta, Rules: o.Rules}, metav1.CreateOptions{})
		case "ClusterRoleBinding":
			_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: o.ObjectMeta, RoleRef: o.RoleRef, Subjects: o.Subjects}, metav1.CreateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		const name = "weft-snapshotter"
		_ = rbac.Roles(p.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
		_ = rbac.RoleBindings(p.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
		_ = rbac.ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{})
		_ = rbac.ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{})
	}
}
