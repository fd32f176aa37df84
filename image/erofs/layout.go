package erofs

import (
	"fmt"
	"path"
	"slices"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
)

// file is an inode about to be written.
type file struct {
	node    *tree.Node
	path    string // one of its paths, for messages
	links   uint32
	parent  *file    // of folders; the root is its own
	entries []string // its extended attributes, encoded
	raw     Raw
	xattrs  []byte
	nid     int64
	plain   int64 // bytes of its content in whole blocks
	block   int64 // where these begin, counted from the first of them
	dir     []DirBlock
}

// layout is where everything lies.
type layout struct {
	options Options
	table   *chunk.Table
	files   []*file // in the order of their inodes
	byNode  map[*tree.Node]*file
	xattrs  *xattrs
	epoch   [2]int64 // time of compact inodes
	devices int64    // byte of the device table
	xattrAt int64    // block of shared attributes
	meta    int64    // block of inode 0
	end     int64    // bytes of inodes; no inode has the number 0, which programs take for "none"
	data    int64    // first block of content in whole blocks
	blocks  int64
}

func plan(root *tree.Node, table *chunk.Table, o Options) (*layout, error) {
	if !root.IsDir() {
		return nil, fmt.Errorf("%w: the root is no folder", ErrFormat)
	}
	if len(table.Devices) > 0xffff {
		return nil, fmt.Errorf("%d devices: EROFS holds at most %d", len(table.Devices), 0xffff)
	}
	l := &layout{options: o, table: table, byNode: map[*tree.Node]*file{}, devices: superOffset + superSize, end: slot}
	if err := l.collect(root); err != nil {
		return nil, err
	}
	l.xattrs = newXattrs(l.files, o.Skipped)
	l.epoch = l.commonTime()
	l.xattrAt = align(l.devices+deviceSlotSize*int64(len(table.Devices)), BlockSize) / BlockSize
	l.meta = l.xattrAt + align(int64(len(l.xattrs.area)), BlockSize)/BlockSize
	for i, f := range l.files {
		if err := l.inode(f); err != nil {
			return nil, err
		}
		f.raw.Ino = uint32(i + 1)
		l.place(f)
	}
	l.data = l.meta + align(l.end, BlockSize)/BlockSize
	next := l.data
	for _, f := range l.files {
		f.block = next
		if f.plain > 0 {
			f.raw.Union = uint32(next)
		}
		next += align(f.plain, BlockSize) / BlockSize
	}
	l.blocks = next
	if l.blocks > 0xfffffffe {
		return nil, fmt.Errorf("metadata of %d blocks: EROFS holds fewer than %d", l.blocks, 0xffffffff)
	}
	return l, nil
}

// collect lists the inodes: the root first, then each folder's entries together, so that listing a folder reads few blocks.
func (l *layout) collect(root *tree.Node) error {
	top := &file{node: root, links: 2}
	top.parent = top
	l.files, l.byNode[root] = []*file{top}, top
	for queue := []*file{top}; len(queue) > 0; {
		dir := queue[0]
		queue = queue[1:]
		var below []*file
		for _, name := range dir.node.Names() {
			n, _ := dir.node.Child(name)
			at := path.Join(dir.path, name)
			if len(name) > 255 || name == "" || name == "." || name == ".." {
				return fmt.Errorf("%s: a name of %d bytes that no file can have", at, len(name))
			}
			if f, ok := l.byNode[n]; ok {
				if n.IsDir() {
					return fmt.Errorf("%s: a second name of the folder %s", at, f.path)
				}
				f.links++
				continue
			}
			f := &file{node: n, path: at, links: 1}
			l.files, l.byNode[n] = append(l.files, f), f
			if n.IsDir() {
				f.links, f.parent = 2, dir
				dir.links++
				below = append(below, f)
			}
		}
		queue = append(below, queue...)
	}
	return nil
}

// commonTime is the time that most files have: inodes with it can be compact.
func (l *layout) commonTime() [2]int64 {
	if l.options.Extended {
		return [2]int64{}
	}
	count, best := map[[2]int64]int{}, [2]int64{}
	for _, f := range l.files {
		t := [2]int64{f.node.Mtime, int64(f.node.MtimeNsec)}
		count[t]++
		if count[t] > count[best] {
			best = t
		}
	}
	// Of several the earliest, so that the order of files does not matter.
	for t, n := range count {
		if n == count[best] && slices.Compare(t[:], best[:]) < 0 {
			best = t
		}
	}
	return best
}

