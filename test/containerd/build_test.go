//go:build linux

package containerd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// nobody is who builds; the socket is root's.
const nobody = 65534

// world is a folder with an application and a buildpack, and a registry with run images.
type world struct {
	*machine
	dir, host string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{machine: start(t), dir: t.TempDir(), host: registrytest.New(t, registrytest.Config{}).Host}
	for at := w.dir; at != "/tmp" && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil { //nolint:gosec // the build's user reads it
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"app/page":                      "one",
		"order.toml":                    "[[order]]\n[[order.group]]\nid = \"x\"\nversion = \"1\"\n",
		"run.toml":                      "[[images]]\nimage = \"" + w.host + "/run:one\"\nmirrors = [\"" + w.host + "/run:two\"]\n",
		"platform/env/A":                "1",
		"buildpacks/x/1/buildpack.toml": "api = \"0.10\"\n[buildpack]\nid = \"x\"\nversion = \"1\"\n",
		"buildpacks/x/1/bin/detect":     "#!/bin/sh\n",
		"buildpacks/x/1/bin/build": "#!/bin/sh\nset -e\nmkdir -p \"$1/l\"; echo content >\"$1/l/file\"\nprintf '[types]\\nlaunch = true\\n' >\"$1/l.toml\"\n" +
			"printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"serve\"]\\ndefault = true\\n' >\"$1/launch.toml\"\n",
	} {
		file := filepath.Join(w.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil { //nolint:gosec // programs
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.MkdirAll(w.dir+"/reports", 0o755), os.Chown(w.dir+"/reports", nobody, nobody)); err != nil { //nolint:gosec // as above
		t.Fatal(err)
	}
	client := registry.New(registry.Options{})
	for _, name := range []string{"run:one", "run:two"} {
		ref, err := registry.ParseReference(w.host + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.PushImage(t.Context(), ref, someImage(t, 2), registry.PushOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// run runs a program of bin/ and gives its output and exit code.
func (w *world) run(program string, args ...string) (string, int) {
	w.t.Helper()
	path, err := filepath.Abs(filepath.Join(bin, program))
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "XDG_CACHE_HOME=" + w.dir + "/cache-home", "WEFT_STATE=" + w.dir + "/state", "CNB_PLATFORM_API=0.14",
		"CNB_RUN_PATH=" + w.dir + "/run.toml", "CNB_USE_CONTAINERD=true", "CONTAINERD_ADDRESS=" + w.socket,
		fmt.Sprintf("CNB_USER_ID=%d", nobody), fmt.Sprintf("CNB_GROUP_ID=%d", nobody)}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (w *world) must(program string, args ...string) string {
	w.t.Helper()
	out, code := w.run(program, args...)
	if code != 0 {
		w.t.Fatalf("%s %s: exit code %d\n%s", program, strings.Join(args, " "), code, out)
	}
	return out
}

// image gives an image that must be in containerd, with its layers' diffIDs.
func (w *world) image(name string) (v1.Image, []v1.Hash) {
	w.t.Helper()
	img, err := w.connect("").Image(w.t.Context(), name)
	if err != nil || img == nil {
		w.t.Fatalf("%s: %v %v", name, img, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		w.t.Fatal(err)
	}
	return img, config.RootFS.DiffIDs
}

// phase gives the arguments of a phase.
func (w *world) phase(name string, more ...string) []string {
	args := []string{name}
	for _, flag := range map[string][]string{
		"create":  {"app", "layers", "platform", "buildpacks", "order"},
		"analyze": {"layers"},
		"detect":  {"app", "layers", "platform", "buildpacks", "order"},
		"restore": {"layers"},
		"build":   {"app", "layers", "platform", "buildpacks"},
		"export":  {"app", "layers"},
	}[name] {
		value := filepath.Join(w.dir, flag)
		if flag == "order" {
			value += ".toml"
		}
		args = append(args, "-"+flag, value)
	}
	if name == "create" || name == "export" {
		launcher, err := filepath.Abs(bin + "/launcher")
		if err != nil {
			w.t.Fatal(err)
		}
		args = append(args, "-launcher", launcher, "-report", w.dir+"/reports/report.toml")
	}
	return append(args, more...)
}

func (w *world) freshLayers() {
	w.t.Helper()
	layers := filepath.Join(w.dir, "layers")
	if err := errors.Join(os.RemoveAll(layers), os.MkdirAll(layers, 0o755)); err != nil { //nolint:gosec // the build's user reads it
		w.t.Fatal(err)
	}
}

// TestLifecycle builds with the lifecycle's programs, builds again, and rebases.
func TestLifecycle(t *testing.T) {
	w := newWorld(t)
	w.freshLayers()
	w.must("lifecycle", w.phase("create", "-tag", "other.example.com/app:v2", "app")...)
	first, ids := w.image("app")
	if second, _ := w.image("other.example.com/app:v2"); digest(t, second) != digest(t, first) {
		t.Error("the other tag means another image")
	}
	report, err := os.ReadFile(w.dir + "/reports/report.toml")
	if err != nil || !strings.Contains(string(report), digest(t, first)) {
		t.Errorf("report.toml is %s (%v)", report, err)
	}
	w.collect("k8s.io")
	blobs := len(w.blobs("k8s.io"))
	if blobs != len(ids)+2 || len(w.leases("k8s.io")) != 0 {
		t.Errorf("%d blobs for %d layers, leases %v", blobs, len(ids), w.leases("k8s.io"))
	}
	w.freshLayers()
	if out := w.must("lifecycle", w.phase("create", "app")...); !strings.Contains(out, "Reusing layer 'x:l'") {
		t.Errorf("the second build reuses nothing:\n%s", out)
	}
	if again, _ := w.image("app"); digest(t, again) != digest(t, first) {
		t.Error("the same source gave another image")
	}
	w.must("lifecycle", "rebase", "-run-image", w.host+"/run:two", "-report", w.dir+"/reports/report.toml", "app")
	if _, rebased := w.image("app"); rebased[0] == ids[0] || rebased[len(rebased)-1] != ids[len(ids)-1] {
		t.Errorf("rebase made %v of %v", rebased, ids)
	}
	if out, code := w.run("lifecycle", w.phase("create", "-daemon", "app")...); code != 3 || !strings.Contains(out, "exclude each other") {
		t.Errorf("-daemon and -containerd gave exit code %d: %s", code, out)
	}
	if out, code := w.run("lifecycle", w.phase("create", "-containerd-address", w.dir+"/none.sock", "app")...); code != 1 || !strings.Contains(out, "no containerd answers at "+w.dir) {
		t.Errorf("a missing containerd gave exit code %d: %s", code, out)
	}
}

// TestVerbs builds with weft build, which finds what is there, and inspects and rebases.
func TestVerbs(t *testing.T) {
	w := newWorld(t)
	build := []string{"build", "containerd:team/app:v1", "--path", w.dir + "/app", "--buildpack", w.dir + "/buildpacks/x/1", "--run-image", w.host + "/run:one"}
	if out := w.must("weft", build...); !strings.Contains(out, "docker.io/team/app:v1") && !strings.Contains(out, "team/app:v1 is in containerd at "+w.socket+", namespace k8s.io") {
		t.Errorf("the end does not say where the image is:\n%s", out)
	}
	first, ids := w.image("team/app:v1")
	if len(w.leases("k8s.io")) != 0 {
		t.Error("the build has left a lease")
	}
	if out := w.must("weft", build...); !strings.Contains(out, "Nothing has changed") {
		t.Errorf("the second build:\n%s", out)
	}
	if out := w.must("weft", "inspect", "containerd:team/app:v1"); !strings.Contains(out, digest(t, first)) || !strings.Contains(out, "serve") {
		t.Errorf("inspect shows\n%s", out)
	}
	w.must("weft", "rebase", "containerd:team/app:v1", "--run-image", w.host+"/run:two", "--force", "--unpack", "--snapshotter", snapshotter)
	rebased, moved := w.image("team/app:v1")
	if moved[0] == ids[0] || moved[len(moved)-1] != ids[len(ids)-1] {
		t.Errorf("rebase made %v of %v", moved, ids)
	}
	name, err := rebased.ConfigName()
	if err != nil || w.blobs("k8s.io")[name.String()]["containerd.io/gc.ref.snapshot."+snapshotter] == "" {
		t.Errorf("the rebased image was not unpacked (%v)", err)
	}
	w.must("weft", "rebase", "oci:"+w.layout(), "--run-image", w.host+"/run:two", "--force")
	if out := w.must("weft", "inspect", "oci:"+w.layout(), "-o", "json"); !strings.Contains(out, moved[0].String()) {
		t.Errorf("the rebased folder has\n%s", out)
	}
	if out, code := w.run("weft", "inspect", "containerd:nonesuch"); code != 1 || !strings.Contains(out, "containerd:nonesuch was not found") {
		t.Errorf("a missing image gave exit code %d: %s", code, out)
	}
	if out, code := w.run("weft", "inspect", "containerd:x", "--containerd-address", w.dir+"/none.sock"); code != 1 || !strings.Contains(out, "--containerd-address") {
		t.Errorf("a missing containerd gave exit code %d: %s", code, out)
	}
	if out, code := w.run("weft", "build", "containerd:UPPER"); code != 2 {
		t.Errorf("a bad name gave exit code %d: %s", code, out)
	}
}

// layout builds the application into a folder once.
func (w *world) layout() string {
	w.t.Helper()
	dir := filepath.Join(w.dir, "layout")
	if _, err := os.Stat(dir); err != nil {
		w.must("weft", "build", "oci:"+dir, "--path", w.dir+"/app", "--buildpack", w.dir+"/buildpacks/x/1", "--run-image", w.host+"/run:one")
	}
	return dir
}
