//go:build linux

package snapshotter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Options say how snapshots are made.
type Options struct {
	Root         string   // folder of all snapshots
	AsyncRemove  bool     // folders are removed by Cleanup, not by Remove
	UpperdirPath bool     // a label says where a snapshot's changes lie
	SlowChown    bool     // files are given to other owners one by one where the kernel cannot map them
	Volatile     bool     // writable snapshots are not synced to the disk
	MountOptions []string // of overlayfs
	Images       Images   // nil: every image is unpacked
	Log          *slog.Logger
	Metrics      *Metrics // nil: none are kept
}

// Snapshotter implements containerd's snapshots.Snapshotter and snapshots.Cleaner.
type Snapshotter struct {
	layers   snapshots.Snapshotter // containerd's own, for all that is not lazy
	meta     *storage.MetaStore
	root     string
	async    bool
	volatile bool
	images   Images
	log      *slog.Logger
	metrics  *Metrics
	locks    keyed

	mu        sync.Mutex
	decisions map[digest.Digest]decision // by manifest
}

var _ interface {
	snapshots.Snapshotter
	snapshots.Cleaner
} = (*Snapshotter)(nil)

// Labels that a snapshot gets or that say what to do with it. Those of images are containerd's (pkg/snapshotters/annotations.go).
const (
	labelRef      = "containerd.io/snapshot.ref"
	labelImage    = "containerd.io/snapshot/cri.image-ref"
	labelManifest = "containerd.io/snapshot/cri.manifest-digest"
	labelLayer    = "containerd.io/snapshot/cri.layer-digest"
	labelParent   = "containerd.io/snapshot/parent-chain-id" // core/unpack: given in place of a parent if layers are unpacked at once
	// Those of the layers of a Nydus image that was asked for itself (nydus-snapshotter, pkg/label).
	labelNydusBlob = "containerd.io/snapshot/nydus-blob"
	labelNydusMeta = "containerd.io/snapshot/nydus-bootstrap"
	labelVolatile  = "containerd.io/snapshot/overlay.volatile"
	labelRemote    = "containerd.io/snapshot/remote" // set on snapshots that were not unpacked, as Nydus's and stargz's snapshotters do
)

// New opens the snapshots of a folder, or makes it. What was mounted before this process began is mounted again when it is needed, or by Restore.
func New(o Options) (*Snapshotter, error) {
	if err := os.MkdirAll(o.Root, 0o700); err != nil {
		return nil, err
	}
	meta, err := storage.NewMetaStore(filepath.Join(o.Root, "metadata.db"))
	if err != nil {
		return nil, err
	}
	// Folders are removed here and not by containerd's code, because something may be mounted on them.
	opts := []overlay.Opt{overlay.WithMetaStore(meta), overlay.AsynchronousRemove, overlay.WithMountOptions(o.MountOptions)}
	if o.UpperdirPath {
		opts = append(opts, overlay.WithUpperdirLabel)
	}
	if ok, err := overlayutils.SupportsIDMappedMounts(); err == nil && ok {
		opts = append(opts, overlay.WithRemapIDs)
	}
	if o.SlowChown {
		opts = append(opts, overlay.WithSlowChown)
	}
	layers, err := overlay.NewSnapshotter(o.Root, opts...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the folder %s: %w", o.Root, err), meta.Close())
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics()
	}
	return &Snapshotter{
		layers: layers, meta: meta, root: o.Root, async: o.AsyncRemove, volatile: o.Volatile, images: o.Images, log: o.Log, metrics: o.Metrics,
	}, nil
}

// Capabilities are what containerd has to be told of a proxy plugin with these options (its configuration's proxy_plugins.NAME.capabilities).
func (o Options) Capabilities() []string {
	list := []string{"rebase"}
	if ok, err := overlayutils.SupportsIDMappedMounts(); err == nil && ok {
		list = append(list, "remap-ids")
	}
	if !o.SlowChown {
		list = append(list, "only-remap-ids")
	}
	return list
}

// Stat tells about a snapshot.
func (s *Snapshotter) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	return s.layers.Stat(ctx, key)
}

// Update changes a snapshot's labels.
func (s *Snapshotter) Update(ctx context.Context, info snapshots.Info, fields ...string) (snapshots.Info, error) {
	return s.layers.Update(ctx, info, fields...)
}

// Walk calls a function for all snapshots that match.
func (s *Snapshotter) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	return s.layers.Walk(ctx, fn, filters...)
}

// Usage is what a snapshot takes on the disk, without its parents; of a mounted image what was fetched until now.
func (s *Snapshotter) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	usage, err := s.layers.Usage(ctx, key)
	if err != nil || s.images == nil {
		return usage, err
	}
	layer, err := s.layer(ctx, key)
	if err != nil || layer.mark == nil || layer.mark.Kind != Mounted {
		return usage, err
	}
	if cached, ok := s.images.Cached(layer.mark.Manifest); ok {
		usage.Size += cached
	}
	return usage, nil
}

