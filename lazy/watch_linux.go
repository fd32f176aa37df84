package lazy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/fanotify"
	"github.com/weft-dev/weft/lazy/filler"
	"github.com/weft-dev/weft/lazy/keeper"
)

// watch lets the kernel ask before it reads from devices that are not complete.
type watch struct {
	service *Service
	client  *keeper.Client

	mu    sync.Mutex
	kept  map[cache.Key]keeper.Device
	files map[[2]uint64]cache.Key // by number of the file system and inode: events may come after a device was let go
}

func newWatch(ctx context.Context, s *Service) (*watch, error) {
	if err := fanotify.Check(s.root); err != nil {
		return nil, fmt.Errorf("%w with fanotify: %w", ErrCannot, err)
	}
	if err := refuse(s.root); err != nil {
		return nil, err
	}
	w := &watch{service: s, kept: map[cache.Key]keeper.Device{}, files: map[[2]uint64]cache.Key{}}
	program := s.options.Keeper
	if program == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		program = []string{self, "keeper"}
	}
	run := filepath.Join(s.root, "run")
	say := func(format string, args ...any) { s.log.Info(fmt.Sprintf(format, args...)) }
	client, err := keeper.Attach(ctx, keeper.ClientOptions{
		Dir: run, Program: append(program[:len(program):len(program)], run), Handle: w.handle, Retire: s.options.Retire, Lost: w.lost, Say: say,
	})
	if err != nil {
		return nil, err
	}
	w.client = client
	for _, d := range client.Devices() {
		w.kept[d.Key] = d
	}
	w.readSecrets()
	return w, nil
}

func (w *watch) start() { w.client.Start() }

func (w *watch) mode() Mode { return Fanotify }

// open takes what an earlier worker knew of a device from the keeper, or gives it the device.
func (w *watch) open(key cache.Key) (memory, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, ok := w.kept[key]; ok {
		maps, file, err := w.client.Open(d)
		if err != nil {
			return memory{}, err
		}
		return memory{file, func(int64) (present, read cache.Bits, err error) { return maps.Present, maps.Read, nil }}, w.remember(key, file)
	}
	// It is opened before it is marked: what is written through it causes no events.
	file, err := os.OpenFile(w.service.cache.Path(key), os.O_RDWR, 0)
	if err != nil {
		return memory{}, err
	}
	return memory{file, func(blocks int64) (present, read cache.Bits, err error) {
		d, maps, err := w.client.Keep(key, blocks, file, "")
		if err != nil {
			return present, read, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.kept[key] = d
		return maps.Present, maps.Read, nil
	}}, w.remember(key, file)
}

func (w *watch) remember(key cache.Key, file *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return err
	}
	w.files[[2]uint64{uint64(st.Dev), st.Ino}] = key //nolint:unconvert // not on every architecture
	return nil
}

// handle fills what a reader waits for and answers.
func (w *watch) handle(e *keeper.Event) {
	s := w.service
	err := w.fill(e)
	if s.ctx.Err() != nil {
		return // the next worker does it
	}
	if err != nil {
		s.log.Error("a read fails", "device", e.Key, "offset", e.Offset, "bytes", e.Count, "error", err)
		e.Deny()
		return
	}
	e.Allow()
}

func (w *watch) fill(e *keeper.Event) error {
	s := w.service
	key := e.Key
	if !e.Known {
		w.mu.Lock()
		known := false
		key, known = w.files[[2]uint64{e.Device, e.Inode}]
		w.mu.Unlock()
		if !known {
			return fmt.Errorf("the file %d of file system %d is no device", e.Inode, e.Device)
		}
		e.Key = key
	}
	d, err := s.device(key)
	if err != nil {
		return err
	}
	offset, count := e.Offset, e.Count
	if count < 0 {
		offset, count = 0, d.filler.Device().Space()
	}
	s.asked(d, offset, count)
	if err := d.filler.Ensure(s.ctx, offset, count, filler.Demand); err != nil {
		d.reads.failed.Add(1)
		return err
	}
	return nil
}

// mount marks what is missing, and then lets the kernel mount the image.
func (w *watch) mount(_ context.Context, im *Image, target string, flags int) error {
	for i := range im.record.Devices {
		if err := w.mark(im, i); err != nil {
			return err
		}
	}
	return w.service.kernelMount(im, target, flags)
}

// mark makes readers of a device wait, unless it is complete.
func (w *watch) mark(im *Image, i int) error {
	s := w.service
	key, err := cache.ParseKey(im.record.Devices[i])
	if err != nil {
		return damaged(im.id, err)
	}
	if im.record.Stored[i] != "" {
		return nil
	}
	if s.cache.Complete(key) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	path := s.cache.Path(key)
	d, ok := w.kept[key]
	switch {
	case ok && d.Marked:
		return nil
	case ok:
		if err := w.client.Mark(d, path); err != nil {
			return err
		}
		d.Marked = true
	default:
		// The rest is opened when somebody reads. Until then the keeper's map says that nothing is present, which does no harm.
		if d, err = w.keepMarked(key, path); err != nil {
			return err
		}
	}
	w.kept[key] = d
	return nil
}

func (w *watch) keepMarked(key cache.Key, path string) (keeper.Device, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return keeper.Device{}, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return keeper.Device{}, err
	}
	d, maps, err := w.client.Keep(key, st.Size()/chunk.Block, file, path)
	return d, errors.Join(err, maps.Close(), w.remember(key, file))
}

