package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/registry/server"
	"github.com/weft-dev/weft/store"
)

// storages are what the server is tested on: in memory, and on the disk through the content store.
func storages(t *testing.T) map[string]server.Storage {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]server.Storage{"memory": server.Memory(), "store": st.Registry()}
}

type session struct {
	t        *testing.T
	url      string
	location string // of the upload that step began last
}

// step is one request and what must come back. %U in a path is the last upload's location.
type step struct {
	method, path string
	header       string // "Name: value" lines
	body         string
	status       int
	want         string // "Name: regular expression" lines; "Name:" alone: must not be there
	code         string // of the error document
	answer       string // regular expression for the body
}

func (s *session) run(name string, st step) {
	s.t.Helper()
	target := s.url + st.path
	if strings.Contains(st.path, "%U") {
		target = strings.ReplaceAll(st.path, "%U", s.location)
	}
	req, err := http.NewRequest(st.method, target, strings.NewReader(st.body))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(st.header) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	where := fmt.Sprintf("%s: %s %s", name, st.method, st.path)
	if resp.StatusCode != st.status {
		s.t.Errorf("%s: status %d, want %d: %s", where, resp.StatusCode, st.status, body)
	}
	for line := range strings.Lines(st.want) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			k = strings.TrimSuffix(k, ":")
			if got := resp.Header.Get(k); got != "" {
				s.t.Errorf("%s: header %s is %q, must not be there", where, k, got)
			}
		} else if got := resp.Header.Get(k); !regexp.MustCompile("^(?:" + v + ")$").MatchString(got) {
			s.t.Errorf("%s: header %s is %q, want %s", where, k, got, v)
		}
	}
	if st.code != "" {
		var doc struct {
			Errors []struct{ Code, Message string }
		}
		if err := json.Unmarshal(body, &doc); err != nil || len(doc.Errors) != 1 || doc.Errors[0].Code != st.code || doc.Errors[0].Message == "" {
			s.t.Errorf("%s: error document %s, want code %s", where, body, st.code)
		}
	}
	if !regexp.MustCompile("(?s)^(?:"+st.answer+")$").Match(body) && st.answer != "" {
		s.t.Errorf("%s: body %q, want %s", where, body, st.answer)
	}
	if strings.Contains(st.path, "/blobs/uploads") {
		if l := resp.Header.Get("Location"); l != "" {
			u, err := resp.Request.URL.Parse(l)
			if err != nil {
				s.t.Fatal(err)
			}
			s.location = u.String()
		}
	}
}

const (
	blobText  = "0123456789"
	emptyJSON = "{}"
)

var (
	blobDigest  = digest.FromString(blobText)
	blob512     = digest.SHA512.FromString(blobText)
	emptyDigest = digest.FromString(emptyJSON)
)

func imageText(extra string) string {
	return `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` +
		string(emptyDigest) + `","size":2},"layers":[{"mediaType":"text/plain","digest":"` + string(blobDigest) + `","size":10}]` + extra + `}`
}

func indexText(of string) string {
	return `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + of + `","size":1}]}`
}

// Each entry is what distribution-spec 1.1 says that a registry MUST do (where nothing else is said), in its order.
func TestSpecification(t *testing.T) {
	for name, storage := range storages(t) {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(server.New(server.Config{Storage: storage, ManifestLimit: 100_000}))
			defer web.Close()
			s := &session{t: t, url: web.URL}
			for _, test := range specification() {
				for _, st := range test.steps {
					s.run(test.rule, st)
				}
			}
		})
	}
}

type rule struct {
	rule  string
	steps []step
}

