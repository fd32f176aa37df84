package erofs

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
)

// Tree reads the whole tree of an image. With a table, files refer to its chunks, and it is an error if a chunk is not in it; without one,
// chunk-based files have no chunks (Node.Size says how large they are). Everything that the kernel relies on is checked: inodes and
// content inside the image, folders sorted and without doubles, "." and ".." right, each folder with one name, types and link counts as
// they are. What it refuses must not be mounted.
func (im *Image) Tree(ctx context.Context, table *chunk.Table) (*tree.Node, error) {
	return im.Walk(ctx, func(in *Inode, n *tree.Node) error { return im.chunks(in, n, table) })
}

// Walk is Tree for formats that see more in a file's index of chunks: chunks fills in Node.Chunks of each file that is chunk-based.
func (im *Image) Walk(ctx context.Context, chunks func(*Inode, *tree.Node) error) (*tree.Node, error) {
	w := walk{ctx: ctx, im: im, chunks: chunks, seen: map[uint64]*seen{}}
	root, err := w.node(uint64(im.Super.RootNID), uint64(im.Super.RootNID), "")
	if err != nil {
		return nil, err
	}
	if !root.IsDir() {
		return nil, fmt.Errorf("%w: its root is no folder", ErrFormat)
	}
	for nid, s := range w.seen {
		if s.links != s.nlink {
			return nil, fmt.Errorf("%w: /%s (inode %d) has %d names and says %d", ErrFormat, s.path, nid, s.links, s.nlink)
		}
	}
	return root, nil
}

// Check finds what is wrong with an image, as Tree does; with its own chunk table if it has one.
func (im *Image) Check(ctx context.Context) error {
	table, err := im.Table()
	if err != nil {
		return err
	}
	_, err = im.Tree(ctx, table)
	return err
}

const maxDepth = 2048 // a path has at most 4096 bytes

type seen struct {
	node         *tree.Node
	path         string
	links, nlink uint32
}

type walk struct {
	ctx    context.Context
	im     *Image
	chunks func(*Inode, *tree.Node) error
	seen   map[uint64]*seen
	depth  int
	work   int64 // bytes of folders and indexes read
}

func (w *walk) node(nid, parent uint64, at string) (*tree.Node, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	if s, ok := w.seen[nid]; ok {
		if s.node.IsDir() {
			return nil, fmt.Errorf("%w: /%s is the folder /%s again", ErrFormat, at, s.path)
		}
		s.links++
		return s.node, nil
	}
	in, err := w.im.Inode(nid)
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", at, err)
	}
	n := &tree.Node{Mode: uint32(in.Mode), UID: in.UID, GID: in.GID, Mtime: in.Mtime, MtimeNsec: in.MtimeNsec}
	s := &seen{node: n, path: at, links: 1, nlink: in.Nlink}
	w.seen[nid] = s
	if n.Xattrs, err = in.Xattrs(); err != nil {
		return nil, fmt.Errorf("/%s: %w", at, err)
	}
	for i := 1; i < len(n.Xattrs); i++ {
		if n.Xattrs[i].Name == n.Xattrs[i-1].Name {
			return nil, fmt.Errorf("%w: /%s has the extended attribute %s twice", ErrFormat, at, n.Xattrs[i].Name)
		}
	}
	switch n.Type() {
	case tree.Symlink:
		n.Target, err = in.Target()
	case tree.Char, tree.Block:
		n.Major, n.Minor = in.Rdev()
	case tree.Regular:
		n.Size = int64(in.Size)
		err = w.content(in, n)
	case tree.Dir:
		s.links = 2
		return n, w.dir(in, n, parent, at, s)
	}
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", at, err)
	}
	return n, nil
}

