package rafs

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/image/tree"
)

// Options of a bootstrap to be written.
type Options struct {
	ChunkSize int         // of all files, in bytes; 0 means DefaultChunkSize
	Codec     chunk.Codec // told to readers; each blob has its own
	NoOwners  bool        // every file belongs to whoever runs the reader
	Prefetch  []string    // paths of files and folders to fetch first, in order
	Skipped   func(path, why string)
	Compact   func(*tree.Node) bool                  // inodes without time and with small owners, as Nydus's own; nil: none
	Entry     func(chunk.Ref) (entry Entry, ok bool) // what the chunk table says of a chunk beyond its place; nil: nothing
}

// Write writes the bootstrap of a tree whose chunks are in the table. Blobs describe the table's devices. Layout and order are those of
// Nydus's builder (builder/src/core/v6.rs and bootstrap.rs). It returns the number of bytes written.
func Write(w io.Writer, root *tree.Node, table *chunk.Table, blobs []Blob, o Options) (int64, error) {
	if o.ChunkSize == 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.Skipped == nil {
		o.Skipped = func(string, string) {}
	}
	if len(blobs) != len(table.Devices) || len(blobs) > maxBlobs {
		return 0, fmt.Errorf("%d blobs for %d devices: RAFS v6 holds at most %d", len(blobs), len(table.Devices), maxBlobs)
	}
	l := &layout{options: o, table: table, blobs: blobs, byNode: map[*tree.Node]*file{}, offset: block}
	if err := l.collect(root); err != nil {
		return 0, err
	}
	p, err := l.assemble()
	if err != nil {
		return 0, err
	}
	n, err := w.Write(p)
	return int64(n), err
}

// file is an inode about to be written.
type file struct {
	node    *tree.Node
	path    string
	parent  *file
	links   uint32
	ino     uint32
	raw     erofs.Raw
	xattrs  []byte
	offset  int64 // where the inode lies, as if the inodes began at byte 0
	content int64 // where its whole blocks lie, of folders and links
	dir     []erofs.DirBlock
}

type layout struct {
	options Options
	table   *chunk.Table
	blobs   []Blob
	files   []*file
	byNode  map[*tree.Node]*file
	offset  int64
	gaps    [block / slot][]int64 // blocks with room at their end, by the number of slots
	names   uint64                // of all files
	xattrs  bool
}

// collect gives all inodes their places: a folder first, then its entries, then what is in its folders.
func (l *layout) collect(root *tree.Node) error {
	if !root.IsDir() {
		return fmt.Errorf("%w: the root is no folder", ErrFormat)
	}
	top := &file{node: root, links: 2, ino: 1}
	top.parent, l.names = top, 1
	l.files, l.byNode[root] = append(l.files, top), top
	return l.folder(top)
}

func (l *layout) folder(dir *file) error {
	if err := l.inode(dir); err != nil {
		return err
	}
	dir.dir = erofs.DirBlocks(dir.node)
	dir.raw.Size = uint64(block*int64(len(dir.dir)-1) + dir.dir[len(dir.dir)-1].Size)
	l.withTail(dir)
	l.offset = align(l.offset, slot)
	var below []*file
	for _, name := range dir.node.Names() {
		n, _ := dir.node.Child(name)
		l.names++
		if f, ok := l.byNode[n]; ok {
			if n.IsDir() {
				return fmt.Errorf("/%s: a second name of the folder /%s", path.Join(dir.path, name), f.path)
			}
			f.links++
			l.offset = align(l.offset, slot)
			continue
		}
		f := &file{node: n, path: path.Join(dir.path, name), links: 1, ino: uint32(l.names)}
		l.files, l.byNode[n] = append(l.files, f), f
		if n.IsDir() {
			f.links, f.parent = 2, dir
			dir.links++
			below = append(below, f)
			continue
		}
		if err := l.inode(f); err != nil {
			return err
		}
		l.place(f)
		l.offset = align(l.offset, slot)
	}
	for _, f := range below {
		if err := l.folder(f); err != nil {
			return err
		}
	}
	return nil
}

