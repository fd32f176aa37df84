package mod_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-dev/weft/kcl/mod"
)

// archive is a tar archive of one entry.
func archive(t *testing.T, h tar.Header, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h.Size, h.Mode = int64(len(text)), 0o777
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackRefuses(t *testing.T) {
	for name, data := range map[string][]byte{
		"a name above":  archive(t, tar.Header{Name: "../evil.k", Typeflag: tar.TypeReg}, "x"),
		"a root name":   archive(t, tar.Header{Name: "/etc/evil.k", Typeflag: tar.TypeReg}, "x"),
		"a hidden name": archive(t, tar.Header{Name: "a/../../evil.k", Typeflag: tar.TypeReg}, "x"),
		"a link":        archive(t, tar.Header{Name: "link", Linkname: "/etc", Typeflag: tar.TypeSymlink}, ""),
		"a hard link":   archive(t, tar.Header{Name: "link", Linkname: "main.k", Typeflag: tar.TypeLink}, ""),
		"a device":      archive(t, tar.Header{Name: "null", Typeflag: tar.TypeChar}, ""),
		"damage":        []byte("this is no archive, however long it may be ..............................."),
	} {
		dir := filepath.Join(t.TempDir(), "package")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := mod.Unpack(bytes.NewReader(data), dir); err == nil {
			t.Errorf("%s was unpacked", name)
		}
		if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
			t.Errorf("%s wrote outside of the package", name)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		up := t.TempDir()
		dir := filepath.Join(up, "package")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = mod.Unpack(bytes.NewReader(data), dir)
		if entries, _ := os.ReadDir(up); len(entries) != 1 {
			t.Fatal("wrote outside of the package")
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Add("[dependencies]\na = { git = \"x\", tag = \"1\" }\n")
	f.Add("[dependencies.a]\npath = \"x\"")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := mod.Parse("kcl.mod", text)
		if err != nil {
			return
		}
		again, err := mod.Parse("kcl.mod", file.String())
		if err != nil {
			t.Fatalf("%q is written as %q: %v", text, file, err)
		}
		if again.String() != file.String() {
			t.Fatalf("%q is written as %q and then as %q", text, file, again)
		}
	})
}

func FuzzParseLock(f *testing.F) {
	f.Add("[dependencies.a]\nname = \"a\"\nsum = \"x\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := mod.ParseLock("kcl.mod.lock", text)
		if err != nil {
			return
		}
		if _, err := mod.ParseLock("kcl.mod.lock", l.String()); err != nil {
			t.Fatalf("%q is written as %q: %v", text, l, err)
		}
	})
}

func FuzzCompare(f *testing.F) {
	f.Add("1.0", "1.0-rc1", "v2")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if mod.Compare(a, b) != -mod.Compare(b, a) {
			t.Fatalf("%q and %q are not ordered", a, b)
		}
		if mod.Compare(a, b) < 0 && mod.Compare(b, c) < 0 && mod.Compare(a, c) >= 0 {
			t.Fatalf("%q < %q < %q, but not the first before the last", a, b, c)
		}
	})
}
