package main

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// TestConvertedFormsBesideAnImage puts both forms beside an image; a second time nothing is pushed.
func TestConvertedFormsBesideAnImage(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	im, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := registry.ParseReference(reg.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	desc, err := client.PushImage(t.Context(), ref, im, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []image.Format{image.EROFS, image.RAFS} {
		name := ref.WithDigest(desc.Digest).String()
		first, err := attachOne(t.Context(), client, name, format, chunk.Zstd)
		if err != nil {
			t.Fatal(err)
		}
		if first.Unchanged || first.Digest == "" {
			t.Errorf("%s: the first time gives %+v", format, first)
		}
		place, err := image.OpenPlace(client, name, t.TempDir(), false)
		if err != nil {
			t.Fatal(err)
		}
		kind := map[image.Format]string{image.EROFS: image.ArtifactType, image.RAFS: image.NydusArtifactType}[format]
		if list, err := place.Referrers(t.Context(), desc.Digest, kind); err != nil || len(list) != 1 || string(list[0].Digest) != first.Digest {
			t.Errorf("%s: referrers %v, %v", format, list, err)
		}
		reg.Forget()
		again, err := attachOne(t.Context(), client, name, format, chunk.Zstd)
		if err != nil {
			t.Fatal(err)
		}
		if !again.Unchanged || again.Digest != first.Digest {
			t.Errorf("%s: the second time gives %+v", format, again)
		}
		if n := reg.Count("PUT", "") + reg.Count("POST", ""); n != 0 {
			t.Errorf("%s: %d requests push something the second time", format, n)
		}
	}
}
