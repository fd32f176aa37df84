package store_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/weft-dev/weft/registry/server"
	"github.com/weft-dev/weft/store"
)

// An independent client pushes to the registry, pulls what it pushed, and pulls it again after the server was started
// anew on the same folder.
func TestRegistryServesOtherClients(t *testing.T) {
	dir := t.TempDir()
	serve := func() (*server.Server, string, func()) {
		st, err := store.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		reg := server.New(server.Config{Storage: st.Registry()})
		web := httptest.NewServer(reg)
		return reg, strings.TrimPrefix(web.URL, "http://"), web.Close
	}
	_, host, stop := serve()
	index, err := random.Index(10_000, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	push := func(host, ref string, index v1.ImageIndex) {
		t.Helper()
		r, err := name.ParseReference(host + "/" + ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(r, index); err != nil {
			t.Fatal(err)
		}
	}
	push(host, "team/app:v1", index)
	stop()

	reg, host, stop := serve()
	defer stop()
	r, err := name.ParseReference(host + "/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Index(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil {
		t.Fatal(err)
	}
	tags, err := remote.List(r.Context())
	if err != nil || len(tags) != 1 || tags[0] != "v1" {
		t.Fatalf("tags are %v, %v", tags, err)
	}

	// A tag that moves on leaves content behind that a collection removes, and only that.
	newer, err := random.Index(10_000, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	push(host, "team/app:v1", newer)
	report, err := reg.Collect(t.Context(), server.Policy{Grace: time.Hour})
	if err != nil || len(report.Manifests) != 0 || report.Blobs != 0 {
		t.Fatalf("within the grace period the collection removed %+v, %v", report, err)
	}
	report, err = reg.Collect(t.Context(), server.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	// One index, two images, of each image three layers and a config: manifests are blobs too.
	if len(report.Manifests) != 3 || report.Links != 8 || report.Blobs != 11 {
		t.Fatalf("the collection removed %+v", report)
	}
	got, err = remote.Index(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil {
		t.Fatal(err)
	}
}
