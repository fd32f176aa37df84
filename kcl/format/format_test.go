package format_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/weft-dev/weft/kcl/format"
	"github.com/weft-dev/weft/kcl/syntax"
)

// TestGolden formats input.k of each archive, and the result again.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			a := txtar.Parse(data)
			got, err := format.Source("input.k", string(a.Files[0].Data), format.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if want := string(a.Files[1].Data); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			again, err := format.Source("input.k", got, format.Options{})
			if err != nil || again != got {
				t.Errorf("formatted again (%v):\n%s", err, again)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	src := "a = {\n b = 1\n}\n"
	for o, want := range map[format.Options]string{
		{}:           "a = {\n    b = 1\n}\n",
		{Width: 2}:   "a = {\n  b = 1\n}\n",
		{Tabs: true}: "a = {\n\tb = 1\n}\n",
	} {
		if got, err := format.Source("x.k", src, o); err != nil || got != want {
			t.Errorf("%+v: got %q (%v)", o, got, err)
		}
	}
	if _, err := format.Source("x.k", "a = \n", format.Options{}); err == nil || !strings.HasPrefix(err.Error(), "x.k:1:") {
		t.Errorf("a syntax error gives %v", err)
	}
}

// FuzzSource: what is formatted is a program again, and comments are not lost.
func FuzzSource(f *testing.F) {
	for _, s := range []string{"a = 1 # c\n", "schema A:\n  a: int\n", "a = [\n# x\n1\n]\n", "if a:\n  b = 1\nelse:\n  c = 2\n", "x = lambda a, b: int -> int {\n a\n}\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		got, err := format.Source("x.k", src, format.Options{})
		if err != nil {
			return
		}
		if before, after := syntax.Parse("x.k", src), syntax.Parse("x.k", got); len(after.Errors) == 0 && len(after.Comments) < len(before.Comments) {
			t.Fatalf("%q becomes %q and loses a comment", src, got)
		}
	})
}
