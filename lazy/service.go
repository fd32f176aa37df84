package lazy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/filler"
	"github.com/weft-dev/weft/lazy/mountinfo"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/store"
)

// Service mounts images and fills them. It is safe for use by several goroutines. One process at a time uses a folder.
type Service struct {
	root        string
	options     Options
	log         *slog.Logger
	cache       *cache.Cache
	client      *registry.Client
	credentials *credentials
	order       *filler.Order
	guard       guard
	ahead       *readAhead
	reason      string
	lock        *os.File
	asks        order
	prefetching atomic.Int32

	ctx     context.Context //nolint:containedctx // background work belongs to the service
	stop    context.CancelFunc
	running sync.WaitGroup

	prepare sync.Mutex // one image is prepared or removed at a time

	mu      sync.Mutex
	images  map[string]*Image
	devices map[cache.Key]*device
}

// Open opens the service of a folder and makes the folder if it is missing. One that follows is opened when no other process serves the folder any more,
// or not: when the context ends, when another one follows, or when the keeper has ended for good.
func Open(ctx context.Context, o Options) (*Service, error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Learn == 0 {
		o.Learn = 30 * time.Second
	}
	s := &Service{root: root, options: o, log: o.Logger, images: map[string]*Image{}, devices: map[cache.Key]*device{}, order: filler.NewOrder(o.Limit),
		credentials: newCredentials(o.Registry.Keychain, o.Follow)}
	if s.cache, err = cache.Open(root); err != nil {
		return nil, err
	}
	ro := o.Registry
	ro.Keychain = s.credentials
	if ro.Stall == 0 {
		ro.Stall = 10 * time.Second
	}
	s.client = registry.New(ro)
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	// Another process that serves the folder is asked to end by way of the keeper, and then its lock is free.
	if s.guard, err = newGuard(ctx, s); err != nil {
		s.stop()
		return nil, err
	}
	if s.lock, err = lock(ctx, root, lockWait); err != nil {
		s.stop()
		return nil, errors.Join(err, s.guard.close())
	}
	if err := sign(s.lock, server{os.Getpid(), o.Follow}); err != nil {
		s.log.Warn("who serves the folder cannot be told", "error", err)
	}
	records, err := s.records()
	if err != nil {
		s.stop()
		return nil, errors.Join(err, s.guard.close(), s.lock.Close())
	}
	before := s.readCounts()
	for id, r := range records {
		s.images[id] = &Image{service: s, id: id, record: r}
		s.recall(s.images[id], before.Images[id])
	}
	s.guard.start()
	s.running.Go(s.saveAgainAndAgain)
	return s, nil
}

// lockWait is how long a process that serves the folder may take to end.
const lockWait = 5 * time.Second

// saveEvery is how often the disk is told what is present. What is not told is only lost when the machine stops.
const saveEvery = 5 * time.Second

func (s *Service) saveAgainAndAgain() {
	t := time.NewTicker(saveEvery)
	defer t.Stop()
	if err := s.saveCounts(); err != nil { // how images are filled is told from the beginning
		s.log.Warn("what was fetched cannot be told to others", "error", err)
	}
	for n := 1; ; n++ {
		select {
		case <-t.C:
		case <-s.ctx.Done():
			return
		}
		for _, d := range s.opened() {
			s.settle(d)
		}
		if err := s.saveCounts(); err != nil {
			s.log.Warn("what was fetched cannot be told to others", "error", err)
		}
		s.keepLimit()
		if n%askAgain == 0 {
			s.credentials.again()
		}
	}
}

// askAgain is how often, in ticks of saveEvery, others are asked for credentials, so that a stand-by has those that hold.
const askAgain = 12

// keepLimit drops what nothing mounts when the cache is larger than it may be.
func (s *Service) keepLimit() {
	if s.options.CacheLimit <= 0 {
		return
	}
	c, err := s.Collect(s.ctx, s.options.CacheLimit)
	if err != nil && s.ctx.Err() == nil {
		s.log.Error("the cache cannot be made smaller", "error", err)
	}
	if len(c.Dropped) > 0 {
		s.log.Info("content of images that nothing mounts was dropped", "devices", len(c.Dropped), "bytes", c.Bytes)
	}
}

func (s *Service) opened() []*device {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*device
	for _, d := range s.devices {
		if d.filler != nil {
			list = append(list, d)
		}
	}
	return list
}

