package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// devices that every program expects; they are bound from the machine because a user namespace cannot make device files.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

var deviceLinks = map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}

// hidden files of /proc tell about the machine or its keys.
var hidden = []string{"kcore", "keys", "timer_list", "sched_debug", "kallsyms", "kpagecount", "kpageflags"}

// privateMounts keeps what is mounted from here on in this namespace, and shows the processes of this one in /proc: starting one in a
// user namespace needs that.
func privateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	return nil
}

// buildRoot puts the root together and makes it the root of all processes here; what was there before is gone.
func buildRoot(spec Spec) error {
	root := spec.Mountpoint
	if err := mountOverlay(spec.Root, root, spec.Rootless); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if err := mountSystem(root); err != nil {
		return err
	}
	for _, m := range spec.Mounts {
		if err := mountOne(root, m, spec.Rootless); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	return os.Chdir("/")
}

func mountOne(root string, m Mount, rootless bool) error {
	switch m.Kind {
	case Tmpfs:
		target, err := inside(root, m.Target, true)
		if err != nil {
			return err
		}
		mode := m.Mode
		if mode == 0 {
			mode = 0o755
		}
		options := "mode=" + strconv.FormatUint(uint64(mode), 8)
		if m.Size > 0 {
			options += ",size=" + strconv.FormatInt(m.Size, 10)
		}
		return unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options)
	case Overlay:
		target, err := inside(root, m.Target, true)
		if err != nil {
			return err
		}
		return mountOverlay(m, target, rootless)
	case Bind:
		info, err := os.Stat(m.Source)
		if err != nil {
			return err
		}
		target, err := inside(root, m.Target, info.IsDir())
		if err != nil {
			return err
		}
		return bind(m.Source, target, m.ReadOnly)
	}
	return fmt.Errorf("unknown kind %q", m.Kind)
}

func bind(source, target string, readOnly bool) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID}
	if !strings.HasPrefix(source, "/dev/") {
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	if readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, &attr)
	if errors.Is(err, unix.ENOSYS) {
		return errors.New("read-only mounts of whole trees need Linux 5.12 or newer")
	}
	return err
}

// overlayPath escapes what separates options and layers in the options of an overlay (Documentation/filesystems/overlayfs.rst,
// "Multiple lower layers").
var overlayPath = strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)

// MountOverlay puts Upper over Lower at the path target, for a process that may mount.
func MountOverlay(m Mount, target string) error { return mountOverlay(m, target, false) }

func mountOverlay(m Mount, target string, rootless bool) error {
	lower := make([]string, len(m.Lower))
	for i, path := range m.Lower {
		lower[i] = overlayPath.Replace(path)
	}
	options := "lowerdir=" + strings.Join(lower, ":")
	if m.Upper != "" {
		options += ",upperdir=" + overlayPath.Replace(m.Upper) + ",workdir=" + overlayPath.Replace(m.Work)
		if !rootless {
			// What machines may have as defaults would make upper folders that nothing but the kernel can read.
			options += ",index=off,redirect_dir=off,metacopy=off"
		}
	}
	if rootless {
		options += ",userxattr"
	}
	if err := unix.Mount("overlay", target, "overlay", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("overlay of %s: %w", strings.Join(m.Lower, ", "), err)
	}
	return nil
}

func mountSystem(root string) error {
	proc, err := inside(root, "/proc", true)
	if err != nil {
		return err
	}
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	dev, err := inside(root, "/dev", true)
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return fmt.Errorf("/dev: %w", err)
	}
	for _, name := range devices {
		target, err := inside(root, "/dev/"+name, false)
		if err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("/dev/%s: %w", name, err)
		}
	}
	for name, target := range deviceLinks {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for _, name := range hidden {
		target := filepath.Join(proc, name)
		if _, err := os.Lstat(target); err != nil {
			continue
		}
		if err := unix.Mount("/dev/null", target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("/proc/%s: %w", name, err)
		}
	}
	return mountOne(root, Mount{Kind: Tmpfs, Target: "/dev/shm", Mode: 0o1777}, false)
}
