package erofs

import (
	"slices"

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
