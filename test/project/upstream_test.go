package project

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// standIn is built from source and runs in place of the images of KusionStack/konfig: it serves what their probes ask for, and its shell
// does what their jobs do.
const standIn = `package main

import (
	"log"
	"net/http"
)

func main() {
	for _, address := range []string{":80", ":3306"} {
		go func() { log.Fatal(http.ListenAndServe(address, http.HandlerFunc(answer))) }()
	}
	log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(answer)))
}

func answer(w http.ResponseWriter, r *http.Request) { w.Write([]byte("version one")) }
`

// testImage has a shell; every embedded cluster has it.
const testImage = "weft.local/testpod:1"

// TestUpstreamExamplesRun runs the examples of KusionStack/konfig (UPSTREAM is a folder with that checkout) on the embedded cluster until
// their pods are ready, with images that are built here in place of upstream's: applied, nothing to do, drifted, mended, changed, rolled
// back, destroyed.
func TestUpstreamExamplesRun(t *testing.T) {
	upstream := os.Getenv("UPSTREAM")
	if upstream == "" {
		t.Skip("UPSTREAM names no folder of upstream's checkouts")
	}
	m := newMachine(t)
	m.dir, m.stack = filepath.Join(t.TempDir(), "greeter"), "dev"
	if err := os.CopyFS(m.dir, os.DirFS(filepath.Join(root, "examples", "environments"))); err != nil {
		t.Fatal(err)
	}
	m.write("src/main.go", standIn)
	one := m.up().Images[0].Ref
	m.edit("src/main.go", "version one", "version two")
	two := m.up().Images[0].Ref
	if one == two {
		t.Fatalf("both versions are %s", one)
	}
	examples := filepath.Join(t.TempDir(), "example")
	if err := os.CopyFS(examples, os.DirFS(filepath.Join(upstream, "konfig", "example"))); err != nil {
		t.Fatal(err)
	}
	for stack, images := range map[string][]string{
		"simple-service/dev":       {"gcr.io/google-samples/gb-frontend:v4"},
		"service-multi-stack/dev":  {"cilium/echoserver"},
		"service-multi-stack/prod": {"cilium/echoserver:1.10.3"},
		"nginx/dev":                {"nginx:1.25.2"},
		"quickstart/default":       {"kusionstack/kusion-quickstart:latest"},
		"ai-agent-demo/dev":        {"kusionstack/ai-agent-demo:v0.1.0"},
		"wordpress-local-db/prod":  {"wordpress:6.3", "mysql:8.0"},
	} {
		t.Run(stack, func(t *testing.T) {
			e := &example{&machine{t: t, weft: m.weft, state: m.state, dir: filepath.Join(examples, stack)}, images}
			e.lives(t, one, two)
		})
	}
	t.Run("simple-job/dev", func(t *testing.T) {
		e := &example{&machine{t: t, weft: m.weft, state: m.state, dir: filepath.Join(examples, "simple-job", "dev")}, []string{"busybox:1.28"}}
		defer e.destroy()
		e.run(append([]string{"apply", e.dir, "--yes"}, e.mapped(testImage)...)...)
		cron := strings.TrimSpace(e.run("kubectl", "-n", "simple-job", "get", "cronjob", "-o", "name"))
		e.run("kubectl", "-n", "simple-job", "create", "job", "now", "--from", cron)
		e.run("kubectl", "-n", "simple-job", "wait", "--for=condition=Complete", "job/now", "--timeout=60s")
		if got := e.run("kubectl", "-n", "simple-job", "logs", "job/now"); got != "hello\n" {
			t.Errorf("the job printed %q", got)
		}
	})
}

// example is a stack of upstream's, and the images that it names.
type example struct {
	*machine
	images []string
}

// mapped gives the flags that put an image in the place of the stack's.
func (e *example) mapped(image string) []string {
	var flags []string
	for _, old := range e.images {
		flags = append(flags, "--image", old+"="+image)
	}
	return flags
}

// exitCode runs weft, which may fail.
func (e *example) exitCode(args ...string) int {
	e.t.Helper()
	cmd := exec.Command(e.weft, append(args[:len(args):len(args)], "--state", e.state)...)
	cmd.Env = e.environment()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		e.t.Fatal(err)
	}
	e.t.Logf("weft %s: exit code %d\n%s", args[0], cmd.ProcessState.ExitCode(), out)
	return cmd.ProcessState.ExitCode()
}

func (e *example) destroy() {
	e.t.Helper()
	e.run("destroy", e.dir, "--yes", "--allow-delete", "Namespace", "--allow-delete", "PersistentVolumeClaim")
}

// workloads gives the images of all Deployments and StatefulSets of the stack's namespace, which are ready.
func (e *example) workloads() []string {
	e.t.Helper()
	var list struct {
		Items []struct {
			Spec struct {
				Replicas int
				Template struct {
					Spec struct{ Containers []struct{ Image string } }
				}
			}
			Status struct{ ReadyReplicas int }
		}
	}
	if err := json.Unmarshal([]byte(e.run("kubectl", "-n", e.namespace(), "get", "deployments,statefulsets", "-o", "json")), &list); err != nil {
		e.t.Fatal(err)
	}
	var images []string
	for _, w := range list.Items {
		if w.Status.ReadyReplicas != w.Spec.Replicas {
			e.t.Errorf("%d of %d replicas are ready", w.Status.ReadyReplicas, w.Spec.Replicas)
		}
		for _, c := range w.Spec.Template.Spec.Containers {
			images = append(images, c.Image)
		}
	}
	return images
}

// namespace is that of the project.
func (e *example) namespace() string { return filepath.Base(filepath.Dir(e.dir)) }

func (e *example) expectImage(image string) {
	e.t.Helper()
	got := e.workloads()
	if len(got) != len(e.images) {
		e.t.Errorf("the workloads have the images %v", got)
	}
	for _, g := range got {
		if g != image {
			e.t.Errorf("a workload has the image %s, want %s", g, image)
		}
	}
}

func (e *example) lives(t *testing.T, one, two string) {
	defer e.destroy()
	apply := func(image string, more ...string) string {
		return e.run(append(append([]string{"apply", e.dir, "--yes", "--timeout", "2m"}, e.mapped(image)...), more...)...)
	}
	apply(one)
	e.expectImage(one)
	if got := apply(one); !strings.Contains(got, "Nothing has changed") {
		t.Errorf("a second apply: %s", got)
	}
	if e.exitCode("drift", e.dir, "--detailed-exitcode") != 0 {
		t.Error("there is drift although nobody changed anything")
	}
	e.run("kubectl", "-n", e.namespace(), "set", "image", "deployments,statefulsets", "--all", "*="+two)
	if e.exitCode("drift", e.dir, "--detailed-exitcode") != 2 {
		t.Error("a changed image is no drift")
	}
	if e.exitCode(append([]string{"apply", e.dir, "--yes"}, e.mapped(one)...)...) != 1 {
		t.Error("what another manager has set was taken over unasked")
	}
	apply(one, "--force-conflicts")
	e.expectImage(one)
	if e.exitCode("drift", e.dir, "--detailed-exitcode") != 0 {
		t.Error("the drift is still there")
	}
	apply(two)
	e.expectImage(two)
	e.run("rollback", "1", e.dir, "--yes", "--timeout", "2m")
	e.expectImage(one)
}
