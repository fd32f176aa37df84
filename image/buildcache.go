package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/registry"
)

// Annotations of build caches (goharbor/acceleration-service, pkg/cache/cache.go, with which nydusify converts; the names of layers' annotations are in
// nydus-snapshotter, pkg/converter/constant.go).
const (
	cacheVersion  = "containerd.io/snapshot/nydus-cache-version"  // of the manifest
	oldCache      = "containerd.io/snapshot/nydus-cache"          // of manifests whose records are by chain (contrib/nydusify/pkg/cache), as nydusify 1 wrote them
	cacheSource   = "containerd.io/snapshot/nydus-source-digest"  // the ordinary layer of which the blob was made
	blobRef       = "containerd.io/snapshot/nydus-ref"            // the blob is an index over an ordinary layer
	blobEncrypted = "containerd.io/snapshot/nydus-encrypted-blob" // it is encrypted
	uncompressed  = "containerd.io/uncompressed"
	cacheOptions  = "weft.dev/build-options" // with which the blob was made; Nydus's converter has nothing of the kind
)

const (
	// DefaultCacheVersion is the version that nydusify has unless another is asked for. It writes and expects it as an empty text, whatever
	// is asked for.
	DefaultCacheVersion = "v1"
	// MaxCacheRecords is how many records a cache has at most.
	MaxCacheRecords = 200

	maxCacheLayers = 1000 // of a manifest that is read
)

// errNoCache says that a manifest is not that of a build cache.
var errNoCache = errors.New("it is an image of another kind")

// CacheOptions are those of a build cache.
type CacheOptions struct {
	Version string                           // caches of other versions are not used; empty means DefaultCacheVersion
	Records int                              // how many are kept; 0 means MaxCacheRecords
	Warn    func(format string, args ...any) // told why the cache or a part of it is not used
}

// BuildCache is an image in a registry whose layers are blobs of Nydus images, each annotated with the ordinary layer of which it was made. For several
// platforms it is an index. It is used by one goroutine.
type BuildCache struct {
	client *registry.Client
	ref    registry.Reference
	o      CacheOptions
	keep   bool // what is there is no cache, or could not be read: it is not replaced
	parts  []cachePart
	now    []cachePart // of the images that are being converted
}

// cachePart is the manifest of one platform.
type cachePart struct {
	platform *ocispec.Platform
	records  []ocispec.Descriptor // the newest first
}

// OpenBuildCache reads a cache. One that is not there, or that cannot be used, is an empty one: Warn is told why. An error means that name is no name.
func OpenBuildCache(ctx context.Context, client *registry.Client, name string, o CacheOptions) (*BuildCache, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" {
		return nil, fmt.Errorf("%s names a digest: a build cache is written again under its tag", name)
	}
	if o.Version == "" {
		o.Version = DefaultCacheVersion
	}
	if o.Records == 0 {
		o.Records = MaxCacheRecords
	}
	if o.Warn == nil {
		o.Warn = func(string, ...any) {}
	}
	c := &BuildCache{client: client, ref: ref, o: o}
	desc, body, err := client.Manifest(ctx, ref)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, nil
	case err != nil:
		c.keep = true
		o.Warn("the build cache %s is neither used nor written: %v", ref, err)
		return c, ctx.Err()
	case isIndex(desc.MediaType, body):
		c.readIndex(ctx, body)
	default:
		c.read(body, nil)
	}
	return c, ctx.Err()
}

// read takes in the manifest of one platform.
func (c *BuildCache) read(body []byte, platform *ocispec.Platform) {
	records, problems, err := parseCache(body, c.o.Version)
	if err != nil {
		c.keep = c.keep || errors.Is(err, errNoCache)
		c.o.Warn("the build cache %s is not used: %v", c.ref, err)
		return
	}
	for _, p := range problems {
		c.o.Warn("the build cache %s: a record is not used: %s", c.ref, p)
	}
	c.parts = append(c.parts, cachePart{platform, records})
}

