package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/target"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/registry"
)

// placedImage is an image with the place where it is. It is closed after its last use.
type placedImage struct {
	lifecycle.NamedImage
	at   place
	temp string // folder for what a daemon saves
}

// Close ends connections and removes temporary files.
func (p placedImage) Close() error {
	p.at.Close()
	if p.temp == "" {
		return nil
	}
	return os.RemoveAll(p.temp)
}

// whole replaces what a daemon tells of an image by the image.
func (p *placedImage) whole() error {
	d, ok := p.Image.(*target.DaemonImage)
	if !ok {
		return nil
	}
	img, err := d.Whole()
	if err == nil {
		p.Image = img
	}
	return err
}

// errNoImage is wrapped where a place has no image of a name.
var errNoImage = errors.New("was not found, or there is no right to read it")

// openPlaced finds an image that must be there. Where it need not be published but has a registry in its name, it may be in that, too.
func (a *app) openPlaced(ctx context.Context, client *registry.Client, name string, f placeFlags) (placedImage, error) {
	at, err := a.placeOf(ctx, name, f)
	if err == nil {
		var found placedImage
		if found, err = at.open(ctx, client, name); err == nil {
			return found, nil
		}
		err = errors.Join(err, found.Close())
	}
	if !f.publish && namesRegistry(name) {
		in, registryErr := a.imageOf(ctx, client, name)
		if registryErr == nil {
			return placedImage{NamedImage: in, at: place{name: name, where: "its registry"}}, nil
		}
		err = registryErr
	}
	return placedImage{}, err
}

// open reads the image of a place.
func (p place) open(ctx context.Context, client *registry.Client, name string) (placedImage, error) {
	found := placedImage{at: p}
	var img v1.Image
	var err error
	where := p.name
	switch {
	case p.folder != "":
		where = p.folder
		img, err = target.ReadLayout(p.folder)
	case p.containerd != nil:
		img, err = p.containerd.Image(ctx, p.name)
	case p.daemon != nil:
		if found.temp, err = os.MkdirTemp("", "weft-daemon-"); err != nil {
			return found, err
		}
		var in *target.DaemonImage
		if in, err = p.daemon.Image(ctx, p.name, found.temp); err == nil && in != nil {
			found.NamedImage = lifecycle.NamedImage{Name: p.name, Reference: in.ID, Image: in}
			return found, nil
		}
	default:
		var from *target.Registry
		if from, err = target.NewRegistry(client, p.name); err != nil {
			return found, output.Usagef("%w", err)
		}
		where = from.Repository()
		img, err = from.Previous(ctx, p.name)
	}
	if err != nil {
		return found, err
	}
	if img == nil {
		return found, fmt.Errorf("%s %w", name, errNoImage)
	}
	digest, err := img.Digest()
	found.NamedImage = lifecycle.NamedImage{Name: p.name, Reference: where + "@" + digest.String(), Image: img}
	return found, err
}

// imageOf gives an image of a registry that must be there.
func (a *app) imageOf(ctx context.Context, client *registry.Client, name string) (lifecycle.NamedImage, error) {
	found, err := place{name: name}.open(ctx, client, name)
	return found.NamedImage, err
}

// openRunImage finds the run image of an image: where its prefix says, else in the daemon or containerd of the image, else in a registry.
func (a *app) openRunImage(ctx context.Context, client *registry.Client, name string, beside place, f placeFlags) (placedImage, error) {
	for _, prefix := range []string{inFolder, inContainerd, inDaemon} {
		if strings.HasPrefix(name, prefix) {
			return a.openPlaced(ctx, client, name, f)
		}
	}
	if beside.daemon != nil || beside.containerd != nil {
		beside.name = name
		found, err := beside.open(ctx, client, name)
		// The connection is that of the other image, which closes it.
		found.at = place{name: name}
		if err == nil || !errors.Is(err, errNoImage) {
			return found, err
		}
		if err := found.Close(); err != nil {
			return placedImage{}, err
		}
	}
	in, err := a.imageOf(ctx, client, name)
	return placedImage{NamedImage: in, at: place{name: name}}, err
}

// target gives the place as one that an image can be put to, and what is to be called when it is there.
func (p place) target(client *registry.Client) (target.Target, func() error, error) {
	done := func() error { return nil }
	switch {
	case p.folder != "":
		return target.NewFolder(p.folder), done, nil
	case p.containerd != nil:
		t := p.containerd.NewTarget(p.snapshots)
		return t, t.Close, nil
	case p.daemon != nil:
		dir, err := os.MkdirTemp("", "weft-image-")
		if err != nil {
			return nil, nil, err
		}
		return target.NewDaemonTarget(p.daemon, dir), func() error { return os.RemoveAll(dir) }, nil
	}
	to, err := target.NewRegistry(client, p.name)
	if err != nil {
		return nil, nil, output.Usagef("%w", err)
	}
	return to, done, nil
}
