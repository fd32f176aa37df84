// Package imagetest makes ordinary images for tests, puts them into registries, and gives them their converted forms. Only tests may import it.
package imagetest

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path"
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/registry"
)

// File is a file of a layer; with the content Whiteout the mark that deletes it.
type File struct{ Name, Content string }

// Whiteout as the content of a file deletes it.
const Whiteout = "\x00whiteout"

// Layer is a layer of files, as a tar stream.
func Layer(t testing.TB, files ...File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if f.Content == Whiteout {
			f = File{path.Join(path.Dir(f.Name), ".wh."+path.Base(f.Name)), ""}
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: 0o644, Size: int64(len(f.Content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.Content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Folder is a layer of what lies in a folder.
func Folder(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Image is an ordinary image with Docker's media types, the lowest layer first. Without a system it is for this machine.
func Image(t testing.TB, config v1.ConfigFile, layers ...[]byte) v1.Image {
	t.Helper()
	if config.OS == "" {
		config.OS = "linux"
	}
	if config.Architecture == "" {
		config.Architecture = runtime.GOARCH
	}
	im, err := mutate.ConfigFile(empty.Image, &config)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range layers {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
		if err == nil {
			im, err = mutate.AppendLayers(im, layer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return im
}

// Push puts an image into a registry.
func Push(t testing.TB, client *registry.Client, name string, im v1.Image) ocispec.Descriptor {
	t.Helper()
	ref, err := registry.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := client.PushImage(t.Context(), ref, im, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

// Convert puts the converted form of an image beside it, as its referrer.
func Convert(t testing.TB, client *registry.Client, name string, o image.Options) {
	t.Helper()
	place, err := image.OpenPlace(client, name, t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	if _, err := image.Convert(t.Context(), place, place, image.ConvertOptions{Options: o, Referrer: true, TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
}
