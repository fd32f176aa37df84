//go:build unix

// Package folder keeps an engine's state in a local folder: a journal (see package journal) and a lock that tells who
// holds it. The kernel frees the lock when its holder dies. It must not know what the state says.
package folder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/journal"
)

// Holder tells others who has a lock.
type Holder struct {
	PID       int       `json:"pid"`
	User      string    `json:"user,omitempty"`
	Operation string    `json:"operation"` // for example "apply"
	Since     time.Time `json:"since"`
}

// LockedError says that somebody else works on the state.
type LockedError struct {
	Dir    string
	Holder Holder // zero if it is not known
}

// Error names the holder.
func (e *LockedError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("another process works on the state in %s; wait until it is done", e.Dir)
	}
	by := ""
	if e.Holder.User != "" {
		by = " of " + e.Holder.User
	}
	return fmt.Sprintf("process %d%s works on the state in %s (%s since %s); wait until it is done", e.Holder.PID, by, e.Dir, e.Holder.Operation,
		e.Holder.Since.Format(time.RFC3339))
}

// Options change how a folder is opened.
type Options struct {
	Operation string        // what it is opened for, told to others
	Wait      time.Duration // how long to wait for the lock; 0 refuses at once
	Sealer    engine.Sealer // may be nil as long as nothing is sensitive
	Journal   journal.Options
	LockOnly  bool // the state is not read
}

// Folder is an open and locked state.
type Folder struct {
	State   *engine.State
	journal *journal.Journal
	lock    *os.File
}

// Open locks the folder, which is made if need be (readable by its owner alone), and reads the state in it.
func Open(ctx context.Context, dir string, o Options) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := acquire(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	f := &Folder{lock: lock}
	if o.LockOnly {
		return f, nil
	}
	j, c, err := journal.Open(dir, o.Journal)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	f.journal = j
	if f.State, err = engine.Load(j, c.Snapshot, c.Records, c.Last, o.Sealer); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), f.Close())
	}
	return f, nil
}

// lockPatience is how long a lock may be refused before that is believed: a child that is being forked holds its parent's
// locks until it runs its own program, also when the parent has given them up.
const lockPatience = 300 * time.Millisecond

func acquire(ctx context.Context, dir string, o Options) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(max(o.Wait, lockPatience))
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if time.Now().After(deadline) {
			held := &LockedError{Dir: dir, Holder: readHolder(f)}
			return nil, errors.Join(held, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := writeHolder(f, Holder{PID: os.Getpid(), User: os.Getenv("USER"), Operation: o.Operation, Since: time.Now().UTC()}); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func readHolder(f *os.File) Holder {
	var h Holder
	data := make([]byte, 4096)
	n, _ := f.ReadAt(data, 0) // shorter than asked for; what cannot be read is not known
	if json.Unmarshal(data[:n], &h) != nil {
		return Holder{}
	}
	return h
}

func writeHolder(f *os.File, h Holder) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(append(data, '\n'), 0)
	return err
}

// Syncs is how many times the disk was waited for.
func (f *Folder) Syncs() int { return f.journal.Syncs() }

// Close gives up the lock. Everything is already written.
func (f *Folder) Close() error {
	var err error
	if f.journal != nil {
		err = f.journal.Close()
	}
	return errors.Join(err, f.lock.Truncate(0), f.lock.Close())
}
