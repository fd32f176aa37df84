package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The mark of a state folder.
const (
	markName   = "weft-state.json"
	markFormat = "weft-state"
	// FolderVersion is the version of the folder's layout. A program reads this version and the one before and refuses a newer one.
	FolderVersion = 1
)

type mark struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// NotStateError says that a folder was not made by Create.
type NotStateError struct{ Dir string }

func (e *NotStateError) Error() string {
	return fmt.Sprintf("%s is not a state folder of weft (it has no %s)", e.Dir, markName)
}

// Create makes a state folder, readable by its owner alone, or checks the one that is there. It refuses a folder that holds
// other things.
func Create(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	err := Check(dir)
	var not *NotStateError
	if !errors.As(err, &not) {
		return err
	}
	switch empty, err := isEmpty(dir); {
	case err != nil:
		return err
	case !empty:
		return fmt.Errorf("%w, and it is not empty: choose another folder with --state", not)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("protect the state folder: %w", err)
	}
	b, err := json.Marshal(mark{markFormat, FolderVersion})
	if err != nil {
		return err
	}
	// Written aside and renamed, so that a full disk or an interruption never leaves half a mark.
	temp := filepath.Join(dir, "."+markName)
	if err := os.WriteFile(temp, append(b, '\n'), 0o600); err != nil {
		return errors.Join(fmt.Errorf("mark the state folder: %w", err), os.Remove(temp))
	}
	return os.Rename(temp, filepath.Join(dir, markName))
}

// Check says whether dir is a state folder of a version that this program can use: a *NotStateError when it is none.
func Check(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && !info.IsDir() {
		return &NotStateError{dir}
	}
	b, err := os.ReadFile(filepath.Join(dir, markName))
	if errors.Is(err, os.ErrNotExist) {
		return &NotStateError{dir}
	}
	if err != nil {
		return err
	}
	var m mark
	if json.Unmarshal(b, &m) != nil || m.Format != markFormat || m.Version < 1 {
		return &NotStateError{dir}
	}
	if m.Version > FolderVersion {
		return fmt.Errorf("the state folder %s has version %d, made by a newer weft; this one reads up to version %d: use the newer weft, or another folder with --state",
			dir, m.Version, FolderVersion)
	}
	return nil
}

// isEmpty ignores a mark that an interruption left unfinished.
func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	for _, n := range names {
		if n != "."+markName {
			return false, nil
		}
	}
	return true, nil
}
