package chunk_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-dev/weft/image/chunk"
)

// files are contents of several sizes, with repetitions and zeros.
func files(seed uint64) [][]byte {
	r := rand.New(rand.NewPCG(1, seed))
	var all [][]byte
	for range 40 {
		b := make([]byte, r.IntN(4)*r.IntN(60000))
		if r.IntN(3) > 0 {
			for i := range b {
				b[i] = byte(i / (1 + r.IntN(9)))
			}
		}
		all = append(all, b)
		if r.IntN(4) == 0 {
			all = append(all, all[r.IntN(len(all))])
		}
	}
	return all
}

func write(t testing.TB, out chunk.Output, o chunk.Options, contents [][]byte) (*chunk.Table, [][]chunk.Ref, chunk.Stats) {
	t.Helper()
	w, err := chunk.NewWriter(t.Context(), out, o)
	if err != nil {
		t.Fatal(err)
	}
	var refs [][]chunk.Ref
	for _, c := range contents {
		r, err := w.File(bytes.NewReader(c), int64(len(c)))
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, r)
	}
	table, stats, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return table, refs, stats
}

func read(t testing.TB, dir string, table *chunk.Table, refs []chunk.Ref, size int, of int) []byte {
	t.Helper()
	var all []byte
	for i, r := range refs {
		if r.Hole() {
			all = append(all, make([]byte, min(size, of-i*size))...)
			continue
		}
		c, err := table.Chunk(r)
		if err != nil {
			t.Fatal(err)
		}
		f, err := chunk.Folder(dir).Open(&table.Devices[r.Device-1])
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
		all = append(all, part...)
	}
	return all
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	contents := files(1)
	for name, o := range map[string]chunk.Options{
		"none":   {ChunkSize: 4096},
		"zstd":   {ChunkSize: 16 << 10, Codec: chunk.Zstd, Stripe: 100 << 10},
		"lz4":    {ChunkSize: 64 << 10, Codec: chunk.LZ4, Algorithm: chunk.SHA256},
		"batch":  {ChunkSize: 64 << 10, Codec: chunk.Zstd, Batch: 128 << 10, Stripe: 200 << 10},
		"zeros":  {ChunkSize: 4096, KeepZeros: true},
		"one by": {ChunkSize: 4096, Jobs: 1, Codec: chunk.Zstd},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			table, refs, stats := write(t, chunk.Folder(dir), o, contents)
			if err := table.Check(); err != nil {
				t.Fatal(err)
			}
			total := int64(0)
			for i, c := range contents {
				total += int64(len(c))
				if got := read(t, dir, table, refs[i], o.ChunkSize, len(c)); !bytes.Equal(got, c) {
					t.Errorf("file %d: %d other bytes, %d expected", i, len(got), len(c))
				}
			}
			if stats.Bytes+stats.Holes != total || stats.Decoded != stats.Bytes-stats.AgainBytes || stats.AgainChunks == 0 {
				t.Errorf("%d bytes were given, the figures say %+v", total, stats)
			}
			together := 0
			for i := range table.Devices {
				for _, c := range table.Devices[i].Chunks {
					if c.Flags&chunk.Batched != 0 {
						together++
					}
				}
			}
			if (together > 0) != (o.Batch > 0) {
				t.Errorf("%d chunks are encoded together with others", together)
			}
			if o.Stripe > 0 && len(table.Devices) < 2 {
				t.Errorf("%d devices", len(table.Devices))
			}
			// The blobs are what the table says.
			for i := range table.Devices {
				d := &table.Devices[i]
				st, err := os.Stat(filepath.Join(dir, d.Name()))
				if err != nil || st.Size() != d.Size {
					t.Errorf("blob %d: %v, %d bytes expected", i, err, d.Size)
				}
				if o.Codec == chunk.None && !d.Direct() {
					t.Errorf("blob %d cannot be mounted as it is", i)
				}
			}
			// As a dictionary nothing is written again.
			o.Known = table
			_, _, stats = write(t, chunk.Discard{}, o, contents)
			if stats.Written != 0 || stats.KnownBytes != stats.Bytes {
				t.Errorf("with itself as a dictionary: %+v", stats)
			}
		})
	}
}