func specification() []rule {
	image, index := imageText(""), indexText(digest.FromString(imageText("")).String())
	imageDigest := digest.FromString(image)
	manifestType := "Content-Type: " + ocispec.MediaTypeImageManifest
	indexType := "Content-Type: " + ocispec.MediaTypeImageIndex
	absent := digest.FromString("absent")
	referrer := imageText(`,"artifactType":"text/sbom","annotations":{"who":"me"},"subject":{"mediaType":"x","digest":"` + string(imageDigest) + `","size":1}`)
	plainReferrer := imageText(`,"subject":{"mediaType":"x","digest":"` + string(imageDigest) + `","size":1}`)
	rules := []rule{
		{"the API's root answers", []step{{"GET", "/v2/", "", "", 200, "Docker-Distribution-Api-Version: registry/2.0", "", ".*"}}},
		{"a manifest that is not there is 404", []step{
			{"GET", "/v2/none/manifests/v1", "", "", 404, "", "MANIFEST_UNKNOWN", ""},
			{"HEAD", "/v2/none/manifests/v1", "", "", 404, "", "", ""},
			{"GET", "/v2/none/manifests/" + string(absent), "", "", 404, "", "MANIFEST_UNKNOWN", ""},
		}},
		{"a blob that is not there is 404", []step{
			{"GET", "/v2/none/blobs/" + string(absent), "", "", 404, "", "BLOB_UNKNOWN", ""},
			{"HEAD", "/v2/none/blobs/" + string(absent), "", "", 404, "", "", ""},
		}},
		{"names, tags and digests follow their grammar", []step{
			{"GET", "/v2/Upper/manifests/v1", "", "", 400, "", "NAME_INVALID", ""},
			{"GET", "/v2/a/../b/manifests/v1", "", "", 400, "", "NAME_INVALID", ""},
			{"GET", "/v2/a%2f..%2fb/manifests/v1", "", "", 400, "", "NAME_INVALID", ""},
			{"GET", "/v2/" + strings.Repeat("a", 241) + "/manifests/v1", "", "", 400, "", "NAME_INVALID", ""},
			{"GET", "/v2/a/manifests/" + strings.Repeat("a", 129), "", "", 400, "", "DIGEST_INVALID", ""},
			{"GET", "/v2/a/blobs/sha256:12", "", "", 400, "", "DIGEST_INVALID", ""},
			{"PUT", "/v2/a/manifests/-v", manifestType, image, 400, "", "MANIFEST_INVALID", ""},
		}},
		{"POST then PUT", []step{
			{"POST", "/v2/app/blobs/uploads/", "", "", 202, "Location: /v2/app/blobs/uploads/.+\nRange: 0-0", "", ""},
			{"PUT", "%U?digest=" + string(blobDigest), "Content-Type: application/octet-stream", blobText, 201, "Location: /v2/app/blobs/" + string(blobDigest) +
				"\nDocker-Content-Digest: " + string(blobDigest), "", ""},
			{"GET", "/v2/app/blobs/" + string(blobDigest), "", "", 200, "Content-Length: 10\nDocker-Content-Digest: " + string(blobDigest), "", blobText},
			{"HEAD", "/v2/app/blobs/" + string(blobDigest), "", "", 200, "Content-Length: 10\nDocker-Content-Digest: " + string(blobDigest), "", ""},
		}},
		{"the upload is gone after PUT", []step{
			{"PUT", "%U?digest=" + string(blobDigest), "", blobText, 404, "", "BLOB_UPLOAD_UNKNOWN", ""},
		}},
		{"single POST", []step{
			{"POST", "/v2/app/blobs/uploads/?digest=" + string(emptyDigest), "", emptyJSON, 201, "Location: /v2/app/blobs/" + string(emptyDigest), "", ""},
			{"POST", "/v2/app/blobs/uploads?digest=" + string(emptyDigest), "", emptyJSON, 201, "", "", ""},
		}},
		{"a digest that does not match is 400", []step{
			{"POST", "/v2/app/blobs/uploads/?digest=" + string(absent), "", "x", 400, "", "DIGEST_INVALID", ""},
			{"POST", "/v2/app/blobs/uploads/", "", "", 202, "", "", ""},
			{"PUT", "%U?digest=sha256:zz", "", "x", 400, "", "DIGEST_INVALID", ""},
			{"PUT", "%U", "", "x", 400, "", "DIGEST_INVALID", ""},
			{"PUT", "%U?digest=" + string(absent), "", "x", 400, "", "DIGEST_INVALID", ""},
			{"GET", "/v2/app/blobs/" + string(absent), "", "", 404, "", "BLOB_UNKNOWN", ""},
		}},
		{"sha512 (MAY)", []step{
			{"POST", "/v2/app/blobs/uploads/?digest=" + string(blob512), "", blobText, 201, "Docker-Content-Digest: " + string(blob512), "", ""},
			{"GET", "/v2/app/blobs/" + string(blob512), "", "", 200, "", "", blobText},
		}},
		{"an empty blob", []step{
			{"POST", "/v2/app/blobs/uploads/", "", "", 202, "", "", ""},
			{"PUT", "%U?digest=" + string(digest.FromString("")), "", "", 201, "", "", ""},
			{"HEAD", "/v2/app/blobs/" + string(digest.FromString("")), "", "", 200, "Content-Length: 0", "", ""},
		}},
		{"chunks in order, an out of order one is 416", []step{
			{"POST", "/v2/chunked/blobs/uploads/", "Content-Length: 0", "", 202, "", "", ""},
			{"PATCH", "%U", "Content-Range: 0-3", "0123", 202, "Range: 0-3\nLocation: .+", "", ""},
			{"GET", "%U", "", "", 204, "Range: 0-3\nLocation: .+", "", ""},
			{"PATCH", "%U", "Content-Range: 5-6", "56", 416, "Range: 0-3\nLocation: .+", "BLOB_UPLOAD_INVALID", ""},
			{"PATCH", "%U", "Content-Range: 0-3", "0123", 416, "", "", ""},
			{"PATCH", "%U", "Content-Range: 4-9", "45", 400, "", "SIZE_INVALID", ""},
			{"PATCH", "%U", "Content-Range: bytes=x", "45", 400, "", "BLOB_UPLOAD_INVALID", ""},
			{"PATCH", "%U", "Content-Range: 4-6", "456", 202, "Range: 0-6", "", ""},
			{"PUT", "%U?digest=" + string(blobDigest), "Content-Range: 8-9", "89", 416, "", "BLOB_UPLOAD_INVALID", ""},
			{"PUT", "%U?digest=" + string(blobDigest), "Content-Range: 7-9", "789", 201, "Location: /v2/chunked/blobs/.+", "", ""},
			{"GET", "/v2/chunked/blobs/" + string(blobDigest), "", "", 200, "", "", blobText},
		}},
		{"a stream without Content-Range", []step{
			{"POST", "/v2/stream/blobs/uploads/", "", "", 202, "", "", ""},
			{"PATCH", "%U", "", "01234", 202, "Range: 0-4", "", ""},
			{"PATCH", "%U", "", "56789", 202, "Range: 0-9", "", ""},
			{"PUT", "%U?digest=" + string(blobDigest), "", "", 201, "", "", ""},
		}},
		{"an upload belongs to its repository and can be cancelled", []step{
			{"POST", "/v2/app/blobs/uploads/", "", "", 202, "", "", ""},
			{"DELETE", "%U", "", "", 204, "", "", ""},
			{"GET", "%U", "", "", 404, "", "BLOB_UPLOAD_UNKNOWN", ""},
			{"PATCH", "/v2/app/blobs/uploads/x", "", "x", 404, "", "BLOB_UPLOAD_UNKNOWN", ""},
			{"PATCH", "/v2/app/blobs/uploads/..%2f..", "", "x", 404, "", "", ""},
		}},
		{"mounting", []step{
			{"POST", "/v2/mounted/blobs/uploads/?mount=" + string(blobDigest) + "&from=app", "", "", 201, "Location: /v2/mounted/blobs/" + string(blobDigest), "", ""},
			{"GET", "/v2/mounted/blobs/" + string(blobDigest), "", "", 200, "", "", blobText},
			{"POST", "/v2/mounted/blobs/uploads/?mount=" + string(absent) + "&from=app", "", "", 202, "Location: .+/uploads/.+", "", ""},
			{"POST", "/v2/mounted/blobs/uploads/?mount=" + string(emptyDigest) + "&from=none", "", "", 202, "", "", ""},
			{"GET", "/v2/mounted/blobs/" + string(emptyDigest), "", "", 404, "", "", ""},
			{"POST", "/v2/mounted/blobs/uploads/?mount=" + string(emptyDigest), "", "", 201, "", "", ""},
			{"POST", "/v2/mounted/blobs/uploads/?mount=x&from=app", "", "", 400, "", "DIGEST_INVALID", ""},
		}},
		{"a manifest by tag and by digest, byte for byte", []step{
			{"PUT", "/v2/app/manifests/v1", manifestType, image, 201, "Location: /v2/app/manifests/" + string(imageDigest) + "\nDocker-Content-Digest: " + string(imageDigest) +
				"\nOci-Subject:", "", ""},
			{"GET", "/v2/app/manifests/v1", "", "", 200, "Content-Type: " + regexp.QuoteMeta(ocispec.MediaTypeImageManifest) + "\nDocker-Content-Digest: " + string(imageDigest), "", regexp.QuoteMeta(image)},
			{"HEAD", "/v2/app/manifests/v1", "", "", 200, "Content-Length: " + fmt.Sprint(len(image)) + "\nDocker-Content-Digest: " + string(imageDigest), "", ""},
			{"GET", "/v2/app/manifests/" + string(imageDigest), "", "", 200, "", "", regexp.QuoteMeta(image)},
			{"PUT", "/v2/app/manifests/" + string(imageDigest), manifestType, image, 201, "", "", ""},
			{"PUT", "/v2/app/manifests/" + string(absent), manifestType, image, 400, "", "DIGEST_INVALID", ""},
			{"PUT", "/v2/app/manifests/" + string(imageDigest) + "?tag=v2&tag=v3", manifestType, image, 201, "OCI-Tag: v2, v3", "", ""},
			{"PUT", "/v2/app/manifests/" + string(imageDigest) + "?tag=%2f", manifestType, image, 400, "", "MANIFEST_INVALID", ""},
			{"PUT", "/v2/app/manifests/multi", indexType, index, 201, "", "", ""},
		}},
		{"a manifest that cannot be right is refused", []step{
			{"PUT", "/v2/app/manifests/bad", manifestType, "{", 400, "", "MANIFEST_INVALID", ""},
			{"PUT", "/v2/app/manifests/bad", indexType, image, 400, "", "MANIFEST_INVALID", ""},
			{"PUT", "/v2/app/manifests/bad", "Content-Type: ;", image, 400, "", "MANIFEST_INVALID", ""},
			{"PUT", "/v2/app/manifests/bad", "", "{}", 400, "", "MANIFEST_INVALID", ""},
			{"PUT", "/v2/app/manifests/bad", manifestType, `{"schemaVersion":2}`, 400, "", "MANIFEST_INVALID", ""},
			{"PUT", "/v2/app/manifests/bad", indexType, indexText("nonsense"), 400, "", "MANIFEST_INVALID", ""},
			{"PUT", "/v2/app/manifests/bad", manifestType, image + strings.Repeat(" ", 100_000), 413, "", "SIZE_INVALID", ""},
			{"GET", "/v2/app/manifests/bad", "", "", 404, "", "MANIFEST_UNKNOWN", ""},
		}},
		{"what a manifest needs must be there", []step{
			{"PUT", "/v2/bare/manifests/v1", manifestType, image, 404, "", "MANIFEST_BLOB_UNKNOWN", ""},
			{"PUT", "/v2/app/manifests/v9", indexType, indexText(string(absent)), 404, "", "MANIFEST_UNKNOWN", ""},
			{"PUT", "/v2/app/manifests/foreign", manifestType, imageText("")[:len(imageText(""))-2] + `,{"mediaType":"m","digest":"` + string(absent) +
				`","size":1,"urls":["https://example.com/layer"]}]}`, 201, "", "", ""},
			{"GET", "/v2/bare/tags/list", "", "", 404, "", "NAME_UNKNOWN", ""},
		}},
		{"tags in order and in pages", []step{
			{"GET", "/v2/app/tags/list", "", "", 200, "Link:", "", regexp.QuoteMeta(`{"name":"app","tags":["foreign","multi","v1","v2","v3"]}`)},
			{"GET", "/v2/app/tags/list?n=2", "", "", 200, "Link: </v2/app/tags/list\\?last=multi&n=2>; rel=\"next\"", "", `.*\["foreign","multi"\].*`},
			{"GET", "/v2/app/tags/list?n=3&last=multi", "", "", 200, "Link:", "", `.*\["v1","v2","v3"\].*`},
			{"GET", "/v2/app/tags/list?last=gone", "", "", 200, "", "", `.*\["multi","v1","v2","v3"\].*`},
			{"GET", "/v2/app/tags/list?n=0", "", "", 200, "Link:", "", `.*\[\].*`},
			{"GET", "/v2/app/tags/list?n=-1", "", "", 400, "", "PAGINATION_NUMBER_INVALID", ""},
			{"GET", "/v2/none/tags/list", "", "", 404, "", "NAME_UNKNOWN", ""},
			{"GET", "/v2/_catalog?n=1", "", "", 200, "", "", `.*\["app"\].*`},
		}},
		{"referrers", []step{
			{"GET", "/v2/app/referrers/" + string(imageDigest), "", "", 200, "Content-Type: " + regexp.QuoteMeta(ocispec.MediaTypeImageIndex), "", `.*"manifests":\[\].*`},
			{"PUT", "/v2/app/manifests/" + digest.FromString(referrer).String(), manifestType, referrer, 201, "OCI-Subject: " + string(imageDigest), "", ""},
			{"PUT", "/v2/app/manifests/" + digest.FromString(plainReferrer).String(), manifestType, plainReferrer, 201, "OCI-Subject: " + string(imageDigest), "", ""},
			{"GET", "/v2/app/referrers/" + string(imageDigest), "", "", 200, "OCI-Filters-Applied:", "", `.*text/sbom.*`},
			{"GET", "/v2/app/referrers/" + string(imageDigest) + "?artifactType=text/sbom", "", "", 200, "OCI-Filters-Applied: artifactType", "",
				`.*"annotations":\{"who":"me"\},"artifactType":"text/sbom"\}\].*`},
			{"GET", "/v2/app/referrers/" + string(imageDigest) + "?artifactType=application/vnd.oci.empty.v1%2Bjson", "", "", 200, "", "", `.*empty.v1.json"\}\].*`},
			{"GET", "/v2/app/referrers/" + string(imageDigest) + "?n=1", "", "", 200, `Link: <.*n=1>; rel="next"`, "", ""},
			{"GET", "/v2/app/referrers/" + string(absent), "", "", 200, "", "", `.*"manifests":\[\].*`},
			{"GET", "/v2/none/referrers/" + string(absent), "", "", 200, "", "", `.*"manifests":\[\].*`},
			{"GET", "/v2/app/referrers/nonsense", "", "", 400, "", "DIGEST_INVALID", ""},
			{"DELETE", "/v2/app/manifests/" + digest.FromString(referrer).String(), "", "", 202, "", "", ""},
			{"GET", "/v2/app/referrers/" + string(imageDigest) + "?artifactType=text/sbom", "", "", 200, "", "", `.*"manifests":\[\].*`},
		}},
		{"a subject may be missing", []step{
			{"PUT", "/v2/app/manifests/orphan", manifestType, imageText(`,"subject":{"mediaType":"x","digest":"` + string(absent) + `","size":1}`), 201, "OCI-Subject: " + string(absent), "", ""},
		}},
		{"parts of blobs", []step{
			{"GET", "/v2/app/blobs/" + string(blobDigest), "Range: bytes=2-4", "", 206, "Content-Range: bytes 2-4/10\nContent-Length: 3", "", "234"},
			{"GET", "/v2/app/blobs/" + string(blobDigest), "Range: bytes=8-", "", 206, "Content-Range: bytes 8-9/10", "", "89"},
			{"GET", "/v2/app/blobs/" + string(blobDigest), "Range: bytes=-1", "", 206, "Content-Range: bytes 9-9/10", "", "9"},
			{"GET", "/v2/app/blobs/" + string(blobDigest), "Range: bytes=10-", "", 416, "Content-Range: bytes \\*/10", "", ""},
			{"GET", "/v2/app/blobs/" + string(blobDigest), `If-None-Match: "` + string(blobDigest) + `"`, "", 304, "", "", ""},
		}},
		{"deleting", []step{
			{"DELETE", "/v2/app/manifests/v2", "", "", 202, "", "", ""},
			{"DELETE", "/v2/app/manifests/v2", "", "", 404, "", "MANIFEST_UNKNOWN", ""},
			{"GET", "/v2/app/manifests/v1", "", "", 200, "", "", ""},
			{"DELETE", "/v2/app/manifests/" + string(imageDigest), "", "", 202, "", "", ""},
			{"GET", "/v2/app/manifests/v1", "", "", 404, "", "MANIFEST_UNKNOWN", ""},
			{"GET", "/v2/app/manifests/v3", "", "", 404, "", "MANIFEST_UNKNOWN", ""},
			{"DELETE", "/v2/none/manifests/" + string(imageDigest), "", "", 404, "", "MANIFEST_UNKNOWN", ""},
			{"DELETE", "/v2/app/blobs/" + string(blobDigest), "", "", 202, "", "", ""},
			{"GET", "/v2/app/blobs/" + string(blobDigest), "", "", 404, "", "BLOB_UNKNOWN", ""},
			{"GET", "/v2/mounted/blobs/" + string(blobDigest), "", "", 200, "", "", blobText},
			{"DELETE", "/v2/app/blobs/" + string(blobDigest), "", "", 404, "", "BLOB_UNKNOWN", ""},
		}},
		{"what is not supported says so", []step{
			{"POST", "/v2/app/manifests/v1", "", "", 405, "", "UNSUPPORTED", ""},
			{"GET", "/v2/app/blobs/uploads/", "", "", 405, "", "UNSUPPORTED", ""},
			{"GET", "/v2/app/tags/other", "", "", 404, "", "UNSUPPORTED", ""},
			{"GET", "/v1/", "", "", 404, "", "UNSUPPORTED", ""},
			{"GET", "/v2/", "Origin: https://example.com", "", 403, "", "DENIED", ""},
		}},
	}
	return rules
}