// Close ends the service. What is mounted stays mounted; where a keeper guards it, readers wait for the next Open of the folder.
func (s *Service) Close() error {
	// Most of this goes before readers have to wait: the next process begins when all of it is on the disk.
	for _, d := range s.opened() {
		if err := d.filler.Device().Save(); err != nil {
			s.log.Error("what is present of a device cannot be written down", "device", d.key, "error", err)
		}
	}
	s.stop()
	s.running.Wait()
	err := errors.Join(s.saveCounts(), s.guard.close())
	for _, d := range s.opened() {
		d.filler.Close()
		err = errors.Join(err, d.filler.Device().Close())
	}
	s.client.Close()
	return errors.Join(err, s.lock.Close())
}

// Mode is how images are filled.
func (s *Service) Mode() Mode { return s.guard.mode() }

// Reason says why Mode is not the first choice of Auto; empty if it is, or if the mode was asked for.
func (s *Service) Reason() string { return s.reason }

// Images lists the prepared images, in the order of their IDs.
func (s *Service) Images() []*Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Image, 0, len(s.images))
	for _, im := range s.images {
		list = append(list, im)
	}
	slices.SortFunc(list, func(a, b *Image) int { return compare(a.id, b.id) })
	return list
}

// Image finds a prepared image; fs.ErrNotExist if there is none of that ID.
func (s *Service) Image(id string) (*Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	im, ok := s.images[id]
	if !ok {
		return nil, fmt.Errorf("there is no prepared image %q: %w", id, fs.ErrNotExist)
	}
	return im, nil
}

// Prepare gets an image's metadata, checks all of it, and makes its devices, without any content. An image that is prepared already gets
// the request's name and credentials in addition. ErrCannot or image.ErrOrdinary if the image is not one to be mounted lazily; image.Format
// errors if it is damaged.
func (s *Service) Prepare(ctx context.Context, r Request) (*Image, error) {
	f, err := s.Look(ctx, r)
	if err != nil {
		return nil, err
	}
	return s.PrepareFound(ctx, f)
}

// PrepareFound is the second half of Prepare: it makes what Look has found an image of this machine. The context of Look holds still: what is known of earlier
// starts may be on its way.
func (s *Service) PrepareFound(ctx context.Context, f *Found) (*Image, error) {
	im, err := s.prepareFound(ctx, f)
	if err != nil {
		return nil, err
	}
	if f.trace != nil {
		if err := s.keepTrace(im, f.trace); err != nil {
			s.log.Info("nothing is known of earlier starts", "image", f.name, "error", err)
		}
	}
	s.prefetchEarly(im)
	return im, nil
}

func (s *Service) prepareFound(ctx context.Context, f *Found) (*Image, error) {
	opened, name := f.opened, f.name
	sum := chunk.Blake3.Sum(opened.Metadata)
	id := hex.EncodeToString(sum[:])
	s.prepare.Lock()
	defer s.prepare.Unlock()
	if im, err := s.Image(id); err == nil {
		return im, im.rename(name, f.subject)
	}
	rec := &record{Names: []string{name}, Subject: f.subject}
	if err := s.addDevices(ctx, id, rec, opened.Table); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(s.imageFile(id, "")), 0o700); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.imageFile(id, ""), 0o700); err != nil {
		return nil, err
	}
	if err := cache.Replace(s.imageFile(id, mountinfo.Metadata), opened.Metadata); err != nil {
		return nil, err
	}
	if err := s.save(id, rec); err != nil {
		return nil, err
	}
	im := &Image{service: s, id: id, record: rec}
	s.mu.Lock()
	s.images[id] = im
	s.mu.Unlock()
	return im, nil
}

// addAtOnce is how many devices are made at the same time.
const addAtOnce = 16

// addDevices makes the devices of an image, all at once: each waits for the disk several times. A blob that is complete in the store and is its own device is
// mounted from there.
func (s *Service) addDevices(ctx context.Context, id string, rec *record, t *chunk.Table) error {
	keys, failures := make([]cache.Key, len(t.Devices)), make([]error, len(t.Devices))
	var adding sync.WaitGroup
	slots := make(chan struct{}, addAtOnce)
	for i := range t.Devices {
		slots <- struct{}{}
		adding.Go(func() {
			keys[i], failures[i] = s.cache.Add(&chunk.Table{Algorithm: t.Algorithm, Devices: t.Devices[i : i+1]})
			<-slots
		})
	}
	adding.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	var held []digest.Digest
	for i := range t.Devices {
		d := &t.Devices[i]
		stored := ""
		if blob := digest.NewDigestFromEncoded(digest.SHA256, d.Name()); d.Direct() && s.inStore(ctx, blob) {
			stored = string(blob)
			held = append(held, blob)
		}
		rec.Devices, rec.Stored, rec.Bytes = append(rec.Devices, keys[i].String()), append(rec.Stored, stored), rec.Bytes+d.Space
	}
	if len(held) == 0 {
		return nil
	}
	return s.options.Store.PutRoot(ctx, store.Root{Name: "lazy/" + id, Digests: held})
}

