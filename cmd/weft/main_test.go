package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/supervise/control"
	kubetest "github.com/weft-dev/weft/test/kube"
)

// TestMain lets the test binary stand for weft-node, which prints its arguments and its kubeconfig as kubectl, and for weft itself.
func TestMain(m *testing.M) {
	switch os.Getenv("TEST_AS") {
	case "node":
		os.Exit(fakeNode(os.Args[1:]))
	case "weft":
		os.Setenv("TEST_AS", "node") // for what weft starts
		main()
	}
	kubetest.Main(m)
}

func fakeNode(args []string) int {
	switch args[0] {
	case "kubectl":
		fmt.Println(strings.Join(args[1:], " "), os.Getenv("KUBECONFIG"))
		return 7
	case "clean":
		return 0
	}
	state := args[2]
	server, err := control.Listen(state)
	if err != nil {
		return 1
	}
	kubeconfig := filepath.Join(state, "kubeconfig")
	if os.WriteFile(kubeconfig, []byte("apiVersion: v1\nkind: Config\n"), 0o600) != nil {
		return 1
	}
	fmt.Println("the supervisor began")
	s := control.Status{Phase: control.Ready, Mode: control.ModeNode, State: state, PID: os.Getpid(), StartedAt: time.Now(),
		Kubernetes: "v1.37.2", Kubeconfig: kubeconfig, API: "https://127.0.0.1:6443",
		Components:    []control.Component{{Name: "kubelet", State: "running", PID: 42, Since: time.Now()}},
		LoadBalancers: []control.LoadBalancer{{Namespace: "default", Service: "guestbook", Port: 80, Address: "127.0.0.1:8080"}}}
	server.Publish(s)
	request := <-server.Stops()
	fmt.Printf("grace %v\n", request.GraceSeconds)
	if server.Close() != nil {
		return 1
	}
	return 0
}

// world is a place to run weft in.
type world struct {
	t     *testing.T
	state string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Setenv("TEST_AS", "node")
	t.Setenv("WEFT_NODE", os.Args[0])
	w := &world{t, filepath.Join(t.TempDir(), "state")}
	t.Setenv("WEFT_STATE", w.state)
	t.Cleanup(func() { w.weft("down") })
	return w
}

// weft runs the program and returns its exit code and outputs.
func (w *world) weft(args ...string) (code int, out, errs string) {
	return w.as("weft", args...)
}

func (w *world) as(name string, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), append([]string{"/usr/bin/" + name}, args...), strings.NewReader(""), &o, &e, os.Getenv)
	return code, o.String(), e.String()
}

// expect runs weft and holds what it prints against what a user should read.
func (w *world) expect(code int, out, errs string, args ...string) {
	w.t.Helper()
	gotCode, gotOut, gotErrs := w.weft(args...)
	if gotCode != code || !strings.Contains(gotOut, out) || !strings.Contains(gotErrs, errs) {
		w.t.Errorf("weft %s: exit code %d, want %d\nout: %s (want %q)\nerr: %s (want %q)", strings.Join(args, " "), gotCode, code, gotOut, out, gotErrs, errs)
	}
}

func TestLifeOfACluster(t *testing.T) {
	w := newWorld(t)
	w.expect(0, "stopped", "", "status")
	w.expect(1, "", "is not running", "kubeconfig")
	w.expect(1, "", "is not running", "kubectl", "get", "pods")
	w.expect(1, "", "there are no logs", "logs")
	w.expect(0, "Kubernetes v1.37.2 is ready", "✓ Kubernetes  ready", "up")
	w.expect(0, "Kubernetes v1.37.2 runs already", "", "up")
	w.expect(0, "default/guestbook  80    http://127.0.0.1:8080", "", "status")
	w.expect(0, "the supervisor began", "", "logs", "supervisor")
	w.expect(2, "", `there is no log of "nginx"; there are supervisor`, "logs", "nginx")
	w.expect(0, filepath.Join(w.state, "kubeconfig")+"\n", "", "kubeconfig", "--path")
	w.expect(0, "kind: Config", "", "kubeconfig")
	w.expect(0, "Stopped. The data stays in "+w.state, "✓ Kubernetes  stopped", "down", "--grace", "1500ms")
	w.expect(0, "grace 1.5", "", "logs")
	w.expect(0, "No cluster runs in", "", "down")
	w.expect(0, w.state+" is removed.", "", "down", "--purge")
	if _, err := os.Stat(w.state); err == nil {
		t.Error("--purge left the state folder")
	}
}

