package registry

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// What is accepted prints as something that is read back as the same, and go-containerregistry, which is stricter in
// places, never reads it as something else.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"alpine", "alpine:3", "docker.io/library/alpine", "localhost/app", "localhost:5000/a/b:v1", "[::1]:5000/a", "ghcr.io/x/y@sha256:" + strings.Repeat("a", 64),
		"r.io/x:v1@sha256:" + strings.Repeat("0", 64), "oci://ghcr.io/kcl-lang/helloworld", "UPPER/x", "a//b", "a:b:c", "-", ":", "@", "a.b/", "1.2.3.4/x", "x/y/..", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Fatalf("%q is read as %+v, printed as %q, and that is read as %+v, %v", s, r, r.String(), again, err)
		}
		theirs, err := name.ParseReference(r.String())
		if err != nil {
			return
		}
		if theirs.Context().RegistryStr() != r.Host || theirs.Context().RepositoryStr() != r.Name || theirs.Identifier() != r.identifier() {
			t.Fatalf("%q is read as %+v, go-containerregistry reads %s", s, r, theirs)
		}
	})
}

func FuzzChallenge(f *testing.F) {
	for _, s := range []string{`Bearer realm="https://a/token",service="x",scope="repository:a:pull"`, `Basic realm="a"`, `Negotiate, Basic realm=a, Bearer realm="b\"c"`, `Bearer`, `=`, `a="`, `Bearer realm=`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges(http.Header{"Www-Authenticate": {s}}) {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) {
				t.Fatalf("scheme %q", c.scheme)
			}
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-0/10", "bytes 0-10/10", "bytes 0-99999999999999999999/*", "bytes=0-1/2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, end, total, err := parseContentRange(s)
		if err == nil && (start < 0 || end < start || total != -1 && end >= total) {
			t.Fatalf("%q: %d-%d/%d", s, start, end, total)
		}
		if n, err := parseUploadRange(s); err == nil && n < 0 {
			t.Fatalf("%q: %d", s, n)
		}
	})
}

func FuzzHosts(f *testing.F) {
	for _, s := range []string{"server = \"https://docker.io\"\n[host.\"https://mirror:5000\"]\n  capabilities = [\"pull\",\"resolve\"]\n  ca = \"ca.pem\"\n", "[host.\"http://a/v2/b\"]\noverride_path = true\nclient = [[\"a\",\"b\"]]\n",
		"[host.a.header]\nx = [\"y\"]\n", "skip_verify = 1", "[host]", "dial_timeout = \"x\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		hosts, err := parseHosts(data, "/etc/certs.d/x", "r.example.com")
		if err != nil {
			return
		}
		if len(hosts) == 0 {
			t.Fatal("no host and no error")
		}
		for _, h := range hosts {
			if _, err := h.url("/a/manifests/v1", "", Repository{"r.example.com", "a"}); err != nil {
				t.Fatalf("host %+v gives no URL: %v", h, err)
			}
		}
	})
}

// Documents of registries: nothing panics, and what is accepted is of one kind.
func FuzzDocuments(f *testing.F) {
	for _, s := range []string{`{"schemaVersion":2,"config":{},"layers":[]}`, `{"manifests":[{"digest":"sha256:x","size":-1}]}`, `{"schemaVersion":1}`, `{"errors":[{"code":"A","message":"b"}]}`,
		`{"token":"x","expires_in":1e300}`, `{"access_token":"a\nb"}`, `{"manifests":[],"layers":[]}`, `[]`, `null`, `{"auths":{"a":{"auth":"eA=="}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if mediaType, err := manifestType(data, "application/json"); err == nil && mediaType == "" {
			t.Fatal("a manifest without a type")
		}
		if list, err := parseReferrers(data); err == nil {
			for _, d := range list {
				if d.Digest.Validate() != nil || d.Size < 0 {
					t.Fatalf("accepted %+v", d)
				}
			}
		}
		parseErrors(data)
		now := time.Now()
		if tok, err := parseToken(data, now); err == nil && (tok.value == "" || tok.expires.Before(now)) {
			t.Fatalf("accepted %+v", tok)
		}
		_, _ = parseDockerConfig(data)
		var m v1.Manifest
		_ = json.Unmarshal(data, &m)
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"1", "-1", "99999999999999", "Fri, 31 Dec 1999 23:59:59 GMT", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(http.Header{"Retry-After": {s}}, time.Now()); d < 0 {
			t.Fatalf("%q: %v", s, d)
		}
		if next := nextLink(http.Header{"Link": {s}}); strings.Contains(next, ">") {
			t.Fatalf("%q: %q", s, next)
		}
	})
}

func TestReferenceErrors(t *testing.T) {
	for s, want := range map[string]string{
		"":                   "lower-case words",
		"a:":                 `tag ""`,
		"a@sha256:12":        "digest like sha256:HEX",
		"Upper":              "lower-case words",
		"host:99999999/a":    "not a host",
		"a b":                "lower-case words",
		"reg.io/a/../../etc": "lower-case words",
		"reg.io/a:-x":        "not beginning with",
		"https://reg.io/a":   "not a host",
	} {
		if _, err := ParseReference(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if _, err := ParseRepository("reg.io/a:v1"); err == nil {
		t.Error("a tag was accepted as part of a repository")
	}
}

func TestPlainHTTPOnlyWhereItIsSafe(t *testing.T) {
	c := New(Options{PlainHTTP: []string{"plain.example.com", "other.example.com:5000"}})
	for host, want := range map[string]string{
		"localhost": "http", "localhost:5000": "http", "a.localhost:1": "http", "127.0.0.1:5000": "http", "127.8.9.1": "http", "[::1]:5000": "http",
		"localhost.example.com": "https", "127.0.0.1.example.com": "https", "10.0.0.1:5000": "https", "printer.local": "https", "docker.io": "https",
		"plain.example.com:80": "http", "plain.example.com": "http", "other.example.com:5000": "http", "other.example.com": "https",
	} {
		if got := c.origin(host).Scheme; got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

func TestHostsFolders(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("docker.io/hosts.toml", `
server = "https://registry-1.docker.io"

[host."https://z.example.com"]
  capabilities = ["pull"]
  ca = "certs/z.crt"
  [host."https://z.example.com".header]
    x-key = ["one", "two"]

[host."http://a.example.com:5000/hub"]
  capabilities = ["pull", "resolve", "push"]
  override_path = true
  skip_verify = true
  client = [["/c.crt", "/c.key"]]
  dial_timeout = "2s"
`)
	write("reg.example.com_5000_/hosts.toml", `server = "https://inner.example.com"`)
	write("certs.example.com/ca.crt", "")
	write("certs.example.com/me.cert", "")
	write("certs.example.com/me.key", "")
	write("_default/hosts.toml", `[host."https://cache.example.com"]`)
	write("bad.example.com/hosts.toml", "server = \"https://x\"\n[host.\"https://y\"]\ncapabilities = [\"pulll\"]\n")
	write("worse.example.com/hosts.toml", "a = \n")
	hosts := func(registry string) []Host {
		t.Helper()
		h, err := HostsFolders{filepath.Join(root, "missing"), root}.Hosts(t.Context(), registry)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := hosts(DockerHub)
	if len(h) != 3 || h[0].Name != "z.example.com" || h[0].Base != "/v2" || h[0].Capabilities != CapabilityPull || h[0].TLS.CA[0] != filepath.Join(root, "docker.io/certs/z.crt") ||
		len(h[0].Header["X-Key"]) != 2 || !h[0].Mirror {
		t.Errorf("%+v", h)
	}
	if h[1].Base != "/hub" || h[1].Scheme != "http" || !h[1].TLS.SkipVerify || h[1].TLS.Client[0] != [2]string{"/c.crt", "/c.key"} || h[1].DialTimeout != 2*time.Second {
		t.Errorf("%+v", h[1])
	}
	if h[2].Name != DockerHub || h[2].Mirror {
		t.Errorf("%+v", h[2])
	}
	if h := hosts("reg.example.com:5000"); len(h) != 1 || h[0].Name != "inner.example.com" {
		t.Errorf("%+v", h)
	}
	if h := hosts("certs.example.com"); len(h) != 1 || len(h[0].TLS.CA) != 1 || len(h[0].TLS.Client) != 1 {
		t.Errorf("%+v", h)
	}
	if h := hosts("any.example.com"); len(h) != 2 || h[0].Name != "cache.example.com" || h[1].Name != "any.example.com" {
		t.Errorf("%+v", h)
	}
	for registry, want := range map[string]string{"bad.example.com": `"pulll" is unknown`, "worse.example.com": "line 1"} {
		if _, err := (HostsFolders{root}).Hosts(t.Context(), registry); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "hosts.toml") {
			t.Errorf("%s: %v", registry, err)
		}
	}
}