// Prepare makes a writable snapshot on top of another. If the labels say that a layer of an image is to be unpacked there, and the image can be mounted,
// it is errdefs.ErrAlreadyExists: the layer's snapshot is there now.
func (s *Snapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	var base snapshots.Info
	for _, o := range opts {
		if err := o(&base); err != nil {
			return nil, err
		}
	}
	if target := base.Labels[labelRef]; target != "" && s.images != nil {
		if err := s.remote(ctx, key, parent, target, base.Labels); err != nil {
			return nil, err // ErrAlreadyExists, or no form of the image can be used
		}
	}
	if err := s.usable(ctx, parent); err != nil {
		return nil, err
	}
	mounts, err := s.layers.Prepare(ctx, key, parent, opts...)
	if err != nil {
		return nil, err
	}
	if parent == "" && base.Labels[labelParent] != "" {
		mounts = asOverlay(mounts)
	}
	if _, ok := base.Labels[labelVolatile]; ok || s.volatile {
		addOption(mounts, "volatile")
	}
	return s.trim(mounts), nil
}

// View makes a snapshot that is only read.
func (s *Snapshotter) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	if err := s.usable(ctx, parent); err != nil {
		return nil, err
	}
	mounts, err := s.layers.View(ctx, key, parent, opts...)
	if err != nil {
		return nil, err
	}
	return s.trim(mounts), nil
}

// Mounts says again how a snapshot is mounted.
func (s *Snapshotter) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	info, err := s.layers.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	if err := s.usable(ctx, info.Parent); err != nil {
		return nil, err
	}
	mounts, err := s.layers.Mounts(ctx, key)
	if err != nil {
		return nil, err
	}
	if info.Parent == "" && info.Labels[labelParent] != "" {
		mounts = asOverlay(mounts)
	}
	if _, ok := info.Labels[labelVolatile]; (ok || s.volatile) && info.Kind == snapshots.KindActive {
		addOption(mounts, "volatile")
	}
	return s.trim(mounts), nil
}

// Commit ends the writing of a snapshot and gives it a name.
func (s *Snapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	var base snapshots.Info
	for _, o := range opts {
		if err := o(&base); err != nil {
			return err
		}
	}
	// A layer that was unpacked on its own gets its parent only now.
	if err := s.usable(ctx, base.Parent); err != nil {
		return err
	}
	return s.layers.Commit(ctx, name, key, opts...)
}

// Remove forgets a snapshot. Unless that was left to Cleanup its folder is removed, and an image on it unmounted.
func (s *Snapshotter) Remove(ctx context.Context, key string) error {
	if err := s.layers.Remove(ctx, key); err != nil {
		return err
	}
	if s.async {
		return nil
	}
	return s.Cleanup(ctx)
}

// Cleanup unmounts the images of forgotten snapshots and removes their folders.
func (s *Snapshotter) Cleanup(ctx context.Context) error {
	forgotten, err := s.forgotten(ctx)
	if err != nil {
		return err
	}
	for _, id := range forgotten {
		mark, err := s.readMark(id)
		if err != nil || mark == nil || mark.Kind != Mounted {
			continue // what has no readable mark has nothing mounted, or is unmounted below
		}
		if err := s.images.Unmount(ctx, mark.image(), s.folder(id)); err != nil {
			s.log.Warn("a forgotten image cannot be unmounted; it is tried again later", "image", mark.Reference, "folder", s.folder(id), "error", err)
		}
	}
	return s.layers.(snapshots.Cleaner).Cleanup(ctx)
}

// forgotten are the folders of snapshots that are no more.
func (s *Snapshotter) forgotten(ctx context.Context) ([]string, error) {
	if s.images == nil {
		return nil, nil
	}
	var list []string
	err := s.meta.WithTransaction(ctx, true, func(ctx context.Context) error { // no snapshot is made meanwhile
		ids, err := storage.IDMap(ctx)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil // nothing was ever made
		}
		if err != nil {
			return err
		}
		entries, err := os.ReadDir(filepath.Join(s.root, "snapshots"))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if _, known := ids[e.Name()]; !known {
				list = append(list, e.Name())
			}
		}
		return nil
	})
	return list, err
}

// Close ends the work. What is mounted stays mounted.
func (s *Snapshotter) Close() error { return s.layers.Close() }

// folder is where a snapshot's files are, or its image is mounted.
func (s *Snapshotter) folder(id string) string { return filepath.Join(s.root, "snapshots", id, "fs") }

// layer is a committed snapshot.
type layer struct {
	id   string
	info snapshots.Info
	mark *mark // nil: an ordinary one
}

// layer finds a snapshot by its name.
func (s *Snapshotter) layer(ctx context.Context, name string) (layer, error) {
	var l layer
	err := s.meta.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		l.id, l.info, _, err = storage.GetInfo(ctx, name)
		return err
	})
	if err != nil {
		return l, err
	}
	l.mark, err = s.readMark(l.id)
	return l, err
}

