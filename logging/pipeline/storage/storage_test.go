package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func chunk(t *testing.T, folder *Folder) *File {
	t.Helper()
	c, err := folder.Create("tail.0", "a.b")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one", "twotwo"} {
		if err := c.Append([]byte(s), 2); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChunks(t *testing.T) {
	dir := t.TempDir()
	folder, err := Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	chunk(t, folder)
	left, err := folder.Left()
	if err != nil || len(left) != 1 {
		t.Fatal(left, err)
	}
	tag, events, count, err := left[0].Read()
	if tag != "a.b" || string(events) != "onetwotwo" || count != 4 || err != nil {
		t.Errorf("%q %q %d %v", tag, events, count, err)
	}
	if err := left[0].Remove(); err != nil {
		t.Fatal(err)
	}
	if left, _ := folder.Left(); len(left) != 0 {
		t.Error("a removed chunk is still there")
	}
	if _, err := folder.Create("x", strings.Repeat("x", maxTag+1)); err == nil {
		t.Error("a tag without end is taken")
	}
	if _, err := folder.Create("../../x/y", "t"); err != nil {
		t.Error(err)
	} else if names, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(names) != 1 {
		t.Errorf("an input's name leads out of the folder: %v", names)
	}
}

// Whatever is torn off or changed, what was written whole before it comes back and nothing else.
func TestTornChunks(t *testing.T) {
	folder, err := Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(chunk(t, folder).Name())
	if err != nil {
		t.Fatal(err)
	}
	for n := range data {
		_, events, count, err := Decode(data[:n])
		if got := string(events); err == nil && !(got == "" && count == 0 || got == "one" && count == 2) {
			t.Errorf("the first %d bytes: %q, %d", n, got, count)
		}
		changed := append([]byte(nil), data...)
		changed[n] ^= 1
		if _, events, _, err := Decode(changed); err == nil && !strings.HasPrefix("onetwotwo", string(events)) || string(events) == "onetwotwo" {
			t.Errorf("byte %d changed: %q", n, events)
		}
	}
	if _, _, _, err := Decode([]byte("something else")); !errors.Is(err, ErrDamaged) {
		t.Errorf("a foreign file: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, events, _, err := Decode(data); err == nil && len(events) > len(data) {
			t.Fatal("more than there was")
		}
	})
}
