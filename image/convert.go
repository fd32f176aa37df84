package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
)

// Types of Weft's EROFS images in registries.
const (
	ArtifactType      = "application/vnd.weft.image.erofs.v1"
	MediaTypeMetadata = "application/vnd.weft.image.erofs.metadata.v1+zstd"
	MediaTypeBlob     = "application/vnd.weft.image.erofs.blob.v1"
)

// Types and annotations of Nydus's images (contrib/nydusify/pkg/utils/constant.go).
const (
	NydusArtifactType    = "application/vnd.nydus.image.manifest.v1+json"
	NydusBlob            = "application/vnd.oci.image.layer.nydus.blob.v1"
	NydusFeature         = "nydus.remoteimage.v1" // of the platform in an index
	nydusBlobMark        = "containerd.io/snapshot/nydus-blob"
	nydusBootstrapMark   = "containerd.io/snapshot/nydus-bootstrap"
	nydusVersion         = "containerd.io/snapshot/nydus-fs-version"
	nydusArtifact        = "containerd.io/snapshot/nydus-artifact-type"
	bootstrapInLayer     = "image/image.boot"
	mediaTypeNydusConfig = "application/vnd.nydus.image.config.v1+json"
)

// ConvertOptions say how an image is converted.
type ConvertOptions struct {
	Options
	Platform *ocispec.Platform // of an index: only this one; nil: all
	Referrer bool              // the result's subject is the source image
	Merge    bool              // an index with both the source's manifests and the converted ones
	TempDir  string            // empty means the system's
	Note     func(format string, args ...any)
}

// Converted says what Convert did.
type Converted struct {
	Manifest    ocispec.Descriptor `json:"manifest"`
	Images      []ConvertedImage   `json:"images"`
	SourceBytes int64              `json:"sourceBytes"` // of the layers as they are stored
	TargetBytes int64              `json:"targetBytes"`
	Pull        time.Duration      `json:"-"`
	Pack        time.Duration      `json:"packNanoseconds"`
	Push        time.Duration      `json:"pushNanoseconds"`
}

// ConvertedImage is one image of those that were converted.
type ConvertedImage struct {
	Platform string             `json:"platform"`
	Source   digest.Digest      `json:"source"`
	Manifest ocispec.Descriptor `json:"manifest"`
	Blobs    []BuiltBlob        `json:"blobs"`
	Layers   []chunk.Stats      `json:"layers"` // what each layer of the source gave
}

// Convert converts an OCI image, or all images of an index, and puts the result into another place.
func Convert(ctx context.Context, from, to Place, o ConvertOptions) (*Converted, error) {
	if o.Note == nil {
		o.Note = func(string, ...any) {}
	}
	desc, body, err := from.Manifest(ctx)
	if err != nil {
		return nil, fmt.Errorf("the source: %w", err)
	}
	manifests, err := manifestsOf(ctx, from, desc, body, o.Platform)
	if err != nil {
		return nil, err
	}
	c := &Converted{}
	var descriptors []ocispec.Descriptor
	for _, m := range manifests {
		single := len(manifests) == 1 && !o.Merge
		one, err := c.image(ctx, from, to, m, o, single && from != to)
		if err != nil {
			return nil, err
		}
		c.Images = append(c.Images, *one)
		descriptors = append(descriptors, one.Manifest)
		c.Manifest = one.Manifest
	}
	if len(manifests) > 1 || o.Merge {
		c.Manifest, err = c.index(ctx, from, to, manifests, descriptors, o)
	}
	return c, err
}

// manifest is a manifest of a source and what was read with it.
type manifest struct {
	desc   ocispec.Descriptor
	body   []byte
	parsed ocispec.Manifest
}

const maxIndex = 1000

