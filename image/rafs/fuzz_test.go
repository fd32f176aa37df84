package rafs_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
)

// seeds are a bootstrap and a blob with everything in it.
func seeds(t testing.TB) (bootstrap, blob []byte, entry rafs.Blob) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{"a": bytes.Repeat([]byte("text "), 2000), "b": []byte("small"), "c": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	im := build(t, dir, chunk.Options{ChunkSize: 4096, Codec: chunk.Zstd, Batch: 4096}, rafs.Output{TOC: true}, rafs.Options{Prefetch: []string{"/a"}})
	blob, err := os.ReadFile(filepath.Join(im.dir, im.blobs[0].ID))
	if err != nil {
		t.Fatal(err)
	}
	return im.bootstrap, blob, im.blobs[0]
}

// FuzzOpen gives damaged bootstraps to the reader: it must refuse them or read them in time, and never panic.
func FuzzOpen(f *testing.F) {
	whole, _, _ := seeds(f)
	f.Add(whole)
	f.Add(whole[:8192])
	for at := 1024; at < len(whole); at += 531 {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0xff
		f.Add(damaged)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > 1<<20 {
			return
		}
		b, err := rafs.Open(bytes.NewReader(p), int64(len(p)))
		if err != nil {
			return
		}
		table, err := b.Table(nil)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		root, err := b.Tree(ctx, table)
		if ctx.Err() != nil {
			t.Fatal("it took too long")
		}
		if err != nil {
			return
		}
		var out bytes.Buffer
		o, err := b.Options(table)
		if err != nil {
			return
		}
		if _, err := rafs.Write(&out, root, table, b.Blobs, o); err != nil {
			t.Logf("written again: %v", err)
		}
	})
}

// FuzzBlob gives damaged blobs to the readers of their tables.
func FuzzBlob(f *testing.F) {
	_, blob, _ := seeds(f)
	_, _, entry := seeds(f)
	f.Add(blob, entry.MetaOffset, entry.MetaStored, entry.MetaSize, entry.ChunkCount, uint32(entry.MetaCodec))
	f.Fuzz(func(t *testing.T, p []byte, at, stored, size uint64, count, codec uint32) {
		if size > 1<<20 || stored > 1<<20 || at > 1<<40 {
			return
		}
		b := entry
		b.MetaOffset, b.MetaStored, b.MetaSize, b.ChunkCount, b.MetaCodec = at, stored, size, count, chunk.Codec(codec)
		_, _ = rafs.ReadMeta(bytes.NewReader(p), &b)
		_, _ = rafs.FindBootstrap(bytes.NewReader(p), int64(len(p)))
		if parts, _, err := rafs.Contents(bytes.NewReader(p), int64(len(p))); err == nil {
			for i := range parts {
				if parts[i].Size < 1<<20 {
					_, _ = parts[i].Read(bytes.NewReader(p))
				}
			}
		}
	})
}
