package lifecycle

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func archive(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len("content"))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("content")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func extract(t testing.TB, data []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "layers"), 0o755); err != nil {
		t.Fatal(err)
	}
	layers, err := os.OpenRoot(filepath.Join(dir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	defer layers.Close()
	return dir, ExtractLayer(bytes.NewReader(data), layers, "/layers")
}

func TestExtract(t *testing.T) {
	dir, err := extract(t, archive(t,
		&tar.Header{Typeflag: tar.TypeDir, Name: "/layers", Mode: 0o755},
		&tar.Header{Typeflag: tar.TypeDir, Name: "/layers/bp/x", Mode: 0o700},
		&tar.Header{Typeflag: tar.TypeReg, Name: "/layers/bp/x/tool", Mode: 0o755},
		&tar.Header{Typeflag: tar.TypeSymlink, Name: "/layers/bp/x/link", Linkname: "tool"}))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "layers/bp/x/link"))
	if err != nil || string(data) != "content" {
		t.Errorf("got %q %v", data, err)
	}
	for name, want := range map[string]fs.FileMode{"layers/bp/x": 0o700, "layers/bp/x/tool": 0o755} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

func TestExtractRefuses(t *testing.T) {
	tests := map[string][]*tar.Header{
		"outside":                 {{Typeflag: tar.TypeReg, Name: "/etc/passwd", Mode: 0o644}},
		"dots":                    {{Typeflag: tar.TypeReg, Name: "/layers/bp/../../etc/passwd", Mode: 0o644}},
		"dots within":             {{Typeflag: tar.TypeReg, Name: "/layers/a/../b", Mode: 0o644}},
		"through a link":          {{Typeflag: tar.TypeSymlink, Name: "/layers/out", Linkname: "/tmp"}, {Typeflag: tar.TypeReg, Name: "/layers/out/evil", Mode: 0o644}},
		"through a relative link": {{Typeflag: tar.TypeSymlink, Name: "/layers/out", Linkname: "../.."}, {Typeflag: tar.TypeReg, Name: "/layers/out/evil", Mode: 0o644}},
		"hard link":               {{Typeflag: tar.TypeLink, Name: "/layers/x", Linkname: "/etc/shadow"}},
		"device":                  {{Typeflag: tar.TypeChar, Name: "/layers/x"}},
		"similar name":            {{Typeflag: tar.TypeReg, Name: "/layers-other/x", Mode: 0o644}},
	}
	for name, headers := range tests {
		t.Run(name, func(t *testing.T) {
			dir, err := extract(t, archive(t, headers...))
			if err == nil {
				t.Error("it was unpacked")
			}
			_ = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
				if strings.HasSuffix(p, "evil") || strings.HasSuffix(p, "passwd") {
					t.Errorf("%s was written", p)
				}
				return err
			})
		})
	}
}

// TestExtractStopsBeforeTheDiskIsFull: a layer that says that it is larger than any is refused before a byte of it is written.
func TestExtractStopsBeforeTheDiskIsFull(t *testing.T) {
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "/layers/big", Mode: 0o644, Size: maxLayerSize + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := extract(t, head.Bytes()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("it gave %v", err)
	}
}

func FuzzExtract(f *testing.F) {
	f.Add(archive(f, &tar.Header{Typeflag: tar.TypeReg, Name: "/layers/a/b", Mode: 0o644}))
	f.Add(archive(f, &tar.Header{Typeflag: tar.TypeSymlink, Name: "/layers/a", Linkname: "../../x"}, &tar.Header{Typeflag: tar.TypeReg, Name: "/layers/a/b"}))
	f.Add(archive(f, &tar.Header{Typeflag: tar.TypeDir, Name: "/layers/../x/", Mode: 0o755}))
	f.Add([]byte("not a tar"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir, _ := extract(t, data)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 1 {
			t.Errorf("something was written beside the layers folder: %v", entries)
		}
	})
}

func TestVolumeCacheSurvivesAnInterruptedCommit(t *testing.T) {
	dir := t.TempDir()
	c, err := NewVolumeCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(t.Context(), CacheMetadata{Buildpacks: nil}); err != nil {
		t.Fatal(err)
	}
	// The crash came between the two renames.
	if err := errors.Join(os.Rename(filepath.Join(dir, "committed"), filepath.Join(dir, "committed-backup")), os.MkdirAll(filepath.Join(dir, "staging"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := NewVolumeCache(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "committed", cacheMetadataName)); err != nil {
		t.Errorf("the cache of the last whole build is gone: %v", err)
	}
}

func TestVolumeCacheRefusesDamage(t *testing.T) {
	dir := t.TempDir()
	c, err := NewVolumeCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	content := archive(t, &tar.Header{Typeflag: tar.TypeReg, Name: "/layers/x", Mode: 0o644})
	sha, err := c.Add(t.Context(), Addition{Content: func(w io.Writer) error { _, err := w.Write(content); return err }})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(t.Context(), CacheMetadata{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "committed", sha+".tar")
	content[600] ^= 1
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := NewVolumeCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := again.Layer(t.Context(), sha)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.ReadAll(rc); !errors.Is(err, ErrCacheLayer) {
		t.Errorf("a damaged layer gave %v", err)
	}
	for _, bad := range []string{"sha256:" + strings.Repeat("0", 64), "../../etc/passwd", "sha256:../x"} {
		if _, err := again.Layer(t.Context(), bad); !errors.Is(err, ErrCacheLayer) {
			t.Errorf("%s gave %v", bad, err)
		}
	}
}
