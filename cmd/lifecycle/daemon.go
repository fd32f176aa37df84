package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/buildpack/target"
)

// daemon is the Docker daemon of a run with -daemon.
type daemon struct {
	*target.Daemon
	dir   string // takes layers: in the launch cache, else a folder that goes at the end
	temp  bool
	saved []string // folders of images that this run has read
	stop  context.CancelFunc
}

// pingInterval keeps daemons that end idle connections from doing so while buildpacks run.
const pingInterval = 2 * time.Second

// openDaemon connects while there still is the right to.
func (s *session) openDaemon(ctx context.Context) error {
	d, err := target.ConnectDaemon(ctx, s.getenv("DOCKER_HOST"), s.getenv)
	if err != nil {
		return err
	}
	if err := d.Hold(ctx); err != nil {
		return err
	}
	s.daemon = &daemon{Daemon: d, stop: func() {}}
	if cache := s.get("launch-cache"); cache != "" && strings.Contains(ownedFolders[s.phase], "launch-cache") {
		s.daemon.dir = filepath.Join(cache, "weft")
		if err := os.MkdirAll(s.daemon.dir, 0o755); err != nil {
			return err
		}
	} else {
		if s.daemon.dir, err = os.MkdirTemp("", "lifecycle-daemon-"); err != nil {
			return err
		}
		s.daemon.temp = true
		if os.Geteuid() == 0 {
			if err := os.Lchown(s.daemon.dir, s.number("uid"), s.number("gid")); err != nil {
				return err
			}
		}
	}
	ctx, s.daemon.stop = context.WithCancel(ctx)
	go d.KeepAlive(ctx, pingInterval)
	return nil
}

// closeDaemon ends the connections and removes what was only kept for this run.
func (s *session) closeDaemon() error {
	if s.daemon == nil {
		return nil
	}
	s.daemon.stop()
	s.daemon.Close()
	if !s.daemon.temp {
		return nil
	}
	return os.RemoveAll(s.daemon.dir)
}

// find gives the image of a name or identity, nil if there is none. References are identities.
func (d *daemon) find(ctx context.Context, name string) (*lifecycle.NamedImage, error) {
	img, err := d.Image(ctx, name, filepath.Join(d.dir, "images"))
	if err != nil || img == nil {
		return nil, err
	}
	return &lifecycle.NamedImage{Name: name, Reference: img.ID, Image: img}, nil
}

// kept replaces what the daemon tells of an image by the image if it is the one of the last build, which is still here.
func (s *session) kept(ctx context.Context, image *lifecycle.NamedImage) error {
	if s.daemon == nil || image == nil {
		return nil
	}
	d, ok := image.Image.(*target.DaemonImage)
	if !ok {
		return nil
	}
	img, err := s.daemon.target().Previous(ctx, d.ID)
	if err == nil && img != nil {
		image.Image = img
	}
	return err
}

// whole replaces what the daemon tells of an image by the image.
func (s *session) whole(ctx context.Context, image *lifecycle.NamedImage) error {
	if err := s.kept(ctx, image); err != nil || image == nil {
		return err
	}
	d, ok := image.Image.(*target.DaemonImage)
	if !ok {
		return nil
	}
	s.daemon.saved = append(s.daemon.saved, d.Dir())
	img, err := d.Whole()
	if err == nil {
		image.Image = img
	}
	return err
}

// daemonTarget names images as the daemon does.
type daemonTarget struct {
	*target.DaemonTarget
	daemon *daemon
}

func (d *daemon) target() *daemonTarget {
	return &daemonTarget{target.NewDaemonTarget(d.Daemon, filepath.Join(d.dir, "app")), d}
}

// Publish gives the identity that the daemon has given the image.
func (t *daemonTarget) Publish(ctx context.Context, config, manifest []byte, mediaType types.MediaType, names []string) (v1.Hash, error) {
	if _, err := t.DaemonTarget.Publish(ctx, config, manifest, mediaType, names); err != nil {
		return v1.Hash{}, err
	}
	id, err := t.daemon.ID(ctx, names[0])
	if err != nil {
		return v1.Hash{}, err
	}
	if id == "" {
		return v1.Hash{}, fmt.Errorf("the Docker daemon took the image, but has none called %s", names[0])
	}
	h, err := v1.NewHash(id)
	return h, errors.Join(err, t.Remove(), t.daemon.forget())
}

// forget removes images of the daemon that this run had no use for.
func (d *daemon) forget() error {
	all, err := filepath.Glob(filepath.Join(d.dir, "images", "*"))
	for _, dir := range all {
		if !slices.Contains(d.saved, dir) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// reportOfDaemon says the image's identity, not a digest that no registry has (platform.md, report.toml).
func (s *session) reportOfDaemon(r *spec.ImageReport) {
	if s.daemon != nil {
		*r = spec.ImageReport{Tags: r.Tags, ImageID: r.Digest}
	}
}
