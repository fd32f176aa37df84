package render

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/weft-dev/weft/logging/resource"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

func documents(t testing.TB, data []byte) []*resource.Document {
	t.Helper()
	var all []*resource.Document
	for part := range strings.SplitSeq("\n"+string(data), "\n---") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(part), &object); err != nil {
			t.Fatal(err)
		}
		if object != nil {
			all = append(all, resource.New(object, nil))
		}
	}
	return all
}

// result is every file and problem as text.
func result(set *resource.Set) string {
	c := &Compiler{Found: resource.FoundIn(set), Namespace: "fluent"}
	var b strings.Builder
	write := func(title string, files map[string][]byte, problems []resource.Problem, err error) {
		if err != nil {
			fmt.Fprintf(&b, "-- error --\n%v\n", err)
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if text := files[name]; len(text) > 0 && name != "fluent.conf" && name != "log.conf" {
				fmt.Fprintf(&b, "-- %s --\n%s\n", title+name, bytes.TrimSuffix(text, []byte("\n")))
			}
		}
		if len(problems) > 0 {
			fmt.Fprintf(&b, "-- %sproblems --\n", title)
			for _, p := range problems {
				fmt.Fprintf(&b, "%s %s: %v\n", p.Severity, p.Reason, p)
			}
		}
	}
	for _, p := range c.FluentBit(set) {
		var files map[string][]byte
		var err error
		if p.Config != nil {
			files, err = p.Files()
		}
		write("", files, p.Problems, err)
	}
	for _, r := range c.Fluentd(set) {
		files, err := r.Files()
		write("", files, r.Problems, err)
	}
	return b.String()
}

// Each archive begins with resources; what follows is what they become.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no test data", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := result(resource.NewSet(documents(t, a.Files[0].Data)))
			want := string(txtar.Format(&txtar.Archive{Files: a.Files[1:]}))
			if *update {
				parsed := txtar.Parse([]byte(got))
				parsed.Comment, parsed.Files = a.Comment, append(a.Files[:1], parsed.Files...)
				writeFile(t, name, txtar.Format(parsed))
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
