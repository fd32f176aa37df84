package project

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	m.forwarded(t)
}

// forwarded reaches the page through a port of this machine, as long as kusion apply runs.
func (m *machine) forwarded(t *testing.T) {
	t.Helper()
	m.edit("base/base.k", "port: 8080", "port: 18423\n                    targetPort: 8080")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.weft, "--state", m.state, "kusion", "apply", "-w", filepath.Join(m.dir, m.stack), "--yes", "--port-forward", "18423")
	cmd.Env = m.environment()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Forwarding from 127.0.0.1:18423") {
	}
	if got := m.get("http://127.0.0.1:18423/"); !strings.Contains(got, "rehearsal") {
		t.Errorf("through the forwarded port the page is %q", got)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var last string
	for lines.Scan() {
		last = lines.Text()
	}
	if err := cmd.Wait(); err != nil || last != "Portforward has been completed!" {
		t.Errorf("after the interrupt: %v, %q", err, last)
	}
}
