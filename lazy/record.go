package lazy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/lazy/cache"
)

// recordVersion is the version of what is kept of an image.
const recordVersion = 1

// record is what is kept of an image, as images/ID/image.json beside its metadata, see mountinfo.Metadata.
type record struct {
	Version int                 `json:"version"`
	Names   []string            `json:"names"`             // where it and its blobs lie, the latest first
	Subject *ocispec.Descriptor `json:"subject,omitempty"` // its manifest, if it was in a registry or layout
	Devices []string            `json:"devices"`           // keys in the order of the device table; "" with a path
	Stored  []string            `json:"stored"`            // for each device the digest of the blob in the store that is the device, or ""
	Bytes   int64               `json:"bytes"`
	Mounts  []mount             `json:"-"` // kept as mounts.json
}

type mount struct {
	Target string `json:"target"`
	Flags  int    `json:"flags"`
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *Service) imageFile(id, name string) string { return filepath.Join(s.root, "images", id, name) }

// save writes the record of an image.
func (s *Service) save(id string, r *record) error {
	r.Version = recordVersion
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return cache.Replace(s.imageFile(id, "image.json"), b)
}

// saveMounts writes where an image is mounted. It is not flushed: a process that ends leaves it whole, and a machine that ends has no mounts.
func (s *Service) saveMounts(id string, list []mount) error {
	b, err := json.Marshal(mounts{recordVersion, list})
	if err != nil {
		return err
	}
	name := s.imageFile(id, "mounts.json")
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		return err
	}
	return replaceQuickly(name+".new", name)
}

type mounts struct {
	Version int     `json:"version"`
	Mounts  []mount `json:"mounts"`
}

func (s *Service) readMounts(id string) ([]mount, error) {
	name := s.imageFile(id, "mounts.json")
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 { // a machine that lost its power may leave it empty
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m mounts
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if m.Version != recordVersion {
		return nil, fmt.Errorf("%s: format version %d, this program reads version %d; use a newer program or another folder", name, m.Version, recordVersion)
	}
	return m.Mounts, nil
}

func (s *Service) readRecord(id string) (*record, error) {
	name := s.imageFile(id, "image.json")
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("%s: format version %d, this program reads version %d; use a newer program or another folder", name, r.Version, recordVersion)
	}
	if len(r.Devices) != len(r.Stored) {
		return nil, fmt.Errorf("%s: it has %d devices and %d places in the store; remove the image and prepare it again", name, len(r.Devices), len(r.Stored))
	}
	for _, d := range r.Devices {
		if _, err := cache.ParseKey(d); err != nil {
			return nil, fmt.Errorf("%s: devices: %w", name, err)
		}
	}
	r.Mounts, err = s.readMounts(id)
	return &r, err
}

// records reads those of all images. One that cannot be read is told to the log and left out.
func (s *Service) records() (map[string]*record, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "images"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string]*record{}
	for _, e := range entries {
		if !idPattern.MatchString(e.Name()) {
			continue
		}
		r, err := s.readRecord(e.Name())
		if err != nil {
			s.log.Error("an image is left out", "image", e.Name(), "error", err)
			continue
		}
		all[e.Name()] = r
	}
	return all, nil
}
