package kcl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
)

// memoryStore is a load.Store that counts.
type memoryStore struct {
	mu         sync.Mutex
	entries    map[[32]byte][]byte
	hits, puts int
}

func (s *memoryStore) Get(key [32]byte) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.entries[key]
	if ok {
		s.hits++
	}
	return data, ok
}

func (s *memoryStore) Put(key [32]byte, entry []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		s.entries = map[[32]byte][]byte{}
	}
	s.entries[key] = entry
	s.puts++
}

// outcome is what a run prints, or its diagnostics.
func outcome(t *testing.T, files fstest.MapFS, cache *Cache) string {
	t.Helper()
	r, err := Run(context.Background(), Options{Files: []string{"main.k"}, WorkDir: "/w", Root: "/w", FileSystem: memory{files}, Cache: cache})
	if err == nil {
		return r.YAML()
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	return diag.Pretty(e.Diagnostics, false)
}

func textFiles(texts map[string]string) fstest.MapFS {
	files := fstest.MapFS{}
	for name, text := range texts {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

// TestCacheTellsNoDifference runs every program of the archives as a package
// that another imports: without a cache, filling one, from memory, and from the
// store alone. All four tell the same.
func TestCacheTellsNoDifference(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	remembered := 0
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			name, ok := strings.CutSuffix(f.Name, ".k")
			if !ok || strings.Contains(name, "/") {
				continue
			}
			files := fstest.MapFS{"p/all.k": {Data: f.Data}, "main.k": {Data: importer(string(f.Data))}}
			for _, o := range archive.Files {
				if strings.Contains(o.Name, "/") {
					files[o.Name] = &fstest.MapFile{Data: o.Data}
				}
			}
			store := &memoryStore{}
			cache := &Cache{Store: store}
			want := outcome(t, files, nil)
			for i, c := range []*Cache{cache, cache, {Store: store}} {
				if got := outcome(t, files, c); got != want {
					t.Errorf("%s: %s: run %d with a cache\ngot:\n%s\nwant:\n%s", filepath.Base(path), name, i+1, got, want)
				}
			}
			remembered += min(store.hits, 1)
		}
	}
	if remembered < 50 {
		t.Errorf("only %d programs came from the store", remembered)
	}
}

// importer is a program that uses all that another one declares.
func importer(src string) []byte {
	var b bytes.Buffer
	b.WriteString("import p\n")
	for i, s := range syntax.Parse("p", src).Body {
		switch s := s.(type) {
		case *syntax.AssignStmt:
			for _, t := range s.Targets {
				fmt.Fprintf(&b, "v%d = p.%s\n", i, t.Name.Text)
			}
		case *syntax.UnifyStmt:
			fmt.Fprintf(&b, "v%d = p.%s\n", i, s.Target)
		case *syntax.TypeAliasStmt:
			fmt.Fprintf(&b, "v%d: p.%s = None\n", i, s.Name)
		case *syntax.SchemaStmt:
			fmt.Fprintf(&b, "schema S%d(p.%s):\n    extra: int = 1\ns%d = lambda x: p.%s { x }\n", i, s.Name.Text, i, s.Name.Text)
		}
	}
	return b.Bytes()
}

var layered = map[string]string{
	"main.k":   "import top\na = top.Top {part.size = 3}\n",
	"top/t.k":  "import low\nschema Top:\n    part: low.Low\n    twice: int = part.size * 2\n",
	"low/l.k":  "schema Low:\n    size: int = 1\n    check:\n        size < 10, \"too big\"\n",
	"low/l2.k": "import units\ntype Size = int\nschema Other:\n    s: Size = 1\n    n: units.NumberMultiplier = 1Ki\n",
}

// TestCacheSeesChanges changes what a remembered package imports, and itself.
func TestCacheSeesChanges(t *testing.T) {
	for _, c := range []struct{ name, file, text, want string }{
		{"nothing", "main.k", layered["main.k"], "twice: 6"},
		{"an attribute of an import of an import is gone", "low/l.k", "schema Low:\n    length: int = 1\n", "attribute 'size' not found"},
		{"an import of an import has another type", "low/l.k", "schema Low:\n    size: str = \"x\"\n", "expected str, got int"},
		{"the package itself is wrong", "top/t.k", "import low\nschema Top:\n    part: low.Low\n    twice: str = 3\n", "expected str, got int"},
		{"a syntax error", "low/l2.k", "schema Low\n", "InvalidSyntax"},
		{"a check fails", "low/l.k", "schema Low:\n    size: int = 1\n    check:\n        size < 2, \"too big\"\n", "too big"},
		{"a cycle", "low/l2.k", "import top\n", "circular reference between modules"},
		{"the program does not fit", "main.k", "import top\na = top.Top {par.size = 3}\n", "Cannot add member 'par' to schema 'Top', did you mean '[\"part\"]'?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := &memoryStore{}
			cache := &Cache{Store: store}
			before := maps.Clone(layered)
			if got := outcome(t, textFiles(before), cache); !strings.Contains(got, "twice: 6") {
				t.Fatal(got)
			}
			if store.puts != 2 {
				t.Fatalf("%d packages were kept", store.puts)
			}
			before[c.file] = c.text
			want := outcome(t, textFiles(before), nil)
			for _, cache := range []*Cache{cache, {Store: store}} {
				if got := outcome(t, textFiles(before), cache); got != want || !strings.Contains(got, c.want) {
					t.Errorf("got:\n%s\nwant (with %q):\n%s", got, c.want, want)
				}
			}
		})
	}
}