// inode fills in what does not depend on the place.
func (l *layout) inode(f *file) error {
	n := f.node
	body, skipped := erofs.EncodeXattrs(n.Xattrs)
	for _, name := range skipped {
		l.options.Skipped(f.path, fmt.Sprintf("the extended attribute %s has no place in EROFS", name))
	}
	if len(body) > 0xffff*4 {
		return fmt.Errorf("/%s: its extended attributes have %d bytes, more than EROFS holds", f.path, len(body))
	}
	f.xattrs = body
	l.xattrs = l.xattrs || len(body) > 0
	f.raw = erofs.Raw{Extended: l.options.Compact == nil || !l.options.Compact(n), Mode: uint16(n.Mode), UID: n.UID, GID: n.GID, Mtime: n.Mtime, MtimeNsec: n.MtimeNsec}
	if l.options.NoOwners {
		f.raw.UID, f.raw.GID = 0, 0
	}
	f.raw.XattrUnit = erofs.XattrUnit(len(body))
	switch n.Type() {
	case tree.Symlink:
		f.raw.Size = uint64(len(n.Target))
	case tree.Regular:
		f.raw.Size = uint64(n.Size)
		return l.chunks(f)
	case tree.Char, tree.Block:
		if f.raw.Extended {
			f.raw.Union = erofs.DeviceNumber(n.Major, n.Minor)
		}
	}
	return nil
}

func (l *layout) chunks(f *file) error {
	n := f.node
	size := int64(l.options.ChunkSize)
	if n.Size > 0 && (n.Inline != nil || int64(n.ChunkSize) != size) {
		return fmt.Errorf("/%s: all files need chunks of %d bytes", f.path, size)
	}
	if want := (n.Size + size - 1) / size; int64(len(n.Chunks)) != want {
		return fmt.Errorf("/%s: %d chunks, %d were expected", f.path, len(n.Chunks), want)
	}
	follow, bits := true, size
	for i, r := range n.Chunks {
		if r.Hole() {
			return fmt.Errorf("/%s: chunk %d is a hole, which RAFS v6 does not know", f.path, i)
		}
		c, err := l.table.Chunk(r)
		if err != nil {
			return fmt.Errorf("/%s: %w", f.path, err)
		}
		if want := min(size, n.Size-int64(i)*size); int64(c.Size) != want {
			return fmt.Errorf("/%s: chunk %d has %d bytes, %d were expected", f.path, i, c.Size, want)
		}
		if i > 0 {
			before, _ := l.table.Chunk(n.Chunks[i-1])
			follow = follow && n.Chunks[i-1].Device == r.Device && before.Offset+size == c.Offset
		}
	}
	if follow && n.Size > size {
		for bits < n.Size {
			bits <<= 1
		}
	}
	f.raw.Layout = erofs.LayoutChunks
	f.raw.Union = erofs.ChunkFormat(bits)
	return nil
}

// place finds room for a file that is no folder.
func (l *layout) place(f *file) {
	size := f.raw.HeaderSize() + int64(len(f.xattrs))
	switch f.node.Type() {
	case tree.Regular:
		size = align(size, 8) + 8*int64(len(f.node.Chunks))
		if f.offset = l.gap(size); f.offset == 0 {
			f.offset = l.offset
			l.offset += size
		}
	case tree.Symlink:
		l.withTail(f)
	default:
		f.offset = l.offset
		l.offset += size
	}
}

// withTail finds room for a folder or link: its content is behind the inode as far as it does not fill blocks and fits.
func (l *layout) withTail(f *file) {
	head := f.raw.HeaderSize() + int64(len(f.xattrs))
	size := int64(f.raw.Size)
	tail := size % block
	if tail == 0 || head+tail > block {
		f.raw.Layout = erofs.LayoutPlain
		if f.offset = l.gap(head); f.offset == 0 {
			f.offset = l.offset
			l.offset += head
		}
		l.leave()
		f.content = l.offset
		l.offset = align(l.offset+size, block)
		return
	}
	f.raw.Layout = erofs.LayoutInline
	if f.offset = l.gap(head + tail); f.offset == 0 {
		if block-l.offset%block < head+tail {
			l.leave()
		}
		f.offset = l.offset
		l.offset += head + tail
	}
	if size != tail {
		l.leave()
	}
	f.content = l.offset
	l.offset += size - tail
}

