package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Documents are what a registry or layout tells of an image, as they are there.
type Documents struct {
	Index    json.RawMessage // nil if the name leads to the manifest itself
	Manifest json.RawMessage
	Config   json.RawMessage
}

// Describe gets the documents of the ordinary image that a name leads to.
func Describe(ctx context.Context, place Place, platform *ocispec.Platform) (*Documents, error) {
	desc, body, err := place.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	m, err := ordinary(ctx, place, desc, body, platform)
	if err != nil {
		return nil, err
	}
	d := &Documents{Manifest: m.body}
	if isIndex(desc.MediaType, body) {
		d.Index = body
	}
	d.Config, err = readSmall(ctx, place, m.parsed.Config)
	return d, err
}

// Describe gets the documents of the converted image.
func (f *Found) Describe(ctx context.Context) (*Documents, error) {
	desc, body, err := f.place.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	d := &Documents{}
	if isIndex(desc.MediaType, body) {
		d.Index = body
	}
	if d.Manifest, err = f.place.Child(ctx, f.Desc); err != nil {
		return nil, err
	}
	d.Config, err = readSmall(ctx, f.place, f.Manifest.Config)
	return d, err
}

// SameRun adds a problem to the report if two images are not run in the same way: command, environment, user and so on. ArgsEscaped does not count, for
// which there is no use any more.
func (r *Report) SameRun(source, image *Documents) error {
	var runs [2][]byte
	for i, d := range []*Documents{source, image} {
		var config ocispec.Image
		if err := json.Unmarshal(d.Config, &config); err != nil {
			return fmt.Errorf("the configuration of an image: %w", err)
		}
		config.Config.ArgsEscaped = false //nolint:staticcheck // images of old builders have it
		b, err := json.Marshal(config.Config)
		if err != nil {
			return err
		}
		runs[i] = b
	}
	if !bytes.Equal(runs[0], runs[1]) {
		r.Problems = append(r.Problems, Problem{"manifest", fmt.Sprintf("its configuration says %s, that of the source %s", runs[1], runs[0])})
	}
	return nil
}

// Beside finds the converted image for an ordinary one's platform in the index that lists both; false if there is none. The ordinary image is named by its
// manifest's digest: an index that does not list it says nothing of it.
func Beside(index []byte, ordinary digest.Digest) (digest.Digest, bool) {
	var parsed ocispec.Index
	if json.Unmarshal(index, &parsed) != nil {
		return "", false
	}
	for _, d := range parsed.Manifests {
		if d.Digest != ordinary || d.Platform == nil {
			continue
		}
		for _, other := range parsed.Manifests {
			if p := other.Platform; p != nil && isConverted(p) && p.OS == d.Platform.OS && p.Architecture == d.Platform.Architecture && p.Variant == d.Platform.Variant {
				return other.Digest, true
			}
		}
	}
	return "", false
}

// HasBoth says whether an index has ordinary images and Nydus's.
func (d *Documents) HasBoth() bool {
	var index ocispec.Index
	if json.Unmarshal(d.Index, &index) != nil {
		return false
	}
	ordinary, nydus := false, false
	for _, m := range index.Manifests {
		switch p := m.Platform; {
		case p == nil || p.OS == "unknown":
		case slices.Contains(p.OSFeatures, NydusFeature):
			nydus = true
		default:
			ordinary = true
		}
	}
	return ordinary && nydus
}