// TestCacheOfAnotherBuild: another build of the program judges anew.
func TestCacheOfAnotherBuild(t *testing.T) {
	store := &memoryStore{}
	outcome(t, textFiles(layered), &Cache{Store: store, Build: "1"})
	outcome(t, textFiles(layered), &Cache{Store: store, Build: "2"})
	if store.hits != 0 || store.puts != 4 {
		t.Errorf("%d hits, %d puts", store.hits, store.puts)
	}
}

// TestCacheKeepsNoFaults: packages with errors are checked each time, but those
// below a faulty main package are kept.
func TestCacheKeepsNoFaults(t *testing.T) {
	store := &memoryStore{}
	texts := maps.Clone(layered)
	texts["main.k"] = "import top\na: str = 1\n"
	outcome(t, textFiles(texts), &Cache{Store: store})
	if store.puts != 2 {
		t.Errorf("a fault of the main package: %d packages were kept", store.puts)
	}
	texts["low/l.k"] = "schema Low:\n    size: str = 1\n"
	want := outcome(t, textFiles(texts), nil)
	for range 2 {
		if got := outcome(t, textFiles(texts), &Cache{Store: store}); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	}
	if store.puts != 2 {
		t.Errorf("%d packages were kept", store.puts)
	}
}

// TestCacheDamaged gives entries that are cut, changed or of another package:
// the outcome is the same, and the entry is written anew.
func TestCacheDamaged(t *testing.T) {
	store := &memoryStore{}
	want := outcome(t, textFiles(layered), &Cache{Store: store})
	whole := maps.Clone(store.entries)
	for key, entry := range whole {
		for n := range len(entry) {
			changed := append([]byte(nil), entry...)
			changed[n] ^= 0x55
			for _, bad := range [][]byte{entry[:n], changed} {
				store.entries = maps.Clone(whole)
				store.entries[key] = bad
				if got := outcome(t, textFiles(layered), &Cache{Store: store}); n < 32 && got != want {
					t.Fatalf("byte %d: got:\n%s", n, got)
				}
				if n < 32 && !bytes.Equal(store.entries[key], entry) {
					t.Fatalf("byte %d: the entry was not written anew", n)
				}
			}
		}
	}
}
