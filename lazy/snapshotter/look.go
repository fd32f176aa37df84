//go:build linux

package snapshotter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/registry"
)

// look is what a registry says about an image. Nothing on this machine is changed by it.
type look struct {
	found  *lazy.Found // the converted form
	image  *lazy.Image // in its place, if it is prepared already under another name
	layers *Layers     // of the ordinary image; nil: not asked for, or not readable
	err    error       // why the image is not mounted; image.ErrOrdinary if it has no converted form
}

// wanted says what a look has to find, and what is known.
type wanted struct {
	layers   bool
	manifest []byte // of the ordinary image; nil: not known
	named    bool   // it is known what the reference leads to
	index    []byte // that the reference leads to; nil: not known, or none
}

// look asks a registry for the converted form of an image and for its layers. What does not need each other's answers is asked for at the same time: the
// manifest and what refers to it, then the converted image's manifest, what is known of its start and the configuration, then the metadata.
func (l *LazyImages) look(ctx context.Context, n Name, w wanted) *look {
	ref, err := registry.ParseReference(n.Reference)
	if err != nil {
		return &look{err: err}
	}
	repo := ref.Repository
	manifest := sync.OnceValues(func() (*ocispec.Manifest, error) { return readManifest(ctx, l.client, repo, n.Manifest, w.manifest) })
	layers := sync.OnceValues(func() (*Layers, error) {
		m, err := manifest()
		if err != nil {
			return nil, err
		}
		return readConfig(ctx, l.client, repo, m)
	})
	r := lazy.Request{Reference: repo.WithDigest(n.Manifest).String(), Converted: func() {
		if w.layers {
			go func() { _, _ = layers() }() // whoever needs it gets the error
		}
	}}
	if !n.Converted {
		r.Subject = n.Manifest
		if w.layers {
			go func() { _, _ = manifest() }()
		}
	}
	k := &look{}
	k.found, k.err = l.service.Look(ctx, r)
	if errors.Is(k.err, image.ErrOrdinary) {
		l.lookFurther(ctx, n, r, w, k, manifest)
	}
	if w.layers && !errors.Is(k.err, image.ErrOrdinary) {
		var err error
		if k.layers, err = layers(); err != nil && k.err == nil {
			k.err = err
		}
	}
	return k
}

// lookFurther looks whether an image to which nothing refers is a converted one itself, or has one beside it.
func (l *LazyImages) lookFurther(ctx context.Context, n Name, r lazy.Request, w wanted, k *look, manifest func() (*ocispec.Manifest, error)) {
	if r.Subject != "" {
		m, err := manifest()
		if err != nil {
			k.err = err
			return
		}
		if image.Converts(m) {
			r.Subject = ""
			k.found, k.err = l.service.Look(ctx, r)
			return
		}
	}
	l.beside(ctx, n, w, r.Converted, k)
}

// beside looks for the converted image that stands with an ordinary one in the index that was asked for, as Nydus's index detection finds it.
func (l *LazyImages) beside(ctx context.Context, n Name, w wanted, converted func(), k *look) {
	ref, err := registry.ParseReference(n.Reference)
	if err != nil || ref.Digest == n.Manifest {
		return
	}
	index := w.index
	if !w.named {
		desc, body, err := l.client.Manifest(ctx, ref)
		if errors.Is(err, fs.ErrNotExist) {
			return // the name is gone; the manifest is there
		}
		if err != nil {
			k.err = fmt.Errorf("looking for an index: %w", err)
			return
		}
		if !registry.IsIndex(desc.MediaType) {
			return
		}
		index = body
	}
	other, ok := image.Beside(index, n.Manifest)
	if !ok {
		return
	}
	name := ref.WithDigest(other).String()
	if k.image = l.known(name); k.image != nil {
		k.err = nil
		return
	}
	k.found, k.err = l.service.Look(ctx, lazy.Request{Reference: name, Converted: converted})
}