func (c *BuildCache) readIndex(ctx context.Context, body []byte) {
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil || len(index.Manifests) > maxIndex {
		c.o.Warn("the build cache %s is not used: its index cannot be read", c.ref)
		return
	}
	for _, d := range index.Manifests {
		if d.Platform == nil {
			c.keep = true
			c.o.Warn("the build cache %s: %s is for no platform", c.ref, d.Digest)
			continue
		}
		_, child, err := c.client.Manifest(ctx, c.ref.WithDigest(d.Digest))
		if err != nil {
			c.keep = c.keep || !errors.Is(err, fs.ErrNotExist) // what could not be read would be lost
			c.o.Warn("the build cache %s is not used for %s: %v", c.ref, platformText(d.Platform), err)
			continue
		}
		c.read(child, d.Platform)
	}
}

// parseCache reads the manifest of a cache. Problems say which records are left out, and why.
func parseCache(body []byte, version string) (records []ocispec.Descriptor, problems []string, err error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, nil, fmt.Errorf("its manifest: %w", err)
	}
	have, ok := m.Annotations[cacheVersion]
	if _, old := m.Annotations[oldCache]; old && !ok {
		return nil, nil, errors.New("it has the older form, with chains of layers")
	}
	if !ok {
		return nil, nil, errNoCache
	}
	if have == "" {
		have = DefaultCacheVersion
	}
	if have != version {
		return nil, nil, fmt.Errorf("it has the version %.40q, %q was expected", have, version)
	}
	if len(m.Layers) > maxCacheLayers {
		return nil, nil, fmt.Errorf("it has %d records: at most %d are read", len(m.Layers), maxCacheLayers)
	}
	seen := map[string]bool{}
	for _, d := range m.Layers {
		if why := notRecord(&d); why != "" {
			problems = append(problems, fmt.Sprintf("%.80q %s", d.Digest, why))
			continue
		}
		if source := d.Annotations[cacheSource]; !seen[source] {
			seen[source] = true
			records = append(records, d)
		}
	}
	return records, problems, nil
}

// notRecord says why a layer is no record; empty if it is one.
func notRecord(d *ocispec.Descriptor) string {
	source := digest.Digest(d.Annotations[cacheSource])
	switch {
	case d.Digest.Validate() != nil || d.Digest.Algorithm() != digest.SHA256:
		return "is no digest of a blob"
	case source.Validate() != nil:
		return fmt.Sprintf("was made of %.80q, which is no digest", source)
	case d.MediaType != NydusBlob || d.Annotations[nydusBlobMark] != "true":
		return "is no blob of a Nydus image"
	case d.Annotations[blobRef] != "" || d.Annotations[blobEncrypted] != "":
		return "is an index over the ordinary layer, or encrypted"
	case d.Size <= 0 || d.Size > maxBlob:
		return fmt.Sprintf("has %d bytes", d.Size)
	}
	return ""
}

// find gives the record of an ordinary layer.
func (c *BuildCache) find(source digest.Digest) (ocispec.Descriptor, bool) {
	for _, parts := range [][]cachePart{c.now, c.parts} {
		for _, p := range parts {
			for _, d := range p.records {
				if d.Annotations[cacheSource] == string(source) {
					return d, true
				}
			}
		}
	}
	return ocispec.Descriptor{}, false
}

// record is that of a blob that was made now.
func record(source, blob digest.Digest, size int64, options string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: NydusBlob, Digest: blob, Size: size, Annotations: map[string]string{
		nydusBlobMark: "true", uncompressed: string(blob), cacheSource: string(source), cacheOptions: options,
	}}
}

// add takes in the records of an image. The blobs of those that are fresh are put into the cache's repository: mounted from the target's, or else sent.
func (c *BuildCache) add(ctx context.Context, platform *ocispec.Platform, records []ocispec.Descriptor, fresh map[digest.Digest]bool, from, to Place, open func(ocispec.Descriptor) (io.ReadCloser, error)) error {
	if c.keep {
		return nil
	}
	for _, d := range records {
		if !fresh[d.Digest] {
			continue
		}
		if err := c.mount(ctx, to, d.Digest); err != nil {
			return err
		}
		if err := c.client.PushBlob(ctx, c.ref.Repository, d, func() (io.ReadCloser, error) { return open(d) }); err != nil {
			return err
		}
		// Nydus's converter takes a record only if it finds the ordinary layer in the cache's repository.
		if err := c.mount(ctx, from, digest.Digest(d.Annotations[cacheSource])); err != nil {
			return err
		}
	}
	c.now = append(c.now, cachePart{platform, records})
	return nil
}

