package fuse

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/image/tree"
)

// Kinds of requests (linux/fuse.h, enum fuse_opcode).
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opReadlink    = 5
	opOpen        = 14
	opRead        = 15
	opStatfs      = 17
	opRelease     = 18
	opGetxattr    = 22
	opListxattr   = 23
	opInit        = 26
	opOpendir     = 27
	opReaddir     = 28
	opReleasedir  = 29
	opAccess      = 34
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42
	opReaddirplus = 44
	opLseek       = 46
)

// Sizes of structures.
const (
	inHeaderSize  = 40
	outHeaderSize = 16
	attrSize      = 88
	entrySize     = 40 + attrSize
	direntSize    = 24
)

// Flags of the first request and its answer.
const (
	flagAsyncRead       = 1 << 0
	flagExport          = 1 << 4
	flagReaddirplus     = 1 << 13
	flagReaddirplusAuto = 1 << 14
	flagParallelDirs    = 1 << 18
	flagPosixACL        = 1 << 20
	flagMaxPages        = 1 << 22
	flagCacheSymlinks   = 1 << 23
	flagNoOpendir       = 1 << 24
	flagInitExt         = 1 << 30
	flagPassthrough     = 1 << 37
	flagAllowIDMap      = 1 << 40

	wantedFlags = flagAsyncRead | flagExport | flagReaddirplus | flagReaddirplusAuto | flagParallelDirs | flagPosixACL | flagMaxPages |
		flagCacheSymlinks | flagNoOpendir | flagInitExt | flagAllowIDMap
)

// Flags of an opened file or folder.
const (
	openKeepCache   = 1 << 1
	openNoFlush     = 1 << 5
	openCacheDir    = 1 << 3
	openPassthrough = 1 << 7
)

const (
	protocolMajor = 7
	protocolMinor = 31 // the oldest one that is answered: Linux 5.2
	ourMinor      = 41 // the newest one whose structures are known here

	rootID = 1 // of the root folder, for the kernel
	// forever is how long the kernel may believe what it was told, in seconds: an image never changes.
	forever = 1 << 31

	maxPages = 256 // of one read
	maxWrite = 4096
)

var ne = binary.NativeEndian

// request is a request of the kernel.
type request struct {
	op       uint32
	unique   uint64
	node     uint64
	uid, pid uint32
	body     []byte
	again    bool // an earlier process may have answered it

	where where // of one that reads
	err   error // why it cannot be answered
}

// errRequest says that a request is not one of the kernel's.
var errRequest = errors.New("a request of the kernel is not readable")

// parse reads a request. Its body is a part of b.
func parse(b []byte) (request, error) {
	if len(b) < inHeaderSize || int64(ne.Uint32(b)) != int64(len(b)) {
		return request{}, fmt.Errorf("%w: it has %d bytes", errRequest, len(b))
	}
	r := request{op: ne.Uint32(b[4:]), unique: ne.Uint64(b[8:]), node: ne.Uint64(b[16:]), uid: ne.Uint32(b[24:]), pid: ne.Uint32(b[32:])}
	extra := 8 * int(ne.Uint16(b[36:]))
	if extra > len(b)-inHeaderSize {
		return request{}, fmt.Errorf("%w: %d bytes of extensions in %d", errRequest, extra, len(b))
	}
	r.body = b[inHeaderSize : len(b)-extra]
	return r, nil
}

// name is the text with a zero byte at its end that the body has from a byte on.
func (r *request) name(from int) (string, error) {
	if len(r.body) < from+2 || r.body[len(r.body)-1] != 0 {
		return "", unix.EINVAL
	}
	return string(r.body[from : len(r.body)-1]), nil
}

// need makes sure that the body has a number of bytes.
func (r *request) need(n int) error {
	if len(r.body) < n {
		return unix.EINVAL
	}
	return nil
}

// appendAttr writes struct fuse_attr.
func appendAttr(b []byte, in *erofs.Inode, block uint32) []byte {
	b = ne.AppendUint64(b, in.NID)
	b = ne.AppendUint64(b, size(in))
	b = ne.AppendUint64(b, (size(in)+uint64(block)-1)/uint64(block)*uint64(block)/512)
	for range 3 {
		b = ne.AppendUint64(b, uint64(in.Mtime))
	}
	for range 3 {
		b = ne.AppendUint32(b, in.MtimeNsec)
	}
	for _, n := range []uint32{uint32(in.Mode), in.Nlink, in.UID, in.GID, rdev(in), block, 0} {
		b = ne.AppendUint32(b, n)
	}
	return b
}

// size is that of what has content.
func size(in *erofs.Inode) uint64 {
	switch uint32(in.Mode) & tree.TypeMask {
	case tree.Regular, tree.Dir, tree.Symlink:
		return in.Size
	}
	return 0
}

func rdev(in *erofs.Inode) uint32 { return erofs.DeviceNumber(in.Rdev()) }

// appendEntry writes struct fuse_entry_out.
func appendEntry(b []byte, id uint64, in *erofs.Inode, block uint32) []byte {
	for _, n := range []uint64{id, 0, forever, forever, 0} {
		b = ne.AppendUint64(b, n)
	}
	return appendAttr(b, in, block)
}

// appendDirent writes struct fuse_dirent.
func appendDirent(b []byte, d erofs.Dirent, next uint64) []byte {
	b = ne.AppendUint64(b, d.NID)
	b = ne.AppendUint64(b, next)
	b = ne.AppendUint32(b, uint32(len(d.Name)))
	b = ne.AppendUint32(b, direntTypes[d.Type%byte(len(direntTypes))])
	b = append(b, d.Name...)
	return append(b, make([]byte, direntLen(len(d.Name))-direntSize-len(d.Name))...)
}

func direntLen(name int) int { return (direntSize + name + 7) &^ 7 }

// direntTypes are those of readdir(3), by EROFS's.
var direntTypes = [8]uint32{
	unix.DT_UNKNOWN, unix.DT_REG, unix.DT_DIR, unix.DT_CHR, unix.DT_BLK, unix.DT_FIFO, unix.DT_SOCK, unix.DT_LNK,
}
