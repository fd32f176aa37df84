package settings_test

import (
	"strings"
	"testing"

	"github.com/weft-dev/weft/kcl/settings"
)

func TestParse(t *testing.T) {
	s, err := settings.Parse("kcl.yaml", `
kcl_cli_configs:
  file: [a.k]
  files: [b.k, c.k]
  output: out.yaml
  disable_none: true
  sort_keys: false
  package_maps: {k8s: ./k8s}
  fast_eval: true
kcl_options:
  - key: n
    value: 1
  - key: s
    value: "1"
  - {key: m, value: {a: [1, null]}}
`)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(s.Files, " ") != "b.k c.k" || s.Output != "out.yaml" || !*s.DisableNone || *s.SortKeys || s.ShowHidden != nil || s.PackageMaps["k8s"] != "./k8s" {
		t.Errorf("read %+v", s)
	}
	want := []settings.Argument{{Key: "n", Value: "1"}, {Key: "s", Value: `"1"`}, {Key: "m", Value: `{"a": [1, null]}`}}
	for i, a := range s.Arguments {
		if a != want[i] {
			t.Errorf("argument %d is %v, want %v", i, a, want[i])
		}
	}
	more, err := settings.Parse("x", "kcl_cli_configs: {files: [d.k], sort_keys: true}\nkcl_options: [{key: n, value: 2}]")
	if err != nil {
		t.Fatal(err)
	}
	s.Merge(more)
	if s.Files[0] != "d.k" || !*s.SortKeys || !*s.DisableNone || len(s.Arguments) != 4 {
		t.Errorf("merged %+v", s)
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"- a": "expected a mapping", "kcl_options: {a: b}": "kcl_options: expected a list",
		"kcl_options: [{value: 1}]": "kcl_options[0]: key is missing", "kcl_options: [{key: a}]": "value of a is missing",
		"kcl_cli_configs: 1": "expected a mapping", "kcl_cli_configs: {files: a.k}": "files: expected a list",
		"kcl_cli_configs: {files: [1]}": "files[0]: expected a string", "kcl_cli_configs: {debug: 1}": "debug: expected true or false",
		"a: [": "line", "": "expected a mapping", "kcl_cli_configs: {package_maps: [1]}": "package_maps",
	} {
		_, err := settings.Parse("kcl.yaml", text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Failed to load 'kcl.yaml', invalid setting file format") {
			t.Errorf("%q gives %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("kcl_cli_configs: {files: [a.k], debug: true}\nkcl_options: [{key: a, value: [1]}]")
	f.Fuzz(func(t *testing.T, text string) { _, _ = settings.Parse("x", text) })
}
