package server

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"digest":"sha256:x","size":1}]}`), "application/vnd.oci.image.index.v1+json")
	f.Add([]byte(`{"config":{"digest":"sha256:x"},"layers":[{}]}`), "application/vnd.oci.image.manifest.v1+json")
	f.Add([]byte(`{"subject":{"digest":""}}`), "application/json; charset=utf-8")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		data, err := parseManifest(body, contentType, digest.FromBytes(body))
		if err != nil {
			return
		}
		if data.Descriptor.MediaType == "" {
			t.Fatal("accepted without a media type")
		}
		for _, d := range append(append([]digest.Digest{}, data.Blobs...), data.Manifests...) {
			if d.Validate() != nil {
				t.Fatalf("accepted the digest %q", d)
			}
		}
		if data.Subject != "" && data.Subject.Validate() != nil {
			t.Fatalf("accepted the subject %q", data.Subject)
		}
	})
}

func FuzzUploadRange(f *testing.F) {
	for _, s := range []string{"0-9", "bytes 0-9/10", "9-0", "0-99999999999999999999", "-", "bytes=0-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if start, end, err := parseContentRange(s); err == nil && (start < 0 || end < start) {
			t.Fatalf("%q: %d-%d", s, start, end)
		}
	})
}
