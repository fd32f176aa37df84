package vet_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/hostfs"
	"github.com/weft-dev/weft/kcl/vet"
)

// upstream is the folder of upstream's tools, in the folder kcl of $UPSTREAM.
func upstream(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("UPSTREAM")
	if dir == "" {
		t.Skip("needs UPSTREAM, the folder with upstream's checkouts")
	}
	return filepath.Join(dir, "kcl", "crates", "tools", "src")
}

// TestUpstreamVet checks the data of crates/tools/src/vet: the valid passes, and
// what is wrong names the file that upstream's tests look for.
func TestUpstreamVet(t *testing.T) {
	root := filepath.Join(upstream(t), "vet", "test_datas")
	n := 0
	for _, c := range []struct {
		dir, ending string
		ok          bool
	}{
		{"validate_cases", ".json", true}, {"validate_cases", ".yaml", true},
		{"invalid_vet_cases_json", ".json", false}, {"invalid_vet_cases_yaml", ".yaml", false},
	} {
		schemas, err := filepath.Glob(filepath.Join(root, c.dir, "*.k"))
		if err != nil || len(schemas) == 0 {
			t.Fatal(schemas, err)
		}
		for _, schema := range schemas {
			data := schema + c.ending
			text, err := os.ReadFile(data)
			if err != nil {
				continue
			}
			n++
			t.Run(c.dir+"/"+filepath.Base(data), func(t *testing.T) {
				dir := filepath.Dir(schema)
				o := kcl.Options{WorkDir: dir, Files: []string{schema}, FileSystem: hostfs.FS{Dir: dir}}
				err := vet.Check(context.Background(), o, "", "value", vet.Data{Name: data, Text: string(text)})
				if c.ok != (err == nil) {
					t.Fatalf("valid: %v, got %v", c.ok, err)
				}
				if err != nil && !strings.Contains(err.Error(), schema) {
					t.Errorf("%v does not name %s", err, schema)
				}
			})
		}
	}
	if n < 24 {
		t.Errorf("only %d cases", n)
	}
}
