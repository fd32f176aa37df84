package kcltool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// watchEvery is how often the files of a program are looked at. Looking is
// used instead of notifications because it works on every file system.
const watchEvery = 300 * time.Millisecond

// watch runs the program again whenever one of the files or folders that it
// read has changed, until ctx ends.
func (t *Tool) watch(ctx context.Context, o *runOptions, args []string) error {
	for {
		files := t.machine()
		files.seen = map[string]fileState{}
		flags := *o
		if err := t.report(t.run(ctx, &flags, args, files), o.errorFormat, !o.noStyle); err != nil && ctx.Err() == nil {
			if failure := (*Failure)(nil); !errors.As(err, &failure) {
				return err
			}
		}
		for files.unchanged() {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(watchEvery):
			}
		}
		fmt.Fprintln(t.Err, "--- changed, running again ---")
	}
}

// fileState is how a file or folder looks; the zero value is one that is not
// there.
type fileState struct {
	size    int64
	changed time.Time
}

func stateOf(name string) fileState {
	info, err := os.Stat(name)
	if err != nil {
		return fileState{}
	}
	return fileState{info.Size(), info.ModTime()}
}

// unchanged reports whether all that was read looks as it did before it was
// read.
func (m *machine) unchanged() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, before := range m.seen {
		if stateOf(name) != before {
			return false
		}
	}
	return true
}
