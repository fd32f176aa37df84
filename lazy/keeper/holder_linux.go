package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/lazy/cache"
)

// holder is what is known of the process that shares the keeper's descriptors, as run/holder.json.
type holder struct {
	Version int     `json:"version"`
	PID     int     `json:"pid"`
	Start   string  `json:"start"` // as in /proc/PID/stat
	Keeper  process `json:"keeper"`
	Group   int     `json:"group"` // descriptors
	Table   int     `json:"table"`
	Wake    int     `json:"wake"`
	Secrets int     `json:"secrets"`
}

const holderVersion = 1

func holderFile(dir string) string { return filepath.Join(dir, "holder.json") }

// readHolder finds the holder of an earlier keeper, nil if there is none that lives.
func readHolder(dir string) (*holder, error) {
	b, err := os.ReadFile(holderFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var h holder
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, fmt.Errorf("%s: %w", holderFile(dir), err)
	}
	if h.Version != holderVersion {
		return nil, fmt.Errorf("%s: format version %d, this program reads version %d", holderFile(dir), h.Version, holderVersion)
	}
	if start, err := startTime(h.PID); err != nil || start != h.Start {
		return nil, nil
	}
	return &h, nil
}

func (h *holder) write(dir string) error {
	h.Version = holderVersion
	var err error
	if h.Start, err = startTime(h.PID); err != nil {
		return err
	}
	if h.Keeper, err = self(); err != nil {
		return err
	}
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return cache.Replace(holderFile(dir), b)
}

// fork starts the holder: a process that shares this one's table of descriptors, and sleeps until it is killed. It never runs Go code: of all
// threads only this one exists in it. Until known is called it ends with this process, for nobody would find it.
func (h *holder) fork() (known func() error, err error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	all, old := ^uint64(0), uint64(0)
	name := []byte("weft-holder\x00")
	// No signal may reach a handler of Go's runtime there.
	if _, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0); e != 0 { //nolint:gosec // as the system call wants it
		return nil, e
	}
	n, e := forkAndSleep(&name[0], uintptr(pipe[0]))
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0) //nolint:gosec // as above
	if e != 0 {
		return nil, fmt.Errorf("starting a holder: %w", errors.Join(e, unix.Close(pipe[0]), unix.Close(pipe[1])))
	}
	h.PID = int(n)
	return func() error {
		// The holder has the same descriptors: it must have read before they are closed.
		if _, err := unix.Write(pipe[1], []byte{1}); err != nil {
			return err
		}
		for left := 1; left > 0; {
			if left, err = unix.IoctlGetInt(pipe[0], unix.TIOCINQ); err != nil {
				return err
			}
			time.Sleep(100 * time.Microsecond)
		}
		return errors.Join(unix.Close(pipe[0]), unix.Close(pipe[1]))
	}, nil
}

//go:norace
//go:nosplit
func forkAndSleep(name *byte, pipe uintptr) (uintptr, syscall.Errno) {
	var b [8]byte
	n, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, syscall.CLONE_FILES|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 || n != 0 {
		return n, e
	}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0, 0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, syscall.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0, 0) //nolint:gosec // as the system call wants it
	_, _, _ = syscall.RawSyscall6(syscall.SYS_READ, pipe, uintptr(unsafe.Pointer(&b[0])), 1, 0, 0, 0)                //nolint:gosec // as the system call wants it
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, 0, 0, 0, 0, 0)
	for {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

// startHolder starts a holder that the folder knows of.
func (k *keeper) startHolder() error {
	known, err := k.own.fork()
	if err != nil {
		return err
	}
	k.separate()
	if err := errors.Join(k.own.write(k.options.Dir), known()); err != nil {
		return err
	}
	k.holder, err = own(unix.PidfdOpen(k.own.PID, 0))
	return err
}

// holderAgain starts a holder in place of one that has ended: without it the end of this process would be that of all who hold.
func (k *keeper) holderAgain() {
	k.say("the holder has ended and is started again")
	_, _ = unix.Wait4(k.own.PID, nil, 0, nil)
	_ = unix.Close(k.holder)
	k.holder = -1 // poll passes it over
	if err := k.startHolder(); err != nil {
		k.say("there is no holder: %v", err)
	}
}

// take copies a descriptor of the holder to a number of this process.
func (h *holder) take(pidfd, from, to int) error {
	fd, err := unix.PidfdGetfd(pidfd, from, 0)
	if err != nil {
		return fmt.Errorf("taking descriptor %d of the holder: %w", from, err)
	}
	if fd == to {
		return nil
	}
	return errors.Join(unix.Dup3(fd, to, unix.O_CLOEXEC), unix.Close(fd))
}

// process names a process for good.
type process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"`
}

func self() (process, error) {
	start, err := startTime(os.Getpid())
	return process{os.Getpid(), start}, err
}

func (p process) lives() bool {
	start, err := startTime(p.PID)
	return err == nil && start == p.Start
}

func beginning(dir string) string { return filepath.Join(dir, "beginning.json") }

// begun finds a keeper of the folder that begins.
func begun(dir string) (p process, ok bool) {
	b, err := os.ReadFile(beginning(dir))
	return p, err == nil && json.Unmarshal(b, &p) == nil && p.lives()
}

func begins(dir string) bool {
	_, ok := begun(dir)
	return ok
}

// alone makes sure that no other keeper of the folder runs or begins. The result is called when the folder says who the keeper is. A lock would
// be held by the holder, too, after the keeper's end.
func alone(dir string) (done func() error, err error) {
	me, err := self()
	if err != nil {
		return nil, err
	}
	name := beginning(dir)
	mine := fmt.Sprintf("%s.%d", name, me.PID)
	b, err := json.Marshal(me)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(mine, b, 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(mine)
	for range 3 {
		err := os.Link(mine, name)
		if err == nil {
			done = func() error { return os.Remove(name) }
			if h, err := readHolder(dir); err == nil && h != nil && h.Keeper.lives() {
				return nil, errors.Join(fmt.Errorf("%s has a keeper, process %d", dir, h.Keeper.PID), done())
			}
			return done, nil
		}
		if other, ok := begun(dir); ok {
			return nil, fmt.Errorf("%s will have a keeper, process %d", dir, other.PID)
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s has a keeper that begins", dir)
}
