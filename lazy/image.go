package lazy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/filler"
	"github.com/weft-dev/weft/lazy/trace"
)

// counters of what readers asked for.
type counters struct {
	events atomic.Int64
	failed atomic.Int64
}

// Image is a prepared image. It is safe for use by several goroutines.
type Image struct {
	service *Service
	id      string

	mu        sync.Mutex
	record    *record
	unguarded []string // mounts
	untold    []string // of these, those that nobody was told of
	learning  *learning
	early     chan struct{}                 // closed when what an earlier start read, which was asked for before the mount, is there; nil: it was not
	asked     struct{ reads, behind int64 } // by way of mounts that have ended; of the guard
}

// ID is the digest of the image's metadata, in hexadecimal.
func (im *Image) ID() string { return im.id }

// Name is the image's latest name.
func (im *Image) Name() string {
	if names := im.names(); len(names) > 0 {
		return names[0]
	}
	return im.id
}

func (im *Image) names() []string {
	im.mu.Lock()
	defer im.mu.Unlock()
	return slices.Clone(im.record.Names)
}

func (im *Image) mounts() []mount {
	im.mu.Lock()
	defer im.mu.Unlock()
	return slices.Clone(im.record.Mounts)
}

// forgive forgets that a mount was unguarded.
func (im *Image) forgive(target string) {
	im.mu.Lock()
	defer im.mu.Unlock()
	same := func(m string) bool { return m == target }
	im.unguarded, im.untold = slices.DeleteFunc(im.unguarded, same), slices.DeleteFunc(im.untold, same)
}

func (im *Image) untoldMounts() []string {
	im.mu.Lock()
	defer im.mu.Unlock()
	return slices.Clone(im.untold)
}

func (im *Image) has(key cache.Key) bool { return slices.Contains(im.record.Devices, key.String()) }

// rename puts a name in front of others, and gives the devices that are open the source.
func (im *Image) rename(name string, subject *ocispec.Descriptor) error {
	im.mu.Lock()
	names := slices.DeleteFunc(slices.Clone(im.record.Names), func(n string) bool { return n == name })
	im.record.Names = append([]string{name}, names...)
	if subject != nil {
		im.record.Subject = subject
	}
	err := im.service.save(im.id, im.record)
	im.mu.Unlock()
	if err != nil {
		return err
	}
	src, err := im.service.source(name)
	if err != nil {
		return err
	}
	for _, d := range im.service.opened() {
		if im.has(d.key) {
			d.filler.AddSource(src)
		}
	}
	return nil
}

// Mount mounts the image on a folder, read-only.
func (im *Image) Mount(ctx context.Context, target string, o MountOptions) error {
	target, err := resolve(target)
	if err != nil {
		return err
	}
	if st, err := os.Stat(target); err != nil || !st.IsDir() {
		return errors.Join(fmt.Errorf("%s is no folder to mount an image on", target), err)
	}
	// The record goes first: a mount that a crash hides from us would be one whose devices may be dropped.
	m := mount{target, o.Flags}
	if err := im.keep(func(list []mount) []mount { return append(list, m) }); err != nil {
		return err
	}
	if err := im.service.guard.mount(ctx, im, target, o.Flags); err != nil {
		return errors.Join(err, im.keep(func(list []mount) []mount { return without(list, target) }))
	}
	im.service.mounted(im)
	return nil
}

// resolve gives a path as the kernel names it.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, syscall.ENOTCONN) { // a mount that is cut off
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			return filepath.Join(dir, filepath.Base(path)), nil
		}
	}
	return resolved, err
}

func without(list []mount, target string) []mount {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Target == target {
			return slices.Delete(list, i, i+1)
		}
	}
	return list
}

// keep changes the list of mounts.
func (im *Image) keep(change func([]mount) []mount) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	before := im.record.Mounts
	im.record.Mounts = change(slices.Clone(before))
	if err := im.service.saveMounts(im.id, im.record.Mounts); err != nil {
		im.record.Mounts = before
		return err
	}
	return nil
}

// Unmount unmounts the image from a folder. One that is not mounted there is no error.
func (im *Image) Unmount(ctx context.Context, target string) error {
	target, err := resolve(target)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := im.service.guard.unmount(ctx, im, target); err != nil {
		return err
	}
	if !slices.ContainsFunc(im.mounts(), func(m mount) bool { return m.Target == target }) {
		return nil // devices of an image that is about to be mounted are filled already
	}
	im.learned()
	im.forgive(target)
	if err := im.keep(func(list []mount) []mount { return without(list, target) }); err != nil {
		return err
	}
	return im.service.unused(im)
}

// Fetch gets everything of the image that is missing.
func (im *Image) Fetch(ctx context.Context) error { return im.fetch(ctx, filler.Background) }

