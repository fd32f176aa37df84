package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLevelWebhookConfig writes the files for API servers twice, by one authority, and refuses what they could not use.
func TestLevelWebhookConfig(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	args := []string{"level", "webhook", "config", "--authority", filepath.Join(dir, "authority.json"), "--dir", filepath.Join(dir, "out"), "--url", "https://10.0.0.5:9443/", "--exempt", "it's"}
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		return string(text)
	}
	var before string
	for range 2 {
		if code, out, errs := w.weft(args...); code != 0 || !strings.Contains(out, "validating.yaml") {
			t.Fatalf("code %d\n%s%s", code, out, errs)
		}
		for name, want := range map[string]string{"out/authorization.yaml": filepath.Join(dir, "out", "webhook.kubeconfig"), "out/webhook.kubeconfig": "https://10.0.0.5:9443/authorize",
			"out/validating.yaml": "https://10.0.0.5:9443/admit"} {
			if text := read(name); !strings.Contains(text, want) {
				t.Errorf("%s lacks %q:\n%s", name, want, text)
			}
		}
		if text := read("out/validating.yaml"); !strings.Contains(text, `it\'`) || before != "" && text != before {
			t.Errorf("validating.yaml is\n%s\nbefore\n%s", text, before)
		} else {
			before = text
		}
	}
	for want, more := range map[string][]string{"expected https://HOST:PORT": {"--url", "http://10.0.0.5:9443"}, "expected NAMESPACE/NAME": {"--account", "levels"}} {
		if code, _, errs := w.weft(append(args[:len(args):len(args)], more...)...); code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%v: code %d, %s", more, code, errs)
		}
	}
}
