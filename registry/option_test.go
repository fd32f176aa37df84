package registry_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// Everything that moves is limited and reported, in small steps and up to the last byte.
func TestLimitAndProgress(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{})
	repo := registry.Repository{Host: reg.Host, Name: "app"}
	body := content(5, sizeOfBlob)
	var mu sync.Mutex
	limited := 0
	var last registry.Progress
	c := registry.New(registry.Options{Retry: fast(), ChunkSize: 100_000,
		Limit: func(_ context.Context, n int) error {
			mu.Lock()
			defer mu.Unlock()
			if n > 64<<10 {
				t.Errorf("a step of %d bytes", n)
			}
			limited += n
			return nil
		},
		Progress: func(p registry.Progress) {
			mu.Lock()
			defer mu.Unlock()
			last = p
		},
	})
	check := func(what string, push bool, total int64) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if limited != sizeOfBlob {
			t.Errorf("%s: %d of %d bytes were limited", what, limited, sizeOfBlob)
		}
		if last.Push != push || last.Done != sizeOfBlob || last.Total != total || last.Repository != repo {
			t.Errorf("%s: the last report is %+v", what, last)
		}
		limited = 0
	}
	if err := c.PushBlob(t.Context(), repo, descriptor(body), opener(body)); err != nil {
		t.Fatal(err)
	}
	check("push", true, sizeOfBlob)
	if _, err := pullAll(c, repo, descriptor(body)); err != nil {
		t.Fatal(err)
	}
	check("pull", false, sizeOfBlob)
	if _, err := streamTo(c, registry.Repository{Host: reg.Host, Name: "app"}, content(6, sizeOfBlob)); err != nil {
		t.Fatal(err)
	}
	check("stream", true, -1)

	stop := errors.New("enough")
	c = registry.New(registry.Options{Retry: fast(), Limit: func(context.Context, int) error { return stop }})
	if _, err := pullAll(c, repo, descriptor(body)); !errors.Is(err, stop) {
		t.Errorf("a limit that gives up: %v", err)
	}
}

// A cancelled context ends a transfer at once, also while the registry is silent.
func TestCancelledTransfersEnd(t *testing.T) {
	quick := registrytest.New(t, registrytest.Config{})
	reg := registrytest.New(t, registrytest.Config{Storage: quick.Storage, Bandwidth: 50_000}) // 8 seconds for the rest
	repo := registry.Repository{Host: reg.Host, Name: "app"}
	body := content(7, 500_000)
	c := registry.New(registry.Options{Retry: fast()})
	if err := c.PushBlob(t.Context(), registry.Repository{Host: quick.Host, Name: "app"}, descriptor(body), opener(body)); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	for name, f := range map[string]func(context.Context, func()) error{
		"pull": func(ctx context.Context, cancel func()) error {
			rc, err := c.Blob(ctx, repo, descriptor(body))
			if err != nil {
				return err
			}
			defer rc.Close()
			if _, err := io.CopyN(io.Discard, rc, 1000); err != nil {
				return err
			}
			cancel()
			_, err = io.Copy(io.Discard, rc)
			return err
		},
		"busy": func(ctx context.Context, cancel func()) error {
			reg.Fail(registrytest.Fault{Status: 429, RetryAfter: 100e9})
			defer reg.Heal()
			time.AfterFunc(50*time.Millisecond, cancel) // while the client waits as it was told to
			_, err := c.Resolve(ctx, repo.WithTag("v1"))
			return err
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := f(ctx, func() { cancel(stop) }); !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A registry with a certificate of its own is trusted if the folder for its name says so, and else refused.
func TestPrivateCertificateAuthority(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{TLS: true})
	folder := t.TempDir()
	dir := filepath.Join(folder, "registry.example.com")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("authority.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reg.Web.Certificate().Raw}))
	repo := registry.Repository{Host: "registry.example.com", Name: "app"}
	body := []byte("hello")
	for text, trusted := range map[string]bool{
		"ca = \"authority.pem\"\n": true,
		"skip_verify = true\n":     true,
		"":                         false,
	} {
		write("hosts.toml", []byte("server = \""+reg.URL+"\"\n"+text))
		c := registry.New(registry.Options{Retry: fast(), Mirrors: registry.HostsFolders{folder}})
		err := c.PushBlob(t.Context(), repo, descriptor(body), opener(body))
		if trusted != (err == nil) {
			t.Errorf("%q: %v", text, err)
		}
		if !trusted {
			continue
		}
		if got, err := pullAll(c, repo, descriptor(body)); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	write("hosts.toml", []byte("server = \""+reg.URL+"\"\nca = \"missing.pem\"\n"))
	c := registry.New(registry.Options{Retry: fast(), Mirrors: registry.HostsFolders{folder}})
	if _, err := c.StatBlob(t.Context(), repo, descriptor(body).Digest); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestManifestLimit(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{})
	c := registry.New(registry.Options{Retry: fast(), ManifestLimit: 100})
	ref := registry.Repository{Host: reg.Host, Name: "app"}.WithTag("v1")
	body := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[],"annotations":{"a":"` + string(bytes.Repeat([]byte("x"), 100)) + `"}}`)
	if _, err := c.PutManifest(t.Context(), ref, ocispec.MediaTypeImageIndex, body); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Manifest(t.Context(), ref); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}