func (im *Image) fetch(ctx context.Context, class filler.Class) error {
	var failures []error
	for i := range im.record.Devices {
		if im.record.Stored[i] != "" {
			continue
		}
		if im.completeOnDisk(i) {
			continue
		}
		d, err := im.device(i)
		if err == nil {
			err = d.filler.Rest(ctx, class)
			im.service.settle(d)
		}
		failures = append(failures, err)
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("%s: %w", im.Name(), err)
	}
	return nil
}

// device opens a device of the image, counted from 0.
func (im *Image) device(i int) (*device, error) {
	key, err := cache.ParseKey(im.record.Devices[i])
	if err != nil {
		return nil, damaged(im.id, err)
	}
	return im.service.device(key)
}

// completeOnDisk says whether nothing is missing of a device and it needs not be opened.
func (im *Image) completeOnDisk(i int) bool {
	key, err := cache.ParseKey(im.record.Devices[i])
	if err != nil {
		return false
	}
	return im.service.cache.Complete(key)
}

// Stats says what is there of the image, and what was done for it.
func (im *Image) Stats() Stats {
	s := Stats{ID: im.id, Names: im.names(), Mode: im.service.Mode(), Bytes: im.record.Bytes, Devices: len(im.record.Devices), Mounts: []string{}}
	for _, m := range im.mounts() {
		s.Mounts = append(s.Mounts, m.Target)
	}
	_, err := os.Stat(im.service.traceFile(im.id))
	s.Learned = err == nil
	s.Asked, s.Through = im.service.guard.asked(im)
	im.mu.Lock()
	s.Unguarded = slices.Clone(im.unguarded)
	im.mu.Unlock()
	for i, k := range im.record.Devices {
		key, err := cache.ParseKey(k)
		if err != nil {
			continue
		}
		im.service.add(&s, key, im.record.Stored[i] != "")
	}
	return s
}

// add adds what is known of a device.
func (s *Service) add(stats *Stats, key cache.Key, stored bool) {
	s.mu.Lock()
	d := s.devices[key]
	var f *filler.Filler
	if d != nil {
		f = d.filler
	}
	s.mu.Unlock()
	if f == nil {
		info, err := s.cache.Stat(key)
		if stored {
			info.Present, info.Complete = info.Space, true
		}
		if err == nil {
			stats.Present += info.Present
		}
		if info.Complete {
			stats.Complete++
		}
		return
	}
	stats.Present += f.Device().Present()
	if f.Device().Saved() {
		stats.Complete++
	}
	for c := filler.Demand; c <= filler.Background; c++ {
		stats.Fetched += d.counters.Fetched[c].Load()
	}
	stats.Prefetch += d.counters.Fetched[filler.Prefetch].Load()
	stats.Events += d.reads.events.Load()
	stats.Read += f.Device().Read().Count() * chunk.Block
	stats.Failed += d.reads.failed.Load()
}

// mounted begins what goes on while an image is mounted.
func (s *Service) mounted(im *Image) {
	if s.Mode() == Eager {
		return
	}
	var known *trace.Trace
	if s.options.Learn > 0 {
		var err error
		if known, err = s.readTrace(im); err != nil {
			s.log.Warn("what an earlier start read is not known", "image", im.Name(), "error", err)
		}
		s.beginLearning(im, known)
	}
	if known == nil && !s.options.Background {
		return
	}
	early := im.takeEarly()
	s.running.Go(func() {
		switch {
		case early != nil:
			<-early
		case known != nil:
			s.prefetch(s.ctx, im, known)
		}
		if !s.options.Background || !s.untilQuiet() || len(im.mounts()) == 0 {
			return
		}
		if err := im.Fetch(s.ctx); err != nil && s.ctx.Err() == nil {
			s.log.Warn("the rest of an image is not there", "image", im.Name(), "error", err)
		}
	})
}

// silence is how long nobody may have asked for anything before the rest is fetched. Then a start does not share its line, and what it reads is seen.
const silence = 2 * time.Second

// untilQuiet waits for that; false if the service ends before.
func (s *Service) untilQuiet() bool {
	for before := s.asks.total(); ; {
		select {
		case <-time.After(silence):
		case <-s.ctx.Done():
			return false
		}
		now := s.asks.total()
		if now == before {
			return true
		}
		before = now
	}
}

// unused closes the devices of an image that no image has mounted any more.
func (s *Service) unused(im *Image) error {
	busy := map[string]bool{}
	for _, other := range s.Images() {
		if len(other.mounts()) > 0 {
			for _, k := range other.record.Devices {
				busy[k] = true
			}
		}
	}
	var keys []cache.Key
	for _, k := range im.record.Devices {
		if key, err := cache.ParseKey(k); err == nil && !busy[k] {
			keys = append(keys, key)
			busy[k] = true
		}
	}
	return s.forget(keys...)
}
