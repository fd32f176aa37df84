package lazy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mincore is mincore(2).
func mincore(m, pages []byte) error {
	_, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&pages[0]))) //nolint:gosec // as the system call wants it
	if e != 0 {
		return e
	}
	return nil
}

// needed are the files that these programs read while they run: a read of them that has to wait for these programs would never end.
func needed(root string) []string {
	list := []string{root, "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl/certs", "/etc/pki/tls/certs", os.Getenv("SSL_CERT_FILE"), os.Getenv("SSL_CERT_DIR")}
	if self, err := os.Executable(); err == nil {
		list = append(list, self)
	}
	return list
}

// ErrOnLazyMount says that a program needs a file that lies on a lazy mount.
var ErrOnLazyMount = errors.New("it lies on a mount that is filled on demand, so reading it could wait for itself")

// Refuse makes sure that nothing that a program with its state in a folder needs while it runs lies on a lazy mount: ErrOnLazyMount.
func Refuse(root string) error { return refuse(root) }

// refuse is Refuse, with further files.
func refuse(root string, more ...string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var mounts []mountLine
	for line := range strings.Lines(string(b)) {
		if m, ok := parseMount(line); ok {
			mounts = append(mounts, m)
		}
	}
	for _, name := range append(needed(root), more...) {
		if name == "" {
			continue
		}
		path, err := filepath.EvalSymlinks(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if m := lazyMount(mounts, path, 0); m != "" {
			return fmt.Errorf("%s: %w (%s); put it on another file system", name, ErrOnLazyMount, m)
		}
	}
	return nil
}

// lazyMount finds the lazy mount that a path lies on: EROFS of a file in a state folder, Weft's FUSE, or an overlay of one.
func lazyMount(mounts []mountLine, path string, depth int) string {
	var on mountLine
	for _, m := range mounts { // the last one of the longest path counts
		if (path == m.target || strings.HasPrefix(path, strings.TrimSuffix(m.target, "/")+"/")) && len(m.target) >= len(on.target) {
			on = m
		}
	}
	switch {
	case on.kind == fuseKind, on.kind == "erofs" && filepath.Base(on.source) == metadataName:
		return on.target
	case on.kind == "overlay" && depth < 4:
		for _, dir := range overlayFolders(on.options) {
			if m := lazyMount(mounts, dir, depth+1); m != "" {
				return m
			}
		}
	}
	return ""
}

// overlayFolders are the folders that an overlay reads from.
func overlayFolders(options string) []string {
	var dirs []string
	for o := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "lowerdir":
			dirs = append(dirs, strings.Split(value, ":")...)
		case "lowerdir+", "datadir+", "upperdir":
			dirs = append(dirs, value)
		}
	}
	return dirs
}
