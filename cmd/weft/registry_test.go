package main

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/server"
	"github.com/weft-dev/weft/store"
)

func TestRegistryIsListedAndCollected(t *testing.T) {
	w := newWorld(t)
	w.expect(1, "", "`weft up`", "registry", "ls")
	if err := os.MkdirAll(filepath.Join(w.state, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(w.state, "data", "store"))
	if err != nil {
		t.Fatal(err)
	}
	w.expect(0, "empty", "", "registry", "ls")
	web := httptest.NewServer(server.New(server.Config{Storage: s.Registry()}))
	defer web.Close()
	c := registry.New(registry.Options{})
	ref := registry.Repository{Host: strings.TrimPrefix(web.URL, "http://"), Name: "team/app"}.WithTag("v1")
	for range 2 { // the second takes the tag away from the first
		image, err := random.Image(2000, 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.PushImage(t.Context(), ref, image, registry.PushOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_, out, _ := w.weft("registry", "ls", "-o", "json")
	var list []server.Repository
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0].Name != "team/app" || list[0].Manifests != 2 || list[0].Untagged != 1 || len(list[0].Tags) != 1 ||
		list[0].Blobs != 6 || list[0].Bytes < 8000 {
		t.Errorf("%s, %v", out, err)
	}
	w.expect(0, "team/app", "", "registry", "ls")
	w.expect(0, "sha256:", "", "registry", "ls", "team/app")
	w.expect(1, "", `no repository "other"`, "registry", "ls", "other")
	w.expect(2, "", "negative", "registry", "gc", "--grace", "-1s")
	w.expect(0, "Removed 0 manifests and 0 blobs: 0 B.", "", "registry", "gc")
	w.expect(0, "Would remove 1 manifests and 4 blobs", "", "registry", "gc", "--grace", "0s", "--dry-run")
	w.expect(0, "Removed 1 manifests and 4 blobs", "", "registry", "gc", "--grace", "0s")
	w.expect(0, "Removed 0 manifests and 0 blobs", "", "registry", "gc", "--grace", "0s")
	if err := os.MkdirAll(filepath.Join(w.state, "data", "etcd"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.expect(1, "", "the cluster is stopped, so nobody can say which images its pods need", "registry", "gc")
	w.expect(0, "Removed 0 manifests and 0 blobs", "", "registry", "gc", "--ignore-cluster")
	if _, err := c.Image(t.Context(), ref, nil); err != nil {
		t.Errorf("the tagged image: %v", err)
	}
}
