package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The node covers /var/lib, /var/log and /run with folders of its own; a state folder may lie below each of them.
func TestStateFolderBelowWhatTheNodeCovers(t *testing.T) {
	node := program(t)
	for _, parent := range []string{"/var/lib", "/run"} {
		dir, err := os.MkdirTemp(parent, "weft-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		c, err := Run(t.Context(), node, filepath.Join(dir, "state"))
		if err != nil {
			t.Fatalf("below %s: %v", parent, err)
		}
		_, err = c.Kubectl(t.Context(), "", "run", "p", "--image="+TestImage)
		if err == nil {
			_, err = c.Kubectl(t.Context(), "", "wait", "--for=condition=Ready", "pod/p", "--timeout=120s")
		}
		if err := errors.Join(err, c.Stop(time.Second), c.Clean()); err != nil {
			t.Fatalf("below %s: %v", parent, err)
		}
	}
}
