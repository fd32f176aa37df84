package kcltool

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// machine is the file system of this machine; relative names are meant from
// dir. It notes what was read, for --watch.
type machine struct {
	dir   string
	watch bool

	mu   sync.Mutex
	seen map[string]bool
}

func (m *machine) path(name string) string {
	if !filepath.IsAbs(name) {
		name = filepath.Join(m.dir, name)
	}
	if m.watch {
		m.mu.Lock()
		m.seen[name] = true
		m.mu.Unlock()
	}
	return name
}

func (m *machine) Open(name string) (fs.File, error)          { return os.Open(m.path(name)) }
func (m *machine) Stat(name string) (fs.FileInfo, error)      { return os.Stat(m.path(name)) }
func (m *machine) ReadFile(name string) ([]byte, error)       { return os.ReadFile(m.path(name)) }
func (m *machine) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(m.path(name)) }
func (m *machine) MkdirAll(name string) error                 { return os.MkdirAll(m.path(name), 0o755) }
func (m *machine) Rename(from, to string) error               { return os.Rename(m.path(from), m.path(to)) }

// Remove removes a file or an empty folder.
func (m *machine) Remove(name string) error { return os.Remove(m.path(name)) }

func (m *machine) WriteFile(name string, data []byte, appending bool) error {
	mode := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if appending {
		mode = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	f, err := os.OpenFile(m.path(name), mode, 0o644)
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
func (m *machine) RealPath(name string) (string, error) { return filepath.EvalSymlinks(m.path(name)) }

// relative is a name as seen from the working folder, when it lies below it.
func (t *Tool) relative(name string) string {
	rel, err := filepath.Rel(t.Dir, name)
	if err != nil || !filepath.IsLocal(rel) {
		return name
	}
	return rel
}
