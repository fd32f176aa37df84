package buildpack

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/weft-dev/weft/buildpack/spec"
)

// marksVersion is the format of marks on disk.
const marksVersion = 1

// marks remember what the kept layers looked like when they were exported, so that a layer that nobody has touched need not be read
// again. The kernel notes every change of a file in its change time, which programs cannot set.
type marks struct {
	file    string
	layers  string
	mu      sync.Mutex
	present map[string]string // layer -> mark, computed in this build
	before  map[string]mark
}

// mark is a layer as it was exported.
type mark struct {
	Mark   string `json:"mark"`
	DiffID string `json:"diffId"`
}

type marksFile struct {
	Version int             `json:"version"`
	Layers  map[string]mark `json:"layers"`
}

// layerMarks reads the marks of the last build; unreadable ones count for nothing.
func (b *build) layerMarks(w *work) *marks {
	m := &marks{file: filepath.Join(b.state, "marks.json"), layers: w.folders.Layers.Host, present: map[string]string{}}
	var f marksFile
	data, err := os.ReadFile(m.file)
	if err == nil && json.Unmarshal(data, &f) == nil && f.Version == marksVersion {
		m.before = f.Layers
	}
	return m
}

// diffID gives the diffID that a layer folder (ID/NAME) had when it was as it is now, "" if that is not known.
func (m *marks) diffID(dir string) string {
	m.mu.Lock()
	known, ok := m.before[dir]
	m.mu.Unlock()
	if !ok {
		return ""
	}
	now, err := m.look(dir)
	if err != nil || now != known.Mark {
		return ""
	}
	return known.DiffID
}

func (m *marks) look(dir string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.present[dir]; known != "" {
		return known, nil
	}
	looks, err := markOf(filepath.Join(m.layers, dir))
	if err != nil {
		return "", err
	}
	m.present[dir] = looks
	return m.present[dir], nil
}

// markOf sums up what a folder looks like from outside: names, modes, sizes and times of all that is in it, but no contents.
func markOf(root string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: its times are not known", name)
		}
		fmt.Fprintf(h, "%s\x00%o %d %d %d %d %d\n", name[len(root):], info.Mode(), info.Size(), info.ModTime().UnixNano(), changeTime(st), st.Ino, st.Uid)
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// save remembers the layers that are kept for the next build.
func (m *marks) save(md spec.LayersMetadata) error {
	f := marksFile{Version: marksVersion, Layers: map[string]mark{}}
	for _, bp := range md.Buildpacks {
		for name, l := range bp.Layers {
			if !l.Cache || l.SHA == "" {
				continue
			}
			dir := path.Join(spec.EscapeID(bp.ID), name)
			looks, err := m.look(dir)
			if err != nil {
				return err
			}
			f.Layers[dir] = mark{looks, l.SHA}
		}
	}
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.WriteFile(m.file+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(m.file+".new", m.file)
}
