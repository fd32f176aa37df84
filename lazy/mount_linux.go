package lazy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/lazy/keeper"
	"github.com/weft-dev/weft/lazy/mountinfo"
)

// newGuard chooses how images are filled.
func newGuard(ctx context.Context, s *Service) (guard, error) {
	s.ahead = newReadAhead(s.root)
	switch s.options.Mode {
	case Eager:
		return &eager{s}, nil
	case Auto, Fanotify, FUSE:
		w, err := newWatch(ctx, s)
		if err != nil {
			return nil, err
		}
		return w, nil
	}
	return nil, fmt.Errorf("unknown mode %q: expected fanotify, fuse or eager", s.options.Mode)
}

// mountable is ErrCannot with its reason where the kernel mounts no images from files.
func (s *Service) mountable() error {
	if err := erofs.CheckMount(s.root); err != nil {
		return fmt.Errorf("%w: %w", ErrCannot, err)
	}
	return nil
}

// served says which processes look after a folder.
func served(root string) (worker bool, p keeper.Processes) {
	f, err := lock(context.Background(), root, 0)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, ErrBusy), keeper.Look(filepath.Join(root, "run"))
}

// kernelMount lets the kernel mount an image.
func (s *Service) kernelMount(im *Image, target string, flags int) error {
	devices, err := s.paths(im)
	if err != nil {
		return err
	}
	err = s.ahead.mount(target, func() error { return erofs.Mount(s.imageFile(im.id, mountinfo.Metadata), devices, target, flags) })
	if err != nil {
		return err
	}
	s.widen(im)
	return nil
}

// paths are those of an image's devices.
func (s *Service) paths(im *Image) ([]string, error) {
	devices := make([]string, len(im.record.Devices))
	for i := range devices {
		var err error
		if devices[i], err = s.path(im, i); err != nil {
			return nil, err
		}
	}
	return devices, nil
}

// unmount unmounts a folder; one on which nothing is mounted is no error.
func unmount(target string) error {
	err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", target, err)
	}
	return nil
}

// findMount finds the last mount that fits, nil if there is none.
func findMount(fits func(mountinfo.Line) bool) (*mountinfo.Line, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found *mountinfo.Line
	for line := range strings.Lines(string(b)) {
		if m, ok := mountinfo.Parse(line); ok && fits(m) {
			found = &m
		}
	}
	return found, nil
}

// mountOn is what is mounted on a folder, nil if nothing is.
func mountOn(target string) (*mountinfo.Line, error) {
	return findMount(func(m mountinfo.Line) bool { return m.Target == target })
}

// isErofs says whether a mount is one of the image that the kernel reads itself.
func (s *Service) isErofs(im *Image, m *mountinfo.Line) bool {
	return m != nil && m.Kind == "erofs" && m.Source == s.imageFile(im.id, mountinfo.Metadata)
}

// isDead says whether a mount is one through FUSE whose reads nobody answers.
func (s *Service) isDead(m *mountinfo.Line) bool {
	return m != nil && m.Kind == mountinfo.FUSE && !s.guard.connected(m.Source)
}

// isMounted says whether an image is mounted on a folder. A mount through FUSE that nobody answers is taken away.
func (s *Service) isMounted(im *Image, target string) (bool, error) {
	for range 16 {
		m, err := mountOn(target)
		if err != nil || m == nil {
			return false, err
		}
		if !s.isDead(m) {
			return s.isErofs(im, m) || m.Kind == mountinfo.FUSE, nil
		}
		if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return false, fmt.Errorf("taking away what is cut off: %s: %w", target, err)
		}
	}
	return false, fmt.Errorf("%s: there are too many mounts", target)
}

// Restore mounts again what was mounted when the machine stopped, and names what could not be. It is called once, after Open.
func (s *Service) Restore(ctx context.Context) error {
	var failures []error
	for _, im := range s.Images() {
		if err := s.guard.restore(ctx, im); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", im.Name(), err))
		}
	}
	return errors.Join(failures...)
}

// mountAgain mounts an image where the record says, unless it is mounted there. A folder that is gone is forgotten.
func (s *Service) mountAgain(ctx context.Context, im *Image) error {
	var failures []error
	for _, m := range im.mounts() {
		ok, err := s.isMounted(im, m.Target)
		if err == nil && !ok {
			if _, err = os.Stat(m.Target); err != nil {
				err = im.keep(func(list []mount) []mount { return without(list, m.Target) })
			} else {
				err = s.guard.mount(ctx, im, m.Target, m.Flags)
			}
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// replaceQuickly gives a file the name of another, which it replaces. The kernel would flush a file that is renamed over another one; it does
// not when they change names.
func replaceQuickly(from, to string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE); err != nil {
		return os.Rename(from, to)
	}
	return os.Remove(from)
}
