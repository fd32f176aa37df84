package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/lazy/cache"
)

// The numbers of descriptors in the keeper. The kernel gives an event the lowest free one, so those of events lie from firstEvent on: below, all
// are taken, the keeper's own lie from firstOwn on, and those that a next keeper takes over, under the same numbers, from firstHeld on.
const (
	firstEvent = 64
	firstOwn   = firstEvent + eventSlots + 448
	firstHeld  = firstOwn + 512
)

// reserve takes all free numbers below firstEvent, and allows many.
func reserve() error {
	limit := unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
		limit.Cur = limit.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
	}
	if limit.Cur < firstHeld+1024 {
		return fmt.Errorf("this process may open %d files, at least %d are needed, and two for each device: raise the limit (LimitNOFILE, ulimit -n)", limit.Cur, firstHeld+1024)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for null < firstEvent {
		if null, err = unix.FcntlInt(uintptr(null), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return err
		}
	}
	return unix.Close(null)
}

// own gives a descriptor a number from firstOwn on, and hold one from firstHeld on.
func own(fd int, err error) (int, error)  { return renumber(fd, err, firstOwn) }
func hold(fd int, err error) (int, error) { return renumber(fd, err, firstHeld) }

func renumber(fd int, err error, first int) (int, error) {
	if err != nil {
		return -1, err
	}
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, first)
	return n, errors.Join(err, unix.Close(fd))
}

// memory makes shared memory of a size.
func memory(name string, size int) (fd int, err error) {
	if fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC); err != nil {
		return -1, fmt.Errorf("making shared memory: %w", err)
	}
	if err = unix.Ftruncate(fd, int64(size)); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// mapped maps all of a shared memory, which must have that size.
func mapped(fd, size int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Size < int64(size) {
		return nil, fmt.Errorf("the shared memory has %d bytes, %d were expected", st.Size, size)
	}
	if size == 0 {
		return nil, nil
	}
	m, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping shared memory: %w", err)
	}
	return m, nil
}

// mapSize is the shared memory of a device: two maps of its blocks, of those that are present and of those that were read.
func mapSize(blocks int64) int { return 2 * int(cache.BitsSize(blocks)) }

func split(m []byte, blocks int64) (present, read cache.Bits) {
	n := cache.BitsSize(blocks)
	return cache.SharedBits(m, blocks), cache.SharedBits(m[n:], blocks)
}

// startTime is when a process started, which together with its number names it for good.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return "", fmt.Errorf("/proc/%d/stat is not readable", pid)
	}
	if f[0] == "Z" || f[0] == "X" {
		return "", os.ErrProcessDone
	}
	return f[19], nil
}

// identify gives the file of a descriptor.
func identify(fd int) (fileID, error) {
	var st unix.Stat_t
	return identifyWith(&st, fd)
}

func identifyWith(st *unix.Stat_t, fd int) (fileID, error) {
	if err := unix.Fstat(fd, st); err != nil {
		return fileID{}, err
	}
	return fileID{uint64(st.Dev), st.Ino}, nil //nolint:unconvert // not on every architecture
}

// inFolder is the address of a socket in an open folder: paths of sockets are short.
func inFolder(dir int, name string) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)}
}
