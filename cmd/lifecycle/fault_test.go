package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// faulty is a buildpack with a layer that is kept and changed by every build, one that is kept as it is, and one for launch only.
const faulty = `
-- order.toml --
[[order]]
[[order.group]]
id = "a"
version = "1"
-- buildpacks/a/1/buildpack.toml --
api = "0.10"
[buildpack]
id = "a"
version = "1"
-- buildpacks/a/1/bin/detect --
#!/bin/sh
-- buildpacks/a/1/bin/build --
#!/bin/sh
set -e
cd "$CNB_LAYERS_DIR"
mkdir -p changing kept launch
[ -f kept/file ] || { echo fresh; head -c 300000 /dev/zero | tr '\0' k >kept/file; }
[ ! -f kept/file ] || [ "$(wc -c <kept/file)" = 300000 ]
n=$(cat changing/count 2>/dev/null || echo 0)
echo $((n + 1)) >changing/count
cp changing/count launch/
printf '[types]\nlaunch = true\ncache = true\n' >kept.toml
printf '[types]\ncache = true\n' >changing.toml
printf '[types]\nlaunch = true\n' >launch.toml
mv launch.toml last.toml; rm -rf last; mv launch last
printf '[[processes]]\ntype = "web"\ncommand = ["x"]\n' >launch.toml
-- app/page --
x
`

// published gives the digest of the image that has a name, "" if there is none. An image that is not whole fails the test.
func (w *world) published(name string) string {
	w.t.Helper()
	ref, err := registry.ParseReference(w.registry.Host + "/" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	img, err := w.client.Image(w.t.Context(), ref, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.whole(img)
	digest, err := img.Digest()
	if err != nil {
		w.t.Fatal(err)
	}
	return digest.String()
}

// whole reads every layer of an image.
func (w *world) whole(img v1.Image) {
	w.t.Helper()
	layers, err := img.Layers()
	if err != nil {
		w.t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil || len(config.RootFS.DiffIDs) != len(layers) {
		w.t.Fatal("half an image is published", err)
	}
	for i, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			w.t.Fatalf("half an image is published: %v", err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, rc); err != nil {
			w.t.Fatalf("half an image is published: %v", err)
		}
		rc.Close()
		if got := fmt.Sprintf("sha256:%x", h.Sum(nil)); got != config.RootFS.DiffIDs[i].String() {
			w.t.Errorf("layer %d is %s, its diffID %s", i, got, config.RootFS.DiffIDs[i])
		}
	}
}

// sound checks that every layer of the volume cache is what its name says.
func (w *world) sound() {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "cache", "committed", "sha256:*.tar"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			w.t.Fatal(err)
		}
		if got := fmt.Sprintf("sha256:%x.tar", sha256.Sum256(data)); got != filepath.Base(f) {
			w.t.Errorf("the cache has %s under %s", got, filepath.Base(f))
		}
	}
}

