package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/registry"
)

const root = "../.."

// result is what `weft up FOLDER -o json` prints, as far as it is looked at.
type result struct {
	Changed bool
	Images  []struct {
		Ref       string
		Unchanged bool
	}
	Objects []struct {
		Action string
		Object struct{ Kind, Namespace, Name string }
	}
	URL     string
	Seconds float64
}

// actions lists what was done, as KIND: ACTION.
func (r result) actions() map[string]string {
	done := map[string]string{}
	for _, o := range r.Objects {
		done[o.Object.Kind+"/"+o.Object.Name] = o.Action
	}
	return done
}

// machine is a cluster, and a copy of the example that runs on it.
type machine struct {
	t     *testing.T
	weft  string
	state string
	dir   string
	stack string // the folder of dir that is deployed
}

// newMachine names a state folder for a cluster, which is removed at the end of the test.
func newMachine(t *testing.T) *machine {
	t.Helper()
	missing := t.Skipf
	if os.Getenv("CI") != "" {
		missing = t.Fatalf
	}
	if os.Geteuid() != 0 {
		missing("pods need root")
	}
	weft, err := filepath.Abs(filepath.Join(root, "bin", "weft"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"weft", "weft-node", "sandbox", "launcher", "node/containerd"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(weft), name)); err != nil {
			missing("bin/%s has not been built: run make build", name)
		}
	}
	m := &machine{t: t, weft: weft, state: filepath.Join(t.TempDir(), "state"), stack: "dev"}
	t.Cleanup(func() { m.run("down", "--purge", "--grace", "2s") })
	return m
}

// copyExample gives a test its own copy of the example on the same cluster.
func (m *machine) copyExample(t *testing.T) *machine {
	t.Helper()
	c := &machine{t: t, weft: m.weft, state: m.state, stack: m.stack, dir: filepath.Join(t.TempDir(), "guestbook")}
	if err := os.CopyFS(c.dir, os.DirFS(filepath.Join(root, "examples", "guestbook"))); err != nil {
		t.Fatal(err)
	}
	return c
}

// environment is that of weft: its releases of stacks lie beside the state.
func (m *machine) environment() []string {
	return append(os.Environ(), "WEFT_NODE=", "KUSION_HOME="+filepath.Join(filepath.Dir(m.state), "kusion"))
}

