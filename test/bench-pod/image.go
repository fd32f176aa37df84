//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/stargz-snapshotter/estargz"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/registry"
)

// content says how large the image is.
type content struct{ unpacked, packed, read int64 }

// The files of the service: folders of which a start reads a few.
const (
	folders       = 100
	filesInFolder = 12
	fileSize      = 82 << 10
)

var readFolders = []int{3, 20, 37, 55, 90}

// command is what the container runs: it reads as a service does that loads its modules, then serves.
func command() []string {
	var list []string
	for _, f := range readFolders {
		list = append(list, fmt.Sprintf("/app/lib/d%03d/*", f))
	}
	return []string{"/bin/sh", "-c", "cat " + strings.Join(list, " ") + " >/dev/null && exec /bin/testpod serve -tcp= -udp="}
}

// push makes the image and pushes it in every form.
func (b *bench) push(ctx context.Context) (content, error) {
	var c content
	base, err := tarball.ImageFromPath(filepath.Join(b.top, "bin/node/images/testpod.tar"), nil)
	if err != nil {
		return c, fmt.Errorf("%w; run make build first", err)
	}
	layers, err := base.Layers()
	if err != nil {
		return c, err
	}
	var tars [][]byte
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			return c, err
		}
		t, err := io.ReadAll(r)
		if err != nil {
			return c, err
		}
		tars = append(tars, t)
	}
	app, err := appLayer()
	if err != nil {
		return c, err
	}
	tars = append(tars, app)
	first, err := startFiles(tars, &c)
	if err != nil {
		return c, err
	}
	client := registry.New(registry.Options{})
	defer client.Close()
	ordinary, err := imageOf(tars, func(t []byte) (mutate.Addendum, error) {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(t)), nil }, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return mutate.Addendum{}, err
		}
		size, err := l.Size()
		c.packed += size
		return mutate.Addendum{Layer: l}, err
	})
	if err != nil {
		return c, err
	}
	for _, name := range []string{"plain", "lazy", "learned"} {
		if err := b.pushOne(ctx, client, name, ordinary); err != nil {
			return c, err
		}
	}
	if b.rival == "" {
		return c, nil
	}
	starred, err := imageOf(tars, func(t []byte) (mutate.Addendum, error) { return starLayer(t, first) })
	if err != nil {
		return c, err
	}
	return c, b.pushOne(ctx, client, "stargz", starred)
}

// pushOne pushes an image and, where it is to be mounted, its EROFS form.
func (b *bench) pushOne(ctx context.Context, client *registry.Client, name string, im v1.Image) error {
	ref, err := registry.ParseReference(prepareHost + "/" + name + "/app:1")
	if err != nil {
		return err
	}
	if _, err := client.PushImage(ctx, ref, im, registry.PushOptions{}); err != nil {
		return err
	}
	if name != "lazy" && name != "learned" {
		return nil
	}
	place, err := image.OpenPlace(client, ref.String(), b.dir, false)
	if err != nil {
		return err
	}
	defer place.Close()
	_, err = image.Convert(ctx, place, place, image.ConvertOptions{ // as weft build --erofs does it
		Options:   image.Options{Format: image.EROFS, Codec: chunk.Zstd},
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: runtime.GOARCH}}, Referrer: true, TempDir: b.dir,
	})
	return err
}

func imageOf(tars [][]byte, layer func([]byte) (mutate.Addendum, error)) (v1.Image, error) {
	im := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	im = mutate.ConfigMediaType(im, types.OCIConfigJSON)
	im, err := mutate.ConfigFile(im, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Env: []string{"PATH=/bin"}, Entrypoint: command(), WorkingDir: "/"}})
	if err != nil {
		return nil, err
	}
	for _, t := range tars {
		a, err := layer(t)
		if err != nil {
			return nil, err
		}
		if im, err = mutate.Append(im, a); err != nil {
			return nil, err
		}
	}
	return im, nil
}

// appLayer is the service's layer: text that gzip makes to about 40 %.
func appLayer() ([]byte, error) {
	r := rand.New(rand.NewPCG(1, 2))
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for f := range folders {
		for i := range filesInFolder {
			var text bytes.Buffer
			for text.Len() < fileSize {
				fmt.Fprintf(&text, "%x ", r.Uint64()>>uint(8*r.IntN(6)))
				if r.IntN(4) == 0 {
					text.WriteString("    return self.service.answer(request)\n")
				}
			}
			h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("app/lib/d%03d/f%02d", f, i), Mode: 0o644, Size: int64(text.Len())}
			if err := w.WriteHeader(h); err != nil {
				return nil, err
			}
			if _, err := w.Write(text.Bytes()); err != nil {
				return nil, err
			}
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// startFiles lists the files that a start reads, in its order, and counts.
func startFiles(tars [][]byte, c *content) ([]string, error) {
	files := []string{"bin/busybox"}
	var served []string
	for _, t := range tars {
		for r := tar.NewReader(bytes.NewReader(t)); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, err
			}
			c.unpacked += h.Size
			var folder, file int
			n, _ := fmt.Sscanf(h.Name, "app/lib/d%03d/f%02d", &folder, &file)
			switch {
			case n == 2 && slices.Contains(readFolders, folder):
				files = append(files, h.Name)
			case h.Name == "bin/testpod":
				served = append(served, h.Name)
			case h.Name != "bin/busybox":
				continue
			}
			c.read += h.Size
		}
	}
	return append(files, served...), nil
}

// starLayer is a layer as eStargz, with a landmark after what a start reads.
func starLayer(t []byte, first []string) (mutate.Addendum, error) {
	var missing []string
	blob, err := estargz.Build(io.NewSectionReader(bytes.NewReader(t), 0, int64(len(t))), estargz.WithPrioritizedFiles(first), estargz.WithAllowPrioritizeNotFound(&missing))
	if err != nil {
		return mutate.Addendum{}, err
	}
	defer blob.Close()
	packed, err := io.ReadAll(blob)
	if err != nil {
		return mutate.Addendum{}, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil }, tarball.WithMediaType(types.OCILayer))
	return mutate.Addendum{Layer: l, Annotations: map[string]string{estargz.TOCJSONDigestAnnotation: blob.TOCDigest().String()}}, err
}
