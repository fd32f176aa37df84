package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
	erofsFeature         = "weft.erofs.v1"        // likewise, of Weft's
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
	Platforms []ocispec.Platform // of an index: only these; none: all
	Referrer  bool               // the result's subject is the source image
	Merge     bool               // an index with both the source's manifests and the converted ones
	Docker    bool               // RAFS only: the result of an image with Docker's media types has those as well; with Referrer it never has
	Cache     *BuildCache        // RAFS only: layers that are in it are not converted, and it is written at the end; nil: none
	TempDir   string             // empty means the system's
	Note      func(format string, args ...any)
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
	Layers   []chunk.Stats      `json:"layers"`                 // what each layer of the source gave
	Cached   int                `json:"cachedLayers,omitempty"` // of the layers: they came out of the build cache, and gave nothing
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
	manifests, err := manifestsOf(ctx, from, desc, body, o.Platforms...)
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
		if c.Manifest, err = c.index(ctx, from, to, manifests, descriptors, o); err != nil {
			return c, err
		}
	}
	if o.Cache != nil {
		if err := o.Cache.write(ctx); err != nil {
			o.Cache.o.Warn("the build cache %s was not written: %v", o.Cache.ref, err)
		}
	}
	return c, ctx.Err()
}

// manifest is a manifest of a source and what was read with it.
type manifest struct {
	desc   ocispec.Descriptor
	body   []byte
	parsed ocispec.Manifest
}

const maxIndex = 1000

// manifestsOf lists the images that a descriptor leads to.
func manifestsOf(ctx context.Context, from Place, desc ocispec.Descriptor, body []byte, platforms ...ocispec.Platform) ([]manifest, error) {
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
		if !wanted(d.Platform, platforms) {
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
		return nil, fmt.Errorf("the index %s has no image for %s: %w", desc.Digest, platformTexts(platforms), fs.ErrNotExist)
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
func wanted(p *ocispec.Platform, want []ocispec.Platform) bool {
	if p == nil {
		return len(want) == 0
	}
	if isConverted(p) || p.OS == "unknown" || p.Architecture == "unknown" {
		return false
	}
	return len(want) == 0 || slices.ContainsFunc(want, func(w ocispec.Platform) bool {
		return p.OS == w.OS && p.Architecture == w.Architecture && (w.Variant == "" || p.Variant == w.Variant)
	})
}

// isConverted says whether the platform of an index is that of a converted image.
func isConverted(p *ocispec.Platform) bool {
	return slices.Contains(p.OSFeatures, NydusFeature) || slices.Contains(p.OSFeatures, erofsFeature)
}

func platformTexts(all []ocispec.Platform) string {
	if len(all) == 0 {
		return "any platform"
	}
	var texts []string
	for i := range all {
		texts = append(texts, platformText(&all[i]))
	}
	return strings.Join(texts, " or ")
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
	one := &ConvertedImage{Source: m.desc.Digest, Platform: platformText(m.desc.Platform)}
	var im *Image
	var w *layerwise
	if o.Cache != nil {
		w = newLayerwise(from, dir, o)
		im, err = w.image(ctx, m.parsed.Layers, one)
	} else {
		im, err = together(ctx, from, dir, m.parsed.Layers, o, one)
	}
	if err != nil {
		return nil, err
	}
	for _, l := range m.parsed.Layers {
		c.SourceBytes += l.Size
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
	if err == nil && w != nil {
		err = c.remember(ctx, from, to, m, w, p)
	}
	c.Push += time.Since(began)
	c.TargetBytes += p.bytes
	one.Manifest.Platform = m.desc.Platform
	return one, err
}

// remember gives the records of an image to the build cache. That it could not is no reason not to have the image.
func (c *Converted) remember(ctx context.Context, from, to Place, m manifest, w *layerwise, p *publication) error {
	platform, err := platformOf(ctx, from, m)
	if err == nil {
		err = w.o.Cache.add(ctx, platform, w.records, w.fresh, from, to, p.open)
	}
	if err != nil {
		w.o.Cache.keep = true
		w.o.Cache.o.Warn("the build cache %s is not written: %v", w.o.Cache.ref, err)
	}
	return ctx.Err()
}

// together converts the layers of an image with one table of chunks, so that none is stored twice.
func together(ctx context.Context, from Place, dir string, layers []ocispec.Descriptor, o ConvertOptions, one *ConvertedImage) (*Image, error) {
	b, err := newBuilder(o.Options)
	if err != nil {
		return nil, err
	}
	var root *tree.Node
	for i, l := range layers {
		o.Note("layer %d of %d, %s", i+1, len(layers), l.Digest)
		upper, stats, err := b.layer(ctx, chunk.Folder(dir), Tar(func() (io.ReadCloser, error) { return from.Blob(ctx, l) }))
		if err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i+1, l.Digest, err)
		}
		one.Layers = append(one.Layers, stats)
		root = tree.Merge(root, upper)
	}
	if root == nil {
		root = tree.NewDir(0o755)
	}
	root.DropMarks()
	im := &Image{b.o.Format, root, b.known, b.blobs}
	return im, im.Prune()
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
			p.OSFeatures = append(append([]string(nil), platform.OSFeatures...), erofsFeature)
		}
		d.Platform, d.Annotations = &p, nil
		index.Manifests = append(index.Manifests, d)
	}
	if o.Docker && !slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.MediaType != string(types.DockerManifestSchema2) }) {
		index.MediaType = string(types.DockerManifestList)
	}
	body, err := json.Marshal(index)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return to.PutManifest(ctx, index.MediaType, body, true)
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