// manifestsOf lists the images that a descriptor leads to.
func manifestsOf(ctx context.Context, from Place, desc ocispec.Descriptor, body []byte, platform *ocispec.Platform) ([]manifest, error) {
	if !isIndex(desc.MediaType, body) {
		m := manifest{desc: desc, body: body}
		if err := json.Unmarshal(body, &m.parsed); err != nil {
			return nil, fmt.Errorf("the manifest %s: %w", desc.Digest, err)
		}
		return []manifest{m}, nil
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return nil, fmt.Errorf("the index %s: %w", desc.Digest, err)
	}
	if len(index.Manifests) > maxIndex {
		return nil, fmt.Errorf("the index %s has %d images: at most %d are taken", desc.Digest, len(index.Manifests), maxIndex)
	}
	var all []manifest
	for _, d := range index.Manifests {
		if !wanted(d.Platform, platform) {
			continue
		}
		child, err := from.Child(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("the manifest %s: %w", d.Digest, err)
		}
		m := manifest{desc: d, body: child}
		if err := json.Unmarshal(child, &m.parsed); err != nil {
			return nil, fmt.Errorf("the manifest %s: %w", d.Digest, err)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the index %s has no image for %s: %w", desc.Digest, platformText(platform), fs.ErrNotExist)
	}
	return all, nil
}

func isIndex(mediaType string, body []byte) bool {
	switch mediaType {
	case ocispec.MediaTypeImageIndex, "application/vnd.docker.distribution.manifest.list.v2+json":
		return true
	case "":
		return bytes.Contains(body, []byte(`"manifests"`))
	}
	return false
}

// wanted says whether an image of an index is one of a platform. Attestations and images that are converted already are none.
func wanted(p, want *ocispec.Platform) bool {
	if p == nil {
		return want == nil
	}
	for _, f := range p.OSFeatures {
		if f == NydusFeature {
			return false
		}
	}
	if p.OS == "unknown" || p.Architecture == "unknown" {
		return false
	}
	return want == nil || p.OS == want.OS && p.Architecture == want.Architecture && (want.Variant == "" || p.Variant == want.Variant)
}

func platformText(p *ocispec.Platform) string {
	if p == nil {
		return "any platform"
	}
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// image converts one image.
func (c *Converted) image(ctx context.Context, from, to Place, m manifest, o ConvertOptions, named bool) (*ConvertedImage, error) {
	if Converts(&m.parsed) {
		return nil, fmt.Errorf("%s is a converted image already", m.desc.Digest)
	}
	began := time.Now()
	dir, err := os.MkdirTemp(o.TempDir, "weft-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b, err := newBuilder(o.Options)
	if err != nil {
		return nil, err
	}
	one := &ConvertedImage{Source: m.desc.Digest, Platform: platformText(m.desc.Platform)}
	var root *tree.Node
	for i, l := range m.parsed.Layers {
		o.Note("layer %d of %d, %s", i+1, len(m.parsed.Layers), l.Digest)
		upper, stats, err := b.layer(ctx, chunk.Folder(dir), Tar(func() (io.ReadCloser, error) { return from.Blob(ctx, l) }))
		if err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i+1, l.Digest, err)
		}
		one.Layers = append(one.Layers, stats)
		c.SourceBytes += l.Size
		root = tree.Merge(root, upper)
	}
	if root == nil {
		root = tree.NewDir(0o755)
	}
	root.DropMarks()
	im := &Image{b.o.Format, root, b.known, b.blobs}
	if err := im.Prune(); err != nil {
		return nil, err
	}
	built := &Built{}
	built.describe(im.Table)
	one.Blobs = built.Blobs
	c.Pack += time.Since(began)
	began = time.Now()
	config, err := readSmall(ctx, from, m.parsed.Config)
	if err != nil {
		return nil, fmt.Errorf("the configuration: %w", err)
	}
	p := &publication{ctx: ctx, to: to, dir: dir, image: im, options: o, config: config, source: m, dicts: o.Dicts}
	one.Manifest, err = p.publish(named)
	c.Push += time.Since(began)
	c.TargetBytes += p.bytes
	one.Manifest.Platform = m.desc.Platform
	return one, err
}

// index makes an index of the converted images, and with Merge of the source's before them.
func (c *Converted) index(ctx context.Context, from, to Place, sources []manifest, converted []ocispec.Descriptor, o ConvertOptions) (ocispec.Descriptor, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for i, m := range sources {
		platform, err := platformOf(ctx, from, m)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		if o.Merge {
			if err := copyImage(ctx, from, to, m); err != nil {
				return ocispec.Descriptor{}, err
			}
			d := m.desc
			d.Platform, d.Annotations = platform, nil
			index.Manifests = append(index.Manifests, d)
		}
		d := converted[i]
		p := *platform
		if o.Merge || o.Format == RAFS {
			p.OSFeatures = append(append([]string(nil), p.OSFeatures...), NydusFeature)
		}
		if o.Format != RAFS {
			p.OSFeatures = append(append([]string(nil), platform.OSFeatures...), "weft.erofs.v1")
		}
		d.Platform, d.Annotations = &p, nil
		index.Manifests = append(index.Manifests, d)
	}
	body, err := json.Marshal(index)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return to.PutManifest(ctx, ocispec.MediaTypeImageIndex, body, true)
}

// platformOf is that of the descriptor, or else of the configuration.
func platformOf(ctx context.Context, from Place, m manifest) (*ocispec.Platform, error) {
	if m.desc.Platform != nil {
		return m.desc.Platform, nil
	}
	config, err := readSmall(ctx, from, m.parsed.Config)
	if err != nil {
		return nil, err
	}
	var image ocispec.Image
	if err := json.Unmarshal(config, &image); err != nil {
		return nil, fmt.Errorf("the configuration %s: %w", m.parsed.Config.Digest, err)
	}
	return &ocispec.Platform{OS: image.OS, Architecture: image.Architecture, Variant: image.Variant}, nil
}

// copyImage copies an image as it is.
func copyImage(ctx context.Context, from, to Place, m manifest) error {
	for _, d := range append([]ocispec.Descriptor{m.parsed.Config}, m.parsed.Layers...) {
		if err := to.PutBlob(ctx, d, func() (io.ReadCloser, error) { return from.Blob(ctx, d) }); err != nil {
			return fmt.Errorf("copying %s: %w", d.Digest, err)
		}
	}
	_, err := to.PutManifest(ctx, mediaTypeOf(m), m.body, false)
	return err
}

func mediaTypeOf(m manifest) string {
	if m.desc.MediaType != "" {
		return m.desc.MediaType
	}
	return ocispec.MediaTypeImageManifest
}

const maxSmall = 16 << 20

func readSmall(ctx context.Context, from Place, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxSmall {
		return nil, fmt.Errorf("%s has %d bytes", d.Digest, d.Size)
	}
	r, err := from.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxSmall))
}

