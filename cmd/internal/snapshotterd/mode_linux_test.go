package snapshotterd

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/lazy/fanotify"
)

// Where the kernel does not make readers wait, and has no FUSE, auto is eager: the snapshotter serves ordinary images all the same.
func TestAutoWithoutAWayToWait(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	if err := fanotify.Check(root); err == nil {
		t.Fatal("tmpfs was expected to be a file system on which fanotify does not work")
	}
	// The tests have a mount namespace of their own, so this takes the device from nobody else.
	if err := errors.Join(unix.Mount("/dev/fuse", "/dev/fuse", "", unix.MS_BIND, ""), unix.Mount("", "/dev/fuse", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NODEV, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount("/dev/fuse", 0) })
	d := startDaemon(t, root, "--mode", "auto")
	if said := d.log.String(); !strings.Contains(said, "mode=eager") || !strings.Contains(said, "fetched before they are mounted") {
		t.Error(said)
	}
}
