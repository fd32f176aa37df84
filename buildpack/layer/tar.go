// Package layer writes the layers of an image as tar streams that are the same on every machine, and measures them while they pass.
// It knows nothing of buildpacks and nothing of where a layer goes.
package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// ModTime is the time of every entry (lifecycle archive/writer.go).
var ModTime = time.Date(1980, time.January, 1, 0, 0, 1, 0, time.UTC)

// Tree is a folder whose links can be read without following them, for example os.Root.FS().
type Tree interface {
	fs.ReadDirFS
	fs.ReadLinkFS
}

// Owner of entries.
type Owner struct{ UID, GID int }

// A Parent is a folder above the content of a layer. Parents keep their own mode and owner.
type Parent struct {
	Path  string // absolute, clean
	Mode  fs.FileMode
	Owner Owner
}

// A Writer writes one layer.
type Writer struct {
	tar    *tar.Writer
	buffer []byte // for copying files
}

// NewWriter writes to w. Close ends the layer but not w.
func NewWriter(w io.Writer) *Writer { return &Writer{tar: tar.NewWriter(w)} }

// copy copies a file. tar.Writer would make a buffer for each.
func (w *Writer) copy(r io.Reader) (int64, error) {
	if w.buffer == nil {
		w.buffer = make([]byte, 64<<10)
	}
	return io.CopyBuffer(struct{ io.Writer }{w.tar}, struct{ io.Reader }{r}, w.buffer)
}

// Close writes the end of the layer.
func (w *Writer) Close() error { return w.tar.Close() }

// Folder writes a folder entry.
func (w *Writer) Folder(p Parent) error {
	return w.header(&tar.Header{Typeflag: tar.TypeDir, Name: p.Path, Mode: int64(p.Mode.Perm()) | stickyBits(p.Mode), Uid: p.Owner.UID, Gid: p.Owner.GID})
}

// Link writes a symbolic link.
func (w *Writer) Link(name, target string, owner Owner) error {
	return w.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o755, Uid: owner.UID, Gid: owner.GID})
}

// HardLink writes another name of a file that the layer has already.
func (w *Writer) HardLink(name, target string, mode fs.FileMode, owner Owner) error {
	return w.header(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: int64(mode.Perm()), Uid: owner.UID, Gid: owner.GID})
}

// File writes a file of size bytes from r.
func (w *Writer) File(name string, mode fs.FileMode, owner Owner, size int64, r io.Reader) error {
	err := w.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode.Perm()) | stickyBits(mode), Size: size, Uid: owner.UID, Gid: owner.GID})
	if err != nil {
		return err
	}
	if _, err := w.copy(r); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Entry writes the file, link or folder name of tree at the absolute path at. Sockets are left out; a hard link becomes a file.
func (w *Writer) Entry(tree Tree, name, at string, owner Owner) error {
	info, err := tree.Lstat(name)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = tree.ReadLink(name); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(plain{info}, link)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	h.Name, h.Uid, h.Gid = at, owner.UID, owner.GID
	if err := w.header(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := tree.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := w.copy(io.LimitReader(f, info.Size()))
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if n != info.Size() {
		return fmt.Errorf("%s became shorter while it was read", at)
	}
	return nil
}

// plain hides what the system knows of a file, so that a layer does not depend on who made it.
type plain struct{ fs.FileInfo }

func (plain) Sys() any { return nil }

// An Opener is a Tree that opens a folder, as a Tree whose names begin there. That saves finding it again for each of its files.
type Opener interface {
	Folder(name string) (Tree, io.Closer, error)
}

// Root gives the files of an opened folder, which stays the caller's.
func Root(r *os.Root) Tree { return rootTree{r.FS().(Tree), r} }

type rootTree struct {
	Tree
	root *os.Root
}

// Folder implements Opener.
func (t rootTree) Folder(name string) (Tree, io.Closer, error) {
	r, err := t.root.OpenRoot(name)
	if err != nil {
		return nil, nil, err
	}
	return Root(r), r, nil
}

// Tree writes everything below the folder root of tree, at being its absolute path, in the order of filepath.Walk.
func (w *Writer) Tree(tree Tree, root, at string, owner Owner) (err error) {
	if err := w.Entry(tree, root, at, owner); err != nil {
		return err
	}
	entries, err := tree.ReadDir(root)
	if err != nil {
		return err
	}
	if o, ok := tree.(Opener); ok && len(entries) > 0 {
		var folder io.Closer
		if tree, folder, err = o.Folder(root); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, folder.Close()) }()
		root = "."
	}
	for _, e := range entries {
		name, below := path.Join(root, e.Name()), at+"/"+e.Name()
		if e.IsDir() {
			err = w.Tree(tree, name, below, owner)
		} else {
			err = w.Entry(tree, name, below, owner)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) header(h *tar.Header) error {
	if !path.IsAbs(h.Name) || strings.ContainsRune(h.Name, 0) {
		return errors.New("layer: the path " + h.Name + " is not absolute")
	}
	h.ModTime, h.AccessTime, h.ChangeTime = ModTime, time.Time{}, time.Time{}
	h.Uname, h.Gname = "", ""
	return w.tar.WriteHeader(h)
}

func stickyBits(m fs.FileMode) int64 {
	var bits int64
	if m&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}