// Converts says whether a manifest is that of a converted image.
func Converts(m *ocispec.Manifest) bool {
	if m.ArtifactType == ArtifactType {
		return true
	}
	for _, l := range m.Layers {
		if l.Annotations[nydusBootstrapMark] == "true" || l.MediaType == MediaTypeMetadata {
			return true
		}
	}
	return false
}

// publication puts a converted image into its place.
type publication struct {
	ctx     context.Context
	to      Place
	dir     string // of its blobs
	image   *Image
	options ConvertOptions
	config  []byte
	source  manifest
	dicts   []*Opened
	bytes   int64
}

func (p *publication) publish(named bool) (ocispec.Descriptor, error) {
	metadata, diff, err := p.metadata()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	blobs := p.blobs()
	layers := append([]ocispec.Descriptor{metadata}, blobs...)
	diffs := []digest.Digest{diff}
	for _, b := range blobs {
		diffs = append(diffs, b.Digest)
	}
	if p.image.Format == RAFS {
		layers, diffs = append(blobs, metadata), append(diffs[1:], diff)
	}
	config, err := p.configuration(diffs)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType, Config: config, Layers: layers,
		Annotations: p.source.parsed.Annotations,
	}
	if p.image.Format == RAFS {
		m.ArtifactType = ""
		if p.options.Referrer {
			m.ArtifactType = NydusArtifactType
		}
		if p.options.Merge {
			m.Config.MediaType = mediaTypeNydusConfig // so that a runtime without Nydus takes the ordinary image
		}
	}
	if p.options.Referrer {
		m.Subject = &ocispec.Descriptor{MediaType: mediaTypeOf(p.source), Digest: p.source.desc.Digest, Size: p.source.desc.Size}
	}
	if err := p.push(layers[:], config); err != nil {
		return ocispec.Descriptor{}, err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return p.to.PutManifest(p.ctx, ocispec.MediaTypeImageManifest, body, named)
}

