package buildpack_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/bundled"
	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
)

// keeper is a buildpack that does what the application's file "step" says to its layers, and prints what it then sees of them.
const keeper = `#!/bin/sh
set -e
app=$PWD
cd "$CNB_LAYERS_DIR"
. "$app/step"
printf '[types]\nlaunch = true\ncache = true\n' >kept.toml
printf '[types]\nbuild = true\ncache = true\n' >tools.toml
printf '[[processes]]\ntype = "web"\ncommand = ["none"]\n' >launch.toml
( cd kept && find . | LC_ALL=C sort | while read -r f; do
  if [ -h "$f" ]; then echo "see $f -> $(readlink "$f")"
  elif [ -d "$f" ]; then echo "see $f/ $(stat -c %a "$f")"
  else echo "see $f $(stat -c %a "$f") $(cat "$f")"; fi
done )
`

// steps change layers in every way that an overlay knows.
var steps = []struct {
	name, script string
	reused       bool // the launch layer is that of the last image
}{
	{"first", `mkdir -p kept/a/b kept/ro kept/gone tools/env tools/bin; echo 1 >kept/a/one; echo 2 >kept/a/b/two; ln -s one kept/a/link; echo x >kept/gone/x
		echo r >kept/ro/file; chmod 555 kept/ro; echo v1 >tools/env/TOOL; echo t >tools/bin/tool; ln -s bin tools/lib`, false},
	{"nothing", `cat kept/a/one >/dev/null`, true},
	{"change, add and remove", `echo one more >kept/a/one; echo 3 >kept/three; rm kept/a/b/two; chmod 600 kept/a/one; echo v2 >tools/env/TOOL`, false},
	{"nothing after a change", `:`, true},
	{"rename and replace", `mv kept/a kept/z; rm -r kept/gone; echo file >kept/gone; rm kept/three; mkdir kept/three; echo in >kept/three/in`, false},
	{"folder removed and made again", `rm -r kept/z; mkdir kept/z; echo new >kept/z/new`, false},
	{"layer removed and made again", `chmod -R u+w kept; rm -rf kept tools; mkdir -p kept/only tools; echo o >kept/only/o`, false},
	{"nothing at the end", `:`, true},
	{"read-only folder changed", `mkdir kept/ro; echo a >kept/ro/a; chmod 555 kept/ro`, false},
	{"and once more", `chmod 755 kept/ro; echo b >kept/ro/b; chmod 555 kept/ro`, false},
}

// TestKeptLayers builds again and again with layers that come back by mounting, or from a cache image on another machine each time: what
// the buildpack sees at the end of its run is what the image has.
func TestKeptLayers(t *testing.T) {
	t.Run("mounted", func(t *testing.T) { keptLayers(t, false) })
	t.Run("image", func(t *testing.T) { keptLayers(t, true) })
}

func keptLayers(t *testing.T, inImage bool) {
	m := newMachine(t)
	source := files(t, map[string]string{
		"keeper/buildpack.toml": "api = \"0.10\"\n[buildpack]\nid = \"test/keeper\"\nversion = \"1\"\n",
		"keeper/bin/detect":     "#!/bin/sh\n", "keeper/bin/build": keeper,
		"user/buildpack.toml": "api = \"0.10\"\n[buildpack]\nid = \"test/user\"\nversion = \"1\"\n",
		"user/bin/detect":     "#!/bin/sh\n", "user/bin/build": "#!/bin/sh\necho \"tool $TOOL lib $LIBRARY_PATH\"\n",
		"project.toml": "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nuri = \"keeper\"\n[[io.buildpacks.group]]\nuri = \"user\"\n",
	})
	for _, name := range []string{"keeper/bin/detect", "keeper/bin/build", "user/bin/detect", "user/bin/build"} {
		if err := os.Chmod(filepath.Join(source, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i, step := range steps {
		if err := os.WriteFile(filepath.Join(source, "step"), []byte(step.script+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		opts := m.options(source, "kept")
		if inImage {
			opts.CacheImage, opts.State = m.host+"/kept-cache", t.TempDir()
		}
		m.events = nil
		result, err := buildpack.Build(t.Context(), opts)
		if err != nil {
			t.Fatalf("%v\n%s", err, m.output())
		}
		var seen []string
		for _, e := range m.events {
			if rest, ok := strings.CutPrefix(e.Line, "see "); ok && e.Kind == buildpack.Output {
				seen = append(seen, rest)
			}
		}
		want := strings.Join(seen, "\n")
		out, err := exec.Command("sh", "-c", `cd "$1/layers/test_keeper/kept" && find . | LC_ALL=C sort | while read -r f; do
  if [ -h "$f" ]; then echo "$f -> $(readlink "$f")"
  elif [ -d "$f" ]; then echo "$f/ $(stat -c %a "$f")"
  else echo "$f $(stat -c %a "$f") $(cat "$f")"; fi
done`, "sh", unpack(t, m.pull(result.Ref))).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want || want == "" {
			t.Errorf("%s: the image has\n%s\nthe buildpack saw\n%s\n%v", step.name, got, want, err)
		}
		if reused := strings.Contains(m.output(), "Reusing layer 'test/keeper:kept'"); reused != step.reused {
			t.Errorf("%s: reused is %v\n%s", step.name, reused, m.output())
		}
		tool := map[bool]string{true: "tool v1", false: "tool v2"}[i < 2]
		if i >= 6 {
			tool = "tool  lib"
		}
		if !strings.Contains(m.output(), tool) || i < 6 && !strings.Contains(m.output(), "lib /layers/test_keeper/tools/lib") {
			t.Errorf("%s: the next buildpack does not see the layer for building (%s)\n%s", step.name, tool, m.output())
		}
		left, err := filepath.Glob(filepath.Join(m.state, "store", "layers", "sha256", "*"))
		if err != nil || len(left) > 3 { // kept, tools and the SBOMs
			t.Errorf("%s: layers that nothing refers to stay: %v %v", step.name, left, err)
		}
	}
}

// TestAsOrdinaryUser builds as a user without any right.
func TestAsOrdinaryUser(t *testing.T) {
	sandboxtest.NeedKernel(t)
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else; the other tests run as an ordinary user")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "weft-rootless-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "test")
	if err := errors.Join(os.WriteFile(copied, data, 0o755), os.Chown(dir, 61235, 61235)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "-test.run", "^(TestKeptLayers|TestOwnBuildpacks)$")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "HOME=" + dir, envSandbox + "=" + sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/sandbox"),
		envLauncher + "=" + sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/launcher")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61235, Gid: 61235}}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), sandbox.ErrUnavailable.Error()) {
		t.Skipf("the kernel does not let ordinary users make namespaces:\n%s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Programs for a test that another user runs, who cannot build them.
const envSandbox, envLauncher = "WEFT_TEST_SANDBOX", "WEFT_TEST_LAUNCHER"

func programs(t testing.TB) buildpack.Programs {
	if p := (buildpack.Programs{Sandbox: os.Getenv(envSandbox), Launcher: os.Getenv(envLauncher)}); p.Sandbox != "" {
		return p
	}
	return buildpack.Programs{
		Sandbox:  sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/sandbox"),
		Launcher: sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/launcher"),
		Programs: bundled.Programs{Web: sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/webfiles"), Certificates: sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/certificates")},
	}
}
