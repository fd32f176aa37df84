package erofs_test

import (
	"bytes"
	"context"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/image/tree"
)

// small is an image with a file of each sort, in memory.
func small(t testing.TB) []byte {
	t.Helper()
	table := &chunk.Table{Algorithm: chunk.Blake3, Devices: []chunk.Device{{Size: 8192, Space: 8192, Chunks: []chunk.Chunk{
		{Digest: chunk.Digest{1}, Size: 4096, Stored: 4096, Extent: 4096}, {Digest: chunk.Digest{2}, Offset: 4096, At: 4096, Size: 100, Stored: 100, Extent: 100},
	}}}}
	root, dir := tree.NewDir(0o755), tree.NewDir(0o700)
	file := &tree.Node{Mode: tree.Regular | 0o644, Size: 4096 + 100, ChunkSize: 4096, Chunks: []chunk.Ref{{Device: 1}, {Device: 1, Index: 1}}}
	file.SetXattrs([]tree.Xattr{{Name: "user.a", Value: []byte("b")}, {Name: "security.capability", Value: []byte("c")}})
	dir.SetXattrs([]tree.Xattr{{Name: "user.a", Value: []byte("b")}})
	root.Set("dir", dir)
	dir.Set("file", file)
	root.Set("link", file)
	root.Set("inline", &tree.Node{Mode: tree.Regular | 0o600, Size: 5, Inline: []byte("12345"), Mtime: 77})
	root.Set("symlink", &tree.Node{Mode: tree.Symlink | 0o777, Target: "dir/file"})
	root.Set("null", &tree.Node{Mode: tree.Char | 0o666, Major: 1, Minor: 3})
	root.Set("fifo", &tree.Node{Mode: tree.FIFO | 0o666})
	var b bytes.Buffer
	if _, err := erofs.Write(&b, root, table, erofs.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzOpen gives damaged images to the reader: it must refuse them or read them in time, and never panic. The superblock's checksum is made
// right again, so that what lies behind it is reached.
func FuzzOpen(f *testing.F) {
	whole := small(f)
	f.Add(whole)
	f.Add(whole[:4096])
	for _, at := range []int{1024, 1060, 1104, 1152, 1220, 4096, 8192, 8200, 8260, 8300, 8400, 8600} {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0xff
		f.Add(damaged)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		if len(b) >= 4096 {
			b = bytes.Clone(b)
			b[1032] &^= 1 // the feature "checksum"
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		im, err := erofs.Open(bytes.NewReader(b), int64(len(b)), bytes.NewReader(make([]byte, 8192)))
		if err != nil {
			if im, err = erofs.Open(bytes.NewReader(b), int64(len(b))); err != nil {
				return
			}
		}
		table, err := im.Table()
		if err != nil {
			return
		}
		root, err := im.Tree(ctx, table)
		if ctx.Err() != nil {
			t.Fatal("it took too long")
		}
		if err != nil {
			return
		}
		// What was accepted can be read, and written again if its chunks are known.
		view := im.FS()
		_ = fs.WalkDir(view, ".", func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if st, err := d.Info(); err == nil && st.Size() < 1<<20 {
					_, _ = fs.ReadFile(view, p)
				}
			}
			return nil
		})
		if table != nil {
			var out bytes.Buffer
			if _, err := erofs.Write(&out, root, table, erofs.Options{}); err != nil {
				t.Logf("written again: %v", err)
			}
		}
	})
}

// TestWrongLinkCount changes how many names the root says to have.
func TestWrongLinkCount(t *testing.T) {
	b := small(t)
	b[1032] &^= 1 // no checksum
	im, err := erofs.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	root, err := im.Root()
	if err != nil {
		t.Fatal(err)
	}
	at := int(im.Super.MetaBlock)*erofs.BlockSize + 32*int(root.NID)
	if at += 6; root.Extended {
		at += 38
	}
	b[at]++
	if im, err = erofs.Open(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Fatal(err)
	}
	if err := im.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "3 names and says 4") {
		t.Errorf("got %v", err)
	}
}

// TestDamagedImagesAreRefused changes every byte of an image's metadata in turn: each change is refused or gives another tree, and the reader
// never fails in another way.
func TestDamagedImagesAreRefused(t *testing.T) {
	whole := small(t)
	refused := 0
	for at := range whole {
		b := bytes.Clone(whole)
		b[at] ^= 0x41
		im, err := erofs.Open(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			if err = im.Check(t.Context()); err == nil {
				continue
			}
		}
		refused++
	}
	if refused < 1500 {
		t.Errorf("only %d of %d damaged images were refused", refused, len(whole))
	}
	for size := range len(whole) {
		if im, err := erofs.Open(bytes.NewReader(whole[:size]), int64(size)); err == nil && size < 12288 {
			t.Errorf("an image cut to %d bytes was opened: %v", size, im.Super)
		}
	}
}
