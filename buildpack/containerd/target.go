package containerd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	apitypes "github.com/containerd/containerd/api/types"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/target"
)

// Labels by which containerd's garbage collection follows what an image consists of (docs/garbage-collection.md and
// core/images/mediatypes.go of github.com/containerd/containerd).
const (
	labelConfig       = "containerd.io/gc.ref.content.config"
	labelLayer        = "containerd.io/gc.ref.content.l.%d"
	labelSnapshot     = "containerd.io/gc.ref.snapshot."
	labelExpire       = "containerd.io/gc.expire"
	labelUncompressed = "containerd.io/uncompressed" // diffID of a layer
)

// leaseTime is how long content of a build that was killed stays: as long as with containerd's own client.
const leaseTime = 24 * time.Hour

// Target is a containerd as the place of an image. It must be closed: until then a lease holds what belongs to no image yet.
type Target struct {
	c           *Client
	snapshotter string // "": layers are not unpacked

	mu    sync.Mutex
	lease string
}

var _ target.Target = (*Target)(nil)

// NewTarget gives the target. With a snapshotter (DefaultSnapshotter) layers are unpacked before the image gets its names, so that its
// first container starts at once; otherwise containerd unpacks them then.
func (c *Client) NewTarget(snapshotter string) *Target {
	return &Target{c: c, snapshotter: snapshotter}
}

// Close lets go of what no image needs.
func (t *Target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lease == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := t.c.leases.Delete(t.c.in(ctx, ""), &leasesapi.DeleteRequest{ID: t.lease})
	t.lease = ""
	if err = said(err); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release the lease in containerd: %w", err)
	}
	return nil
}

// hold gives the lease of this target.
func (t *Target) hold(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lease != "" {
		return t.lease, nil
	}
	answer, err := t.c.leases.Create(t.c.in(ctx, ""), &leasesapi.CreateRequest{ID: "weft-" + rand.Text(),
		Labels: map[string]string{labelExpire: time.Now().Add(leaseTime).UTC().Format(time.RFC3339)}})
	if err != nil {
		return "", fmt.Errorf("take a lease in containerd: %w", said(err))
	}
	t.lease = answer.GetLease().GetID()
	return t.lease, nil
}

// hold makes a lease hold a blob and says whether it is there. The order matters: what the lease holds is not collected.
func (c *Client) hold(ctx context.Context, lease string, h v1.Hash) (bool, error) {
	_, err := c.leases.AddResource(c.in(ctx, ""), &leasesapi.AddResourceRequest{ID: lease,
		Resource: &leasesapi.Resource{ID: h.String(), Type: "content"}})
	if err != nil {
		return false, fmt.Errorf("hold %s in containerd: %w", h, said(err))
	}
	return c.has(ctx, h)
}

// Layer implements target.Target: a layer that the content store has is not sent again.
func (t *Target) Layer(ctx context.Context, s target.Source) (layer.Blob, error) {
	lease, err := t.hold(ctx)
	if err != nil {
		return layer.Blob{}, err
	}
	if s.Known == nil {
		blob, err := t.stream(ctx, lease, s)
		if err != nil {
			return layer.Blob{}, fmt.Errorf("write layer '%s': %w", s.Name, err)
		}
		return blob, nil
	}
	err = t.c.put(ctx, lease, s.Known.Digest, s.Known.Size, labelsOf(*s.Known), func() (io.ReadCloser, error) {
		if s.Existing == nil {
			return nil, errors.New("containerd has lost it and there is no copy")
		}
		return s.Existing.Compressed()
	})
	if err != nil {
		return layer.Blob{}, fmt.Errorf("write layer '%s': %w", s.Name, err)
	}
	return *s.Known, nil
}

func labelsOf(b layer.Blob) map[string]string {
	return map[string]string{labelUncompressed: b.DiffID.String()}
}

