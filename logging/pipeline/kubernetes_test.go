package pipeline_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/logging/pipeline"
	"github.com/weft-dev/weft/test/kube"
)

// enriched is a pipeline that reads logs of containers from DIR and writes them with what the filter kubernetes, with further options, finds out.
func enriched(options string) string {
	return `[INPUT]
    Name tail
    Path DIR/*.log
    Tag kube.<pod>.log
    Tag_Regex (?<pod>[^/]+)\.log$
    multiline.parser cri
    Read_from_Head true
[FILTER]
    Name kubernetes
    Match kube.*
    Kube_Tag_Prefix kube.
` + options + `[FILTER]
    Name modify
    Match *
    Remove time
    Remove _p
[PARSER]
    Name kv
    Format logfmt
` + strings.Replace(toFile, "    File out\n", "    File out\n    Format plain\n", 1)
}

func TestKubernetesFilter(t *testing.T) {
	id := strings.Repeat("a", 64)
	var asked atomic.Int32
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "Bearer tok" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/api/v1/namespaces/shop/pods/web-1":
			_, _ = io.WriteString(w, `{"metadata":{"uid":"u1","labels":{"b":"2","a":"1"},"annotations":{"fluentbit.io/exclude_stderr":"true","fluentbit.io/parser-app":"kv"}},
				"spec":{"nodeName":"n1"},"status":{"podIP":"10.0.0.1","containerStatuses":[{"name":"app","image":"img:1","imageID":"docker-pullable://img@sha256:x"}]}}`)
		case "/api/v1/namespaces/shop":
			_, _ = io.WriteString(w, `{"metadata":{"labels":{"team":"x"}}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer api.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "token"), "tok\n")
	write(t, filepath.Join(dir, "web-1_shop_app-"+id+".log"), "2024-01-01T00:00:01Z stdout F a=1 b=\"x y\"\n2024-01-01T00:00:02Z stderr F gone\n")
	write(t, filepath.Join(dir, "none_shop_app-"+id+".log"), `2024-01-01T00:00:03Z stdout F {"json":"yes\n"}`+"\n")
	start(t, dir, enriched(`    Kube_URL `+api.URL+`
    Kube_Token_File DIR/token
    Merge_Log on
    Keep_Log off
    K8S-Logging.Parser on
    K8S-Logging.Exclude on
    Annotations off
    Namespace_Labels on
`), pipeline.Options{})
	out := filepath.Join(dir, "out")
	for _, want := range []string{
		`{"stream":"stdout","a":"1","b":"x y","kubernetes":{"pod_name":"web-1","namespace_name":"shop","pod_id":"u1","labels":{"a":"1","b":"2"},"host":"n1","pod_ip":"10.0.0.1","container_name":"app","docker_id":"` + id +
			`","container_hash":"img@sha256:x","container_image":"img:1"},"kubernetes_namespace":{"name":"shop","labels":{"team":"x"}}}`,
		`{"stream":"stdout","json":"yes","kubernetes":{"pod_name":"none","namespace_name":"shop","container_name":"app","docker_id":"` + id + `"},"kubernetes_namespace":{"name":"shop","labels":{"team":"x"}}}`,
	} {
		awaitThat(t, func() string { return fmt.Sprint(strings.Count(read(out), want+"\n")) }, "1")
	}
	if strings.Contains(read(out), "gone") {
		t.Error("a record that the pod excludes came through")
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("the API server was asked %d times, want 3", n)
	}
}

// With Use_Tag_For_Meta the tag says all that is known, and nobody is asked, whatever else is wanted.
func TestKubernetesFilterOfTags(t *testing.T) {
	id, dir := strings.Repeat("a", 64), t.TempDir()
	var asked atomic.Int32
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) { asked.Add(1) }))
	defer api.Close()
	write(t, filepath.Join(dir, "web-1_shop_app-"+id+".log"), "2024-01-01T00:00:01Z stdout F hello\n")
	start(t, dir, enriched("    Kube_URL "+api.URL+"\n    Use_Tag_For_Meta on\n    Namespace_Labels on\n"), pipeline.Options{})
	want := `{"stream":"stdout","log":"hello","kubernetes":{"pod_name":"web-1","namespace_name":"shop","container_name":"app","docker_id":"` + id + `"}}`
	awaitThat(t, func() string { return strings.TrimSpace(read(filepath.Join(dir, "out"))) }, want)
	if n := asked.Load(); n != 0 {
		t.Errorf("the API server was asked %d times", n)
	}
}

