package erofs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/tree"
)

// Mount mounts a metadata image and its devices, given by path in the order of the image's table, on the folder target, read-only. The
// kernel reads the files itself, without a loop device: it needs Linux 6.12 or newer with EROFS_FS_BACKED_BY_FILE, the image on a file
// system other than tmpfs and overlayfs, and CAP_SYS_ADMIN. The image must have passed Check before: the kernel trusts it. Flags are those of
// mount_setattr(2), such as unix.MOUNT_ATTR_NODEV.
func Mount(image string, devices []string, target string, flags int) error {
	mount, err := Detached(image, devices, flags)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", image, target, err)
	}
	return nil
}

// Detached is Mount without a folder: the result is a descriptor of the mount's root, as open with O_PATH gives it. The mount ends when
// nothing of it is open any more.
func Detached(image string, devices []string, flags int) (root int, err error) {
	fd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mounting %s: the kernel has no EROFS: %w", image, err)
	}
	defer unix.Close(fd)
	set := func(key, path string) error {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		if err := unix.FsconfigSetString(fd, key, absolute); err != nil {
			return fmt.Errorf("mounting %s: %s %s: %w", image, key, absolute, told(fd, err))
		}
		return nil
	}
	if err := set("source", image); err != nil {
		return -1, err
	}
	for _, d := range devices {
		if err := set("device", d); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return -1, fmt.Errorf("mounting %s: %w", image, told(fd, err))
	}
	root, err = unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, flags|unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return -1, fmt.Errorf("mounting %s: %w", image, told(fd, err))
	}
	return root, nil
}

// told adds what the kernel says about a failure, which it does on the file system's descriptor.
func told(fd int, err error) error {
	var lines []string
	b := make([]byte, 1024)
	for {
		n, readErr := unix.Read(fd, b)
		if readErr != nil || n <= 0 {
			break
		}
		lines = append(lines, strings.TrimSpace(strings.TrimLeft(string(b[:n]), "ewi ")))
	}
	if errors.Is(err, unix.EINVAL) {
		lines = append(lines, "for the kernel it is no valid EROFS image with as many devices as were given; its log says more")
	}
	if errors.Is(err, unix.ENOTBLK) {
		lines = append(lines, "the image lies on tmpfs or overlayfs, or the kernel is older than 6.12 or lacks EROFS_FS_BACKED_BY_FILE")
	}
	if len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(lines, "; "))
}

// CheckMount says why the kernel mounts no images from files in a folder, or nil. It mounts an empty one for a moment, without a place.
func CheckMount(dir string) error {
	f, err := os.CreateTemp(dir, ".mount-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := Write(f, tree.NewDir(0o755), nil, Options{}); err != nil {
		return err
	}
	root, err := Detached(f.Name(), nil, 0)
	if err != nil {
		return err
	}
	return unix.Close(root)
}
