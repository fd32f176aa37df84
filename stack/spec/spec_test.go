package spec

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReleaseFile reads a release as upstream writes it and writes the same bytes.
func TestReleaseFile(t *testing.T) {
	names, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseRelease(name, text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := r.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(text), string(again)); diff != "" {
			t.Errorf("%s is written otherwise than it was read (-read +written):\n%s", name, diff)
		}
	}
}

func TestImplicitRef(t *testing.T) {
	known := func(id string) bool { return id == "a" || id == "a.b/c:d" }
	for _, c := range []struct{ text, id, path, fault string }{
		{"$kusion_path.a.x.y", "a", "x/y", ""},
		{"$kusion_path.a.b/c:d.x", "a.b/c:d", "x", ""}, // the longest id is meant
		{"$kusion_path.a", "", "", "names a resource and no attribute of it"},
		{"$kusion_path.q.x", "", "", "leads to a resource that is not there"},
		{"plain", "", "", ""},
	} {
		id, path, ok, err := ImplicitRef(c.text, known)
		got := ""
		for i, p := range path {
			if i > 0 {
				got += "/"
			}
			got += p
		}
		if id != c.id || got != c.path || ok == (c.text == "plain") || (err != nil) != (c.fault != "") {
			t.Errorf("%s: got %s %s %v %v", c.text, id, got, ok, err)
		}
	}
}
