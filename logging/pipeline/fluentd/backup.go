package fluentd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// backup is where chunks are kept that can never be delivered: below root_dir, or the folder for temporary files, which others may write into.
type backup struct {
	base   string   // a folder
	parts  []string // of the folders below it
	shared bool     // others may write into base
}

// newBackup is the place of an output's chunks.
func newBackup(root, output string) *backup {
	name := strings.NewReplacer("/", "_", "\x00", "_").Replace(output)
	if name == "." || name == ".." {
		name = "_" + name
	}
	if root == "" {
		return &backup{os.TempDir(), []string{"fluent", "backup", "worker0", name}, true}
	}
	return &backup{root, []string{"backup", "worker0", name}, false}
}

// keep writes a file that is there for this user alone, and gives its name. It follows no link, and of a folder that others can write into it uses only
// folders that are this user's and that nobody else can change.
func (b *backup) keep(name string, data []byte) (string, error) {
	if !b.shared {
		if err := os.MkdirAll(b.base, 0o700); err != nil {
			return "", err
		}
	}
	root, err := os.OpenRoot(b.base)
	if err != nil {
		return "", err
	}
	defer root.Close()
	folder := "."
	for _, part := range b.parts {
		folder = filepath.Join(folder, part)
		if err := root.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		info, err := root.Lstat(folder)
		if err != nil {
			return "", err
		}
		if !info.IsDir() || b.shared && !ownedAlone(info) {
			return "", fmt.Errorf("%s is no folder that belongs to this user alone; remove it, or set root_dir in <system>", filepath.Join(b.base, folder))
		}
	}
	file := filepath.Join(folder, name)
	out, err := root.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = out.Write(data)
	if err = errors.Join(err, out.Close()); err != nil {
		return "", errors.Join(err, root.Remove(file))
	}
	return filepath.Join(b.base, file), nil
}

// ownedAlone tells whether a folder is this user's, and nobody else may write into it.
func ownedAlone(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && info.Mode().Perm()&0o022 == 0
}
