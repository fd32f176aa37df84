//go:build linux

package guest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository is the folder of the sources.
func repository(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestPodOnControlGroups2 runs the pod test of the node's programs where there
// are only control groups of version 2.
func TestPodOnControlGroups2(t *testing.T) {
	needs(t)
	module := filepath.Join(repository(t), "embedded/node")
	program := filepath.Join(t.TempDir(), "node.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	out := run(t, module, program+" -test.v -test.run '^TestPodOnContainerd$'")
	if !strings.Contains(out, "control groups cgroup2fs") {
		t.Error("the guest has not control groups of version 2 alone")
	}
	if !strings.Contains(out, "--- PASS: TestPodOnContainerd") {
		t.Error("the pod's test did not run")
	}
}
