//go:build linux

package snapshotter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/registry"
)

// LazyImages are the images of a lazy.Service.
type LazyImages struct {
	service     *lazy.Service
	client      *registry.Client
	credentials *PodCredentials // nil: those of the service alone

	mu       sync.Mutex
	ids      map[digest.Digest]string // of prepared images, by the manifest they were asked for by
	expected map[string]*expected     // by the name it is pulled by
}

// NewLazyImages are the images of a service; the client fetches manifests and layers of ordinary images. What an image was pulled with (nil: nothing is
// known) is given to the service, which has to fetch from it later, too.
func NewLazyImages(service *lazy.Service, client *registry.Client, credentials *PodCredentials) *LazyImages {
	return &LazyImages{service: service, client: client, credentials: credentials, ids: map[digest.Digest]string{}, expected: map[string]*expected{}}
}

var _ Images = (*LazyImages)(nil)

// Layers reads the image's manifest and configuration.
func (l *LazyImages) Layers(ctx context.Context, n Name) (*Layers, error) {
	return readLayers(ctx, l.client, n)
}

// Unpack unpacks layers into a folder.
func (l *LazyImages) Unpack(ctx context.Context, n Name, layers []Layer, folder string) error {
	return unpackLayers(ctx, l.client, n, layers, folder)
}

// Prepare prepares the converted form of an image.
func (l *LazyImages) Prepare(ctx context.Context, n Name) (*Layers, error) {
	im, k, err := l.find(ctx, n, true)
	if err != nil {
		return nil, err
	}
	if im != nil {
		return l.Layers(ctx, n)
	}
	_, err = l.keep(ctx, n, k)
	return k.layers, err
}

// find finds an image that is prepared, or looks for it.
func (l *LazyImages) find(ctx context.Context, n Name, layers bool) (*lazy.Image, *look, error) {
	ref, err := registry.ParseReference(n.Reference)
	if err != nil {
		return nil, nil, err
	}
	// Also of an image that is prepared: what it was pulled with before may have ended.
	l.authorize(ref.Repository.String())
	// It is found by its digest, which nobody can move.
	if im := l.prepared(n.Manifest, ref.WithDigest(n.Manifest).String()); im != nil {
		return im, nil, nil
	}
	k := l.takeEarly(ctx, n)
	if k == nil {
		k = l.look(ctx, n, wanted{layers: layers})
	}
	return nil, k, nil
}

// authorize gives the service what images of a repository were pulled with.
func (l *LazyImages) authorize(repository string) {
	if l.credentials == nil {
		return
	}
	if c, ok := l.credentials.of(repository); ok {
		l.service.SetCredentials(repository, c)
	}
}

// prepared is an image that was prepared before; nil if it was not.
func (l *LazyImages) prepared(manifest digest.Digest, name string) *lazy.Image {
	l.mu.Lock()
	id := l.ids[manifest]
	l.mu.Unlock()
	if id != "" {
		if im, err := l.service.Image(id); err == nil {
			return im
		}
	}
	im := l.known(name)
	if im != nil {
		l.remember(manifest, im)
	}
	return im
}

func (l *LazyImages) remember(manifest digest.Digest, im *lazy.Image) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids[manifest] = im.ID()
}

// keep makes what was found an image of this machine.
func (l *LazyImages) keep(ctx context.Context, n Name, k *look) (*lazy.Image, error) {
	if k.err != nil {
		return nil, k.err
	}
	im := k.image
	if im == nil {
		var err error
		if im, err = l.service.PrepareFound(ctx, k.found); err != nil {
			return nil, err
		}
	}
	l.remember(n.Manifest, im)
	return im, nil
}

// known finds an image that was prepared by an earlier process, without asking a registry.
func (l *LazyImages) known(name string) *lazy.Image {
	for _, im := range l.service.Images() {
		for _, n := range im.Stats().Names {
			if n == name {
				return im
			}
		}
	}
	return nil
}

// Mount mounts an image unless it is mounted there.
func (l *LazyImages) Mount(ctx context.Context, n Name, folder string) error {
	mounted, err := isMounted(folder)
	if err != nil {
		return err
	}
	if mounted {
		return nil
	}
	im, k, err := l.find(ctx, n, false)
	if err == nil && im == nil {
		im, err = l.keep(ctx, n, k)
	}
	if err != nil {
		return err
	}
	// A record of a mount that is no more, or one whose file system has lost its server, goes first.
	if err := im.Unmount(ctx, folder); err != nil {
		return err
	}
	return im.Mount(ctx, folder, lazy.MountOptions{})
}

// isMounted says whether a file system is mounted on a folder and answers.
func isMounted(folder string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, folder, unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	switch {
	case errors.Is(err, unix.ENOTCONN), errors.Is(err, unix.ECONNABORTED):
		return false, nil
	case err != nil:
		return false, &fs.PathError{Op: "statx", Path: folder, Err: err}
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false, fmt.Errorf("%s: the kernel does not say whether something is mounted there; it has to be Linux 5.8 or newer", folder)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// Unmount unmounts an image, and removes it from the service if it is mounted nowhere else. What was fetched of it is kept as far as other images have it.
func (l *LazyImages) Unmount(ctx context.Context, n Name, folder string) error {
	im := l.at(folder)
	if im == nil {
		if mounted, err := isMounted(folder); err != nil || !mounted {
			return err
		}
		return unix.Unmount(folder, unix.MNT_DETACH)
	}
	if err := im.Unmount(ctx, folder); err != nil {
		return err
	}
	if len(im.Stats().Mounts) > 0 {
		return nil
	}
	l.mu.Lock()
	delete(l.ids, n.Manifest)
	l.mu.Unlock()
	return l.service.Remove(ctx, im.ID())
}

// at finds the image that is mounted on a folder, as the service knows.
func (l *LazyImages) at(folder string) *lazy.Image {
	for _, im := range l.service.Images() {
		for _, m := range im.Stats().Mounts {
			if m == folder {
				return im
			}
		}
	}
	return nil
}

// Cached is how many decoded bytes of an image are there.
func (l *LazyImages) Cached(manifest digest.Digest) (int64, bool) {
	l.mu.Lock()
	id := l.ids[manifest]
	l.mu.Unlock()
	im, err := l.service.Image(id)
	if err != nil {
		return 0, false
	}
	return im.Stats().Present, true
}
