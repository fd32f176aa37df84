package kcl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/hostfs"
	"github.com/weft-dev/weft/kcl/value"
)

// The tests TestUpstream* read a checkout of kcl-lang/kcl at commit 670ab63b in
// the folder kcl of $UPSTREAM: `make conformance UPSTREAM=DIR`.

// crates is the folder of upstream's crates.
func crates(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("UPSTREAM")
	if dir == "" {
		t.Skip("needs UPSTREAM, the folder with upstream's checkouts")
	}
	return filepath.Join(dir, "kcl", "crates")
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// snapshots matches the cases of crates/evaluator/src/tests.rs.
var snapshots = regexp.MustCompile(`(?s)evaluator_(function_)?snapshot!\s*\{\s*(\w+),\s*(?:r#"(.*?)"#|"((?:[^"\\]|\\.)*)")`)

// snapshotDiffers has the snapshots that ours differ from, with the reason.
var snapshotDiffers = map[string]string{
	"schema_2": "upstream changes an attribute through another one that was given its value; values are not shared",
}

// TestUpstreamEvaluator runs the evaluator's snapshots: the output is the same
// YAML text, or the value of the last statement the same.
func TestUpstreamEvaluator(t *testing.T) {
	src := filepath.Join(crates(t), "evaluator", "src")
	cases := snapshots.FindAllStringSubmatch(read(t, src, "tests.rs"), -1)
	if len(cases) < 90 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c[2], func(t *testing.T) {
			code := c[3]
			if code == "" {
				code = strings.NewReplacer(`\n`, "\n", `\"`, `"`).Replace(c[4])
			}
			parts := strings.SplitN(read(t, src, "snapshots", "kcl_evaluator__tests__"+c[2]+".snap"), "---\n", 3)
			want := strings.TrimSpace(parts[2])
			o := Options{Files: []string{"test.k"}, WorkDir: "/", Code: map[string]string{"test.k": code}}
			program, err := Load(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			r, err := evaluate(context.Background(), o, program, nil) // upstream does not check either
			if err != nil {
				t.Fatal(err)
			}
			got := r.YAML()
			if c[1] != "" {
				got = value.Text(r.Last)
			}
			switch reason, known := snapshotDiffers[c[2]]; {
			case known && strings.TrimSpace(got) == want:
				t.Errorf("is the same, but is said to differ: %s", reason)
			case !known && strings.TrimSpace(got) != want:
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// answerDiffers has the requests that are answered otherwise, with the reason.
var answerDiffers = map[string]string{
	"exec-program-with-arcanist-error-format-and-bad-kcl": "upstream gives errors of evaluation in its pretty form whatever is asked for",
	"exec-program-with-compile-only":                      "upstream takes the warning of an unused import for an error",
}

// TestUpstreamAPI runs the requests exec-program*, whose answers are JSON and
// YAML texts.
func TestUpstreamAPI(t *testing.T) {
	root := filepath.Join(crates(t), "api")
	dir := filepath.Join(root, "src", "testdata")
	requests, err := filepath.Glob(filepath.Join(dir, "exec-program*.json"))
	if err != nil || len(requests) == 0 {
		t.Fatal(requests, err)
	}
	for _, name := range requests {
		if strings.HasSuffix(name, ".response.json") {
			continue
		}
		base := strings.TrimSuffix(filepath.Base(name), ".json")
		t.Run(base, func(t *testing.T) {
			switch difference, reason := answer(t, root, dir, base), answerDiffers[base]; {
			case reason != "" && difference == "":
				t.Errorf("is the same, but is said to differ: %s", reason)
			case reason == "" && difference != "":
				t.Error(difference)
			}
		})
	}
}

// answer runs a request and tells how the answer differs from upstream's, or "".
func answer(t *testing.T, root, dir, base string) string {
	t.Helper()
	var request struct {
		Dir       string   `json:"work_dir"`
		Files     []string `json:"k_filename_list"`
		Select    []string `json:"path_selector"`
		Types     bool     `json:"include_schema_type_path"`
		Only      bool     `json:"compile_only"`
		Form      string   `json:"error_format"`
		Externals []struct {
			Name string `json:"pkg_name"`
			Path string `json:"pkg_path"`
		} `json:"external_pkgs"`
	}
	if err := json.Unmarshal([]byte(read(t, dir, base+".json")), &request); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(root, request.Dir)
	var log strings.Builder
	o := Options{WorkDir: work, Files: request.Files, Select: request.Select, SchemaTypes: request.Types,
		CompileOnly: request.Only, FileSystem: hostfs.FS{Dir: work}, Print: &log, Externals: map[string]string{}}
	for _, e := range request.Externals {
		o.Externals[e.Name] = filepath.Join(root, e.Path)
	}
	r, err := Run(context.Background(), o)
	if _, e := os.Stat(filepath.Join(dir, base+".response.panic")); e == nil {
		if err == nil && !slices.Contains([]string{"", "pretty", "short", "arcanist", "sarif"}, request.Form) {
			return "" // the form is refused by the command, above this package
		}
		return fmt.Sprintf("upstream fails, we: %v", err)
	}
	var want struct {
		JSON string `json:"json_result"`
		YAML string `json:"yaml_result"`
		Log  string `json:"log_message"`
		Err  string `json:"err_message"`
	}
	if err := json.Unmarshal([]byte(read(t, dir, base+".response.json")), &want); err != nil {
		t.Fatal(err)
	}
	if want.Err != "" {
		var e *Error
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		if got, text := plain(diag.Arcanist(e.Diagnostics)), strings.ReplaceAll(plain(want.Err), "<MANIFEST_DIR>", root); got != text {
			return fmt.Sprintf("got:\n%s\nwant:\n%s", got, text)
		}
		return ""
	}
	if err != nil {
		return err.Error()
	}
	if r.YAML() != want.YAML || log.String() != want.Log {
		return fmt.Sprintf("got:\n%s\nwant:\n%s\nprinted %q, want %q", r.YAML(), want.YAML, log.String(), want.Log)
	}
	var a, b any
	if json.Unmarshal([]byte(r.JSON()), &a) != nil || json.Unmarshal([]byte(want.JSON), &b) != nil || canonical(a) != canonical(b) {
		return fmt.Sprintf("JSON: got %s, want %s", r.JSON(), want.JSON)
	}
	return ""
}

func canonical(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

var ansi = regexp.MustCompile("\x1b\\[[0-9;]*m")

// plain is a text without colors and without spaces at the ends of lines.
func plain(text string) string {
	lines := strings.Split(ansi.ReplaceAllString(text, ""), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// TestUpstreamRunner runs the programs of crates/runner, with golden outputs
// where they have some.
func TestUpstreamRunner(t *testing.T) {
	src := filepath.Join(crates(t), "runner", "src")
	check := func(t *testing.T, golden string, yaml bool, o Options) {
		r, err := Run(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		if golden == "" {
			return
		}
		want := read(t, golden)
		if yaml {
			if got := strings.TrimSpace(r.YAML()); got != strings.TrimSpace(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			return
		}
		var a, b any
		if json.Unmarshal([]byte(r.JSON()), &a) != nil || json.Unmarshal([]byte(want), &b) != nil || canonical(a) != canonical(b) {
			t.Errorf("got %s, want %s", r.JSON(), want)
		}
	}
	options := func(name string) Options {
		dir := filepath.Dir(name)
		return Options{WorkDir: dir, Files: []string{name}, FileSystem: hostfs.FS{Dir: dir}}
	}
	programs, err := filepath.Glob(filepath.Join(src, "exec_data", "*.k"))
	if err != nil || len(programs) == 0 {
		t.Fatal(programs, err)
	}
	for _, name := range programs {
		t.Run(filepath.Base(name), func(t *testing.T) { check(t, "", false, options(name)) })
	}
	goldens, err := filepath.Glob(filepath.Join(src, "*", "*", "stdout.golden.json"))
	if err != nil || len(goldens) == 0 {
		t.Fatal(goldens, err)
	}
	for _, golden := range goldens {
		main := filepath.Join(filepath.Dir(golden), "main.k")
		t.Run(filepath.Base(filepath.Dir(golden)), func(t *testing.T) { check(t, golden, false, options(main)) })
	}
	goldens, err = filepath.Glob(filepath.Join(src, "custom_manifests_data", "*.stdout.golden"))
	if err != nil || len(goldens) == 0 {
		t.Fatal(goldens, err)
	}
	for _, golden := range goldens {
		name := strings.TrimSuffix(golden, ".stdout.golden")
		t.Run(filepath.Base(name), func(t *testing.T) { check(t, golden, true, options(name+".k")) })
	}
}
