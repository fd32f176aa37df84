package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/image/imagetest"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// TestUpstreamNydusify has upstream's nydusify convert with our nydus-image, and compares: its images are sound, and of the build caches either reads what the
// other has written.
func TestUpstreamNydusify(t *testing.T) {
	program := os.Getenv("UPSTREAM_NYDUSIFY")
	if program == "" {
		t.Skip("UPSTREAM_NYDUSIFY does not name upstream's nydusify")
	}
	w := newWorld(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(t.TempDir(), "nydus-image")
	if err := os.Symlink(self, tool); err != nil {
		t.Fatal(err)
	}
	reg := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	base := imagetest.Layer(t, imagetest.File{Name: "base", Content: strings.Repeat("base", 10000)})
	for _, top := range []string{"one", "two"} {
		imagetest.Push(t, client, reg.Host+"/app:"+top, imagetest.Image(t, v1.ConfigFile{Architecture: "amd64", OS: "linux"}, base, imagetest.Layer(t, imagetest.File{Name: "top", Content: top})))
	}
	convert := func(theirs bool, source, target, cache, said string) {
		t.Helper()
		source, target = reg.Host+"/app:"+source, reg.Host+"/app:"+target
		args := []string{"convert", "--source", source, "--target", target, "--build-cache", reg.Host + "/app:" + cache, "--plain-http", "--work-dir", filepath.Join(t.TempDir(), "w")}
		var out string
		if theirs {
			cmd := exec.CommandContext(t.Context(), program, append(args, "--nydus-image", tool)...)
			cmd.Env = append(os.Environ(), "TEST_AS=weft")
			b, err := cmd.CombinedOutput()
			if out = string(b); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		} else {
			_, _, out = w.as("nydusify", args...)
		}
		if !strings.Contains(out, said) {
			t.Errorf("%s: %q was expected of\n%s", target, said, out)
		}
		if code, out, errs := w.as("nydusify", "check", "--source", source, "--target", target, "--plain-http", "--work-dir", t.TempDir()); code != 0 || !strings.Contains(out, "sound") {
			t.Errorf("%s: exit code %d: %s%s", target, code, out, errs)
		}
	}
	convert(true, "one", "one-theirs", "theirs", "cached 0/2")
	convert(false, "two", "two-ours", "theirs", "Layers from the build cache: 1 of 2")
	convert(false, "one", "one-ours", "ours", "Layers from the build cache: 0 of 2")
	convert(true, "two", "two-theirs", "ours", "cached 1/2")
}