// metadata writes the metadata as it is pushed, into the folder. It gives also the digest of what was compressed.
func (p *publication) metadata() (ocispec.Descriptor, digest.Digest, error) {
	var none ocispec.Descriptor
	raw, err := p.image.bootstrap(p.options.Options)
	if err != nil {
		return none, "", err
	}
	var out bytes.Buffer
	d := ocispec.Descriptor{MediaType: MediaTypeMetadata}
	diff := digest.FromBytes(raw)
	if p.image.Format == RAFS {
		d.MediaType = ocispec.MediaTypeImageLayerGzip
		d.Annotations = map[string]string{nydusBootstrapMark: "true", nydusVersion: "6"}
		plain := bootstrapTar(raw)
		diff = digest.FromBytes(plain)
		z := gzip.NewWriter(&out)
		if _, err := z.Write(plain); err != nil {
			return none, "", err
		}
		if err := z.Close(); err != nil {
			return none, "", err
		}
	} else {
		z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return none, "", err
		}
		if _, err := z.Write(raw); err != nil {
			return none, "", err
		}
		if err := z.Close(); err != nil {
			return none, "", err
		}
	}
	d.Digest, d.Size = digest.FromBytes(out.Bytes()), int64(out.Len())
	return d, diff, os.WriteFile(filepath.Join(p.dir, d.Digest.Encoded()), out.Bytes(), 0o600)
}

// bootstrapTar is the layer in which Nydus looks for a bootstrap.
func bootstrapTar(bootstrap []byte) []byte {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	// Writing to memory does not fail.
	_ = t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "image/", Mode: 0o755, Format: tar.FormatPAX})
	_ = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: bootstrapInLayer, Mode: 0o444, Size: int64(len(bootstrap)), Format: tar.FormatPAX})
	_, _ = t.Write(bootstrap)
	_ = t.Close()
	return b.Bytes()
}

func (p *publication) blobs() []ocispec.Descriptor {
	var all []ocispec.Descriptor
	for i := range p.image.Table.Devices {
		dev := &p.image.Table.Devices[i]
		d := ocispec.Descriptor{MediaType: MediaTypeBlob, Digest: digest.NewDigestFromEncoded(digest.SHA256, dev.Name()), Size: dev.Size}
		if p.image.Format == RAFS {
			d.MediaType, d.Annotations = NydusBlob, map[string]string{nydusBlobMark: "true"}
		}
		all = append(all, d)
	}
	return all
}

// configuration is the source's with the new layers. Fields that are not known here stay.
func (p *publication) configuration(diffs []digest.Digest) (ocispec.Descriptor, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(p.config, &fields); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("the configuration of %s: %w", p.source.desc.Digest, err)
	}
	var image ocispec.Image
	if err := json.Unmarshal(p.config, &image); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("the configuration of %s: %w", p.source.desc.Digest, err)
	}
	history := make([]ocispec.History, 0, len(diffs))
	for i := range diffs {
		h := ocispec.History{CreatedBy: "weft image convert", Comment: "chunks"}
		if i == 0 && p.image.Format == EROFS || i == len(diffs)-1 && p.image.Format == RAFS {
			h.Comment = "metadata"
		}
		history = append(history, h)
	}
	for _, h := range image.History { // it says how the image was made, which stays true
		h.EmptyLayer = true
		history = append(history, h)
	}
	for name, v := range map[string]any{"rootfs": ocispec.RootFS{Type: "layers", DiffIDs: diffs}, "history": history} {
		b, err := json.Marshal(v)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		fields[name] = b
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(body), Size: int64(len(body))}
	return d, os.WriteFile(filepath.Join(p.dir, d.Digest.Encoded()), body, 0o600)
}

// push sends what the manifest needs. Blobs of dictionaries are taken from there unless the place has them.
func (p *publication) push(layers []ocispec.Descriptor, config ocispec.Descriptor) error {
	g, ctx := errgroup.WithContext(p.ctx)
	g.SetLimit(4)
	for _, d := range append([]ocispec.Descriptor{config}, layers...) {
		p.bytes += d.Size
		g.Go(func() error {
			err := p.to.PutBlob(ctx, d, func() (io.ReadCloser, error) { return p.open(d) })
			if err != nil {
				return fmt.Errorf("pushing %s: %w", d.Digest, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (p *publication) open(d ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(p.dir, d.Digest.Encoded()))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	raw, err := hex.DecodeString(d.Digest.Encoded())
	if err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("the digest %s", d.Digest)
	}
	for _, dict := range p.dicts {
		if dict.blobs == nil {
			continue
		}
		b, err := dict.blobs.Open(&chunk.Device{Blob: [32]byte(raw), Size: d.Size})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(b, 0, d.Size), b}, nil
	}
	return nil, fmt.Errorf("the blob %s of a chunk dictionary is not there: %w", d.Digest, fs.ErrNotExist)
}