func TestResultsForPrograms(t *testing.T) {
	w := newWorld(t)
	decode := func(v any, args ...string) {
		t.Helper()
		code, out, _ := w.weft(append(args, "-o", "json")...)
		if err := json.Unmarshal([]byte(out), v); code != 0 || err != nil {
			t.Errorf("weft %s: exit code %d, %v: %s", args, code, err, out)
		}
	}
	var s control.Status
	decode(&s, "up")
	if s.Phase != control.Ready || s.Kubernetes != "v1.37.2" {
		t.Errorf("up: %+v", s)
	}
	var v versions
	decode(&v, "version")
	if v.Kubernetes != "v1.37.2" || v.Go == "" {
		t.Errorf("version: %+v", v)
	}
	var k kubeconfigResult
	decode(&k, "kubeconfig")
	if k.Path != filepath.Join(w.state, "kubeconfig") {
		t.Errorf("kubeconfig: %+v", k)
	}
	var d downResult
	decode(&d, "down")
	if !d.Stopped || d.Purged || d.State != w.state {
		t.Errorf("down: %+v", d)
	}
}

func TestWrongUse(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"dwn"}, "unknown command \"weft dwn\"\n  Did you mean `weft down`?"},
		{[]string{"nonsense"}, "See `weft --help`."},
		{[]string{"up", "--bogus"}, "unknown flag: --bogus\n  See `weft up --help`."},
		{[]string{"down", "--grace", "soon"}, `invalid argument "soon" for "--grace" flag`},
		{[]string{"down", "--grace", "-1s"}, "--grace: must not be negative"},
		{[]string{"status", "-o", "xml"}, "must be text, json or yaml"},
		{[]string{"status", "extra"}, "extra"},
		{[]string{"logs", "-n", "-5"}, "-n: must not be negative"},
		{[]string{"logs", "-o", "json"}, "logs are text"},
		{[]string{"up", "a", "b"}, "accepts at most 1 arg(s), received 2\n  See `weft up --help`."},
		{[]string{"up", ".", "-n", "No_Such"}, `--namespace: "No_Such" is no name of a namespace`},
		{[]string{"registry", "ls", "--bogus"}, "See `weft registry ls --help`."},
		{[]string{"up", "--timeout", "0s", "."}, "--timeout: must be positive"},
		{[]string{"--context", "prod", "up"}, "name a project folder"},
		{[]string{"completion", "tcsh"}, "unknown command \"weft completion tcsh\""},
	} {
		code, out, errs := w.weft(test.args...)
		if code != 2 || !strings.Contains(errs, test.want) || out != "" {
			t.Errorf("weft %s: exit code %d, out %q, err %q, want %q", test.args, code, out, errs, test.want)
		}
	}
}

