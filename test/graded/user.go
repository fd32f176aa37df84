package graded

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Supervisor is the view of an embedded cluster, which keeps its files in dir, as its supervisor, whom levels do not bind.
func Supervisor(t testing.TB, dir string) *Cluster {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "cluster", "components", "supervisor.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return New(t, config)
}

// As is a client in the name of a user, or of the account itself where that is empty.
func (c *Cluster) As(user string) kubernetes.Interface {
	config := rest.CopyConfig(c.Config)
	if user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		c.t.Fatal(err)
	}
	return clients
}

// AddNamespace makes a namespace unless it is there.
func (c *Cluster) AddNamespace(name string, labels map[string]string) {
	c.t.Helper()
	_, err := c.As("").CoreV1().Namespaces().Create(c.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		c.t.Fatal(err)
	}
}

// Grant lets a user do everything as far as roles are concerned.
func (c *Cluster) Grant(user string) {
	c.t.Helper()
	_, err := c.As("").RbacV1().ClusterRoleBindings().Create(c.t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		c.t.Fatal(err)
	}
}

// Clear gives a user a clearance.
func (c *Cluster) Clear(user, label string) {
	c.t.Helper()
	c.Apply("clearances", fmt.Sprintf(`{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: %s}, spec: {subjects: [{kind: User, name: %s}], label: %q}}`, user, user, label))
}

// Eventually tries until what is wanted comes.
func (c *Cluster) Eventually(what string, try func() string, want string) {
	c.t.Helper()
	got := ""
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got = try(); got == want {
			return
		}
	}
	c.t.Fatalf("%s: got %q, want %q", what, got, want)
}
