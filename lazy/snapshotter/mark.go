//go:build linux

package snapshotter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// Kind says what a snapshot that was not unpacked by containerd holds.
type Kind string

// The kinds.
const (
	Mounted  Kind = "mounted"  // the whole image is mounted on its folder
	Empty    Kind = "empty"    // nothing: it lies below a mounted one
	Unpacked Kind = "unpacked" // all layers up to this one, unpacked together
)

// markVersion is the version of mark's form.
const markVersion = 1

// mark is the file beside a snapshot's folder that says which image's layer it stands for.
type mark struct {
	Version   int           `json:"version"`
	Kind      Kind          `json:"kind"`
	Reference string        `json:"reference"` // as the image was asked for
	Manifest  digest.Digest `json:"manifest"`  // of the ordinary image, or of the Nydus image if it was asked for
	Chain     digest.Digest `json:"chain"`     // the layer's chainID (image-spec, config.md)
}

// image is the image that the mark names.
func (m *mark) image() Name { return Name{Reference: m.Reference, Manifest: m.Manifest} }

func (s *Snapshotter) markFile(id string) string {
	return filepath.Join(s.root, "snapshots", id, "image.json")
}

// readMark reads the mark of a snapshot: nil if it has none.
func (s *Snapshotter) readMark(id string) (*mark, error) {
	b, err := os.ReadFile(s.markFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseMark(b, s.markFile(id))
}

func parseMark(b []byte, file string) (*mark, error) {
	var m mark
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%s: %w; remove the image and pull it again", file, err)
	}
	if m.Version != markVersion {
		return nil, fmt.Errorf("%s has version %d and this program knows version %d: use the newer program", file, m.Version, markVersion)
	}
	if m.Kind != Mounted && m.Kind != Empty && m.Kind != Unpacked {
		return nil, fmt.Errorf("%s: kind %q is none of mounted, empty and unpacked", file, m.Kind)
	}
	for _, d := range []digest.Digest{m.Manifest, m.Chain} {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("%s: the digest %q: %w", file, d, err)
		}
	}
	return &m, nil
}

// writeMark writes the mark of a snapshot, as a whole or not at all.
func (s *Snapshotter) writeMark(id string, m mark) error {
	m.Version = markVersion
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	file := s.markFile(id)
	f, err := os.CreateTemp(filepath.Dir(file), "image-*.json")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
