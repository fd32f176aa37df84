package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// imageSource is a folder to make images of.
func imageSource(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"etc/hosts": "127.0.0.1 localhost\n", "large": strings.Repeat("many bytes ", 100000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestImageVerbs(t *testing.T) {
	w := newWorld(t)
	source, dir := imageSource(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	w.expect(0, "image.erofs", "", "image", "build", source, "--to", at("a"))
	w.expect(0, "sound", "", "image", "check", at("a"), "--source", source)
	w.expect(0, "Together", "", "image", "stat", at("a"), at("a"))
	w.expect(0, "/etc/hosts", "", "image", "inspect", at("a"), "--files")
	w.expect(0, "metadata", "", "image", "merge", at("a"), "--to", at("a/merged.erofs"))
	w.expect(0, "", "", "image", "unpack", at("a"), at("a.tar"))
	w.expect(0, "sound", "", "image", "check", at("a"), "--source", at("a.tar"))
	w.expect(0, "image.boot", "", "image", "build", at("a.tar"), "--to", at("n"), "--format", "nydus", "--compressor", "zstd")

	if err := os.WriteFile(filepath.Join(source, "large"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.expect(1, "/large: size is", "", "image", "check", at("a"), "--source", source)
	w.expect(2, "", "--to is missing", "image", "build", source)
	w.expect(2, "", "expected a power of two", "image", "build", source, "--to", at("x"), "--chunk-size", "5000")
	w.expect(2, "", "expected none, zstd or lz4_block", "image", "build", source, "--to", at("x"), "--compressor", "rar")
	w.expect(1, "", "is no image", "image", "check", source)
	w.expect(1, "", "neither an EROFS image nor a blob", "image", "check", at("a.tar"))
}

func TestNydusNames(t *testing.T) {
	w := newWorld(t)
	source, dir := imageSource(t), t.TempDir()
	boot, result := filepath.Join(dir, "image.boot"), filepath.Join(dir, "result.json")
	as := func(want int, text string, args ...string) {
		t.Helper()
		code, out, errs := w.as(args[0], args[1:]...)
		if code != want || !strings.Contains(out+errs, text) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), code, want, text, out, errs)
		}
	}
	as(0, "successfully built", "nydus-image", "create", "-B", boot, "-D", dir, "-J", result, source)
	b, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Bootstrap  string
		Blobs      []string
		FSVersion  string `json:"fs_version"`
		Compressor string
	}
	if err := json.Unmarshal(b, &made); err != nil || made.Bootstrap != boot || len(made.Blobs) != 1 || made.FSVersion != "6" || made.Compressor != "zstd" {
		t.Fatalf("%v: %s", err, b)
	}
	as(0, "metadata is valid", "nydus-image", "check", boot)
	as(0, made.Blobs[0], "nydus-image", "inspect", boot, "--request", "blobs")
	as(0, "Files:                  2", "nydus-image", "stat", "-B", boot)
	as(0, "", "nydus-image", "merge", "-B", filepath.Join(dir, "merged"), boot)
	as(0, "", "nydus-image", "unpack", boot, "-D", dir, "--output", filepath.Join(dir, "x.tar"))
	as(0, "successfully built", "nydus-image", "create", "--type", "tar-rafs", "--blob-inline-meta", "--blob", filepath.Join(dir, "blob"), filepath.Join(dir, "x.tar"))
	as(0, "inlined-meta", "nydus-image", "check", filepath.Join(dir, "blob"))
	as(2, "where the bootstrap goes", "nydus-image", "create", source)
	as(2, "only 6 is written", "nydus-image", "create", "-B", boot, "-D", dir, "-v", "5", source)
	as(2, "not answered", "nydus-image", "create", "-B", boot, "-D", dir, "--encrypt", source)
	as(2, "--target", "nydusify", "convert", "--source", "registry.example.com/a:v1")
	as(2, "--target is missing", "nydusify", "check")
}
