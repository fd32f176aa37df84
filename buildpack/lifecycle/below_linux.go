package lifecycle

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// isWhiteout says whether an upper folder has this in place of something that was removed.
func isWhiteout(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0
}

// isOpaque says whether a folder of an upper folder hides what is below it. The attribute has another name where an ordinary user has
// made the mount.
func isOpaque(upper *os.Root, dir string) (bool, error) {
	f, err := upper.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var value [8]byte
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		n, err := unix.Fgetxattr(int(f.Fd()), name, value[:])
		if err == nil && n == 1 && value[0] == 'y' {
			return true, nil
		}
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return false, err
		}
	}
	return false, nil
}

func isNotDir(err error) bool { return errors.Is(err, unix.ENOTDIR) }
