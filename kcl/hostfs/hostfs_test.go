package hostfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/weft-dev/weft/kcl/value"
)

var _ value.WriteFileSystem = FS{}

func TestReadFile(t *testing.T) {
	s := FS{Dir: t.TempDir()}
	for _, n := range []int{0, 1, 511, 512, 4096, 1 << 20} {
		want := bytes.Repeat([]byte("x"), n)
		if err := s.WriteFile("f", want, false); err != nil {
			t.Fatal(err)
		}
		got, err := s.ReadFile("f")
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
	if err := s.WriteFile("f", []byte("y"), true); err != nil {
		t.Fatal(err)
	}
	if got, err := s.ReadFile("f"); err != nil || len(got) != 1<<20+1 {
		t.Errorf("appended: %d, %v", len(got), err)
	}
	if _, err := s.ReadFile("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := s.ReadFile("."); err == nil {
		t.Error("read a folder")
	}
	if runtime.GOOS == "linux" { // a file that does not say how long it is
		want, err := os.ReadFile("/proc/self/limits")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.ReadFile("/proc/self/limits"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes instead of %d, %v", len(got), len(want), err)
		}
	}
}

func TestNames(t *testing.T) {
	s := FS{Dir: t.TempDir()}
	if err := s.MkdirAll("a/b"); err != nil {
		t.Fatal(err)
	}
	if err := s.Rename("a/b", "c"); err != nil {
		t.Fatal(err)
	}
	if info, err := s.Stat(filepath.Join(s.Dir, "c")); err != nil || !info.IsDir() {
		t.Error(info, err)
	}
	if err := s.Remove("c"); err != nil {
		t.Error(err)
	}
	if list, err := s.ReadDir("."); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
}
