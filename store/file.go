package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const temporaryPrefix = ".tmp-"

func isTemporary(name string) bool { return strings.HasPrefix(name, temporaryPrefix) }

// writeFile puts data at path so that a crash leaves either the old or the new content.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), temporaryPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, which is what is wanted
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return rename(f.Name(), path)
}

// rename moves a flushed file to its place and flushes the folder.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// syncDir flushes a folder, so that a name in it survives a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// makeDir makes dir and its missing parents and flushes every folder that got a new name. It never goes above base.
func makeDir(base, dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil {
		return syncDir(filepath.Dir(dir))
	} else if errors.Is(err, os.ErrExist) {
		return nil
	} else if !errors.Is(err, os.ErrNotExist) || dir == base {
		return err
	}
	if err := makeDir(base, filepath.Dir(dir)); err != nil {
		return err
	}
	return makeDir(base, dir)
}

// explain turns a full disk or a used-up quota into an error that says where and what to do.
func (s *Store) explain(err error) error {
	if err == nil || errors.Is(err, ErrFull) {
		return err
	}
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	free := ""
	var st unix.Statfs_t
	if unix.Statfs(s.dir, &st) == nil {
		free = fmt.Sprintf(" (%d bytes free)", st.Bavail*uint64(st.Bsize))
	}
	return fmt.Errorf("%w: %s%s; make room on that disk or remove unused content, then try again: %w", ErrFull, s.dir, free, err)
}
