package syntax

import (
	"os"
	"path/filepath"
	"testing"
)

// seeds adds the programs of the test data to a fuzz corpus.
func seeds(f *testing.F) {
	f.Helper()
	names, _ := filepath.Glob("testdata/*.k")
	for _, n := range names {
		text, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	for _, s := range []string{
		"", "a = 1\n", "a = {b: 1, c = 2, d += [3]}\n", "schema A(B):\n    a: int = 1\n    check:\n        a > 0, \"m\"\n",
		"x = lambda a: int, b = 2 -> int {\n    a + b\n}\n", "s = \"a${b: #json}c\"\n", "l = [if a: 1 else: 2, *b]\n",
		"if a:\n\tb = 1\n  c = 2\n", "\"\"\"doc\"\"\"\nimport a.b as c\n", "a = [x for x in y if x]\n", "@d(a=1)\nrule R for P:\n    a > 1\n",
		"a = (((((((((\n", "\\\n\\\n", "a = 0x_1\nb = 1Ki\nc = 1e5_0\n", "\xff\xfe\x00", "s = r\"\\d\"\nt = '''\n", "a: B {c: d {}}\n",
		"schema A:\n    [k: str]: int\n    [...str]: any = 1\n    mixin [A,\n B]\n",
	} {
		f.Add(s)
	}
}

// FuzzParse holds the parser to giving a tree for anything, with places inside
// the file.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 1<<16 {
			return
		}
		file := Parse("fuzz.k", src)
		for _, e := range file.Errors {
			if e.Start < 0 || int(e.Start) > len(src) || e.Msg == "" {
				t.Fatalf("error %+v lies outside of the file", e)
			}
			file.Position(e.Start)
		}
		for _, s := range file.Body {
			Walk(s, func(n Node) bool {
				if r := n.Range(); r.Start < 0 || int(r.Start) > len(src) || int(r.End) > len(src) {
					t.Fatalf("%T at %d-%d lies outside of the file", n, r.Start, r.End)
				}
				return true
			})
		}
	})
}
