package registry_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	theirs "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/server"
	"github.com/weft-dev/weft/store"
)

const (
	layerSize = 8 << 20 // bytes
	layers    = 4
)

// servers are what pushes and pulls are measured on: ours on the disk, and go-containerregistry's in memory.
func servers(b *testing.B) map[string]http.Handler {
	st, err := store.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	return map[string]http.Handler{
		"weft-disk":   server.New(server.Config{Storage: st.Registry()}),
		"weft-memory": server.New(server.Config{Storage: server.Memory()}),
		"ggcr-memory": theirs.New(theirs.Logger(log.New(io.Discard, "", 0))),
	}
}

// image makes an image of layers that are in memory as they are sent: neither making nor packing them is measured.
func image(b *testing.B, seed uint64) v1.Image {
	b.Helper()
	made := empty.Image
	for i := range uint64(layers) {
		var err error
		if made, err = mutate.AppendLayers(made, static.NewLayer(content(seed*layers+i, layerSize), types.OCILayer)); err != nil {
			b.Fatal(err)
		}
	}
	return made
}

func drainLayers(b *testing.B, image v1.Image) {
	ls, err := image.Layers()
	if err != nil {
		b.Fatal(err)
	}
	for _, l := range ls {
		rc, err := l.Compressed()
		if err == nil {
			_, err = io.Copy(io.Discard, rc)
			rc.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkImage(b *testing.B) {
	seed := uint64(0)
	for on, handler := range servers(b) {
		web := httptest.NewServer(handler)
		defer web.Close()
		host := strings.TrimPrefix(web.URL, "http://")
		c := registry.New(registry.Options{})
		ref := registry.Repository{Host: host, Name: "app"}.WithTag("v1")
		named, err := name.ParseReference(ref.String())
		if err != nil {
			b.Fatal(err)
		}
		push := map[string]func(v1.Image) error{
			"weft": func(i v1.Image) error {
				_, err := c.PushImage(b.Context(), ref, i, registry.PushOptions{})
				return err
			},
			"ggcr": func(i v1.Image) error { return remote.Write(named, i) },
		}
		pull := map[string]func() (v1.Image, error){
			"weft": func() (v1.Image, error) { return c.Image(b.Context(), ref, nil) },
			"ggcr": func() (v1.Image, error) { return remote.Image(named) },
		}
		for client, f := range push {
			b.Run("push/client="+client+"/server="+on, func(b *testing.B) {
				b.SetBytes(layerSize * layers)
				for b.Loop() {
					b.StopTimer()
					seed++
					fresh := image(b, seed) // what is there already would not be sent
					b.StartTimer()
					if err := f(fresh); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		if err := push["weft"](image(b, 0)); err != nil {
			b.Fatal(err)
		}
		for client, f := range pull {
			b.Run("pull/client="+client+"/server="+on, func(b *testing.B) {
				b.SetBytes(layerSize * layers)
				b.ReportAllocs()
				for b.Loop() {
					got, err := f()
					if err != nil {
						b.Fatal(err)
					}
					drainLayers(b, got)
				}
			})
		}
	}
}
