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

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weft-dev/weft/image/chunk"
)

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
		if p.docker() {
			m.MediaType, m.Config.MediaType, m.Annotations = string(types.DockerManifestSchema2), string(types.DockerConfigJSON), nil
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
	return p.to.PutManifest(p.ctx, m.MediaType, body, named)
}

// docker says whether the result has Docker's media types.
func (p *publication) docker() bool {
	return p.options.Docker && !p.options.Referrer && mediaTypeOf(p.source) == string(types.DockerManifestSchema2)
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
		if p.docker() {
			d.MediaType = string(types.DockerLayer)
		}
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