// stream makes, compresses and writes a layer in one pass.
func (t *Target) stream(ctx context.Context, lease string, s target.Source) (layer.Blob, error) {
	w, err := t.c.begin(ctx, lease)
	if err != nil {
		return layer.Blob{}, err
	}
	blob, err := layer.Stream(w, s.Compression, s.Content)
	if err == nil {
		err = w.commit(blob.Digest, labelsOf(blob))
	}
	if err != nil {
		return layer.Blob{}, errors.Join(err, w.abort())
	}
	// Where another has written the same meanwhile the lease does not hold it yet.
	there, err := t.c.hold(ctx, lease, blob.Digest)
	if err == nil && !there {
		err = fmt.Errorf("containerd took %s and does not have it", blob.Digest)
	}
	return blob, err
}

// Publish implements target.Target: the names come last and one after the other, and hold all the rest.
func (t *Target) Publish(ctx context.Context, config, manifest []byte, mediaType types.MediaType, names []string) (v1.Hash, error) {
	parsed, err := v1.ParseManifest(bytes.NewReader(manifest))
	if err != nil {
		return v1.Hash{}, err
	}
	lease, err := t.hold(ctx)
	if err != nil {
		return v1.Hash{}, err
	}
	if _, err := t.c.putBytes(ctx, lease, config, nil); err != nil {
		return v1.Hash{}, fmt.Errorf("write the image configuration: %w", err)
	}
	if t.snapshotter != "" {
		if err := t.unpack(ctx, lease, config, parsed); err != nil {
			return v1.Hash{}, err
		}
	}
	labels := map[string]string{labelConfig: parsed.Config.Digest.String()}
	for i, l := range parsed.Layers {
		labels[fmt.Sprintf(labelLayer, i)] = l.Digest.String()
	}
	digest, err := t.c.putBytes(ctx, lease, manifest, labels)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("write the manifest: %w", err)
	}
	// Whoever wrote the same manifest before may have left out the labels.
	if err := t.c.label(ctx, digest, labels); err != nil {
		return v1.Hash{}, err
	}
	for _, name := range names {
		if err := t.c.tag(ctx, name, &apitypes.Descriptor{MediaType: string(mediaType), Digest: digest.String(), Size: int64(len(manifest))}); err != nil {
			return v1.Hash{}, fmt.Errorf("publish %s: %w", name, err)
		}
	}
	return digest, nil
}

// Put brings a whole image under names.
func (t *Target) Put(ctx context.Context, img v1.Image, names []string) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	if len(layers) != len(config.RootFS.DiffIDs) {
		return fmt.Errorf("manifest and configuration name different numbers of layers: %d and %d", len(layers), len(config.RootFS.DiffIDs))
	}
	for i, l := range layers {
		known := layer.Blob{DiffID: config.RootFS.DiffIDs[i]}
		if known.Digest, err = l.Digest(); err != nil {
			return err
		}
		if known.Size, err = l.Size(); err != nil {
			return err
		}
		if _, err := t.Layer(ctx, target.Source{Name: known.Digest.String(), Known: &known, Existing: l}); err != nil {
			return err
		}
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return err
	}
	_, err = t.Publish(ctx, raw, manifest, mediaType, names)
	return err
}

// tag makes a name mean an image. Labels are taken away: the kubelet's side of containerd then looks at the image anew.
func (c *Client) tag(ctx context.Context, name string, to *apitypes.Descriptor) error {
	full, err := NameOf(name)
	if err != nil {
		return err
	}
	img := &imagesapi.Image{Name: full, Target: to}
	_, err = c.images.Create(c.in(ctx, ""), &imagesapi.CreateImageRequest{Image: img})
	if errors.Is(said(err), fs.ErrExist) {
		_, err = c.images.Update(c.in(ctx, ""), &imagesapi.UpdateImageRequest{Image: img, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"target", "labels"}}})
	}
	return said(err)
}

// Previous implements target.Target.
func (t *Target) Previous(ctx context.Context, name string) (v1.Image, error) {
	return t.c.Image(ctx, name)
}
