package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// FromDir reads a folder. Marks of overlayfs become those of the tree if whiteouts is Overlayfs; OCI's are understood if it is OCI. Mount
// points below it are entered. A file that becomes shorter meanwhile is an error.
func FromDir(ctx context.Context, dir string, whiteouts Whiteouts, content Content) (*Node, error) {
	d := folder{ctx: ctx, layer: layer{whiteouts: whiteouts, content: content}, inodes: map[[2]uint64]*Node{}}
	root, err := d.read(dir)
	if err != nil {
		return nil, err
	}
	if !root.IsDir() {
		return nil, fmt.Errorf("%s is no folder", dir)
	}
	d.root = root
	d.hide()
	return root, nil
}

// folder is a folder being read.
type folder struct {
	layer
	ctx    context.Context
	inodes map[[2]uint64]*Node // of files with several names, by device and number
	list   []byte
}

func (d *folder) read(at string) (*Node, error) {
	if err := d.ctx.Err(); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(at, &st); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", at, err)
	}
	key := [2]uint64{st.Dev, st.Ino}
	if n, ok := d.inodes[key]; ok {
		return n, nil
	}
	n := &Node{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim.Sec, MtimeNsec: uint32(st.Mtim.Nsec)}
	if st.Nlink > 1 && !n.IsDir() {
		d.inodes[key] = n
	}
	var err error
	if n.Xattrs, err = d.xattrs(at); err != nil {
		return nil, err
	}
	switch n.Type() {
	case Char, Block:
		n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case Symlink:
		if n.Target, err = os.Readlink(at); err != nil {
			return nil, err
		}
	case Regular:
		n.Size = st.Size
		if err := d.file(n, at); err != nil {
			return nil, fmt.Errorf("reading %s: %w", at, err)
		}
	case Dir:
		return n, d.entries(n, at)
	}
	return n, nil
}

func (d *folder) file(n *Node, at string) error {
	f, err := os.OpenFile(at, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return d.content.File(n, io.Reader(f))
}

func (d *folder) entries(n *Node, at string) error {
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return fmt.Errorf("listing %s: %w", at, err)
	}
	slices.Sort(names) // the order of files decides where their chunks lie
	for _, name := range names {
		if d.whiteouts == OCI && strings.HasPrefix(name, ".wh.") {
			if err := d.whiteout(n, name); err != nil {
				return fmt.Errorf("%s: %w", filepath.Join(at, name), err)
			}
			continue
		}
		child, err := d.read(filepath.Join(at, name))
		if err != nil {
			return err
		}
		n.Set(name, child)
	}
	return nil
}

// xattrs reads the extended attributes of a file, without following symbolic links.
func (d *folder) xattrs(at string) ([]Xattr, error) {
	if d.list == nil {
		d.list = make([]byte, maxXattr)
	}
	size, err := unix.Llistxattr(at, d.list)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the extended attributes of %s: %w", at, err)
	}
	var xattrs []Xattr
	for name := range bytes.SplitSeq(bytes.TrimSuffix(d.list[:size], []byte{0}), []byte{0}) {
		value := make([]byte, maxXattr)
		n, err := unix.Lgetxattr(at, string(name), value)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the extended attribute %s of %s: %w", name, at, err)
		}
		xattrs = append(xattrs, Xattr{string(name), bytes.Clone(value[:n])})
	}
	n := Node{}
	n.SetXattrs(xattrs)
	return n.Xattrs, nil
}
