package lazy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/filler"
)

// device is a device that an image has. It is opened when something wants it.
type device struct {
	key      cache.Key
	counters filler.Counters
	reads    counters
	released atomic.Bool // the content is not kept in memory twice any more

	open   sync.Mutex
	filler *filler.Filler
}

// device finds the device of a key and opens it.
func (s *Service) device(key cache.Key) (*device, error) {
	s.mu.Lock()
	d, ok := s.devices[key]
	if !ok {
		d = &device{key: key}
		s.devices[key] = d
	}
	s.mu.Unlock()
	d.open.Lock()
	defer d.open.Unlock()
	if d.filler != nil {
		return d, nil
	}
	m, err := s.guard.open(key)
	if err != nil {
		return nil, err
	}
	dev, err := s.cache.Load(key, m.maps, m.file, func(err error) { s.log.Warn("a device begins empty", "error", err) })
	if err != nil {
		return nil, err
	}
	sources := s.sources(key)
	s.mu.Lock()
	d.filler = filler.New(dev, filler.Options{Ahead: s.options.ReadAhead, Known: &s.prefetching, Deadline: s.options.Deadline, Order: s.order}, &d.counters, sources...)
	s.mu.Unlock()
	return d, nil
}

// sources are the places where the blob of a device may lie: the store, and where the images that have it come from.
func (s *Service) sources(key cache.Key) []filler.Source {
	var list []filler.Source
	if s.options.Store != nil {
		list = append(list, filler.FromFolder("the content store", func(d *chunk.Device) (string, error) {
			return s.options.Store.Path(s.ctx, digest.NewDigestFromEncoded(digest.SHA256, d.Name()))
		}))
	}
	seen := map[string]bool{}
	for _, im := range s.Images() {
		if !im.has(key) {
			continue
		}
		for _, name := range im.names() {
			if seen[name] {
				continue
			}
			seen[name] = true
			src, err := s.source(name)
			if err != nil {
				s.log.Warn("a source is left out", "name", name, "error", err)
				continue
			}
			list = append(list, src)
		}
	}
	return list
}

// source opens a name as a source.
func (s *Service) source(name string) (filler.Source, error) {
	if filepath.IsAbs(name) {
		dir := name
		if st, err := os.Stat(name); err == nil && !st.IsDir() {
			dir = filepath.Dir(name)
		}
		return filler.FromFolder(name, func(d *chunk.Device) (string, error) { return filepath.Join(dir, d.Name()), nil }), nil
	}
	p, err := s.place(name)
	if err != nil {
		return nil, err
	}
	return filler.FromPlace(name, strings.HasPrefix(name, "oci:"), p), nil
}

func archive(name string) bool {
	return strings.HasPrefix(name, "oci-archive:") || strings.HasPrefix(name, "docker-archive:")
}

// settle lets the disk know what is present of a device, and lets the kernel alone with one that is complete.
func (s *Service) settle(d *device) {
	dev := d.filler.Device()
	if err := dev.Save(); err != nil {
		s.log.Error("what is present of a device cannot be written down", "device", d.key, "error", err)
		return
	}
	if dev.Saved() {
		if err := s.guard.unwatch(d.key); err != nil {
			s.log.Error("a complete device is still watched", "device", d.key, "error", err)
		}
	}
}

// forget closes devices that nothing has mounted.
func (s *Service) forget(keys ...cache.Key) error {
	var open []*device
	s.mu.Lock()
	for _, key := range keys {
		if d := s.devices[key]; d != nil && d.filler != nil {
			open = append(open, d)
		}
		delete(s.devices, key)
	}
	s.mu.Unlock()
	if err := s.guard.forget(keys...); err != nil {
		return err
	}
	var failures []error
	for _, d := range open {
		d.filler.Close()
		failures = append(failures, d.filler.Device().Close())
	}
	return errors.Join(failures...)
}

// path is where the kernel finds a device.
func (s *Service) path(im *Image, i int) (string, error) {
	if stored := im.record.Stored[i]; stored != "" {
		return s.options.Store.Path(s.ctx, digest.Digest(stored))
	}
	key, err := cache.ParseKey(im.record.Devices[i])
	if err != nil {
		return "", err
	}
	return s.cache.Path(key), nil
}

func compare(a, b string) int { return strings.Compare(a, b) }

// damaged explains what to do about an image whose state is damaged.
func damaged(id string, err error) error {
	return fmt.Errorf("the state of image %s: %w; remove the image and prepare it again", id, err)
}

var _ image.Blobs = blobsOf{}
