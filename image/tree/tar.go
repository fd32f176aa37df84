package tree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Whiteouts says how a layer marks what it deletes.
type Whiteouts string

// The ways to mark deletions.
const (
	OCI       Whiteouts = "oci"       // .wh.NAME and .wh..wh..opq (image-spec, layer.md)
	Overlayfs Whiteouts = "overlayfs" // character devices 0, 0 and the attribute trusted.overlay.opaque
	Keep      Whiteouts = "none"      // not at all: such files are files
)

// Limits on what a layer may contain.
const (
	maxName    = 255
	maxPath    = 4096
	maxFiles   = 16 << 20
	maxXattr   = 64 << 10
	maxFollows = 40
)

// Content takes the content of regular files while a tree is being read: it sets Inline, or Chunks and ChunkSize. Size is set already.
type Content interface {
	File(n *Node, r io.Reader) error
}

// ErrLayer says that a layer is damaged or contains what no layer may.
var ErrLayer = errors.New("the layer is not valid")

// FromTar reads a layer from a tar stream. An empty stream is an empty layer. Folders that have no entry of their own belong to root and have
// the permissions 0755. Of several entries for one path the last counts, except that folders keep their entries. Errors name the entry.
func FromTar(r io.Reader, whiteouts Whiteouts, content Content) (*Node, error) {
	l := layer{root: NewDir(0o755), whiteouts: whiteouts, content: content}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			l.hide()
			return l.root, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: after %q: %w", ErrLayer, l.last, err)
		}
		l.last = h.Name
		if err := l.entry(h, t); err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrLayer, h.Name, err)
		}
	}
}

// layer is a layer being read.
type layer struct {
	root      *Node
	whiteouts Whiteouts
	content   Content
	last      string
	files     int
	hidden    []hiding
}

// hiding is a whiteout that is put in its place when everything else is there: it means lower layers only.
type hiding struct {
	dir  *Node
	name string
}

func (l *layer) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if l.files++; l.files > maxFiles {
		return fmt.Errorf("more than %d entries", maxFiles)
	}
	clean, err := cleanPath(h.Name)
	if err != nil {
		return err
	}
	if clean == "" {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("the root is a %s", typeName(h.Typeflag))
		}
		return attributes(l.root, h)
	}
	dir, err := l.dir(path.Dir(clean))
	if err != nil {
		return err
	}
	name := path.Base(clean)
	if l.whiteouts == OCI && strings.HasPrefix(name, ".wh.") {
		return l.whiteout(dir, name)
	}
	node, err := l.node(h, r)
	if err != nil {
		return err
	}
	if old, ok := dir.Child(name); ok && old.IsDir() && node.IsDir() {
		node.children, node.Opaque = old.children, node.Opaque || old.Opaque
		// Whiteouts refer to the folder itself.
		*old = *node
		return nil
	}
	dir.Set(name, node)
	return nil
}

func (l *layer) whiteout(dir *Node, name string) error {
	switch {
	case name == ".wh..wh..opq":
		dir.Opaque = true
	case strings.HasPrefix(name, ".wh..wh."):
		// Left behind by AUFS (.wh..wh.plnk, .wh..wh.aufs): it means nothing.
	case name == ".wh." || name == ".wh..":
		return fmt.Errorf("a whiteout without a name")
	default:
		l.hidden = append(l.hidden, hiding{dir, strings.TrimPrefix(name, ".wh.")})
	}
	return nil
}

// hide puts the whiteouts in their places: what the layer has itself stays and hides what lies below.
func (l *layer) hide() {
	for _, h := range l.hidden {
		h.dir.hide(h.name)
	}
	if l.whiteouts == Overlayfs {
		l.root.TakeOpaque()
	}
}

// node makes the node of an entry.
func (l *layer) node(h *tar.Header, r io.Reader) (*Node, error) {
	n := &Node{}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, '\x00', tar.TypeCont: // TypeRegA of old archives
		n.Mode, n.Size = Regular, h.Size
	case tar.TypeLink:
		return l.link(h.Linkname)
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) >= maxPath || strings.ContainsRune(h.Linkname, 0) {
			return nil, fmt.Errorf("a symbolic link with a target of %d bytes", len(h.Linkname))
		}
		n.Mode, n.Target = Symlink, h.Linkname
	case tar.TypeChar:
		n.Mode = Char
	case tar.TypeBlock:
		n.Mode = Block
	case tar.TypeDir:
		n.Mode = Dir
	case tar.TypeFifo:
		n.Mode = FIFO
	default:
		return nil, fmt.Errorf("an entry of the unknown type %q", h.Typeflag)
	}
	if err := attributes(n, h); err != nil {
		return nil, err
	}
	if n.Type() == Regular {
		if n.Size < 0 {
			return nil, fmt.Errorf("a size of %d bytes", n.Size)
		}
		return n, l.content.File(n, r)
	}
	return n, nil
}

