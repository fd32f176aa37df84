package admission

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
)

const world = `
apiVersion: level.weft.dev/v1alpha1
kind: Registry
metadata: {name: cluster}
spec:
  levels: [{name: base}, {name: low}, {name: high}]
  doors: {admission: SETTING}
  references: [{group: example.com, resource: vaults, path: spec.holder, to: {resource: secrets}}]
---
apiVersion: level.weft.dev/v1alpha1
kind: Clearance
metadata: {name: low}
spec: {label: low, subjects: [{kind: User, name: lois}]}
---
apiVersion: level.weft.dev/v1alpha1
kind: Workspace
metadata: {name: shop}
spec: {ceiling: {cpu: "1", memory: 1Gi, pods: "3"}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: kube-system}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: low, labels: {level.weft.dev/level: low}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: one, labels: {level.weft.dev/workspace: shop}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: two, labels: {level.weft.dev/workspace: shop}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: high, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: key, namespace: low, labels: {level.weft.dev/level: high}}}
`

func snapshot(t testing.TB, setting api.DoorSetting) *level.Snapshot {
	t.Helper()
	objects, err := manifest.Reader{Stdin: strings.NewReader(strings.ReplaceAll(world, "SETTING", string(setting)))}.Read(t.Context(), "-")
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := level.Load(objects)
	if err != nil {
		t.Fatal(err)
	}
	return level.NewSnapshot(loaded.Model, time.Now())
}

func judge(t testing.TB, setting api.DoorSetting) *Judge {
	s := snapshot(t, setting)
	return &Judge{Snapshot: func() *level.Snapshot { return s }}
}

