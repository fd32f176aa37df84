package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is the exclusive right to run a cluster in a state folder. The kernel gives it up when its holder dies, so that a file left
// behind by a killed supervisor is no obstacle.
type Lock struct{ file *os.File }

// HeldError says that another process has the lock.
type HeldError struct {
	State string
	PID   int // 0 when not known
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("another process is at work on the state folder %s", e.State)
	}
	return fmt.Sprintf("process %d is at work on the state folder %s", e.PID, e.State)
}

// Acquire takes the lock of a state folder, or returns a *HeldError. The folder must have been made by Create.
func Acquire(state string) (*Lock, error) {
	if err := os.MkdirAll(runDir(state), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(lockPath(state), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// Holder takes the lock for an instant, so a refusal is believed only when it lasts.
	for attempt := 0; ; attempt++ {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || attempt == 10 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		return nil, &HeldError{State: state, PID: readPID(f)}
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", lockPath(state), err)
	}
	return &Lock{f}, nil
}

// Release gives the lock up.
func (l *Lock) Release() error { return l.file.Close() }

// Holder says whether a process holds the lock of a state folder, and which one.
func Holder(state string) (pid int, held bool, err error) {
	f, err := os.Open(lockPath(state))
	if errors.Is(err, os.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close() // also gives up the lock when it was free
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return 0, false, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return readPID(f), true, nil
	default:
		return 0, false, fmt.Errorf("lock %s: %w", lockPath(state), err)
	}
}

// WaitReleased waits until no process holds the lock of a state folder.
func WaitReleased(ctx context.Context, state string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		pid, held, err := Holder(state)
		if err != nil || !held {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d still runs the cluster in %s: %w", pid, state, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func readPID(f *os.File) int {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0) // a short file is what is expected
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return 0
	}
	return pid
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func runDir(state string) string   { return filepath.Join(state, "run") }
func lockPath(state string) string { return filepath.Join(runDir(state), "lock") }
