package image_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
)

// nydusImage is upstream's nydus-image, which somebody built.
func nydusImage(t testing.TB) func(stdin string, args ...string) string {
	t.Helper()
	program := os.Getenv("UPSTREAM_NYDUS_IMAGE")
	if program == "" {
		t.Skip("UPSTREAM_NYDUS_IMAGE does not name upstream's nydus-image")
	}
	return func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("nydus-image %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
}

// plainTree is a folder with what Nydus keeps: it gives every name of a hard link to anything but a regular file an inode of its own.
func plainTree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	for i := range 700 {
		must(os.MkdirAll(filepath.Join(dir, fmt.Sprint("many/", i%7)), 0o755))
		must(os.WriteFile(filepath.Join(dir, fmt.Sprintf("many/%d/%d-%s", i%7, i, strings.Repeat("z", i%120))), []byte(strings.Repeat(fmt.Sprint(i, " "), i*3)), 0o640))
	}
	must(os.WriteFile(filepath.Join(dir, "a/large"), bytes.Repeat([]byte("large content, "), 300000), 0o755))
	must(os.WriteFile(filepath.Join(dir, "a/zeros"), make([]byte, 3<<20), 0o600))
	must(os.WriteFile(filepath.Join(dir, "a/empty"), nil, 0o600))
	must(os.Link(filepath.Join(dir, "a/large"), filepath.Join(dir, "a/b/hard")))
	must(os.Symlink("large", filepath.Join(dir, "a/link")))
	must(os.Symlink(strings.Repeat("x/", 2000), filepath.Join(dir, "a/far")))
	return dir
}

// TestUpstreamReadsOurs lets upstream's tool check and unpack what is written here.
func TestUpstreamReadsOurs(t *testing.T) {
	run := nydusImage(t)
	source := plainTree(t)
	for name, o := range map[string]image.Options{
		"none":       {},
		"lz4":        {Codec: chunk.LZ4},
		"zstd":       {Codec: chunk.Zstd, ChunkSize: 64 << 10},
		"batch":      {Codec: chunk.Zstd, Batch: 256 << 10},
		"sha256 toc": {Codec: chunk.Zstd, Algorithm: chunk.SHA256, TOC: true},
		"stripes":    {Codec: chunk.LZ4, ChunkSize: 4096, Stripe: 1 << 20},
		"prefetch":   {Codec: chunk.Zstd, Prefetch: []string{"/a/large", "/many/3"}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Format = image.RAFS
			dir := t.TempDir()
			built, err := image.Build(t.Context(), dir, o, image.Folder(source))
			if err != nil {
				t.Fatal(err)
			}
			if out := run("", "check", "-D", dir, built.Metadata); !strings.Contains(out, "metadata is valid") {
				t.Error(out)
			}
			if o.Batch > 0 {
				return // upstream's unpack reads no batches, its own neither
			}
			out := filepath.Join(dir, "out.tar")
			run("", "unpack", "--blob-dir", dir, "--output", out, built.Metadata)
			want, got := scan(t, image.Folder(source), 4096), scan(t, image.TarFile(out), 4096)
			for _, n := range want.Root.All() { // upstream's tar has whole seconds
				n.MtimeNsec = 0
			}
			same(t, "unpacked by upstream", want, got)
		})
	}
}

// TestWeReadUpstreams reads what upstream's tool writes, with many of its options, and writes the bootstrap again.
func TestWeReadUpstreams(t *testing.T) {
	run := nydusImage(t)
	source := plainTree(t)
	for _, options := range []string{
		"--compressor none", "--compressor lz4_block", "--compressor zstd", "--compressor zstd --chunk-size 0x1000", "--compressor lz4_block --chunk-size 0x10000 --batch-size 0x4000",
		"--compressor zstd --batch-size 0x40000", "--compressor zstd --digester sha256", "--compressor zstd --features blob-toc", "--compressor lz4_block --blob-inline-meta",
		"--compressor zstd --blob-inline-meta --features blob-toc", "--repeatable", "--prefetch-policy fs", "--prefetch-policy blob",
	} {
		t.Run(options, func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{"create", "--log-level", "error", "--type", "dir-rafs"}, strings.Fields(options)...)
			name := filepath.Join(dir, "boot")
			inline := strings.Contains(options, "inline")
			if inline {
				name = filepath.Join(dir, "blob")
				args = append(args, "--blob", name)
			} else {
				args = append(args, "-B", name, "-D", dir)
			}
			run("/a/large\n/many/3\n", append(args, source)...)
			o, err := image.OpenPath(name, nil)
			if err != nil {
				t.Fatal(err)
			}
			r, err := o.CheckBlobs(t.Context())
			if err != nil || !r.OK() {
				t.Errorf("%v %+v", err, r)
			}
			var out bytes.Buffer
			if err := o.Unpack(t.Context(), &out, nil); err != nil {
				t.Fatal(err)
			}
			want, got := scan(t, image.Folder(source), 4096), scan(t, tarSource(out.Bytes()), 4096)
			for _, n := range want.Root.All() { // compact inodes have no time
				n.Mtime, n.MtimeNsec = 0, 0
				if strings.Contains(options, "repeatable") {
					n.UID, n.GID = 0, 0
				}
			}
			for _, n := range got.Root.All() {
				n.Mtime, n.MtimeNsec = 0, 0
			}
			same(t, "unpacked here", want, got)
			again(t, o)
		})
	}
}

// again writes an opened bootstrap again: it must be the same, byte for byte.
func again(t *testing.T, o *image.Opened) {
	t.Helper()
	var b bytes.Buffer
	options, err := o.Bootstrap.Options(o.Table)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rafs.Write(&b, o.Root, o.Table, o.Blobs, options); err != nil {
		t.Fatal(err)
	}
	got := b.Bytes()
	if len(got) != len(o.Metadata) {
		t.Errorf("written again it has %d bytes instead of %d", len(got), len(o.Metadata))
	}
	differ := 0
	for i := range min(len(got), len(o.Metadata)) {
		if got[i] != o.Metadata[i] {
			if differ++; differ <= 8 {
				t.Errorf("byte %#x is %02x instead of %02x", i, got[i], o.Metadata[i])
			}
		}
	}
	if differ > 8 {
		t.Errorf("%d bytes differ", differ)
	}
}
