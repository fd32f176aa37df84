package lazy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/image"
)

// TestReadsAheadOfComplete looks how far the kernel reads ahead of an image: as far as of the disk once nothing is missing, and not before. Whoever
// mounts it when it is complete gets that at once.
func TestReadsAheadOfComplete(t *testing.T) {
	needWatch(t)
	to := filepath.Join(stateDir(t), "image")
	if _, err := image.Build(t.Context(), to, image.Options{}, image.Folder(content(t, 1, 2, 300<<10))); err != nil {
		t.Fatal(err)
	}
	s := openService(t, Options{Root: stateDir(t), Mode: Fanotify, Learn: -1})
	t.Cleanup(func() { s.Close() })
	s.ahead.disk = "1232" // a machine whose disk has the kernel's setting would show nothing
	im, err := s.Prepare(t.Context(), Request{Reference: to})
	if err != nil {
		t.Fatal(err)
	}
	want := func(file, value string) {
		t.Helper()
		if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != value {
			t.Fatalf("the kernel reads %q KiB ahead, want %s (%v)", b, value, err)
		}
	}
	known := func(target string) string {
		t.Helper()
		s.ahead.mu.Lock()
		defer s.ahead.mu.Unlock()
		return s.ahead.of[target]
	}

	// Tests of other packages mount images, too: which setting is ours is not known if they do at the same moment.
	var file string
	for i := 0; file == ""; i++ {
		if i == 20 {
			t.Fatal("the settings of mounts are never found")
		}
		file = known(mountImage(t, im))
	}
	want(file, kernelReadAhead)
	if err := im.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(file, "1232")

	before := settings()
	second := mountImage(t, im)
	if known(second) != "" {
		t.Fatal("a complete image was mounted and its setting is still to be changed")
	}
	found := false
	for _, name := range settings() {
		b, err := os.ReadFile(name)
		found = found || err == nil && strings.TrimSpace(string(b)) == "1232" && !strings.Contains(strings.Join(before, "\n"), name)
	}
	if !found {
		t.Error("of a complete image the kernel does not read as far ahead as of the disk")
	}
}
