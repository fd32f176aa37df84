package fanotify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Group is the descriptor of a group of marks. As long as one process has it open, readers of marked files wait; when the last one is closed,
// the kernel lets all of them go on.
type Group int

// New makes a group. Descriptors of its events may be written through without causing events.
func New() (Group, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_PRE_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_QUEUE|unix.FAN_UNLIMITED_MARKS,
		unix.O_RDWR|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("making a fanotify group: %w", why(err))
	}
	return Group(fd), nil
}

// why explains the errors of systems that cannot do it.
func why(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (it needs CAP_SYS_ADMIN in the machine's own user namespace)", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w (it needs Linux 6.14 with FANOTIFY_ACCESS_PERMISSIONS)", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w (the file system does not support it: ext4, xfs and btrfs do, tmpfs and overlayfs do not)", err)
	}
	return err
}

// Mark lets readers of a file wait from now on. Files that are open already are not concerned: the kernel decides when a file is opened.
func (g Group) Mark(path string) error {
	if err := unix.FanotifyMark(int(g), unix.FAN_MARK_ADD, unix.FAN_PRE_ACCESS, unix.AT_FDCWD, path); err != nil {
		return fmt.Errorf("marking %s: %w", path, why(err))
	}
	return nil
}

// Unmark lets a file alone. One without a mark is no error.
func (g Group) Unmark(path string) error {
	err := unix.FanotifyMark(int(g), unix.FAN_MARK_REMOVE, unix.FAN_PRE_ACCESS, unix.AT_FDCWD, path)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("taking the mark from %s: %w", path, err)
	}
	return nil
}

// Allow lets the reader of an event go on, and Deny lets its read fail with EIO. Any process that has the group may do it, for it is the number
// that counts, not the descriptor. unix.ENOENT says that no event of that number waits.
func (g Group) Allow(fd int32) error { return g.answer(fd, unix.FAN_ALLOW) }

// Deny is the other answer, see Allow.
func (g Group) Deny(fd int32) error { return g.answer(fd, unix.FAN_DENY|uint32(unix.EIO)<<24) }

func (g Group) answer(fd int32, response uint32) error {
	var p [8]byte
	binary.NativeEndian.PutUint32(p[:], uint32(fd))
	binary.NativeEndian.PutUint32(p[4:], response)
	for {
		_, err := unix.Write(int(g), p[:])
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Check says why files in a folder cannot be watched, or nil.
func Check(dir string) error {
	g, err := New()
	if err != nil {
		return err
	}
	defer unix.Close(int(g))
	f, err := os.CreateTemp(dir, ".watch-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return g.Mark(f.Name())
}
