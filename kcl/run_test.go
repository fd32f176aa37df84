package kcl

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/weft-dev/weft/kcl/diag"
)

var update = flag.Bool("update", false, "write what the programs give into the test data")

// memory is a file system under /w.
type memory struct{ fstest.MapFS }

func (m memory) name(name string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(filepath.ToSlash(name), "/w"), "/")
	if rel == "" {
		return "."
	}
	return rel
}

func (m memory) Open(n string) (fs.File, error)          { return m.MapFS.Open(m.name(n)) }
func (m memory) Stat(n string) (fs.FileInfo, error)      { return m.MapFS.Stat(m.name(n)) }
func (m memory) ReadFile(n string) ([]byte, error)       { return m.MapFS.ReadFile(m.name(n)) }
func (m memory) ReadDir(n string) ([]fs.DirEntry, error) { return m.MapFS.ReadDir(m.name(n)) }

// TestPrograms runs the programs of testdata/*.txtar. A file NAME.k at the top
// of an archive is a program; NAME.yaml beside it is what it prints, or NAME.err
// the diagnostics that it gets. Files in folders are packages that programs
// import. A first line `# with ...` gives arguments: name=value for option(),
// -n, -k, -H, -r and -d as of the command, +FILE for another file of the main
// package.
func TestPrograms(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { runArchive(t, path) })
	}
}

func runArchive(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	archive := txtar.Parse(data)
	files := fstest.MapFS{}
	want := map[string]string{}
	for _, f := range archive.Files {
		files[f.Name] = &fstest.MapFile{Data: f.Data}
		want[f.Name] = string(f.Data)
	}
	changed := &txtar.Archive{Comment: archive.Comment}
	for _, f := range archive.Files {
		name, ok := strings.CutSuffix(f.Name, ".k")
		if strings.HasSuffix(f.Name, ".yaml") || strings.HasSuffix(f.Name, ".err") {
			continue
		}
		changed.Files = append(changed.Files, f)
		if !ok || strings.Contains(name, "/") || strings.HasPrefix(name, "also") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			ending, got := runProgram(t, files, f)
			changed.Files = append(changed.Files, txtar.File{Name: name + ending, Data: []byte(got)})
			if w, ok := want[name+ending]; !*update && (!ok || w != got) {
				t.Errorf("%s%s\ngot:\n%s\nwant:\n%s", name, ending, got, w)
			}
		})
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func runProgram(t *testing.T, files fstest.MapFS, f txtar.File) (ending, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o := Options{Files: []string{f.Name}, WorkDir: "/w", Root: "/w", FileSystem: memory{files}}
	first, _, _ := strings.Cut(string(f.Data), "\n")
	if words, ok := strings.CutPrefix(first, "# with "); ok {
		for _, w := range strings.Fields(words) {
			setOption(&o, w)
		}
	}
	r, err := Run(ctx, o)
	if err == nil {
		return ".yaml", strings.TrimSuffix(r.YAML(), "\n") + "\n"
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("not a diagnostic: %v", err)
	}
	return ".err", diag.Pretty(e.Diagnostics, false)
}

func setOption(o *Options, word string) {
	switch name, value, ok := strings.Cut(word, "="); {
	case strings.HasPrefix(word, "+"):
		o.Files = append(o.Files, word[1:])
	case word == "-n":
		o.DisableNone = true
	case word == "-k":
		o.SortKeys = true
	case word == "-H":
		o.ShowHidden = true
	case word == "-r":
		o.Strict32 = true
	case word == "-d":
		o.Strict64 = true
	case ok:
		o.Arguments = append(o.Arguments, Argument{name, value})
	}
}

// TestConcurrent runs every program of the archives at once, twice, with one
// cache: the outputs are those of a run alone.
func TestConcurrent(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	var cache Cache
	var wg sync.WaitGroup
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files, want := fstest.MapFS{}, map[string]string{}
		for _, f := range archive.Files {
			files[f.Name] = &fstest.MapFile{Data: f.Data}
			want[f.Name] = string(f.Data)
		}
		for _, f := range append(archive.Files, archive.Files...) {
			name, ok := strings.CutSuffix(f.Name, ".yaml")
			program, has := want[name+".k"]
			if !ok || !has || strings.HasPrefix(program, "# with ") {
				continue
			}
			wg.Go(func() {
				r, err := Run(context.Background(), Options{Files: []string{name + ".k"}, WorkDir: "/w", Root: "/w",
					FileSystem: memory{files}, Cache: &cache})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if got := strings.TrimSuffix(r.YAML(), "\n") + "\n"; got != want[f.Name] {
					t.Errorf("%s\ngot:\n%s\nwant:\n%s", name, got, want[f.Name])
				}
			})
		}
	}
	wg.Wait()
}
