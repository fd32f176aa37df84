package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
	"github.com/weft-dev/weft/image/tree"
)

// layerwise converts an image for a build cache: each layer becomes a blob by itself, with its bootstrap in it, as Nydus's converter makes them, and the
// bootstraps are merged. So a layer's blob depends on nothing but the layer, the options and the dictionaries, and is the same whether it was made now
// or comes out of the cache; but layers do not share chunks.
type layerwise struct {
	from    Place
	dir     string // of the blobs
	o       ConvertOptions
	options string // what a blob depends on besides its layer

	records []ocispec.Descriptor
	fresh   map[digest.Digest]bool // blobs that were made now
}

func newLayerwise(from Place, dir string, o ConvertOptions) *layerwise {
	o.TOC, o.InBlob = true, true
	o.Whiteouts = tree.Keep // the merge gives them their meaning, as Nydus's does
	return &layerwise{from: from, dir: dir, o: o, options: buildOptions(&o.Options), fresh: map[digest.Digest]bool{}}
}

// buildOptions tells all options that change a layer's blob. The number in front changes when the same options give other blobs.
func buildOptions(o *Options) string {
	var others strings.Builder
	for _, p := range o.Prefetch {
		fmt.Fprintf(&others, "%q ", p)
	}
	for _, d := range o.Dicts {
		for i := range d.Table.Devices {
			fmt.Fprintf(&others, "%s ", d.Table.Devices[i].Name())
		}
	}
	return fmt.Sprintf("1 chunk-size=%d compressor=%s level=%d batch-size=%d digester=%s others=%s",
		o.chunkSize(), o.Codec, o.Level, o.Batch, cmp.Or(o.Algorithm, chunk.Blake3), digest.FromString(others.String()).Encoded()[:16])
}

// image converts all layers.
func (w *layerwise) image(ctx context.Context, layers []ocispec.Descriptor, one *ConvertedImage) (*Image, error) {
	var opened []*Opened
	for i, l := range layers {
		at := fmt.Sprintf("layer %d of %d, %s", i+1, len(layers), l.Digest)
		o, err := w.cached(ctx, l)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			w.o.Cache.o.Warn("%s: its record in the build cache is not used: %v", at, err)
		}
		var stats chunk.Stats
		if o != nil {
			one.Cached++
			w.o.Note("%s: from the build cache", at)
		} else {
			w.o.Note("%s", at)
			if o, stats, err = w.pack(ctx, l); err != nil {
				return nil, fmt.Errorf("layer %d (%s): %w", i+1, l.Digest, err)
			}
		}
		one.Layers = append(one.Layers, stats)
		o.Root.TakeNames()
		opened = append(opened, o)
	}
	if len(opened) == 0 {
		return &Image{RAFS, tree.NewDir(0o755), &chunk.Table{Algorithm: chunk.Blake3}, nil}, nil
	}
	return Merge(false, opened...)
}

// pack makes a layer's blob.
func (w *layerwise) pack(ctx context.Context, l ocispec.Descriptor) (*Opened, chunk.Stats, error) {
	packed, err := Pack(ctx, chunk.Folder(w.dir), w.o.Options, Tar(func() (io.ReadCloser, error) { return w.from.Blob(ctx, l) }))
	if err != nil {
		return nil, chunk.Stats{}, err
	}
	blob := digest.NewDigestFromEncoded(digest.SHA256, packed.Holder)
	o, size, err := w.open(packed.Holder)
	if err != nil {
		return nil, packed.Stats, err
	}
	w.fresh[blob] = true
	w.records = append(w.records, record(l.Digest, blob, size, w.options))
	return o, packed.Stats, nil
}

// cached gets a layer's blob out of the cache; nil if there is none. It is verified as a whole before anything is done with it.
func (w *layerwise) cached(ctx context.Context, l ocispec.Descriptor) (*Opened, error) {
	d, ok := w.o.Cache.find(l.Digest)
	if !ok {
		return nil, nil
	}
	if made, ok := d.Annotations[cacheOptions]; ok && made != w.options {
		return nil, fmt.Errorf("it was made with other options (%.200q)", made)
	}
	name := d.Digest.Encoded()
	if _, err := os.Stat(filepath.Join(w.dir, name)); err != nil {
		if err := w.fetch(ctx, d, name); err != nil {
			return nil, err
		}
	}
	o, _, err := w.open(name)
	if err != nil {
		return nil, err
	}
	w.records = append(w.records, d)
	return o, nil
}

func (w *layerwise) fetch(ctx context.Context, d ocispec.Descriptor, name string) error {
	r, err := w.o.Cache.client.Blob(ctx, w.o.Cache.ref.Repository, d)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = writeFile(filepath.Join(w.dir, name), func(f io.Writer) (int64, error) { return io.Copy(f, r) }) // digest and size are compared at the end
	return err
}

// open opens the bootstrap in a layer's blob, gives the blob its identity in the merged bootstrap, and compares it with the options.
func (w *layerwise) open(name string) (*Opened, int64, error) {
	path := filepath.Join(w.dir, name)
	st, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	o, err := openBlobFile(path, st.Size(), nil)
	if err != nil {
		return nil, 0, err
	}
	if o.Format != RAFS {
		return nil, 0, errors.New("the bootstrap in its blob is not RAFS v6")
	}
	for _, d := range w.o.Dicts {
		o.NotOwn(d.Blobs)
	}
	if err := w.fits(o); err != nil {
		return nil, 0, err
	}
	o.NameBlobAfter(name)
	return o, st.Size(), w.identify(o, path, st.Size())
}

// fits compares a layer with the options, by what its bootstrap says: records of Nydus's converter say nothing of them.
func (w *layerwise) fits(o *Opened) error {
	s := &o.Bootstrap.Super
	algorithm := cmp.Or(w.o.Algorithm, chunk.Blake3)
	if int(s.ChunkSize) != w.o.chunkSize() || s.Codec() != w.o.Codec || s.Algorithm() != algorithm {
		return fmt.Errorf("it has chunks of %d bytes, %s and %s; %d, %s and %s were asked for", s.ChunkSize, s.Codec(), s.Algorithm(), w.o.chunkSize(), w.o.Codec, algorithm)
	}
	for i := range o.Blobs {
		b := &o.Blobs[i]
		switch {
		case b.Features&(rafs.EncryptedBlob|rafs.External|rafs.ZRan|rafs.Separate) != 0:
			return fmt.Errorf("its blob cannot be used by itself: %s", b.Features)
		case b.ID == rafs.Itself && b.Features&rafs.Batch != 0 != (w.o.Batch > 0):
			return errors.New("its small chunks are put together otherwise than was asked for")
		case b.ID != rafs.Itself && !o.others[b.ID]:
			return fmt.Errorf("it needs the blob %s of another image", b.ID)
		}
	}
	return nil
}

// identify tells the merged bootstrap of the layer's blob what only the whole blob shows.
func (w *layerwise) identify(o *Opened, path string, size int64) error {
	if !slices.ContainsFunc(o.Blobs, func(b rafs.Blob) bool { return b.Features&rafs.HasTOC != 0 && !o.others[b.ID] }) {
		return o.SetBlob("", func(b *rafs.Blob, _ string) error { b.Size = uint64(size); return nil })
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	parts, sum, err := rafs.Contents(f, size)
	if err != nil {
		return err
	}
	return o.SetBlob("", func(b *rafs.Blob, _ string) error {
		b.Size, b.TOCDigest, b.TOCSize = uint64(size), sum, rafs.ContentsSize(parts)
		return nil
	})
}