func (w *watch) unmount(_ context.Context, _ *Image, target string) error { return unmount(target) }

// unwatch lets a complete device alone: its readers do not leave the kernel any more.
func (w *watch) unwatch(key cache.Key) error {
	if err := w.forget(key); err != nil {
		return err
	}
	w.service.mu.Lock()
	d := w.service.devices[key]
	w.service.mu.Unlock()
	if d != nil && d.filler != nil && d.released.CompareAndSwap(false, true) {
		// The kernel has the content a second time, as that of the mounted files.
		return unix.Fadvise(int(d.filler.Device().File.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	return nil
}

func (w *watch) forget(key cache.Key) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.kept[key]
	if !ok {
		return nil
	}
	if d.Marked {
		if err := w.client.Unmark(d, w.service.cache.Path(key)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := w.client.Forget(d); err != nil {
		return err
	}
	delete(w.kept, key)
	return nil
}

// restore guards an image again that is still mounted, and mounts it where it is not mounted any more.
func (w *watch) restore(ctx context.Context, im *Image) error {
	s := w.service
	var live []string
	for _, m := range im.mounts() {
		ok, err := s.isMounted(im, m.Target)
		if err != nil {
			return err
		}
		if ok {
			live = append(live, m.Target)
		}
	}
	if len(live) > 0 {
		if err := w.guardAgain(im, live); err != nil {
			return err
		}
	}
	return s.mountAgain(ctx, im)
}

// guardAgain marks the devices of a mounted image that nobody has watched for a while. What the kernel has read meanwhile may be zeros: it is
// dropped, and the mounts are named.
func (w *watch) guardAgain(im *Image, live []string) error {
	unguarded := false
	for i := range im.record.Devices {
		key, err := cache.ParseKey(im.record.Devices[i])
		if err != nil {
			return damaged(im.id, err)
		}
		w.mu.Lock()
		d, ok := w.kept[key]
		w.mu.Unlock()
		if ok && d.Marked {
			continue
		}
		if err := w.mark(im, i); err != nil {
			return err
		}
		w.mu.Lock()
		unguarded = unguarded || w.kept[key].Marked
		w.mu.Unlock()
	}
	if !unguarded {
		return nil
	}
	for _, target := range live {
		busy, err := dropPages(target)
		w.service.log.Error("nobody guarded a mount for a while: what was read from it may have been zeros; restart what uses it", "mount", target, "image", im.Name(),
			"filesInUse", busy, "error", err)
	}
	im.mu.Lock()
	im.unguarded = live
	im.mu.Unlock()
	return nil
}

// lost is called when keeper and holder have ended while this process lives: everything is given to the new keeper.
func (w *watch) lost() {
	s := w.service
	w.mu.Lock()
	w.kept = map[cache.Key]keeper.Device{}
	w.mu.Unlock()
	for _, d := range s.opened() {
		s.mu.Lock()
		delete(s.devices, d.key)
		s.mu.Unlock()
		d.filler.Close()
		if err := d.filler.Device().Close(); err != nil {
			s.log.Error("a device cannot be saved", "device", d.key, "error", err)
		}
	}
	if err := s.Restore(s.ctx); err != nil {
		s.log.Error("mounts cannot be guarded again", "error", err)
	}
}

func (w *watch) close() error {
	w.mu.Lock()
	end := len(w.kept) == 0
	w.mu.Unlock()
	w.secrets()
	return w.client.Close(end)
}

// readSecrets takes over the credentials that an earlier worker was given.
func (w *watch) readSecrets() {
	f := w.client.Secrets()
	if f == nil {
		return
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil || len(b) == 0 {
		return
	}
	known := map[string]authConfig{}
	if err := json.Unmarshal(b, &known); err != nil {
		w.service.log.Warn("the credentials of an earlier worker are not readable")
		return
	}
	for k, v := range known {
		w.service.credentials.set(k, v)
	}
}

// secrets leaves the credentials to the next worker, in memory that only keeper and worker have.
func (w *watch) secrets() {
	f := w.client.Secrets()
	if f == nil {
		return
	}
	defer f.Close()
	b, err := json.Marshal(w.service.credentials.all())
	if err != nil {
		return
	}
	// Shorter first: what a killed worker leaves is not read as credentials.
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt(b, 0)
		if err != nil {
			w.service.log.Warn("the credentials cannot be left to the next worker", "error", err)
		}
	}
}

// dropPages lets the kernel forget what it has read of a mount's files. It counts those that it may not forget because they are mapped.
func dropPages(target string) (busy int, err error) {
	root, err := os.OpenRoot(target)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	err = walkFiles(root, ".", func(f *os.File) error {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return err
		}
		in, err := resident(f)
		if in {
			busy++
		}
		return err
	})
	return busy, err
}

// walkFiles opens every regular file below a folder.
func walkFiles(root *os.Root, dir string, visit func(*os.File) error) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = walkFiles(root, name, visit)
		} else if e.Type().IsRegular() {
			var f *os.File
			if f, err = root.Open(name); err == nil {
				err = errors.Join(visit(f), f.Close())
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// resident says whether any page of a file is in memory.
func resident(f *os.File) (bool, error) {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return false, err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return false, err
	}
	pages := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
	err = mincore(m, pages)
	if err := errors.Join(err, unix.Munmap(m)); err != nil {
		return false, err
	}
	for _, p := range pages {
		if p&1 != 0 {
			return true, nil
		}
	}
	return false, nil
}
