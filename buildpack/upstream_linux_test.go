package buildpack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/buildpackage"
	"github.com/weft-dev/weft/registry"
)

// TestUpstream runs buildpacks that others wrote, from checkouts below the folder UPSTREAM: buildpacks-samples (github.com/buildpacks/samples),
// procfile and environment-variables (github.com/paketo-buildpacks), builder (github.com/OpenFunction/builder). docs/buildpacks-conformance.md
// says what was seen.
func TestUpstream(t *testing.T) {
	upstream := os.Getenv("UPSTREAM")
	if upstream == "" {
		t.Skip("needs checkouts of others' buildpacks: make conformance UPSTREAM=FOLDER")
	}
	m := newMachine(t)
	useArchive(t, m.state)
	u := &upstreamTest{machine: m, dir: upstream}
	t.Run("samples", u.samples)
	t.Run("paketo", u.paketo)
	t.Run("openfunction", u.openFunction)
}

type upstreamTest struct {
	*machine
	dir string
}

func (u *upstreamTest) need(t *testing.T, checkout string) string {
	t.Helper()
	u.t = t
	dir := filepath.Join(u.dir, checkout)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("needs a checkout: %v", err)
	}
	return dir
}

// run starts a process of an image and gives what it prints.
func (u *upstreamTest) run(t *testing.T, ref, process string, args ...string) string {
	t.Helper()
	cmd := container(t, u.pull(ref), args...)
	if process != "" {
		cmd.Path = "/cnb/process/" + process
		cmd.Args[0] = cmd.Path
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s of %s: %v\n%s", process, ref, err, out)
	}
	return string(out)
}

func (u *upstreamTest) expect(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s has no %q:\n%s", what, w, got)
		}
	}
}

