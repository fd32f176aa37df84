//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseFindsBundleAndLog(t *testing.T) {
	for line, want := range map[string]command{
		"--root /run/r --log /l --log-format json create --bundle /b --pid-file /p id": {"create", "/b", "/l"},
		"--root=/run/r create -b /b id": {"create", "/b", ""},
		"run --bundle=/b id":            {"run", "/b", ""},
		"create id":                     {"create", ".", ""},
		"--root create exec id":         {"exec", ".", ""},
		"--version":                     {"", ".", ""},
	} {
		if got := parse(strings.Fields(line)); got != want {
			t.Errorf("%q: %+v, expected %+v", line, got, want)
		}
	}
}

func TestRemoveFilterKeepsTheRest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"ociVersion":"1.2.0","linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"},"resources":{"memory":{"limit":9223372036854771712}}}}`)
	removed, err := removeFilter(file)
	if err != nil || !removed {
		t.Fatal(removed, err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"linux":{"resources":{"memory":{"limit":9223372036854771712}}},"ociVersion":"1.2.0"}`; string(content) != want {
		t.Errorf("left %s, expected %s", content, want)
	}
	for _, text := range []string{`{"linux":{}}`, `{}`} {
		write(text)
		if removed, err := removeFilter(file); err != nil || removed {
			t.Errorf("%s: %v %v", text, removed, err)
		}
	}
	for _, text := range []string{`{"linux":[]}`, `{"linux"`} {
		write(text)
		if _, err := removeFilter(file); err == nil || !strings.Contains(err.Error(), "config.json") {
			t.Errorf("%s: error %v, expected one that names the file", text, err)
		}
	}
}

func FuzzRemoveFilter(f *testing.F) {
	f.Add([]byte(`{"linux":{"seccomp":{}}}`))
	f.Add([]byte(`{"linux":null}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if removed, err := removeFilter(file); err == nil && removed {
			if again, err := removeFilter(file); again || err != nil {
				t.Errorf("%q: a second time %v %v", content, again, err)
			}
		}
	})
}
