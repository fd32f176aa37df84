package store

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"
)

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a small tmpfs needs root: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	kept := put(t, s, "kept")
	big := bytes.Repeat([]byte("x"), 2<<20)
	_, err = s.Put(t.Context(), bytes.NewReader(big), -1, 0, "")
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "make room") {
		t.Errorf("got %v", err)
	}
	if read(t, s, kept) != "kept" {
		t.Error("what was there is damaged")
	}
	put(t, s, "there is room again")
}
