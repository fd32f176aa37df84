package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/engine"
	kubetest "github.com/weft-dev/weft/test/kube"
)

// bench is a namespace of a real API server behind a proxy, a folder with manifests, and a user of their own.
type bench struct {
	t          *testing.T
	place      kubetest.Place
	dir        string
	kubeconfig string

	mu    sync.Mutex
	treat func(w http.ResponseWriter, r *http.Request) (answered bool)
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, place: kubetest.Namespace(t), dir: filepath.Join(t.TempDir(), "shop")}
	upstream, err := url.Parse(b.place.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(b.place.Config)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	proxy.Transport = transport
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} // a client that was cancelled
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		treat := b.treat
		b.mu.Unlock()
		if treat != nil && treat(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	b.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	writeFile(t, b.kubeconfig, `{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x","namespace":"`+b.place.Namespace+
		`"}}],"clusters":[{"name":"x","cluster":{"server":"`+server.URL+`"}}],"users":[{"name":"x","user":{}}]}`)
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	return b
}

// intercept lets treat see each request before the API server does; nil ends that.
func (b *bench) intercept(treat func(w http.ResponseWriter, r *http.Request) (answered bool)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.treat = treat
}

func (b *bench) write(name, text string) { writeFile(b.t, filepath.Join(b.dir, name), text) }

func (b *bench) weft(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), append([]string{"weft", "--kubeconfig", b.kubeconfig}, args...), strings.NewReader(""), &o, &e, os.Getenv)
	return code, o.String(), e.String()
}

// expect runs weft; NS in what is expected stands for the namespace.
func (b *bench) expect(code int, out, errs string, args ...string) (gotOut string) {
	b.t.Helper()
	gotCode, gotOut, gotErrs := b.weft(args...)
	fill := func(s string) string { return strings.ReplaceAll(s, "NS", b.place.Namespace) }
	if gotCode != code || !strings.Contains(gotOut, fill(out)) || !strings.Contains(gotErrs, fill(errs)) {
		b.t.Errorf("weft %s: exit code %d, want %d\nout: %s (want %q)\nerr: %s (want %q)", strings.Join(args, " "), gotCode, code, gotOut, fill(out), gotErrs, fill(errs))
	}
	if strings.Contains(gotOut+gotErrs, "hunter") {
		b.t.Errorf("weft %s showed a secret:\n%s%s", strings.Join(args, " "), gotOut, gotErrs)
	}
	return gotOut
}

func (b *bench) data(name string) map[string]string {
	b.t.Helper()
	m, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).Get(b.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return m.Data
}

const shop = `apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data:
  x: "1"
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: hunter22}
`