func request(t testing.TB, user string, op admissionv1.Operation, resource, object string) *admissionv1.AdmissionRequest {
	t.Helper()
	resource, sub, _ := strings.Cut(resource, "/")
	resource, group, _ := strings.Cut(resource, ".")
	data, err := yaml.YAMLToJSON([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	var m metav1.PartialObjectMetadata
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	r := &admissionv1.AdmissionRequest{UID: "u", Operation: op, SubResource: sub, Namespace: m.Namespace, Name: m.Name, UserInfo: authenticationv1.UserInfo{Username: user}}
	r.Resource.Group, r.Resource.Resource = group, resource
	switch op {
	case admissionv1.Delete:
		r.OldObject = runtime.RawExtension{Raw: data}
	case admissionv1.Update:
		r.Object, r.OldObject = runtime.RawExtension{Raw: data}, runtime.RawExtension{Raw: []byte(`{"metadata":{"name":"` + m.Name + `"}}`)}
	default:
		r.Object = runtime.RawExtension{Raw: data}
	}
	return r
}

const mounting = `{metadata: {name: p, namespace: low}, spec: {containers: [{name: c, image: i}], volumes: [{name: v, secret: {secretName: key}}]}}`

func TestSettings(t *testing.T) {
	r := request(t, "lois", admissionv1.Create, "pods", mounting)
	for _, c := range []struct {
		setting  api.DoorSetting
		allowed  bool
		warnings int
		decision string
	}{{api.Audit, true, 0, "would be denied"}, {api.Warn, true, 1, "would be denied, warned"}, {api.Enforce, false, 0, "denied"}} {
		got := judge(t, c.setting).Review(r)
		if got.Allowed != c.allowed || len(got.Warnings) != c.warnings || got.AuditAnnotations["decision"] != c.decision {
			t.Errorf("%s: allowed %v, warnings %q, annotations %q", c.setting, got.Allowed, got.Warnings, got.AuditAnnotations)
		}
		if want := "spec.volumes[0].secret.secretName a clearance for low is too low to read what is on high (LevelTooLow)"; got.AuditAnnotations["reason"] != want {
			t.Errorf("%s: the audit record says %q", c.setting, got.AuditAnnotations["reason"])
		}
		if c.setting == api.Enforce && (got.Result.Code != http.StatusForbidden || got.Result.Reason != metav1.StatusReasonForbidden || strings.Contains(got.Result.Message, "high")) {
			t.Errorf("the user is told %d %s %q", got.Result.Code, got.Result.Reason, got.Result.Message)
		}
	}
	if got := judge(t, api.Enforce).Review(request(t, "lois", admissionv1.Create, "pods", `{metadata: {name: p, namespace: low}, spec: {containers: [{name: c, image: i}]}}`)); !got.Allowed || got.AuditAnnotations != nil {
		t.Errorf("a pod of the user's level: %+v", got)
	}
}

// What an authorizer would have denied is denied here as well, where there is none: writes and connections to what is higher.
func TestWithoutAnAuthorizer(t *testing.T) {
	j := judge(t, api.Enforce)
	for _, c := range []struct {
		user     string
		op       admissionv1.Operation
		resource string
		denied   bool
	}{
		{"lois", admissionv1.Create, "configmaps", true}, {"lois", admissionv1.Update, "configmaps", true}, {"lois", admissionv1.Delete, "configmaps", true},
		{"lois", admissionv1.Connect, "pods/exec", true}, {"lois", admissionv1.Connect, "pods/attach", true}, {"lois", admissionv1.Connect, "pods/portforward", true},
		{"lois", admissionv1.Connect, "services/proxy", true}, {"lois", admissionv1.Create, "pods/eviction", true}, {"lois", admissionv1.Update, "pods/ephemeralcontainers", true},
		{"system:kube-controller-manager", admissionv1.Create, "configmaps", false}, {"system:serviceaccount:kube-system:generic-garbage-collector", admissionv1.Delete, "configmaps", false},
		{"system:serviceaccount:low:default", admissionv1.Delete, "configmaps", true}, {"system:serviceaccount:high:default", admissionv1.Delete, "configmaps", false},
	} {
		got := j.Review(request(t, c.user, c.op, c.resource, `{metadata: {name: x, namespace: high}}`))
		if got.Allowed == c.denied {
			t.Errorf("%s %s %s: allowed %v %+v", c.user, c.op, c.resource, got.Allowed, got.Result)
		}
	}
	if got := j.Review(request(t, "lois", admissionv1.Create, "vaults.example.com", `{metadata: {name: x, namespace: low}, spec: {holder: key}}`)); got.Allowed {
		t.Error("a declared field that names a high secret is let through")
	}
}

// Before anything is known the system goes on and nobody else writes.
func TestNothingKnownYet(t *testing.T) {
	j := &Judge{Snapshot: func() *level.Snapshot { return nil }, Setting: func() api.DoorSetting { return api.Enforce }}
	object := `{metadata: {name: x, namespace: low}}`
	if got := j.Review(request(t, "lois", admissionv1.Create, "configmaps", object)); got.Allowed {
		t.Error("a user writes while no levels are known")
	}
	for _, user := range []string{"system:kube-scheduler", "system:serviceaccount:kube-system:deployment-controller"} {
		if got := j.Review(request(t, user, admissionv1.Create, "configmaps", object)); !got.Allowed {
			t.Errorf("%s cannot write while no levels are known: the cluster could not start", user)
		}
	}
}

// A door that is off lets everything through.
func TestOff(t *testing.T) {
	j := judge(t, api.Enforce)
	j.Off = func() bool { return true }
	if got := j.Review(request(t, "lois", admissionv1.Create, "pods", mounting)); !got.Allowed || got.AuditAnnotations != nil {
		t.Errorf("%+v", got)
	}
}

func pod(namespace, name, cpu string) string {
	return fmt.Sprintf(`{metadata: {name: %s, namespace: %s}, spec: {containers: [{name: c, image: i, resources: {requests: {cpu: %s, memory: 100Mi}}}]}}`, name, namespace, cpu)
}

// The ceiling holds over all namespaces of a workspace, also for pods that come at once and are not yet seen.
func TestCeiling(t *testing.T) {
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	j := judge(t, api.Enforce)
	j.Usage = &Usage{Clock: func() time.Time { return clock }}
	if got := j.Review(request(t, "lois", admissionv1.Create, "pods", pod("one", "a", "1m"))); got.Allowed || !strings.Contains(got.Result.Message, "is not known yet") {
		t.Errorf("before anything is known of pods: %+v", got)
	}
	j.Usage.Replace(nil)
	create := func(object string) string {
		got := j.Review(request(t, "lois", admissionv1.Create, "pods", object))
		if got.Allowed {
			return ""
		}
		return got.Result.Message
	}
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, not %q", what, got, want)
		}
	}
	dry := request(t, "lois", admissionv1.Create, "pods", pod("one", "dry", "900m"))
	yes := true
	dry.DryRun = &yes
	if !j.Review(dry).Allowed {
		t.Error("a dry run below the ceiling is denied")
	}
	expect("first", create(pod("one", "a", "400m")), "")
	expect("second, in another namespace", create(pod("two", "a", "400m")), "")
	expect("too much CPU", create(pod("one", "b", "300m")), "levels: with this pod the workspace shop would request 1100m of CPU; its ceiling is 1")
	expect("the same name again counts once", create(pod("two", "a", "400m")), "")
	expect("a namespace of no workspace", create(pod("low", "a", "4")), "")
	expect("third", create(pod("one", "c", "100m")), "")
	expect("too many", create(pod("one", "d", "0")), "levels: with this pod the workspace shop would request 4 of pods; its ceiling is 3")
	used, namespaces := j.Usage.Of(j.Snapshot(), "shop")
	if used.CPU.String() != "900m" || used.Memory.String() != "300Mi" || used.Pods.String() != "3" || namespaces != 2 {
		t.Errorf("the status says %v %v %v in %d namespaces", used.CPU, used.Memory, used.Pods, namespaces)
	}
	see := func(namespace, name string, phase corev1.PodPhase) {
		p := seen(t, namespace, name, "400m", "")
		p.Status.Phase = phase
		j.Usage.See(p)
	}
	see("one", "a", corev1.PodRunning)
	see("two", "a", corev1.PodSucceeded)
	expect("after one has ended", create(pod("two", "e", "500m")), "")
	j.Usage.Forget(seen(t, "one", "a", "400m", ""))
	clock = clock.Add(time.Minute) // c and e never came
	expect("after the rest is gone", create(pod("one", "f", "1")), "")
	resize := request(t, "lois", admissionv1.Update, "pods/resize", pod("one", "f", "1100m"))
	if got := j.Review(resize); got.Allowed {
		t.Error("a pod grows above the ceiling")
	}
	if got := j.Review(request(t, "lois", admissionv1.Update, "pods/resize", pod("one", "f", "900m"))); !got.Allowed {
		t.Error("a pod cannot be made smaller:", got.Result.Message)
	}
}

