//go:build linux

package snapshotter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/weft-dev/weft/image"
)

// Name names an ordinary image, or a Nydus image that was asked for itself.
type Name struct {
	Reference string        // as the image was asked for
	Manifest  digest.Digest // of this platform
	Converted bool          // it is known that it was asked for itself
}

// Images mounts converted images. They are known by their ID once they are prepared.
type Images interface {
	// Layers are the layers of the image as its manifest and configuration say.
	Layers(ctx context.Context, n Name) (*Layers, error)
	// Prepare gets the metadata of the image's converted form and checks it, so that Mount needs no network, and the layers, also with an error if they could
	// be read. image.ErrOrdinary if there is no converted form.
	Prepare(ctx context.Context, n Name) (*Layers, error)
	// Mount mounts the image, prepared before or not, unless it is mounted there.
	Mount(ctx context.Context, n Name, folder string) error
	// Unmount unmounts it, and forgets an image that is mounted nowhere.
	Unmount(ctx context.Context, n Name, folder string) error
	// Cached is how many bytes of the image were fetched; false if it is not known.
	Cached(manifest digest.Digest) (int64, bool)
	// Unpack unpacks layers of an ordinary image, the lowest first, into one folder.
	Unpack(ctx context.Context, n Name, layers []Layer, folder string) error
}

// decision is what was found out about an image.
type decision struct {
	layers *Layers
	err    error // why it is not mounted
	until  time.Time
}

// again is how long it holds that an image is not mounted: all layers of one pull should get the same answer.
const again = 20 * time.Second

// lookup bounds how long a pull waits for an answer about the converted form of an image.
const lookup = 30 * time.Second

// remote puts the snapshot of an image's layer in place without unpacking it: errdefs.ErrAlreadyExists if that was done, nil if the layer has to be
// unpacked, and another error if neither can be.
func (s *Snapshotter) remote(ctx context.Context, key, parent, target string, labels map[string]string) error {
	s.passOver(target, labels)
	n := Name{Reference: labels[labelImage], Manifest: digest.Digest(labels[labelManifest]), Converted: labels[labelNydusBlob] != "" || labels[labelNydusMeta] != ""}
	if n.Reference == "" || n.Manifest.Validate() != nil {
		return nil
	}
	d, err := s.decide(ctx, n)
	if err != nil {
		return err
	}
	if d.err != nil {
		if d.layers != nil && d.layers.Nydus {
			return fmt.Errorf("%s is a Nydus image, which is mounted or not run at all: %w: %w", n.Reference, d.err, errdefs.ErrFailedPrecondition)
		}
		return nil
	}
	at := d.layers.index(digest.Digest(target))
	if at < 0 {
		s.log.Warn("a layer is not in its image's configuration; it is unpacked", "image", n.Reference, "layer", target)
		return nil
	}
	name := remoteName(target, parent)
	err = s.put(ctx, key, parent, name, mark{Kind: Empty, Reference: n.Reference, Manifest: n.Manifest, Chain: digest.Digest(target)},
		at == len(d.layers.List)-1, labels)
	switch {
	case err == nil:
		s.metrics.lazy(at == len(d.layers.List)-1)
	case errors.Is(err, errdefs.ErrAlreadyExists):
	default:
		if ctx.Err() != nil {
			return err
		}
		s.refuse(n, "mount", err)
		if d.layers.Nydus {
			return err
		}
		return nil
	}
	return fmt.Errorf("the snapshot %s of an image that is mounted: %w", target, errdefs.ErrAlreadyExists)
}

// notTaken are labels that Nydus's snapshotter or builder gives a layer and that change nothing here, with the reason.
var notTaken = map[string]string{
	"containerd.io/snapshot/pullsecret":       "credentials in labels are not taken: use docker login, the pods' or Secrets",
	"containerd.io/snapshot/pullusername":     "credentials in labels are not taken: use docker login, the pods' or Secrets",
	"containerd.io/snapshot/nydus-signature":  "signatures of bootstraps are not checked; what the manifest's digest says is",
	"containerd.io/snapshot/nydus-proxy-mode": "pulls are not passed to other agents",
	"containerd.io/snapshot/tarfs-hint":       "tarfs is not mounted: the image is unpacked",
	"containerd.io/snapshot/nydus-ref":        "indexes over gzip layers are not mounted",
}

// passOver tells of labels that change nothing. Their values may be secret.
func (s *Snapshotter) passOver(target string, labels map[string]string) {
	for name, why := range notTaken {
		if _, ok := labels[name]; ok {
			s.log.Warn("a label of a layer changes nothing here", "label", name, "layer", target, "reason", why)
		}
	}
}

