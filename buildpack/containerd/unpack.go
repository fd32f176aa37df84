package containerd

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	apitypes "github.com/containerd/containerd/api/types"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// unpack makes the snapshots of all layers that have none yet, and lets the configuration hold the topmost.
func (t *Target) unpack(ctx context.Context, lease string, config []byte, m *v1.Manifest) error {
	var parsed struct {
		RootFS v1.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &parsed); err != nil {
		return err
	}
	ids := parsed.RootFS.DiffIDs
	if len(ids) != len(m.Layers) {
		return fmt.Errorf("manifest and configuration name different numbers of layers: %d and %d", len(m.Layers), len(ids))
	}
	chain := ""
	for i, l := range m.Layers {
		next := chainID(chain, ids[i])
		if err := t.unpackLayer(ctx, lease, chain, next, l, ids[i]); err != nil {
			return fmt.Errorf("unpack layer %d of the image: %w", i+1, err)
		}
		chain = next
	}
	return t.c.label(ctx, m.Config.Digest, map[string]string{labelSnapshot + t.snapshotter: chain})
}

// chainID names a stack of layers (config.md of github.com/opencontainers/image-spec, "Layer ChainID").
func chainID(below string, diffID v1.Hash) string {
	if below == "" {
		return diffID.String()
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(below+" "+diffID.String())))
}

func (t *Target) unpackLayer(ctx context.Context, lease, below, name string, l v1.Descriptor, diffID v1.Hash) (err error) {
	ctx = t.c.in(ctx, lease)
	_, err = t.c.leases.AddResource(ctx, &leasesapi.AddResourceRequest{ID: lease, Resource: &leasesapi.Resource{ID: name, Type: "snapshots/" + t.snapshotter}})
	if err != nil {
		return said(err)
	}
	_, err = t.c.snapshots.Stat(ctx, &snapshotsapi.StatSnapshotRequest{Snapshotter: t.snapshotter, Key: name})
	if err = said(err); !errors.Is(err, fs.ErrNotExist) {
		return err // also nil: it is there
	}
	key := "weft-" + rand.Text() + " " + name
	prepared, err := t.c.snapshots.Prepare(ctx, &snapshotsapi.PrepareSnapshotRequest{Snapshotter: t.snapshotter, Key: key, Parent: below})
	if err != nil {
		return said(err)
	}
	defer func() {
		if err != nil { // what it was for has failed; the lease would end it, too
			_, _ = t.c.snapshots.Remove(context.WithoutCancel(ctx), &snapshotsapi.RemoveSnapshotRequest{Snapshotter: t.snapshotter, Key: key})
		}
	}()
	applied, err := t.c.diffs.Apply(ctx, &diffapi.ApplyRequest{Mounts: prepared.Mounts,
		Diff: &apitypes.Descriptor{MediaType: string(l.MediaType), Digest: l.Digest.String(), Size: l.Size}})
	if err != nil {
		return said(err)
	}
	if got := applied.GetApplied().GetDigest(); got != diffID.String() {
		return fmt.Errorf("%s unpacked to %s instead of %s", l.Digest, got, diffID)
	}
	_, err = t.c.snapshots.Commit(ctx, &snapshotsapi.CommitSnapshotRequest{Snapshotter: t.snapshotter, Name: name, Key: key})
	if err = said(err); errors.Is(err, fs.ErrExist) { // another has unpacked the same
		_, err = t.c.snapshots.Remove(ctx, &snapshotsapi.RemoveSnapshotRequest{Snapshotter: t.snapshotter, Key: key})
		return said(err)
	}
	return err
}

// label adds labels to a blob.
func (c *Client) label(ctx context.Context, h v1.Hash, labels map[string]string) error {
	mask := &fieldmaskpb.FieldMask{}
	for name := range labels {
		mask.Paths = append(mask.Paths, "labels."+name)
	}
	_, err := c.content.Update(c.in(ctx, ""), &contentapi.UpdateRequest{Info: &contentapi.Info{Digest: h.String(), Labels: labels}, UpdateMask: mask})
	if err != nil {
		return fmt.Errorf("label %s in containerd: %w", h, said(err))
	}
	return nil
}
