package builder

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/weft-dev/weft/buildpack/buildpackage"
)

const builderTOML = `description = "a test"
[[buildpacks]]
id = "t/one"
uri = "one"
[[order]]
[[order.group]]
id = "t/one"
optional = true
[build]
image = "example.com/build"
[[build.env]]
name = "COLOUR"
value = "green"
suffix = "append"
delim = ":"
[[run.images]]
image = "example.com/run"
mirrors = ["mirror.example.com/run"]
[[targets]]
os = "linux"
arch = "amd64"
[[system.pre.buildpacks]]
id = "t/one"
`

func buildImage(t *testing.T, env ...string) v1.Image {
	t.Helper()
	config, err := empty.Image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Config.Env = "linux", "amd64", env
	img, err := mutate.ConfigFile(empty.Image, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func parts(t *testing.T) Parts {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"one/buildpack.toml": "api = \"0.10\"\n[buildpack]\nid = \"t/one\"\nversion = \"2\"\n[[targets]]\nos = \"linux\"\n",
		"one/bin/detect": "#!/bin/sh\n", "one/bin/build": "#!/bin/sh\n", "lifecycle/lifecycle": "program", "lifecycle/launcher": "program"} {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	c, warnings, err := ReadConfig([]byte(builderTOML), filepath.Join(dir, "builder.toml"))
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	one, err := buildpackage.ReadModule(filepath.Join(dir, "one"))
	if err != nil {
		t.Fatal(err)
	}
	return Parts{Config: c, BuildImage: buildImage(t, "CNB_USER_ID=1001", "CNB_GROUP_ID=1002"), Modules: []buildpackage.Module{one},
		LifecycleDir: filepath.Join(dir, "lifecycle"), Creator: Creator{Name: "weft", Version: "1"}, Labels: map[string]string{"mine": "yes"}}
}

// TestCreate makes a builder and reads it again, as this and other platforms see it.
func TestCreate(t *testing.T) {
	p := parts(t)
	img, err := Create(p)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Read(img, "builder")
	if err != nil {
		t.Fatal(err)
	}
	if b.UID != 1001 || b.GID != 1002 || !b.Has("t/one", "2") || len(b.Order) != 1 || b.Order[0].Group[0].Version != "2" || !b.Order[0].Group[0].Optional ||
		b.RunImages()[0].Mirrors[0] != "mirror.example.com/run" || b.Metadata.Lifecycle.APIs.Platform.Supported[0] != "0.7" || b.System.Pre.Buildpacks[0].Version != "2" ||
		b.Metadata.Description != "a test" || b.Metadata.CreatedBy.Name != "weft" {
		t.Errorf("unexpected builder %+v", b)
	}
	files := map[string]string{}
	r := mutate.Extract(img)
	defer r.Close()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files["/"+strings.TrimPrefix(h.Name, "/")] = string(data) + h.Linkname
	}
	for name, want := range map[string]string{
		"/cnb/buildpacks/t_one/2/bin/build": "#!/bin/sh\n", "/cnb/order.toml": "version = \"2\"", "/cnb/stack.toml": "image = \"example.com/run\"",
		"/cnb/run.toml": "mirrors = [\"mirror.example.com/run\"]", "/cnb/system.toml": "id = \"t/one\"", "/cnb/lifecycle/creator": "lifecycle",
		"/cnb/build-config/env/COLOUR.append": "green", "/cnb/build-config/env/COLOUR.delim": ":", "/lifecycle": "/cnb/lifecycle", "/workspace": "", "/layers": "",
	} {
		if got, ok := files[name]; !ok || !strings.Contains(got, want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	again, err := Create(p)
	if err != nil {
		t.Fatal(err)
	}
	first, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if second, err := again.Digest(); err != nil || first != second {
		t.Errorf("the same parts gave %s and %s (%v)", first, second, err)
	}
}

func TestCreateFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Parts)
		want   string
	}{
		"user unknown":       {func(p *Parts) { p.BuildImage = buildImage(t) }, "does not set CNB_USER_ID"},
		"user is root":       {func(p *Parts) { p.BuildImage = buildImage(t, "CNB_USER_ID=0", "CNB_GROUP_ID=0") }, "expected the number of an ordinary user"},
		"another stack":      {func(p *Parts) { p.Config.Stack.ID = "x" }, "stack.id is x"},
		"order of strangers": {func(p *Parts) { p.Config.Order[0].Group[0].ID = "t/nonesuch" }, "order[0]: the buildpack t/nonesuch is not among those of the builder"},
		"other version":      {func(p *Parts) { p.Config.Buildpacks[0].Version = "3" }, "has no buildpack t/one@3"},
		"no lifecycle":       {func(p *Parts) { p.LifecycleDir = t.TempDir() }, "the program lifecycle is missing"},
	} {
		p := parts(t)
		tt.change(&p)
		if _, err := Create(p); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := Read(buildImage(t), "x"); err == nil || !strings.Contains(err.Error(), "x is no builder") {
		t.Errorf("an image without labels gave %v", err)
	}
}

func TestConfigFaults(t *testing.T) {
	for change, want := range map[string]string{
		"[build]\nimage = \"example.com/build\"=>[build":              "builder.toml:",
		"image = \"example.com/build\"=>":                             "build.image is missing",
		"[[run.images]]\nimage = \"example.com/run\"=>[[run.images]]": "run.images[0].image is missing",
		"uri = \"one\"=>":                                             "buildpacks[0]: expected either uri or image",
		"suffix = \"append\"=>suffix = \"middle\"":                    `suffix is "middle", expected default, override, append or prepend`,
		"name = \"COLOUR\"=>name = \"A=B\"":                           "cannot be used",
		"[build]=>[stack]\nbuild-image = \"other\"\n[build]":          "leave one out",
		"[build]=>[lifecycle]\nuri = \"a\"\nversion = \"1\"\n[build]": "uri and version cannot be given together",
		"[build]=>[[extensions]]\nid = \"x\"\nuri = \"x\"\n[build]":   "image extensions are not supported",
	} {
		from, to, _ := strings.Cut(change, "=>")
		text := strings.Replace(builderTOML, from, to, 1)
		if _, _, err := ReadConfig([]byte(text), "builder.toml"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
	_, warnings, err := ReadConfig([]byte("colour = 1\n"+strings.Replace(builderTOML, "delim = \":\"\n", "", 1)), "builder.toml")
	if err != nil || len(warnings) != 2 || !strings.Contains(warnings[0], "colour") || !strings.Contains(warnings[1], "has no delim") {
		t.Errorf("got %q %v", warnings, err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(builderTOML))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := ReadConfig(data, "builder.toml")
		if err == nil && (c.Build.Image == "" || len(c.Run.Images) == 0) {
			t.Error("a builder of nothing")
		}
	})
}