func TestReadOnly(t *testing.T) {
	web := httptest.NewServer(server.New(server.Config{Storage: server.Memory(), ReadOnly: true}))
	defer web.Close()
	s := &session{t: t, url: web.URL}
	s.run("read-only", step{"POST", "/v2/app/blobs/uploads/", "", "", 405, "", "UNSUPPORTED", ""})
	s.run("read-only", step{"DELETE", "/v2/app/manifests/v1", "", "", 405, "", "UNSUPPORTED", ""})
	s.run("read-only", step{"GET", "/v2/", "", "", 200, "", "", ".*"})
}

func TestBlobLimit(t *testing.T) {
	for name, storage := range storages(t) {
		web := httptest.NewServer(server.New(server.Config{Storage: storage, BlobLimit: 8}))
		defer web.Close()
		s := &session{t: t, url: web.URL}
		s.run(name, step{"POST", "/v2/app/blobs/uploads/", "", "", 202, "", "", ""})
		s.run(name, step{"PATCH", "%U", "", "01234", 202, "", "", ""})
		s.run(name, step{"PATCH", "%U", "", "56789", 413, "", "SIZE_INVALID", ""})
		s.run(name, step{"POST", "/v2/app/blobs/uploads/?digest=" + string(blobDigest), "", blobText, 413, "", "SIZE_INVALID", ""})
	}
}

