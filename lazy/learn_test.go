package lazy

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/trace"
)

// TestTraceInManifest takes what is known of a start from its manifest where that holds it, and asks for it where it does not or holds something else.
func TestTraceInManifest(t *testing.T) {
	body := []byte("the record of a start")
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("subject"), Size: 7}
	for name, c := range map[string]struct {
		data   []byte
		pushed bool
	}{"there": {body, false}, "not there": {nil, true}, "something else": {[]byte("the record of another"), true}} {
		place, err := image.OpenPlace(nil, "oci:"+t.TempDir(), "", false)
		if err != nil {
			t.Fatal(err)
		}
		layer := ocispec.Descriptor{MediaType: trace.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body)), Data: c.data}
		if c.pushed {
			if err := place.PutBlob(t.Context(), layer, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }); err != nil {
				t.Fatal(err)
			}
		}
		m, err := json.Marshal(ocispec.Manifest{
			MediaType: ocispec.MediaTypeImageManifest, ArtifactType: trace.MediaType, Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{layer}, Subject: &subject,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := place.PutManifest(t.Context(), ocispec.MediaTypeImageManifest, m, false); err != nil {
			t.Fatal(err)
		}
		got, err := findTrace(t.Context(), place, subject.Digest)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestWithBeside widens what was asked for by what was read on both sides of it, up to a bound, and not beyond the device.
func TestWithBeside(t *testing.T) {
	read := cache.NewBits(1000)
	read.Set(8, 22)
	read.Set(30, 31)
	read.Set(100, 1000)
	for _, c := range []struct{ first, end, from, to int64 }{
		{10, 20, 8, 22}, {8, 22, 8, 22}, {30, 31, 30, 31}, {0, 8, 0, 22}, {40, 50, 40, 50}, {500, 501, 500 - beside, 501 + beside}, {900, 1000, 900 - beside, 1000},
	} {
		if from, to := withBeside(read, 1000, c.first, c.end); from != c.from || to != c.to {
			t.Errorf("from %d to %d: from %d to %d, want %d to %d", c.first, c.end, from, to, c.from, c.to)
		}
	}
}
