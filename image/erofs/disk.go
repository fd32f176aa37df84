package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/weft-dev/weft/image/tree"
)

// BlockSize is that of all images here, in bytes.
const BlockSize = 4096

// Sizes and places of the format.
const (
	magic          = 0xE0F5E1E2
	superOffset    = 1024
	superSize      = 128
	slot           = 32 // unit of inode numbers
	compactSize    = 32
	extendedSize   = 64
	deviceSlotSize = 128
	direntSize     = 12
	xattrHeader    = 12
	nullAddress    = 0xffffffff
	indexSize      = 8
)

// Feature bits. Compatible ones may be ignored by a reader that does not know them.
const (
	CompatChecksum = 0x1
	compatMtime    = 0x2
	CompatRAFS     = 0x40000000 // Nydus's RAFS v6, see package rafs

	IncompatChunks  = 0x4
	IncompatDevices = 0x8
)

// features that a reader must know, as far as names go.
var incompatNames = map[uint32]string{
	0x1: "compression with zero padding", 0x2: "compression configurations or big clusters", IncompatChunks: "chunks", IncompatDevices: "device table",
	0x10: "compressed tails or packed inodes", 0x20: "fragments or deduplicated clusters", 0x40: "long attribute prefixes", 0x80: "48-bit addresses", 0x100: "metadata box",
}

// Layouts of an inode's content.
const (
	LayoutPlain  = 0 // whole blocks
	LayoutInline = 2 // whole blocks, and the rest behind the inode
	LayoutChunks = 4 // an index of chunks behind the inode
)

// Bits of a chunk-based inode's format.
const (
	chunkBits    = 0x1f
	chunkIndexes = 0x20
)

// File types of directory entries.
var direntTypes = map[uint32]byte{tree.Regular: 1, tree.Dir: 2, tree.Char: 3, tree.Block: 4, tree.FIFO: 5, tree.Socket: 6, tree.Symlink: 7}

// ErrFormat says that an image is damaged, or not EROFS.
var ErrFormat = errors.New("the EROFS image is not valid")

// ErrUnsupported says that an image uses a feature that is not read here.
var ErrUnsupported = errors.New("not supported")

var le = binary.LittleEndian

// Superblock is the header of an image.
type Superblock struct {
	Checksum       uint32
	Compat         uint32
	Incompat       uint32
	BlockBits      uint8
	Extslots       uint8 // units of 16 bytes after the superblock
	RootNID        uint16
	Inodes         uint64
	BuildTime      int64 // seconds since 1970, the time of compact inodes
	BuildNsec      uint32
	Blocks         uint32 // of the metadata image
	MetaBlock      uint32 // where inode 0 would be
	XattrBlock     uint32 // of shared attributes
	UUID           [16]byte
	Volume         string
	Devices        uint16
	DeviceTable    uint16 // in units of 128 bytes from the beginning
	DirBits        uint8
	XattrPrefixes  uint8
	PackedNID      uint64
	Algorithms     uint16
	XattrPrefixAt  uint32
	FilterReserved uint8
}

// Encode gives the 128 bytes of the superblock, with the checksum as it is in s.
func (s *Superblock) Encode() []byte {
	b := make([]byte, superSize)
	le.PutUint32(b[0:], magic)
	le.PutUint32(b[4:], s.Checksum)
	le.PutUint32(b[8:], s.Compat)
	b[12], b[13] = s.BlockBits, s.Extslots
	le.PutUint16(b[14:], s.RootNID)
	le.PutUint64(b[16:], s.Inodes)
	le.PutUint64(b[24:], uint64(s.BuildTime))
	le.PutUint32(b[32:], s.BuildNsec)
	le.PutUint32(b[36:], s.Blocks)
	le.PutUint32(b[40:], s.MetaBlock)
	le.PutUint32(b[44:], s.XattrBlock)
	copy(b[48:64], s.UUID[:])
	copy(b[64:80], s.Volume)
	le.PutUint32(b[80:], s.Incompat)
	le.PutUint16(b[84:], s.Algorithms)
	le.PutUint16(b[86:], s.Devices)
	le.PutUint16(b[88:], s.DeviceTable)
	b[90], b[91] = s.DirBits, s.XattrPrefixes
	le.PutUint32(b[92:], s.XattrPrefixAt)
	le.PutUint64(b[96:], s.PackedNID)
	b[104] = s.FilterReserved
	return b
}

// DecodeSuperblock reads the 128 bytes at offset 1024.
func DecodeSuperblock(b []byte) (*Superblock, error) {
	if len(b) < superSize || le.Uint32(b) != magic {
		return nil, fmt.Errorf("%w: it has no EROFS superblock at byte %d", ErrFormat, superOffset)
	}
	s := &Superblock{
		Checksum: le.Uint32(b[4:]), Compat: le.Uint32(b[8:]), BlockBits: b[12], Extslots: b[13], RootNID: le.Uint16(b[14:]), Inodes: le.Uint64(b[16:]),
		BuildTime: int64(le.Uint64(b[24:])), BuildNsec: le.Uint32(b[32:]), Blocks: le.Uint32(b[36:]), MetaBlock: le.Uint32(b[40:]),
		XattrBlock: le.Uint32(b[44:]), Incompat: le.Uint32(b[80:]), Algorithms: le.Uint16(b[84:]), Devices: le.Uint16(b[86:]), DeviceTable: le.Uint16(b[88:]),
		DirBits: b[90], XattrPrefixes: b[91], XattrPrefixAt: le.Uint32(b[92:]), PackedNID: le.Uint64(b[96:]), FilterReserved: b[104],
	}
	copy(s.UUID[:], b[48:64])
	s.Volume = strings.TrimRight(string(b[64:80]), "\x00")
	return s, nil
}

