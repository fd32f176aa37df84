package buildpack_test

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
	"github.com/weft-dev/weft/registry/registrytest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	sandboxtest.Clean()
	os.Exit(code)
}

// machine is a registry and a state folder.
type machine struct {
	t        testing.TB
	registry *registrytest.Registry
	host     string
	state    string
	env      map[string]string
	events   []buildpack.Event
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	sandboxtest.NeedKernel(t)
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs a Go toolchain")
	}
	r := registrytest.New(t, registrytest.Config{})
	state := t.TempDir()
	removable(t, state)
	return &machine{t: t, registry: r, host: r.Host, state: state}
}

func (m *machine) options(source, image string) buildpack.Options {
	m.events = nil
	return buildpack.Options{Source: source, Image: m.host + "/" + image, State: m.state, Env: m.env,
		Programs: programs(m.t),
		Events:   func(e buildpack.Event) { m.events = append(m.events, e) },
	}
}

func (m *machine) build(source, image string) buildpack.Result {
	m.t.Helper()
	result, err := buildpack.Build(m.t.Context(), m.options(source, image))
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.output())
	}
	return result
}

func (m *machine) output() string {
	var b strings.Builder
	for _, e := range m.events {
		fmt.Fprintf(&b, "%s %s %s %s %s\n", e.Phase, e.Kind, e.Buildpack, e.Line, e.Cache)
	}
	return b.String()
}

func (m *machine) pull(ref string) v1.Image {
	m.t.Helper()
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		m.t.Fatal(err)
	}
	img, err := remote.Image(parsed)
	if err != nil {
		m.t.Fatal(err)
	}
	return img
}

