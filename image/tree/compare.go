package tree

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	"github.com/weft-dev/weft/image/chunk"
)

// Difference is something in which two trees differ.
type Difference struct {
	Path  string `json:"path"` // with a leading slash
	Field string `json:"field"`
	Want  string `json:"want"`
	Got   string `json:"got"`
}

// String is the difference as a sentence.
func (d Difference) String() string {
	return fmt.Sprintf("%s: %s is %s instead of %s", d.Path, d.Field, d.Got, d.Want)
}

// Side is a tree to be compared, and the chunks of its files.
type Side struct {
	Root  *Node
	Table *chunk.Table
}

// Compare finds in which files two trees differ: which there are, their kind, permissions, owners, times, sizes, devices, targets, extended
// attributes, content and hard links. Content is compared by the digests of chunks, which must be of the same size and algorithm. At most
// limit differences are returned, 0 means all.
func Compare(want, got Side, limit int) []Difference {
	c := comparison{want: want, got: got, limit: limit, first: map[*Node]string{}, other: map[*Node]string{}}
	c.nodes("", want.Root, got.Root)
	return c.found
}

type comparison struct {
	want, got    Side
	limit        int
	found        []Difference
	first, other map[*Node]string // the first path of each node on both sides
}

func (c *comparison) full() bool { return c.limit > 0 && len(c.found) >= c.limit }

func (c *comparison) add(at, field, want, got string) {
	if want != got && !c.full() {
		c.found = append(c.found, Difference{"/" + at, field, want, got})
	}
}

func (c *comparison) nodes(at string, a, b *Node) {
	if c.full() {
		return
	}
	c.add(at, "kind", kind(a), kind(b))
	c.add(at, "mode", fmt.Sprintf("%04o", a.Mode&0o7777), fmt.Sprintf("%04o", b.Mode&0o7777))
	c.add(at, "owner", fmt.Sprint(a.UID, ":", a.GID), fmt.Sprint(b.UID, ":", b.GID))
	c.add(at, "time", fmt.Sprintf("%d.%09d", a.Mtime, a.MtimeNsec), fmt.Sprintf("%d.%09d", b.Mtime, b.MtimeNsec))
	c.add(at, "device", fmt.Sprint(a.Major, ",", a.Minor), fmt.Sprint(b.Major, ",", b.Minor))
	c.add(at, "size", fmt.Sprint(a.Size), fmt.Sprint(b.Size))
	c.add(at, "target", a.Target, b.Target)
	c.add(at, "opaque", fmt.Sprint(a.Opaque), fmt.Sprint(b.Opaque))
	c.add(at, "extended attributes", attributesText(a), attributesText(b))
	if a.IsDir() && b.IsDir() {
		c.entries(at, a, b)
		return
	}
	pa, oka := c.first[a]
	pb, okb := c.other[b]
	if !oka {
		pa, c.first[a] = at, at
	}
	if !okb {
		pb, c.other[b] = at, at
	}
	c.add(at, "first hard link", pa, pb)
	if a.Type() == Regular && b.Type() == Regular && a.Size == b.Size && !(oka && okb) {
		c.content(at, a, b)
	}
}

func (c *comparison) entries(at string, a, b *Node) {
	names := append(a.Names(), b.Names()...)
	sort.Strings(names)
	for i, name := range names {
		if i > 0 && names[i-1] == name {
			continue
		}
		below := name
		if at != "" {
			below = at + "/" + name
		}
		x, okx := a.Child(name)
		y, oky := b.Child(name)
		if okx && oky {
			c.nodes(below, x, y)
			continue
		}
		c.add(below, "file", presence(x), presence(y))
	}
}

func presence(n *Node) string {
	if n == nil {
		return "missing"
	}
	return "there (" + kind(n) + ")"
}

// content compares the digests of chunks.
func (c *comparison) content(at string, a, b *Node) {
	size := max(a.ChunkSize, b.ChunkSize)
	if a.Inline != nil && b.Inline != nil {
		if !bytes.Equal(a.Inline, b.Inline) {
			c.add(at, "content", "as in the source", "other bytes")
		}
		return
	}
	x, err := digests(a, c.want.Table, size)
	if err == nil {
		var y []string
		if y, err = digests(b, c.got.Table, size); err == nil {
			for i := range x {
				c.add(at, fmt.Sprintf("content of chunk %d", i), x[i], y[i])
			}
			return
		}
	}
	c.add(at, "content", "readable", err.Error())
}

// digests are those of the chunks of a file; a hole has that of its zeros.
func digests(n *Node, table *chunk.Table, size int) ([]string, error) {
	var all []string
	if n.Inline != nil || n.Size == 0 {
		for from := 0; from < len(n.Inline); from += size {
			part := n.Inline[from:min(from+size, len(n.Inline))]
			all = append(all, table.Algorithm.Sum(part).String())
		}
		return all, nil
	}
	if n.ChunkSize != size {
		return nil, fmt.Errorf("chunks of %d bytes, not %d", n.ChunkSize, size)
	}
	for i, r := range n.Chunks {
		if r.Hole() {
			all = append(all, table.Algorithm.Sum(make([]byte, min(int64(size), n.Size-int64(i)*int64(size)))).String())
			continue
		}
		ch, err := table.Chunk(r)
		if err != nil {
			return nil, err
		}
		all = append(all, ch.Digest.String())
	}
	return all, nil
}

func kind(n *Node) string {
	switch n.Type() {
	case Socket:
		return "socket"
	case Symlink:
		return "symbolic link"
	case Regular:
		return "file"
	case Block:
		return "block device"
	case Dir:
		return "folder"
	case Char:
		if n.IsWhiteout() {
			return "whiteout"
		}
		return "character device"
	case FIFO:
		return "fifo"
	}
	return fmt.Sprintf("kind %o", n.Type())
}

func attributesText(n *Node) string {
	var b strings.Builder
	for _, x := range n.Xattrs {
		fmt.Fprintf(&b, "%s=%q ", x.Name, x.Value)
	}
	return strings.TrimSuffix(b.String(), " ")
}
