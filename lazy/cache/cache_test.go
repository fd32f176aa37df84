package cache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/image/chunk"
)

// table makes a device of chunks of 8 KiB with a gap of one block before each.
func table(chunks int) (*chunk.Table, [][]byte) {
	t := &chunk.Table{Algorithm: chunk.Blake3, Devices: make([]chunk.Device, 1)}
	d := &t.Devices[0]
	var contents [][]byte
	for i := range chunks {
		b := bytes.Repeat([]byte{byte(i + 1)}, 8192)
		contents = append(contents, b)
		d.Chunks = append(d.Chunks, chunk.Chunk{Digest: t.Algorithm.Sum(b), Offset: int64(i)*12288 + 4096, At: int64(i) * 8192, Size: 8192, Stored: 8192, Extent: 8192})
	}
	d.Size, d.Space = int64(chunks)*8192, int64(chunks)*12288
	return t, contents
}

func own(blocks int64) (present, read Bits, err error) { return NewBits(blocks), NewBits(blocks), nil }

func load(t *testing.T, c *Cache, k Key) *Device {
	t.Helper()
	d, err := c.Load(k, own, nil, func(err error) { t.Log(err) })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDevice(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	tab, contents := table(100)
	k, err := c.Add(tab)
	if err != nil {
		t.Fatal(err)
	}
	d := load(t, c, k)
	if !d.Has(0, 4096) || d.Has(0, 4097) || d.Has(4096, 1) {
		t.Error("gaps count as present, chunks do not")
	}
	chunks := d.Device().Chunks
	if err := d.Put(&chunks[3], contents[4]); !errors.Is(err, chunk.ErrDigest) || d.Has(chunks[3].Offset, 1) {
		t.Errorf("wrong content was taken: %v", err)
	}
	for i := range 50 {
		if err := d.Put(&chunks[i], contents[i]); err != nil {
			t.Fatal(err)
		}
	}
	if d.Complete() || d.Saved() || c.Complete(k) {
		t.Error("half a device is complete")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = load(t, c, k)
	if !d.Has(0, chunks[49].End()) || d.Has(chunks[50].Offset, 1) {
		t.Error("what was present is not known any more")
	}
	for i := range chunks {
		if err := d.Put(&chunks[i], contents[i]); err != nil {
			t.Fatal(err)
		}
	}
	if !d.Complete() || d.Saved() {
		t.Error("it is complete, and the disk does not know yet")
	}
	if err := d.Save(); err != nil || !d.Saved() || !c.Complete(k) {
		t.Errorf("the disk does not know: %v", err)
	}
	if list, err := c.List(nil); err != nil || len(list) != 1 || !list[0].Complete || list[0].Present != tab.Devices[0].Space {
		t.Errorf("listed as %+v %v", list, err)
	}
}

// TestDamagedMap damages every byte of a map, and cuts it: the device then begins empty, and never counts as more than it is.
func TestDamagedMap(t *testing.T) {
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tab, contents := table(20)
	k, err := c.Add(tab)
	if err != nil {
		t.Fatal(err)
	}
	d := load(t, c, k)
	if err := errors.Join(d.Put(&d.Device().Chunks[0], contents[0]), d.Close()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(c.file(k, "map"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if i >= 12 && i < 16 || i >= 24 && i < 32 { // says nothing that counts, or is not used
			continue
		}
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if err := os.WriteFile(c.file(k, "map"), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		told := error(nil)
		d, err := c.Load(k, own, nil, func(err error) { told = err })
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(told, ErrMap) || d.Has(d.Device().Chunks[0].Offset, 1) {
			t.Errorf("byte %d: %v", i, told)
		}
		d.File.Close()
	}
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{
		`{"format":"weft-lazy","version":2}`: "version 2", `{"format":"other","version":1}`: "something else", `nonsense`: "something else",
	} {
		if err := os.WriteFile(filepath.Join(dir, "format.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", content, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "format.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a folder with a letter: %v", err)
	}
}

// TestKeys holds that an image that lies about a blob gets another device.
func TestKeys(t *testing.T) {
	a, _ := table(3)
	b, _ := table(3)
	b.Devices[0].Chunks[1].Digest[0] ^= 1
	x, err1 := KeyOf(a)
	y, err2 := KeyOf(b)
	if err := errors.Join(err1, err2); err != nil || x == y {
		t.Errorf("%v and %v: %v", x, y, err)
	}
}

func TestBits(t *testing.T) {
	b := NewBits(200)
	if n := b.Set(10, 150); n != 140 {
		t.Errorf("%d blocks are new", n)
	}
	if n := b.Set(0, 20); n != 10 {
		t.Errorf("%d blocks are new", n)
	}
	if !b.All(0, 150) || b.All(0, 151) || b.All(149, 151) || !b.All(70, 70) || b.Count() != 150 {
		t.Error("the wrong blocks are set")
	}
	b.Set(160, 161)
	var runs [][2]int64
	b.Runs(200, func(first, end int64) { runs = append(runs, [2]int64{first, end}) })
	if len(runs) != 2 || runs[0] != [2]int64{0, 150} || runs[1] != [2]int64{160, 161} {
		t.Errorf("runs are %v", runs)
	}
}

func FuzzDecodeMap(f *testing.F) {
	b := NewBits(100)
	b.Set(3, 70)
	f.Add(encodeMap(b, 100), int64(100))
	f.Add([]byte(mapMagic), int64(0))
	f.Fuzz(func(t *testing.T, p []byte, blocks int64) {
		if blocks < 0 || blocks > 1<<20 {
			return
		}
		b, err := decodeMap(p, blocks)
		if err == nil && b.Count() > BitsSize(blocks)*8 {
			t.Error("more blocks than there are")
		}
	})
}