// seen is a pod as a watch tells it.
func seen(t testing.TB, namespace, name, cpu string, uid types.UID) *corev1.Pod {
	t.Helper()
	var p corev1.Pod
	if err := yaml.Unmarshal([]byte(pod(namespace, name, cpu)), &p); err != nil {
		t.Fatal(err)
	}
	p.UID = uid
	return &p
}

// TestUsageFollows has watches and admission tell of the same names in every order: at no time does less count than there may be.
func TestUsageFollows(t *testing.T) {
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	j := judge(t, api.Enforce)
	u := &Usage{Clock: func() time.Time { return clock }}
	j.Usage = u
	u.Replace([]*corev1.Pod{seen(t, "one", "a", "400m", "1")})
	review := func(op admissionv1.Operation, resource, cpu, uid string) bool {
		return j.Review(request(t, "lois", op, resource, strings.Replace(pod("one", "a", cpu), "{name: a,", "{name: a, uid: \""+uid+"\",", 1))).Allowed
	}
	expect := func(what, want string) {
		t.Helper()
		if used, _ := u.Of(j.Snapshot(), "shop"); used.CPU.String() != want {
			t.Errorf("%s: %s count, want %s", what, used.CPU, want)
		}
	}
	expect("what was listed", "400m")
	review(admissionv1.Create, "pods", "500m", "2")
	expect("one of the same name, which will replace it", "500m")
	u.See(seen(t, "one", "a", "400m", "1"))
	expect("the old one is still seen", "500m")
	u.Forget(seen(t, "one", "a", "400m", "1"))
	expect("the old one is gone, the new one not yet seen", "500m")
	u.See(seen(t, "one", "a", "500m", "2"))
	clock = clock.Add(time.Minute)
	expect("the new one was seen, and stays", "500m")
	u.Forget(seen(t, "one", "a", "400m", "1"))
	expect("the end of the old one is told late", "500m")
	review(admissionv1.Update, "pods/resize", "800m", "2")
	u.See(seen(t, "one", "a", "500m", "2"))
	expect("about to grow, and something else changed", "800m")
	u.See(seen(t, "one", "a", "800m", "2"))
	clock = clock.Add(time.Minute)
	expect("grown", "800m")
	if review(admissionv1.Update, "pods/resize", "1100m", "2") {
		t.Error("a pod grows above the ceiling")
	}
	ended := seen(t, "one", "a", "800m", "2")
	ended.Status.Phase = corev1.PodFailed
	u.See(ended)
	expect("ended", "0")
	if !j.Review(request(t, "lois", admissionv1.Create, "pods", pod("two", "b", "1"))).Allowed {
		t.Error("there is room for another")
	}
	if !review(admissionv1.Update, "pods/status", "1", "2") || !review(admissionv1.Update, "pods", "1", "2") {
		t.Error("what is written about an ended pod is refused")
	}
	u.Lost(true)
	clock = clock.Add(time.Hour)
	expect("let through while the watch is lost", "1")
	u.Lost(false)
	expect("and the watch is back", "1")
	clock = clock.Add(time.Minute)
	expect("and tells nothing of it", "0")
	review(admissionv1.Create, "pods", "1", "4")
	u.Replace(nil)
	expect("let through, and pods are listed anew", "1")
}

