package pipeline_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/logging/pipeline"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// account makes a service account with some rights in its namespace, and leaves its token and the authority's certificate in dir.
func account(t *testing.T, ns kube.Place, dir string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	ctx, to := t.Context(), metav1.CreateOptions{}
	meta := metav1.ObjectMeta{Name: "agent"}
	_, err := ns.Clients.CoreV1().ServiceAccounts(ns.Namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, to)
	if err == nil {
		_, err = ns.Clients.RbacV1().Roles(ns.Namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, to)
	}
	if err == nil {
		_, err = ns.Clients.RbacV1().RoleBindings(ns.Namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "agent"},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "agent", Namespace: ns.Namespace}}}, to)
	}
	if err != nil {
		t.Fatal(err)
	}
	token, err := ns.Clients.CoreV1().ServiceAccounts(ns.Namespace).CreateToken(ctx, "agent", &authenticationv1.TokenRequest{}, to)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "token"), token.Status.Token+"\n")
	ca := ns.Config.CAData
	if len(ca) == 0 {
		if ca, err = os.ReadFile(ns.Config.CAFile); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "ca.crt"), string(ca))
}

func happen(t *testing.T, ns kube.Place, name string, at time.Time) *corev1.Event {
	t.Helper()
	e, err := ns.Clients.CoreV1().Events(ns.Namespace).Create(t.Context(), &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: name}, Reason: name, Message: "it \"happened\"", Type: "Normal",
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: ns.Namespace, Name: "web"}, FirstTimestamp: metav1.NewTime(at), LastTimestamp: metav1.NewTime(at), Count: 1}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Events of a real API server come once each, those from before the start too, unless they are too old; a repetition comes as a record of its own; what
// came before a restart does not come again, what happened meanwhile does.
func TestKubernetesEvents(t *testing.T) {
	ns, dir := kube.Namespace(t), t.TempDir()
	account(t, ns, dir, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"list", "watch"}})
	out := filepath.Join(dir, "out")
	count := func(text string) func() string {
		return func() string { return fmt.Sprint(strings.Count(read(out), text)) }
	}
	config := `[SERVICE]
    Flush 0.05
    Grace 5
[INPUT]
    Name kubernetes_events
    Tag events
    DB DIR/db
    Kube_URL ` + ns.Config.Host + `
    Kube_CA_File DIR/ca.crt
    Kube_Token_File DIR/token
    Kube_Namespace ` + ns.Namespace + `
    Kube_Request_Limit 2
    Kube_Retention_Time 1h
` + toFile
	now := time.Now().Truncate(time.Second)
	for i := range 5 {
		happen(t, ns, fmt.Sprintf("early-%d", i), now)
	}
	happen(t, ns, "ancient", now.Add(-2*time.Hour))
	r := start(t, dir, config, pipeline.Options{})
	awaitThat(t, count(`"reason":"early-`), "5")
	live := happen(t, ns, "live", now.Add(-time.Minute))
	awaitThat(t, count(`"reason":"live"`), "1")
	// The record is the object itself, at the time of the event.
	want := fmt.Sprintf("events: [%d.000000000, {", now.Add(-time.Minute).Unix())
	for _, part := range []string{want, `"message":"it \"happened\""`, `"uid":"` + string(live.UID) + `"`, `"involvedObject":{"kind":"Pod","namespace":"` + ns.Namespace + `","name":"web"}`} {
		if !strings.Contains(read(out), part) {
			t.Errorf("%s is missing in\n%s", part, read(out))
		}
	}
	live.Count = 2
	if _, err := ns.Clients.CoreV1().Events(ns.Namespace).Update(t.Context(), live, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitThat(t, count(`"reason":"live"`), "2")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	happen(t, ns, "meanwhile", now)
	start(t, dir, config, pipeline.Options{})
	awaitThat(t, count(`"reason":"meanwhile"`), "1")
	happen(t, ns, "last", now)
	awaitThat(t, count(`"reason":"last"`), "1")
	for text, want := range map[string]string{`"reason":"early-`: "5", `"reason":"live"`: "2", `"reason":"ancient"`: "0"} {
		if got := count(text)(); got != want {
			t.Errorf("%s came %s times, want %s", text, got, want)
		}
	}
}

// An API server that refuses, talks nonsense, cuts, forgets and sends what is no event costs no event: all is asked again, and what came is not taken twice.
func TestKubernetesEventsFaults(t *testing.T) {
	event := func(n int) string {
		return fmt.Sprintf(`{"metadata":{"uid":"u%d","resourceVersion":"%d"},"lastTimestamp":%q,"n":%d}`, n, 10+n, time.Now().UTC().Format(time.RFC3339), n)
	}
	list := func(items ...string) string {
		return `{"metadata":{"resourceVersion":"99"},"items":[` + strings.Join(items, ",") + `]}`
	}
	change := func(kind, object string) string { return `{"type":"` + kind + `","object":` + object + "}\n" }
	answers := []struct {
		status int
		body   string
	}{
		{500, ""}, {403, ""}, {200, "nonsense"}, {200, `{"items":[]}`}, {200, `{"metadata":{"resourceVersion":"1"},"items":[` + event(1)},
		{200, list(event(1), `{"metadata":{}}`, `7`)},
		{200, change("ADDED", event(2)) + change("ERROR", `{"code":410,"message":"too old"}`)},
		{200, list(event(1), event(2))},
		{200, change("ADDED", `{"metadata":{"uid":"u9","resourceVersion":"x"}}`) + change("BOOKMARK", `{}`) + change("DELETED", event(8)) + change("ADDED", event(3)) + `{"type":"ADD`},
		{200, list(event(1), event(3))},
		{200, `{"type":"ADDED","object":"` + strings.Repeat("x", 5<<20)},
		{200, list(event(4))},
	}
	var asked atomic.Int32
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(asked.Add(1)) - 1
		if n >= len(answers) {
			<-r.Context().Done() // a watch that is silent
			return
		}
		w.WriteHeader(answers[n].status)
		_, _ = io.WriteString(w, answers[n].body)
	}))
	defer api.Close()
	dir := t.TempDir()
	r := start(t, dir, "[SERVICE]\n    Flush 0.05\n    Grace 1\n[INPUT]\n    Name kubernetes_events\n    Kube_URL "+api.URL+"\n    Interval_NSec 1000000\n    Kube_Token_File DIR/none\n"+
		strings.Replace(toFile, "    File out\n", "    File out\n    Format template\n    Template {n}\n", 1), pipeline.Options{})
	awaitThat(t, func() string { return fmt.Sprint(strings.Fields(read(filepath.Join(dir, "out")))) }, "[1 2 3 4]")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