// link finds the file that a hard link names.
func (l *layer) link(to string) (*Node, error) {
	clean, err := cleanPath(to)
	if err != nil {
		return nil, fmt.Errorf("a hard link to %q: %w", to, err)
	}
	n, ok := l.root.Lookup(clean)
	if !ok {
		dir, err := l.dir(path.Dir(clean)) // it may lie behind a symbolic link
		if err != nil {
			return nil, err
		}
		if n, ok = dir.Child(path.Base(clean)); !ok {
			return nil, fmt.Errorf("a hard link to %q, which is not in the layer before it", to)
		}
	}
	if n.IsDir() {
		return nil, fmt.Errorf("a hard link to the folder %q", to)
	}
	return n, nil
}

// dir gives the folder at a path, following symbolic links inside the layer as unpacking it would, and makes what is missing.
func (l *layer) dir(p string) (*Node, error) {
	follows := 0
	at := []*Node{l.root}
	rest := strings.Split(p, "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(at) > 1 {
				at = at[:len(at)-1]
			}
			continue
		}
		here := at[len(at)-1]
		next, ok := here.Child(name)
		switch {
		case ok && next.IsDir():
		case ok && next.Type() == Symlink:
			if follows++; follows > maxFollows {
				return nil, fmt.Errorf("its folder lies behind more than %d symbolic links", maxFollows)
			}
			if strings.HasPrefix(next.Target, "/") {
				at = at[:1]
			}
			rest = append(strings.Split(next.Target, "/"), rest...)
			continue
		default: // missing, or something that the folder replaces
			if len(name) > maxName {
				return nil, fmt.Errorf("a name of %d bytes: at most %d are possible", len(name), maxName)
			}
			next = NewDir(0o755)
			here.Set(name, next)
		}
		at = append(at, next)
	}
	return at[len(at)-1], nil
}

// attributes sets what all kinds of files have.
func attributes(n *Node, h *tar.Header) error {
	const most = 1<<32 - 2 // the kernel has no user -1
	if h.Uid < 0 || h.Uid > most || h.Gid < 0 || h.Gid > most {
		return fmt.Errorf("it belongs to user %d and group %d", h.Uid, h.Gid)
	}
	n.Mode = n.Mode&TypeMask | uint32(h.Mode)&0o7777
	n.UID, n.GID = uint32(h.Uid), uint32(h.Gid)
	n.Mtime, n.MtimeNsec = h.ModTime.Unix(), uint32(h.ModTime.Nanosecond())
	if t := n.Type(); t == Char || t == Block {
		if h.Devmajor < 0 || h.Devmajor > 0xfff || h.Devminor < 0 || h.Devminor > 0xfffff {
			return fmt.Errorf("a device %d, %d", h.Devmajor, h.Devminor)
		}
		n.Major, n.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	var xattrs []Xattr
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if name == "" || len(name) > maxName || len(value) > maxXattr {
				return fmt.Errorf("an extended attribute with a name of %d and a value of %d bytes", len(name), len(value))
			}
			xattrs = append(xattrs, Xattr{name, []byte(value)})
		}
	}
	n.SetXattrs(xattrs)
	return nil
}

// cleanPath makes a path relative to the root; "" is the root itself.
func cleanPath(p string) (string, error) {
	if strings.ContainsRune(p, 0) {
		return "", errors.New("a name with a zero byte")
	}
	if len(p) > maxPath {
		return "", fmt.Errorf("a path of %d bytes: at most %d are possible", len(p), maxPath)
	}
	depth := 0
	for name := range strings.SplitSeq(p, "/") {
		switch {
		case name == "..":
			if depth--; depth < 0 {
				return "", errors.New("it leads out of the root")
			}
		case name != "" && name != ".":
			depth++
		}
		if len(name) > maxName {
			return "", fmt.Errorf("a name of %d bytes: at most %d are possible", len(name), maxName)
		}
	}
	return strings.TrimPrefix(path.Clean("/"+p), "/"), nil
}

func typeName(flag byte) string {
	switch flag {
	case tar.TypeReg:
		return "file"
	case tar.TypeSymlink:
		return "symbolic link"
	case tar.TypeLink:
		return "hard link"
	}
	return fmt.Sprintf("entry of type %q", flag)
}