// leave goes on to the next block and remembers the room that is left.
func (l *layout) leave() {
	l.remember(l.offset)
	l.offset = align(l.offset, block)
}

func (l *layout) remember(offset int64) {
	if offset%block != 0 {
		n := (block - offset%block) / slot
		l.gaps[n] = append(l.gaps[n], offset&^(block-1))
	}
}

// gap finds room left in an earlier block, 0 if there is none.
func (l *layout) gap(size int64) int64 {
	if size >= block {
		return 0
	}
	least := align(size, slot) / slot
	for n := least; n < int64(len(l.gaps)); n++ {
		if len(l.gaps[n]) == 0 {
			continue
		}
		offset := l.gaps[n][0] + block - n*slot
		l.gaps[n] = l.gaps[n][1:]
		l.remember(offset + least*slot)
		return offset
	}
	return 0
}

// assemble puts the whole bootstrap together.
func (l *layout) assemble() ([]byte, error) {
	prefetch := l.prefetch()
	super := Super{ChunkSize: uint32(l.options.ChunkSize), Flags: l.flags(), BlobTable: uint64(align(deviceOffset+deviceSize*int64(len(l.blobs)), block)), BlobTableSize: uint32(blobSize * len(l.blobs))}
	meta := int64(0)
	if len(l.blobs) > 0 {
		if len(prefetch) > 0 {
			super.Prefetch, super.PrefetchSize = super.BlobTable+uint64(super.BlobTableSize), uint32(4*len(prefetch))
		}
		meta = align(int64(super.BlobTable)+int64(super.BlobTableSize)+int64(super.PrefetchSize), block)
	}
	entries := l.entries()
	super.ChunkTable, super.ChunkTableSize = uint64(align(meta+l.offset, block)), uint64(chunkEntrySize*len(entries))
	p := make([]byte, align(int64(super.ChunkTable+super.ChunkTableSize), block))
	for _, f := range l.files {
		l.write(p, meta, f)
	}
	for i := range entries {
		copy(p[int(super.ChunkTable)+i*chunkEntrySize:], entries[i].encode())
	}
	for i, nid := range prefetch {
		if len(l.blobs) > 0 {
			le.PutUint32(p[int(super.Prefetch)+4*i:], nid)
		}
	}
	blocks, err := l.devices(p)
	if err != nil {
		return nil, err
	}
	for i := range l.blobs {
		l.blobs[i].Index = uint32(i)
		copy(p[int(super.BlobTable)+i*blobSize:], l.blobs[i].encode())
	}
	s := erofs.Superblock{
		Compat: erofs.CompatRAFS, Incompat: erofs.IncompatChunks | erofs.IncompatDevices, BlockBits: 12, RootNID: uint16(l.files[0].offset / slot), Inodes: l.names,
		Blocks: blocks, MetaBlock: uint32(meta / block), Devices: uint16(len(l.blobs)), DeviceTable: deviceOffset / deviceSize,
	}
	copy(p[superOffset:], s.Encode())
	copy(p[extOffset:], super.encode())
	return p, nil
}

func (l *layout) flags() uint64 {
	flags := codecFlags[l.options.Codec] | FlagNotEncrypted
	if l.table.Algorithm == chunk.SHA256 {
		flags |= FlagSHA256
	} else {
		flags |= FlagBlake3
	}
	if !l.options.NoOwners {
		flags |= FlagOwners
	}
	if l.xattrs {
		flags |= FlagXattrs
	}
	for i := range l.blobs {
		if l.blobs[i].Features&InlinedDigest == 0 {
			return flags
		}
	}
	return flags | FlagInlinedDigest
}

