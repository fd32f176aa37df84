package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

const sizeOfBlob = 300_000

func fast() registry.Retry {
	return registry.Retry{Attempts: 4, Min: time.Millisecond, Max: 5 * time.Millisecond}
}

func content(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func descriptor(b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func opener(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

func pullAll(c *registry.Client, repo registry.Repository, desc ocispec.Descriptor) ([]byte, error) {
	rc, err := c.Blob(context.Background(), repo, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func streamTo(c *registry.Client, repo registry.Repository, b []byte) (ocispec.Descriptor, error) {
	w, err := c.BlobWriter(context.Background(), repo)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.Abort()
	if _, err := io.Copy(w, bytes.NewReader(b)); err != nil {
		return ocispec.Descriptor{}, err
	}
	return w.Commit("application/octet-stream")
}

// Every fault that goes away must not be noticed, whatever it hits; one that stays must be an error that names it.
func TestPassingFaultsAreNotNoticed(t *testing.T) {
	body := content(1, sizeOfBlob)
	faults := map[string][]registrytest.Fault{
		"none":                          nil,
		"busy":                          {{Status: 429, Times: 3}},
		"busy with Retry-After":         {{Status: 429, Times: 1, RetryAfter: time.Second}},
		"unavailable":                   {{Status: 503, Times: 2}},
		"bad gateway in uploads":        {{Status: 502, Times: 2, Path: "/blobs/uploads/.+"}},
		"cut before the answer":         {{CutOut: -1, Times: 2}},
		"answer lost":                   {{Lost: true, Times: 2}},
		"answer of finishing lost":      {{Method: "PUT", Lost: true, Times: 1}},
		"answer of a chunk lost":        {{Method: "PATCH", Lost: true, Times: 2, Skip: 1}},
		"answer of the beginning lost":  {{Method: "POST", Lost: true, Times: 2}},
		"request cut":                   {{CutIn: 100_000, Times: 1, Path: "/blobs/uploads/.+"}},
		"request cut again and again":   {{CutIn: 50_000, Times: 5, Path: "/blobs/uploads/.+"}},
		"request cut at its beginning":  {{CutIn: -1, Times: 2, Method: "PUT"}},
		"chunk cut":                     {{CutIn: 10_000, Times: 3, Method: "PATCH"}},
		"answer cut":                    {{CutOut: 100_000, Times: 1, Method: "GET", Path: "/blobs/sha"}},
		"answer cut again and again":    {{CutOut: 30_000, Times: 9, Method: "GET", Path: "/blobs/sha"}},
		"cut, then ranges ignored":      {{CutOut: 100_000, Times: 1, Method: "GET", Path: "/blobs/sha"}, {Range: registrytest.RangeIgnored}},
		"cut, then another range":       {{CutOut: 100_000, Times: 1, Method: "GET", Path: "/blobs/sha"}, {Range: registrytest.RangeShifted, Times: 2}},
		"cut, then another size":        {{CutOut: 100_000, Times: 1, Method: "GET", Path: "/blobs/sha"}, {Range: registrytest.RangeOtherSize, Times: 0}},
		"cut, then a range not told":    {{CutOut: 100_000, Times: 1, Method: "GET", Path: "/blobs/sha"}, {Range: registrytest.RangeUnsaid, Times: 2}},
		"upload forgotten at the start": {registrytest.Forgetting("PUT", 0, 1)},
		"upload forgotten for good":     {registrytest.Forgetting("PUT", 0, 1), registrytest.Forgetting("GET", 0, 0)},
	}
	delete(faults, "cut, then another size") // that one is an error: see below
	for name, list := range faults {
		for _, auth := range []string{"open", "tokens", "short tokens"} {
			t.Run(name+"/"+auth, func(t *testing.T) {
				t.Parallel()
				config := registrytest.Config{RedirectBlobs: auth == "tokens"}
				options := registry.Options{Retry: fast(), ChunkSize: 40_000}
				if auth != "open" {
					config.Token = &registrytest.Token{User: "ann", Password: "secret"}
					options.Keychain = registry.Explicit(map[string]authn.AuthConfig{})
				}
				if auth == "short tokens" {
					config.Token.Uses = 2
				}
				reg := registrytest.New(t, config)
				options.Keychain = registry.Explicit(map[string]authn.AuthConfig{reg.Host: {Username: "ann", Password: "secret"}})
				c := registry.New(options)
				defer c.Close()
				repo := registry.Repository{Host: reg.Host, Name: "team/app"}
				fail := func() {
					reg.Heal()
					for _, f := range list {
						reg.Fail(f)
					}
				}
				fail()
				desc := descriptor(body)
				if err := c.PushBlob(t.Context(), repo, desc, opener(body)); err != nil {
					t.Fatalf("push: %v", err)
				}
				if name == "answer of finishing lost" && auth == "open" && reg.Received() > sizeOfBlob*3/2 {
					t.Errorf("%d bytes were sent for a blob of %d that was there already", reg.Received(), sizeOfBlob)
				}
				fail()
				got, err := pullAll(c, repo, desc)
				if err != nil || !bytes.Equal(got, body) {
					t.Fatalf("pull: %d bytes, %v", len(got), err)
				}
				if !strings.HasPrefix(name, "upload forgotten") {
					fail()
					other := content(2, sizeOfBlob)
					sent, err := streamTo(c, repo, other)
					if err != nil {
						t.Fatalf("stream: %v", err)
					}
					if sent.Digest != digest.FromBytes(other) || sent.Size != sizeOfBlob {
						t.Fatalf("stream: %+v", sent)
					}
				}
				for _, r := range reg.Requests() {
					if r.Redirected && r.Authorized {
						t.Errorf("%s %s: credentials went to another host", r.Method, r.Path)
					}
				}
			})
		}
	}
}

func TestLastingFaultsAreErrors(t *testing.T) {
	body := content(1, sizeOfBlob)
	desc := descriptor(body)
	reg := registrytest.New(t, registrytest.Config{})
	c := registry.New(registry.Options{Retry: fast()})
	repo := registry.Repository{Host: reg.Host, Name: "app"}
	if err := c.PushBlob(t.Context(), repo, desc, opener(body)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		faults []registrytest.Fault
		want   error
		text   string
	}{
		"refused":       {[]registrytest.Fault{{Status: 403, Code: "DENIED"}}, registry.ErrUnauthorized, "logged in"},
		"busy":          {[]registrytest.Fault{{Status: 429}}, nil, "limits requests"},
		"busy for long": {[]registrytest.Fault{{Status: 429, RetryAfter: time.Hour}}, nil, "limits requests"},
		"gone":          {[]registrytest.Fault{{Status: 404}}, fs.ErrNotExist, "made to fail"},
		"always cut":    {[]registrytest.Fault{{CutOut: -1}}, io.EOF, desc.Digest.Encoded()},
		"another size":  {[]registrytest.Fault{{CutOut: 100, Times: 1}, {Range: registrytest.RangeOtherSize}}, registry.ErrDigest, "bytes are expected"},
		"shifted":       {[]registrytest.Fault{{CutOut: 100, Times: 1}, {Range: registrytest.RangeShifted}}, registry.ErrRange, "from byte 100"},
	} {
		t.Run(name, func(t *testing.T) {
			reg.Heal()
			for _, f := range test.faults {
				reg.Fail(f)
			}
			_, err := pullAll(c, repo, desc)
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// A blob that is not what its digest says must never look complete.
func TestWrongContentIsFound(t *testing.T) {
	body := content(1, 1000)
	web := http.NewServeMux()
	wrong := slices.Clone(body)
	wrong[500]++
	for path, answer := range map[string][]byte{"changed": wrong, "short": body[:900], "long": append(slices.Clone(body), 1)} {
		web.HandleFunc("/v2/"+path+"/blobs/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })
		web.HandleFunc("/v2/"+path+"/manifests/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })
	}
	host := serve(t, web)
	c := registry.New(registry.Options{Retry: fast()})
	for _, name := range []string{"changed", "short", "long"} {
		for _, size := range []int64{0, 1000} {
			desc := descriptor(body)
			desc.Size = size
			if _, err := pullAll(c, registry.Repository{Host: host, Name: name}, desc); !errors.Is(err, registry.ErrDigest) {
				t.Errorf("%s with size %d: %v", name, size, err)
			}
		}
		ref := registry.Repository{Host: host, Name: name}.WithDigest(digest.FromBytes(body))
		if _, _, err := c.Manifest(t.Context(), ref); !errors.Is(err, registry.ErrDigest) {
			t.Errorf("manifest %s: %v", name, err)
		}
	}
}

// A registry that goes on sending is not listened to for ever.
func TestEndlessContentIsCutOff(t *testing.T) {
	body := content(1, 1000)
	const most = 64 << 20
	sent := make(chan int, 10)
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := 0
		for chunk := make([]byte, 64<<10); n < most; {
			m, err := w.Write(chunk)
			if n += m; err != nil {
				break
			}
		}
		sent <- n
	}))
	c := registry.New(registry.Options{Retry: fast()})
	repo := registry.Repository{Host: host, Name: "app"}
	if _, err := pullAll(c, repo, descriptor(body)); !errors.Is(err, registry.ErrDigest) {
		t.Errorf("blob: %v", err)
	}
	if n := <-sent; n >= most {
		t.Errorf("all of %d bytes of a blob of 1000 were taken", n)
	}
	if _, _, err := c.Manifest(t.Context(), repo.WithTag("v1")); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("manifest: %v", err)
	}
	if n := <-sent; n >= most {
		t.Errorf("all of %d bytes of a manifest were taken", n)
	}
}

// Parts are read right, or not at all.
func TestRanges(t *testing.T) {
	body := content(3, sizeOfBlob)
	desc := descriptor(body)
	reg := registrytest.New(t, registrytest.Config{RedirectBlobs: true})
	c := registry.New(registry.Options{Retry: fast()})
	repo := registry.Repository{Host: reg.Host, Name: "app"}
	if err := c.PushBlob(t.Context(), repo, desc, opener(body)); err != nil {
		t.Fatal(err)
	}
	blob, err := c.Ranged(repo, desc)
	if err != nil {
		t.Fatal(err)
	}
	at := blob.WithContext(t.Context())
	for _, test := range []struct{ offset, n int }{{0, 1}, {0, sizeOfBlob}, {sizeOfBlob - 1, 1}, {1234, 100_000}} {
		p := make([]byte, test.n)
		if n, err := at.ReadAt(p, int64(test.offset)); err != nil || n != test.n || !bytes.Equal(p, body[test.offset:test.offset+test.n]) {
			t.Errorf("%d bytes at %d: %d, %v", test.n, test.offset, n, err)
		}
	}
	p := make([]byte, 100)
	if n, err := at.ReadAt(p, sizeOfBlob-10); n != 10 || err != io.EOF || !bytes.Equal(p[:10], body[sizeOfBlob-10:]) {
		t.Errorf("beyond the end: %d, %v", n, err)
	}
	if n, err := at.ReadAt(p, sizeOfBlob); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
	for name, test := range map[string]struct {
		fault registrytest.Fault
		want  error // nil: it must succeed
	}{
		"cut":        {registrytest.Fault{CutOut: 30, Times: 2}, nil},
		"busy":       {registrytest.Fault{Status: 503, Times: 2}, nil},
		"ignored":    {registrytest.Fault{Range: registrytest.RangeIgnored}, registry.ErrNoRanges},
		"shifted":    {registrytest.Fault{Range: registrytest.RangeShifted}, registry.ErrRange},
		"once":       {registrytest.Fault{Range: registrytest.RangeShifted, Times: 1}, nil},
		"other size": {registrytest.Fault{Range: registrytest.RangeOtherSize}, registry.ErrRange},
		"unsaid":     {registrytest.Fault{Range: registrytest.RangeUnsaid}, registry.ErrRange},
		"short":      {registrytest.Fault{Range: registrytest.RangeShort, Times: 2}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			reg.Heal()
			reg.Fail(test.fault)
			n, err := at.ReadAt(p, 5000)
			if test.want != nil {
				if !errors.Is(err, test.want) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil || n != len(p) || !bytes.Equal(p, body[5000:5100]) {
				t.Fatalf("%d, %v", n, err)
			}
		})
	}
}
