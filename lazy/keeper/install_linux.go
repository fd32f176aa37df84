package keeper

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Install copies a program into a folder, under a name that begins with prefix and says what it holds, and removes those of other versions: one that runs
// goes on. The folder is one that outlives the place of the program, such as a pod's image.
func Install(program, dir, prefix string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	in, err := os.Open(program)
	if err != nil {
		return "", err
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return "", fmt.Errorf("installing %s: %w", program, err)
	}
	name := prefix + hex.EncodeToString(sum.Sum(nil)[:8])
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := copyProgram(in, path); err != nil {
			return "", fmt.Errorf("installing %s: %w", program, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name() != name && strings.HasPrefix(e.Name(), prefix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return "", err
			}
		}
	}
	return path, nil
}

func copyProgram(in *os.File, path string) error {
	out, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // unless it has its name
	_, err = io.Copy(out, io.NewSectionReader(in, 0, 1<<40))
	if err := errors.Join(err, out.Chmod(0o700), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}
