package lazy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/fanotify"
	"github.com/weft-dev/weft/lazy/fuse"
	"github.com/weft-dev/weft/lazy/keeper"
	"github.com/weft-dev/weft/lazy/mountinfo"
)

// watch lets the kernel ask before it reads from devices that are not complete: by fanotify or, file by file, through FUSE. What is mounted
// in the other way, by an earlier process, is looked after all the same.
type watch struct {
	service *Service
	client  *keeper.Client
	way     Mode           // of new mounts
	ended   sync.WaitGroup // of connections

	mu    sync.Mutex
	kept  map[cache.Key]keeper.Device
	files map[[2]uint64]cache.Key // by number of the file system and inode: events may come after a device was let go

	through []*through

	secret struct {
		sync.Mutex
		number uint64 // of the credentials that were left last
	}
}

// choose finds the way for a mode, and why it is not the first one.
func choose(mode Mode, root string) (way Mode, why, err error) {
	if mode != FUSE {
		if err = fanotify.Check(root); err == nil {
			err = erofs.CheckMount(root)
		}
		if err == nil {
			return Fanotify, nil, nil
		}
		why = err
		if mode == Fanotify {
			return "", nil, fmt.Errorf("%w with fanotify: %w", ErrCannot, err)
		}
	}
	if err = fuse.Check(); err != nil {
		err = fmt.Errorf("%w through FUSE: %w", ErrCannot, err)
		if why != nil {
			err = fmt.Errorf("%w; with fanotify: %w", err, why)
		}
		return "", nil, err
	}
	return FUSE, why, nil
}

func newWatch(ctx context.Context, s *Service) (*watch, error) {
	way, why, err := choose(s.options.Mode, s.root)
	if err != nil {
		return nil, err
	}
	if why != nil {
		s.reason = why.Error()
		s.log.Info("images are mounted through FUSE, since fanotify does not work here", "reason", why)
	}
	if err := mountinfo.Refuse(s.root); err != nil {
		return nil, err
	}
	w := &watch{service: s, way: way, kept: map[cache.Key]keeper.Device{}, files: map[[2]uint64]cache.Key{}}
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
		StandBy: s.options.StandBy, Environment: s.options.Environment, Follow: s.options.Follow,
	})
	if err != nil {
		return nil, err
	}
	w.client = client
	for _, d := range client.Devices() {
		w.kept[d.Key] = d
	}
	w.readSecrets()
	s.credentials.changed = w.secrets
	return w, nil
}

func (w *watch) start() {
	w.client.Start()
	w.resume()
}

func (w *watch) mode() Mode { return w.way }

// open takes what an earlier worker knew of a device from the keeper, or gives it the device.
func (w *watch) open(key cache.Key) (memory, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, ok := w.kept[key]; ok {
		maps, file, err := w.client.Open(d)
		if err != nil {
			return memory{}, err
		}
		return memory{file, func(int64) (present, read cache.Bits, err error) { return maps.Present, maps.Read, nil }}, w.known(key, file)
	}
	// It is opened before it is marked: what is written through it causes no events.
	file, err := os.OpenFile(w.service.cache.Path(key), os.O_RDWR, 0)
	if err != nil {
		return memory{}, err
	}
	return memory{file, func(blocks int64) (present, read cache.Bits, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		d, ok := w.kept[key] // by a mount meanwhile
		if !ok {
			kept, err := w.client.Keep(keeper.Content{Key: key, Blocks: blocks, File: int(file.Fd())})
			if err != nil {
				return present, read, err
			}
			d = kept[0]
			w.kept[key] = d
		}
		maps, again, err := w.client.Open(d)
		if err != nil {
			return present, read, err
		}
		return maps.Present, maps.Read, again.Close()
	}}, w.known(key, file)
}

func (w *watch) known(key cache.Key, file *os.File) error {
	var st unix.Stat_t
	err := unix.Fstat(int(file.Fd()), &st)
	if err == nil {
		w.remember(key, &st)
	}
	return err
}

