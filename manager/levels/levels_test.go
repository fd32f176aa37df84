package levels

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/chain"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/level/feed"
	"github.com/weft-dev/weft/manager/webhook"
	"github.com/weft-dev/weft/supervise/control"
	"github.com/weft-dev/weft/test/graded"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// supervisor is a user of the embedded cluster's own, which stands for the components of a cluster here.
const supervisor = "weft:supervisor"

// place is a cluster that asks a webhook, and the webhook, each of which may be down.
type place struct {
	t         *testing.T
	dir       string
	authority *webhook.Authority
	address   string
	flags     []string     // further ones of the cluster
	own       *rest.Config // as the supervisor
}

func newPlace(t *testing.T) *place {
	p := &place{t: t, dir: t.TempDir()}
	p.authority = &webhook.Authority{Keeper: webhook.FileKeeper(filepath.Join(p.dir, "authority.json"))}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	bundle, err := p.authority.Bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := p.authority.Client(t.Context(), "apiserver")
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := Kubeconfig("https://"+p.address+Path, bundle, certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	config, err := AuthorizationConfiguration(filepath.Join(p.dir, "webhook.kubeconfig"), Account{"weft", "levels"}, []string{supervisor})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"webhook.kubeconfig": kubeconfig, "authorization.yaml": config} {
		if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *place) startCluster() (stop func()) {
	p.t.Helper()
	_, stop = kube.Own(p.t, p.dir, append([]string{"--authorization-config", filepath.Join(p.dir, "authorization.yaml")}, p.flags...)...)
	var err error
	if p.own, err = clientcmd.BuildConfigFromFlags("", filepath.Join(p.dir, "cluster", "components", "supervisor.kubeconfig")); err != nil {
		p.t.Fatal(err)
	}
	p.own.QPS = -1
	return stop
}

func (p *place) startWebhook() (stop func()) {
	p.t.Helper()
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := &Server{Config: p.own, Authority: p.authority, Hosts: []string{"127.0.0.1"}, Name: "test", AuditFile: filepath.Join(p.dir, "audit.jsonl"), Exempt: []string{supervisor}, Log: slog.New(slog.DiscardHandler)}
	go func() { done <- s.Serve(ctx, l) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}
	p.t.Cleanup(stop)
	return stop
}

func (p *place) as(user string) kubernetes.Interface {
	config := rest.CopyConfig(p.own)
	if user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *place) graded() *graded.Cluster { return graded.New(p.t, p.own) }

func (p *place) namespace(name string, labels map[string]string) {
	p.t.Helper()
	_, err := p.as("").CoreV1().Namespaces().Create(p.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
}

// reads is what comes of a user's list of secrets in a namespace: "ok", or who denied it.
func (p *place) reads(user, namespace string) string {
	_, err := p.as(user).CoreV1().Secrets(namespace).List(p.t.Context(), metav1.ListOptions{})
	switch {
	case err == nil:
		return "ok"
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "levels: your clearance does not reach"):
		return "levels"
	case apierrors.IsForbidden(err):
		return "forbidden"
	case apierrors.IsInternalError(err) && strings.Contains(err.Error(), p.address): // how an API server says that its webhook is down
		return "closed"
	}
	return err.Error()
}

func (p *place) eventually(what string, try func() string, want string) {
	p.t.Helper()
	got := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) { // a try can take seconds where a webhook is down
		if got = try(); got == want {
			return
		}
	}
	p.t.Fatalf("%s: got %q, want %q", what, got, want)
}

const registry = `{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: low}, {name: high}], doors: {webhook: Enforce, admission: Enforce}}}`