// What came before a client went away stays, and the client can go on from there.
func TestCutUploadGoesOn(t *testing.T) {
	for name, storage := range storages(t) {
		web := httptest.NewServer(server.New(server.Config{Storage: storage}))
		defer web.Close()
		s := &session{t: t, url: web.URL}
		s.run(name, step{"POST", "/v2/app/blobs/uploads/", "", "", 202, "", "", ""})
		u, err := url.Parse(s.location)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\n\r\n0123", u.Path, u.Host); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		var last string
		for range 1000 { // the server notices the cut a moment later; until then the upload is empty or busy
			resp, err := http.Get(s.location)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if last = resp.Header.Get("Range"); resp.StatusCode == http.StatusNoContent && last == "0-3" {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if last != "0-3" {
			t.Errorf("%s: the upload has %s", name, last)
		}
		s.run(name, step{"PATCH", "%U", "Content-Range: 4-9", "456789", 202, "Range: 0-9", "", ""})
		s.run(name, step{"PUT", "%U?digest=" + string(blobDigest), "", "", 201, "", "", ""})
	}
}

// busy is a storage in which the other request ends as soon as one has found the upload in its hands.
type busy struct {
	server.Storage
	until func() error
	times int
}

func (b *busy) Resume(ctx context.Context, name string) (server.Upload, error) {
	up, err := b.Storage.Resume(ctx, name)
	if errors.Is(err, server.ErrBusy) {
		b.times++
		return nil, errors.Join(err, b.until())
	}
	return up, err
}

// A request that finds its upload in the hands of another one waits for that one's end.
func TestUploadsWaitForEachOther(t *testing.T) {
	for name, storage := range storages(t) {
		held := &busy{Storage: storage}
		web := httptest.NewServer(server.New(server.Config{Storage: held}))
		defer web.Close()
		s := &session{t: t, url: web.URL}
		s.run(name, step{"POST", "/v2/app/blobs/uploads/", "", "", 202, "", "", ""})
		up, err := storage.Resume(t.Context(), path.Base(s.location))
		if err != nil {
			t.Fatal(err)
		}
		held.until = up.Close
		s.run(name, step{"PATCH", "%U", "", "0123", 202, "Range: 0-3", "", ""})
		if held.times != 1 {
			t.Errorf("%s: the upload was busy %d times", name, held.times)
		}
	}
}

// An upload belongs to the repository in which it began: whoever may write to another one cannot go on with it.
func TestUploadsStayInTheirRepository(t *testing.T) {
	for name, storage := range storages(t) {
		web := httptest.NewServer(server.New(server.Config{Storage: storage}))
		defer web.Close()
		s := &session{t: t, url: web.URL}
		s.run(name, step{"POST", "/v2/app/blobs/uploads/", "", "", 202, "", "", ""})
		mine := s.location
		s.location = strings.Replace(mine, "/v2/app/", "/v2/other/", 1)
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			s.run(name, step{method, "%U", "", blobText, 404, "", "BLOB_UPLOAD_UNKNOWN", ""})
		}
		s.run(name, step{"PUT", "%U?digest=" + string(blobDigest), "", blobText, 404, "", "BLOB_UPLOAD_UNKNOWN", ""})
		s.location = mine
		s.run(name, step{"GET", "%U", "", "", 204, "Range: 0-0", "", ""})
	}
}
