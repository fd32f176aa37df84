package lifecycle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-dev/weft/buildpack/layer"
)

// tree makes a layers folder with one layer of about size bytes that compress to about 40 %.
func tree(b *testing.B, size, files int) (Folders, *Exporter) {
	b.Helper()
	dir := b.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range files {
		at := filepath.Join(dir, "layers", "bp", "big", fmt.Sprintf("d%d", i%100))
		var text bytes.Buffer
		for text.Len() < size/files {
			fmt.Fprintf(&text, "%x ", r.Uint64()>>uint(8*r.IntN(6)))
		}
		if err := errors.Join(os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(at, fmt.Sprint("f", i)), text.Bytes(), 0o644)); err != nil {
			b.Fatal(err)
		}
	}
	f := Folders{Layers: Same(filepath.Join(dir, "layers"))}
	return f, &Exporter{Folders: f, Logger: Silent{}}
}

func content(b *testing.B, e *Exporter) layer.Content {
	b.Helper()
	root, err := os.OpenRoot(e.Folders.Layers.Host)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { root.Close() })
	return e.layersFolder(root, "bp/big")
}

// BenchmarkStream makes, measures and compresses a layer.
func BenchmarkStream(b *testing.B) {
	_, e := tree(b, 172<<20, 8350)
	c := content(b, e)
	for _, compression := range []layer.Compression{layer.Gzip, layer.Zstd} {
		b.Run(string(compression), func(b *testing.B) {
			b.SetBytes(172 << 20)
			for b.Loop() {
				if _, err := layer.Stream(io.Discard, compression, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDiffID measures a layer without compressing it.
func BenchmarkDiffID(b *testing.B) {
	_, e := tree(b, 172<<20, 8350)
	c := content(b, e)
	b.SetBytes(172 << 20)
	for b.Loop() {
		if _, err := layer.DiffID(c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCacheAdd writes a layer into a volume cache.
func BenchmarkCacheAdd(b *testing.B) {
	_, e := tree(b, 172<<20, 8350)
	c := content(b, e)
	b.SetBytes(172 << 20)
	for b.Loop() {
		v, err := NewVolumeCache(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Add(b.Context(), Addition{Dir: "bp/big", Content: c}); err != nil {
			b.Fatal(err)
		}
	}
}
