package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
)

// A bootstrap that was written into its blob does not know what came behind it, and Nydus's converter for containerd merges such bootstraps as they are: their
// blobs are longer than they say.
func TestBootstrapsThatKnowLess(t *testing.T) {
	w := newCacheWorld(t)
	w.convert("team/app:v1", "team/app:nydus", "team/app:cache", image.CacheOptions{})
	to := place(t, w.client, w.reg.Host+"/team/app:less", true)
	found, err := image.OpenImage(t.Context(), place(t, w.client, w.reg.Host+"/team/app:nydus", false), "team/app:nydus", nil)
	if err != nil {
		t.Fatal(err)
	}
	less := bytes.Clone(found.Metadata)
	for i := range found.Blobs {
		size := less[int(found.Bootstrap.Super.BlobTable)+256*i+88:] // compressed_size
		binary.LittleEndian.PutUint64(size, binary.LittleEndian.Uint64(size)-100)
	}
	m, config := found.Manifest, configOf(t, to, found.Manifest)
	at := slices.IndexFunc(m.Layers, func(d ocispec.Descriptor) bool {
		return d.Annotations["containerd.io/snapshot/nydus-bootstrap"] == "true"
	})
	layer, diffID := bootstrapLayer(t, less)
	put := func(d *ocispec.Descriptor, b []byte) {
		d.Digest, d.Size = digest.FromBytes(b), int64(len(b))
		if err := to.PutBlob(t.Context(), *d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }); err != nil {
			t.Fatal(err)
		}
	}
	m.Layers = slices.Clone(m.Layers)
	put(&m.Layers[at], layer)
	config.RootFS.DiffIDs[at] = diffID
	body, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	put(&m.Config, body)
	w.put("team/app:less", m)

	w.sound("team/app:v1", "team/app:less")
	opened, err := image.OpenImage(t.Context(), place(t, w.client, w.reg.Host+"/team/app:less", false), "team/app:less", nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i, d := range opened.Table.Devices {
		if d.Size != m.Layers[i].Size {
			t.Errorf("blob %d has %d bytes and is asked for with %d", i, m.Layers[i].Size, d.Size)
		}
		r, err := to.Blob(t.Context(), m.Layers[i])
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close(), os.WriteFile(filepath.Join(dir, d.Name()), b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "merged.boot"), less, 0o600); err != nil {
		t.Fatal(err)
	}
	onDisk := func() bool {
		t.Helper()
		o, err := image.OpenPath(filepath.Join(dir, "merged.boot"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := o.CheckBlobs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r.OK()
	}
	if !onDisk() {
		t.Error("a bootstrap in a folder is not sound")
	}
	f, err := os.OpenFile(filepath.Join(dir, opened.Table.Devices[0].Name()), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("x"); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if onDisk() {
		t.Error("a blob with something behind it is sound")
	}
}

// bootstrapLayer is the last layer of a Nydus image.
func bootstrapLayer(t *testing.T, bootstrap []byte) (layer []byte, diffID digest.Digest) {
	t.Helper()
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	err := w.WriteHeader(&tar.Header{Name: "image/image.boot", Mode: 0o444, Size: int64(len(bootstrap))})
	if err == nil {
		_, err = w.Write(bootstrap)
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain.Bytes()); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	return packed.Bytes(), digest.FromBytes(plain.Bytes())
}
