// Package tree holds the tree of a file system while it is on its way from one form to another: from layers of tar or from a folder to an
// image, from an image to tar. It applies layers to each other. Content is not in it, only references to chunks. It must not know any
// format of images.
package tree

import (
	"fmt"
	"iter"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/weft-dev/weft/image/chunk"
)

// Bits of Node.Mode, as in stat(2).
const (
	TypeMask = 0o170000
	Socket   = 0o140000
	Symlink  = 0o120000
	Regular  = 0o100000
	Block    = 0o060000
	Dir      = 0o040000
	Char     = 0o020000
	FIFO     = 0o010000
)

// OpaqueXattr marks a folder that hides what lower layers have in it, as overlayfs does.
const OpaqueXattr = "trusted.overlay.opaque"

// Node is a file of any kind. Hard links are one Node under several names.
type Node struct {
	Mode         uint32 // type and permissions
	UID, GID     uint32
	Mtime        int64 // seconds since 1970
	MtimeNsec    uint32
	Major, Minor uint32 // of devices
	Size         int64  // of regular files, in bytes
	Target       string // of symbolic links
	Xattrs       []Xattr
	Opaque       bool // a folder that hides what lower layers have in it

	// The content of a regular file is Inline if that is not nil, else Chunks of ChunkSize bytes each (the last may be shorter).
	Inline    []byte
	Chunks    []chunk.Ref
	ChunkSize int

	children map[string]*Node
}

// Xattr is an extended attribute with its whole name, such as user.mime_type.
type Xattr struct {
	Name  string
	Value []byte
}

// Type is the type in the mode.
func (n *Node) Type() uint32 { return n.Mode & TypeMask }

// IsDir says whether it is a folder.
func (n *Node) IsDir() bool { return n.Type() == Dir }

// Whiteout is the mark that a file of lower layers is deleted, in overlayfs's form: a character device 0, 0.
func Whiteout() *Node { return &Node{Mode: Char} }

// IsWhiteout says whether the node is such a mark.
func (n *Node) IsWhiteout() bool { return n.Type() == Char && n.Major == 0 && n.Minor == 0 }

// NewDir makes an empty folder.
func NewDir(perm uint32) *Node { return &Node{Mode: Dir | perm} }

// Child gives the entry of that name in a folder.
func (n *Node) Child(name string) (*Node, bool) {
	c, ok := n.children[name]
	return c, ok
}

// Set puts an entry into a folder, in place of one of that name.
func (n *Node) Set(name string, child *Node) {
	if n.children == nil {
		n.children = map[string]*Node{}
	}
	n.children[name] = child
}

// Remove takes an entry out of a folder.
func (n *Node) Remove(name string) { delete(n.children, name) }

// Len is the number of entries of a folder.
func (n *Node) Len() int { return len(n.children) }

// Names are those of the entries of a folder, sorted by their bytes.
func (n *Node) Names() []string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// All walks the tree, parents before their entries and these sorted by name. Paths have no leading slash; that of the root is "". A node
// with several names comes once for each.
func (n *Node) All() iter.Seq2[string, *Node] {
	return func(yield func(string, *Node) bool) { n.walk("", yield) }
}

func (n *Node) walk(at string, yield func(string, *Node) bool) bool {
	if !yield(at, n) {
		return false
	}
	for _, name := range n.Names() {
		if !n.children[name].walk(path.Join(at, name), yield) {
			return false
		}
	}
	return true
}

// Links counts how many names each node has that is no folder.
func (n *Node) Links() map[*Node]uint32 {
	links := map[*Node]uint32{}
	for _, f := range n.All() {
		if !f.IsDir() {
			links[f]++
		}
	}
	return links
}

// Lookup finds the node at a path, without following symbolic links.
func (n *Node) Lookup(p string) (*Node, bool) {
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." {
			continue
		}
		var ok bool
		if n, ok = n.children[name]; !ok {
			return nil, false
		}
	}
	return n, true
}

// Xattr gives the value of an extended attribute.
func (n *Node) Xattr(name string) ([]byte, bool) {
	for _, x := range n.Xattrs {
		if x.Name == name {
			return x.Value, true
		}
	}
	return nil, false
}

// SetXattrs sets the attributes, sorted by name.
func (n *Node) SetXattrs(xattrs []Xattr) {
	slices.SortFunc(xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	n.Xattrs = xattrs
}

// TakeOpaque turns overlayfs's mark among the attributes of folders into Node.Opaque, in the whole tree.
func (n *Node) TakeOpaque() {
	for _, f := range n.All() {
		if !f.IsDir() {
			continue
		}
		if v, ok := f.Xattr(OpaqueXattr); ok && string(v) == "y" {
			f.Opaque = true
			f.Xattrs = slices.DeleteFunc(f.Xattrs, func(x Xattr) bool { return x.Name == OpaqueXattr })
		}
	}
}

// PutOpaque turns Node.Opaque into overlayfs's mark.
func (n *Node) PutOpaque() {
	for _, f := range n.All() {
		if f.Opaque {
			f.SetXattrs(append(slices.Clone(f.Xattrs), Xattr{OpaqueXattr, []byte("y")}))
			f.Opaque = false
		}
	}
}

// Renumber gives the chunks of all files new numbers.
func (n *Node) Renumber(numbers chunk.Numbers) error {
	seen := map[*Node]bool{}
	for p, f := range n.All() {
		if len(f.Chunks) == 0 || seen[f] {
			continue
		}
		seen[f] = true
		for i, r := range f.Chunks {
			var err error
			if f.Chunks[i], err = numbers.Ref(r); err != nil {
				return fmt.Errorf("/%s: %w", p, err)
			}
		}
	}
	return nil
}
