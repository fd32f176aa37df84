package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
	"github.com/weft-dev/weft/stack/module/artifact"
)

// TestKusionModPush pushes a module for two systems and pulls it for a stack.
func TestKusionModPush(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{Basic: &registrytest.Basic{User: "me", Password: "hunter22"}})
	w := newKusionWorld(t)
	w.env["KCL_PKG_PATH"], w.env["DOCKER_CONFIG"] = filepath.Join(w.home, "packages"), filepath.Join(w.home, "docker")
	w.write("caches/kcl.mod", "[package]\nname = \"caches\"\nversion = \"0.3.0\"\n")
	w.write("caches/cache.k", "schema Cache:\n    size: int = 7\n")
	w.write("caches/example/dev/stack.yaml", "name: dev\n")
	w.write("caches/src/go.mod", "module caches\n\ngo 1.24\n")
	w.write("caches/src/main.go", "package main\n\nfunc main() {}\n")
	module, url := w.path("caches"), "oci://"+reg.Host+"/team"
	expect := func(code int, want string, args ...string) {
		t.Helper()
		got, out, errs := w.run(append([]string{"mod"}, args...)...)
		if got != code || !strings.Contains(out+errs, want) || strings.Contains(out+errs, "hunter22") {
			t.Errorf("kusion mod %s: code %d\n%s%s\nwant %d, %q", strings.Join(args, " "), got, out, errs, code, want)
		}
	}
	creds := []string{"--creds", "me:hunter22"}
	push := func(more ...string) []string { return append(append([]string{"push", module, url}, creds...), more...) }
	expect(1, "path to module and OCI registry url are required", "push", module)
	expect(1, "kcl.mod", "push", w.path("nonesuch"), url)
	expect(1, "401", "push", module, url)
	expect(1, "must be like linux/amd64", push("--os-arch", "linux")...)
	expect(1, "cosign is what modules can be signed with", push("--sign", "notary")...)
	expect(1, "must be in the format key=value", push("--annotations", "team")...)
	expect(0, "pushed successfully", push("--annotations", "team=shop")...)
	expect(0, "pushed successfully", push("--os-arch", "darwin/arm64")...)
	expect(0, "pushed successfully", push("--os-arch", "darwin/arm64", "--latest=false")...)

	client := registry.New(registry.Options{Keychain: (&modulePush{creds: creds[1]}).options(&app{getenv: func(string) string { return "" }}, reg.Host).Keychain})
	for _, tag := range []string{"0.3.0", "latest"} {
		ref, err := registry.ParseReference(reg.Host + "/team/caches:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		index, err := client.Index(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := index.IndexManifest()
		if err != nil || len(manifest.Manifests) != 2 {
			t.Fatalf("%s has %+v (%v), want one manifest for each of two systems", tag, manifest, err)
		}
		image, err := client.Image(t.Context(), ref, &v1.Platform{OS: "linux", Architecture: "amd64"})
		if err != nil {
			t.Fatal(err)
		}
		m, err := image.Manifest()
		if err != nil || m.Annotations["team"] != "shop" || m.Annotations["org.opencontainers.image.version"] != "0.3.0" ||
			m.Layers[0].MediaType != artifact.ContentType || m.Config.MediaType != artifact.ConfigType {
			t.Errorf("the manifest is %+v (%v)", m, err)
		}
	}
	if ref, err := registry.ParseReference(reg.Host + "/team/caches-darwin_arm64:0.3.0"); err != nil {
		t.Error(err)
	} else if _, err := client.Image(t.Context(), ref, nil); err != nil {
		t.Errorf("the module for one system alone: %v", err)
	}

	stack := filepath.Dir(w.write("app/kcl.mod", "[package]\nname = \"app\"\nversion = \"0.0.1\"\n[dependencies]\ncaches = { oci = \"oci://"+reg.Host+"/team/caches\", tag = \"0.3.0\" }\n"))
	expect(0, "Login Succeeded", "pull", stack, "--host", reg.Host, "--username", "me", "--password", "hunter22")
	found, err := filepath.Glob(filepath.Join(w.env["KCL_PKG_PATH"], "*caches*", "*"))
	if text := strings.Join(found, "\n"); err != nil || !strings.Contains(text, "cache.k") || !strings.Contains(text, "kusion-module-caches_0.3.0") || strings.Contains(text, "src") {
		t.Errorf("pulled: %v, %v", found, err)
	}

	w.write("caches/src/main.go", "package main\n\nfunc main() { nonsense }\n")
	expect(1, "undefined: nonsense", push()...)
	w.write("caches/kcl.mod", "[package]\nname = \"caches\"\nversion = \"0.3\"\n")
	expect(1, "version is not in semver format", push()...)
	w.write("caches/kcl.mod", "[package]\nname = \"caches\"\nversion = \"0.3.1\"\n")
	if err := os.RemoveAll(w.path("caches/src")); err != nil {
		t.Fatal(err)
	}
	expect(1, "no go source code files found", push()...)
}

// TestKusionModInit copies a template, and leaves alone what is there.
func TestKusionModInit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	w := newKusionWorld(t)
	w.write("template/kcl.mod", "[package]\nname = \"my\"\n")
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "first"}} {
		if out, err := exec.Command("git", append([]string{"-C", w.path("template")}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, step := range []struct {
		code int
		want string
		args []string
	}{
		{1, "module Name is empty", nil},
		{1, "must not lead elsewhere", []string{"../x"}},
		{0, "initialized module caches successfully", []string{"caches", w.dir, "--template", w.path("template")}},
		{1, "is there already", []string{"caches", w.dir, "--template", w.path("template")}},
		{1, "failed to clone git repo", []string{"other", w.dir, "--template", w.path("nonesuch")}},
	} {
		code, out, errs := w.run(append([]string{"mod", "init"}, step.args...)...)
		if code != step.code || !strings.Contains(out+errs, step.want) {
			t.Errorf("kusion mod init %v: code %d\n%s%s\nwant %d, %q", step.args, code, out, errs, step.code, step.want)
		}
	}
	if _, err := os.Stat(w.path("caches/kcl.mod")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(w.path("other")); err == nil {
		t.Error("what could not be cloned is left")
	}
}
