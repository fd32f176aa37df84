package place

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// nobody is who builds; the socket is root's.
const nobody = 65534

// world is a folder with an application and a buildpack, and a registry with run images.
type world struct {
	t         *testing.T
	dir, host string
	env       []string // of programs
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), host: registrytest.New(t, registrytest.Config{}).Host}
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
		w.write(name, text)
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

func (w *world) write(name, text string) {
	w.t.Helper()
	file := filepath.Join(w.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil { //nolint:gosec // programs
		w.t.Fatal(err)
	}
}

// run runs a program of bin/ and gives its output and exit code.
func (w *world) run(program string, args ...string) (string, int) {
	w.t.Helper()
	path, err := filepath.Abs(filepath.Join(bin, program))
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), path, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "XDG_CACHE_HOME=" + w.dir + "/cache-home", "WEFT_STATE=" + w.dir + "/state",
		"CNB_PLATFORM_API=0.14", "CNB_RUN_PATH=" + w.dir + "/run.toml", fmt.Sprintf("CNB_USER_ID=%d", nobody), fmt.Sprintf("CNB_GROUP_ID=%d", nobody)}, w.env...)
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

// layout builds the application into a folder once.
func (w *world) layout() string {
	w.t.Helper()
	dir := filepath.Join(w.dir, "layout")
	if _, err := os.Stat(dir); err != nil {
		w.must("weft", "build", "oci:"+dir, "--path", w.dir+"/app", "--buildpack", w.dir+"/buildpacks/x/1", "--run-image", w.host+"/run:one")
	}
	return dir
}
