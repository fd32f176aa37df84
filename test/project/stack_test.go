package project

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKusionStack takes a Kusion project from source to a page that answers, in one of its environments.
func TestKusionStack(t *testing.T) {
	m := newMachine(t)
	t.Setenv("KUSION_HOME", filepath.Join(t.TempDir(), "kusion"))
	project := filepath.Join(t.TempDir(), "greeter")
	if err := os.CopyFS(project, os.DirFS(filepath.Join(root, "examples", "environments"))); err != nil {
		t.Fatal(err)
	}
	m.dir, m.stack = project, "stage"
	first := m.up()
	if got := first.actions(); !first.Changed || len(first.Images) != 1 || got["Deployment/greeter-stage-greeter"] != "create" {
		t.Fatalf("the first run: %+v", first)
	}
	page := func() string {
		return m.run("kubectl", "get", "--raw", "/api/v1/namespaces/greeter-stage/services/greeter-stage-greeter-private:8080/proxy/")
	}
	if got := page(); got != "hello from stage\n" {
		t.Errorf("the page is %q", got)
	}
	if second := m.up(); second.Changed || !second.Images[0].Unchanged {
		t.Errorf("a run without a change: %+v", second)
	}
	m.edit("stage/main.k", `ENVIRONMENT: "stage"`, `ENVIRONMENT: "rehearsal"`)
	third := m.up()
	if got := third.actions(); got["Deployment/greeter-stage-greeter"] != "update" || !third.Images[0].Unchanged {
		t.Errorf("a changed program: %v", got)
	}
	if got := page(); !strings.Contains(got, "rehearsal") {
		t.Errorf("after the change the page is %q", got)
	}
}
