package erofs

import (
	"bytes"
	"fmt"
)

// Extent is a part of a file that lies in one piece.
type Extent struct {
	At     int64 // where it begins in the file, in bytes
	Size   int64
	Device int   // from 1; Metadata and Hole are others
	Offset int64 // where it begins on the device
}

// Devices of extents that lie on none.
const (
	Metadata = 0
	Hole     = -1
)

// Extents says where the bytes of a chunk-based file from offset off on lie, in their order. What reaches beyond the file is left out.
func (in *Inode) Extents(off, n int64) ([]Extent, error) {
	if in.Layout != LayoutChunks || !in.hasContent() || off < 0 || n <= 0 || uint64(off) >= in.Size {
		return nil, nil
	}
	end := off + int64(min(uint64(n), in.Size-uint64(off)))
	size := in.ChunkSize()
	first := off / size
	index, err := in.Index(uint64(first), uint64((end+size-1)/size-first))
	if err != nil {
		return nil, err
	}
	var list []Extent
	for i, x := range index {
		at := max(off, (first+int64(i))*size)
		e := Extent{At: at, Size: min(end, (first+int64(i)+1)*size) - at, Device: Hole}
		if !x.Hole() {
			e.Device, e.Offset = int(in.im.Device(x)), int64(x.Block)<<in.im.bits+at%size
		}
		if l := len(list); l > 0 && list[l-1].Device == e.Device && (e.Device == Hole || list[l-1].Offset+list[l-1].Size == e.Offset) {
			list[l-1].Size += e.Size
			continue
		}
		list = append(list, e)
	}
	for _, e := range list {
		if err := in.im.within(e); err != nil {
			return nil, fmt.Errorf("chunk %d: %w", e.At/size, err)
		}
	}
	return list, nil
}

// within makes sure that an extent lies on its device.
func (im *Image) within(e Extent) error {
	switch {
	case e.Device == Hole:
	case e.Device == Metadata:
		if e.Offset+e.Size > im.end() {
			return fmt.Errorf("%w: it lies outside", ErrFormat)
		}
	case e.Device > len(im.Slots) || e.Offset+e.Size > int64(im.Slots[e.Device-1].Blocks)<<im.bits:
		return fmt.Errorf("%w: it lies outside of device %d", ErrFormat, e.Device)
	}
	return nil
}

func (in *Inode) readChunks(p []byte, off int64) error {
	list, err := in.Extents(off, int64(len(p)))
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := in.im.readExtent(p[e.At-off:][:e.Size], e); err != nil {
			return fmt.Errorf("chunk %d: %w", e.At/in.ChunkSize(), err)
		}
	}
	return nil
}

func (im *Image) readExtent(p []byte, e Extent) error {
	switch {
	case e.Device == Hole:
		clear(p)
		return nil
	case e.Device == Metadata:
		return readAt(im.r, p, e.Offset)
	case e.Device > len(im.devices) || im.devices[e.Device-1] == nil:
		return fmt.Errorf("device %d (%s) is needed and was not given", e.Device, bytes.TrimRight(im.Slots[e.Device-1].Tag[:], "\x00"))
	}
	if err := readAt(im.devices[e.Device-1], p, e.Offset); err != nil {
		return fmt.Errorf("device %d: %w", e.Device, err)
	}
	return nil
}

// NodesIn is above all numbers of inodes that metadata of a size may have.
func NodesIn(size int64) int64 { return size/slot + 1 }
