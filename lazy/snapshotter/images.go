//go:build linux

package snapshotter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/registry"
)

// LazyImages are the images of a lazy.Service.
type LazyImages struct {
	service     *lazy.Service
	client      *registry.Client
	credentials *PodCredentials // nil: those of the service alone

	mu  sync.Mutex
	ids map[digest.Digest]string // of prepared images, by the manifest they were asked for by
}

// NewLazyImages are the images of a service; the client fetches manifests and layers of ordinary images. What an image was pulled with (nil: nothing is
// known) is given to the service, which has to fetch from it later, too.
func NewLazyImages(service *lazy.Service, client *registry.Client, credentials *PodCredentials) *LazyImages {
	return &LazyImages{service: service, client: client, credentials: credentials, ids: map[digest.Digest]string{}}
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
func (l *LazyImages) Prepare(ctx context.Context, n Name) (string, error) {
	im, err := l.prepare(ctx, n)
	if err != nil {
		return "", err
	}
	return im.ID(), nil
}

// exact is the reference of an image by its digest. A referrer is found by the digest, and nobody can move it.
func exact(n Name) (string, error) {
	ref, err := registry.ParseReference(n.Reference)
	if err != nil {
		return "", err
	}
	return ref.Repository.String() + "@" + string(n.Manifest), nil
}

func (l *LazyImages) prepare(ctx context.Context, n Name) (*lazy.Image, error) {
	name, err := exact(n)
	if err != nil {
		return nil, err
	}
	if l.credentials != nil {
		// Also of an image that is prepared: what it was pulled with before may have ended.
		repository, _, _ := strings.Cut(name, "@")
		if c, ok := l.credentials.of(repository); ok {
			l.service.SetCredentials(repository, c)
		}
	}
	l.mu.Lock()
	id := l.ids[n.Manifest]
	l.mu.Unlock()
	if id != "" {
		if im, err := l.service.Image(id); err == nil {
			return im, nil
		}
	}
	im := l.known(name)
	if im == nil {
		im, err = l.service.Prepare(ctx, lazy.Request{Reference: name})
		if errors.Is(err, image.ErrOrdinary) {
			im, err = l.beside(ctx, n, err)
		}
		if err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	l.ids[n.Manifest] = im.ID()
	l.mu.Unlock()
	return im, nil
}

// beside prepares the converted image that stands with an ordinary one in the index that was asked for, as Nydus's index detection finds it.
func (l *LazyImages) beside(ctx context.Context, n Name, ordinary error) (*lazy.Image, error) {
	ref, err := registry.ParseReference(n.Reference)
	if err != nil || ref.Digest == n.Manifest {
		return nil, ordinary
	}
	desc, body, err := l.client.Manifest(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ordinary // the name is gone; the manifest is there
	}
	if err != nil {
		return nil, fmt.Errorf("looking for an index: %w", err)
	}
	if !registry.IsIndex(desc.MediaType) {
		return nil, ordinary
	}
	other, ok := image.Beside(body, n.Manifest)
	if !ok {
		return nil, ordinary
	}
	name := ref.Repository.String() + "@" + string(other)
	if im := l.known(name); im != nil {
		return im, nil
	}
	return l.service.Prepare(ctx, lazy.Request{Reference: name})
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
	im, err := l.prepare(ctx, n)
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
