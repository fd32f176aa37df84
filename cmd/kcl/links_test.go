package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestLinks holds the command to the language, its tools and the registry
// client: no engine, no cluster, no Kubernetes types.
func TestLinks(t *testing.T) {
	list := exec.Command("go", "list", "-deps", ".")
	list.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is built; the race detector's tests run with cgo
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	const weft = "github.com/weft-dev/weft/"
	for _, dep := range strings.Fields(string(out)) {
		own, isOwn := strings.CutPrefix(dep, weft)
		switch {
		case isOwn && own != "kcl" && !strings.HasPrefix(own, "kcl/") && own != "registry" &&
			own != "cmd/kcl" && own != "cmd/internal/kcltool":
			t.Errorf("links %s", dep)
		case strings.HasPrefix(dep, "k8s.io/"), strings.HasPrefix(dep, "sigs.k8s.io/"), dep == "runtime/cgo":
			t.Errorf("links %s", dep)
		}
	}
}
