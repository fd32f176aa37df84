package erofs

import (
	"bytes"
	"fmt"
	"io"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
)

// Limits on what an image may claim, so that a damaged one costs no more than its size.
const (
	maxDirSize   = 1 << 30
	maxExtraWalk = 1 << 22
)

// Image is an image being read. It is safe for use by several goroutines once it is open.
type Image struct {
	Super   Superblock
	Slots   []DeviceSlot
	r       io.ReaderAt
	size    int64
	devices []io.ReaderAt
	bits    uint8
	mask    uint16 // of device numbers in chunk indexes
}

// Open opens a metadata image of size bytes. Devices are those of its table, in order; they may be missing if only metadata is read.
func Open(r io.ReaderAt, size int64, devices ...io.ReaderAt) (*Image, error) {
	head := make([]byte, min(size, BlockSize))
	if err := readAt(r, head, 0); err != nil {
		return nil, fmt.Errorf("%w: its first block: %w", ErrFormat, err)
	}
	if len(head) < superOffset+superSize {
		return nil, fmt.Errorf("%w: it has only %d bytes", ErrFormat, size)
	}
	super, err := DecodeSuperblock(head[superOffset:])
	if err != nil {
		return nil, err
	}
	im := &Image{Super: *super, r: r, size: size, devices: devices, bits: super.BlockBits}
	if err := im.checkSuper(head); err != nil {
		return nil, err
	}
	return im, im.readDevices()
}

func (im *Image) checkSuper(head []byte) error {
	s := &im.Super
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if s.Incompat&bit != 0 && bit&(IncompatChunks|IncompatDevices) == 0 {
			name := incompatNames[bit]
			if name == "" {
				name = fmt.Sprintf("feature %#x", bit)
			}
			return fmt.Errorf("%w: the EROFS image uses %s", ErrUnsupported, name)
		}
	}
	switch {
	case s.BlockBits < 9 || s.BlockBits > 12:
		return fmt.Errorf("%w: blocks of 2^%d bytes", ErrUnsupported, s.BlockBits)
	case s.DirBits != 0:
		return fmt.Errorf("%w: folders with blocks of another size", ErrUnsupported)
	case im.end() > im.size:
		return fmt.Errorf("%w: it should have %d blocks of %d bytes but has %d bytes", ErrFormat, s.Blocks, 1<<im.bits, im.size)
	case int64(s.MetaBlock)<<im.bits >= im.end():
		return fmt.Errorf("%w: its inodes begin at block %d, after its end", ErrFormat, s.MetaBlock)
	}
	if s.Compat&CompatChecksum != 0 {
		if len(head) < BlockSize || im.bits != 12 {
			return fmt.Errorf("%w: a checksum of a block that is not there", ErrFormat)
		}
		if got := checksum(head); got != s.Checksum {
			return fmt.Errorf("%w: the checksum of the superblock is %08x, it says %08x", ErrFormat, got, s.Checksum)
		}
	}
	return nil
}

func (im *Image) readDevices() error {
	n := int64(im.Super.Devices)
	if im.Super.Incompat&IncompatDevices == 0 {
		n = 0
	}
	at := int64(im.Super.DeviceTable) * deviceSlotSize
	if n > 0 && (at < superOffset+superSize || at+n*deviceSlotSize > im.end()) {
		return fmt.Errorf("%w: a table of %d devices at byte %d", ErrFormat, n, at)
	}
	b := make([]byte, n*deviceSlotSize)
	if err := readAt(im.r, b, at); err != nil {
		return fmt.Errorf("%w: the device table: %w", ErrFormat, err)
	}
	for i := range n {
		im.Slots = append(im.Slots, decodeDeviceSlot(b[i*deviceSlotSize:]))
	}
	im.mask = 1
	for int64(im.mask) < n+1 {
		im.mask <<= 1
	}
	im.mask--
	if len(im.devices) > int(n) {
		return fmt.Errorf("%w: it has %d devices, %d are given", ErrFormat, n, len(im.devices))
	}
	return nil
}

// end is the size of the metadata, in bytes. In RAFS images the superblock counts the blocks of the devices instead.
func (im *Image) end() int64 {
	if im.Super.Compat&CompatRAFS != 0 {
		return im.size
	}
	return int64(im.Super.Blocks) << im.bits
}

