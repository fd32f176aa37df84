package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image/chunk"
)

// Found is a converted image in a registry or layout.
type Found struct {
	*Opened
	Desc     ocispec.Descriptor
	Manifest ocispec.Manifest
	Problems []Problem // of the manifest and configuration
	place    Place
}

// ErrOrdinary says that an image is an ordinary OCI image, with no converted form beside it.
var ErrOrdinary = errors.New("it is an ordinary image, and no converted one refers to it")

// OpenImage opens a converted image: the one that the place's name leads to, or the one in its index, or else one that refers to it.
func OpenImage(ctx context.Context, place Place, name string, platform *ocispec.Platform) (*Found, error) {
	return OpenFound(ctx, place, name, platform, func(digest.Digest) {})
}

// OpenFound is OpenImage, and says which manifest is that of the converted image as soon as it is known, before it is read.
func OpenFound(ctx context.Context, place Place, name string, platform *ocispec.Platform, found func(digest.Digest)) (*Found, error) {
	m, err := findConverted(ctx, place, platform, found)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return openFound(ctx, place, name, m)
}

// OpenReferrer is OpenFound of a name that leads to the ordinary image with a digest: that is not read, what refers to it is looked for at once.
func OpenReferrer(ctx context.Context, place Place, name string, ordinary digest.Digest, found func(digest.Digest)) (*Found, error) {
	m, err := referrer(ctx, place, ordinary, found)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return openFound(ctx, place, name, m)
}

// openFound reads what the manifest of a converted image names.
func openFound(ctx context.Context, place Place, name string, m *manifest) (*Found, error) {
	f := &Found{Desc: m.desc, Manifest: m.parsed, place: place}
	config := f.beginConfig(ctx)
	metadata, err := f.readMetadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: its metadata: %w", name, err)
	}
	if f.Opened, err = Open(name, metadata, placeBlobs{ctx, place, m.parsed.Layers}); err != nil {
		return nil, err
	}
	f.check(config)
	return f, nil
}

// beginConfig begins to read the configuration, beside the metadata. The result waits for it.
func (f *Found) beginConfig(ctx context.Context) func() ([]byte, error) {
	var body []byte
	var err error
	done := make(chan struct{})
	go func() { // ends with the request
		defer close(done)
		body, err = readSmall(ctx, f.place, f.Manifest.Config)
	}()
	return func() ([]byte, error) {
		<-done
		return body, err
	}
}

func findConverted(ctx context.Context, place Place, platform *ocispec.Platform, found func(digest.Digest)) (*manifest, error) {
	desc, body, err := place.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	if isIndex(desc.MediaType, body) {
		return inIndex(ctx, place, body, platform, found)
	}
	m := manifest{desc: desc, body: body}
	if err := json.Unmarshal(body, &m.parsed); err != nil {
		return nil, fmt.Errorf("the manifest %s: %w", desc.Digest, err)
	}
	if Converts(&m.parsed) {
		found(desc.Digest)
		return &m, nil
	}
	return referrer(ctx, place, desc.Digest, found)
}

// inIndex looks for a converted image among those of an index, then for one that refers to one of them.
func inIndex(ctx context.Context, place Place, body []byte, platform *ocispec.Platform, found func(digest.Digest)) (*manifest, error) {
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return nil, fmt.Errorf("the index: %w", err)
	}
	var ordinary []digest.Digest
	for _, d := range index.Manifests {
		if p := d.Platform; p != nil && platform != nil && (p.OS != platform.OS || p.Architecture != platform.Architecture) {
			continue
		}
		b, err := place.Child(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("the manifest %s: %w", d.Digest, err)
		}
		m := manifest{desc: d, body: b}
		if err := json.Unmarshal(b, &m.parsed); err != nil {
			return nil, fmt.Errorf("the manifest %s: %w", d.Digest, err)
		}
		if Converts(&m.parsed) {
			found(d.Digest)
			return &m, nil
		}
		ordinary = append(ordinary, d.Digest)
	}
	for _, d := range ordinary {
		m, err := referrer(ctx, place, d, found)
		if !errors.Is(err, ErrOrdinary) {
			return m, err
		}
	}
	return nil, ErrOrdinary
}