// The filter asks a real API server with the rights of a service account: what it may see of a pod and its namespace comes with the record.
func TestKubernetesFilterAsks(t *testing.T) {
	ns, dir := kube.Namespace(t), t.TempDir()
	account(t, ns, dir, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods", "namespaces"}, Verbs: []string{"get"}})
	pods := ns.Clients.CoreV1().Pods(ns.Namespace)
	pod, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"fluentbit.io/parser": "kv", "note": "kept"}},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "app", Image: "img:1"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.PodIP, pod.Status.PodIPs = "10.0.0.1", []corev1.PodIP{{IP: "10.0.0.1"}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", Image: "img:1", ImageID: "img@sha256:x"}}
	if _, err := pods.UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("b", 64)
	write(t, filepath.Join(dir, "web-1_"+ns.Namespace+"_app-"+id+".log"), "2024-01-01T00:00:01Z stdout F a=1 b=x\n")
	start(t, dir, enriched(`    Kube_URL `+ns.Config.Host+`
    Kube_CA_File DIR/ca.crt
    Kube_Token_File DIR/token
    Merge_Log on
    Keep_Log off
    K8S-Logging.Parser on
    Namespace_Labels on
`), pipeline.Options{})
	want := `{"stream":"stdout","a":"1","b":"x","kubernetes":{"pod_name":"web-1","namespace_name":"` + ns.Namespace + `","pod_id":"` + string(pod.UID) +
		`","labels":{"app":"web"},"annotations":{"fluentbit.io/parser":"kv","note":"kept"},"host":"n1","pod_ip":"10.0.0.1","container_name":"app","docker_id":"` + id +
		`","container_hash":"img@sha256:x","container_image":"img:1"},"kubernetes_namespace":{"name":"` + ns.Namespace + `","labels":{"kubernetes.io/metadata.name":"` + ns.Namespace + `"}}}`
	awaitThat(t, func() string { return strings.TrimSpace(read(filepath.Join(dir, "out"))) }, want)
}

func TestLua(t *testing.T) {
	in := `{"time":"5","n":1,"s":"x","m":{"a":[1,2]},"z":null}` + "\n"
	for name, c := range map[string]struct{ code, want string }{
		"keep":    {"return 0, 0, 0", `[5.000000000, {"n":1,"s":"x","m":{"a":[1,2]},"z":null}]`},
		"change":  {"r.n = r.n + 1.5; r.tag = tag; r.m.b = true; r.z = flb_null; return 1, t + 1, r", `[6.000000000, {"m":{"a":[1,2],"b":true},"n":2.5,"s":"x","tag":"app.one","z":null}]`},
		"fields":  {"r = {k = 'v'}; return 2, 0, r", `[5.000000000, {"k":"v"}]`},
		"split":   {"return 2, 0, {{a = 1}, {a = 2}}", `[5.000000000, {"a":1}]` + "\napp.one: " + `[5.000000000, {"a":2}]`},
		"failing": {"error('no')", `[5.000000000, {"n":1,"s":"x","m":{"a":[1,2]},"z":null}]`},
	} {
		t.Run(name, func(t *testing.T) {
			through(t, in, "[FILTER]\n    Name lua\n    Match *\n    call f\n    enable_flb_null on\n    code function f(tag, t, r) "+c.code+" end\n", "app.one: "+c.want+"\n")
		})
	}
	for text, want := range map[string]string{
		"call f\n    code x = (":            "the script cannot be loaded",
		"call g\n    code function f() end": `no function "g"`,
		"call f\n    script nosuch.lua":     "nosuch.lua",
		"call f":                            "needs either script or code",
	} {
		_, err := tryBuild(t.TempDir(), "[INPUT]\n    Name dummy\n[FILTER]\n    Name lua\n    Match *\n    "+text+"\n", pipeline.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