func TestBadSurroundings(t *testing.T) {
	w := newWorld(t)
	photos := t.TempDir()
	if err := os.WriteFile(filepath.Join(photos, "cat.jpg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.expect(1, "", "is not a state folder of weft", "up", "--state", photos)
	w.expect(1, "", "is not a state folder of weft", "down", "--purge", "--state", photos)
	if _, err := os.Stat(filepath.Join(photos, "cat.jpg")); err != nil {
		t.Error("a foreign folder was touched")
	}
	t.Setenv("WEFT_NODE", "/nowhere/weft-node")
	w.expect(1, "", "the program weft-node is missing (there is none at /nowhere/weft-node)\n  Build it with `make build`", "up")
	w.expect(1, "", "the program weft-node is missing", "kubectl", "get", "pods")
}

func TestProjectsThatCannotBe(t *testing.T) {
	w := newWorld(t)
	w.expect(1, "", "there is no folder or file /nowhere/shop", "up", "/nowhere/shop")
	dir := t.TempDir()
	w.expect(1, "", "has no Kubernetes manifests: put them into a folder k8s", "up", dir)
	folder := filepath.Join(dir, "k8s")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(folder, "web.yaml"), "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: [web]\nspec: {template: {spec: {containers: [{image: shop}]}}}\n")
	w.expect(1, "", filepath.Join(folder, "web.yaml")+":4:3: metadata.name: ", "up", dir)
	writeFile(t, filepath.Join(folder, "web.yaml"), "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec: {template: {spec: {containers: [{image: shop}]}}}\n")
	writeFile(t, filepath.Join(dir, "weft.yaml"), "version: 1\nimages:\n  shop: {sauce: .}\n")
	w.expect(1, "", filepath.Join(dir, "weft.yaml")+":3:10: images.shop.sauce: is no field of weft.yaml\n  Fields here are env, process, source.", "up", dir)
	writeFile(t, filepath.Join(dir, "weft.yaml"), "version: 1\nimages:\n  shop: {source: .}\n")
	w.expect(1, "", "no registry is named, from which that cluster could pull the built images\n  Name one with --registry", "--kubeconfig", "/nowhere/config", "up", dir)
	w.expect(1, "", "/nowhere/config", "--kubeconfig", "/nowhere/config", "up", dir, "--registry", "ghcr.io/me")
	if code, out, _ := w.weft("status"); code != 0 || !strings.Contains(out, "stopped") {
		t.Errorf("a cluster was started for a project that cannot be: %s", out)
	}
}

// weftProcess runs weft as a process of its own, for what replaces or interrupts it.
func (w *world) weftProcess(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "TEST_AS=weft")
	return cmd
}

func TestKubectl(t *testing.T) {
	w := newWorld(t)
	w.expect(0, "", "", "up")
	own := filepath.Join(w.state, "kubeconfig")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"kubectl", "get", "pods", "-o", "yaml", "--state", "x"}, "get pods -o yaml --state x " + own},
		{[]string{"--kubeconfig", "/other", "kubectl", "get"}, "get /other"},
		{[]string{"--context", "prod", "kubectl", "get"}, "--context=prod get " + os.Getenv("KUBECONFIG")},
		{[]string{"kubectl", "--help"}, "--help " + own},
	} {
		cmd := w.weftProcess(test.args...)
		out, err := cmd.Output()
		if got := strings.TrimSpace(string(out)); got != strings.TrimSpace(test.want) {
			t.Errorf("weft %s ran kubectl %q, want %q (%v)", test.args, got, test.want, err)
		}
		if cmd.ProcessState.ExitCode() != 7 {
			t.Errorf("the exit code of kubectl was lost: %v", err)
		}
	}
}

func TestOtherNames(t *testing.T) {
	w := newWorld(t)
	for name, entry := range names {
		code, _, errs := w.as(name, "--help")
		if entry.command == nil && (code != 1 || !strings.Contains(errs, "does not answer as "+name)) {
			t.Errorf("%s: exit code %d, %q", name, code, errs)
		}
		if entry.command != nil && code != 0 {
			t.Errorf("%s --help: exit code %d, %q", name, code, errs)
		}
	}
	if code, out, _ := w.as("weft-1.2", "version"); code != 0 || !strings.Contains(out, "weft") {
		t.Errorf("an unknown name is weft: exit code %d, %q", code, out)
	}
}

func TestEveryVerbHasAnExample(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Example == "" || c.Short == "" {
			t.Errorf("%s has no example or no short description", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			if len(line) > 121 {
				t.Errorf("%s: the example is too wide: %s", c.CommandPath(), line)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{getenv: os.Getenv}).root())
}

func TestCompletion(t *testing.T) {
	w := newWorld(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		w.expect(0, "weft", "", "completion", shell)
	}
	w.expect(0, "status\t", "", "__complete", "sta")
}

func TestDoctorSaysWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	t.Setenv("WEFT_NODE", "/nowhere/weft-node")
	code, out, errs := w.weft("doctor", "-o", "json")
	var findings []finding
	if err := json.Unmarshal([]byte(out), &findings); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if code != 1 || errs != "" {
		t.Errorf("exit code %d, %q", code, errs)
	}
	for _, f := range findings {
		if f.Check == "" || f.Found == "" || f.Verdict != good && f.Advice == "" {
			t.Errorf("a finding without words: %+v", f)
		}
		if f.Check == "weft-node" && f.Verdict != bad {
			t.Errorf("%+v", f)
		}
	}
}