// remoteName is the name of a layer's snapshot: containerd finds it by its label, and the same layer may come with and without a parent.
func remoteName(target, parent string) string {
	if parent == "" {
		return target
	}
	sum := sha256.Sum256([]byte(parent))
	return target + "-" + hex.EncodeToString(sum[:6])
}

// put makes a committed snapshot with a mark, and mounts the image on it if it is the topmost layer's.
func (s *Snapshotter) put(ctx context.Context, key, parent, name string, m mark, top bool, labels map[string]string) error {
	unlock, err := s.locks.lock(ctx, "name "+name)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.layers.Stat(ctx, name); err == nil {
		return errdefs.ErrAlreadyExists
	}
	all := map[string]string{labelRemote: "remote snapshot"}
	for k, v := range labels {
		all[k] = v
	}
	opts := []snapshots.Opt{snapshots.WithLabels(all)}
	if _, err := s.layers.Prepare(ctx, key, parent, opts...); err != nil {
		return err
	}
	abort := func(name string, err error) error {
		return errors.Join(err, s.Remove(context.WithoutCancel(ctx), name))
	}
	l, err := s.layer(ctx, key)
	if err != nil {
		return abort(key, err)
	}
	if top {
		m.Kind = Mounted
	}
	if err := s.writeMark(l.id, m); err != nil {
		return abort(key, err)
	}
	// It is mounted afterwards, because committing counts what lies in the folder.
	if err := s.layers.Commit(ctx, name, key, opts...); err != nil {
		return abort(key, err)
	}
	if !top {
		return nil
	}
	begin := time.Now()
	if err := s.images.Mount(ctx, m.image(), s.folder(l.id)); err != nil {
		return abort(name, err)
	}
	s.metrics.mounted(time.Since(begin))
	s.log.Info("an image is mounted before it is there", "image", m.Reference, "manifest", m.Manifest)
	return nil
}

// decide finds out, once for all layers of a pull, whether an image is mounted.
func (s *Snapshotter) decide(ctx context.Context, n Name) (decision, error) {
	unlock, err := s.locks.lock(ctx, "image "+string(n.Manifest))
	if err != nil {
		return decision{}, err
	}
	defer unlock()
	s.mu.Lock()
	d, ok := s.decisions[n.Manifest]
	s.mu.Unlock()
	if ok && time.Now().Before(d.until) {
		return d, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookup)
	defer cancel()
	d = decision{until: time.Now().Add(again)}
	d.layers, d.err = s.images.Prepare(ctx, n)
	switch {
	case d.err == nil:
	case errors.Is(d.err, image.ErrOrdinary):
		s.metrics.ordinary()
		s.log.Debug("an image has no converted form: it is unpacked", "image", n.Reference)
	default:
		s.metrics.fallback("prepare")
		s.log.Warn("an image cannot be mounted, so it is pulled and unpacked as usual", "image", n.Reference, "error", d.err)
	}
	s.remember(n, d)
	return d, nil
}

// refuse notes that an image was not mounted after all.
func (s *Snapshotter) refuse(n Name, stage string, err error) {
	s.metrics.fallback(stage)
	s.log.Warn("an image cannot be mounted, so it is pulled and unpacked as usual", "image", n.Reference, "error", err)
	s.mu.Lock()
	d := s.decisions[n.Manifest]
	s.mu.Unlock()
	d.err, d.until = err, time.Now().Add(again)
	s.remember(n, d)
}

// remember keeps a decision and drops those that hold no longer.
func (s *Snapshotter) remember(n Name, d decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for k, old := range s.decisions {
		if now.After(old.until) {
			delete(s.decisions, k)
		}
	}
	if s.decisions == nil {
		s.decisions = map[digest.Digest]decision{}
	}
	s.decisions[n.Manifest] = d
}

// unpack fetches the layers of an image up to one and unpacks them into its snapshot's folder.
func (s *Snapshotter) unpack(ctx context.Context, l layer) error {
	n := l.mark.image()
	layers, err := s.images.Layers(ctx, n)
	if err != nil {
		return fmt.Errorf("the layers of %s are needed by another image: %w", n.Reference, err)
	}
	at := layers.index(l.mark.Chain)
	if at < 0 || layers.Nydus {
		return fmt.Errorf("the layer %s of %s has no ordinary form: %w", l.mark.Chain, n.Reference, errdefs.ErrFailedPrecondition)
	}
	if err := s.images.Unpack(ctx, n, layers.List[:at+1], s.folder(l.id)); err != nil {
		return fmt.Errorf("unpacking the layers of %s: %w", n.Reference, err)
	}
	m := *l.mark
	m.Kind = Unpacked
	return s.writeMark(l.id, m)
}