// Table reads the chunk table behind the metadata. It is nil if there is none.
func (im *Image) Table() (*chunk.Table, error) {
	if im.size-im.end() < 8 {
		return nil, nil
	}
	t, err := chunk.ReadTable(io.NewSectionReader(im.r, im.end(), im.size-im.end()), im.size-im.end())
	if err != nil {
		return nil, err
	}
	if len(t.Devices) != len(im.Slots) {
		return nil, fmt.Errorf("%w: it has %d devices, the image %d", chunk.ErrTable, len(t.Devices), len(im.Slots))
	}
	for i := range t.Devices {
		if d := &t.Devices[i]; d.Space != int64(im.Slots[i].Blocks)*BlockSize || string(im.Slots[i].Tag[:]) != d.Name() {
			return nil, fmt.Errorf("%w: its device %d is another than the image's", chunk.ErrTable, i+1)
		}
	}
	return t, nil
}

// Inode is an inode of an image.
type Inode struct {
	Raw
	NID uint64
	im  *Image
	at  int64
}

// Root is the inode of the root.
func (im *Image) Root() (*Inode, error) { return im.Inode(uint64(im.Super.RootNID)) }

// Inode reads an inode.
func (im *Image) Inode(nid uint64) (*Inode, error) {
	at := int64(im.Super.MetaBlock)<<im.bits + int64(nid)*slot
	if nid > 1<<40 || at+compactSize > im.end() {
		return nil, fmt.Errorf("%w: inode %d lies outside", ErrFormat, nid)
	}
	b := make([]byte, min(extendedSize, im.end()-at))
	if err := readAt(im.r, b, at); err != nil {
		return nil, fmt.Errorf("%w: inode %d: %w", ErrFormat, nid, err)
	}
	raw, err := decodeRaw(b, &im.Super)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", nid, err)
	}
	in := &Inode{Raw: raw, NID: nid, im: im, at: at}
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("%w: inode %d: %w", ErrFormat, nid, err)
	}
	return in, nil
}

// check looks at what the inode says about itself.
func (in *Inode) check() error {
	block := int64(1) << in.im.bits
	behind := in.behind()
	switch {
	case behind > in.im.end():
		return fmt.Errorf("its attributes end at byte %d of %d", behind, in.im.end())
	case in.MtimeNsec >= 1e9:
		return fmt.Errorf("a time with %d nanoseconds", in.MtimeNsec)
	case in.Size > 1<<62:
		return fmt.Errorf("a size of %d bytes", in.Size)
	}
	switch uint32(in.Mode) & tree.TypeMask {
	case tree.Dir:
		if in.Size > maxDirSize {
			return fmt.Errorf("a folder of %d bytes", in.Size)
		}
	case tree.Symlink:
		if in.Size == 0 || in.Size >= BlockSize {
			return fmt.Errorf("a symbolic link of %d bytes", in.Size)
		}
	case tree.Regular, tree.Char, tree.Block, tree.FIFO, tree.Socket:
	default:
		return fmt.Errorf("an unknown kind of file, mode %o", in.Mode)
	}
	if !in.hasContent() {
		return nil
	}
	switch in.Layout {
	case LayoutPlain, LayoutInline:
		rest := int64(in.Size) & (block - 1)
		whole := int64(in.Size) - rest
		if in.Layout == LayoutInline {
			if rest > 0 && behind&(block-1)+rest > block || behind+rest > in.im.end() {
				return fmt.Errorf("the content behind it crosses the end of a block")
			}
		} else {
			whole = align(int64(in.Size), block)
		}
		if first := int64(in.Union) << in.im.bits; whole > 0 && first+whole > in.im.end() {
			return fmt.Errorf("its content ends at byte %d of %d", first+whole, in.im.end())
		}
	case LayoutChunks:
		if uint32(in.Mode)&tree.TypeMask != tree.Regular {
			return fmt.Errorf("chunks in a file of mode %o", in.Mode)
		}
		if in.Union&^(chunkBits|chunkIndexes) != 0 || uint8(in.Union&chunkBits)+in.im.bits > 40 {
			return fmt.Errorf("chunks of the unknown format %#x", in.Union)
		}
		if n := in.ChunkCount(); n > uint64(in.im.end()) || in.indexAt()+int64(n)*in.indexSize() > in.im.end() {
			return fmt.Errorf("an index of %d chunks that ends outside", n)
		}
	default:
		return fmt.Errorf("compressed content (layout %d) in an image without compression", in.Layout)
	}
	return nil
}

// hasContent says whether the kind of file has content, and some.
func (in *Inode) hasContent() bool {
	switch uint32(in.Mode) & tree.TypeMask {
	case tree.Regular, tree.Dir, tree.Symlink:
		return in.Size > 0
	}
	return false
}

