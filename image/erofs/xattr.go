package erofs

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/weft-dev/weft/image/tree"
)

// prefixes are those of attribute names that have a number, in the order in which they are tried.
var prefixes = []struct {
	number byte
	text   string
	whole  bool // the name ends with the prefix
}{
	{1, "user.", false},
	{2, "system.posix_acl_access", true},
	{3, "system.posix_acl_default", true},
	{4, "trusted.", false},
	{6, "security.", false},
}

// xattrEntry is an attribute on the disk: 4 bytes, name without prefix, value, filled up to 4 bytes.
func xattrEntry(x tree.Xattr) ([]byte, bool) {
	for _, p := range prefixes {
		name, ok := strings.CutPrefix(x.Name, p.text)
		if !ok || p.whole != (name == "") || len(name) > 255 || len(x.Value) > 0xffff {
			continue
		}
		b := make([]byte, align(int64(4+len(name)+len(x.Value)), 4))
		b[0], b[1] = byte(len(name)), p.number
		le.PutUint16(b[2:], uint16(len(x.Value)))
		copy(b[4:], name)
		copy(b[4+len(name):], x.Value)
		return b, true
	}
	return nil, false
}

// xattrs are the attributes of an image about to be written.
type xattrs struct {
	shared map[string]uint32 // number of each entry that several files have
	area   []byte            // those entries
}

// newXattrs collects the attributes of all files. Attributes that the format cannot hold are given to skip.
func newXattrs(files []*file, skip func(path, why string)) *xattrs {
	count := map[string]int{}
	for _, f := range files {
		for _, x := range f.node.Xattrs {
			e, ok := xattrEntry(x)
			if !ok {
				skip(f.path, fmt.Sprintf("the extended attribute %s has no place in EROFS", x.Name))
				continue
			}
			f.entries = append(f.entries, string(e))
			count[string(e)]++
		}
	}
	x := &xattrs{shared: map[string]uint32{}}
	var often []string
	for e, n := range count {
		if n > 1 {
			often = append(often, e)
		}
	}
	sort.Strings(often)
	for _, e := range often {
		x.shared[e] = uint32(len(x.area) / 4)
		x.area = append(x.area, e...)
	}
	return x
}

// body is what stands behind an inode: a header, the numbers of shared entries, and the entries of its own.
func (x *xattrs) body(f *file) ([]byte, error) {
	if len(f.entries) == 0 {
		return nil, nil
	}
	b := make([]byte, xattrHeader)
	var own []string
	for _, e := range f.entries {
		number, ok := x.shared[e]
		if !ok || b[4] == 255 {
			own = append(own, e)
			continue
		}
		b[4]++
		b = le.AppendUint32(b, number)
	}
	for _, e := range own {
		b = append(b, e...)
	}
	if (len(b)-xattrHeader)/4+1 > 0xffff {
		return nil, fmt.Errorf("%s: its extended attributes have %d bytes, more than EROFS holds", f.path, len(b))
	}
	return b, nil
}

// decodeXattr reads an entry and says how many bytes it has.
func decodeXattr(b []byte) (tree.Xattr, int64, error) {
	if len(b) < 4 {
		return tree.Xattr{}, 0, fmt.Errorf("%w: an extended attribute of %d bytes", ErrFormat, len(b))
	}
	name, value := int(b[0]), int(le.Uint16(b[2:]))
	if len(b) < 4+name+value {
		return tree.Xattr{}, 0, fmt.Errorf("%w: an extended attribute of %d bytes that should have %d", ErrFormat, len(b), 4+name+value)
	}
	for _, p := range prefixes {
		if p.number == b[1] {
			return tree.Xattr{Name: p.text + string(b[4:4+name]), Value: slices.Clone(b[4+name : 4+name+value])}, align(int64(4+name+value), 4), nil
		}
	}
	return tree.Xattr{}, 0, fmt.Errorf("%w: an extended attribute with the unknown prefix %d", ErrUnsupported, b[1])
}

// EncodeXattrs makes what stands behind an inode of attributes, in their order and without shared ones. It names those that the format
// cannot hold.
func EncodeXattrs(list []tree.Xattr) (body []byte, skipped []string) {
	for _, x := range list {
		e, ok := xattrEntry(x)
		if !ok {
			skipped = append(skipped, x.Name)
			continue
		}
		if body == nil {
			body = make([]byte, xattrHeader)
		}
		body = append(body, e...)
	}
	return body, skipped
}

// XattrUnit is the size of such a body as inodes hold it (Raw.XattrUnit).
func XattrUnit(size int) uint16 {
	if size == 0 {
		return 0
	}
	return uint16((size-xattrHeader)/4 + 1)
}

// ChunkFormat is the format of a chunk-based inode (Raw.Union) with indexes and chunks of that size, a power of two from BlockSize on.
func ChunkFormat(size int64) uint32 {
	format := uint32(chunkIndexes)
	for size > BlockSize {
		size >>= 1
		format++
	}
	return format
}

// Xattrs reads the extended attributes, sorted by name.
func (in *Inode) Xattrs() ([]tree.Xattr, error) {
	size := in.XattrSize()
	if size == 0 {
		return nil, nil
	}
	b := make([]byte, size)
	if err := readAt(in.im.r, b, in.at+in.HeaderSize()); err != nil {
		return nil, err
	}
	shared := int64(b[4])
	if xattrHeader+4*shared > size {
		return nil, fmt.Errorf("%w: inode %d: %d shared attributes in %d bytes", ErrFormat, in.NID, shared, size)
	}
	var n tree.Node
	var list []tree.Xattr
	for i := range shared {
		x, err := in.im.sharedXattr(le.Uint32(b[xattrHeader+4*i:]))
		if err != nil {
			return nil, fmt.Errorf("inode %d: %w", in.NID, err)
		}
		list = append(list, x)
	}
	for b = b[xattrHeader+4*shared:]; len(b) > 0; {
		if len(b) >= 4 && le.Uint32(b) == 0 { // filling at the end
			break
		}
		x, n, err := decodeXattr(b)
		if err != nil {
			return nil, fmt.Errorf("inode %d: %w", in.NID, err)
		}
		list = append(list, x)
		b = b[min(n, int64(len(b))):]
	}
	n.SetXattrs(list)
	return n.Xattrs, nil
}

func (im *Image) sharedXattr(number uint32) (tree.Xattr, error) {
	at := int64(im.Super.XattrBlock)<<im.bits + 4*int64(number)
	b := make([]byte, 4)
	if at+4 > im.end() {
		return tree.Xattr{}, fmt.Errorf("%w: shared attribute %d lies outside", ErrFormat, number)
	}
	if err := readAt(im.r, b, at); err != nil {
		return tree.Xattr{}, err
	}
	b = make([]byte, 4+int64(b[0])+int64(le.Uint16(b[2:])))
	if at+int64(len(b)) > im.end() {
		return tree.Xattr{}, fmt.Errorf("%w: shared attribute %d lies outside", ErrFormat, number)
	}
	if err := readAt(im.r, b, at); err != nil {
		return tree.Xattr{}, err
	}
	x, _, err := decodeXattr(b)
	return x, err
}
