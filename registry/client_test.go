package registry_test

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	return strings.TrimPrefix(web.URL, "http://")
}

func TestPushPullAndCopy(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{})
	c := registry.New(registry.Options{Retry: fast()})
	index, err := random.Index(20_000, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	ref := registry.Repository{Host: reg.Host, Name: "team/app"}.WithTag("v1")
	pushed, err := c.PushIndex(t.Context(), ref, index, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Index(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil {
		t.Fatal(err)
	}
	desc, err := c.Resolve(t.Context(), ref)
	if err != nil || desc.Digest != pushed.Digest || desc.MediaType != pushed.MediaType || desc.Size != pushed.Size {
		t.Fatalf("resolved %+v, pushed %+v, %v", desc, pushed, err)
	}

	// Inside one registry a copy mounts the blobs: nothing but manifests is sent, and of blobs only the two configs read.
	reg.Forget()
	to := registry.Repository{Host: reg.Host, Name: "other"}.WithTag("v2")
	copied, err := c.Copy(t.Context(), ref, to, registry.PushOptions{})
	if err != nil || copied.Digest != pushed.Digest {
		t.Fatalf("%+v, %v", copied, err)
	}
	if n := reg.Count("GET", "/blobs/") + reg.Count("PATCH", ""); n > 2 || reg.Received() > 10_000 {
		t.Errorf("the copy made %d requests for blobs and sent %d bytes", n, reg.Received())
	}

	// Pushed again, nothing is sent.
	reg.Forget()
	if _, err := c.PushIndex(t.Context(), ref, index, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := reg.Count("POST", ""); n != 0 {
		t.Errorf("the second push began %d uploads", n)
	}
}

func TestPlatforms(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{})
	c := registry.New(registry.Options{Retry: fast()})
	image, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	repo := registry.Repository{Host: reg.Host, Name: "app"}
	if _, err := c.PushImage(t.Context(), repo.WithTag("v1"), image, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Image(t.Context(), repo.WithTag("v1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Fatal(err)
	}
	h, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	size, err := image.Size()
	if err != nil {
		t.Fatal(err)
	}
	body := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":` +
		itoa(size) + `,"digest":"` + h.String() + `","platform":{"os":"linux","architecture":"arm64"}}]}`
	if _, err := c.PutManifest(t.Context(), repo.WithTag("multi"), ocispec.MediaTypeImageIndex, []byte(body)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Image(t.Context(), repo.WithTag("multi"), &v1.Platform{OS: "linux", Architecture: "arm64"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Image(t.Context(), repo.WithTag("multi"), nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("got %v", err)
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func TestReferrers(t *testing.T) {
	for _, old := range []bool{false, true} {
		reg := registrytest.New(t, registrytest.Config{NoReferrers: old})
		c := registry.New(registry.Options{Retry: fast()})
		repo := registry.Repository{Host: reg.Host, Name: "app"}
		empty := []byte("{}")
		if err := c.PushBlob(t.Context(), repo, descriptor(empty), opener(empty)); err != nil {
			t.Fatal(err)
		}
		subject := digest.FromString("subject")
		for _, kind := range []string{"text/sbom", "text/signature"} {
			body := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","artifactType":"` + kind + `","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` +
				string(digest.FromBytes(empty)) + `","size":2},"layers":[],"subject":{"mediaType":"x","digest":"` + string(subject) + `","size":7},"annotations":{"a":"b"}}`
			for range 2 { // the second time changes nothing
				if _, err := c.PutManifest(t.Context(), repo.WithDigest(digest.FromString(body)), ocispec.MediaTypeImageManifest, []byte(body)); err != nil {
					t.Fatal(err)
				}
			}
		}
		all, err := c.Referrers(t.Context(), repo, subject, "")
		if err != nil || len(all) != 2 {
			t.Fatalf("old registry %v: %d referrers, %v", old, len(all), err)
		}
		some, err := c.Referrers(t.Context(), repo, subject, "text/sbom")
		if err != nil || len(some) != 1 || some[0].ArtifactType != "text/sbom" || some[0].Annotations["a"] != "b" {
			t.Fatalf("old registry %v: %+v, %v", old, some, err)
		}
		none, err := c.Referrers(t.Context(), repo, digest.FromString("other"), "")
		if err != nil || len(none) != 0 {
			t.Fatalf("old registry %v: %+v, %v", old, none, err)
		}
		// What is deleted is not listed any more, and an empty list leaves no tag behind.
		for i, desc := range all {
			if err := c.Delete(t.Context(), repo.WithDigest(desc.Digest)); err != nil {
				t.Fatalf("old registry %v: %v", old, err)
			}
			left, err := c.Referrers(t.Context(), repo, subject, "")
			if err != nil || len(left) != len(all)-1-i || slices.ContainsFunc(left, func(d ocispec.Descriptor) bool { return d.Digest == desc.Digest }) {
				t.Fatalf("old registry %v, %d deleted: %+v, %v", old, i+1, left, err)
			}
		}
		if _, err := c.Resolve(t.Context(), repo.WithTag(registry.ReferrersTag(subject))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("old registry %v: the empty list of referrers: %v", old, err)
		}
		if err := c.Delete(t.Context(), repo.WithDigest(all[0].Digest)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("old registry %v: deleted twice: %v", old, err)
		}
	}
}

func TestLists(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{})
	c := registry.New(registry.Options{Retry: fast()})
	repo := registry.Repository{Host: reg.Host, Name: "app"}
	if _, err := c.Tags(t.Context(), repo); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("tags of nothing: %v", err)
	}
	body := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`)
	for _, tag := range []string{"b", "a", "c"} {
		if _, err := c.PutManifest(t.Context(), repo.WithTag(tag), ocispec.MediaTypeImageIndex, body); err != nil {
			t.Fatal(err)
		}
	}
	tags, err := c.Tags(t.Context(), repo)
	if err != nil || strings.Join(tags, "") != "abc" {
		t.Errorf("%v, %v", tags, err)
	}
	names, err := c.Repositories(t.Context(), reg.Host)
	if err != nil || strings.Join(names, " ") != "app" {
		t.Errorf("%v, %v", names, err)
	}
	if err := c.Delete(t.Context(), repo.WithTag("b")); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), repo.WithTag("b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := c.Delete(t.Context(), repo.WithDigest(digest.FromBytes(body))); err != nil {
		t.Error(err)
	}
	if _, err := c.Resolve(t.Context(), repo.WithTag("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tag of a deleted manifest: %v", err)
	}
}

// The pages of a list are followed on the same host only, and not for ever.
func TestPages(t *testing.T) {
	web := http.NewServeMux()
	host := serve(t, web)
	for name, link := range map[string]string{"elsewhere": `<http://127.0.0.1:1/v2/x>; rel="next"`, "circle": `</v2/circle/tags/list?last=a>; rel="next"`} {
		web.HandleFunc("/v2/"+name+"/tags/list", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", link)
			_, _ = w.Write([]byte(`{"tags":["a"]}`))
		})
	}
	web.HandleFunc("/v2/fine/tags/list", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("last") == "" {
			w.Header().Set("Link", `</other>; rel="prev", </v2/fine/tags/list?last=a>; rel="next"`)
			_, _ = w.Write([]byte(`{"tags":["a"]}`))
			return
		}
		_, _ = w.Write([]byte(`{"tags":["b", "not a tag"]}`))
	})
	c := registry.New(registry.Options{Retry: fast()})
	for name, want := range map[string]string{"elsewhere": "another host", "circle": "lead in a circle"} {
		if _, err := c.Tags(t.Context(), registry.Repository{Host: host, Name: name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	tags, err := c.Tags(t.Context(), registry.Repository{Host: host, Name: "fine"})
	if err != nil || strings.Join(tags, ",") != "a,b" {
		t.Errorf("%v, %v", tags, err)
	}
}

func TestCredentials(t *testing.T) {
	folder := t.TempDir()
	reg := registrytest.New(t, registrytest.Config{Token: &registrytest.Token{User: "ann", Password: "pa:ss", Identity: "long-lived"}})
	basic := registrytest.New(t, registrytest.Config{Basic: &registrytest.Basic{User: "ann", Password: "pa:ss"}})
	write := func(text string) authn.Keychain {
		if err := os.WriteFile(filepath.Join(folder, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return registry.DockerCredentials(folder)
	}
	helper := filepath.Join(folder, "docker-credential-weftest")
	if err := os.WriteFile(helper, []byte("#!/bin/sh\ncat >/dev/null\necho '{\"Username\":\"ann\",\"Secret\":\"pa:ss\"}'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	for _, host := range []string{reg.Host, basic.Host} {
		repo := registry.Repository{Host: host, Name: "app"}
		body := []byte("hello")
		for name, keychain := range map[string]authn.Keychain{
			"auths":    write(`{"auths":{"` + host + `":{"auth":"YW5uOnBhOnNz"}}}`),
			"explicit": registry.Explicit(map[string]authn.AuthConfig{host: {Auth: "YW5uOnBhOnNz"}}),
			"identity": registry.Explicit(map[string]authn.AuthConfig{host: {IdentityToken: "long-lived"}}),
		} {
			if name == "identity" && host == basic.Host {
				continue
			}
			c := registry.New(registry.Options{Retry: fast(), Keychain: keychain})
			if err := c.PushBlob(t.Context(), repo, descriptor(body), opener(body)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		c := registry.New(registry.Options{Retry: fast(), Keychain: write(`{"credHelpers":{"` + host + `":"weftest"}}`)})
		if err := c.PushBlob(t.Context(), repo, descriptor(body), opener(body)); err != nil {
			t.Errorf("helper: %v", err)
		}
		for name, keychain := range map[string]authn.Keychain{"nobody": nil, "wrong": registry.Explicit(map[string]authn.AuthConfig{host: {Username: "ann", Password: "sesame"}})} {
			c := registry.New(registry.Options{Retry: fast(), Keychain: keychain})
			err := c.PushBlob(t.Context(), repo, descriptor(body), opener(body))
			if !errors.Is(err, registry.ErrUnauthorized) || strings.Contains(err.Error(), "sesame") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	c := registry.New(registry.Options{Retry: fast(), Keychain: write(`{"auths":{"` + reg.Host + `":{"auth":"sesame!"}}}`)})
	if _, err := c.Exists(t.Context(), registry.Repository{Host: reg.Host, Name: "app"}, digest.FromString("x")); err == nil || strings.Contains(err.Error(), "sesame") ||
		!strings.Contains(err.Error(), "config.json") {
		t.Errorf("a damaged config.json: %v", err)
	}
}

// One token serves many requests, and requests at the same time ask for it once.
func TestTokensAreShared(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{Token: &registrytest.Token{}})
	c := registry.New(registry.Options{Retry: fast()})
	image, err := random.Image(1000, 6)
	if err != nil {
		t.Fatal(err)
	}
	ref := registry.Repository{Host: reg.Host, Name: "app"}.WithTag("v1")
	if _, err := c.PushImage(t.Context(), ref, image, registry.PushOptions{Jobs: 6}); err != nil {
		t.Fatal(err)
	}
	if n := reg.Tokens(); n > 2 { // one to look, one to push
		t.Errorf("%d tokens were asked for", n)
	}
}

func TestMirrors(t *testing.T) {
	origin := registrytest.New(t, registrytest.Config{})
	mirror := registrytest.New(t, registrytest.Config{})
	c := registry.New(registry.Options{Retry: fast(), Mirrors: registry.ExplicitMirrors{origin.Host: {mirror.URL}}})
	direct := registry.New(registry.Options{Retry: fast()})
	body := content(9, 10_000)
	repo := registry.Repository{Host: origin.Host, Name: "app"}
	pull := func(what string) {
		t.Helper()
		if _, err := pullAll(c, repo, descriptor(body)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if err := c.PushBlob(t.Context(), repo, descriptor(body), opener(body)); err != nil {
		t.Fatal(err)
	}
	if n := len(mirror.Requests()); n != 0 {
		t.Errorf("the push made %d requests to the mirror", n)
	}
	pull("the mirror lacks it")
	if mirror.Count("GET", "ns="+strings.ReplaceAll(origin.Host, ":", "%3A")) == 0 {
		t.Errorf("the mirror was not told for whom it is asked: %+v", mirror.Requests())
	}
	if err := direct.PushBlob(t.Context(), registry.Repository{Host: mirror.Host, Name: "app"}, descriptor(body), opener(body)); err != nil {
		t.Fatal(err)
	}
	origin.Forget()
	pull("the mirror has it")
	if n := len(origin.Requests()); n != 0 {
		t.Errorf("the registry was asked %d times although the mirror has it", n)
	}
	mirror.Fail(registrytest.Fault{Method: "GET", CutOut: 3000})
	pull("the mirror breaks off")
	mirror.Web.Close()
	pull("the mirror is down")
}