// inode fills in everything but the addresses.
func (l *layout) inode(f *file) error {
	n := f.node
	if n.MtimeNsec >= 1e9 {
		return fmt.Errorf("%s: a time with %d nanoseconds", f.path, n.MtimeNsec)
	}
	f.raw = Raw{Mode: uint16(n.Mode), UID: n.UID, GID: n.GID, Mtime: n.Mtime, MtimeNsec: n.MtimeNsec, Nlink: f.links}
	body, err := l.xattrs.body(f)
	if err != nil {
		return err
	}
	if f.xattrs = body; len(body) > 0 {
		f.raw.XattrUnit = uint16((len(body)-xattrHeader)/4 + 1)
	}
	switch n.Type() {
	case tree.Dir:
		f.dir = DirBlocks(n)
		f.raw.Size = uint64(BlockSize*int64(len(f.dir)-1) + f.dir[len(f.dir)-1].Size)
	case tree.Symlink:
		if len(n.Target) == 0 || len(n.Target) >= BlockSize {
			return fmt.Errorf("%s: a symbolic link with a target of %d bytes: 1 to %d were expected", f.path, len(n.Target), BlockSize-1)
		}
		f.raw.Size = uint64(len(n.Target))
	case tree.Regular:
		f.raw.Size = uint64(n.Size)
		if n.Size < 0 || n.Inline != nil && int64(len(n.Inline)) != n.Size {
			return fmt.Errorf("%s: %d bytes of content for a size of %d", f.path, len(n.Inline), n.Size)
		}
	case tree.Char, tree.Block:
		f.raw.Union = encodeDevice(n.Major, n.Minor)
	case tree.FIFO, tree.Socket:
	default:
		return fmt.Errorf("%s: an unknown kind of file, mode %o", f.path, n.Mode)
	}
	f.raw.Extended = l.options.Extended || n.Mtime != l.epoch[0] || int64(n.MtimeNsec) != l.epoch[1] ||
		n.UID > 0xffff || n.GID > 0xffff || f.links > 0xffff || f.raw.Size > 0xffffffff
	if n.Type() == tree.Regular && n.Inline == nil && n.Size > 0 {
		return f.chunks(l.table)
	}
	return nil
}

// chunks checks a chunk-based file.
func (f *file) chunks(table *chunk.Table) error {
	n := f.node
	bits := 0
	for n.ChunkSize>>bits > BlockSize {
		bits++
	}
	if n.ChunkSize != BlockSize<<bits || bits > chunkBits {
		return fmt.Errorf("%s: chunks of %d bytes", f.path, n.ChunkSize)
	}
	if want := (n.Size + int64(n.ChunkSize) - 1) / int64(n.ChunkSize); int64(len(n.Chunks)) != want {
		return fmt.Errorf("%s: %d chunks, %d were expected", f.path, len(n.Chunks), want)
	}
	for i, r := range n.Chunks {
		if r.Hole() {
			continue
		}
		c, err := table.Chunk(r)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if want := min(int64(n.ChunkSize), n.Size-int64(i)*int64(n.ChunkSize)); int64(c.Size) != want {
			return fmt.Errorf("%s: chunk %d has %d bytes, %d were expected", f.path, i, c.Size, want)
		}
		if c.Offset/BlockSize >= nullAddress {
			return fmt.Errorf("%s: chunk %d lies beyond the 16 TiB of a device", f.path, i)
		}
	}
	f.raw.Layout, f.raw.Union = LayoutChunks, uint32(chunkIndexes|bits)
	return nil
}

// place gives an inode its number and decides where its content goes. Content behind the inode never crosses a block.
func (l *layout) place(f *file) {
	head := f.raw.HeaderSize()
	at := align(l.end, slot)
	if at%BlockSize+head > BlockSize {
		at = align(at, BlockSize)
	}
	behind := head + int64(len(f.xattrs))
	switch {
	case f.raw.Layout == LayoutChunks:
		behind = align(behind, indexSize) + indexSize*int64(len(f.node.Chunks))
	case f.contentSize() > 0:
		size := f.contentSize()
		f.plain = size &^ (BlockSize - 1)
		switch rest := size - f.plain; {
		case rest == 0:
		case behind+rest > BlockSize:
			f.plain = size
		default:
			f.raw.Layout = LayoutInline
			if at%BlockSize+behind+rest > BlockSize {
				at = align(at, BlockSize)
			}
			behind += rest
		}
	}
	f.nid = at / slot
	l.end = at + behind
}

// contentSize is what the metadata image holds of the content of a file that is not chunk-based.
func (f *file) contentSize() int64 {
	switch f.node.Type() {
	case tree.Dir, tree.Symlink, tree.Regular:
		return int64(f.raw.Size)
	}
	return 0
}
