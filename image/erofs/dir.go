package erofs

import (
	"bytes"
	"fmt"
	"slices"
	"sort"

	"github.com/weft-dev/weft/image/tree"
)

// DirBlock is a block of a folder: which of its sorted names are in it, and how many bytes it fills.
type DirBlock struct {
	Names []string
	Size  int64
}

// DirBlocks divides the sorted names of a folder, with "." and "..", among blocks.
func DirBlocks(n *tree.Node) []DirBlock {
	names := append(n.Names(), ".", "..")
	slices.Sort(names)
	var blocks []DirBlock
	from, size := 0, int64(0)
	for i, name := range names {
		need := int64(direntSize + len(name))
		if size+need > BlockSize {
			blocks = append(blocks, DirBlock{names[from:i], size})
			from, size = i, 0
		}
		size += need
	}
	return append(blocks, DirBlock{names[from:], size})
}

// Encode writes the block to p: first the heads of all entries, then their names. Target gives the inode and mode of a name.
func (d *DirBlock) Encode(p []byte, target func(name string) (nid int64, mode uint32)) {
	at := direntSize * len(d.Names)
	for i, name := range d.Names {
		nid, mode := target(name)
		head := p[i*direntSize:]
		le.PutUint64(head, uint64(nid))
		le.PutUint16(head[8:], uint16(at))
		head[10] = direntTypes[mode&tree.TypeMask]
		at += copy(p[at:], name)
	}
}

// Dirent is an entry of a folder.
type Dirent struct {
	Name string
	NID  uint64
	Type byte // as in erofs_fs.h: 1 regular, 2 folder, 3 and 4 devices, 5 fifo, 6 socket, 7 symbolic link
}

// Entries reads a folder, "." and ".." included, in the order of their names.
func (in *Inode) Entries() ([]Dirent, error) {
	if !in.isDir() {
		return nil, fmt.Errorf("inode %d is no folder", in.NID)
	}
	var all []Dirent
	for i := range in.DirBlocks() {
		var err error
		if all, err = in.appendBlock(all, i); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (in *Inode) isDir() bool { return uint32(in.Mode)&tree.TypeMask == tree.Dir }

// DirBlocks is the number of blocks of a folder, 0 for other files.
func (in *Inode) DirBlocks() int64 {
	if !in.isDir() {
		return 0
	}
	return align(int64(in.Size), 1<<in.im.bits) >> in.im.bits
}

// DirBlock reads the entries of one block of a folder, counted from 0. Names are in order, also from block to block.
func (in *Inode) DirBlock(i int64) ([]Dirent, error) {
	if i < 0 || i >= in.DirBlocks() {
		return nil, fmt.Errorf("inode %d has no block %d of entries", in.NID, i)
	}
	return in.appendBlock(nil, i)
}

func (in *Inode) appendBlock(all []Dirent, i int64) ([]Dirent, error) {
	at := i << in.im.bits
	b := make([]byte, min(int64(1)<<in.im.bits, int64(in.Size)-at))
	if err := in.read(b, at); err != nil {
		return nil, err
	}
	all, err := appendDirents(all, b)
	if err != nil {
		return nil, fmt.Errorf("%w: folder %d: %w", ErrFormat, in.NID, err)
	}
	return all, nil
}

// appendDirents reads the entries of one block.
func appendDirents(all []Dirent, b []byte) ([]Dirent, error) {
	if len(b) < direntSize {
		return nil, fmt.Errorf("a block of %d bytes", len(b))
	}
	first := int(le.Uint16(b[8:]))
	if first == 0 || first%direntSize != 0 || first >= len(b) {
		return nil, fmt.Errorf("names that begin at byte %d of %d", first, len(b))
	}
	count := first / direntSize
	for i := range count {
		head := b[i*direntSize:]
		from, to := int(le.Uint16(head[8:])), len(b)
		if i+1 < count {
			to = int(le.Uint16(head[direntSize+8:]))
		}
		if from < first || to <= from || to > len(b) {
			return nil, fmt.Errorf("a name from byte %d to %d of %d", from, to, len(b))
		}
		name := b[from:to]
		if i+1 == count {
			name = bytes.TrimRight(name, "\x00")
		}
		if len(name) == 0 || len(name) > 255 || bytes.IndexByte(name, 0) >= 0 || bytes.IndexByte(name, '/') >= 0 {
			return nil, fmt.Errorf("the name %q", name)
		}
		all = append(all, Dirent{Name: string(name), NID: le.Uint64(head), Type: head[10]})
	}
	return all, nil
}

// Lookup finds an entry of a folder. Of a large folder it reads few blocks, for their names are sorted.
func (in *Inode) Lookup(name string) (*Inode, bool, error) {
	if !in.isDir() {
		return nil, false, fmt.Errorf("inode %d is no folder", in.NID)
	}
	low, high := int64(0), in.DirBlocks()
	for low < high {
		middle := (low + high) / 2
		entries, err := in.appendBlock(nil, middle)
		if err != nil {
			return nil, false, err
		}
		switch i := sort.Search(len(entries), func(i int) bool { return entries[i].Name >= name }); {
		case i < len(entries) && entries[i].Name == name:
			child, err := in.im.Inode(entries[i].NID)
			return child, err == nil, err
		case i == 0:
			high = middle
		case i == len(entries):
			low = middle + 1
		default:
			return nil, false, nil
		}
	}
	return nil, false, nil
}
