// Package rootfs unpacks images to folders: all layers, with what upper ones remove, and nothing outside the folder whatever an archive
// says. It knows nothing of buildpacks.
package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Limits on what is unpacked.
const (
	maxEntries = 5_000_000
	maxSize    = 64 << 30 // bytes
	maxLinks   = 255      // that a path may lead through
)

// Owner gives the user and group on this machine of a file of the image. It is asked only if this process may choose owners.
type Owner func(uid, gid int) (int, int)

// Unpack writes the files of an image below dir, which must be empty. Devices are left out, and set-user-ID bits are dropped.
func Unpack(ctx context.Context, img v1.Image, dir string, owner Owner) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	u, err := newUnpacking(dir, owner)
	if err != nil {
		return err
	}
	defer u.root.Close()
	for i, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			return err
		}
		err = errors.Join(u.layer(ctx, rc), rc.Close())
		if err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
	}
	return nil
}

// Layer writes the files of one tar stream below dir, over what is there.
func Layer(ctx context.Context, r io.Reader, dir string, owner Owner) error {
	u, err := newUnpacking(dir, owner)
	if err != nil {
		return err
	}
	defer u.root.Close()
	return u.layer(ctx, r)
}

type unpacking struct {
	root    *os.Root
	owner   Owner
	entries int
	size    int64
	folders map[string]fs.FileMode // modes to be set when all is there
}

func newUnpacking(dir string, owner Owner) (*unpacking, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		owner = nil
	}
	return &unpacking{root: root, owner: owner, folders: map[string]fs.FileMode{}}, nil
}

func (u *unpacking) layer(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	here := map[string]bool{} // what this layer has written, which its whiteouts leave alone
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.setModes()
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		u.entries++
		if u.size += h.Size; u.entries > maxEntries || u.size > maxSize {
			return fmt.Errorf("it unpacks to more than %d entries or %d bytes", maxEntries, int64(maxSize))
		}
		if err := u.entry(tr, h, here); err != nil {
			return fmt.Errorf("unpack %s: %w", h.Name, err)
		}
	}
}

func (u *unpacking) entry(r io.Reader, h *tar.Header, here map[string]bool) error {
	if strings.ContainsRune(h.Name, 0) || slices.Contains(strings.Split(h.Name, "/"), "..") {
		return errors.New("the path leads out of the folder")
	}
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if name == "" {
		return nil
	}
	dir, err := u.parent(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		return u.whiteout(dir, hidden, here)
	}
	at := path.Join(dir, base)
	here[at] = true
	return u.write(r, h, at)
}

func (u *unpacking) write(r io.Reader, h *tar.Header, at string) error {
	mode := h.FileInfo().Mode().Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		info, err := u.root.Lstat(at)
		if err == nil && !info.IsDir() {
			if target, statErr := u.root.Stat(at); statErr == nil && target.IsDir() && info.Mode()&fs.ModeSymlink != 0 {
				return nil // a link to a folder stays, as /bin is one to usr/bin
			}
			if err := u.root.RemoveAll(at); err != nil {
				return err
			}
			err = fs.ErrNotExist
		}
		if err != nil {
			if err := u.root.Mkdir(at, 0o755); err != nil {
				return err
			}
		}
		if h.FileInfo().Mode()&fs.ModeSticky != 0 {
			mode |= fs.ModeSticky
		}
		u.folders[at] = mode
		return u.chown(at, h)
	case tar.TypeReg:
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return errors.New("files with holes are not allowed") // a few bytes could fill the disk
			}
		}
		if err := u.root.RemoveAll(at); err != nil {
			return err
		}
		f, err := u.root.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, u.chown(at, h), f.Chmod(mode), f.Close())
	case tar.TypeSymlink:
		if err := u.root.RemoveAll(at); err != nil {
			return err
		}
		return errors.Join(u.root.Symlink(h.Linkname, at), u.chown(at, h))
	case tar.TypeLink:
		if slices.Contains(strings.Split(h.Linkname, "/"), "..") {
			return fmt.Errorf("the link to %s leads out of the folder", h.Linkname)
		}
		target := strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		dir, err := u.parent(path.Dir(target))
		if err != nil {
			return err
		}
		if err := u.root.RemoveAll(at); err != nil {
			return err
		}
		return u.root.Link(path.Join(dir, path.Base(target)), at)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo, tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("entries of type %q are not allowed", h.Typeflag)
}

func (u *unpacking) chown(at string, h *tar.Header) error {
	if u.owner == nil {
		return nil
	}
	uid, gid := u.owner(h.Uid, h.Gid)
	return u.root.Lchown(at, uid, gid)
}

// whiteout removes what lower layers have.
func (u *unpacking) whiteout(dir, hidden string, here map[string]bool) error {
	if hidden != ".wh..opq" {
		if at := path.Join(dir, hidden); !here[at] {
			return u.root.RemoveAll(at)
		}
		return nil
	}
	entries, err := fs.ReadDir(u.root.FS(), dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if at := path.Join(dir, e.Name()); !here[at] {
			if err := u.root.RemoveAll(at); err != nil {
				return err
			}
		}
	}
	return nil
}

// parent gives the folder that a path leads to within the root, links followed as if the root were the machine's. Missing folders are
// made.
func (u *unpacking) parent(dir string) (string, error) {
	var at []string
	rest := strings.Split(dir, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(0, len(at)-1)]
			continue
		}
		name := path.Join(path.Join(at...), part)
		info, err := u.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			if err := u.root.Mkdir(name, 0o755); err != nil {
				return "", err
			}
			at = append(at, part)
			continue
		}
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if !info.IsDir() {
				return "", fmt.Errorf("%s is no folder", name)
			}
			at = append(at, part)
			continue
		}
		if links++; links > maxLinks {
			return "", errors.New("too many links")
		}
		target, err := u.root.Readlink(name)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(target, "/") {
			at = nil
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	if len(at) == 0 {
		return ".", nil
	}
	return path.Join(at...), nil
}

// setModes gives folders their modes, at last so that folders without write permission could be filled. This process can always enter.
func (u *unpacking) setModes() error {
	for at, mode := range u.folders {
		if os.Geteuid() != 0 {
			mode |= 0o700
		}
		if err := u.root.Chmod(at, mode); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	clear(u.folders)
	return nil
}

// Once gives a folder below dir with the files of an image, unpacked the first time. The folder is named by the image's configuration.
func Once(ctx context.Context, img v1.Image, dir string, owner Owner) (string, error) {
	id, err := img.ConfigName()
	if err != nil {
		return "", err
	}
	at := filepath.Join(dir, id.Hex)
	if _, err := os.Stat(at); err == nil {
		return at, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	if err := os.Chmod(temp, 0o755); err != nil {
		return "", err
	}
	if err := Unpack(ctx, img, temp, owner); err != nil {
		return "", err
	}
	if err := os.Rename(temp, at); err != nil {
		if _, statErr := os.Stat(at); statErr != nil {
			return "", err
		}
	}
	return at, nil
}