// checksum is that of the first block of an image, whose checksum field counts as zero. It is the CRC-32C without the last inversion.
func checksum(block []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(0, table, block[superOffset:superOffset+4])
	crc = crc32.Update(crc, table, make([]byte, 4))
	return ^crc32.Update(crc, table, block[superOffset+8:])
}

// DeviceSlot describes a device in an image's table.
type DeviceSlot struct {
	Tag    [64]byte
	Blocks uint32
	Mapped uint32 // its place in the address space of a flat image, in blocks
}

// Encode gives the slot's 128 bytes.
func (d *DeviceSlot) Encode() []byte {
	b := make([]byte, deviceSlotSize)
	copy(b, d.Tag[:])
	le.PutUint32(b[64:], d.Blocks)
	le.PutUint32(b[68:], d.Mapped)
	return b
}

func decodeDeviceSlot(b []byte) DeviceSlot {
	return DeviceSlot{Tag: [64]byte(b[:64]), Blocks: le.Uint32(b[64:]), Mapped: le.Uint32(b[68:])}
}

// Raw is an inode as it is on the disk.
type Raw struct {
	Extended  bool
	Layout    uint8
	XattrUnit uint16 // size of the attributes: 0, or 12 bytes and 4 for each unit above 1
	Mode      uint16
	Size      uint64
	Union     uint32 // first block, device number or chunk format
	Ino       uint32
	UID, GID  uint32
	Mtime     int64
	MtimeNsec uint32
	Nlink     uint32
}

// HeaderSize is that of the inode alone, in bytes.
func (r *Raw) HeaderSize() int64 {
	if r.Extended {
		return extendedSize
	}
	return compactSize
}

// XattrSize is the size of the attributes behind the inode, in bytes.
func (r *Raw) XattrSize() int64 {
	if r.XattrUnit == 0 {
		return 0
	}
	return xattrHeader + 4*int64(r.XattrUnit-1)
}

// Encode gives the inode's 32 or 64 bytes.
func (r *Raw) Encode() []byte {
	b := make([]byte, r.HeaderSize())
	le.PutUint16(b[2:], r.XattrUnit)
	le.PutUint16(b[4:], r.Mode)
	if !r.Extended {
		le.PutUint16(b[0:], uint16(r.Layout)<<1)
		le.PutUint16(b[6:], uint16(r.Nlink))
		le.PutUint32(b[8:], uint32(r.Size))
		le.PutUint32(b[16:], r.Union)
		le.PutUint32(b[20:], r.Ino)
		le.PutUint16(b[24:], uint16(r.UID))
		le.PutUint16(b[26:], uint16(r.GID))
		return b
	}
	le.PutUint16(b[0:], uint16(r.Layout)<<1|1)
	le.PutUint64(b[8:], r.Size)
	le.PutUint32(b[16:], r.Union)
	le.PutUint32(b[20:], r.Ino)
	le.PutUint32(b[24:], r.UID)
	le.PutUint32(b[28:], r.GID)
	le.PutUint64(b[32:], uint64(r.Mtime))
	le.PutUint32(b[40:], r.MtimeNsec)
	le.PutUint32(b[44:], r.Nlink)
	return b
}

// DeviceNumber is a device's number as inodes hold it.
func DeviceNumber(major, minor uint32) uint32 { return encodeDevice(major, minor) }

// decodeRaw reads an inode. Compact ones have the image's time.
func decodeRaw(b []byte, s *Superblock) (Raw, error) {
	format := le.Uint16(b)
	r := Raw{Extended: format&1 != 0, Layout: uint8(format>>1) & 7, XattrUnit: le.Uint16(b[2:]), Mode: le.Uint16(b[4:])}
	if format&^0xf != 0 {
		return r, fmt.Errorf("%w: an inode of the unknown format %#x", ErrUnsupported, format)
	}
	r.Union, r.Ino = le.Uint32(b[16:]), le.Uint32(b[20:])
	if !r.Extended {
		r.Nlink, r.Size = uint32(le.Uint16(b[6:])), uint64(le.Uint32(b[8:]))
		r.UID, r.GID = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
		r.Mtime, r.MtimeNsec = s.BuildTime+int64(le.Uint32(b[12:])), s.BuildNsec
		return r, nil
	}
	if len(b) < extendedSize {
		return r, fmt.Errorf("%w: an inode ends after %d bytes", ErrFormat, len(b))
	}
	r.Size, r.UID, r.GID = le.Uint64(b[8:]), le.Uint32(b[24:]), le.Uint32(b[28:])
	r.Mtime, r.MtimeNsec, r.Nlink = int64(le.Uint64(b[32:])), le.Uint32(b[40:]), le.Uint32(b[44:])
	return r, nil
}

// encodeDevice is the kernel's new_encode_dev.
func encodeDevice(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

func decodeDevice(d uint32) (major, minor uint32) {
	return d & 0xfff00 >> 8, d&0xff | d>>12&0xfff00
}

// Index is an entry of a chunk-based inode.
type Index struct {
	Extra  uint16 // not used by the kernel
	Device uint16 // from 1; 0 is the metadata image
	Block  uint32
}

// Hole says that the chunk is stored nowhere.
func (i Index) Hole() bool { return i.Block == nullAddress }

// Encode gives the index's 8 bytes.
func (i Index) Encode() [indexSize]byte {
	var b [indexSize]byte
	le.PutUint16(b[0:], i.Extra)
	le.PutUint16(b[2:], i.Device)
	le.PutUint32(b[4:], i.Block)
	return b
}

func decodeIndex(b []byte) Index {
	return Index{le.Uint16(b), le.Uint16(b[2:]), le.Uint32(b[4:])}
}

// align rounds n up to a multiple of unit, a power of two.
func align(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }
