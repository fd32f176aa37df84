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

// installPrefix begins the name of an installed program.
const installPrefix = "keeper-"

// Install copies a program into a folder, under a name that says what it holds, and removes those of other versions: one that runs goes on. The folder is
// one that outlives the place of the program, such as a pod's image.
func Install(program, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	in, err := os.Open(program)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name()) // unless it has its name
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, sum), in)
	if err := errors.Join(err, out.Chmod(0o700), out.Sync(), out.Close()); err != nil {
		return "", fmt.Errorf("installing %s: %w", program, err)
	}
	name := installPrefix + hex.EncodeToString(sum.Sum(nil)[:8])
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(out.Name(), path)
		if err != nil {
			return "", err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name() != name && strings.HasPrefix(e.Name(), installPrefix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return "", err
			}
		}
	}
	return path, nil
}