func (w *watch) remember(key cache.Key, st *unix.Stat_t) {
	w.files[[2]uint64{uint64(st.Dev), st.Ino}] = key //nolint:unconvert // not on every architecture
}

// mount marks what is missing, and then lets the kernel mount the image.
func (w *watch) mount(_ context.Context, im *Image, target string, flags int) error {
	if w.way == FUSE {
		return w.mountThrough(im, target, flags)
	}
	if _, err := w.mark(im); err != nil {
		return err
	}
	return w.service.kernelMount(im, target, flags)
}

func (w *watch) expect(im *Image) error {
	_, err := w.mark(im)
	return err
}

// mark makes readers wait of all devices of an image that are not complete. It says whether there was one of which they did not.
func (w *watch) mark(im *Image) (some bool, err error) {
	s := w.service
	w.mu.Lock()
	defer w.mu.Unlock()
	var fresh []keeper.Content
	defer func() {
		for _, c := range fresh {
			err = errors.Join(err, unix.Close(c.File))
		}
	}()
	seen := map[cache.Key]bool{}
	for i, name := range im.record.Devices {
		key, err := cache.ParseKey(name)
		if err != nil {
			return some, damaged(im.id, err)
		}
		d, ok := w.kept[key]
		if im.record.Stored[i] != "" || seen[key] || ok && d.Marked || s.cache.Complete(key) {
			continue
		}
		seen[key], some = true, true
		if !ok {
			c, err := w.content(key)
			if err != nil {
				return some, err
			}
			fresh = append(fresh, c)
			continue
		}
		if err := w.client.Mark(d, s.cache.Path(key)); err != nil {
			return some, err
		}
		d.Marked = true
		w.kept[key] = d
	}
	// The rest is opened when somebody reads. Until then the keeper's maps say that nothing is present, which does no harm.
	kept, err := w.client.Keep(fresh...)
	for _, d := range kept {
		w.kept[d.Key] = d
	}
	return some, err
}

// content opens a device to be kept and marked.
func (w *watch) content(key cache.Key) (keeper.Content, error) {
	path := w.service.cache.Path(key)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0) // by the system call alone: an image may have many
	if err != nil {
		return keeper.Content{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return keeper.Content{}, errors.Join(err, unix.Close(fd))
	}
	w.remember(key, &st)
	return keeper.Content{Key: key, Blocks: st.Size / chunk.Block, File: fd, Path: path}, nil
}

func (w *watch) unmount(_ context.Context, im *Image, target string) error {
	if err := unmount(target); err != nil {
		return err
	}
	w.service.ahead.forget(target)
	w.settled(im)
	return nil
}

// unwatch lets a complete device alone: its readers do not leave the kernel any more.
func (w *watch) unwatch(key cache.Key) error {
	if err := w.forget(key); err != nil {
		return err
	}
	w.service.mu.Lock()
	d := w.service.devices[key]
	w.service.mu.Unlock()
	if d != nil && d.filler != nil && d.released.CompareAndSwap(false, true) {
		for _, im := range w.service.Images() {
			if im.has(key) {
				w.service.widen(im)
			}
		}
		// The kernel has the content a second time, as that of the mounted files.
		return unix.Fadvise(int(d.filler.Device().File.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	return nil
}

func (w *watch) forget(keys ...cache.Key) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []keeper.Device
	for _, key := range keys {
		if d, ok := w.kept[key]; ok {
			list = append(list, d)
		}
	}
	if err := w.client.Release(list, w.service.cache.Path); err != nil {
		return err
	}
	for _, d := range list {
		delete(w.kept, d.Key)
	}
	return nil
}

func (w *watch) close() error {
	w.farewell()
	w.mu.Lock()
	for _, t := range w.through {
		t.server.Stop()
	}
	w.mu.Unlock()
	w.ended.Wait()
	end := len(w.kept) == 0 && len(w.client.Connections()) == 0
	w.secrets()
	return w.client.Close(end)
}
