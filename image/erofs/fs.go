package erofs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/weft-dev/weft/image/tree"
)

// FS is the image as an fs.FS with symbolic links. Info.Sys gives an *Inode.
func (im *Image) FS() interface {
	fs.ReadDirFS
	fs.StatFS
	fs.ReadLinkFS
} {
	return fileSystem{im}
}

type fileSystem struct{ im *Image }

// Open opens a file, following symbolic links inside the image.
func (f fileSystem) Open(name string) (fs.File, error) {
	in, err := f.find("open", name, true)
	if err != nil {
		return nil, err
	}
	file := openFile{info: info{name: path.Base(name), in: in}, SectionReader: io.NewSectionReader(in, 0, int64(in.Size))}
	if in.Mode&tree.TypeMask == tree.Dir {
		return &openDir{openFile: file}, nil
	}
	return &file, nil
}

// Stat describes a file, following symbolic links.
func (f fileSystem) Stat(name string) (fs.FileInfo, error) {
	in, err := f.find("stat", name, true)
	if err != nil {
		return nil, err
	}
	return info{path.Base(name), in}, nil
}

// Lstat describes a file without following a symbolic link in its last part.
func (f fileSystem) Lstat(name string) (fs.FileInfo, error) {
	in, err := f.find("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return info{path.Base(name), in}, nil
}

// ReadLink gives the target of a symbolic link.
func (f fileSystem) ReadLink(name string) (string, error) {
	in, err := f.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	target, err := in.Target()
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

// ReadDir lists a folder, sorted by name.
func (f fileSystem) ReadDir(name string) ([]fs.DirEntry, error) {
	in, err := f.find("readdir", name, true)
	if err != nil {
		return nil, err
	}
	list, err := in.list()
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return list, nil
}

// find goes down a path. Symbolic links are taken as in a root of its own.
func (f fileSystem) find(op, name string, follow bool) (*Inode, error) {
	fail := func(err error) (*Inode, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	root, err := f.im.Root()
	if err != nil {
		return fail(err)
	}
	at := []*Inode{root}
	follows := 0
	for rest := name; rest != "" && rest != "."; {
		var part string
		part, rest = cutPart(rest)
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		here := at[len(at)-1]
		if here.Mode&tree.TypeMask != tree.Dir {
			return fail(errors.New("not a directory"))
		}
		next, ok, err := here.Lookup(part)
		if err != nil {
			return fail(err)
		}
		if !ok {
			return fail(fs.ErrNotExist)
		}
		if next.Mode&tree.TypeMask != tree.Symlink || rest == "" && !follow {
			at = append(at, next)
			continue
		}
		if follows++; follows > 40 {
			return fail(errors.New("too many symbolic links"))
		}
		target, err := next.Target()
		if err != nil {
			return fail(err)
		}
		if target[0] == '/' {
			at = at[:1]
		}
		if rest != "" {
			target += "/" + rest
		}
		rest = target
	}
	return at[len(at)-1], nil
}

func cutPart(p string) (first, rest string) {
	for i := range len(p) {
		if p[i] == '/' {
			return p[:i], p[i+1:]
		}
	}
	return p, ""
}

func (in *Inode) list() ([]fs.DirEntry, error) {
	entries, err := in.Entries()
	if err != nil {
		return nil, err
	}
	list := make([]fs.DirEntry, 0, len(entries))
	for _, e := range entries {
		if e.Name == "." || e.Name == ".." {
			continue
		}
		child, err := in.im.Inode(e.NID)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name, err)
		}
		list = append(list, fs.FileInfoToDirEntry(info{e.Name, child}))
	}
	return list, nil
}

type info struct {
	name string
	in   *Inode
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(i.in.Size) }
func (i info) ModTime() time.Time { return time.Unix(i.in.Mtime, int64(i.in.MtimeNsec)) }
func (i info) IsDir() bool        { return i.Mode().IsDir() }
func (i info) Sys() any           { return i.in }

// Mode is the mode in Go's terms.
func (i info) Mode() fs.FileMode {
	m := fs.FileMode(i.in.Mode & 0o777)
	for bit, mode := range map[uint16]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if i.in.Mode&bit != 0 {
			m |= mode
		}
	}
	switch i.in.Mode & tree.TypeMask {
	case tree.Dir:
		m |= fs.ModeDir
	case tree.Symlink:
		m |= fs.ModeSymlink
	case tree.Char:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case tree.Block:
		m |= fs.ModeDevice
	case tree.FIFO:
		m |= fs.ModeNamedPipe
	case tree.Socket:
		m |= fs.ModeSocket
	}
	return m
}

type openFile struct {
	*io.SectionReader
	info info
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	openFile
	list []fs.DirEntry
	read bool
}

// Read is not for folders.
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("is a directory")}
}

// ReadDir lists the folder.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		list, err := d.info.in.list()
		if err != nil {
			return nil, err
		}
		d.list, d.read = list, true
	}
	if n <= 0 {
		list := d.list
		d.list = nil
		return list, nil
	}
	if len(d.list) == 0 {
		return nil, io.EOF
	}
	list := d.list[:min(n, len(d.list))]
	d.list = d.list[len(list):]
	return list, nil
}

// Inodes visits every name in the image, with a leading slash, folders before what is in them. The image must have passed Check, for one that
// has not may lead in circles.
func (im *Image) Inodes(visit func(path string, in *Inode) error) error {
	root, err := im.Root()
	if err != nil {
		return err
	}
	return im.inodes("/", root, visit)
}

func (im *Image) inodes(at string, in *Inode, visit func(string, *Inode) error) error {
	if err := visit(at, in); err != nil || in.Mode&tree.TypeMask != tree.Dir {
		return err
	}
	entries, err := in.Entries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name == "." || e.Name == ".." {
			continue
		}
		child, err := im.Inode(e.NID)
		if err != nil {
			return err
		}
		if err := im.inodes(path.Join(at, e.Name), child, visit); err != nil {
			return err
		}
	}
	return nil
}