func (s *Service) inStore(ctx context.Context, d digest.Digest) bool {
	if s.options.Store == nil {
		return false
	}
	_, err := s.options.Store.Stat(ctx, d)
	return err == nil
}

// Remove removes an image that is not mounted, and the devices that no other image has. Removing one that is not there is no error.
func (s *Service) Remove(ctx context.Context, id string) error {
	s.prepare.Lock()
	defer s.prepare.Unlock()
	im, err := s.Image(id)
	if err != nil {
		return nil
	}
	if mounts := im.mounts(); len(mounts) > 0 {
		return fmt.Errorf("the image %s is mounted on %s: unmount it first", im.Name(), mounts[0].Target)
	}
	s.mu.Lock()
	delete(s.images, id)
	s.mu.Unlock()
	if err := os.RemoveAll(s.imageFile(id, "")); err != nil {
		return err
	}
	if s.options.Store != nil {
		if err := s.options.Store.DeleteRoot(ctx, "lazy/"+id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_, err = s.collect(ctx, -1)
	return err
}

// Collected says what a collection dropped.
type Collected struct {
	Dropped []cache.Info `json:"dropped"`
	Bytes   int64        `json:"bytes"` // that became free on the disk
	Kept    int          `json:"kept"`
	Disk    int64        `json:"disk"` // bytes that the rest takes
}

// Collect drops devices that no image has, and then content of images that are not mounted, the longest unused first, until the rest takes
// at most limit bytes on the disk; with a negative limit only the former. A dropped device is fetched again when it is needed.
func (s *Service) Collect(ctx context.Context, limit int64) (Collected, error) {
	s.prepare.Lock()
	defer s.prepare.Unlock()
	return s.collect(ctx, limit)
}

func (s *Service) collect(ctx context.Context, limit int64) (Collected, error) {
	c := Collected{Dropped: []cache.Info{}}
	list, err := s.Cached()
	if err != nil {
		return c, err
	}
	for _, d := range list {
		c.Disk += d.Disk
	}
	slices.SortStableFunc(list, func(a, b Cached) int { return a.Used.Compare(b.Used) })
	for _, d := range list {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		if d.Mounted || len(d.Images) > 0 && (limit < 0 || c.Disk <= limit) || len(d.Images) > 0 && d.Disk == 0 {
			c.Kept++
			continue
		}
		if err := s.drop(d); err != nil {
			return c, err
		}
		c.Dropped, c.Bytes, c.Disk = append(c.Dropped, d.Info), c.Bytes+d.Disk, c.Disk-d.Disk
	}
	return c, nil
}

// drop removes the content of a device, and the device if no image has it.
func (s *Service) drop(d Cached) error {
	key, err := cache.ParseKey(d.Key)
	if err != nil {
		return err
	}
	if err := s.forget(key); err != nil {
		return err
	}
	t, err := s.cache.Table(key)
	if err != nil {
		return err
	}
	if err := s.cache.Drop(key); err != nil || len(d.Images) == 0 {
		return err
	}
	_, err = s.cache.Add(t)
	return err
}

// Cached is a device in the cache.
type Cached struct {
	cache.Info
	Images  []string `json:"images"` // that have it
	Mounted bool     `json:"mounted"`
}

// Cached lists the devices in the cache.
func (s *Service) Cached() ([]Cached, error) {
	infos, err := s.cache.List(func(key string, err error) {
		s.log.Error("a device in the cache is damaged", "device", key, "error", err)
	})
	if err != nil {
		return nil, err
	}
	users := map[string][]*Image{}
	for _, im := range s.Images() {
		for _, k := range im.record.Devices {
			users[k] = append(users[k], im)
		}
	}
	list := make([]Cached, 0, len(infos))
	for _, i := range infos {
		c := Cached{Info: i, Images: []string{}}
		for _, im := range users[i.Key] {
			c.Images = append(c.Images, im.id)
			c.Mounted = c.Mounted || len(im.mounts()) > 0
		}
		list = append(list, c)
	}
	return list, nil
}
