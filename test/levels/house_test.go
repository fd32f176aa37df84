package levels

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/test/graded"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// house is an embedded cluster, as one test sees it.
type house struct {
	t   *testing.T
	dir string
	own *rest.Config // of the supervisor, whom levels do not bind
}

func newHouse(t *testing.T) *house {
	dir := t.TempDir()
	kube.Own(t, dir)
	return houseIn(t, dir)
}

// shared is the cluster that the tests share which put nothing but levels into it; what earlier ones left of clearances is taken away.
func shared(t *testing.T) *house {
	h := houseIn(t, filepath.Dir(filepath.Dir(kube.Start(t).Kubeconfig)))
	h.graded().Install()
	if err := h.objects().Resource(kindOf("clearances")).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	return h
}

func houseIn(t *testing.T, dir string) *house {
	t.Helper()
	own, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "cluster", "components", "supervisor.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	own.QPS = -1
	return &house{t, dir, own}
}

func (h *house) as(user string) kubernetes.Interface {
	config := rest.CopyConfig(h.own)
	if user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *house) objects() dynamic.Interface {
	c, err := dynamic.NewForConfig(h.own)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func kindOf(resource string) schema.GroupVersionResource { return graded.Resource(resource) }

func (h *house) graded() *graded.Cluster { return graded.New(h.t, h.own) }

func (h *house) apply(resource, text string) {
	h.t.Helper()
	h.graded().Apply(resource, text)
}

func (h *house) clear(user, label string) {
	h.t.Helper()
	h.apply("clearances", fmt.Sprintf(`{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: %s}, spec: {subjects: [{kind: User, name: %s}], label: %q}}`, user, user, label))
}

func (h *house) set(setting api.DoorSetting) {
	h.t.Helper()
	h.apply("registries", fmt.Sprintf(`{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: low}, {name: middle}, {name: high}], doors: {authorizer: %s}}}`, setting))
	h.eventually("the door is set", func() string { return h.door().Setting() }, string(setting))
}

// levels installs the kinds, a registry and users who may do everything as far as roles are concerned.
func (h *house) levels(setting api.DoorSetting, users ...string) {
	h.t.Helper()
	h.graded().Install()
	for _, user := range users {
		h.grant(user)
	}
	for _, label := range []string{"low", "middle", "high"} {
		_, err := h.as("").CoreV1().Namespaces().Create(h.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: label, Labels: map[string]string{api.LevelLabel: label}}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			h.t.Fatal(err)
		}
	}
	h.set(setting)
}

// grant lets a user do everything as far as roles are concerned.
func (h *house) grant(user string) {
	h.t.Helper()
	_, err := h.as("").RbacV1().ClusterRoleBindings().Create(h.t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		h.t.Fatal(err)
	}
}

type report struct{ api.DoorReport }

func (r report) Setting() string { return string(r.DoorReport.Setting) }

func (h *house) door() report {
	u, err := h.objects().Resource(door.Resource).Get(h.t.Context(), "authorizer", metav1.GetOptions{})
	if err != nil {
		return report{}
	}
	var d api.Door
	content, err := u.MarshalJSON()
	if err == nil {
		err = yaml.Unmarshal(content, &d)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return report{d.Report}
}

func (h *house) eventually(what string, try func() string, want string) {
	h.t.Helper()
	got := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got = try(); got == want {
			return
		}
	}
	h.t.Fatalf("%s: got %q, want %q", what, got, want)
}

// outcome of a request: ok, levels, or the error.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "levels: "):
		return "levels"
	case apierrors.IsNotFound(err):
		return "not found"
	}
	return err.Error()
}

func (h *house) lists(user, namespace string) string {
	_, err := h.as(user).CoreV1().Secrets(namespace).List(h.t.Context(), metav1.ListOptions{})
	return outcome(err)
}