// createKilled runs all phases and kills the program when it has printed its n-th line; it reports whether it came to that.
func (w *world) createKilled(n int, image string, more ...string) bool {
	w.t.Helper()
	args := append(append(w.flags("app", "layers", "platform", "buildpacks", "order.toml", "cache", "launcher"), more...), w.registry.Host+"/"+image)
	cmd := exec.Command(w.program, append([]string{"create", "-log-level", "debug"}, args...)...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + w.dir, "TMPDIR=/tmp"}, w.env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	killed := false
	for seen := 0; lines.Scan(); {
		if seen++; seen == n {
			killed = cmd.Process.Kill() == nil
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); killed && (!errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled()) {
		killed = false // it had ended
	}
	return killed
}

// TestKilledAtAnyMoment kills the program behind each line that it prints, in first builds and in rebuilds with mounted and with copied
// layers: what is published is whole, the cache is sound, and the next build succeeds.
func TestKilledAtAnyMoment(t *testing.T) {
	sandboxtest.NeedKernel(t)
	program := sandboxtest.Program(t, lifecycleProgram)
	for _, mode := range [][]string{nil, {"-parallel"}} {
		t.Run(strings.Join(append([]string{"create"}, mode...), ""), func(t *testing.T) {
			every := 1 + 2*len(mode)
			if testing.Short() {
				every = 7
			}
			w := newWorld(t, faulty)
			w.furnish("0.15")
			w.program = program
			for n := 1; ; n += every {
				before := w.published("app")
				killed := w.createKilled(n, "app", mode...)
				w.published("app")
				w.sound()
				if n%3 == 0 { // with layers that a killed build has left, and without
					if err := errors.Join(os.RemoveAll(filepath.Join(w.dir, "layers")), os.Mkdir(filepath.Join(w.dir, "layers"), 0o755)); err != nil {
						t.Fatal(err)
					}
				}
				code, text := w.create("app", mode...)
				if code != 0 {
					t.Fatalf("after a kill at line %d the next build ends with %d:\n%s", n, code, text)
				}
				if before != "" && strings.Contains(text, "fresh") {
					t.Errorf("after a kill at line %d the kept layer is gone:\n%s", n, text)
				}
				w.published("app")
				w.sound()
				if !killed {
					if n < 10 {
						t.Fatalf("only %d lines were printed", n)
					}
					break
				}
			}
			if left, err := filepath.Glob(filepath.Join(w.dir, "cache", "unpacked", "layers", ".tmp-*")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
			if data, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(data), w.dir) {
				t.Errorf("mounts are left: %v\n%s", err, data)
			}
		})
	}
}

// TestDamagedCache changes what a cache has on the disk between two builds: it is noticed, and the layer is made again.
func TestDamagedCache(t *testing.T) {
	sandboxtest.NeedKernel(t)
	program := sandboxtest.Program(t, lifecycleProgram)
	kept := func(dir string) []string {
		all, err := filepath.Glob(filepath.Join(dir, "cache", "unpacked", "layers", "sha256", "*", "fs", dir, "layers", "a", "kept", "file"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	tars := func(dir string) []string {
		all, err := filepath.Glob(filepath.Join(dir, "cache", "committed", "sha256:*.tar"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	spoil := func(files []string) error {
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(f, data, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	for name, test := range map[string]struct {
		damage func(dir string) error
		fresh  bool // the layer has to be made again
	}{
		"unpacked layer":          {func(dir string) error { return spoil(kept(dir)) }, false}, // there is still its tar
		"tar":                     {func(dir string) error { return spoil(tars(dir)) }, false}, // there is still the layer
		"both":                    {func(dir string) error { return errors.Join(spoil(kept(dir)), spoil(tars(dir))) }, true},
		"unpacked layers missing": {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "cache", "unpacked")) }, false},
		"everything missing": {func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "cache", "unpacked")), os.RemoveAll(filepath.Join(dir, "cache", "committed")))
		}, true},
		"metadata": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "cache", "committed", "io.buildpacks.lifecycle.cache.metadata"), []byte("{"), 0o644)
		}, true},
		"unpacked layers without a format": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "cache", "unpacked", "format.json"), []byte(`{"format":"weft-store","version":1}`), 0o644)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, faulty)
			w.furnish("0.15")
			w.program = program
			for i := range 2 {
				if code, text := w.create("app"); code != 0 {
					t.Fatal(text)
				} else if i == 1 && strings.Contains(text, "fresh") {
					t.Fatalf("an undamaged layer was made again\n%s", text)
				}
			}
			if os.Getuid() == 0 && len(kept(w.dir)) != 1 {
				t.Errorf("layers are not kept unpacked: %v", kept(w.dir))
			}
			if err := test.damage(w.dir); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.RemoveAll(filepath.Join(w.dir, "layers")), os.Mkdir(filepath.Join(w.dir, "layers"), 0o755)); err != nil {
				t.Fatal(err)
			}
			code, text := w.create("app")
			if code != 0 || strings.Contains(text, "fresh") != test.fresh {
				t.Errorf("exit code %d; made again: %v, want %v\n%s", code, strings.Contains(text, "fresh"), test.fresh, text)
			}
			w.published("app")
			if code, text := w.create("app"); code != 0 || strings.Contains(text, "fresh") {
				t.Errorf("the build after that: %d\n%s", code, text)
			}
		})
	}
}

