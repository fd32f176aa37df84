package rafs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
	"github.com/weft-dev/weft/image/tree"
)

// sourceTree fills a folder with files, links and folders that need no rights.
func sourceTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
	must(os.Mkdir(filepath.Join(dir, "many"), 0o755))
	for i := range 900 {
		must(os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("%d-%s", i, strings.Repeat("y", i%90))), []byte(strings.Repeat(fmt.Sprint(i), i)), 0o644))
	}
	for _, n := range []int{0, 1, 4096, 70000, 3 << 20, 3<<20 + 17} {
		must(os.WriteFile(filepath.Join(dir, "a", fmt.Sprint("size-", n)), bytes.Repeat([]byte(fmt.Sprintf("%09d", n)), n/9+1)[:n], 0o600))
	}
	must(os.WriteFile(filepath.Join(dir, "zeros"), make([]byte, 2<<20), 0o644))
	must(os.Symlink("size-1", filepath.Join(dir, "a/link")))
	must(os.Symlink(strings.Repeat("far/", 1000), filepath.Join(dir, "a/far")))
	must(os.Link(filepath.Join(dir, "a/size-70000"), filepath.Join(dir, "a/b/c/hard")))
	return dir
}

type image struct {
	root      *tree.Node
	table     *chunk.Table
	blobs     []rafs.Blob
	bootstrap []byte
	dir       string
}

// build makes an image of a folder.
func build(t testing.TB, source string, co chunk.Options, out rafs.Output, o rafs.Options) image {
	t.Helper()
	im := image{dir: t.TempDir()}
	co.KeepZeros = true
	out.To, out.ChunkSize, out.Batch, out.Algorithm = chunk.Folder(im.dir), co.ChunkSize, co.Batch > 0, co.Algorithm
	w, err := chunk.NewWriter(t.Context(), &out, co)
	if err != nil {
		t.Fatal(err)
	}
	if im.root, err = tree.FromDir(t.Context(), source, tree.OCI, tree.Chunks{Writer: w, Inline: -1}); err != nil {
		t.Fatal(err)
	}
	if im.table, _, err = w.Close(); err != nil {
		t.Fatal(err)
	}
	im.blobs = out.Blobs
	var b bytes.Buffer
	o.ChunkSize, o.Codec = co.ChunkSize, co.Codec
	if _, err := rafs.Write(&b, im.root, im.table, im.blobs, o); err != nil {
		t.Fatal(err)
	}
	im.bootstrap = b.Bytes()
	if err := os.WriteFile(filepath.Join(im.dir, "bootstrap"), im.bootstrap, 0o644); err != nil {
		t.Fatal(err)
	}
	return im
}

func TestRoundTrip(t *testing.T) {
	source := sourceTree(t)
	for name, c := range map[string]struct {
		chunks chunk.Options
		out    rafs.Output
	}{
		"none":         {chunk.Options{ChunkSize: 1 << 20}, rafs.Output{}},
		"lz4":          {chunk.Options{ChunkSize: 1 << 20, Codec: chunk.LZ4}, rafs.Output{}},
		"zstd":         {chunk.Options{ChunkSize: 64 << 10, Codec: chunk.Zstd, Algorithm: chunk.SHA256}, rafs.Output{}},
		"batch":        {chunk.Options{ChunkSize: 1 << 20, Codec: chunk.Zstd, Batch: 256 << 10}, rafs.Output{}},
		"toc":          {chunk.Options{ChunkSize: 4096, Codec: chunk.Zstd}, rafs.Output{TOC: true}},
		"lz4 and all":  {chunk.Options{ChunkSize: 16 << 20, Codec: chunk.LZ4, Batch: 4 << 20}, rafs.Output{TOC: true}},
		"some stripes": {chunk.Options{ChunkSize: 64 << 10, Codec: chunk.Zstd, Stripe: 1 << 20}, rafs.Output{}},
	} {
		t.Run(name, func(t *testing.T) {
			im := build(t, source, c.chunks, c.out, rafs.Options{})
			b, table, root := load(t, filepath.Join(im.dir, "bootstrap"), im.dir)
			for _, d := range tree.Compare(tree.Side{Root: im.root, Table: im.table}, tree.Side{Root: root, Table: table}, 10) {
				t.Error(d)
			}
			for p, n := range root.All() {
				if n.Type() != tree.Regular {
					continue
				}
				want, err := os.ReadFile(filepath.Join(source, p))
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, table, im.dir, n); !bytes.Equal(got, want) {
					t.Errorf("%s: %d other bytes, %d expected", p, len(got), len(want))
				}
			}
			var again bytes.Buffer
			o, err := b.Options(table)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rafs.Write(&again, root, table, b.Blobs, o); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.Bytes(), im.bootstrap) {
				t.Error("parsed and written again it is another bootstrap")
			}
		})
	}
}

func TestInline(t *testing.T) {
	source := sourceTree(t)
	for _, toc := range []bool{false, true} {
		dir := t.TempDir()
		var root *tree.Node
		out := &rafs.Output{To: chunk.Folder(dir), ChunkSize: 1 << 20, TOC: toc}
		out.Inline = func(d *chunk.Device, b rafs.Blob) ([]byte, error) {
			var p bytes.Buffer
			_, err := rafs.Write(&p, root, &chunk.Table{Algorithm: chunk.Blake3, Devices: []chunk.Device{*d}}, []rafs.Blob{b}, rafs.Options{Codec: chunk.Zstd})
			return p.Bytes(), err
		}
		w, err := chunk.NewWriter(t.Context(), out, chunk.Options{ChunkSize: 1 << 20, Codec: chunk.Zstd, KeepZeros: true})
		if err != nil {
			t.Fatal(err)
		}
		if root, err = tree.FromDir(t.Context(), source, tree.OCI, tree.Chunks{Writer: w, Inline: -1}); err != nil {
			t.Fatal(err)
		}
		table, _, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, table.Devices[0].Name()))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p, err := rafs.FindBootstrap(f, table.Devices[0].Size)
		if err != nil {
			t.Fatal(err)
		}
		b, err := rafs.Open(bytes.NewReader(p), int64(len(p)))
		if err != nil {
			t.Fatal(err)
		}
		if b.Blobs[0].ID != rafs.Itself {
			t.Errorf("the bootstrap in the blob names blob %s", b.Blobs[0].ID)
		}
		meta, err := rafs.ReadMeta(f, &b.Blobs[0])
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Table(map[int]*rafs.Meta{0: meta})
		if err != nil {
			t.Fatal(err)
		}
		tr, err := b.Tree(t.Context(), got)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Compare(tree.Side{Root: root, Table: table}, tree.Side{Root: tr, Table: got}, 10) {
			t.Error(d)
		}
	}
}