func TestVerbsOfTheEngine(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", shop)
	folder := filepath.Join(t.TempDir(), "state")
	for _, backend := range []string{"kubernetes", folder} {
		do := func(args ...string) []string { return append(args, "--backend", backend) }
		b.expect(0, "Nothing was applied yet.", "", do("history", b.dir)...)
		b.expect(2, "+   create ConfigMap/NS/a: it does not exist  "+b.dir+"/a.yaml:1:1", "", do("plan", b.dir, "--detailed-exitcode")...)
		b.expect(0, "shop is at revision 1 (apply): 2 created", "✓ ConfigMap/NS/a  created", do("apply", b.dir)...)
		b.expect(0, "Nothing to do: 2 unchanged.", "", do("plan", b.dir, "--detailed-exitcode")...)
		b.expect(0, "Nothing has changed: 2 unchanged", "", do("apply", b.dir)...)

		b.write("a.yaml", strings.NewReplacer(`x: "1"`, `x: "2"`, "hunter22", "hunter33").Replace(shop))
		plan := filepath.Join(t.TempDir(), "plan")
		got := b.expect(0, `data.x: "1" -> "2"  `+b.dir+"/a.yaml:5:3", "", do("plan", b.dir, "--out", plan)...)
		if !strings.Contains(got, "Plan: 2 to update.") {
			t.Errorf("plan:\n%s", got)
		}
		b.expect(2, "", "--target: a saved plan is applied as it is", do("apply", plan, "--target", "x")...)
		b.expect(0, "revision 2 (apply): 2 updated", "", "apply", plan)
		b.expect(1, "", "the plan does not hold any more; plan again\n  the state changed since", "apply", plan)
		b.expect(0, `data.x: "1" -> "2"`, "", do("diff", "1", "2", b.dir)...)
		b.expect(1, "", "there is no revision 9; there are 1 to 2", do("diff", "1", "9", b.dir)...)
		b.expect(2, "", `"x" is no number of a revision`, do("rollback", "x", b.dir)...)

		if _, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"x":"theirs"}}`), metav1.PatchOptions{FieldManager: "someone"}); err != nil {
			t.Fatal(err)
		}
		b.expect(2, `data.x: "theirs" -> "2"`, "", do("drift", b.dir, "--detailed-exitcode")...)
		b.expect(1, "", b.dir+`/a.yaml:5:3: ConfigMap/NS/a: data.x: is set by "someone" to another value`, do("apply", b.dir)...)
		b.expect(0, "revision 3 (rollback to 1): 2 updated", "", do("rollback", "1", b.dir, "--force-conflicts")...)
		if b.data("a")["x"] != "1" {
			t.Errorf("data %v", b.data("a"))
		}
		b.expect(0, "Everything of shop is as it was applied.", "", do("drift", "--name", "shop")...)

		b.expect(0, "ConfigMap/NS/a", "", do("graph", b.dir)...)
		b.expect(0, "kubernetes", "", do("state", "list", b.dir)...)
		b.expect(0, `stringData: {"password":"(sensitive)"}`, "", do("state", "show", "Secret/"+b.place.Namespace+"/s", b.dir)...)
		b.expect(0, "is forgotten; it still exists", "", do("state", "rm", "ConfigMap/"+b.place.Namespace+"/a", b.dir)...)
		b.write("a.yaml", shop)
		b.expect(0, "is imported", "", do("state", "import", "ConfigMap/"+b.place.Namespace+"/a", b.dir)...)
		b.expect(1, "", "is in the state already", do("state", "import", "ConfigMap/"+b.place.Namespace+"/a", b.dir)...)
		b.expect(0, "is old now", "", do("state", "mv", "ConfigMap/"+b.place.Namespace+"/a", "old", b.dir)...)
		b.expect(0, "is ConfigMap/NS/a now", "", do("state", "mv", "old", "ConfigMap/"+b.place.Namespace+"/a", b.dir)...)
		b.expect(0, "Nobody works on the state.", "", do("state", "unlock", b.dir)...)

		b.expect(2, "", "--yes: nobody is there to confirm", do("destroy", b.dir)...)
		b.expect(0, "(destroy): 2 deleted", "", do("destroy", b.dir, "--yes")...)
		var history []engine.Revision
		if err := json.Unmarshal([]byte(b.expect(0, "", "", do("history", b.dir, "-o", "json")...)), &history); err != nil || len(history) != 5 || history[4].Operation != "destroy" || history[4].Outcome != engine.Done {
			t.Errorf("history %+v, %v", history, err)
		}
	}
	if list, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=a"}); err != nil || len(list.Items) > 0 {
		t.Errorf("%v %v", list, err)
	}
}

func TestFaultsInWhatIsDescribed(t *testing.T) {
	b := newBench(t)
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndada: {}\n":                                                                 "/a.yaml:4:1: ConfigMap/NS/a: dada: unknown field",
		"apiVersion: v1\nkind: Gadget\nmetadata: {name: a}\n":                                                                              "/a.yaml:2:1: Gadget/a: kind: the cluster serves no kind Gadget in v1",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: NS}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n": "the same id is used at",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: nowhere}\n":                                                       `the namespace "nowhere" does not exist`,
	} {
		b.write("a.yaml", strings.ReplaceAll(text, "NS", b.place.Namespace))
		b.expect(1, "", want, "plan", b.dir)
		b.expect(1, "", want, "apply", b.dir)
	}
	if list, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) > 1 { // kube-root-ca.crt
		t.Errorf("something was applied: %v, %v", list.Items, err)
	}
}

// TestAServerThatFailsHalfWay throttles, breaks, and comes back.
func TestAServerThatFailsHalfWay(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", shop)
	n := 0
	b.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || r.URL.Query().Get("dryRun") != "" {
			return false
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if n++; n <= 3 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429,"message":"slow down"}`))
			return true
		}
		return false
	})
	b.expect(0, "2 created", "", "apply", b.dir)
	b.write("a.yaml", strings.ReplaceAll(shop, `x: "1"`, `x: "2"`)+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n")
	b.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/configmaps/b") && r.URL.Query().Get("dryRun") == "" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"not today"}`))
			return true
		}
		return false
	})
	b.expect(1, "", "not today", "apply", b.dir, "--on-failure", "rollback")
	if b.data("a")["x"] != "1" {
		t.Errorf("not rolled back: %v", b.data("a"))
	}
	b.intercept(nil)
	b.expect(0, "1 created, 1 updated, 1 unchanged", "", "apply", b.dir)
}

