package lazy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrBusy says that another process serves a folder.
var ErrBusy = errors.New("another process serves the folder")

// server is the process that serves a folder, as the file lock has it for people.
type server struct {
	PID      int  `json:"pid"`
	StandsIn bool `json:"standsIn"` // it stood by before
}

// sign writes down who has the lock.
func sign(f *os.File, s server) error {
	b, err := json.Marshal(s)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	return err
}

// signed is who has the lock; the zero value if that cannot be read.
func signed(root string) server {
	var s server
	b, err := os.ReadFile(filepath.Join(root, "lock"))
	if err != nil || json.Unmarshal(b, &s) != nil {
		return server{}
	}
	return s
}

// lock makes sure that one process serves a folder. It waits for one that is ending.
func lock(ctx context.Context, root string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(root, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(wait); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) || ctx.Err() != nil {
			if errors.Is(err, syscall.EWOULDBLOCK) {
				err = fmt.Errorf("%s: %w", root, ErrBusy)
			}
			return nil, errors.Join(err, f.Close())
		}
		time.Sleep(2 * time.Millisecond)
	}
}
