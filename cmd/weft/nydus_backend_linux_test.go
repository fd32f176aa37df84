package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// TestNydusBackends reads blobs where nydusd's configuration says that they lie. The image's small chunks are put together: without the blob it is not
// known where they lie, and files cannot be unpacked.
func TestNydusBackends(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	file := func(name, content string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err == nil {
			err = os.WriteFile(name, []byte(content), 0o644)
			if err != nil {
				t.Fatal(err)
			}
		}
		return name
	}
	for i := range 5 {
		file(fmt.Sprintf("tree/small%d", i), strings.Repeat(fmt.Sprint(i), 3000))
	}
	file("blobs/x", "")
	boot, blobs := filepath.Join(dir, "image.boot"), filepath.Join(dir, "blobs")
	nydusImage(t, "", "create", "-B", boot, "-D", blobs, "--batch-size", "0x10000", filepath.Join(dir, "tree"))
	want := filepath.Join(dir, "want.tar")
	nydusImage(t, "", "unpack", boot, "-D", blobs, "--output", want)
	wanted, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	sure := nydusImage(t, "", "check", "-v", boot, "-D", blobs)
	if sure == nydusImage(t, "", "check", "-v", boot) {
		t.Fatal("the blob changes nothing: this test would not see where it was read")
	}

	// The same blob in a registry with TLS of its own and a password.
	reg := registrytest.New(t, registrytest.Config{TLS: true, Basic: &registrytest.Basic{User: "me", Password: "secret"}})
	ca := file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reg.Web.Certificate().Raw})))
	client := registry.New(registry.Options{Keychain: registry.Explicit(map[string]authn.AuthConfig{reg.Host: {Username: "me", Password: "secret"}}),
		Mirrors: onlyHost{Name: reg.Host, Scheme: "https", Base: "/v2", TLS: registry.TLS{CA: []string{ca}}}})
	defer client.Close()
	entries, err := os.ReadDir(blobs)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(blobs, e.Name()))
		if err != nil || len(b) == 0 {
			continue
		}
		file("empty/"+e.Name(), "") // no blob, and another folder has it
		d := ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}
		if err := client.PushBlob(t.Context(), registry.Repository{Host: reg.Host, Name: "team/app"}, d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }); err != nil {
			t.Fatal(err)
		}
	}
	auth := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	inRegistry, err := json.Marshal(map[string]any{"scheme": "https", "host": reg.Host, "repo": "team/app", "auth": auth, "ca_cert_files": []string{ca}, "retry_limit": 1})
	if err != nil {
		t.Fatal(err)
	}
	unsure := strings.Replace(string(inRegistry), `"ca_cert_files":["`+ca+`"]`, `"skip_verify":true`, 1)
	for name, config := range map[string]string{
		"first, folder":    fmt.Sprintf(`{"device":{"backend":{"type":"localfs","config":{"dir":%q}},"cache":{"type":"blobcache"}},"mode":"direct"}`, blobs),
		"first, registry":  `{"device":{"backend":{"type":"registry","config":` + string(inRegistry) + `}},"mode":"direct"}`,
		"fscache":          `{"type":"bootstrap","config":{"backend_type":"registry","backend_config":` + unsure + `,"cache_type":"fscache"}}`,
		"second, registry": `{"version":2,"backend":{"type":"registry","registry":` + unsure + `}}`,
		"second, folders":  fmt.Sprintf("version = 2\n[backend]\ntype = \"localfs\"\n[backend.localfs]\ndir = %q\nalt_dirs = [%q]\n[backend.oss]\nendpoint = \"x\"\n", filepath.Join(dir, "empty"), blobs),
	} {
		t.Run(name, func(t *testing.T) {
			config := file("nydusd", config)
			if got := nydusImage(t, "", "check", "-v", boot, "--config", config); got != sure {
				t.Errorf("check: %s", got)
			}
			merged := filepath.Join(t.TempDir(), "merged")
			nydusImage(t, "", "merge", "-B", merged, "-C", config, boot)
			if got := nydusImage(t, "", "stat", "-B", merged, "-C", config); !strings.Contains(got, "Files:                  5") || got == nydusImage(t, "", "stat", "-B", merged) {
				t.Errorf("stat: %s", got)
			}
			if got := nydusImage(t, "chunk 0\n", "inspect", boot, "-C", config); got != nydusImage(t, "chunk 0\n", "inspect", boot, "-D", blobs) ||
				got == nydusImage(t, "chunk 0\n", "inspect", boot) {
				t.Errorf("inspect: %s", got)
			}
			disks := []string{filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")}
			nydusImage(t, "", "export", "--block", "-B", boot, "-D", blobs, "-O", disks[0])
			nydusImage(t, "", "export", "--block", "-B", boot, "-C", config, "-O", disks[1])
			a, err := os.ReadFile(disks[0])
			if b, err2 := os.ReadFile(disks[1]); err != nil || err2 != nil || !bytes.Equal(a, b) {
				t.Errorf("export: %v %v, or another disk", err, err2)
			}
		})
	}
	for name, args := range map[string][]string{
		"registry": {"--backend-type", "registry", "--backend-config", string(inRegistry)},
		"file":     {"--backend-type", "registry", "--backend-config-file", file("backend.json", unsure)},
		"folder":   {"--backend-type", "localfs", "--backend-config", fmt.Sprintf(`{"dir":%q}`, blobs)},
		"blob":     {"--backend-type", "localfs", "--backend-config", fmt.Sprintf(`{"blob_file":%q}`, filepath.Join(blobs, entries[0].Name()))},
	} {
		t.Run("unpack "+name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "got.tar")
			nydusImage(t, "", append([]string{"unpack", boot, "--output", to}, args...)...)
			if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, wanted) {
				t.Errorf("%v: %d bytes, not the %d of the folder", err, len(got), len(wanted))
			}
		})
	}
	code, _, errs := w.as("nydus-image", "unpack", boot, "--output", filepath.Join(dir, "none"), "--backend-type", "registry", "--backend-config",
		strings.Replace(string(inRegistry), auth, base64.StdEncoding.EncodeToString([]byte("me:wrong")), 1))
	if code != 1 || strings.Contains(errs, "secret") || strings.Contains(errs, auth) {
		t.Errorf("a wrong password: exit code %d, %s", code, errs)
	}
}
