package buildpack_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/builder"
	"github.com/weft-dev/weft/buildpack/buildpackage"
	"github.com/weft-dev/weft/buildpack/debian"
	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/registry"
)

// builder makes and pushes a builder on a build image of Debian packages, with variables that its buildpacks want and more lines of its
// builder.toml.
func (m *machine) builder(name string, buildpacks []string, env map[string]string, more string, order ...string) string {
	m.t.Helper()
	t := m.t
	build, run, err := debian.Images{Dir: filepath.Join(m.state, "debian")}.Language(t.Context(), debian.Base, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := registry.New(registry.Options{})
	push := func(img v1.Image, name string) string {
		ref, err := registry.ParseReference(m.host + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.PushImage(t.Context(), ref, img, registry.PushOptions{}); err != nil {
			t.Fatal(err)
		}
		return m.host + "/" + name
	}
	config, err := build.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	for _, k := range slices.Sorted(maps.Keys(env)) {
		config.Config.Env = append(config.Config.Env, k+"="+env[k])
	}
	if config.Config.Labels[spec.LabelStackID] = env["CNB_STACK_ID"]; env["CNB_STACK_ID"] == "" {
		delete(config.Config.Labels, spec.LabelStackID)
	}
	if build, err = mutate.ConfigFile(build, config); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[build]\nimage = %q\n", push(build, name+"-build"))
	if runName := push(run, name+"-run"); !strings.Contains(more, "run.images") {
		text += fmt.Sprintf("[[run.images]]\nimage = %q\n", runName)
	}
	text += more + "\n[[order]]\n"
	for _, id := range order {
		id, optional := strings.CutSuffix(id, "?")
		text += fmt.Sprintf("[[order.group]]\nid = %q\noptional = %v\n", id, optional)
	}
	parts := builder.Parts{BuildImage: build, LifecycleDir: t.TempDir(), Creator: builder.Creator{Name: "weft"}}
	finder := &buildpackage.Finder{Registry: client, Cache: t.TempDir()}
	for _, b := range buildpacks {
		text += fmt.Sprintf("[[buildpacks]]\nuri = %q\n", b)
		p, err := finder.Find(t.Context(), buildpackage.Locator{Kind: buildpackage.FromPath, Place: b})
		if err != nil {
			t.Fatal(err)
		}
		parts.Modules = append(parts.Modules, p.Modules...)
	}
	if parts.Config, _, err = builder.ReadConfig([]byte(text), "builder.toml"); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"lifecycle": "github.com/weft-dev/weft/cmd/lifecycle", "launcher": "github.com/weft-dev/weft/cmd/launcher"} {
		data, err := os.ReadFile(sandboxtest.Program(t, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(parts.LifecycleDir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	img, err := builder.Create(parts)
	if err != nil {
		t.Fatal(err)
	}
	return push(img, name)
}

// script makes a buildpack that always detects and whose bin/build is a script.
func script(t *testing.T, id, build string) string {
	t.Helper()
	dir := files(t, map[string]string{"buildpack.toml": fmt.Sprintf("api = \"0.10\"\n[buildpack]\nid = %q\nversion = \"1\"\n[[targets]]\nos = \"linux\"\n", id),
		"bin/detect": "#!/bin/sh\n", "bin/build": "#!/bin/bash\nset -eu\n" + build})
	for _, name := range []string{"detect", "build"} {
		if err := os.Chmod(filepath.Join(dir, "bin", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const startsWithList = "printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"cat\", \"list\"]\\ndefault = true\\n' >$CNB_LAYERS_DIR/launch.toml\n"

// TestBuilder builds on a builder: its order, its system buildpack, its variable, its run image by a mirror; and with what the user adds.
func TestBuilder(t *testing.T) {
	m := newMachine(t)
	useArchive(t, m.state)
	name := m.builder("b", []string{script(t, "t/show", "echo \"colour $COLOUR user $(id -u) release $(. /etc/os-release; echo $ID)\" >>list\n"+startsWithList),
		script(t, "t/system", "echo system >>list\n")}, nil,
		"[[build.env]]\nname = \"COLOUR\"\nvalue = \"green\"\n[[system.post.buildpacks]]\nid = \"t/system\"\n"+
			"[[run.images]]\nimage = \"127.0.0.1:1/gone\"\nmirrors = [\"127.0.0.1:1/also-gone\", \""+m.host+"/b-run\"]\n", "t/show")
	given := files(t, map[string]string{"word": "from a volume"})
	opts := m.options(files(t, map[string]string{"page": "x"}), "builder/app")
	opts.Builder = name
	opts.PreBuildpacks = []string{script(t, "t/before", "echo before >>list\n")}
	opts.PostBuildpacks = []string{script(t, "t/after", "cat /given/word >>list; echo >>list\n! echo x >/given/word 2>/dev/null\n")}
	opts.Volumes = []buildpack.Volume{{Source: given, Target: "/given"}}
	result, err := buildpack.Build(t.Context(), opts)
	if err != nil {
		t.Fatalf("%v\n%s", err, m.output())
	}
	img := m.pull(result.Ref)
	out, err := container(t, img).CombinedOutput()
	if want := "before\ncolour green user 1000 release debian\nfrom a volume\nsystem\n"; string(out) != want || err != nil {
		t.Errorf("the image prints %q (%v), want %q", out, err, want)
	}
	md, err := lifecycle.LayersLabel(img)
	if err != nil || md.RunImage.Image != "127.0.0.1:1/gone" || len(md.RunImage.Mirrors) != 2 || !strings.HasPrefix(md.RunImage.Reference, m.host+"/b-run@sha256:") {
		t.Errorf("the run image is %+v (%v)", md.RunImage, err)
	}
	if again, err := buildpack.Build(t.Context(), opts); err != nil || !again.Unchanged {
		t.Errorf("nothing has changed, but it was built again: %+v %v", again.Phases, err)
	}

	opts.NoSystem, opts.PreBuildpacks, opts.PostBuildpacks, opts.PullPolicy = true, nil, nil, buildpack.PullNever
	opts.Buildpacks = []string{"t/show@1", script(t, "t/mine", "echo mine >>list\n")}
	if result, err = buildpack.Build(t.Context(), opts); err != nil {
		t.Fatalf("%v\n%s", err, m.output())
	}
	if out, err := container(t, m.pull(result.Ref)).CombinedOutput(); err != nil || string(out) != "colour green user 1000 release debian\nmine\n" {
		t.Errorf("the image prints %q (%v)", out, err)
	}
	opts.Buildpacks = []string{"t/nonesuch@1"}
	if _, err := buildpack.Build(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "the builder "+name+" has") && !strings.Contains(err.Error(), "none of t/") {
		t.Errorf("an unknown buildpack gave %v", err)
	}
	opts.Builder = m.host + "/never-used"
	if _, err := buildpack.Build(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "has never been used on this machine") {
		t.Errorf("a builder that was never pulled gave %v", err)
	}
}

// TestCertificates builds with an authority of the application's own.
func TestCertificates(t *testing.T) {
	m := newMachine(t)
	useArchive(t, m.state)
	const pem = "-----BEGIN CERTIFICATE-----\nb3duIGF1dGhvcml0eQ==\n-----END CERTIFICATE-----\n"
	source := files(t, map[string]string{"certs/own.pem": pem, "key.pem": pem + "-----BEGIN PRIVATE KEY-----\n"})
	opts := m.options(source, "certificates/app")
	opts.Builder, opts.Env = "debian:base", map[string]string{"BP_CA_CERTIFICATES": "certs/*.pem"}
	opts.Buildpacks = []string{"weft/ca-certificates", script(t, "t/show", "grep -c b3duIGF1dGhvcml0eQ== $SSL_CERT_FILE >list\n"+
		"printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"bash\", \"-c\", \"cat list; grep -c b3duIGF1dGhvcml0eQ== $SSL_CERT_FILE\"]\\ndefault = true\\n' >$CNB_LAYERS_DIR/launch.toml\n")}
	result, err := buildpack.Build(t.Context(), opts)
	if err != nil {
		t.Fatalf("%v\n%s", err, m.output())
	}
	if out, err := container(t, m.pull(result.Ref)).CombinedOutput(); err != nil || string(out) != "1\n1\n" {
		t.Errorf("build and launch found the certificate %q times (%v)", out, err)
	}
	for value, want := range map[string]string{"key.pem": "has a private key", "nonesuch.pem": "has no file nonesuch.pem"} {
		opts.Env = map[string]string{"BP_CA_CERTIFICATES": value}
		if _, err := buildpack.Build(t.Context(), opts); err == nil || !strings.Contains(m.output(), want) {
			t.Errorf("%s: %v\n%s", value, err, m.output())
		}
	}
	// A binding of the build.
	binding := files(t, map[string]string{"type": "ca-certificates", "provider": "test", "own.pem": pem})
	opts.Env, opts.Volumes = nil, []buildpack.Volume{{Source: binding, Target: "/platform/bindings/own"}}
	if result, err = buildpack.Build(t.Context(), opts); err != nil {
		t.Fatalf("with a binding: %v\n%s", err, m.output())
	}
	if out, err := container(t, m.pull(result.Ref)).CombinedOutput(); err != nil || string(out) != "1\n1\n" {
		t.Errorf("build and launch found the binding's certificate %q times (%v)", out, err)
	}
	if err := os.WriteFile(filepath.Join(binding, "own.pem"), []byte(pem+"-----BEGIN PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := buildpack.Build(t.Context(), opts); err == nil || !strings.Contains(m.output(), "has a private key") {
		t.Errorf("a binding that changed to one with a key: %v\n%s", err, m.output())
	}
	opts.Volumes = nil
	opts.Env = map[string]string{"BP_CA_CERTIFICATES_AT_LAUNCH": "true"}
	opts.Buildpacks[1] = script(t, "t/show", "printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"bash\", \"-c\", \"grep -c b3duIGF1dGhvcml0eQ== ${SSL_CERT_FILE:-/etc/passwd}\"]\\ndefault = true\\n' >$CNB_LAYERS_DIR/launch.toml\n")
	if result, err = buildpack.Build(t.Context(), opts); err != nil {
		t.Fatalf("%v\n%s", err, m.output())
	}
	for name, test := range map[string]struct{ kind, certificate, want string }{
		"bound":       {"ca-certificates", pem, "1\n"},
		"other":       {"postgres", pem, "0\n"},
		"key":         {"ca-certificates", pem + "-----BEGIN PRIVATE KEY-----\n", "has a private key"},
		"other bytes": {"ca-certificates", "x", "is no certificate in the form PEM"},
	} {
		cmd := container(t, m.pull(result.Ref))
		at := filepath.Join(cmd.SysProcAttr.Chroot, "bindings", "own")
		null := filepath.Join(cmd.SysProcAttr.Chroot, "dev", "null") // containers have it
		if err := errors.Join(os.MkdirAll(filepath.Dir(null), 0o755), os.WriteFile(null, nil, 0o666), os.Chmod(null, 0o666),
			os.Remove(filepath.Join(cmd.SysProcAttr.Chroot, "bin", "sh")), // nothing needs a shell
			os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(at, "type"), []byte(test.kind), 0o644),
			os.WriteFile(filepath.Join(at, "own.pem"), []byte(test.certificate), 0o644)); err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, "SERVICE_BINDING_ROOT=/bindings")
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), test.want) { // grep ends with 1 for none
			t.Errorf("%s: started with %q, want %q", name, out, test.want)
		}
	}
}
