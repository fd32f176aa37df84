package lazy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/filler"
	"github.com/weft-dev/weft/lazy/fuse"
	"github.com/weft-dev/weft/lazy/keeper"
	"github.com/weft-dev/weft/lazy/mountinfo"
)

// through is an image that is mounted through FUSE.
type through struct {
	service *Service
	image   *Image
	kept    keeper.Connection
	session *fuse.Session
	server  *fuse.Server
	meta    *os.File
	behind  *behind
	keys    []cache.Key

	mu     sync.Mutex
	stored []*os.File // of devices that are blobs of the store, once they are open
}

// mountThrough mounts an image through FUSE. The keeper has the connection before anybody can read.
func (w *watch) mountThrough(im *Image, target string, flags int) error {
	meta, err := os.Open(w.service.imageFile(im.id, mountinfo.Metadata))
	if err != nil {
		return err
	}
	st, err := meta.Stat()
	if err != nil {
		return errors.Join(err, meta.Close())
	}
	id, err := hex.DecodeString(im.id)
	if err != nil || len(id) != 32 {
		return errors.Join(damaged(im.id, fmt.Errorf("its name is no digest")), meta.Close())
	}
	session, err := fuse.New([32]byte(id), erofs.NodesIn(st.Size()))
	if err != nil {
		return errors.Join(err, meta.Close())
	}
	t := &through{service: w.service, image: im, session: session, meta: meta}
	_, _ = rand.Read(t.kept.Name[:])
	root, err := session.Mount(t.source(), flags)
	if err != nil {
		return errors.Join(err, meta.Close(), session.Close())
	}
	defer unix.Close(root)
	if t.kept, err = w.client.KeepConnection(t.kept.Name, session.Device, session.Memory); err != nil {
		return errors.Join(err, meta.Close(), session.Close())
	}
	if err := w.serve(t); err != nil {
		return errors.Join(err, w.client.ForgetConnection(t.kept))
	}
	if err := t.server.Probe(root); err != nil {
		return err // the end of the mount is seen when root is closed
	}
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", im.Name(), target, err)
	}
	return nil
}

// source is what the list of mounts says of it: the metadata, and the name of the connection.
func (t *through) source() string {
	return t.service.imageFile(t.image.id, mountinfo.Metadata) + "#" + hex.EncodeToString(t.kept.Name[:8])
}

// serve begins to answer the kernel. After an error everything is closed.
func (w *watch) serve(t *through) error {
	err := t.open()
	if err == nil {
		w.mu.Lock()
		w.through = append(w.through, t)
		w.mu.Unlock()
		w.ended.Go(func() { w.untilGone(t) })
	} else {
		err = errors.Join(err, t.meta.Close(), t.session.Close())
	}
	return err
}

func (t *through) open() error {
	for _, k := range t.image.record.Devices {
		key, err := cache.ParseKey(k)
		if err != nil {
			return damaged(t.image.id, err)
		}
		t.keys = append(t.keys, key)
	}
	t.stored = make([]*os.File, len(t.keys))
	st, err := t.meta.Stat()
	if err != nil {
		return err
	}
	opened, err := erofs.Open(t.meta, st.Size())
	if err != nil {
		return err
	}
	t.behind = &behind{image: t.image}
	t.server, err = fuse.Serve(t.session, fuse.Options{Image: opened, Content: t, Behind: t.behind, Log: t.service.log})
	return err
}

// untilGone lets go of a connection when it is nowhere mounted any more, or when the service ends.
func (w *watch) untilGone(t *through) {
	<-t.server.Done()
	err := t.server.Close()
	w.mu.Lock()
	w.through = slices.DeleteFunc(w.through, func(o *through) bool { return o == t })
	c := t.server.Counts()
	t.image.asked.reads += c.Reads
	t.image.asked.behind += c.Through
	w.mu.Unlock()
	if t.server.Gone() {
		err = errors.Join(err, w.client.ForgetConnection(t.kept))
	}
	t.mu.Lock()
	for _, f := range t.stored {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	t.mu.Unlock()
	if err := errors.Join(err, t.behind.close(), t.meta.Close(), t.session.Close()); err != nil {
		t.service.log.Error("a connection to FUSE is not closed well", "image", t.image.Name(), "error", err)
	}
}

// resume serves what an earlier process has mounted.
func (w *watch) resume() {
	for _, k := range w.client.Connections() {
		if err := w.resumeOne(k); err != nil {
			w.service.log.Error("a mount through FUSE cannot be served any more: reads of it fail", "error", err)
			_ = w.client.ForgetConnection(k)
		}
	}
}

func (w *watch) resumeOne(k keeper.Connection) error {
	device, memory, err := w.client.OpenConnection(k)
	if err != nil {
		return err
	}
	session, err := fuse.Open(device, memory)
	if err != nil {
		return err
	}
	id := session.Image()
	im, err := w.service.Image(hex.EncodeToString(id[:]))
	if err != nil {
		return errors.Join(err, session.Close())
	}
	meta, err := os.Open(w.service.imageFile(im.id, mountinfo.Metadata))
	if err != nil {
		return errors.Join(err, session.Close())
	}
	return w.serve(&through{service: w.service, image: im, kept: k, session: session, meta: meta})
}

// connected says whether a mount with a source, as the list of mounts has it, is answered by this process.
func (w *watch) connected(source string) bool {
	_, name, _ := strings.Cut(source, mountinfo.Metadata+"#")
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.through, func(t *through) bool { return hex.EncodeToString(t.kept.Name[:8]) == name })
}

