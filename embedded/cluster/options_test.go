package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/embedded/cgroup"
	"github.com/weft-dev/weft/supervise/control"
)

// programs makes a folder with all of a node's programs but the one named.
func programs(t *testing.T, missing string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range nodePrograms {
		if name == missing {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMissingProgramIsNamed(t *testing.T) {
	tree, treeErr := cgroup.Find("/weft-options-test")
	if treeErr == nil {
		t.Cleanup(func() {
			if os.Geteuid() == 0 {
				if err := tree.Remove(t.Context()); err != nil && t.Context().Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	o := Options{Mode: "auto", Programs: programs(t, "runc")}
	mode, missing, err := chooseMode(o, tree, treeErr)
	if err != nil || mode != control.ModeAPI {
		t.Errorf("mode %q, error %v, want the API alone", mode, err)
	}
	said := strings.Join(missing, "\n")
	if !strings.Contains(said, "runc") || !strings.Contains(said, "make build") || strings.Contains(said, "containerd-shim") {
		t.Errorf("said %q, want the missing program alone and what to do", said)
	}
	o.Mode = string(control.ModeNode)
	if _, _, err := chooseMode(o, tree, treeErr); err == nil || !strings.Contains(err.Error(), "runc") {
		t.Errorf("a node that was asked for: %v, want an error", err)
	}
}