// devices writes the device table and counts the blocks of all devices.
func (l *layout) devices(p []byte) (uint32, error) {
	const segment = 0x80000 // devices begin on multiples of it in the flat address space
	at, total := int64(len(p)), int64(0)
	for i := range l.blobs {
		b := &l.blobs[i]
		mapped, count := align(at, segment)/block, int64(b.Space)/block
		if total += count; mapped+count > 0xffffffff || total > 0xffffffff {
			return 0, fmt.Errorf("blobs of more than 16 TiB together")
		}
		at = (mapped + count) * block
		d := erofs.DeviceSlot{Blocks: uint32(count), Mapped: uint32(mapped)}
		copy(d.Tag[:], b.ID)
		copy(p[deviceOffset+deviceSize*i:], d.Encode())
	}
	return uint32(total), nil
}

// entries are those of the chunk table: the chunks of all files, sorted.
func (l *layout) entries() []Entry {
	last := map[chunk.Ref]int64{} // its offset in the last file that has it
	for _, f := range l.files {
		for i, r := range f.node.Chunks {
			last[r] = int64(i) * int64(l.options.ChunkSize)
		}
	}
	all := make([]Entry, 0, len(last))
	for r, offset := range last {
		c := &l.table.Devices[r.Device-1].Chunks[r.Index]
		e := Entry{Digest: c.Digest, Size: c.Size, Offset: uint64(c.Offset), Index: c.Number}
		if l.options.Entry != nil {
			if given, ok := l.options.Entry(r); ok {
				e.Flags, e.CRC = given.Flags, given.CRC
			}
		}
		e.Blob, e.FileOffset = r.Device-1, uint64(offset)
		if !inBatch(c) && c.Stored > 0 {
			e.At, e.Stored = uint64(c.At), c.Stored
			if c.Encoded() {
				e.Flags |= chunkCompressed
			}
		}
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool {
		if c := bytes.Compare(all[i].Digest[:], all[j].Digest[:]); c != 0 {
			return c < 0
		}
		return all[i].Blob < all[j].Blob
	})
	return all
}

// write writes an inode and what belongs to it.
func (l *layout) write(p []byte, meta int64, f *file) {
	r := f.raw
	r.Nlink, r.Ino = f.links, f.ino
	if t := f.node.Type(); t == tree.Dir || t == tree.Symlink {
		r.Union = uint32((meta + f.content) / block)
	}
	at := meta + f.offset
	at += int64(copy(p[at:], r.Encode()))
	at += int64(copy(p[at:], f.xattrs))
	switch f.node.Type() {
	case tree.Regular:
		at = align(at, 8)
		for i, ref := range f.node.Chunks {
			c := &l.table.Devices[ref.Device-1].Chunks[ref.Index]
			x := erofs.Index{Extra: uint16(c.Number), Device: uint16(ref.Device) | uint16(c.Number>>16)<<8, Block: uint32(c.Offset / block)}.Encode()
			copy(p[at+8*int64(i):], x[:])
		}
	case tree.Symlink:
		if r.Layout == erofs.LayoutPlain {
			at = meta + f.content
		}
		copy(p[at:], f.node.Target)
	case tree.Dir:
		for i := range f.dir {
			to := meta + f.content + int64(i)*block
			if i == len(f.dir)-1 && r.Layout == erofs.LayoutInline {
				to = at
			}
			f.dir[i].Encode(p[to:], func(name string) (int64, uint32) { return l.target(f, name) })
		}
	}
}

// target is the inode of a name in a folder.
func (l *layout) target(f *file, name string) (int64, uint32) {
	switch name {
	case ".":
	case "..":
		f = f.parent
	default:
		n, _ := f.node.Child(name)
		f = l.byNode[n]
	}
	return f.offset / slot, f.node.Mode
}

// prefetch gives the inode numbers of the paths to fetch first. A path in a folder that was named before is left out, as is one that is
// not there.
func (l *layout) prefetch() []uint32 {
	var numbers []uint32
	var taken []string
	for _, p := range l.options.Prefetch {
		p = path.Clean("/" + p)
		covered := slices.ContainsFunc(taken, func(t string) bool { return p == t || strings.HasPrefix(p, strings.TrimSuffix(t, "/")+"/") })
		n, ok := l.files[0].node.Lookup(p)
		if covered || !ok || n.Type() == tree.Regular && n.Size == 0 {
			continue
		}
		taken = append(taken, p)
		numbers = append(numbers, uint32(l.byNode[n].offset/slot))
	}
	return numbers
}