// files writes a folder.
func files(t testing.TB, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range contents {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const mainGo = `package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	page, err := os.ReadFile("page.txt")
	fmt.Printf("%s %v pid=%d args=%v %s\n", page, err, os.Getpid(), os.Args[1:], os.Getenv("GREETING"))
	if len(os.Args) > 1 && os.Args[1] == "wait" {
		time.Sleep(time.Hour)
	}
}
`

// removable lets an ordinary user remove a folder at the end although there are folders in it that cannot be written.
func removable(t testing.TB, dir string) {
	t.Cleanup(func() {
		err := filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return err
			}
			return os.Chmod(name, 0o755)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// unpack writes the files of an image to a folder.
func unpack(t testing.TB, img v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	r := mutate.Extract(img)
	defer r.Close()
	tr := tar.NewReader(r)
	modes := map[string]os.FileMode{} // of folders, set when all is in them
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			for name, mode := range modes {
				if err := os.Chmod(name, mode); err != nil {
					t.Fatal(err)
				}
			}
			removable(t, dir)
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			modes[to] = h.FileInfo().Mode().Perm()
			err = os.MkdirAll(to, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, to)
		case tar.TypeLink: // its target lies before it in the same layer
			err = os.Link(filepath.Join(dir, h.Linkname), to)
		case tar.TypeReg:
			var data []byte
			if data, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(to, data, h.FileInfo().Mode().Perm())
			}
		default:
			t.Fatalf("%s is neither file nor folder nor link: %c", h.Name, h.Typeflag)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// container starts the image's process as PID 1 of a PID namespace, as a container runtime does.
func container(t testing.TB, img v1.Image, args ...string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to change the root folder")
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(config.Config.Entrypoint[0], args...)
	cmd.Env, cmd.Dir = config.Config.Env, config.Config.WorkingDir
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: unpack(t, img), Cloneflags: syscall.CLONE_NEWPID,
		Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	// Go looks the program up on this side of the new root; the path inside is what counts.
	cmd.Path, cmd.Err = config.Config.Entrypoint[0], nil
	return cmd
}

// TestGo builds Go applications with one state folder, for the toolchain's own cache is what makes builds fast.
func TestGo(t *testing.T) {
	m := newMachine(t)
	for name, test := range map[string]func(*testing.T, *machine){
		"application": testApplication, "SIGTERM": testContainerEndsOnSIGTERM, "wrong": testWhatGoesWrong, "faults": testRegistryFaults,
	} {
		t.Run(name, func(t *testing.T) {
			m.t = t
			test(t, m)
		})
	}
}

func testApplication(t *testing.T, m *machine) {
	source := files(t, map[string]string{
		"go.mod":   "module example.com/hello\n\ngo 1.24\n",
		"main.go":  mainGo,
		"page.txt": "hello",
		"Procfile": "web: /layers/weft_go/app/bin/hello from procfile\n",
	})
	m.env = map[string]string{"BPE_GREETING": "it's \"fine\" $HOME"}
	defer func() { m.env = nil }()
	first := m.build(source, "team/hello:v1")
	if first.Unchanged || first.Digest == "" || first.Ref != m.host+"/team/hello@"+first.Digest {
		t.Errorf("unexpected result %+v", first)
	}
	img := m.pull(m.host + "/team/hello:v1")

	out, err := container(t, img).CombinedOutput()
	if want := "hello <nil> pid=1 args=[from procfile] it's \"fine\" $HOME\n"; err != nil || string(out) != want {
		t.Errorf("the container printed %q (%v), want %q", out, err, want)
	}
	if m.build(source, "team/hello:v1"); !strings.Contains(m.output(), "unchanged") || strings.Contains(m.output(), "detect") {
		t.Errorf("an unchanged source was built again:\n%s", m.output())
	}
	if err := os.WriteFile(filepath.Join(source, "page.txt"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	second := m.build(source, "team/hello:v1")
	if second.Unchanged || second.Digest == first.Digest {
		t.Errorf("a changed source was not built: %+v", second)
	}
	if !strings.Contains(m.output(), "2 cached layers") {
		t.Errorf("the caches were not used:\n%s", m.output())
	}
	if n := sharedLayers(t, img, m.pull(second.Ref)); n < 4 {
		t.Errorf("only %d layers are the same after a change of one page", n)
	}
	if out, err := container(t, m.pull(second.Ref)).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "changed") {
		t.Errorf("the container printed %q (%v)", out, err)
	}
}

func sharedLayers(t *testing.T, a, b v1.Image) int {
	t.Helper()
	seen := map[v1.Hash]bool{}
	for i, img := range []v1.Image{a, b} {
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, l := range manifest.Layers {
			if i == 1 && seen[l.Digest] {
				n++
			}
			seen[l.Digest] = true
		}
		if i == 1 {
			return n
		}
	}
	return 0
}

func testContainerEndsOnSIGTERM(t *testing.T, m *machine) {
	source := files(t, map[string]string{"go.mod": "module example.com/wait\n\ngo 1.24\n", "main.go": mainGo, "page.txt": "x"})
	m.build(source, "team/hello:v1")
	cmd := container(t, m.pull(m.host+"/team/hello:v1"), "wait")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.Contains(line, "pid=1") {
		t.Fatalf("%q %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		t.Errorf("ended with %v, want an end by itself after SIGTERM", err)
	}
}

// TestOwnBuildpacks builds with buildpacks of the project: an inline script, a layer that is made once, one that is kept.
func TestOwnBuildpacks(t *testing.T) {
	m := newMachine(t)
	source := files(t, map[string]string{
		"project.toml": `
[_]
schema-version = "0.2"
[io.buildpacks]
exclude = ["*.md", "/secret"]
[[io.buildpacks.group]]
uri = "bp"
[[io.buildpacks.group]]
id = "test/inline"
[io.buildpacks.group.script]
api = "0.10"
inline = "ls >list; printf '%s' \"$COLOUR\" >colour"
[[io.buildpacks.build.env]]
name = "COLOUR"
value = "green"
`,
		"readme.md": "x", "secret/key": "x", "page": "one",
		"bp/buildpack.toml": "api = \"0.10\"\n[buildpack]\nid = \"test/own\"\nversion = \"1\"\n",
		"bp/bin/detect":     "#!/bin/sh\n",
		"bp/bin/build": `#!/bin/sh
cd "$CNB_LAYERS_DIR"
if [ ! -f once.toml ]; then mkdir once; echo made >once/file; echo "made once"; fi
printf '[types]\nlaunch = true\n[metadata]\nv = 1\n' >once.toml
[ -f kept/file ] || { mkdir -p kept; head -c 100000 /dev/urandom >kept/file; echo "made kept"; }
printf '[types]\nlaunch = true\ncache = true\n' >kept.toml
printf '[[processes]]\ntype = "web"\ncommand = ["none"]\n' >launch.toml
`})
	for _, name := range []string{"bp/bin/detect", "bp/bin/build"} {
		if err := os.Chmod(filepath.Join(source, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	first := m.build(source, "own")
	if !strings.Contains(m.output(), "made once") || !strings.Contains(m.output(), "made kept") {
		t.Fatalf("the buildpack did not run as expected:\n%s", m.output())
	}
	root := unpack(t, m.pull(first.Ref))
	list, err := os.ReadFile(filepath.Join(root, "workspace/list"))
	if want := "bp\nlist\npage\nproject.toml\n"; err != nil || string(list) != want {
		t.Errorf("the source was %q (%v), want %q", list, err, want)
	}
	if colour, err := os.ReadFile(filepath.Join(root, "workspace/colour")); string(colour) != "green" {
		t.Errorf("the variable of project.toml is %q (%v)", colour, err)
	}
	if err := os.WriteFile(filepath.Join(source, "page"), []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	second := m.build(source, "own")
	if strings.Contains(m.output(), "made once") || strings.Contains(m.output(), "made kept") {
		t.Errorf("layers were made again:\n%s", m.output())
	}
	for _, file := range []string{"layers/test_own/once/file", "layers/test_own/kept/file"} {
		a, errA := os.ReadFile(filepath.Join(root, file))
		b, errB := os.ReadFile(filepath.Join(unpack(t, m.pull(second.Ref)), file))
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s is not the same in both images (%v, %v)", file, errA, errB)
		}
	}
	// A kept layer that something else has changed is not used, but made again.
	damaged, err := filepath.Glob(filepath.Join(m.state, "store", "layers", "sha256", "*", "fs", "layers", "test_own", "kept", "file"))
	if err != nil || len(damaged) != 1 {
		t.Fatal(damaged, err)
	}
	if err := errors.Join(os.WriteFile(damaged[0], []byte("changed"), 0o644), os.WriteFile(filepath.Join(source, "page"), []byte("three"), 0o644)); err != nil {
		t.Fatal(err)
	}
	third := m.build(source, "own")
	if !strings.Contains(m.output(), "made kept") || !strings.Contains(m.output(), "was changed on the disk") {
		t.Errorf("a damaged layer was used:\n%s", m.output())
	}
	if got, err := os.ReadFile(filepath.Join(unpack(t, m.pull(third.Ref)), "layers/test_own/kept/file")); string(got) == "changed" || err != nil {
		t.Errorf("a damaged layer is in the image: %.20q %v", got, err)
	}
}

// testRegistryFaults shows that what a registry does wrong for a while is overcome, and that for good nothing is published.
func testRegistryFaults(t *testing.T, m *machine) {
	source := files(t, map[string]string{"go.mod": "module example.com/faults\n\ngo 1.24\n", "main.go": mainGo, "page.txt": "one"})
	defer m.registry.Heal()
	m.registry.Fail(registrytest.Fault{Method: "PATCH", Times: 2, CutIn: 1000})
	m.registry.Fail(registrytest.Fault{Method: "PUT", Times: 1, Lost: true})
	m.registry.Fail(registrytest.Fault{Method: "POST", Times: 1, Status: 429, RetryAfter: time.Second})
	m.registry.Fail(registrytest.Forgetting("PATCH", 2, 1))
	first := m.build(source, "team/hello:faults")
	if out, err := container(t, m.pull(first.Ref)).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "one") {
		t.Errorf("the container printed %q (%v)", out, err)
	}
	m.registry.Heal()
	if err := os.WriteFile(filepath.Join(source, "page.txt"), []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.registry.Fail(registrytest.Fault{Method: "PUT", Path: "/blobs/", Status: 400, Code: "DIGEST_INVALID"})
	opts := m.options(source, "team/hello:faults")
	if _, err := buildpack.Build(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "DIGEST_INVALID") {
		t.Errorf("a refused blob gave %v", err)
	}
	m.registry.Heal()
	now, err := m.pull(opts.Image).Digest()
	if err != nil || now.String() != first.Digest {
		t.Errorf("after a failed push the name leads to %s (%v), want still %s", now, err, first.Digest)
	}
	if second := m.build(source, "team/hello:faults"); second.Unchanged || second.Digest == first.Digest {
		t.Errorf("after a failed push the source counts as built: %+v", second)
	}
}

func testWhatGoesWrong(t *testing.T, m *machine) {
	tests := []struct {
		name   string
		source map[string]string
		change func(*buildpack.Options)
		want   string // in error or output
	}{
		{"no buildpack", map[string]string{"readme": ""}, nil, "no buildpack knows what to do"},
		{"compile error", map[string]string{"go.mod": "module x\n\ngo 1.24\n", "main.go": "package main\nfunc main() { nonsense }\n"}, nil, "main.go:2:15: undefined: nonsense"},
		{"no program", map[string]string{"go.mod": "module x\n\ngo 1.24\n", "x.go": "package x\n"}, nil, "No package main was found"},
		{"network forbidden", map[string]string{"go.mod": "module x\n\ngo 1.24\n\nrequire rsc.io/quote v1.5.2\n", "main.go": "package main\nimport _ \"rsc.io/quote\"\nfunc main() {}\n"},
			func(o *buildpack.Options) { o.NoNetwork = true }, "dial"},
		{"source missing", nil, func(o *buildpack.Options) { o.Source = "/nonesuch" }, "/nonesuch"},
		{"bad image name", map[string]string{"go.mod": ""}, func(o *buildpack.Options) { o.Image = "UPPER CASE" }, "UPPER CASE"},
		{"registry gone", map[string]string{"go.mod": "module x\n"}, func(o *buildpack.Options) { o.Image = "127.0.0.1:1/x" }, "127.0.0.1:1"},
		{"bad Procfile", map[string]string{"go.mod": "module x\n\ngo 1.24\n", "main.go": mainGo, "Procfile": "web: x\nnonsense\n"}, nil, "Procfile:2"},
		{"wrong default process", map[string]string{"go.mod": "module x\n\ngo 1.24\n", "main.go": mainGo},
			func(o *buildpack.Options) { o.DefaultProcess = "worker" }, "tried to set worker to default but it doesn't exist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts := m.options(files(t, tt.source), "team/hello:v1")
			if tt.change != nil {
				tt.change(&opts)
			}
			_, err := buildpack.Build(t.Context(), opts)
			if err == nil || !strings.Contains(err.Error()+m.output(), tt.want) {
				t.Errorf("got %v\n%s\nwant %q", err, m.output(), tt.want)
			}
			if left, _ := filepath.Glob(filepath.Join(m.state, "work", "*")); len(left) > 0 {
				t.Errorf("folders are left: %v", left)
			}
		})
	}
}
