package registry_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/weft-dev/weft/registry"
)

// What was begun with TLS does not go on without: neither a redirect, nor an upload, nor credentials for a token.
func TestNothingLeavesTLS(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("without TLS: %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusTeapot)
	}))
	defer plain.Close()
	mux := http.NewServeMux()
	web := httptest.NewTLSServer(mux)
	defer web.Close()
	mux.HandleFunc("GET /v2/redirected/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+r.URL.Path, http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("HEAD /v2/uploaded/", http.NotFound)
	mux.HandleFunc("POST /v2/uploaded/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", plain.URL+"/upload")
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("/v2/guarded/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Www-Authenticate", `Bearer realm="http://tokens.example.com/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	folder := t.TempDir()
	dir := filepath.Join(folder, "registry.example.com")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"hosts.toml": fmt.Sprintf("server = %q\nca = \"ca.pem\"\n", web.URL),
		"ca.pem":     string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret := map[string]authn.AuthConfig{strings.TrimPrefix(web.URL, "https://"): {Username: "ann", Password: "sesame"}}
	body := []byte("hello")
	for name, test := range map[string]struct {
		do   func(*registry.Client, registry.Repository) error
		want string
	}{
		"redirected": {func(c *registry.Client, r registry.Repository) error {
			_, err := pullAll(c, r, descriptor(body))
			return err
		}, "redirects to a connection without TLS"},
		"uploaded": {func(c *registry.Client, r registry.Repository) error {
			return c.PushBlob(t.Context(), r, descriptor(body), opener(body))
		}, "without TLS, which is refused"},
		"guarded": {func(c *registry.Client, r registry.Repository) error {
			_, err := pullAll(c, r, descriptor(body))
			return err
		}, "speaks no TLS: credentials are not sent there"},
	} {
		c := registry.New(registry.Options{Retry: fast(), Mirrors: registry.HostsFolders{folder}, Keychain: registry.Explicit(secret)})
		defer c.Close()
		err := test.do(c, registry.Repository{Host: "registry.example.com", Name: name})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