// usable sees to it that the files of a committed snapshot and of those below it can be read.
func (s *Snapshotter) usable(ctx context.Context, name string) error {
	if s.images == nil {
		return nil
	}
	for name != "" {
		l, err := s.layer(ctx, name)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil // containerd's code says so in its own words
		}
		if err != nil {
			return err
		}
		if l.mark != nil {
			return s.provide(ctx, l)
		}
		name = l.info.Parent
	}
	return nil
}

// provide mounts or unpacks what a snapshot stands for.
func (s *Snapshotter) provide(ctx context.Context, l layer) error {
	unlock, err := s.locks.lock(ctx, l.id)
	if err != nil {
		return err
	}
	defer unlock()
	if l.mark, err = s.readMark(l.id); err != nil || l.mark == nil {
		return err
	}
	switch l.mark.Kind {
	case Mounted:
		err := s.images.Mount(ctx, l.mark.image(), s.folder(l.id))
		if err == nil {
			return nil
		}
		s.metrics.fallback("mount")
		s.log.Warn("an image cannot be mounted, so it is fetched and unpacked", "image", l.mark.Reference, "error", err)
	case Unpacked:
		return nil
	case Empty:
		s.log.Info("a layer of a mounted image is needed by another: it is fetched and unpacked", "image", l.mark.Reference, "layer", l.mark.Chain)
	}
	return s.unpack(ctx, l)
}

// trim leaves away the folders below one that is whole: nothing of them can be seen.
func (s *Snapshotter) trim(mounts []mount.Mount) []mount.Mount {
	if s.images == nil || len(mounts) != 1 || mounts[0].Type != "overlay" {
		return mounts
	}
	m := mounts[0]
	for i, option := range m.Options {
		list, ok := strings.CutPrefix(option, "lowerdir=")
		if !ok {
			continue
		}
		lower := strings.Split(list, ":")
		for j, folder := range lower {
			if mark, err := s.readMark(filepath.Base(filepath.Dir(folder))); err == nil && mark != nil && mark.Kind != Empty {
				lower = lower[:j+1]
				break
			}
		}
		m.Options[i] = "lowerdir=" + strings.Join(lower, ":")
		if len(lower) == 1 && !hasUpper(m.Options) { // overlayfs wants two folders, or one that is written to
			m = mount.Mount{Type: "bind", Source: lower[0], Options: append(idMaps(m.Options), "ro", "rbind")}
		}
		break
	}
	return []mount.Mount{m}
}

func hasUpper(options []string) bool {
	for _, o := range options {
		if strings.HasPrefix(o, "upperdir=") {
			return true
		}
	}
	return false
}

func idMaps(options []string) []string {
	var list []string
	for _, o := range options {
		if strings.HasPrefix(o, "uidmap=") || strings.HasPrefix(o, "gidmap=") {
			list = append(list, o)
		}
	}
	return list
}

// asOverlay makes of the folder of a layer without parent the upper folder of an overlay: containerd unpacks whiteouts for overlayfs only into such
// mounts, and of snapshotters other than its own it does not know that a layer which is unpacked on its own needs that.
func asOverlay(mounts []mount.Mount) []mount.Mount {
	if len(mounts) != 1 || mounts[0].Type != "bind" {
		return mounts
	}
	m := mount.Mount{Type: "overlay", Source: "overlay"}
	for _, o := range mounts[0].Options {
		if o != "rbind" {
			m.Options = append(m.Options, o)
		}
	}
	m.Options = append(m.Options, "upperdir="+mounts[0].Source)
	return []mount.Mount{m}
}

// addOption adds an option to an overlay.
func addOption(mounts []mount.Mount, option string) {
	for i := range mounts {
		if mounts[i].Type == "overlay" && hasUpper(mounts[i].Options) {
			mounts[i].Options = append(mounts[i].Options, option)
		}
	}
}

// Restore mounts again what was mounted before a restart of the machine. An image that cannot be mounted is tried again when it is needed.
func (s *Snapshotter) Restore(ctx context.Context) error {
	if s.images == nil {
		return nil
	}
	var names []string
	if err := s.layers.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindCommitted {
			names = append(names, info.Name)
		}
		return nil
	}); err != nil && !errors.Is(err, errdefs.ErrNotFound) { // a new folder has no list yet
		return err
	}
	for _, name := range names {
		l, err := s.layer(ctx, name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errdefs.ErrNotFound) {
			continue
		}
		if err != nil {
			s.log.Warn("a snapshot's mark cannot be read", "snapshot", name, "error", err)
			continue
		}
		if l.mark == nil || l.mark.Kind != Mounted {
			continue
		}
		if err := s.images.Mount(ctx, l.mark.image(), s.folder(l.id)); err != nil {
			s.log.Warn("an image that was mounted before cannot be mounted now; it is tried again when it is needed", "image", l.mark.Reference, "error", err)
		}
	}
	return nil
}