// TestInterrupts sends signals to a run whose first object the server takes its time for, with one operation at a time.
func TestInterrupts(t *testing.T) {
	for _, test := range []struct {
		name    string
		signals int
		want    string
		made    bool
	}{
		{"the first lets what runs finish", 1, "1 resources were not begun", true},
		{"the second cancels", 2, "interrupted", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.write("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: slow}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: then}\n")
			arrived, release, left := make(chan struct{}, 9), make(chan struct{}), make(chan struct{}, 9)
			b.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPatch || !strings.HasSuffix(r.URL.Path, "/configmaps/slow") || r.URL.Query().Get("dryRun") != "" {
					return false
				}
				body, _ := io.ReadAll(r.Body) // as long as there is more to read a server does not notice that its client is gone
				r.Body = io.NopCloser(bytes.NewReader(body))
				arrived <- struct{}{}
				select {
				case <-release:
					return false
				case <-r.Context().Done():
					left <- struct{}{}
					return true
				}
			})
			cmd := exec.CommandContext(t.Context(), os.Args[0], "--kubeconfig", b.kubeconfig, "apply", b.dir, "--parallel", "1")
			cmd.Env = append(os.Environ(), "TEST_AS=weft")
			var errs lockedBuffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-arrived
			_ = cmd.Process.Signal(syscall.SIGINT)
			for !strings.Contains(errs.String(), "what runs is finished") {
				time.Sleep(10 * time.Millisecond)
			}
			if test.signals == 2 {
				_ = cmd.Process.Signal(syscall.SIGINT)
			} else {
				close(release)
			}
			err := cmd.Wait()
			if test.signals == 2 {
				<-left // let go now it would be a request of nobody, which the API server may still carry out
			}
			if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), test.want) {
				t.Errorf("%v\n%s", err, errs.String())
			}
			list, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "weft.dev/owner"})
			if err != nil || (len(list.Items) == 1) != test.made || len(list.Items) > 1 {
				t.Errorf("made %d objects, %v", len(list.Items), err)
			}
			b.expect(0, "interrupted", "", "history", b.dir)
			b.intercept(nil)
			b.expect(0, "created", "", "apply", b.dir)
			b.expect(0, "Nothing to do: 2 unchanged.", "", "plan", b.dir)
		})
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestKeysOfAState(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", shop)
	b.expect(0, "2 created", "", "apply", b.dir)
	mine := os.Getenv("XDG_CONFIG_HOME")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	code, _, errs := b.weft("history", b.dir)
	if code != 1 || !strings.Contains(errs, "it is for none of the keys at hand") || !strings.Contains(errs, "the state is encrypted to age1") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	theirs, err := os.ReadFile(filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "weft", "identity"))
	if err != nil {
		t.Fatal(err)
	}
	public := func(file []byte) string { return strings.Fields(strings.SplitN(string(file), "\n", 2)[0])[3] }
	own, err := os.ReadFile(filepath.Join(mine, "weft", "identity"))
	if err != nil {
		t.Fatal(err)
	}
	their := os.Getenv("XDG_CONFIG_HOME")
	t.Setenv("XDG_CONFIG_HOME", mine)
	b.expect(0, "encrypted to 2 recipients", "", "state", "rekey", b.dir, "--to", public(own), "--to", public(theirs))
	t.Setenv("XDG_CONFIG_HOME", their)
	b.expect(0, "apply", "", "history", b.dir)
	b.expect(0, "Nothing to do", "", "plan", b.dir)
}