func (w *walk) dir(in *Inode, n *tree.Node, parent uint64, at string, s *seen) error {
	if w.depth++; w.depth > maxDepth {
		return fmt.Errorf("%w: /%s: folders in more than %d folders", ErrFormat, at, maxDepth)
	}
	defer func() { w.depth-- }()
	if err := w.spend(int64(in.Size)); err != nil {
		return err
	}
	entries, err := in.Entries()
	if err != nil {
		return fmt.Errorf("/%s: %w", at, err)
	}
	dots := 0
	for i, e := range entries {
		if i > 0 && entries[i-1].Name >= e.Name {
			return fmt.Errorf("%w: /%s: the name %q stands behind %q", ErrFormat, at, e.Name, entries[i-1].Name)
		}
		switch e.Name {
		case ".":
			if dots++; e.NID != in.NID {
				return fmt.Errorf("%w: /%s: its \".\" is inode %d instead of %d", ErrFormat, at, e.NID, in.NID)
			}
			continue
		case "..":
			if dots++; e.NID != parent {
				return fmt.Errorf("%w: /%s: its \"..\" is inode %d instead of %d", ErrFormat, at, e.NID, parent)
			}
			continue
		}
		child, err := w.node(e.NID, in.NID, path.Join(at, e.Name))
		if err != nil {
			return err
		}
		if want := direntTypes[child.Type()]; e.Type != want {
			return fmt.Errorf("%w: /%s: the entry says type %d, the inode %d", ErrFormat, path.Join(at, e.Name), e.Type, want)
		}
		if child.IsDir() {
			s.links++
		}
		n.Set(e.Name, child)
	}
	if dots != 2 {
		return fmt.Errorf("%w: /%s has no \".\" or no \"..\"", ErrFormat, at)
	}
	return nil
}

// spend bounds what overlapping folders and indexes may cost.
func (w *walk) spend(n int64) error {
	if w.work += n; w.work > 4*w.im.end()+maxExtraWalk {
		return fmt.Errorf("%w: its folders and indexes lie on top of each other", ErrFormat)
	}
	return nil
}

// content reads where a regular file's content lies.
func (w *walk) content(in *Inode, n *tree.Node) error {
	if in.Layout != LayoutChunks || n.Size == 0 {
		if err := w.spend(n.Size); err != nil {
			return err
		}
		n.Inline = make([]byte, n.Size)
		if n.Size > 0 {
			return in.read(n.Inline, 0)
		}
		return nil
	}
	if err := w.spend(int64(in.ChunkCount()) * in.indexSize()); err != nil {
		return err
	}
	return w.chunks(in, n)
}

// chunks reads the index of a file. Without a table it only checks it.
func (im *Image) chunks(in *Inode, n *tree.Node, table *chunk.Table) error {
	index, err := in.Index(0, in.ChunkCount())
	if err != nil {
		return err
	}
	n.ChunkSize = int(in.ChunkSize())
	if table != nil {
		n.Chunks = make([]chunk.Ref, len(index))
	}
	for i, x := range index {
		if x.Hole() {
			continue
		}
		size := min(in.ChunkSize(), n.Size-int64(i)*in.ChunkSize())
		if err := im.inside(x, size); err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
		if table == nil {
			continue
		}
		ref, ok := table.At(uint32(im.Device(x)), int64(x.Block)<<im.bits)
		if !ok {
			return fmt.Errorf("%w: chunk %d (device %d, block %d) is not in the chunk table", ErrFormat, i, x.Device, x.Block)
		}
		if c, err := table.Chunk(ref); err != nil || int64(c.Size) != size {
			return fmt.Errorf("%w: chunk %d has %d bytes, the chunk table says otherwise", errors.Join(ErrFormat, err), i, size)
		}
		n.Chunks[i] = ref
	}
	return nil
}

// inside checks that a chunk lies inside its device.
func (im *Image) inside(x Index, size int64) error {
	d := im.Device(x)
	blocks := im.Super.Blocks
	if d > 0 {
		if int(d) > len(im.Slots) {
			return fmt.Errorf("%w: it lies on device %d of %d", ErrFormat, d, len(im.Slots))
		}
		blocks = im.Slots[d-1].Blocks
	}
	if int64(x.Block)<<im.bits+size > int64(blocks)<<im.bits {
		return fmt.Errorf("%w: it ends outside of device %d", ErrFormat, d)
	}
	return nil
}
