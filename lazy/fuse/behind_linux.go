package fuse

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/erofs"
)

// behindFrom is the size from which on a file is worth one of the kernel's, which stays open as long as the image is mounted.
const behindFrom = 32 << 10

// Handles that open tells the kernel, which gives them back with a release.
const (
	handleServed  = 1
	handleThrough = 2
)

// open opens a file: through to the kernel's file behind it if it is complete and nobody has it open otherwise.
func (v *Server) open(r *request, in *erofs.Inode, out *[]byte) error {
	handle, flags, id := uint64(handleServed), uint32(openKeepCache|openNoFlush), uint32(0)
	behind, opened := v.session.node(in.NID)
	if behind != nil {
		v.opens.Lock()
		defer v.opens.Unlock()
		if id = v.behind(in, behind, opened); id != 0 {
			handle, flags = handleThrough, openPassthrough|openNoFlush
			v.through.Add(1)
		} else {
			// Too many counted, as by a process that was killed before it answered, does no harm.
			atomic.AddUint32(opened, 1)
			v.opened.Add(1)
		}
	}
	*out = ne.AppendUint64(*out, handle)
	*out = ne.AppendUint32(*out, flags)
	*out = ne.AppendUint32(*out, id)
	return nil
}

// behind is the number of the kernel's file behind an inode, 0 if it has and gets none.
func (v *Server) behind(in *erofs.Inode, behind, opened *uint32) uint32 {
	if id := atomic.LoadUint32(behind); id != 0 {
		return id
	}
	if v.options.Behind == nil || v.flags.Load()&flagPassthrough == 0 || in.Size < behindFrom || atomic.LoadUint32(opened) != 0 {
		return 0
	}
	all, err := in.Extents(0, math.MaxInt64)
	if err != nil || len(v.missing(all)) > 0 {
		return 0
	}
	file, err := v.options.Behind.OpenInode(in)
	if err != nil {
		return 0
	}
	defer file.Close()
	id, err := v.register(file)
	if err != nil {
		v.options.Log.Debug("the kernel takes no file to read from", "inode", in.NID, "error", err)
		return 0
	}
	atomic.StoreUint32(behind, id)
	return id
}

// backingMap is struct fuse_backing_map of linux/fuse.h.
type backingMap struct {
	fd    int32
	flags uint32
	_     uint64
}

// backingOpen is FUSE_DEV_IOC_BACKING_OPEN.
const backingOpen = 1<<30 | 16<<16 | 229<<8 | 1

// register gives the kernel a file to read from, and returns its number.
func (v *Server) register(file *os.File) (uint32, error) {
	m := backingMap{fd: int32(file.Fd())}
	n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(v.fd), backingOpen, uintptr(unsafe.Pointer(&m))) //nolint:gosec // as the system call wants it
	if e != 0 {
		return 0, e
	}
	if n == 0 || n > math.MaxInt32 {
		return 0, fmt.Errorf("the kernel numbers a file %d", n)
	}
	return uint32(n), nil
}

// released is called when a file is no longer open.
func (v *Server) released(r *request, handle uint64) {
	if handle != handleServed || r.node < rootID {
		return
	}
	nid := v.root
	if r.node != rootID {
		nid = r.node - 2
	}
	if _, opened := v.session.node(nid); opened != nil {
		v.opens.Lock()
		defer v.opens.Unlock()
		if n := atomic.LoadUint32(opened); n > 0 {
			atomic.StoreUint32(opened, n-1)
		}
	}
}

// Mounted opens inodes by number on an EROFS mount of the image. It is a Behind.
type Mounted struct {
	root *os.File
	kind int32 // of file handles
}

// The kinds of file handles of EROFS: with numbers of 64 bits, and of 32 bits as older kernels have.
const (
	handle64 = 0x81 // FILEID_INO64_GEN
	handle32 = 1    // FILEID_INO32_GEN
)

// NewMounted takes a descriptor of the mount's root, as erofs.Detached gives it, and closes it.
func NewMounted(mount int) (*Mounted, error) {
	defer unix.Close(mount)
	fd, err := unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the root of a mount: %w", err)
	}
	m := &Mounted{root: os.NewFile(uintptr(fd), "the image")}
	handle, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	if err == nil {
		if m.kind = handle.Type(); m.kind != handle64 && m.kind != handle32 {
			err = fmt.Errorf("they are of the unknown kind %#x", m.kind)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("handles of files on EROFS: %w", err), m.root.Close())
	}
	return m, nil
}

// OpenInode opens a regular file, and makes sure that it is the right one.
func (m *Mounted) OpenInode(in *erofs.Inode) (*os.File, error) {
	var b []byte
	if m.kind == handle64 {
		b = ne.AppendUint32(b, uint32(in.NID>>32))
	}
	b = ne.AppendUint32(b, uint32(in.NID))
	b = ne.AppendUint32(b, 0) // generation
	fd, err := unix.OpenByHandleAt(int(m.root.Fd()), unix.NewFileHandle(m.kind, b), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOATIME)
	if err != nil {
		return nil, fmt.Errorf("opening inode %d: %w", in.NID, err)
	}
	f := os.NewFile(uintptr(fd), "a file of the image")
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (st.Mode != uint32(in.Mode) || st.Ino != in.NID || uint64(st.Size) != in.Size) {
		err = fmt.Errorf("inode %d is another file: number %d, mode %o, %d bytes", in.NID, st.Ino, st.Mode, st.Size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close lets go of the mount. Files that the kernel has stay open.
func (m *Mounted) Close() error { return m.root.Close() }
