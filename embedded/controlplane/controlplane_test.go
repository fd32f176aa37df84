package controlplane

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	door "github.com/weft-dev/weft/embedded/admission"
	"github.com/weft-dev/weft/embedded/pki"
	"github.com/weft-dev/weft/level"
	judging "github.com/weft-dev/weft/level/admission"
)

// high refuses changes of objects called high-*, whoever asks.
type high struct{ authorizer.Authorizer }

func (h high) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if strings.HasPrefix(a.GetName(), "high-") && !a.IsReadOnly() {
		return authorizer.DecisionDeny, "above your level", nil
	}
	return h.Authorizer.Authorize(ctx, a)
}

// plane is the one control plane that a process may have; all tests here share it.
var plane = struct {
	once  sync.Once
	admin kubernetes.Interface
	err   error
	stop  func() error

	kubeconfig string
}{}

func TestMain(m *testing.M) {
	code := m.Run()
	if plane.stop != nil {
		if err := plane.stop(); err != nil {
			os.Stderr.WriteString("stopping the control plane: " + err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

func admin(t *testing.T) kubernetes.Interface {
	t.Helper()
	plane.once.Do(func() { plane.admin, plane.err = start() })
	if plane.err != nil {
		t.Fatal(plane.err)
	}
	return plane.admin
}

const staticPolicy = `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-forbidden.static.k8s.io}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  validations:
  - {expression: "object.metadata.name != 'forbidden'", message: "this name is reserved"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-forbidden.static.k8s.io}
spec:
  policyName: no-forbidden.static.k8s.io
  validationActions: [Deny]
`

func start() (kubernetes.Interface, error) {
	dir, err := os.MkdirTemp("", "controlplane")
	if err != nil {
		return nil, err
	}
	cfg := Config{
		Data: filepath.Join(dir, "etcd"), Run: filepath.Join(dir, "run"), PKI: pki.Folder{Path: filepath.Join(dir, "pki")},
		Components: filepath.Join(dir, "components"), Plugins: filepath.Join(dir, "plugins"), AdmissionManifests: filepath.Join(dir, "admission"),
		Advertise: net.IPv4(10, 44, 0, 1), ServiceCIDR: []string{"10.43.0.0/16"},
		Guard: func(*rest.Config) (*Guard, error) {
			return &Guard{
				Authorizer: func(next authorizer.Authorizer) authorizer.Authorizer { return high{next} },
				Admission: func(next admission.Interface) admission.Interface {
					return door.New(next, &judging.Judge{Snapshot: levels.Load})
				},
			}, nil
		},
	}
	levels.Store(level.NewSnapshot(&level.Model{Registry: registry(api.Audit)}, time.Now()))
	for _, d := range []string{cfg.Run, cfg.Components, filepath.Join(cfg.AdmissionManifests, "ValidatingAdmissionPolicy")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(cfg.AdmissionManifests, "ValidatingAdmissionPolicy", "policy.yaml"), []byte(staticPolicy), 0o600); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	cfg.Listeners = []net.Listener{listener, second}
	server := "https://" + listener.Addr().String()
	if err := Certificates(cfg.PKI, cfg.Components, server, nil, nil); err != nil {
		return nil, err
	}
	ca, err := cfg.PKI.Authority("ca")
	if err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	// Through the second listener, so that both are seen to work.
	if err := Kubeconfig(cfg.PKI, ca, "admin", "https://"+second.Addr().String()).Write(kubeconfig); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Run(ctx, cfg, func(*rest.Config) { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		return nil, errors.Join(errors.New("ended before it was ready"), err)
	case <-time.After(2 * time.Minute):
		cancel()
		return nil, errors.New("not ready after two minutes")
	}
	plane.stop = func() error {
		cancel()
		select {
		case err := <-done:
			return errors.Join(err, os.RemoveAll(dir))
		case <-time.After(time.Minute):
			return errors.New("does not end")
		}
	}
	plane.kubeconfig = kubeconfig
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func TestBuiltInRolesAreUpstreams(t *testing.T) {
	ctx, client := t.Context(), admin(t)
	p := policy()
	roles, err := client.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, r := range roles.Items {
		got[r.Name] = r.Rules
	}
	for _, want := range p.ClusterRoles {
		rules, ok := got[want.Name]
		if !ok {
			t.Errorf("the role %s is missing", want.Name)
			continue
		}
		// Aggregated roles are filled by the controller manager, at some later time.
		if want.AggregationRule == nil && !reflect.DeepEqual(rules, any(want.Rules)) {
			t.Errorf("the role %s differs from upstream's", want.Name)
		}
	}
	bindings, err := client.RbacV1().ClusterRoleBindings().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(p.ClusterRoleBindings) + len(ownBindings()); len(bindings.Items) != want {
		t.Errorf("%d bindings, want %d", len(bindings.Items), want)
	}
	classes, err := client.SchedulingV1().PriorityClasses().List(ctx, metav1.ListOptions{})
	if err != nil || len(classes.Items) != 2 {
		t.Errorf("priority classes: %v, error %v", classes.Items, err)
	}
}

func TestAdministratorMayDoEverythingButIsNotAboveTheAuthorizer(t *testing.T) {
	ctx, client := t.Context(), admin(t)
	who, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range who.Status.UserInfo.Groups {
		if g == "system:masters" {
			t.Error("the administrator is in system:masters, which no authorizer binds")
		}
	}
	maps := client.CoreV1().ConfigMaps("default")
	for _, name := range []string{"low-1", "high-1"} {
		if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := maps.Delete(ctx, "low-1", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	err = maps.Delete(ctx, "high-1", metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "above your level") {
		t.Errorf("got %v, expected the authorizer's own reason", err)
	}
}

func TestStaticAdmissionHoldsFromTheStart(t *testing.T) {
	ctx, client := t.Context(), admin(t)
	_, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "forbidden"}}, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "this name is reserved") {
		t.Errorf("got %v, expected the policy's message", err)
	}
	policies, err := client.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, metav1.ListOptions{})
	if err != nil || len(policies.Items) != 0 {
		t.Errorf("the static policy shows in the API (%v, %v), where it could be deleted", policies.Items, err)
	}
}

func TestControllersWork(t *testing.T) {
	ctx, client := t.Context(), admin(t)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("no default service account: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestStaticAdmissionRefusesUnknownFolders(t *testing.T) {
	cfg := Config{Run: t.TempDir(), AdmissionManifests: t.TempDir()}
	if err := os.Mkdir(filepath.Join(cfg.AdmissionManifests, "Policies"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := apiServerArgs(cfg)
	if err == nil || !strings.Contains(err.Error(), `"Policies"`) || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
		t.Errorf("got %v, expected an error with the names that are known", err)
	}
}
