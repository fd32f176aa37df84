package erofs

import (
	"bufio"
	"fmt"
	"io"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
)

// Options of an image to be written.
type Options struct {
	Extended bool // no compact inodes
	UUID     [16]byte
	Volume   string                 // at most 16 bytes
	Skipped  func(path, why string) // called for what the format cannot hold; nil ignores it
}

// Write writes the metadata image of a tree whose chunks are in the table, and the table behind it. The same tree gives the same bytes. It
// returns the number of bytes written.
func Write(w io.Writer, root *tree.Node, table *chunk.Table, o Options) (int64, error) {
	if table == nil {
		table = &chunk.Table{Algorithm: chunk.Blake3}
	}
	if o.Skipped == nil {
		o.Skipped = func(string, string) {}
	}
	if len(o.Volume) > 16 {
		return 0, fmt.Errorf("the volume name %q has more than 16 bytes", o.Volume)
	}
	l, err := plan(root, table, o)
	if err != nil {
		return 0, fmt.Errorf("planning the image: %w", err)
	}
	out := &counted{w: bufio.NewWriterSize(w, 256<<10)}
	if err := l.write(out); err != nil {
		return 0, fmt.Errorf("writing the image: %w", err)
	}
	if len(table.Devices) > 0 {
		if _, err := table.WriteTo(out); err != nil {
			return 0, fmt.Errorf("writing the chunk table: %w", err)
		}
	}
	if err := out.w.Flush(); err != nil {
		return 0, fmt.Errorf("writing the image: %w", err)
	}
	return out.n, nil
}

// counted counts what was written, and fills up to a place with zeros.
type counted struct {
	w *bufio.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

var noBytes [BlockSize]byte

func (c *counted) fill(to int64) error {
	for c.n < to {
		if _, err := c.Write(noBytes[:min(to-c.n, BlockSize)]); err != nil {
			return err
		}
	}
	return nil
}

func (l *layout) write(out *counted) error {
	if err := l.head(out); err != nil {
		return err
	}
	if err := out.fill(l.xattrAt * BlockSize); err != nil {
		return err
	}
	if _, err := out.Write(l.xattrs.area); err != nil {
		return err
	}
	for _, f := range l.files {
		if err := out.fill(l.meta*BlockSize + f.nid*slot); err != nil {
			return err
		}
		if err := l.writeInode(out, f); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	for _, f := range l.files {
		if f.plain == 0 {
			continue
		}
		if err := out.fill(f.block * BlockSize); err != nil {
			return err
		}
		if _, err := out.Write(l.content(f)[:f.plain]); err != nil {
			return err
		}
	}
	return out.fill(l.blocks * BlockSize)
}

// head writes superblock and device table.
func (l *layout) head(out *counted) error {
	s := Superblock{
		Compat: CompatChecksum | compatMtime, BlockBits: 12, RootNID: uint16(l.files[0].nid), Inodes: uint64(len(l.files)), BuildTime: l.epoch[0],
		BuildNsec: uint32(l.epoch[1]), Blocks: uint32(l.blocks), MetaBlock: uint32(l.meta), XattrBlock: uint32(l.xattrAt), UUID: l.options.UUID,
		Volume: l.options.Volume,
	}
	var devices []byte
	if len(l.table.Devices) > 0 {
		s.Incompat |= IncompatChunks | IncompatDevices
		s.Devices, s.DeviceTable = uint16(len(l.table.Devices)), uint16(l.devices/deviceSlotSize)
		// Where the devices would lie in one flat address space. The kernel looks there only if it gets no devices, and wants no overlap.
		mapped := l.blocks
		for i := range l.table.Devices {
			d := &l.table.Devices[i]
			slot := DeviceSlot{Blocks: uint32(d.Space / BlockSize), Mapped: uint32(mapped)}
			copy(slot.Tag[:], d.Name())
			if mapped += d.Space / BlockSize; mapped > 0xffffffff {
				slot.Mapped = 0
			}
			devices = append(devices, slot.Encode()...)
		}
	} else {
		for _, f := range l.files {
			if f.raw.Layout == LayoutChunks { // a file of holes alone
				s.Incompat |= IncompatChunks
			}
		}
	}
	first := make([]byte, max(BlockSize, l.devices+int64(len(devices))))
	copy(first[superOffset:], s.Encode())
	copy(first[l.devices:], devices)
	s.Checksum = checksum(first[:BlockSize])
	copy(first[superOffset:], s.Encode())
	_, err := out.Write(first)
	return err
}

func (l *layout) writeInode(out *counted, f *file) error {
	if _, err := out.Write(f.raw.Encode()); err != nil {
		return err
	}
	if _, err := out.Write(f.xattrs); err != nil {
		return err
	}
	switch f.raw.Layout {
	case LayoutInline:
		_, err := out.Write(l.content(f)[f.plain:])
		return err
	case LayoutChunks:
		if err := out.fill(align(out.n, indexSize)); err != nil {
			return err
		}
		for _, r := range f.node.Chunks {
			index := Index{Block: nullAddress}
			if !r.Hole() {
				c, err := l.table.Chunk(r)
				if err != nil {
					return err
				}
				index = Index{Device: uint16(r.Device), Block: uint32(c.Offset / BlockSize)}
			}
			b := index.Encode()
			if _, err := out.Write(b[:]); err != nil {
				return err
			}
		}
	}
	return nil
}

// content is what the metadata image holds of a file's content.
func (l *layout) content(f *file) []byte {
	switch f.node.Type() {
	case tree.Symlink:
		return []byte(f.node.Target)
	case tree.Dir:
		b := make([]byte, f.raw.Size)
		for i := range f.dir {
			f.dir[i].Encode(b[i*BlockSize:], func(name string) (int64, uint32) { return l.target(f, name) })
		}
		return b
	}
	return f.node.Inline
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
	return f.nid, f.node.Mode
}