// TestClosedAndAliveFromAStoppedCluster stops and starts the cluster and the webhook, which is set to Deny, in every order.
func TestClosedAndAliveFromAStoppedCluster(t *testing.T) {
	p := newPlace(t)
	stopCluster := p.startCluster() // with every replica of the webhook down
	p.eventually("the controllers work", func() string { return p.account("default") }, "ok")
	if got := p.reads("alice", "default"); got != "closed" {
		t.Errorf("nobody can say whether alice may: %s", got)
	}
	stopWebhook := p.startWebhook()
	p.graded().Install()
	p.graded().Apply("registries", registry)
	p.graded().Apply("clearances", `{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: bob}, spec: {subjects: [{kind: User, name: bob}], label: high}}`)
	p.namespace("upper", map[string]string{api.LevelLabel: "high"})
	for _, user := range []string{"alice", "bob"} {
		_, err := p.as("").RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: user},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	judged := func() string {
		return strings.Join([]string{p.reads("alice", "default"), p.reads("alice", "upper"), p.reads("alice", ""), p.reads("bob", "upper"), p.reads("bob", "kube-system"), p.reads("carol", "default")}, " ")
	}
	want := "ok levels levels ok ok forbidden"
	p.eventually("with the webhook", judged, want)
	p.eventually("the door reports", func() string { return p.door() }, "Webhook Enforce Ready")
	p.admits()

	stopWebhook()
	p.eventually("without the webhook", judged, strings.TrimSpace(strings.Repeat("closed ", 6)))
	stopCluster()
	stopCluster = p.startCluster()
	p.namespace("after", nil)
	p.eventually("the controllers work, from a stopped cluster without a webhook", func() string { return p.account("after") }, "ok")
	if got := judged(); strings.Contains(got, "ok") {
		t.Errorf("from a stopped cluster without a webhook: %s", got)
	}
	stopWebhook = p.startWebhook()
	p.eventually("the door is closed again by itself, and open for others", judged, want)
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
			_, err := p.as("bob").RbacV1().RoleBindings("upper").Create(p.t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "for-" + user},
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
	p.eventually("bob gives carol what she is not cleared for", bind("carol"), "levels")
	p.eventually("bob gives himself what he is cleared for", bind("bob"), "ok")
	p.judgesRoles()
	p.ceilings()
	remove()
}

// judgesRoles has bob bind a role that gives nothing which carol is not cleared for, and change it then.
func (p *place) judgesRoles() {
	p.t.Helper()
	roles, bindings := p.as("bob").RbacV1().ClusterRoles(), p.as("bob").RbacV1().ClusterRoleBindings()
	classes := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"storage.k8s.io"}, Resources: []string{"storageclasses"}}
	role, err := roles.Create(p.t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "little"}, Rules: []rbacv1.PolicyRule{classes}}, metav1.CreateOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	p.eventually("bob gives carol a role of little", func() string {
		_, err := bindings.Create(p.t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "little"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "little"},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "carol"}}}, metav1.CreateOptions{})
		return fmt.Sprint(err)
	}, "<nil>")
	change := func(rule rbacv1.PolicyRule) error {
		role.Rules = []rbacv1.PolicyRule{classes, rule}
		_, err := roles.Update(p.t.Context(), role, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	p.eventually("bob puts secrets into it", func() string {
		err := change(rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}})
		return fmt.Sprint(err != nil && strings.Contains(err.Error(), "rules[1] gives rights that levels do not let the subject have"))
	}, "true")
	if err := change(rbacv1.PolicyRule{Verbs: []string{"list"}, APIGroups: []string{"storage.k8s.io"}, Resources: []string{"storageclasses"}}); err != nil {
		p.t.Errorf("bob puts more of the same into it: %v", err)
	}
}

// register has the API server ask the webhook about what is written. The embedded API server has a door of its own, which stands open from then on.
func (p *place) register() (remove func()) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "cluster", control.LevelsOff), nil, 0o600); err != nil {
		p.t.Fatal(err)
	}
	bundle, err := p.authority.Bundle(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := ValidatingWebhook("https://"+p.address+AdmissionPath, bundle, Account{"weft", "levels"}, []string{supervisor})
	if err != nil {
		p.t.Fatal(err)
	}
	var c admissionregistrationv1.ValidatingWebhookConfiguration
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		p.t.Fatal(err)
	}
	configurations := p.as("").AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := configurations.Create(p.t.Context(), &c, metav1.CreateOptions{}); err != nil {
		p.t.Fatal(err)
	}
	return func() {
		if err := configurations.Delete(p.t.Context(), c.Name, metav1.DeleteOptions{}); err != nil {
			p.t.Fatal(err)
		}
	}
}

