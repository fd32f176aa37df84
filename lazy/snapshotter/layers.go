//go:build linux

package snapshotter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/registry"
)

// Layer is one layer of an image.
type Layer struct {
	Blob  ocispec.Descriptor
	Diff  digest.Digest // of the unpacked tar
	Chain digest.Digest // image-spec, config.md, "Layer ChainID"
}

// Layers are the layers of an image, the lowest first.
type Layers struct {
	List  []Layer
	Nydus bool // they are those of a Nydus image and no tar files
}

func (l *Layers) index(chain digest.Digest) int {
	for i := range l.List {
		if l.List[i].Chain == chain {
			return i
		}
	}
	return -1
}

// maxConfig is the greatest configuration of an image that is read, in bytes.
const maxConfig = 8 << 20

// readLayers reads manifest and configuration of an image in a registry.
func readLayers(ctx context.Context, client *registry.Client, n Name) (*Layers, error) {
	ref, err := registry.ParseReference(n.Reference)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(ctx, client, ref.Repository, n.Manifest, nil)
	if err != nil {
		return nil, err
	}
	return readConfig(ctx, client, ref.Repository, m)
}

// readManifest reads an image's manifest, which the caller may have (nil: not).
func readManifest(ctx context.Context, client *registry.Client, repo registry.Repository, d digest.Digest, body []byte) (*ocispec.Manifest, error) {
	if body == nil {
		var err error
		if _, body, err = client.Manifest(ctx, repo.WithDigest(d)); err != nil {
			return nil, err
		}
	}
	return parseManifest(d, body)
}

func parseManifest(d digest.Digest, body []byte) (*ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("the manifest %s: %w", d, err)
	}
	return &m, nil
}

// readConfig reads the configuration that a manifest names.
func readConfig(ctx context.Context, client *registry.Client, repo registry.Repository, m *ocispec.Manifest) (*Layers, error) {
	if m.Config.Size > maxConfig {
		return nil, fmt.Errorf("the configuration %s has %d bytes, more than %d", m.Config.Digest, m.Config.Size, maxConfig)
	}
	r, err := client.Blob(ctx, repo, m.Config)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("the configuration %s: %w", m.Config.Digest, err)
	}
	return layersOf(m, b)
}

func layersOf(m *ocispec.Manifest, config []byte) (*Layers, error) {
	var c struct {
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("the configuration %s: %w", m.Config.Digest, err)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("the manifest has %d layers and the configuration %s has %d", len(m.Layers), m.Config.Digest, len(c.RootFS.DiffIDs))
	}
	l := &Layers{Nydus: image.Converts(m)}
	var chain digest.Digest
	for i, diff := range c.RootFS.DiffIDs {
		if err := diff.Validate(); err != nil {
			return nil, fmt.Errorf("the configuration %s: diffID %q: %w", m.Config.Digest, diff, err)
		}
		if i == 0 {
			chain = diff
		} else {
			chain = digest.FromString(string(chain) + " " + string(diff))
		}
		l.List = append(l.List, Layer{m.Layers[i], diff, chain})
	}
	return l, nil
}

// unpackLayers unpacks layers into one folder, which is empty or holds what an earlier try has left. What the registry sends is compared with both
// digests before it counts.
func unpackLayers(ctx context.Context, client *registry.Client, n Name, layers []Layer, folder string) error {
	ref, err := registry.ParseReference(n.Reference)
	if err != nil {
		return err
	}
	if err := clearFolder(folder); err != nil {
		return err
	}
	for _, l := range layers {
		if err := unpackLayer(ctx, client, ref.Repository, l, folder); err != nil {
			return errors.Join(fmt.Errorf("the layer %s: %w", l.Blob.Digest, err), clearFolder(folder))
		}
	}
	return nil
}

func unpackLayer(ctx context.Context, client *registry.Client, repo registry.Repository, l Layer, folder string) error {
	r, err := client.Blob(ctx, repo, l.Blob)
	if err != nil {
		return err
	}
	defer r.Close()
	plain, err := compression.DecompressStream(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	diff := l.Diff.Algorithm().Digester()
	tee := io.TeeReader(plain, diff.Hash())
	// Without conversion whiteouts remove what lower layers have put into the folder.
	if _, err := archive.Apply(ctx, folder, tee); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // the digest is compared at the end
		return err
	}
	if got := diff.Digest(); got != l.Diff {
		return fmt.Errorf("it unpacks to %s and the configuration says %s", got, l.Diff)
	}
	return nil
}

// clearFolder removes everything in a folder.
func clearFolder(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