// run runs weft, which must succeed, and returns its result.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	cmd := exec.Command(m.weft, append(args[:len(args):len(args)], "--state", m.state)...)
	if args[0] == "kubectl" {
		cmd = exec.Command(m.weft, append([]string{"--state", m.state}, args...)...)
	}
	cmd.Env = m.environment()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("weft %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

func (m *machine) up(args ...string) result {
	m.t.Helper()
	var r result
	out := m.run(append([]string{"up", filepath.Join(m.dir, m.stack), "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	return r
}

func (m *machine) write(name, content string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// edit replaces a text in a file of the project.
func (m *machine) edit(name, before, after string) {
	m.t.Helper()
	content, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil {
		m.t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(content), before, after)
	if changed == string(content) {
		m.t.Fatalf("%s has no %q", name, before)
	}
	m.write(name, changed)
}

func (m *machine) get(address string) string {
	m.t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	r, err := client.Get(address)
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// expectPage holds what a visitor reads.
func (m *machine) expectPage(address string, texts ...string) {
	m.t.Helper()
	page := m.get(address)
	for _, text := range texts {
		if !strings.Contains(page, text) {
			m.t.Errorf("the page lacks %q: %s", text, page)
		}
	}
}

// versions returns the resource versions of the example's objects and the names of its pods.
func (m *machine) versions() string {
	m.t.Helper()
	return m.run("kubectl", "-n", "guestbook-dev", "get", "deployment,service,pvc,pod", "-l", "!none", "-o", `jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation} {.metadata.uid}{"\n"}{end}`)
}

func TestTheMainJob(t *testing.T) {
	m := newMachine(t)
	t.Run("a build that fails shows what the compiler said", func(t *testing.T) { buildThatFails(t, m.copyExample(t)) })
	t.Run("the guestbook is built, changed, rolled, and keeps its data", func(t *testing.T) { guestbook(t, m.copyExample(t)) })
	t.Run("a collection spares the images that pods run", func(t *testing.T) { collected(t, m.copyExample(t)) })
	t.Run("another cluster, by kubeconfig and registry", func(t *testing.T) { anotherCluster(t, m.copyExample(t)) })
}

func guestbook(t *testing.T, m *machine) {
	first := m.up()
	if !first.Changed || first.URL == "" || len(first.Images) != 1 {
		t.Fatalf("the first run: %+v", first)
	}
	for _, object := range []string{"Deployment/guestbook-dev-guestbook", "Service/guestbook-dev-guestbook-public", "PersistentVolumeClaim/guestbook"} {
		if first.actions()[object] != "create" {
			t.Errorf("%s: %v", object, first.actions())
		}
	}
	m.expectPage(first.URL, "<h1>Guestbook</h1>", "Nobody has signed yet")
	r, err := http.PostForm(first.URL, url.Values{"name": {"Ada"}, "text": {"kept for **ever**"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	m.expectPage(first.URL, "kept for <strong>ever</strong>")

	before := m.versions()
	if second := m.up(); second.Changed || !second.Images[0].Unchanged {
		t.Errorf("a run without a change: %+v", second)
	}
	if after := m.versions(); after != before {
		t.Errorf("a run without a change changed objects\nbefore:\n%s\nafter:\n%s", before, after)
	}

	m.edit("src/page.html", "<h1>Guestbook</h1>", "<h1>Visitors</h1>")
	m.write("dev/k8s/note.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: note, namespace: guestbook-dev}\n")
	third := m.up()
	if got := third.actions(); got["Deployment/guestbook-dev-guestbook"] != "update" || got["Service/guestbook-dev-guestbook-public"] != "unchanged" || got["PersistentVolumeClaim/guestbook"] != "unchanged" || got["ConfigMap/note"] != "create" {
		t.Errorf("a changed source and a new object: %v", got)
	}
	m.expectPage(third.URL, "<h1>Visitors</h1>", "kept for <strong>ever</strong>")

	if err := os.Remove(filepath.Join(m.dir, "dev", "k8s", "note.yaml")); err != nil {
		t.Fatal(err)
	}
	prod, err := os.ReadFile(filepath.Join(m.dir, "prod", "main.k"))
	if err != nil {
		t.Fatal(err)
	}
	m.write("dev/main.k", string(prod)) // more memory
	if fourth := m.up(); fourth.actions()["ConfigMap/note"] != "delete" || fourth.actions()["Deployment/guestbook-dev-guestbook"] != "update" || !fourth.Images[0].Unchanged {
		t.Errorf("an object that is no longer wanted, and a changed stack: %v, %+v", fourth.actions(), fourth.Images)
	}

	m.run("down")
	if _, err := http.Get(third.URL); err == nil {
		t.Error("the page answers though the cluster is down")
	}
	fifth := m.up()
	if !fifth.Images[0].Unchanged {
		t.Errorf("the image was built again after the cluster's restart: %+v", fifth.Images)
	}
	m.expectPage(fifth.URL, "<h1>Visitors</h1>", "kept for <strong>ever</strong>")
}

// collected takes the tags from an image that runs by digest: it stays until nothing in the cluster names it.
func collected(t *testing.T, m *machine) {
	ref, err := registry.ParseReference(m.up().Images[0].Ref)
	if err != nil {
		t.Fatal(err)
	}
	c := registry.New(registry.Options{})
	defer c.Close()
	tags, err := c.Tags(t.Context(), ref.Repository)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		if err := c.Delete(t.Context(), ref.Repository.WithTag(tag)); err != nil {
			t.Fatal(err)
		}
	}
	running := ref.Repository.WithDigest(ref.Digest)
	m.run("registry", "gc", "--grace", "0s")
	if _, err := c.Resolve(t.Context(), running); err != nil {
		t.Errorf("the image that a pod runs: %v", err)
	}
	m.run("kubectl", "-n", "guestbook-dev", "delete", "deployment", "guestbook-dev-guestbook", "--cascade=foreground", "--timeout=120s")
	m.run("registry", "gc", "--grace", "0s")
	if _, err := c.Resolve(t.Context(), running); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the image that nothing names any more: %v", err)
	}
}

// anotherCluster reaches the cluster as if it were a foreign one.
func anotherCluster(t *testing.T, m *machine) {
	m.run("up")
	var status struct{ Kubeconfig, Registry string }
	if err := json.Unmarshal([]byte(m.run("status", "-o", "json")), &status); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), "a folder: strange, but allowed"))
	for _, name := range []string{"dev/stack.yaml", "dev/k8s/volume.yaml"} {
		m.edit(name, "guestbook-dev", "elsewhere")
	}
	m.edit("base/base.k", "public: True", "public: False")
	r := m.up("--kubeconfig", status.Kubeconfig, "--registry", status.Registry+"/team")
	if !r.Changed || !strings.HasPrefix(r.Images[0].Ref, status.Registry+"/team/guestbook@sha256:") {
		t.Errorf("result %+v", r)
	}
	if got := m.run("kubectl", "-n", "elsewhere", "get", "deployment", "guestbook-dev-guestbook", "-o", "jsonpath={.status.availableReplicas}"); got != "1" {
		t.Errorf("available replicas: %q", got)
	}
	if again := m.up("--kubeconfig", status.Kubeconfig, "--registry", status.Registry+"/team"); again.Changed {
		t.Errorf("a run without a change: %+v", again)
	}
}

func buildThatFails(t *testing.T, m *machine) {
	m.edit("src/main.go", "func main() {", "func main() { undefinedThing()")
	cmd := exec.Command(m.weft, "up", filepath.Join(m.dir, m.stack), "--state", m.state)
	cmd.Env = m.environment()
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "undefined: undefinedThing") || !strings.Contains(string(out), "main.go:") || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	if got := m.run("kubectl", "get", "deployments", "-A"); strings.Contains(got, "guestbook") {
		t.Errorf("objects of a project whose image cannot be built: %s", got)
	}
}
