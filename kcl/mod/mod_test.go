package mod_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/kcl/mod"
)

const full = `[package]
name = "app"
edition = "v0.12.0"
version = "0.1.0"
description = "An app"
include = ["src/*.k"]
exclude = ["secret.k"]

[dependencies]
alias = { package = "real", version = "1.0" }
base = { path = "../base" }
forge = { git = "https://example.com/forge.git", tag = "v1.2.0" }
k8s = "1.31"
other = { oci = "oci://ghcr.io/kcl-lang/other", tag = "0.2.0" }
pinned = { git = "ssh://example.com/pinned", commit = "8308200" }
sub = { git = "https://example.com/mono", branch = "main", package = "sub", version = "0.0.1" }
anywhere = { repo = "team/anywhere", tag = "0.3.0" }

[profile]
entries = ["main.k", "${KCL_MOD}/more.k"]
disable_none = true
sort_keys = false
selectors = ["app"]
overrides = ["app.n=1"]
arguments = ["env=prod"]
`

func TestParse(t *testing.T) {
	f, err := mod.Parse("kcl.mod", full)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Dependencies) != 8 || f.Profile == nil || len(f.Profile.Entries) != 2 || f.Package.Include[0] != "src/*.k" {
		t.Fatalf("read %+v", f)
	}
	again, err := mod.Parse("kcl.mod", f.String())
	if err != nil || again.String() != f.String() {
		t.Fatalf("written and read again: %v\n%s", err, f)
	}
	if !strings.Contains(f.String(), `forge = { git = "https://example.com/forge.git", tag = "v1.2.0" }`) {
		t.Errorf("upstream's form of a git dependency is lost:\n%s", f)
	}
	for _, d := range f.Dependencies {
		if d.Name == "sub" && d.Folder() != "sub_main" {
			t.Errorf("folder of sub: %s", d.Folder())
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"[package\n":                                         "kcl.mod:",
		"[package]\nname = 1":                                "kcl.mod",
		"[dependencies]\na = 1":                              "dependencies.a: expected a version",
		"[dependencies]\na = { git = \"x\" }":                "dependencies.a: git needs one of tag, branch and commit",
		"[dependencies]\na = { git = \"x\", path = \"y\" }":  "only one of path, git",
		"[dependencies]\na = { tag = \"y\" }":                "tag needs git, oci or repo",
		"[dependencies]\na = { colour = \"y\" }":             "unknown key colour",
		"[dependencies]\na-b = \"1\"\na_b = \"1\"":           "would both be imported as a_b",
		"[dependencies]\na = { oci = \"https://x/y\" }":      "expected oci://",
		"[dependencies]\n\"../x\" = \"1\"":                   "is no name of a package",
		"[dependencies]\na = { git = \"--x\", tag = \"1\" }": "must not begin with -",
		"[dependencies]\na = { git = \"x\", tag = \"-1\" }":  "must not begin with -",
		"[package]\nname = \"a/b\"":                          "is no name of a package",
	} {
		if _, err := mod.Parse("kcl.mod", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestLock(t *testing.T) {
	text := `[dependencies]
  [dependencies.k8s]
    name = "k8s"
    full_name = "k8s_1.31"
    version = "1.31"
    sum = "yNADGqn3jclWtfpwvWMHBsgkAKzOaMWg/VYxfcOJs64="
    reg = "ghcr.io"
    repo = "kcl-lang/k8s"
    oci_tag = "1.31"
`
	l, err := mod.ParseLock("kcl.mod.lock", text)
	if err != nil {
		t.Fatal(err)
	}
	if l.String() != text {
		t.Errorf("upstream's lock file is written as\n%s", l)
	}
	if p := l.Find("k8s"); p == nil || p.Repo != "kcl-lang/k8s" {
		t.Errorf("k8s is read as %+v", p)
	}
}

func TestCompare(t *testing.T) {
	order := []string{"0.9", "1.0-alpha", "1.0-alpha.1", "1.0-rc1", "1.0", "1.0.1", "1.9", "1.10", "v2"}
	for i, a := range order {
		for j, b := range order {
			if got := mod.Compare(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("Compare(%s, %s) = %d", a, b, got)
			}
		}
	}
	if mod.Compare("1.2", "1.2.0") != 0 {
		t.Error("1.2 is not 1.2.0")
	}
	if got := mod.Latest([]string{"latest", "0.1", "0.10", "0.9", "1.0-rc1"}); got != "0.10" {
		t.Errorf("latest is %s", got)
	}
}

// write makes files below dir.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Of two versions of one package the greater is taken, wherever it is asked
// for, and nothing newer than anybody asks for.
func TestMinimalVersionSelection(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"app/kcl.mod":          "[package]\nname = \"app\"\nversion = \"0.1\"\n[dependencies]\na = \"1.0\"\nb = \"1.0\"\n",
		"cache/a_1.0/kcl.mod":  "[package]\nname = \"a\"\n[dependencies]\nc = \"1.9\"\n",
		"cache/b_1.0/kcl.mod":  "[package]\nname = \"b\"\n[dependencies]\nc = \"1.10\"\n",
		"cache/c_1.9/kcl.mod":  "[package]\nname = \"c\"\n",
		"cache/c_1.10/kcl.mod": "[package]\nname = \"c\"\nversion = \"1.10\"\n",
		"cache/c_2.0/kcl.mod":  "[package]\nname = \"c\"\n",
		"cache/c_1.10/c.k":     "x = 1\n",
		"app/vendor/a_1.0/a.k": "x = 1\n",
		"path/kcl.mod":         "[package]\nname = \"c\"\n",
		"over/kcl.mod":         "[package]\nname = \"over\"\n[dependencies]\nb = \"1.0\"\nc = { path = \"../path\" }\n",
		"lost/kcl.mod":         "[package]\nname = \"lost\"\n[dependencies]\ngone = \"3.1\"\n",
		"cycle/kcl.mod":        "[package]\nname = \"cycle\"\n[dependencies]\ncycle2 = { path = \"../cycle2\" }\n",
		"cycle2/kcl.mod":       "[package]\nname = \"cycle2\"\n[dependencies]\ncycle = { path = \"../cycle\" }\n",
	})
	cache := filepath.Join(dir, "cache")
	resolve := func(name string, r mod.Resolver) (*mod.Graph, error) {
		m, err := mod.Load(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		r.Cache = cache
		return r.Resolve(context.Background(), m)
	}
	g, err := resolve("app", mod.Resolver{})
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Folders()["c"]; got != filepath.Join(cache, "c_1.10") {
		t.Errorf("c is taken from %s", got)
	}
	if len(g.Edges) != 4 || g.Edges[0] != [2]string{"app@0.1", "a@1.0"} {
		t.Errorf("graph: %v", g.Edges)
	}
	if g, err = resolve("app", mod.Resolver{Vendor: true}); err != nil || g.Folders()["a"] != filepath.Join(dir, "app/vendor/a_1.0") {
		t.Errorf("vendor: %v %v", g, err)
	}
	if g, err = resolve("over", mod.Resolver{}); err != nil || g.Folders()["c"] != filepath.Join(dir, "path") {
		t.Errorf("a path does not go before versions: %v %v", g.Folders(), err)
	}
	var missing *mod.MissingError
	if _, err = resolve("lost", mod.Resolver{}); !errors.As(err, &missing) || !strings.Contains(err.Error(), "kcl mod update") {
		t.Errorf("a package that is not there gives %v", err)
	}
	if g, err = resolve("cycle", mod.Resolver{}); err != nil || len(g.Packages) != 2 {
		t.Errorf("a cycle of packages gives %v %v", g, err)
	}
}

func TestChecksums(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"app/kcl.mod":         "[package]\nname = \"app\"\n[dependencies]\na = \"1.0\"\n",
		"cache/a_1.0/a.k":     "x = 1\n",
		"cache/a_1.0/sub/b.k": "y = 2\n",
		"cache/a_1.0/.git/x":  "never counted",
	})
	r := mod.Resolver{Cache: filepath.Join(dir, "cache")}
	m, err := mod.Load(filepath.Join(dir, "app"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.Resolve(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	if m.Lock, err = mod.LockGraph(g); err != nil {
		t.Fatal(err)
	}
	// base64 of the SHA-256 of "x = 1\n" followed by "y = 2\n".
	if sum := m.Lock.Packages[0].Sum; sum != "g1Ov5XmhbSerwDgFW/cTRZum70GMZbFDtSagndUp5QA=" {
		t.Errorf("the checksum is %s", sum)
	}
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"cache/a_1.0/a.k": "x = 666\n"})
	if m, err = mod.Load(filepath.Join(dir, "app")); err != nil {
		t.Fatal(err)
	}
	if _, err = r.Resolve(context.Background(), m); err == nil || !strings.Contains(err.Error(), "checksum mismatch for a") {
		t.Errorf("a changed package gives %v", err)
	}
	r.NoSum = true
	if _, err = r.Resolve(context.Background(), m); err != nil {
		t.Error(err)
	}
}

func TestPack(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"kcl.mod": "[package]\n", "main.k": "a = 1\n", "secret.k": "b = 2\n", "sub/x.k": "c = 3\n", ".git/config": "x"})
	var one, two bytes.Buffer
	for _, b := range []*bytes.Buffer{&one, &two} {
		if err := mod.Pack(b, dir, mod.Package{Exclude: []string{"secret.k"}}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two archives of the same files differ")
	}
	out := t.TempDir()
	if err := mod.Unpack(&one, out); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"kcl.mod": true, "main.k": true, "sub/x.k": true, "secret.k": false, ".git/config": false} {
		if _, err := os.Stat(filepath.Join(out, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
