package remote_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/kcl/mod"
	"github.com/weft-dev/weft/kcl/mod/remote"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A package that is pushed is pulled the same, and its checksum stays.
func TestPushAndPull(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	s := &remote.Source{Client: client, Host: reg.Host, Repo: "team"}
	ctx := context.Background()

	dir := t.TempDir()
	write(t, filepath.Join(dir, "kcl.mod"), "[package]\nname = \"lib\"\nversion = \"1.2.0\"\n")
	write(t, filepath.Join(dir, "lib.k"), "x = 1\n")
	p := mod.Package{Name: "lib", Version: "1.2.0"}
	shown, err := s.Push(ctx, dir, p, "", false)
	if err != nil || shown != reg.Host+"/team/lib:1.2.0" {
		t.Fatalf("pushed to %s: %v", shown, err)
	}
	if _, err := s.Push(ctx, dir, p, "", false); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("the version was pushed twice: %v", err)
	}
	if _, err := s.Push(ctx, dir, p, "", true); err != nil {
		t.Errorf("--force: %v", err)
	}
	p.Version = "1.10.0"
	if _, err := s.Push(ctx, dir, p, "oci://"+reg.Host+"/team/lib", false); err != nil {
		t.Fatal(err)
	}
	tags, err := s.Versions(ctx, mod.Dependency{Name: "lib"})
	if err != nil || mod.Latest(tags) != "1.10.0" {
		t.Errorf("versions %v: %v", tags, err)
	}
	want, err := mod.Sum(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []mod.Dependency{
		{Name: "lib", Version: "1.2.0"}, {Name: "lib"}, {Name: "mine", OCI: "oci://" + reg.Host + "/team/lib", Tag: "1.2.0"},
		{Name: "lib", Repo: "team/lib", Tag: "1.2.0"},
	} {
		into := t.TempDir()
		if err := s.Fetch(ctx, d, into); err != nil {
			t.Errorf("%s: %v", d, err)
			continue
		}
		if sum, err := mod.Sum(into); err != nil || sum != want {
			t.Errorf("%s has checksum %s (%v), pushed was %s", d, sum, err, want)
		}
	}
	if err := s.Fetch(ctx, mod.Dependency{Name: "lib", Version: "9"}, t.TempDir()); err == nil {
		t.Error("a version that is not there was fetched")
	}
}

// The resolver fetches through the source once, and then runs offline.
func TestResolveFetchesOnce(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	s := &remote.Source{Client: client, Host: reg.Host, Repo: "team"}
	ctx := context.Background()
	lib := t.TempDir()
	write(t, filepath.Join(lib, "kcl.mod"), "[package]\nname = \"lib\"\nversion = \"1.0\"\n")
	if _, err := s.Push(ctx, lib, mod.Package{Name: "lib", Version: "1.0"}, "", false); err != nil {
		t.Fatal(err)
	}
	app := t.TempDir()
	write(t, filepath.Join(app, "kcl.mod"), "[package]\nname = \"app\"\n[dependencies]\nlib = \"1.0\"\n")
	m, err := mod.Load(app)
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	if _, err := (&mod.Resolver{Cache: cache, Source: s}).Resolve(ctx, m); err != nil {
		t.Fatal(err)
	}
	reg.Forget()
	if _, err := (&mod.Resolver{Cache: cache}).Resolve(ctx, m); err != nil {
		t.Fatal(err)
	}
	if asked := reg.Requests(); len(asked) != 0 {
		t.Errorf("the registry was asked again: %v", asked)
	}
	if entries, _ := os.ReadDir(cache); len(entries) != 1 || entries[0].Name() != "lib_1.0" {
		t.Errorf("the cache holds %v", entries)
	}
}

func TestGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs the program git")
	}
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "--quiet", "--initial-branch=main")
	write(t, filepath.Join(dir, "kcl.mod"), "[package]\nname = \"one\"\nversion = \"1\"\n")
	write(t, filepath.Join(dir, "sub/kcl.mod"), "[package]\nname = \"sub\"\nversion = \"1\"\n")
	git("add", ".")
	git("commit", "--quiet", "-m", "one")
	git("tag", "v1.0.0")
	first := git("rev-parse", "HEAD")
	write(t, filepath.Join(dir, "two.k"), "x = 2\n")
	git("add", ".")
	git("commit", "--quiet", "-m", "two")

	s := &remote.Source{Env: os.Environ()}
	ctx := context.Background()
	url := "file://" + dir
	tags, err := s.Versions(ctx, mod.Dependency{Git: url})
	if err != nil || len(tags) != 1 || tags[0] != "v1.0.0" {
		t.Errorf("tags %v: %v", tags, err)
	}
	for _, c := range []struct {
		d    mod.Dependency
		file string
		want bool
	}{
		{mod.Dependency{Name: "one", Git: url, Tag: "v1.0.0"}, "two.k", false},
		{mod.Dependency{Name: "one", Git: url, Branch: "main"}, "two.k", true},
		{mod.Dependency{Name: "one", Git: url, Commit: first}, "two.k", false},
		{mod.Dependency{Name: "one", Git: url, Commit: first[:7]}, "two.k", false},
	} {
		into := t.TempDir()
		if err := s.Fetch(ctx, c.d, into); err != nil {
			t.Errorf("%s: %v", c.d, err)
			continue
		}
		if _, err := os.Stat(filepath.Join(into, c.file)); (err == nil) != c.want {
			t.Errorf("%s: %s is there: %v", c.d, c.file, err == nil)
		}
	}
	app := &mod.Module{Dir: t.TempDir(), Lock: &mod.Lock{}, File: &mod.File{Dependencies: []mod.Dependency{{Name: "sub", Git: url, Tag: "v1.0.0"}}}}
	g, err := (&mod.Resolver{Cache: t.TempDir(), Source: s}).Resolve(ctx, app)
	if err != nil || filepath.Base(g.Folders()["sub"]) != "sub" {
		t.Errorf("a package below the root of a repository: %v %v", g, err)
	}
	if err := s.Fetch(ctx, mod.Dependency{Name: "one", Git: url, Tag: "nope"}, t.TempDir()); err == nil || !strings.Contains(err.Error(), "git fetch") {
		t.Errorf("a tag that is not there gives %v", err)
	}
}
