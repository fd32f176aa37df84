package project

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestProjectOnMountedImages runs the example on a cluster whose pods start from images before they are unpacked: weft up pushes the form for it.
func TestProjectOnMountedImages(t *testing.T) {
	m := newMachine(t)
	disk, err := os.MkdirTemp("/var/tmp", "weft-project-") // not on tmpfs, whose files the kernel does not watch
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(disk) })
	m.state = filepath.Join(disk, "state")
	t.Cleanup(func() { m.run("down", "--purge", "--grace", "2s") })
	m = m.copyExample(t)
	first := m.up()
	m.expectPage(first.URL, "<h1>Guestbook</h1>")
	log, err := os.ReadFile(filepath.Join(m.state, "logs", "snapshotter.log"))
	if err != nil {
		t.Fatal(err)
	}
	mounted := false
	for line := range strings.Lines(string(log)) {
		mounted = mounted || strings.Contains(line, "mounted before it is there") && strings.Contains(line, first.Images[0].Ref)
		if strings.Contains(line, "as usual") {
			t.Errorf("an image was not mounted: %s", line)
		}
	}
	if !mounted {
		t.Errorf("%s was not mounted:\n%s", first.Images[0].Ref, log)
	}
}
