package kcltool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/cmd/internal/kcltool"
)

// The tests TestUpstream* run upstream's own material from checkouts in the
// folder $UPSTREAM: `make conformance UPSTREAM=DIR`. What is known to differ
// stands in docs/kcl-conformance.md, too.

func upstream(t *testing.T, elem ...string) string {
	t.Helper()
	dir := os.Getenv("UPSTREAM")
	if dir == "" {
		t.Skip("needs UPSTREAM, the folder with upstream's checkouts")
	}
	path := filepath.Join(append([]string{dir}, elem...)...)
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Skipf("needs %s", path)
	}
	return real
}

// command runs the command line in a folder.
func command(dir string, cache string, args ...string) (code int, stdout, stderr string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	env := map[string]string{"KCL_CACHE_PATH": cache, "KCL_PKG_PATH": "/nonexistent"}
	t := &kcltool.Tool{In: strings.NewReader(""), Out: &out, Err: &errs, Dir: dir, Version: "test",
		Getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	code = t.Main(ctx, args)
	return code, out.String(), errs.String()
}

// TestUpstreamGrammar runs the cases of tests/grammar: folders with main.k, the
// options in settings.yaml, and the output or the errors as golden files. As in
// upstream's runner outputs are compared as YAML, and the golden errors must be
// part of the errors, colors and blank lines left out.
func TestUpstreamGrammar(t *testing.T) {
	root := upstream(t, "kcl", "tests", "grammar")
	count := map[string][2]int{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "main.k" {
			return err
		}
		name, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		kind, why := grammarCase(filepath.Dir(path))
		c := count[kind]
		c[1]++
		if why == "" {
			c[0]++
		}
		count[kind] = c
		switch reason, known := grammarDiffers[name]; {
		case why != "" && !known:
			t.Errorf("%s: %s", name, why)
		case why == "" && known:
			t.Errorf("%s passes, but is said to differ: %s", name, reason)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for kind, c := range count {
		t.Logf("%s: %d of %d", kind, c[0], c[1])
	}
	if count["stdout"][1] < 1000 || count["stderr"][1] < 300 {
		t.Errorf("cases are missing: %v", count)
	}
}

// grammarCase runs one case and tells how it fails, or "".
func grammarCase(dir string) (kind, why string) {
	args := []string{"run", "main.k"}
	if text, err := os.ReadFile(filepath.Join(dir, "settings.yaml")); err == nil {
		var settings struct {
			Options string `yaml:"kcl_options"`
		}
		if yaml.Unmarshal(text, &settings) == nil {
			args = append(args, strings.Fields(settings.Options)...)
		}
	}
	code, stdout, stderr := command(dir, "off", args...)
	if golden, err := os.ReadFile(filepath.Join(dir, "stderr.golden")); err == nil {
		want := strings.ReplaceAll(tidy(string(golden)), "${CWD}", dir)
		if code == 0 {
			return "stderr", "no error"
		}
		if got := tidy(stderr); !strings.Contains(got, want) {
			return "stderr", "got:\n" + got + "\nwant:\n" + want
		}
		return "stderr", ""
	}
	golden, err := os.ReadFile(filepath.Join(dir, "stdout.golden"))
	kind = "stdout"
	if err != nil {
		kind = "run"
	}
	if code != 0 {
		return kind, stderr
	}
	if kind == "run" {
		return kind, ""
	}
	want, err := documents(string(golden))
	if err != nil {
		return kind, err.Error()
	}
	got, err := documents(stdout)
	if err != nil {
		return kind, err.Error()
	}
	if !slices.EqualFunc(got, want, same) {
		return kind, fmt.Sprintf("got:\n%s\nwant:\n%s", stdout, golden)
	}
	return kind, ""
}

// documents reads every YAML document that holds something.
func documents(text string) ([]any, error) {
	var docs []any
	dec := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc any
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, err
		}
		if v := reflect.ValueOf(doc); doc == nil || v.IsZero() ||
			(v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.Len() == 0 {
			continue
		}
		docs = append(docs, doc)
	}
}

// same compares as Python does: 1 is 1.0.
func same(a, b any) bool {
	switch x := a.(type) {
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, same)
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && maps.EqualFunc(x, y, same)
	case float64:
		if y, ok := b.(int); ok {
			return x == float64(y)
		}
	case int:
		if y, ok := b.(float64); ok {
			return float64(x) == y
		}
	}
	return reflect.DeepEqual(a, b)
}

var ansi = regexp.MustCompile("\x1b\\[[0-9;]*m")

func tidy(text string) string {
	var lines []string
	for _, line := range strings.Split(ansi.ReplaceAllString(text, ""), "\n") {
		if line = strings.TrimRight(line, "\r"); strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// TestUpstreamLint lints the programs of crates/tools/src/lint.
func TestUpstreamLint(t *testing.T) {
	dir := upstream(t, "kcl", "crates", "tools", "src", "lint", "test_data")
	for _, c := range []struct {
		files, want []string
	}{
		{[]string{"lint.k"}, []string{
			"Cannot find the module abc from " + filepath.Join(dir, "abc"), "try 'kcl mod add abc' to download the missing package",
			"The import stmt should be placed at the top of the module", "Module 'a' is reimported multiple times",
			"Module 'a' imported but unused", "Module 'abc' imported but unused",
		}},
		{[]string{"unused_check_for_each_file/a.k", "unused_check_for_each_file/b.k"}, []string{"Module 'math' imported but unused"}},
	} {
		_, _, stderr := command(dir, "off", append([]string{"lint"}, c.files...)...)
		at := 0
		for _, want := range c.want {
			i := strings.Index(stderr[at:], want)
			if i < 0 {
				t.Fatalf("%v: %q is missing or out of order in\n%s", c.files, want, stderr)
			}
			at += i
		}
	}
}

// TestUpstreamModules checks every package of kcl-lang/modules, each with the
// packages that lie beside it. A cache makes no difference.
func TestUpstreamModules(t *testing.T) {
	root := upstream(t, "modules")
	cache := t.TempDir()
	packages, failed := 0, 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "kcl.mod" {
			return err
		}
		packages++
		dir := filepath.Dir(path)
		name, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		args := append([]string{"lint", "./..."}, externals(root, path)...)
		code, _, stderr := command(dir, cache, args...)
		top, _, _ := strings.Cut(name, "/")
		if code != 0 {
			failed++
		}
		switch fault, known := moduleFaults[top]; {
		case code != 0 && !known:
			t.Errorf("%s:\n%.2000s", name, stderr)
		case code == 0 && known:
			t.Errorf("%s has no error, but is said to have: %s", name, fault)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d packages, %d with errors", packages, failed)
}

// externals gives the options that find the packages a kcl.mod names in the
// checkout: NAME/VERSION, or NAME itself.
func externals(root, file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var out []string
	for _, m := range dependency.FindAllStringSubmatch(string(text), -1) {
		name, version := m[1], m[2]
		parts := strings.Split(version, ".")
		for n := len(parts); n >= 0; n-- {
			dir := filepath.Join(root, name, strings.Join(parts[:n], "."))
			if _, err := os.Stat(filepath.Join(dir, "kcl.mod")); err == nil {
				out = append(out, "-E", strings.ReplaceAll(name, "-", "_")+"="+dir)
				break
			}
		}
	}
	slices.Sort(out)
	return out
}

var dependency = regexp.MustCompile(`(?m)^([\w-]+) *= *(?:\{ *oci *= *"[^"]*", *tag *= *)?"([\w.-]+)"`)

// TestUpstreamKonfig runs the examples of kcl-lang/konfig with its own copy of
// package k8s.
func TestUpstreamKonfig(t *testing.T) {
	root := upstream(t, "kcl-lang-konfig")
	k8s := upstream(t, "modules", "k8s", "1.31")
	mains, err := filepath.Glob(filepath.Join(root, "examples", "*", "*", "*", "main.k"))
	if err != nil || len(mains) < 20 {
		t.Fatal(mains, err)
	}
	for _, main := range mains {
		if code, stdout, stderr := command(filepath.Dir(main), "off", "run", "-E", "k8s="+k8s, "-E", "konfig="+root); code != 0 || stdout == "" {
			t.Errorf("%s: %s", main, stderr)
		}
	}
}