// referrer looks for a converted image whose subject is another.
func referrer(ctx context.Context, place Place, subject digest.Digest, found func(digest.Digest)) (*manifest, error) {
	for _, kind := range []string{ArtifactType, NydusArtifactType} {
		list, err := place.Referrers(ctx, subject, kind)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if len(list) == 0 {
			continue
		}
		d := list[len(list)-1]
		found(d.Digest)
		body, err := place.Child(ctx, d)
		if err != nil {
			return nil, err
		}
		m := &manifest{desc: d, body: body}
		return m, json.Unmarshal(body, &m.parsed)
	}
	return nil, ErrOrdinary
}

// readMetadata reads the metadata image or bootstrap of the manifest.
func (f *Found) readMetadata(ctx context.Context) ([]byte, error) {
	for _, l := range f.Manifest.Layers {
		if l.MediaType != MediaTypeMetadata && l.Annotations[nydusBootstrapMark] != "true" {
			continue
		}
		r, err := f.place.Blob(ctx, l)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		var out []byte
		if l.MediaType == MediaTypeMetadata {
			out, err = unzstd(r)
		} else {
			out, err = bootstrapIn(r)
		}
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, r) // the digest is compared at the end
		return out, err
	}
	return nil, errors.New("the manifest has no layer with metadata")
}

func unzstd(r io.Reader) ([]byte, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMetadata))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return readBounded(z)
}

func readBounded(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, maxMetadata+1))
	if err == nil && n > maxMetadata {
		err = fmt.Errorf("it has more than %d bytes", maxMetadata)
	}
	return b.Bytes(), err
}

// bootstrapIn takes the bootstrap out of Nydus's last layer.
func bootstrapIn(r io.Reader) ([]byte, error) {
	z, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("there is no %s in its layer", bootstrapInLayer)
		}
		if err != nil {
			return nil, err
		}
		if path.Clean(h.Name) == bootstrapInLayer {
			return readBounded(t)
		}
	}
}

// placeBlobs finds blobs among the layers of a manifest.
type placeBlobs struct {
	ctx    context.Context
	place  Place
	layers []ocispec.Descriptor
}

// Open opens the blob of a device.
func (p placeBlobs) Open(d *chunk.Device) (Blob, error) {
	want := digest.NewDigestFromEncoded(digest.SHA256, d.Name())
	for _, l := range p.layers {
		if l.Digest == want {
			return p.place.At(p.ctx, l)
		}
	}
	return nil, fmt.Errorf("the manifest has no layer %s: %w", want, fs.ErrNotExist)
}

// check compares manifest, configuration and metadata. Of a blob that goes on behind what its bootstrap knows, the manifest's size is the device's from then on.
func (f *Found) check(readConfig func() ([]byte, error)) {
	problem := func(format string, args ...any) {
		f.Problems = append(f.Problems, Problem{"manifest", fmt.Sprintf(format, args...)})
	}
	sizes := map[digest.Digest]int64{}
	for _, l := range f.Manifest.Layers {
		sizes[l.Digest] = l.Size
	}
	for i := range f.Table.Devices {
		d := &f.Table.Devices[i]
		size, ok := sizes[digest.NewDigestFromEncoded(digest.SHA256, d.Name())]
		switch {
		case !ok:
			problem("it has no layer for the blob %s", d.Name())
		case size > d.Size && f.goesOn(i):
			d.Size = size // parts of it are asked for with its size
		case size != d.Size:
			problem("its layer %s has %d bytes, the metadata says %d", d.Name(), size, d.Size)
		}
	}
	config, err := readConfig()
	if err != nil {
		problem("its configuration: %v", err)
		return
	}
	var image ocispec.Image
	if err := json.Unmarshal(config, &image); err != nil {
		problem("its configuration: %v", err)
		return
	}
	if len(image.RootFS.DiffIDs) != len(f.Manifest.Layers) {
		problem("its configuration lists %d layers, the manifest %d", len(image.RootFS.DiffIDs), len(f.Manifest.Layers))
		return
	}
	for i, l := range f.Manifest.Layers {
		if l.MediaType == MediaTypeBlob || l.MediaType == NydusBlob {
			if image.RootFS.DiffIDs[i] != l.Digest {
				problem("its configuration says %s for the blob %s", image.RootFS.DiffIDs[i], l.Digest)
			}
		}
	}
}