func TestRequested(t *testing.T) {
	for _, c := range []struct {
		spec        string
		cpu, memory int64
	}{
		{`{containers: [{resources: {requests: {cpu: 100m, memory: 1Mi}}}, {resources: {requests: {cpu: 200m}}}]}`, 300, 1 << 20},
		{`{initContainers: [{resources: {requests: {cpu: "1"}}}], containers: [{resources: {requests: {cpu: 200m, memory: 1Mi}}}]}`, 1000, 1 << 20},
		{`{initContainers: [{restartPolicy: Always, resources: {requests: {cpu: 300m}}}, {resources: {requests: {cpu: 400m}}}], containers: [{resources: {requests: {cpu: 200m}}}]}`, 700, 0},
		{`{initContainers: [{restartPolicy: Always, resources: {requests: {cpu: 300m}}}], containers: [{resources: {requests: {cpu: 200m}}}], overhead: {cpu: 50m}}`, 550, 0},
		{`{resources: {requests: {cpu: "2"}}, containers: [{resources: {requests: {cpu: 200m, memory: 1Mi}}}]}`, 2000, 1 << 20},
	} {
		var spec corev1.PodSpec
		if err := yaml.Unmarshal([]byte(c.spec), &spec); err != nil {
			t.Fatal(err)
		}
		if got := requested(&spec); got != (amount{c.cpu, c.memory, 1}) {
			t.Errorf("%s: %+v", c.spec, got)
		}
	}
}

func post(t testing.TB, client *http.Client, url string, body []byte) (int, string) {
	t.Helper()
	response, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

func TestAnswer(t *testing.T) {
	var log bytes.Buffer
	j, logger := judge(t, api.Enforce), slog.New(slog.NewTextHandler(&log, nil))
	review := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request(t, "lois", admissionv1.Create, "pods", mounting)}
	data, err := json.Marshal(review)
	if err != nil {
		t.Fatal(err)
	}
	got, err := j.Answer(data, logger)
	if err != nil || got.Response == nil || got.Response.Allowed || got.Response.UID != "u" || got.APIVersion != "admission.k8s.io/v1" {
		t.Fatal(got, err)
	}
	if !strings.Contains(log.String(), "decision=denied") || !strings.Contains(log.String(), "user=lois") {
		t.Errorf("the log says %s", log.String())
	}
	for _, c := range []struct{ body, want string }{
		{`{`, "not an AdmissionReview"},
		{`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}`, "expected AdmissionReview of admission.k8s.io/v1"},
		{`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`, "request: is missing"},
		{`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"operation":"CREATE"}}`, "request.uid: is missing"},
		{`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","operation":"CREATE"}}`, "request.resource: is missing"},
		{`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","resource":{"resource":"pods"},"operation":"READ"}}`, `request.operation: "READ" is not known`},
	} {
		if answer, err := j.Answer([]byte(c.body), logger); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v %v", c.body, answer, err)
		}
	}
	if _, err := j.Answer(bytes.Repeat([]byte(" "), MaxReview+1), logger); err == nil || !strings.Contains(err.Error(), "expected at most") {
		t.Error("a review above the limit:", err)
	}
	for name, object := range map[string]string{"object": `[]`, "nothing": ``, "deep": `{"spec":` + strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 201)} {
		r := request(t, "lois", admissionv1.Create, "databases.example.com", `{metadata: {name: x, namespace: low}}`)
		r.Object.Raw = []byte(object)
		if got := judge(t, api.Enforce).Review(r); got.Allowed {
			t.Errorf("%s: what cannot be read is let through", name)
		}
	}
}

func FuzzReview(f *testing.F) {
	for _, object := range []string{mounting, `{metadata: {name: x, namespace: high}}`, pod("one", "a", "1")} {
		data, _ := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request(f, "lois", admissionv1.Create, "pods", object)})
		f.Add(data)
	}
	j := judge(f, api.Enforce)
	j.Usage = &Usage{}
	j.Usage.Replace(nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseReview(body)
		if err != nil {
			return
		}
		got := j.Review(r)
		if got.UID != r.UID || got.Allowed != (got.Result == nil) {
			t.Fatalf("%s: %+v", body, got)
		}
		if r.Namespace == "high" && r.Operation == admissionv1.Update && r.UserInfo.Username == "lois" && len(r.UserInfo.Groups) == 0 && r.Resource.Resource != "namespaces" && got.Allowed {
			t.Fatalf("%s: a low user writes into a high namespace", body)
		}
	})
}

// BenchmarkWebhook is a whole request over TLS on loopback; p99 is in milliseconds.
func BenchmarkWebhook(b *testing.B) {
	j := judge(b, api.Enforce)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			b.Error(err)
		}
		answer, err := j.Answer(body, nil)
		if err == nil {
			err = json.NewEncoder(w).Encode(answer)
		}
		if err != nil {
			b.Error(err)
		}
	}))
	defer server.Close()
	data, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request(b, "lois", admissionv1.Create, "pods", mounting)})
	if err != nil {
		b.Fatal(err)
	}
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		if code, answer := post(b, server.Client(), server.URL, data); code != 200 {
			b.Fatal(code, answer)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*99/100])/1e6, "p99-ms")
}
