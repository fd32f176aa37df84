package fuse

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes of the memory, see the package comment.
const (
	memoryMagic   = "WEFTFUSE"
	memoryVersion = 1
	headerSize    = 4096
	slots         = 1024
	slotSize      = 8192 // the least that the kernel gives requests to
	nodeSize      = 8
	nodesAt       = headerSize + slots*slotSize
	maxNodes      = 1 << 32
)

// ErrMemory says that shared memory is not that of a session that this program understands.
var ErrMemory = errors.New("the memory of a connection to FUSE is not readable")

// Session is a connection to the kernel. Close lets go of it, and others who hold it still have it.
type Session struct {
	Device *os.File // /dev/fuse
	Memory *os.File
	memory []byte
}

// Check says why nothing can be mounted through FUSE, or nil.
func Check() error {
	fd, err := openDevice()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	fs, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("the kernel has no FUSE for this process: %w", err)
	}
	return unix.Close(fs)
}

func openDevice() (int, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("opening /dev/fuse: %w", err)
	}
	return fd, nil
}

// New makes a session for an image that has inodes with numbers below nodes.
func New(image [32]byte, nodes int64) (*Session, error) {
	if nodes < 0 || nodes > maxNodes {
		return nil, fmt.Errorf("an image with %d inodes", nodes)
	}
	fd, err := openDevice()
	if err != nil {
		return nil, err
	}
	m, err := unix.MemfdCreate("weft-fuse", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making shared memory: %w", err), unix.Close(fd))
	}
	s := &Session{Device: os.NewFile(uintptr(fd), "/dev/fuse"), Memory: os.NewFile(uintptr(m), "weft-fuse")}
	if err = unix.Ftruncate(m, nodesAt+nodes*nodeSize); err == nil {
		err = s.mapMemory()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	copy(s.memory, memoryMagic)
	ne.PutUint32(s.memory[8:], memoryVersion)
	ne.PutUint64(s.memory[24:], uint64(nodes))
	copy(s.memory[64:96], image[:])
	return s, nil
}

// Open takes over a session from an earlier process. Both files belong to it from then on.
func Open(device, memory *os.File) (*Session, error) {
	s := &Session{Device: device, Memory: memory}
	if err := s.mapMemory(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	var err error
	if v := ne.Uint32(s.memory[8:]); string(s.memory[:8]) != memoryMagic || v != memoryVersion {
		err = fmt.Errorf("%w: it begins with %q and has format version %d, this program reads version %d", ErrMemory, s.memory[:8], v, memoryVersion)
	} else if want := nodesAt + s.nodes()*nodeSize; s.nodes() < 0 || s.nodes() > maxNodes || int64(len(s.memory)) < want {
		err = fmt.Errorf("%w: it has %d bytes, %d were expected", ErrMemory, len(s.memory), want)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Session) mapMemory() error {
	st, err := s.Memory.Stat()
	if err != nil {
		return err
	}
	if st.Size() < nodesAt {
		return fmt.Errorf("%w: it has %d bytes", ErrMemory, st.Size())
	}
	if s.memory, err = unix.Mmap(int(s.Memory.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mapping shared memory: %w", err)
	}
	return nil
}

// ended says whether the file system is nowhere mounted any more, or was aborted.
func (s *Session) ended() bool {
	conn, err := s.Device.SyscallConn()
	if err != nil {
		return false
	}
	fds := []unix.PollFd{{Events: unix.POLLIN}}
	err = conn.Control(func(fd uintptr) {
		fds[0].Fd = int32(fd)
		_, _ = unix.Poll(fds, 0)
	})
	return err == nil && fds[0].Revents&unix.POLLERR != 0
}

// Close lets go of the session. Nobody may serve it any more.
func (s *Session) Close() error {
	err := errors.Join(s.Device.Close(), s.Memory.Close())
	if s.memory != nil {
		err = errors.Join(err, unix.Munmap(s.memory))
		s.memory = nil
	}
	return err
}

// Image is the identity that New was given.
func (s *Session) Image() [32]byte { return [32]byte(s.memory[64:96]) }

func (s *Session) nodes() int64 { return int64(ne.Uint64(s.memory[24:])) }

// Mount makes the file system and returns a descriptor of its root, as fsmount(2) does, to be moved to its place. Source is what the list of
// mounts says of it. Flags are those of mount_setattr(2).
func (s *Session) Mount(source string, flags int) (root int, err error) {
	fs, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mounting through FUSE: %w", err)
	}
	defer unix.Close(fs)
	for _, o := range [][2]string{
		{"source", source}, {"subtype", "weft"}, {"fd", fmt.Sprint(s.Device.Fd())}, {"rootmode", "40000"}, {"user_id", "0"}, {"group_id", "0"},
	} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return -1, fmt.Errorf("mounting through FUSE: %s %s: %w", o[0], o[1], err)
		}
	}
	for _, o := range []string{"allow_other", "default_permissions", "ro"} {
		if err := unix.FsconfigSetFlag(fs, o); err != nil {
			return -1, fmt.Errorf("mounting through FUSE: %s: %w", o, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("mounting through FUSE: %w", err)
	}
	if root, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, flags|unix.MOUNT_ATTR_RDONLY); err != nil {
		return -1, fmt.Errorf("mounting through FUSE: %w", err)
	}
	return root, nil
}

// The first request was answered, with these flags.
func (s *Session) begun() (flags uint64, ok bool) {
	return ne.Uint64(s.memory[16:]), atomic.LoadUint32(s.word(12)) == 1
}

func (s *Session) begin(flags uint64) {
	ne.PutUint64(s.memory[16:], flags)
	atomic.StoreUint32(s.word(12), 1)
}

func (s *Session) word(at int) *uint32 {
	return (*uint32)(unsafe.Pointer(&s.memory[at])) //nolint:gosec // at is a multiple of 4 inside the memory
}

// slot is where the kernel writes a request.
func (s *Session) slot(i int) []byte { return s.memory[headerSize+i*slotSize:][:slotSize:slotSize] }

// length is that of the request in a slot; 0 if there is none.
func (s *Session) length(i int) int {
	return int(min(atomic.LoadUint32(s.word(headerSize+i*slotSize)), slotSize))
}

func (s *Session) clear(i int) { atomic.StoreUint32(s.word(headerSize+i*slotSize), 0) }

// node is what is known of an open file: the kernel's file behind it, and how often it is open without one. nil if the image has no such inode.
func (s *Session) node(nid uint64) (behind, opened *uint32) {
	if nid >= uint64(s.nodes()) {
		return nil, nil
	}
	at := nodesAt + int(nid)*nodeSize
	return s.word(at), s.word(at + 4)
}
