// Package hostfs lends a program the files of this machine.
package hostfs

import (
	"io/fs"
	"os"
	"path/filepath"
)

// FS is the file system of this machine; relative names are meant from Dir. It
// is a value.WriteFileSystem.
type FS struct{ Dir string }

// Path is a name made absolute.
func (s FS) Path(name string) string {
	if filepath.IsAbs(name) || s.Dir == "" {
		return name
	}
	return filepath.Join(s.Dir, name)
}

// Open implements fs.FS.
func (s FS) Open(name string) (fs.File, error) { return os.Open(s.Path(name)) }

// Stat implements fs.StatFS.
func (s FS) Stat(name string) (fs.FileInfo, error) { return os.Stat(s.Path(name)) }

// ReadFile implements fs.ReadFileFS.
func (s FS) ReadFile(name string) ([]byte, error) { return readFile(s.Path(name)) }

// ReadDir implements fs.ReadDirFS.
func (s FS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(s.Path(name)) }

// MkdirAll makes a folder and those above it.
func (s FS) MkdirAll(name string) error { return os.MkdirAll(s.Path(name), 0o755) }

// Rename gives a file another name.
func (s FS) Rename(from, to string) error { return os.Rename(s.Path(from), s.Path(to)) }

// Remove removes a file or an empty folder.
func (s FS) Remove(name string) error { return os.Remove(s.Path(name)) }

// WriteFile writes a file or appends to it.
func (s FS) WriteFile(name string, data []byte, appending bool) error {
	mode := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if appending {
		mode = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	f, err := os.OpenFile(s.Path(name), mode, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// RealPath resolves symbolic links, as file.abs does.
func (s FS) RealPath(name string) (string, error) { return filepath.EvalSymlinks(s.Path(name)) }
