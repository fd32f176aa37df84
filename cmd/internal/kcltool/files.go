package kcltool

import (
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/weft-dev/weft/kcl/hostfs"
)

// machine is the file system of this machine; relative names are meant from
// the working folder. It notes what was read, for --watch.
type machine struct {
	hostfs.FS

	mu sync.Mutex
	// seen is how what was read looked before; nil when nobody watches.
	seen map[string]fileState
}

func (t *Tool) machine() *machine { return &machine{FS: hostfs.FS{Dir: t.Dir}} }

func (m *machine) path(name string) string {
	name = m.Path(name)
	if m.seen != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, ok := m.seen[name]; !ok {
			m.seen[name] = stateOf(name)
		}
	}
	return name
}

func (m *machine) Open(name string) (fs.File, error)          { return m.FS.Open(m.path(name)) }
func (m *machine) Stat(name string) (fs.FileInfo, error)      { return m.FS.Stat(m.path(name)) }
func (m *machine) ReadFile(name string) ([]byte, error)       { return m.FS.ReadFile(m.path(name)) }
func (m *machine) ReadDir(name string) ([]fs.DirEntry, error) { return m.FS.ReadDir(m.path(name)) }

// relative is a name as seen from the working folder, when it lies below it.
func (t *Tool) relative(name string) string {
	rel, err := filepath.Rel(t.Dir, name)
	if err != nil || !filepath.IsLocal(rel) {
		return name
	}
	return rel
}