// ceilings has pods come at once into a workspace, as a user who is asked about nothing else, and of a controller: the webhook counts them together.
func (p *place) ceilings() {
	p.t.Helper()
	p.graded().Apply("workspaces", `{apiVersion: level.weft.dev/v1alpha1, kind: Workspace, metadata: {name: shops}, spec: {ceiling: {pods: "3"}}}`)
	p.namespace("shop", map[string]string{api.WorkspaceLabel: "shops"})
	p.eventually("the account", func() string { return p.account("shop") }, "ok")
	pod := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	create := func(name string, dry ...string) string {
		_, err := p.as("").CoreV1().Pods("shop").Create(p.t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: pod}, metav1.CreateOptions{DryRun: dry})
		switch {
		case err == nil:
			return "ok"
		case strings.Contains(err.Error(), "its ceiling is 3"):
			return "full"
		}
		return err.Error()
	}
	p.eventually("the webhook knows the pods", func() string { return create("dry", metav1.DryRunAll) }, "ok")
	got := make(chan string)
	for i := range 12 {
		go func() { got <- create(fmt.Sprint("p", i)) }()
	}
	count := map[string]int{}
	for range 12 {
		count[<-got]++
	}
	if count["ok"] != 3 || count["full"] != 9 {
		p.t.Errorf("of 12 pods at once, with a ceiling of 3: %v", count)
	}
	one, labels := int32(1), map[string]string{"app": "web"}
	_, err := p.as("").AppsV1().ReplicaSets("shop").Create(p.t.Context(), &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.ReplicaSetSpec{Replicas: &one,
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod}}}, metav1.CreateOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	p.eventually("a controller is refused as well", func() string {
		s, err := p.as("").AppsV1().ReplicaSets("shop").Get(p.t.Context(), "web", metav1.GetOptions{})
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
	p.eventually("the status", func() string {
		objects, err := dynamic.NewForConfig(p.own)
		if err != nil {
			return err.Error()
		}
		u, err := objects.Resource(schema.GroupVersionResource{Group: api.Group, Version: api.Version, Resource: "workspaces"}).Get(p.t.Context(), "shops", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		used, _, _ := unstructured.NestedString(u.Object, "status", "used", "pods")
		return used
	}, "3")
	if err := p.as("").CoreV1().Namespaces().Delete(p.t.Context(), "shop", metav1.DeleteOptions{}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) account(namespace string) string {
	_, err := p.as("").CoreV1().ServiceAccounts(namespace).Get(p.t.Context(), "default", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func (p *place) door() string {
	objects, err := dynamic.NewForConfig(p.own)
	if err != nil {
		return err.Error()
	}
	u, err := objects.Resource(door.Resource).Get(p.t.Context(), "webhook-test", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	text := func(field string) string { s, _, _ := unstructured.NestedString(u.Object, "report", field); return s }
	return text("kind") + " " + text("setting") + " " + text("state")
}

// testDoor is a door over a snapshot.
func testDoor(t testing.TB, setting api.DoorSetting) *door.Door {
	t.Helper()
	r, err := level.NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "low"}, {Name: "high"}}})
	if err != nil {
		t.Fatal(err)
	}
	high := level.Label{Rank: 1}
	s := &feed.State{Known: true, Doors: api.Doors{Webhook: setting}, Snapshot: level.NewSnapshot(&level.Model{Registry: r, Namespaces: []level.Namespace{{Name: "upper", Label: &high}}}, time.Now())}
	return &door.Door{Kind: door.Webhook, State: func() *feed.State { return s }}
}

func review(user, namespace string) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":%q,"groups":["system:authenticated"],"resourceAttributes":{"verb":"get","version":"v1","resource":"secrets","namespace":%q,"name":"x"}}}`, user, namespace)
}

func TestReviews(t *testing.T) {
	for _, c := range []struct {
		setting api.DoorSetting
		body    string
		want    string
	}{
		{api.Enforce, string(review("alice", "upper")), `"denied":true`},
		{api.Enforce, string(review("alice", "other")), `"status":{"allowed":false}`},
		{api.Audit, string(review("alice", "upper")), `"status":{"allowed":false}`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"alice","nonResourceAttributes":{"verb":"get","path":"/healthz"}}}`, `"status":{"allowed":false}`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"alice","resourceAttributes":{"verb":"get","namespace":"upper"}}}`, `"denied":true`},
		{api.Enforce, `x`, `no JSON`},
		{api.Enforce, `{} {}`, `more than one`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1beta1","kind":"SubjectAccessReview"}`, `apiVersion: is "authorization.k8s.io/v1beta1", expected authorization.k8s.io/v1`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"TokenReview"}`, `kind: is "TokenReview"`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":7}}`, `spec.user: is number, expected string`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{}}`, `neither resourceAttributes nor`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"resourceAttributes":{},"nonResourceAttributes":{}}}`, `both`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"resourceAttributes":{},"groups":["g"` + strings.Repeat(`,"g"`, maxGroups) + `]}}`, `at most 10000`},
	} {
		got := ""
		if answer, err := (Authorize{testDoor(t, c.setting)}).Review(t.Context(), []byte(c.body)); err != nil {
			got = err.Error()
		} else if text, err := json.Marshal(answer); err != nil {
			t.Fatal(err)
		} else {
			got = string(text)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%.200s: got %s, want %s", c.body, got, c.want)
		}
	}
}

