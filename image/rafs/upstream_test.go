package rafs_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
	"github.com/weft-dev/weft/image/tree"
)

// upstream is a checkout of dragonflyoss/nydus.
func upstream(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("UPSTREAM_NYDUS")
	if dir == "" {
		t.Skip("UPSTREAM_NYDUS does not name a checkout of dragonflyoss/nydus")
	}
	return filepath.Join(dir, "tests/texture")
}

// load reads a bootstrap with the tables of its blobs from a folder.
func load(t testing.TB, path, blobs string) (*rafs.Bootstrap, *chunk.Table, *tree.Node) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b, err := rafs.Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	metas := map[int]*rafs.Meta{}
	for i := range b.Blobs {
		blob, err := os.Open(filepath.Join(blobs, b.Blobs[i].ID))
		if err != nil {
			t.Fatal(err)
		}
		defer blob.Close()
		if metas[i], err = rafs.ReadMeta(blob, &b.Blobs[i]); err != nil {
			t.Fatal(err)
		}
	}
	table, err := b.Table(metas)
	if err != nil {
		t.Fatal(err)
	}
	root, err := b.Tree(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	return b, table, root
}

// read reads a file's content from the blobs.
func read(t testing.TB, table *chunk.Table, blobs string, n *tree.Node) []byte {
	t.Helper()
	var content []byte
	for _, r := range n.Chunks {
		c, err := table.Chunk(r)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(blobs, table.Devices[r.Device-1].Name()))
		if err != nil {
			t.Fatal(err)
		}
		stored := make([]byte, c.Stored)
		_, err = f.ReadAt(stored, c.At)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		part, err := table.Decode(r, stored)
		if err != nil {
			t.Fatal(err)
		}
		content = append(content, part...)
	}
	return content
}

func TestUpstreamBootstrap(t *testing.T) {
	dir := upstream(t)
	_, table, root := load(t, filepath.Join(dir, "bootstrap/rafs-v6-2.2.boot"), filepath.Join(dir, "blobs"))
	want := map[string]string{"lib.rs": "16931 4709cf8873e419ecedc7d43fdee4a75f", "sync_io.rs": "13400 5442bc7dc9dc5f985c7594e23866ae6f"}
	for p, n := range root.All() {
		if n.IsDir() {
			continue
		}
		sum := md5.Sum(read(t, table, filepath.Join(dir, "blobs"), n))
		if got := fmt.Sprint(n.Size, " ", hex.EncodeToString(sum[:])); got != want[p] {
			t.Errorf("%s: %s, want %s", p, got, want[p])
		}
		delete(want, p)
	}
	for p := range want {
		t.Errorf("%s is missing", p)
	}
}

// TestUpstreamBootstrapAgain parses a bootstrap and writes it again. What differs is listed with its reason.
func TestUpstreamBootstrapAgain(t *testing.T) {
	dir := upstream(t)
	path := filepath.Join(dir, "bootstrap/rafs-v6-2.2.boot")
	b, table, root := load(t, path, filepath.Join(dir, "blobs"))
	var out bytes.Buffer
	o, err := b.Options(table)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rafs.Write(&out, root, table, b.Blobs, o); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := out.Bytes()
	// What Nydus 2.2 wrote otherwise than its builder of today, whose layout is ours.
	reasons := map[int]string{
		0x483:  "the flag \"not encrypted\" is set since there is encryption",
		0x5c4:  "devices begin on multiples of 512 KiB in the flat address space, then of 2 MiB",
		0x5c5:  "the same",
		0x3014: "the root's i_ino, which nobody reads, is 1 and was 0",
	}
	if len(got) != len(want) {
		t.Fatalf("%d bytes instead of %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] && reasons[i] == "" {
			t.Errorf("byte %#x is %02x instead of %02x", i, got[i], want[i])
		}
	}
}
