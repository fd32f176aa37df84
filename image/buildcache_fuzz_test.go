package image

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FuzzBuildCache reads manifests of caches. What is taken for a record has to be one, and each layer has at most one.
func FuzzBuildCache(f *testing.F) {
	good, err := json.Marshal(ocispec.Manifest{Annotations: map[string]string{cacheVersion: ""}, Layers: []ocispec.Descriptor{
		record(digest.FromString("source"), digest.FromString("blob"), 10, "1"), record(digest.FromString("source"), digest.FromString("older"), 10, "1"), {},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"annotations":{"` + cacheVersion + `":"v2"},"layers":null}`))
	f.Add([]byte(`{"annotations":{"` + oldCache + `":"v1"},"layers":[{"digest":"sha256:"}]}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		records, problems, err := parseCache(body, DefaultCacheVersion)
		if err != nil && len(records)+len(problems) > 0 {
			t.Errorf("%d records in spite of %v", len(records), err)
		}
		seen := map[string]bool{}
		for _, d := range records {
			source := d.Annotations[cacheSource]
			if d.Digest.Validate() != nil || digest.Digest(source).Validate() != nil || d.Size <= 0 || d.Size > maxBlob || seen[source] {
				t.Errorf("no record: %+v", d)
			}
			seen[source] = true
		}
	})
}