// TestRegistryFaults lets a registry misbehave: for a while, and nobody notices; for good, and there is a clear error with the exit code of
// the phase, the name leads to what it led to, and the cache is not lost.
func TestRegistryFaults(t *testing.T) {
	sandboxtest.NeedKernel(t)
	program := sandboxtest.Program(t, lifecycleProgram)
	tests := []struct {
		name   string
		faults []registrytest.Fault
		code   int
		want   string
	}{
		{"throttles", []registrytest.Fault{{Method: "POST", Times: 2, Status: 429, RetryAfter: time.Second}}, 0, ""},
		{"drops connections", []registrytest.Fault{{Method: "PATCH", Times: 2, CutIn: 100}, {Method: "PUT", Times: 1, CutIn: -1}, {Method: "GET", Times: 1, CutOut: 10}}, 0, ""},
		{"loses answers", []registrytest.Fault{{Method: "PUT", Times: 2, Lost: true}}, 0, ""},
		{"forgets uploads", []registrytest.Fault{registrytest.Forgetting("PATCH", 1, 1)}, 0, ""},
		{"fails for a while", []registrytest.Fault{{Path: "/blobs/", Times: 2, Status: 503}}, 0, ""},
		{"refuses a blob", []registrytest.Fault{{Method: "PUT", Path: "/blobs/", Status: 400, Code: "DIGEST_INVALID"}}, 62, "DIGEST_INVALID"},
		{"refuses the manifest", []registrytest.Fault{{Method: "PUT", Path: "/manifests/", Status: 403, Code: "DENIED"}}, 62, "DENIED"},
		{"refuses pushes", []registrytest.Fault{{Method: "POST", Path: "/blobs/uploads/", Status: 403, Code: "DENIED"}}, 32, "read/write access"},
		{"refuses to be read", []registrytest.Fault{{Method: "GET", Path: "run/manifests/", Status: 403, Code: "DENIED"}}, 3, "accessible run image"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, faulty)
			w.furnish("0.15")
			w.program = program
			if code, text := w.create("app"); code != 0 {
				t.Fatal(text)
			}
			before := w.published("app")
			w.write("app/page", tt.name) // something to publish
			for _, f := range tt.faults {
				w.registry.Fail(f)
			}
			code, text := w.create("app")
			w.registry.Heal()
			if tt.name == "refuses to be read" {
				if code == 0 || !strings.Contains(text, tt.want) {
					t.Errorf("exit code %d, want %q\n%s", code, tt.want, text)
				}
			} else if code != tt.code || !strings.Contains(text, tt.want) {
				t.Errorf("exit code %d, want %d and %q\n%s", code, tt.code, tt.want, text)
			}
			if after := w.published("app"); (after == before) != (tt.code != 0) {
				t.Errorf("the name leads to %s, before to %s", after, before)
			}
			w.sound()
			if code, text := w.create("app"); code != 0 || strings.Contains(text, "fresh") {
				t.Errorf("the next build: %d\n%s", code, text)
			}
		})
	}
}

// TestTokenEndsWhilePushing uses tokens that are good for a moment and do not say so.
func TestTokenEndsWhilePushing(t *testing.T) {
	sandboxtest.NeedKernel(t)
	w := newWorld(t, faulty)
	w.furnish("0.15")
	// The run images move to a registry that wants tokens.
	open, storage := w.registry, w.registry.Storage
	w.registry = registrytest.New(t, registrytest.Config{Storage: storage, Token: &registrytest.Token{User: "me", Password: "secret", TTL: 25 * time.Millisecond, Hidden: true}})
	for _, name := range []string{"run.toml", "stack.toml"} {
		data, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		w.write(name, strings.ReplaceAll(string(data), open.Host, w.registry.Host))
	}
	w.program = sandboxtest.Program(t, lifecycleProgram)
	w.env = append(w.env, `CNB_REGISTRY_AUTH={"`+w.registry.Host+`":"Basic bWU6c2VjcmV0"}`)
	for range 2 {
		if code, text := w.create("app"); code != 0 || strings.Contains(text, "secret") || strings.Contains(text, "bWU6c2VjcmV0") {
			t.Fatalf("exit code %d\n%s", code, text)
		}
	}
	if w.registry.Tokens() < 3 {
		t.Errorf("only %d tokens were used: they did not end", w.registry.Tokens())
	}
	w.env[len(w.env)-1] = `CNB_REGISTRY_AUTH={"` + w.registry.Host + `":"Basic bWU6d3Jvbmc="}`
	code, text := w.create("app")
	if code == 0 || strings.Contains(text, "d3Jvbmc=") || !slices.Contains([]int{1, 3, 32, 62}, code) {
		t.Errorf("a wrong password: exit code %d\n%s", code, text)
	}
	registryOpen := w.registry
	w.registry = open
	w.published("app")
	w.registry = registryOpen
}
