package buildpackage

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/klauspost/compress/gzip"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// write makes a folder of files; those below bin can be run.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		at := filepath.Join(dir, name)
		mode := os.FileMode(0o644)
		if strings.Contains(name, "bin/") {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const composite = "api = \"0.10\"\n[buildpack]\nid = \"t/all\"\nversion = \"1\"\n[[order]]\n[[order.group]]\nid = \"t/one\"\nversion = \"1\"\n[[order.group]]\nid = \"t/two\"\nversion = \"1\"\n"

func plainBuildpack(id string) string {
	return "api = \"0.10\"\n[buildpack]\nid = \"" + id + "\"\nversion = \"1\"\n[[targets]]\nos = \"linux\"\n"
}

func three(t testing.TB) string {
	return write(t, map[string]string{"all/buildpack.toml": composite,
		"one/buildpack.toml": plainBuildpack("t/one"), "one/bin/detect": "#!/bin/sh\n", "one/bin/build": "#!/bin/sh\n",
		"two/buildpack.toml": plainBuildpack("t/two"), "two/bin/detect": "#!/bin/sh\n", "two/bin/build": "#!/bin/sh\necho two\n",
		"package.toml": "[buildpack]\nuri = \"all\"\n[[dependencies]]\nuri = \"one\"\n[[dependencies]]\nuri = \"two\"\n"})
}

func tgz(t testing.TB, entries ...tar.Header) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.tgz")
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	tw := tar.NewWriter(z)
	for _, h := range entries {
		text := h.PAXRecords["text"]
		h.PAXRecords, h.Size, h.Mode = nil, int64(len(text)), 0o755
		if h.Typeflag != tar.TypeReg {
			h.Size = 0
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(tw, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func entry(name, text string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, PAXRecords: map[string]string{"text": text}}
}

func finder(t testing.TB) *Finder {
	return &Finder{Cache: t.TempDir(), Registry: registry.New(registry.Options{})}
}

func find(t testing.TB, f *Finder, locator string) (Package, error) {
	t.Helper()
	l, err := ParseLocator(locator, ".", nil)
	if err != nil {
		return Package{}, err
	}
	return f.Find(context.Background(), l)
}

// TestPackages packages a composite buildpack, and finds it again as a file, in a registry, at an address and as archives.
func TestPackages(t *testing.T) {
	dir := three(t)
	data, err := os.ReadFile(filepath.Join(dir, "package.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c, warnings, err := ReadConfig(data, filepath.Join(dir, "package.toml"))
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	p, err := finder(t).Assemble(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	img, err := Make(p, "amd64", map[string]string{"mine": "yes"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Make(p, "amd64", map[string]string{"mine": "yes"})
	if err != nil {
		t.Fatal(err)
	}
	if second, err := again.Digest(); err != nil || second != first {
		t.Errorf("the same buildpacks gave %s and %s (%v)", first, second, err)
	}
	file := filepath.Join(dir, "all.cnb")
	if err := WriteFile(img, file); err != nil {
		t.Fatal(err)
	}
	r := registrytest.New(t, registrytest.Config{})
	ref, err := registry.ParseReference(r.Host + "/all:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.New(registry.Options{}).PushImage(t.Context(), ref, img, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(web.Close)
	for _, locator := range []string{filepath.Join(dir, "all"), file, "file://" + file, web.URL + "/all.cnb", "docker://" + r.Host + "/all:1", r.Host + "/all:1"} {
		got, err := find(t, finder(t), locator)
		if err != nil || got.Main.String() != "t/all@1" || len(got.Modules) != 3 {
			t.Errorf("%s: %v %v (%v)", locator, got.Main, got.Modules, err)
			continue
		}
		text, err := os.ReadFile(filepath.Join(got.Modules[2].Dir, "bin", "build"))
		info, statErr := os.Stat(filepath.Join(got.Modules[2].Dir, "bin", "build"))
		if string(text) != "#!/bin/sh\necho two\n" || err != nil || statErr != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s: the program is %q (%v, %v)", locator, text, err, statErr)
		}
	}
	for _, file := range []string{
		tgz(t, entry("buildpack.toml", plainBuildpack("t/one")), entry("bin/detect", ""), entry("bin/build", "")),
		tgz(t, entry("folder/buildpack.toml", plainBuildpack("t/one")), entry("folder/bin/detect", ""), entry("folder/bin/build", "")),
	} {
		if got, err := find(t, finder(t), file); err != nil || got.Main.String() != "t/one@1" {
			t.Errorf("%s: %v %v", file, got.Main, err)
		}
	}
}

func TestPackageFaults(t *testing.T) {
	dir := three(t)
	r := registrytest.New(t, registrytest.Config{})
	damaged := func() string { // a package whose layer is not what its name says
		p, err := folder(filepath.Join(dir, "one"))
		if err != nil {
			t.Fatal(err)
		}
		img, err := Make(p, "amd64", nil)
		if err != nil {
			t.Fatal(err)
		}
		at := t.TempDir()
		path, err := layout.Write(at, emptyIndex)
		if err != nil {
			t.Fatal(err)
		}
		if err := path.AppendImage(img); err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		h, err := layers[0].Digest()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "blobs/sha256", h.Hex), []byte("something else"), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(filepath.Join(t.TempDir(), "x.cnb"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if err := tarFolder(out, at); err != nil {
			t.Fatal(err)
		}
		return out.Name()
	}
	outside := filepath.Join(t.TempDir(), "outside")
	for name, tt := range map[string]struct{ locator, want string }{
		"nothing there":          {"./nonesuch", "does not exist"},
		"no buildpack":           {t.TempDir(), "has no buildpack.toml"},
		"no program":             {write(t, map[string]string{"buildpack.toml": plainBuildpack("t/x")}), "has no bin/detect"},
		"malformed":              {write(t, map[string]string{"buildpack.toml": "api = \"0.10\"\n[buildpack\n"}), "buildpack.toml:2:"},
		"no archive":             {write(t, map[string]string{"x.cnb": "nonsense nonsense"}) + "/x.cnb", "is no archive of a buildpack"},
		"empty archive":          {write(t, map[string]string{"x.cnb": ""}) + "/x.cnb", "it is empty"},
		"path leads out":         {tgz(t, entry("../../evil", "x")), "leads out of the folder"},
		"link leads out":         {tgz(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "bin", Linkname: outside}, entry("bin/build", "x")), "no buildpack.toml"},
		"hard link leads out":    {tgz(t, tar.Header{Typeflag: tar.TypeLink, Name: "x", Linkname: "../../etc/passwd"}), "leads out of the folder"},
		"damaged":                {damaged(), "the package is damaged"},
		"image is no package":    {"docker://" + r.Host + "/nonesuch", "buildpackage"},
		"registry of names":      {"urn:cnb:registry:a/b@1", "is not read"},
		"upper case":             {"docker://UPPER", "UPPER"},
		"address without answer": {"http://127.0.0.1:1/x.cnb", "127.0.0.1:1"},
	} {
		if _, err := find(t, finder(t), tt.locator); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("something was written outside")
	}
	broken := write(t, map[string]string{"all/buildpack.toml": composite})
	p, err := folder(filepath.Join(broken, "all"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Make(p, "amd64", nil); err == nil || !strings.Contains(err.Error(), "t/all@1 needs t/one@1, which is not there") {
		t.Errorf("a missing part gave %v", err)
	}
	loop := write(t, map[string]string{"a/buildpack.toml": strings.NewReplacer("t/all", "t/a", "t/one", "t/b", "t/two", "t/b").Replace(composite),
		"b/buildpack.toml": strings.NewReplacer("t/all", "t/b", "t/one", "t/a", "t/two", "t/a").Replace(composite)})
	if p, err = folder(filepath.Join(loop, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(p, "amd64", nil); err == nil || !strings.Contains(err.Error(), "contains itself: t/a@1 > t/b@1 > t/a@1") {
		t.Errorf("a circle gave %v", err)
	}
}

func TestConfigFaults(t *testing.T) {
	for text, want := range map[string]string{
		"[buildpack\n":               "package.toml:1:",
		"[buildpack]\nuri = 1\n":     "package.toml:2:",
		"":                           "buildpack.uri is missing",
		"[extension]\nuri = \".\"\n": "are not supported",
		"[buildpack]\nuri = \".\"\n[platform]\nos = \"windows\"\n":                          "only linux is supported",
		"[buildpack]\nuri = \".\"\n[[dependencies]]\n":                                      "dependencies[0]: expected either uri or image",
		"[buildpack]\nuri = \".\"\n[[dependencies]]\nuri = \"a\"\nimage = \"docker://b\"\n": "dependencies[0]: expected either uri or image",
	} {
		if _, _, err := ReadConfig([]byte(text), "package.toml"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, warnings, err := ReadConfig([]byte("colour = 1\n[buildpack]\nuri = \".\"\n"), "package.toml"); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "colour") {
		t.Errorf("an unknown key gave %q %v", warnings, err)
	}
}

func TestScaffoldDetectsAndBuilds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	n := New{ID: "t/new", Version: "1", API: "0.10"}
	if err := Scaffold(dir, n); err != nil {
		t.Fatal(err)
	}
	if p, err := folder(dir); err != nil || p.Main.String() != "t/new@1" {
		t.Errorf("%v %v", p.Main, err)
	}
	if err := Scaffold(dir, n); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("a folder that exists gave %v", err)
	}
	if err := Scaffold(dir+"2", New{ID: "a b", Version: "1", API: "0.10"}); err == nil {
		t.Error("an ID with a space was taken")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("[buildpack]\nuri = \".\"\n[[dependencies]]\nuri = \"a\"\n[[targets]]\nos = \"linux\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := ReadConfig(data, "package.toml")
		if err == nil && c.Buildpack.URI == "" {
			t.Error("a package of nothing")
		}
	})
}

func FuzzFile(f *testing.F) {
	dir := three(f)
	for _, name := range []string{"one", "all"} {
		p, err := folder(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		img, err := Make(p, "amd64", nil)
		if err != nil {
			f.Fatal(err)
		}
		file := filepath.Join(dir, name+".cnb")
		if err := WriteFile(img, file); err != nil {
			f.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		file := filepath.Join(t.TempDir(), "x.cnb")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		fd := finder(t)
		if p, err := find(t, fd, file); err == nil && !strings.HasPrefix(p.Main.Dir, fd.Cache) {
			t.Errorf("the buildpack lies in %s", p.Main.Dir)
		}
	})
}