// mount gives the cache's repository a blob of another repository of its registry, if that lets it.
func (c *BuildCache) mount(ctx context.Context, of Place, d digest.Digest) error {
	r, ok := of.(*repository)
	if !ok || r.ref.Repository == c.ref.Repository {
		return nil
	}
	_, err := c.client.Mount(ctx, c.ref.Repository, d, r.ref.Repository)
	return err
}

// write puts the cache into its place, with the records of the images converted now before those that were there.
func (c *BuildCache) write(ctx context.Context) error {
	if c.keep || len(c.now) == 0 {
		return nil
	}
	config := []byte("{}") // as Nydus's converter has it
	cd := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	err := c.client.PushBlob(ctx, c.ref.Repository, cd, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(config)), nil })
	if err != nil {
		return err
	}
	parts := c.merged()
	if len(parts) == 1 {
		_, err := c.writePart(ctx, c.ref, cd, parts[0].records)
		return err
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, p := range parts {
		d, err := c.writePart(ctx, registry.Reference{Repository: c.ref.Repository}, cd, p.records)
		if err != nil {
			return err
		}
		d.Platform = p.platform
		index.Manifests = append(index.Manifests, d)
	}
	body, err := json.Marshal(index)
	if err != nil {
		return err
	}
	_, err = c.client.PutManifest(ctx, c.ref, index.MediaType, body)
	return err
}

// merged are the parts to be written. What is there for other platforms stays.
func (c *BuildCache) merged() []cachePart {
	parts := slices.Clone(c.now)
	for _, old := range c.parts {
		i := slices.IndexFunc(parts, func(p cachePart) bool {
			return old.platform == nil || platformText(p.platform) == platformText(old.platform)
		})
		if i < 0 {
			parts = append(parts, old)
			continue
		}
		for _, d := range old.records {
			if !slices.ContainsFunc(parts[i].records, func(n ocispec.Descriptor) bool { return n.Annotations[cacheSource] == d.Annotations[cacheSource] }) {
				parts[i].records = append(parts[i].records, d)
			}
		}
	}
	for i := range parts {
		parts[i].records = parts[i].records[:min(len(parts[i].records), c.o.Records)]
	}
	return parts
}

// writePart writes the manifest of one platform, under the name if it has a tag. If the registry refuses it, records whose blobs are gone are left out.
func (c *BuildCache) writePart(ctx context.Context, to registry.Reference, config ocispec.Descriptor, records []ocispec.Descriptor) (ocispec.Descriptor, error) {
	version := c.o.Version
	if version == DefaultCacheVersion {
		version = "" // Nydus's converter takes no other
	}
	put := func(records []ocispec.Descriptor) (ocispec.Descriptor, error) {
		body, err := json.Marshal(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: records,
			Annotations: map[string]string{cacheVersion: version},
		})
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		if to.Tag == "" {
			to = to.WithDigest(digest.FromBytes(body))
		}
		return c.client.PutManifest(ctx, to, ocispec.MediaTypeImageManifest, body)
	}
	d, err := put(records)
	if err == nil || ctx.Err() != nil {
		return d, err
	}
	there := []ocispec.Descriptor{}
	for _, d := range records {
		if size, err := c.client.StatBlob(ctx, c.ref.Repository, d.Digest); err == nil && size == d.Size {
			there = append(there, d)
		}
	}
	if len(there) == len(records) {
		return d, err
	}
	c.o.Warn("the build cache %s: the blobs of %d records are gone", c.ref, len(records)-len(there))
	return put(there)
}