func TestWithoutLevels(t *testing.T) {
	config, err := AuthorizationConfiguration("/etc/kubernetes/levels.kubeconfig", Account{"weft", "levels"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	changed, found, err := WithoutLevels(config)
	if err != nil || !found || strings.Contains(string(changed), AuthorizerName) || !strings.Contains(string(changed), "RBAC") || !strings.Contains(string(changed), "Node") {
		t.Error(string(changed), found, err)
	}
	if again, found, err := WithoutLevels(changed); err != nil || found || string(again) != string(changed) {
		t.Error(string(again), found, err)
	}
	for text, want := range map[string]string{"kind: Config": "expected AuthorizationConfiguration", "kind: AuthorizationConfiguration": "expected a list", "\t": "no YAML"} {
		if _, _, err := WithoutLevels([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzReview(f *testing.F) {
	f.Add(review("alice", "upper"))
	f.Add([]byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"u","groups":null,"extra":{"a":["b"]},"resourceAttributes":{"verb":"*","resource":"*","group":"*"}}}`))
	d := testDoor(f, api.Enforce)
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, err := Authorize{d}.Review(t.Context(), body)
		if err != nil {
			return
		}
		text, err := json.Marshal(answer)
		if err != nil || strings.Contains(string(text), `"allowed":true`) {
			t.Errorf("%s %v", text, err)
		}
	})
}

func BenchmarkReview(b *testing.B) {
	a, body := Authorize{testDoor(b, api.Enforce)}, review("alice", "other")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Review(b.Context(), body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServed is a whole question of an API server over TLS on loopback; p99 is in milliseconds.
func BenchmarkServed(b *testing.B) {
	authority := &webhook.Authority{Keeper: webhook.FileKeeper(filepath.Join(b.TempDir(), "authority.json"))}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	server := webhook.Server{Authority: authority, Hosts: []string{"127.0.0.1"}, Paths: map[string]webhook.Path{Path: {Handler: Authorize{testDoor(b, api.Enforce)}, Client: true}}}
	go func() { done <- server.Serve(ctx, l) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}()
	bundle, err := authority.Bundle(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	certificate, key, err := authority.Client(b.Context(), "apiserver")
	if err != nil {
		b.Fatal(err)
	}
	client, err := rest.HTTPClientFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: bundle, CertData: certificate, KeyData: key}})
	if err != nil {
		b.Fatal(err)
	}
	body, url := review("alice", "other"), "https://"+l.Addr().String()+Path
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		response, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
			b.Fatal(response.Status, err)
		}
		_ = response.Body.Close()
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*99/100])/1e6, "p99-ms")
}
