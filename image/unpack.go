package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/weft-dev/weft/image/tree"
)

// Unpack writes an image's files as a tar stream, with extended attributes, times to the nanosecond and hard links. Marks of deleted files, which
// images of one layer may have, are written as OCI layers have them. Sockets cannot be in tar: they are given to skipped.
func (o *Opened) Unpack(ctx context.Context, w io.Writer, skipped func(path, why string)) error {
	if skipped == nil {
		skipped = func(string, string) {}
	}
	o.Root.TakeOpaque()
	c := o.Content()
	defer c.Close()
	u := unpacker{ctx: ctx, content: c, tar: tar.NewWriter(w), skipped: skipped, names: map[*tree.Node]string{}}
	for p, n := range o.Root.All() {
		if err := u.entry(p, n); err != nil {
			return fmt.Errorf("/%s: %w", p, err)
		}
	}
	return u.tar.Close()
}

type unpacker struct {
	ctx     context.Context
	content *Content
	tar     *tar.Writer
	skipped func(path, why string)
	names   map[*tree.Node]string
}

func (u *unpacker) entry(p string, n *tree.Node) error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if n.IsWhiteout() {
		dir, name := path.Split(p)
		return u.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + name, Mode: 0o644, Format: tar.FormatPAX})
	}
	h := header(p, n)
	if h == nil {
		u.skipped(p, "tar has no sockets")
		return nil
	}
	if first, ok := u.names[n]; ok {
		return u.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: p, Linkname: first, Format: tar.FormatPAX, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime})
	}
	if !n.IsDir() {
		u.names[n] = p
	}
	if err := u.tar.WriteHeader(h); err != nil {
		return err
	}
	if n.Type() == tree.Regular {
		return u.content.Copy(u.ctx, u.tar, n)
	}
	if n.Opaque {
		return u.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(p, ".wh..wh..opq"), Mode: 0o644, Format: tar.FormatPAX})
	}
	return nil
}

// header is the entry of a file; nil for sockets.
func header(p string, n *tree.Node) *tar.Header {
	h := &tar.Header{
		Name: p, Mode: int64(n.Mode & 0o7777), Uid: int(n.UID), Gid: int(n.GID), ModTime: time.Unix(n.Mtime, int64(n.MtimeNsec)), Format: tar.FormatPAX,
	}
	switch n.Type() {
	case tree.Regular:
		h.Typeflag, h.Size = tar.TypeReg, n.Size
	case tree.Dir:
		h.Typeflag = tar.TypeDir
		if h.Name = strings.TrimSuffix(p, "/") + "/"; p == "" {
			h.Name = "./"
		}
	case tree.Symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.Target
	case tree.Char, tree.Block:
		if h.Typeflag = tar.TypeChar; n.Type() == tree.Block {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(n.Major), int64(n.Minor)
	case tree.FIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil
	}
	for _, x := range n.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+x.Name] = string(x.Value)
	}
	return h
}

// ErrDiffers says that an image is not what it was made of.
var ErrDiffers = errors.New("the image differs from its source")
