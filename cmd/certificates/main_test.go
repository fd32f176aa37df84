package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const certificate = "-----BEGIN CERTIFICATE-----\nb3duIGF1dGhvcml0eQ==\n-----END CERTIFICATE-----\n"

// bind lays out bindings, and gives the environment of a program that has them.
func bind(t *testing.T, files map[string]string) map[string]string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		at := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(root, "image.crt")
	if err := os.WriteFile(image, []byte("of the image"), 0o644); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"SERVICE_BINDING_ROOT": root, "SSL_CERT_FILE": image, "TMPDIR": t.TempDir()}
}

func TestBindings(t *testing.T) {
	env := bind(t, map[string]string{"a/type": "ca-certificates\n", "a/provider": "x", "a/one.pem": certificate, "a/..data": "hidden",
		"b/type": "postgres", "b/password": "no certificate", "c/type": "ca-certificates", "c/two": "# ours\n" + certificate})
	var out bytes.Buffer
	if err := run(func(name string) string { return env[name] }, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], `SSL_CERT_FILE = "`+env["TMPDIR"]) {
		t.Fatalf("the launcher is told %q", lines)
	}
	file := strings.TrimSuffix(strings.TrimPrefix(lines[0], `SSL_CERT_FILE = "`), `"`)
	text, err := os.ReadFile(file)
	if want := "of the image\n" + certificate + "\n# ours\n" + certificate; err != nil || string(text) != want {
		t.Errorf("the file has %q (%v), want %q", text, err, want)
	}
}

func TestNoBindings(t *testing.T) {
	env := bind(t, map[string]string{"b/type": "postgres", "b/password": "x"})
	var out bytes.Buffer
	if err := run(func(name string) string { return env[name] }, &out); err != nil || out.Len() > 0 {
		t.Errorf("got %q, %v", out.String(), err)
	}
	if left, err := os.ReadDir(env["TMPDIR"]); err != nil || len(left) > 0 {
		t.Errorf("left are %v (%v)", left, err)
	}
}

func TestBadBindings(t *testing.T) {
	for want, text := range map[string]string{
		"has a private key":                    certificate + "-----BEGIN PRIVATE KEY-----\n",
		"is no certificate in the form PEM":    "x",
		"or what follows is damaged":           "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
		"has more than 8 MiB":                  certificate + strings.Repeat("x", maxFile),
		"a folder that can be written; TMPDIR": certificate,
	} {
		env := bind(t, map[string]string{"a/type": "ca-certificates", "a/one.pem": text})
		if strings.Contains(want, "TMPDIR") {
			env["TMPDIR"] = "/nonesuch"
		}
		var out bytes.Buffer
		if err := run(func(name string) string { return env[name] }, &out); err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("got %v and %q, want %q", err, out.String(), want)
		}
	}
}