// behind is where the attributes end.
func (in *Inode) behind() int64 { return in.at + in.HeaderSize() + in.XattrSize() }

// ChunkSize is that of a chunk-based file's chunks, in bytes.
func (in *Inode) ChunkSize() int64 { return 1 << (in.im.bits + uint8(in.Union&chunkBits)) }

// ChunkCount is the number of a chunk-based file's chunks.
func (in *Inode) ChunkCount() uint64 {
	return (in.Size + uint64(in.ChunkSize()) - 1) / uint64(in.ChunkSize())
}

func (in *Inode) indexSize() int64 {
	if in.Union&chunkIndexes != 0 {
		return indexSize
	}
	return 4
}

func (in *Inode) indexAt() int64 { return align(in.behind(), in.indexSize()) }

// Index reads count indexes of chunks from number first on.
func (in *Inode) Index(first, count uint64) ([]Index, error) {
	if n := in.ChunkCount(); in.Layout != LayoutChunks || first > n || count > n-first {
		return nil, fmt.Errorf("%w: inode %d has no chunks %d to %d", ErrFormat, in.NID, first, first+count)
	}
	unit := in.indexSize()
	if unit == indexSize && first == 0 {
		return in.RawIndex(int64(count))
	}
	b := make([]byte, int64(count)*unit)
	if err := readAt(in.im.r, b, in.indexAt()+int64(first)*unit); err != nil {
		return nil, err
	}
	index := make([]Index, count)
	for i := range index {
		if unit == 4 {
			index[i] = Index{Block: le.Uint32(b[i*4:])}
			continue
		}
		index[i] = decodeIndex(b[i*indexSize:])
	}
	return index, nil
}

// RawIndex reads count indexes of 8 bytes behind a chunk-based inode, whatever it says about the size of its chunks.
func (in *Inode) RawIndex(count int64) ([]Index, error) {
	if in.Layout != LayoutChunks || in.indexSize() != indexSize || count < 0 || count > in.im.end() || in.indexAt()+count*indexSize > in.im.end() {
		return nil, fmt.Errorf("%w: inode %d has no index of %d chunks", ErrFormat, in.NID, count)
	}
	b := make([]byte, count*indexSize)
	if err := readAt(in.im.r, b, in.indexAt()); err != nil {
		return nil, err
	}
	index := make([]Index, count)
	for i := range index {
		index[i] = decodeIndex(b[i*indexSize:])
	}
	return index, nil
}

// Device is the number of the device that the kernel would take.
func (im *Image) Device(i Index) uint16 { return i.Device & im.mask }

// readAt reads all of b.
func readAt(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// ReadAt reads content, with the rules of io.ReaderAt.
func (in *Inode) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading at %d", off)
	}
	if !in.hasContent() || uint64(off) >= in.Size {
		return 0, io.EOF
	}
	n := int(min(uint64(len(p)), in.Size-uint64(off)))
	if err := in.read(p[:n], off); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (in *Inode) read(p []byte, off int64) error {
	if in.Layout == LayoutChunks {
		return in.readChunks(p, off)
	}
	block := int64(1) << in.im.bits
	whole := int64(in.Size)
	if in.Layout == LayoutInline {
		whole &^= block - 1
	}
	if off < whole {
		n := min(int64(len(p)), whole-off)
		if err := readAt(in.im.r, p[:n], int64(in.Union)<<in.im.bits+off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	if len(p) == 0 {
		return nil
	}
	return readAt(in.im.r, p, in.behind()+off-whole)
}

// Content reads all of a small content: a folder or a link.
func (in *Inode) content() ([]byte, error) {
	if !in.hasContent() {
		return nil, nil
	}
	b := make([]byte, in.Size)
	return b, in.read(b, 0)
}

// Target is that of a symbolic link.
func (in *Inode) Target() (string, error) {
	if uint32(in.Mode)&tree.TypeMask != tree.Symlink {
		return "", fmt.Errorf("inode %d is no symbolic link", in.NID)
	}
	b, err := in.content()
	if err == nil && bytes.IndexByte(b, 0) >= 0 {
		err = fmt.Errorf("%w: inode %d: a symbolic link with a zero byte", ErrFormat, in.NID)
	}
	return string(b), err
}

// Device numbers of a device's inode.
func (in *Inode) Rdev() (major, minor uint32) {
	switch uint32(in.Mode) & tree.TypeMask {
	case tree.Char, tree.Block:
		return decodeDevice(in.Union)
	}
	return 0, 0
}