// samples builds the sample application as its README says, with a builder that has a package of the sample buildpacks.
func (u *upstreamTest) samples(t *testing.T) {
	dir := u.need(t, "buildpacks-samples")
	pack := filepath.Join(t.TempDir(), "hello-universe.cnb")
	finder := &buildpackage.Finder{Registry: registry.New(registry.Options{}), Cache: t.TempDir()}
	p, err := finder.Find(t.Context(), buildpackage.Locator{Kind: buildpackage.FromPath, Place: filepath.Join(dir, "buildpacks/hello-universe")})
	if err != nil {
		t.Fatal(err)
	}
	img, err := buildpackage.Make(p, runtime.GOARCH, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := buildpackage.WriteFile(img, pack); err != nil {
		t.Fatal(err)
	}
	name := u.builder("samples", []string{pack, filepath.Join(dir, "buildpacks/hello-processes")}, nil, "", "samples/hello-universe", "samples/hello-processes")

	opts := u.options(filepath.Join(dir, "apps/bash-script"), "samples/bash-script")
	opts.Builder = name
	result, err := buildpack.Build(t.Context(), opts)
	if err != nil {
		t.Fatalf("%v\n%s", err, u.output())
	}
	got := u.run(t, result.Ref, "")
	u.expect(t, "the application", got, "Here are the contents of the current working directory:", "app.sh")
	if strings.Contains(got, "README.md") {
		t.Error("what project.toml excludes is in the image")
	}

	opts = u.options(filepath.Join(dir, "apps/bash-script"), "samples/hello")
	opts.Builder, opts.Buildpacks = name, []string{"from=builder"}
	if result, err = buildpack.Build(t.Context(), opts); err != nil {
		t.Fatalf("%v\n%s", err, u.output())
	}
	u.expect(t, "the output of the build", u.output(), "---> Hello World buildpack", "---> Hello Moon buildpack", "---> Hello processes buildpack", "env_dir: /platform/env",
		"layers_dir: /layers/samples_hello-world")
	u.expect(t, "the process sys-info", u.run(t, result.Ref, "sys-info"), "env vars:", `PWD="/workspace"`)
	var ids []string
	for _, e := range result.Buildpacks {
		ids = append(ids, e.String())
	}
	if want := "samples/hello-world@0.0.2 samples/hello-moon@0.0.2 samples/hello-processes@0.0.1"; strings.Join(ids, " ") != want {
		t.Errorf("the buildpacks are %s, want %s", ids, want)
	}
}

// compile builds a program of a checkout, outside of it, and puts it as both programs of a buildpack into a new folder.
func (u *upstreamTest) compile(t *testing.T, checkout, pkg, descriptor string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.Mkdir(filepath.Join(to, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(to, "bin", "main"), pkg)
	cmd.Dir, cmd.Env = checkout, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod -modcacherw", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	for _, name := range []string{"detect", "build"} {
		if err := os.Symlink("main", filepath.Join(to, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(checkout, descriptor))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), "{{.version}}", "1.2.3")
	if err := os.WriteFile(filepath.Join(to, "buildpack.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return to
}

// paketo builds an application with Paketo's buildpacks for Procfile and for variables.
func (u *upstreamTest) paketo(t *testing.T) {
	procfile, variables := u.need(t, "procfile"), u.need(t, "environment-variables")
	opts := u.options(files(t, map[string]string{"Procfile": "web: echo hello $COLOUR\nworker: printf working-%s $COLOUR\n", "page": "x"}), "paketo/app")
	opts.Builder = "debian:base"
	opts.Buildpacks = []string{u.compile(t, copyOf(t, procfile), "./cmd/main", "buildpack.toml"), u.compile(t, copyOf(t, variables), "./cmd/main", "buildpack.toml")}
	opts.Env = map[string]string{"BPE_COLOUR": "green"}
	result, err := buildpack.Build(t.Context(), opts)
	if err != nil {
		t.Fatalf("%v\n%s", err, u.output())
	}
	u.expect(t, "web", u.run(t, result.Ref, ""), "hello green")
	u.expect(t, "worker", u.run(t, result.Ref, "worker"), "working-green")
}

// openFunction builds a Go application and a Go function with OpenFunction's builder.
func (u *upstreamTest) openFunction(t *testing.T) {
	dir := copyOf(t, u.need(t, "builder"))
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	compile := func(cmd string) string {
		at := u.compile(t, dir, "./cmd/"+cmd, filepath.Join("cmd", cmd, "buildpack.toml"))
		if converter := filepath.Join(dir, "cmd", cmd, "converter"); exists(converter) {
			if err := os.CopyFS(filepath.Join(at, "converter"), os.DirFS(converter)); err != nil {
				t.Fatal(err)
			}
		}
		return at
	}
	name := u.builder("openfunction", []string{compile("go/of_functions_framework"), compile("go/build"), compile("config/entrypoint"), compile("go/clear_source"), compile("utils/label")},
		map[string]string{"CNB_STACK_ID": "openfunction.go117", "PATH": "/opt/go/bin:/usr/local/bin:/usr/bin:/bin"}, "",
		"openfunction.go.of-functions-framework?", "google.go.build", "google.config.entrypoint?", "google.go.clear_source?", "google.utils.label")
	build := func(source, image string, env map[string]string) string {
		opts := u.options(copyOf(t, filepath.Join(dir, "builders/testdata/go", source)), image)
		opts.Builder, opts.Env = name, env
		opts.Volumes = []buildpack.Volume{{Source: strings.TrimSpace(string(root)), Target: "/opt/go"}}
		result, err := buildpack.Build(t.Context(), opts)
		if err != nil {
			t.Fatalf("%s: %v\n%s", source, err, u.output())
		}
		return result.Ref
	}
	env := map[string]string{"GOOGLE_RUNTIME_VERSION": "", "GOFLAGS": "-mod=mod"}
	if page := askPage(t, u.pull(build("gomod", "openfunction/app", env))); !strings.Contains(page, "PASS") {
		t.Errorf("the application's page is %q", page)
	}
	env["FUNC_NAME"] = "Func"
	function := u.pull(build("functions/no_framework", "openfunction/function", env))
	if page := askPage(t, function, `FUNC_CONTEXT={"name":"func","version":"v1","runtime":"Knative","port":"PORT"}`, "POD_NAME=func-1", "POD_NAMESPACE=default"); !strings.Contains(page, "PASS") {
		t.Errorf("the function's page is %q", page)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