func TestPreloadComesFirst(t *testing.T) {
	w, err := chunk.NewWriter(t.Context(), chunk.Discard{}, chunk.Options{ChunkSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	late := strings.Repeat("late", 1024)
	if err := w.Preload(strings.NewReader(late), 4096); err != nil {
		t.Fatal(err)
	}
	if err := w.Cut(); err != nil {
		t.Fatal(err)
	}
	early, err := w.File(strings.NewReader(strings.Repeat("soon", 1024)), 4096)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.File(strings.NewReader(late), 4096)
	if err != nil {
		t.Fatal(err)
	}
	table, stats, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if again[0].Device != 1 || early[0].Device != 2 || len(table.Devices) != 2 {
		t.Errorf("the preloaded chunk lies on device %d, the other on %d", again[0].Device, early[0].Device)
	}
	if stats.Chunks != 2 || stats.AgainChunks != 0 || stats.Written != 2 {
		t.Errorf("figures: %+v", stats)
	}
}

func TestShortFile(t *testing.T) {
	w, err := chunk.NewWriter(t.Context(), chunk.Discard{}, chunk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.File(strings.NewReader("short"), 100); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "100 bytes") {
		t.Errorf("got %v", err)
	}
}

// fullOutput fails like a full disk.
type fullOutput struct{ after int }

func (f *fullOutput) Create() (chunk.Blob, error) { return f, nil }
func (f *fullOutput) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}
func (f *fullOutput) Commit(*chunk.Device) error { return nil }
func (f *fullOutput) Abort()                     {}

func TestFullDisk(t *testing.T) {
	w, err := chunk.NewWriter(t.Context(), &fullOutput{after: 20000}, chunk.Options{ChunkSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range files(3) {
		if _, err = w.File(bytes.NewReader(c), int64(len(c))); err != nil {
			break
		}
	}
	if _, _, closeErr := w.Close(); closeErr == nil || !strings.Contains(closeErr.Error(), "no space") {
		t.Errorf("got %v and %v", err, closeErr)
	}
}

func TestTableThereAndBack(t *testing.T) {
	table, _, _ := write(t, chunk.Discard{}, chunk.Options{ChunkSize: 4096, Codec: chunk.Zstd, Stripe: 64 << 10}, files(2))
	var b bytes.Buffer
	if n, err := table.WriteTo(&b); err != nil || n != int64(b.Len()) || n != table.EncodedSize() {
		t.Fatalf("%d bytes of %d: %v", n, b.Len(), err)
	}
	whole := b.Bytes()
	got, err := chunk.ReadTable(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range table.Devices {
		if got.Devices[i].Name() != table.Devices[i].Name() || !slices.Equal(got.Devices[i].Chunks, table.Devices[i].Chunks) {
			t.Errorf("device %d is another", i)
		}
	}
	for at := 0; at < len(whole); at += 7 {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x10
		if at >= 20 && at < 24 || at >= 8+4 && at < 16 { // unused, and the digest's name, which is not hashed
			continue
		}
		if _, err := chunk.ReadTable(bytes.NewReader(damaged), int64(len(damaged))); err == nil {
			t.Errorf("a changed byte %d was not noticed", at)
		}
	}
	newer := bytes.Clone(whole)
	newer[8] = 2
	if _, err := chunk.ReadTable(bytes.NewReader(newer), int64(len(newer))); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a newer version: %v", err)
	}
}

// TestTableOfVersion1 reads a table that was written when the format was fixed.
func TestTableOfVersion1(t *testing.T) {
	b, err := os.ReadFile("testdata/table-v1.bin")
	if err != nil {
		t.Fatal(err)
	}
	table, err := chunk.ReadTable(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if _, err := table.WriteTo(&again); err != nil || !bytes.Equal(again.Bytes(), b) {
		t.Errorf("written again it is another: %v", err)
	}
}

func TestJoin(t *testing.T) {
	one, _, _ := write(t, chunk.Discard{}, chunk.Options{ChunkSize: 4096}, files(4))
	// A bootstrap of Nydus knows only some of a blob's chunks.
	part := func(odd int) *chunk.Table {
		t := &chunk.Table{Algorithm: one.Algorithm, Devices: slices.Clone(one.Devices)}
		t.Devices[0].Chunks = nil
		for i, c := range one.Devices[0].Chunks {
			if i%3 == odd || i%3 == 2 {
				t.Devices[0].Chunks = append(t.Devices[0].Chunks, c)
			}
		}
		return t
	}
	a, b := part(0), part(1)
	all, numbers, err := chunk.Join(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Devices) != 1 || !slices.Equal(all.Devices[0].Chunks, one.Devices[0].Chunks) {
		t.Fatalf("%d devices, %d chunks of %d", len(all.Devices), len(all.Devices[0].Chunks), len(one.Devices[0].Chunks))
	}
	for n, side := range []*chunk.Table{a, b} {
		for i := range side.Devices[0].Chunks {
			to, err := numbers[n].Ref(chunk.Ref{Device: 1, Index: uint32(i)})
			if err != nil {
				t.Fatal(err)
			}
			if c, err := all.Chunk(to); err != nil || c.Digest != side.Devices[0].Chunks[i].Digest {
				t.Fatalf("table %d: chunk %d became another: %v", n, i, err)
			}
		}
	}
	other := &chunk.Table{Algorithm: chunk.SHA256, Devices: one.Devices}
	if _, _, err := chunk.Join(one, other); err == nil {
		t.Error("tables with different digests were joined")
	}
}

// FuzzReadTable gives damaged tables to the reader.
func FuzzReadTable(f *testing.F) {
	b, err := os.ReadFile("testdata/table-v1.bin")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:64])
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := chunk.ReadTable(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			if err := table.Check(); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzDecode gives damaged extents to the decoders.
func FuzzDecode(f *testing.F) {
	for _, c := range []chunk.Codec{chunk.LZ4, chunk.Zstd} {
		b, err := c.Encode(bytes.Repeat([]byte("some text "), 500))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint32(c), b, 5000)
	}
	f.Fuzz(func(t *testing.T, c uint32, b []byte, size int) {
		if size < 0 || size > 1<<20 {
			return
		}
		_ = chunk.Codec(c).Decode(make([]byte, size), b)
	})
}
