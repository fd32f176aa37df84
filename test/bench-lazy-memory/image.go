//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/registry"
)

// pushed is an image of one layer and its EROFS form, as containerd knows it.
type pushed struct{ ref, manifest, layer, chain string }

// push makes image number i: files of some 80 KiB, of which half can be compressed.
func push(ctx context.Context, host string, i int, o options) (pushed, error) {
	p := pushed{ref: fmt.Sprintf("%s/app%d:1", host, i)}
	packed, err := layer(uint64(i), o.size)
	if err != nil {
		return p, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil }, tarball.WithCompressionLevel(1))
	if err != nil {
		return p, err
	}
	im, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH})
	if err == nil {
		im, err = mutate.AppendLayers(im, l)
	}
	if err != nil {
		return p, err
	}
	digest, err1 := l.Digest()
	chain, err2 := l.DiffID() // that of one layer
	if err := errors.Join(err1, err2); err != nil {
		return p, err
	}
	client := registry.New(registry.Options{})
	defer client.Close()
	ref, err := registry.ParseReference(p.ref)
	if err != nil {
		return p, err
	}
	desc, err := client.PushImage(ctx, ref, im, registry.PushOptions{})
	if err != nil {
		return p, err
	}
	p.manifest, p.layer, p.chain = desc.Digest.String(), digest.String(), chain.String()
	place, err := image.OpenPlace(client, p.ref, o.dir, false)
	if err != nil {
		return p, err
	}
	defer place.Close()
	_, err = image.Convert(ctx, place, place, image.ConvertOptions{
		Options: image.Options{Format: image.EROFS, Codec: chunk.Zstd}, Referrer: true, TempDir: o.dir,
	})
	return p, err
}

func layer(seed uint64, size int64) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	n := rand.New(r)
	for i := int64(0); size > 0; i++ {
		content := make([]byte, min(size, 16<<10+n.Int64N(128<<10)))
		_, _ = r.Read(content[:len(content)/2])
		size -= int64(len(content))
		h := tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%d", i%50, i), Mode: 0o644, Size: int64(len(content))}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// pull asks for the layer as containerd does, which finds it there already.
func (p pushed) pull(ctx context.Context, s snapshots.Snapshotter) error {
	labels := map[string]string{
		"containerd.io/snapshot.ref": p.chain, "containerd.io/snapshot/cri.image-ref": p.ref,
		"containerd.io/snapshot/cri.manifest-digest": p.manifest, "containerd.io/snapshot/cri.layer-digest": p.layer,
	}
	_, err := s.Prepare(ctx, "extract-"+p.chain, "", snapshots.WithLabels(labels))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err == nil {
		err = errors.New("the image was to be unpacked: the log says why it is not mounted")
	}
	return err
}

func (p pushed) find(ctx context.Context, s snapshots.Snapshotter) (name string, err error) {
	err = s.Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		if i.Kind == snapshots.KindCommitted && i.Labels["containerd.io/snapshot.ref"] == p.chain {
			name = i.Name
		}
		return nil
	})
	if err == nil && name == "" {
		err = fmt.Errorf("there is no snapshot of %s", p.ref)
	}
	return name, err
}

// dial is containerd's client of a snapshotter that runs elsewhere.
func dial(ctx context.Context, socket string) (snapshots.Snapshotter, func() error, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil, err
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err := errors.Join(err, c.Close()); err != nil {
		return nil, nil, err
	}
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), "weft"), conn.Close, nil
}
