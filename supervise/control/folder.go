package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Files of levels in a state folder. While LevelsOff is there the door of the API server is open; LevelsAudit is the chain of its audit records.
const (
	LevelsOff   = "levels-off"
	LevelsAudit = "logs/levels-audit.jsonl"
)

// The mark of a state folder.
const (
	MarkName   = "weft-state.json" // the file that makes a folder a state folder
	markFormat = "weft-state"
	// FolderVersion is the version of the folder's layout. A program reads this version and the one before and refuses a newer one.
	FolderVersion = 1
)

type mark struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// NotStateError says that a folder was not made by Create.
type NotStateError struct {
	Dir    string
	Broken bool // it has the mark, but one that cannot be understood
}

func (e *NotStateError) Error() string {
	if e.Broken {
		return fmt.Sprintf("%s is not a state folder of weft (its %s is not one that weft wrote)", e.Dir, MarkName)
	}
	return fmt.Sprintf("%s is not a state folder of weft (it has no %s)", e.Dir, MarkName)
}

// Create makes a state folder, readable by its owner alone, or checks the one that is there. It refuses a folder that holds
// other things.
func Create(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	err := Check(dir)
	var not *NotStateError
	if !errors.As(err, &not) || not.Broken {
		return err
	}
	switch empty, err := isEmpty(dir); {
	case err != nil:
		return err
	case !empty:
		if Check(dir) == nil {
			return nil // another start has made it in between, and is filling it
		}
		return fmt.Errorf("%w, and it is not empty: choose another folder with --state", not)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("protect the state folder: %w", err)
	}
	b, err := json.Marshal(mark{markFormat, FolderVersion})
	if err != nil {
		return err
	}
	return writeMark(dir, append(b, '\n'))
}

// writeMark writes aside and renames, so that a full disk or an interruption never leaves half a mark, and two that begin at once
// do not disturb each other.
func writeMark(dir string, b []byte) error {
	f, err := os.CreateTemp(dir, tempPrefix+"*") // of mode 0600
	if err != nil {
		return fmt.Errorf("mark the state folder: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, MarkName))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("mark the state folder: %w", err), os.Remove(f.Name()))
	}
	return nil
}

const tempPrefix = "." + MarkName

// Check says whether dir is a state folder of a version that this program can use: a *NotStateError when it is none.
func Check(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && !info.IsDir() {
		return &NotStateError{dir, false}
	}
	b, err := os.ReadFile(filepath.Join(dir, MarkName))
	if errors.Is(err, os.ErrNotExist) {
		return &NotStateError{dir, false}
	}
	if err != nil {
		return err
	}
	var m mark
	if json.Unmarshal(b, &m) != nil || m.Format != markFormat || m.Version < 1 {
		return &NotStateError{dir, true}
	}
	if m.Version > FolderVersion {
		return fmt.Errorf("the state folder %s has version %d, made by a newer weft; this one reads up to version %d: use the newer weft, or another folder with --state",
			dir, m.Version, FolderVersion)
	}
	return nil
}

// isEmpty ignores marks that are being written, or that an interruption left unfinished.
func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() != MarkName && !strings.HasPrefix(e.Name(), tempPrefix) {
			return false, nil
		}
	}
	return true, nil
}

// Leftover says whether a supervisor of this folder ended without Close, so that something of its cluster may be left on the machine.
// It has a meaning only while there is no supervisor.
func Leftover(state string) bool {
	_, err := os.Lstat(filepath.Join(runDir(state), socketName))
	return err == nil
}

// ClearLeftover notes that what a killed supervisor left was removed.
func ClearLeftover(state string) error {
	err := os.Remove(filepath.Join(runDir(state), socketName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
