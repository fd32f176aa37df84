package mountinfo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Metadata is how the metadata of an image is called in its folder: a mount of a file of that name is a lazy one.
const Metadata = "image.erofs"

// FUSE is the kind of the file system of what is mounted through FUSE.
const FUSE = "fuse.weft"

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

// Refuse makes sure that nothing that a program with its state in a folder needs while it runs lies on a lazy mount, nor further files: ErrOnLazyMount.
func Refuse(root string, more ...string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var mounts []Line
	for line := range strings.Lines(string(b)) {
		if m, ok := Parse(line); ok {
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

// Users are the mounts that read from lazy mounts whose state or folders lie below a folder: overlays of them, and copies of them elsewhere.
func Users(root string) ([]string, error) {
	return targets(func(m Line) bool {
		if below(m.Target, root) {
			return false
		}
		return (m.Kind == FUSE || m.Kind == "erofs") && below(m.Source, root) ||
			m.Kind == "overlay" && slices.ContainsFunc(overlayFolders(m.Options), func(dir string) bool { return below(dir, root) })
	})
}

// Below are the mounts on folders below a folder.
func Below(root string) ([]string, error) {
	return targets(func(m Line) bool { return below(m.Target, root) })
}

func below(path, root string) bool { return strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/") }

func targets(fits func(Line) bool) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(string(b)) {
		if m, ok := Parse(line); ok && fits(m) {
			list = append(list, m.Target)
		}
	}
	return list, nil
}

// lazyMount finds the lazy mount that a path lies on: EROFS of a file in a state folder, Weft's FUSE, or an overlay of one.
func lazyMount(mounts []Line, path string, depth int) string {
	var on Line
	for _, m := range mounts { // the last one of the longest path counts
		if (path == m.Target || strings.HasPrefix(path, strings.TrimSuffix(m.Target, "/")+"/")) && len(m.Target) >= len(on.Target) {
			on = m
		}
	}
	switch {
	case on.Kind == FUSE, on.Kind == "erofs" && filepath.Base(on.Source) == Metadata:
		return on.Target
	case on.Kind == "overlay" && depth < 4:
		for _, dir := range overlayFolders(on.Options) {
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
