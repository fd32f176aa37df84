package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// TestBuildVerbs builds, inspects and rebases an image with the programs as they are installed.
func TestBuildVerbs(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "./cmd/weft", "./cmd/sandbox", "./cmd/launcher", "./cmd/lifecycle", "./cmd/webfiles", "./cmd/certificates")
	build.Dir, build.Env, build.Stderr = "../..", append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := build.Run(); err != nil {
		t.Fatal(err)
	}
	r := registrytest.New(t, registrytest.Config{})
	runImages(t, r.Host)
	for name, text := range map[string]string{
		"page": "one",
		"project.toml": "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"test/inline\"\n[io.buildpacks.group.script]\napi = \"0.10\"\n" +
			"inline = \"\"\"\nprintf '[[processes]]\\\\ntype = \\\"web\\\"\\\\ncommand = [\\\"serve\\\", \\\"it\\\"]\\\\ndefault = true\\\\n' >$1/launch.toml\n\"\"\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(bin, "pack")
	if err := os.Symlink("weft", link); err != nil {
		t.Fatal(err)
	}
	image := r.Host + "/team/app:v1"
	run := func(program string, args ...string) (int, string) {
		t.Helper()
		cmd := exec.Command(filepath.Join(bin, program), args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + bin, "XDG_CACHE_HOME=" + bin + "/cache"}
		out, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode(), string(exit.Stderr)
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0, string(out)
	}
	for _, step := range []struct {
		program string
		args    []string
		code    int
		want    string
	}{
		{"weft", []string{"inspect", image}, 1, "was not found"},
		{"weft", []string{"build", image, "--path", dir, "--run-image", r.Host + "/run:one"}, 0, "serve it"},
		{"weft", []string{"build", image, "--path", dir, "--run-image", r.Host + "/run:one"}, 0, "Nothing has changed"},
		{"pack", []string{"build", image, "--path", dir, "--run-image", r.Host + "/run:one", "--publish"}, 0, "Nothing has changed"},
		{"weft", []string{"inspect", image}, 0, "test/inline"},
		{"weft", []string{"rebase", image, "--run-image", r.Host + "/run:two"}, 1, "please provide -force"},
		{"weft", []string{"rebase", image, "--run-image", r.Host + "/run:two", "--force"}, 0, "/run@sha256:"},
		{"pack", []string{"inspect", image, "-o", "json"}, 0, "/run:two"},
		{"weft", []string{"sbom", "download", image, "--output-dir", filepath.Join(dir, "sbom")}, 0, "sbom/layers"},
		{"weft", []string{"build", "oci:" + filepath.Join(dir, "out"), "--path", dir}, 0, "is in the folder"},
		{"weft", []string{"build", image, "--path", "/nonesuch"}, 1, "/nonesuch"},
		{"weft", []string{"build", "plain-name", "--path", dir}, 1, "names no registry"},
		{"weft", []string{"build", image, "--path", dir, "--network", "mars"}, 2, "--network"},
		{"weft", []string{"build", image, "--path", dir, "--buildpack", "nonesuch"}, 1, "is no folder or file"},
		{"weft", []string{"build", image, "--path", dir, "--env", "=x"}, 2, "NAME=VALUE"},
		{"weft", []string{"build", image, "--path", dir, "--exec-env", "a/b"}, 2, "has no slash"},
		{"pack", []string{"build", "app", "--path", dir}, 1, "no Docker daemon answers and the embedded cluster does not run"},
		{"pack", []string{"build", image, "--nonsense"}, 1, "unknown flag"},
		{"pack", []string{"build", image, "--path", dir, "--cache-image", r.Host + "/cache"}, 1, "--cache-image: the layers go to a registry"},
		{"weft", []string{"build", image, "--path", dir, "--cache-image", r.Host + "/cache", "--cache", "type=build;format=bind;source=" + bin}, 2, "both say where layers are kept"},
		{"weft", []string{"build", image + "-kept", "--path", dir, "--cache", "type=build;format=image;name=" + r.Host + "/cache"}, 0, "is in " + r.Host},
		{"weft", []string{"build", image, "--path", dir, "--volume", "/:/cnb"}, 2, "/cnb belongs to the build"},
		{"weft", []string{"build", image, "--path", dir, "--platform", "linux/none"}, 2, "this machine builds for"},
		{"weft", []string{"build", image, "--path", dir, "--cache", "type=launch;format=volume"}, 2, "no cache of the type launch"},
		{"weft", []string{"build", image, "--path", dir, "--pull-policy", "sometimes"}, 2, "the pull policy"},
		{"weft", []string{"build", image, "--path", dir, "--workspace", "/cnb"}, 1, "the workspace"},
		{"weft", []string{"build", image, "--path", dir, "--builder", r.Host + "/run:one"}, 1, "is no builder"},
		{"weft", []string{"builder", "create", r.Host + "/builder"}, 2, "give either --config FILE or --from debian"},
		{"weft", []string{"builder", "create", r.Host + "/builder", "--config", filepath.Join(bin, "nonesuch.toml")}, 2, "--config"},
		{"weft", []string{"builder", "suggest"}, 0, "debian:full"},
		{"weft", []string{"buildpack", "new", "t/new", "--path", filepath.Join(bin, "new")}, 0, "t/new@1.0.0"},
		{"weft", []string{"buildpack", "package", filepath.Join(bin, "new.cnb"), "--format", "file", "--path", filepath.Join(bin, "new")}, 0, "with 1 buildpacks"},
		{"weft", []string{"buildpack", "package", r.Host + "/new", "--path", filepath.Join(bin, "new")}, 0, "is in " + r.Host},
		{"weft", []string{"buildpack", "inspect", filepath.Join(bin, "new.cnb")}, 0, "t/new@1.0.0"},
		{"pack", []string{"buildpack", "inspect", "docker://" + r.Host + "/new", "-o", "json"}, 0, "\"id\": \"t/new\""},
		{"weft", []string{"inspect", r.Host + "/new"}, 1, "is a buildpackage"},
		{"weft", []string{"build", image + "-cnb", "--path", dir, "--buildpack", filepath.Join(bin, "new.cnb"), "--report-output-dir", filepath.Join(bin, "report"),
			"--sbom-output-dir", filepath.Join(bin, "sboms"), "--creation-time", "1641013200", "--workspace", "/work", "--uid", "1234", "--exec-env", "test"}, 0, "is in " + r.Host},
	} {
		code, out := run(step.program, step.args...)
		if code != step.code || !strings.Contains(out, step.want) {
			t.Errorf("%s %s: exit code %d\n%s\nwant %d and %q", step.program, strings.Join(step.args, " "), code, out, step.code, step.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "sbom/layers/sbom/launch/sbom.legacy.json")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "out/index.json")); err != nil {
		t.Error(err)
	}
	report, err := os.ReadFile(filepath.Join(bin, "report", "report.toml"))
	if err != nil || !strings.Contains(string(report), image+"-cnb") {
		t.Errorf("report.toml is %q (%v)", report, err)
	}
	if _, err := os.Stat(filepath.Join(bin, "sboms", "launch", "sbom.legacy.json")); err != nil {
		t.Error(err)
	}
	config := pullConfig(t, image+"-cnb")
	if config.WorkingDir != "/work" || !strings.Contains(strings.Join(config.Env, " "), "CNB_APP_DIR=/work") {
		t.Errorf("the image has %+v", config)
	}
	_, out := run("weft", "inspect", image, "-o", "json")
	var i inspection
	if err := json.Unmarshal([]byte(out), &i); err != nil || i.Default != "web" || len(i.Processes) != 1 {
		t.Errorf("got %+v (%v)", i, err)
	}
}

// runImages pushes two images to build on.
func runImages(t *testing.T, host string) {
	t.Helper()
	client := registry.New(registry.Options{})
	for _, tag := range []string{"one", "two"} {
		img, err := random.Image(1000, 2)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config = config.DeepCopy()
		config.OS, config.Architecture = "linux", runtime.GOARCH
		if img, err = mutate.ConfigFile(img, config); err != nil {
			t.Fatal(err)
		}
		ref, err := registry.ParseReference(host + "/run:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.PushImage(t.Context(), ref, img, registry.PushOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func pullConfig(t *testing.T, name string) v1.Config {
	t.Helper()
	ref, err := registry.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	img, err := registry.New(registry.Options{}).Image(t.Context(), ref, &v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Created.Unix() != 1641013200 {
		t.Errorf("the image was made at %s", config.Created)
	}
	return config.Config
}