// asked adds up what the kernel asked for, also by way of mounts that have ended.
func (w *watch) asked(im *Image) (reads, behind int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	reads, behind = im.asked.reads, im.asked.behind
	for _, t := range w.through {
		if t.image == im {
			c := t.server.Counts()
			reads, behind = reads+c.Reads, behind+c.Through
		}
	}
	return reads, behind
}

// settled waits until what was unmounted is seen to have ended, but not for long: it may be mounted elsewhere, too.
func (w *watch) settled(im *Image) {
	w.mu.Lock()
	var list []*through
	for _, t := range w.through {
		if t.image == im {
			list = append(list, t)
		}
	}
	w.mu.Unlock()
	for _, t := range list {
		if listed, err := findMount(func(m mountinfo.Line) bool { return m.Source == t.source() }); err != nil || listed != nil {
			continue
		}
		select {
		case <-t.server.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// farewell waits, when no image is mounted any more, until the kernel has said so of each connection: with one that seems to be in use the keeper
// would go on. After an unmount that may take a while, for what lay above the mount lets go of it later.
func (w *watch) farewell() {
	if slices.ContainsFunc(w.service.Images(), func(im *Image) bool { return len(im.mounts()) > 0 }) {
		return // whoever reads them waits for the next worker
	}
	w.mu.Lock()
	list := slices.Clone(w.through)
	w.mu.Unlock()
	late := time.After(5 * time.Second) // it is mounted where this process does not see it
	for _, t := range list {
		select {
		case <-t.server.Done():
		case <-late:
			return
		}
	}
}

// keepAgain gives all connections to a new keeper, when keeper and holder have ended.
func (w *watch) keepAgain() {
	w.mu.Lock()
	list := slices.Clone(w.through)
	w.mu.Unlock()
	for _, t := range list {
		kept, err := w.client.KeepConnection(t.kept.Name, t.session.Device, t.session.Memory)
		if err != nil {
			w.service.log.Error("a mount through FUSE ends with this process", "image", t.image.Name(), "error", err)
			continue
		}
		t.kept = kept
	}
}

// Present says whether a part of a device is there.
func (t *through) Present(number int, offset, n int64) bool {
	if t.image.record.Stored[number-1] != "" {
		return true
	}
	d, err := t.service.device(t.keys[number-1])
	return err == nil && d.filler.Device().Has(offset, n)
}

// ReadAt fills a part of a device and reads it.
func (t *through) ReadAt(ctx context.Context, number int, p []byte, offset int64) error {
	if t.image.record.Stored[number-1] != "" {
		f, err := t.blob(number - 1)
		if err == nil {
			_, err = f.ReadAt(p, offset)
		}
		return err
	}
	var d *device
	var err error
	for range 3 { // it may be closed meanwhile, when nothing else has it mounted
		if d, err = t.service.device(t.keys[number-1]); err != nil {
			return err
		}
		if err = t.service.readDevice(ctx, d, p, offset); err == nil || ctx.Err() != nil || t.service.is(d) {
			break
		}
	}
	if err != nil && ctx.Err() == nil {
		d.reads.failed.Add(1)
	}
	return err
}

func (s *Service) readDevice(ctx context.Context, d *device, p []byte, offset int64) error {
	dev, n := d.filler.Device(), int64(len(p))
	if !dev.Has(offset, n) {
		s.asked(d, offset, n)
		if err := d.filler.Ensure(ctx, offset, n, filler.Demand); err != nil {
			return err
		}
	} else if !dev.Saved() {
		dev.MarkRead(offset, n)
	}
	_, err := dev.File.ReadAt(p, offset)
	return err
}

// is says whether a device is still the open one of its key.
func (s *Service) is(d *device) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.devices[d.key] == d
}

// blob opens a device that is a blob of the store.
func (t *through) blob(i int) (*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stored[i] != nil {
		return t.stored[i], nil
	}
	path, err := t.service.options.Store.Path(t.service.ctx, digest.Digest(t.image.record.Stored[i]))
	if err != nil {
		return nil, err
	}
	t.stored[i], err = os.Open(path)
	return t.stored[i], err
}

// behind opens complete files on an EROFS mount of the image, where the kernel makes one. It is made when it is first wanted.
type behind struct {
	image *Image

	once    sync.Once
	mounted *fuse.Mounted
	err     error
}

// errLearning says that it is being recorded what a start reads, so the server has to see it.
var errLearning = errors.New("a start is being recorded")

// OpenInode opens a file.
func (b *behind) OpenInode(in *erofs.Inode) (*os.File, error) {
	b.image.mu.Lock()
	learning := b.image.learning != nil
	b.image.mu.Unlock()
	if learning {
		return nil, errLearning
	}
	b.once.Do(func() {
		if b.mounted, b.err = b.image.service.detached(b.image); b.err != nil {
			b.image.service.log.Info("complete files are read through FUSE, too", "image", b.image.Name(), "reason", b.err)
		}
	})
	if b.err != nil {
		return nil, b.err
	}
	return b.mounted.OpenInode(in)
}

func (b *behind) close() error {
	b.once.Do(func() { b.err = os.ErrClosed })
	if b.mounted == nil {
		return nil
	}
	return b.mounted.Close()
}

func (s *Service) detached(im *Image) (*fuse.Mounted, error) {
	devices, err := s.paths(im)
	if err != nil {
		return nil, err
	}
	root, err := erofs.Detached(s.imageFile(im.id, mountinfo.Metadata), devices, 0)
	if err != nil {
		return nil, err
	}
	return fuse.NewMounted(root)
}