// Layers are the layers of an ordinary image as sources, the lowest first.
func Layers(ctx context.Context, place Place, platform *ocispec.Platform) ([]Source, error) {
	desc, body, err := place.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	m, err := ordinary(ctx, place, desc, body, platform)
	if err != nil {
		return nil, err
	}
	var sources []Source
	for _, l := range m.parsed.Layers {
		sources = append(sources, Tar(func() (io.ReadCloser, error) { return place.Blob(ctx, l) }))
	}
	return sources, nil
}

// ordinary is the ordinary image for a platform that a name leads to.
func ordinary(ctx context.Context, place Place, desc ocispec.Descriptor, body []byte, platform *ocispec.Platform) (*manifest, error) {
	var platforms []ocispec.Platform
	if platform != nil {
		platforms = []ocispec.Platform{*platform}
	}
	all, err := manifestsOf(ctx, place, desc, body, platforms...)
	if err != nil {
		return nil, err
	}
	if Converts(&all[0].parsed) {
		return nil, fmt.Errorf("%s is a converted image, an ordinary one was expected", all[0].desc.Digest)
	}
	return &all[0], nil
}

// ToOCI makes an ordinary image of a converted one, with all files in one layer, and puts it into another place.
func (f *Found) ToOCI(ctx context.Context, to Place, tmp string, skipped func(path, why string)) (*Converted, error) {
	dir, blob, diff, err := f.layer(ctx, tmp, skipped)
	if dir != "" {
		defer os.RemoveAll(dir)
	}
	if err != nil {
		return nil, err
	}
	config, err := readSmall(ctx, f.place, f.Manifest.Config)
	if err != nil {
		return nil, err
	}
	p := &publication{ctx: ctx, to: to, dir: dir, image: &Image{Format: EROFS}, config: config, source: manifest{desc: f.Desc, parsed: f.Manifest}}
	cd, err := p.configuration([]digest.Digest{diff})
	if err != nil {
		return nil, err
	}
	if err := p.push([]ocispec.Descriptor{blob}, cd); err != nil {
		return nil, err
	}
	body, err := json.Marshal(ocispec.Manifest{
		Versioned: f.Manifest.Versioned, MediaType: ocispec.MediaTypeImageManifest, Config: cd, Layers: []ocispec.Descriptor{blob}, Annotations: f.Manifest.Annotations,
	})
	if err != nil {
		return nil, err
	}
	desc, err := to.PutManifest(ctx, ocispec.MediaTypeImageManifest, body, true)
	c := &Converted{Manifest: desc, TargetBytes: p.bytes}
	for _, l := range f.Manifest.Layers {
		c.SourceBytes += l.Size
	}
	c.Images = []ConvertedImage{{Source: f.Desc.Digest, Manifest: desc, Platform: platformText(f.Desc.Platform)}}
	return c, err
}

// layer unpacks the image into a compressed layer in a folder of its own.
func (f *Found) layer(ctx context.Context, tmp string, skipped func(path, why string)) (dir string, d ocispec.Descriptor, diff digest.Digest, err error) {
	if dir, err = os.MkdirTemp(tmp, "weft-image-"); err != nil {
		return
	}
	plain, packed := digest.SHA256.Digester(), digest.SHA256.Digester()
	file := path.Join(dir, "layer")
	size, err := writeFile(file, func(w io.Writer) (int64, error) {
		c := &counter{w: io.MultiWriter(w, packed.Hash())}
		z := gzip.NewWriter(c)
		if err := f.Unpack(ctx, io.MultiWriter(z, plain.Hash()), skipped); err != nil {
			return 0, err
		}
		err := z.Close()
		return c.n, err
	})
	if err != nil {
		return
	}
	d = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: packed.Digest(), Size: size}
	return dir, d, plain.Digest(), os.Rename(file, path.Join(dir, d.Digest.Encoded()))
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
