package erofs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/image/tree"
	"github.com/weft-dev/weft/test/mounts"
)

// TestMain keeps mounts away from the machine.
func TestMain(m *testing.M) { mounts.Private(m) }

// needKernel skips where the kernel cannot mount images from files.
func needKernel(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	fd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Skip("the kernel has no EROFS: ", err)
	}
	unix.Close(fd)
	var version unix.Utsname
	if err := unix.Uname(&version); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(version.Release[:]), "%d.%d", &major, &minor); err != nil || major < 6 || major == 6 && minor < 12 {
		t.Skip("mounting EROFS from files needs Linux 6.12, this is ", unix.ByteSliceToString(version.Release[:]))
	}
}

// built is an image in a folder.
type built struct {
	root  *tree.Node
	table *chunk.Table
	stats chunk.Stats
	image string
	blobs []string
}

// build makes an image of a folder.
func build(t testing.TB, source string, co chunk.Options, inline int, o erofs.Options) built {
	t.Helper()
	dir := t.TempDir()
	w, err := chunk.NewWriter(t.Context(), chunk.Folder(dir), co)
	if err != nil {
		t.Fatal(err)
	}
	root, err := tree.FromDir(t.Context(), source, tree.Keep, tree.Chunks{Writer: w, Inline: inline})
	if err != nil {
		t.Fatal(err)
	}
	b := built{root: root, image: filepath.Join(dir, "image.erofs")}
	if b.table, b.stats, err = w.Close(); err != nil {
		t.Fatal(err)
	}
	if o.Skipped == nil {
		o.Skipped = func(path, why string) { t.Errorf("%s: %s", path, why) }
	}
	var out bytes.Buffer
	n, err := erofs.Write(&out, root, b.table, o)
	if err != nil || n != int64(out.Len()) {
		t.Fatalf("%d bytes of %d: %v", n, out.Len(), err)
	}
	if err := os.WriteFile(b.image, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range b.table.Devices {
		b.blobs = append(b.blobs, filepath.Join(dir, b.table.Devices[i].Name()))
	}
	return b
}

// open opens the image with our own reader.
func (b *built) open(t testing.TB) *erofs.Image {
	t.Helper()
	var devices []io.ReaderAt
	for _, path := range b.blobs {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		devices = append(devices, f)
	}
	f, err := os.Open(b.image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := erofs.Open(f, st.Size(), devices...)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func mount(t testing.TB, image string, blobs []string) string {
	t.Helper()
	needKernel(t)
	target := t.TempDir()
	if err := erofs.Mount(image, blobs, target, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
	})
	return target
}

// scan reads a folder as a tree with the digests of its chunks.
func scan(t testing.TB, dir string, size int) tree.Side {
	t.Helper()
	w, err := chunk.NewWriter(t.Context(), chunk.Discard{}, chunk.Options{ChunkSize: size})
	if err != nil {
		t.Fatal(err)
	}
	root, err := tree.FromDir(t.Context(), dir, tree.Keep, tree.Chunks{Writer: w})
	if err != nil {
		t.Fatal(err)
	}
	table, _, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return tree.Side{Root: root, Table: table}
}

func sameTrees(t testing.TB, what string, want, got tree.Side) {
	t.Helper()
	for _, d := range tree.Compare(want, got, 20) {
		t.Errorf("%s: %s", what, d)
	}
}

// judge compares an image with its source through the kernel, through our reader, and lets fsck.erofs look at it.
func judge(t *testing.T, source string, b built) {
	t.Helper()
	im := b.open(t)
	table, err := im.Table()
	if err != nil {
		t.Fatal(err)
	}
	if table == nil {
		table = &chunk.Table{Algorithm: chunk.Blake3}
	}
	root, err := im.Tree(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	want := scan(t, source, 64<<10)
	size := 64 << 10
	for _, f := range root.All() {
		if f.ChunkSize > 0 {
			size = f.ChunkSize
		}
	}
	if size != 64<<10 {
		want = scan(t, source, size)
	}
	sameTrees(t, "reader", want, tree.Side{Root: root, Table: table})
	sameContent(t, source, im)
	sameTrees(t, "kernel", want, scan(t, mount(t, b.image, b.blobs), size))
	fsck(t, b)
}

// sameContent compares every regular file as read through fs.FS.
func sameContent(t *testing.T, source string, im *erofs.Image) {
	t.Helper()
	view := im.FS()
	err := fs.WalkDir(view, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !fs.ValidPath(p) { // fs.FS knows no names that are not UTF-8
			return err
		}
		want, err := os.ReadFile(filepath.Join(source, p))
		if err != nil {
			return err
		}
		got, err := fs.ReadFile(view, p)
		if err == nil && !bytes.Equal(want, got) {
			t.Errorf("%s: other bytes through the reader", p)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func fsck(t *testing.T, b built) {
	t.Helper()
	program, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Log("fsck.erofs is not installed (package erofs-utils): not asked")
		return
	}
	args := []string{"-d1"}
	for _, d := range b.blobs {
		args = append(args, "--device="+d)
	}
	out, err := exec.Command(program, append(args, "--extract", b.image)...).CombinedOutput()
	if err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
}

// everyKind fills a folder with files of every kind and of every awkward sort.
func everyKind(t testing.TB, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(p string) string { return filepath.Join(dir, p) }
	write := func(p, content string) { must(os.WriteFile(at(p), []byte(content), 0o644)) }
	for _, d := range []string{"etc", "usr/bin", "empty", "many", "deep/" + strings.Repeat("d/", 60), "sticky"} {
		must(os.MkdirAll(at(d), 0o755))
	}
	must(os.Chmod(at("sticky"), 0o1777|os.ModeSticky))
	write("etc/empty", "")
	write("etc/passwd", "root:x:0:0::/:/bin/sh\n")
	for _, n := range []int{511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 300000} {
		write(fmt.Sprintf("etc/size-%d", n), strings.Repeat(fmt.Sprintf("%08d", n), n/8+1)[:n])
	}
	write("etc/same-1", strings.Repeat("the same content ", 9000))
	write("etc/same-2", strings.Repeat("the same content ", 9000))
	write("etc/zeros", strings.Repeat("\x00", 200000))
	sparse, err := os.Create(at("etc/sparse"))
	must(err)
	_, err = sparse.WriteAt([]byte("far away"), 5<<20)
	must(err)
	must(sparse.Truncate(9<<20 + 123))
	must(sparse.Close())
	for i := range 3000 {
		write(fmt.Sprintf("many/%d-%s", i, strings.Repeat("x", i%200)), "")
	}
	for _, name := range []string{strings.Repeat("n", 255), "文件名-" + strings.Repeat("字", 60), "!before the dots", "with space", "new\nline", "\xff\xfe", "...", "-rf"} {
		write("usr/bin/"+name, name)
	}
	must(os.Symlink("passwd", at("etc/link")))
	must(os.Symlink("/nowhere/"+strings.Repeat("a", 200), at("etc/dangling")))
	must(os.Symlink(strings.Repeat("long/", 815), at("etc/long")))
	must(os.Link(at("etc/passwd"), at("usr/passwd-link")))
	must(os.Link(at("etc/passwd"), at("passwd-link")))
	must(os.Link(at("etc/link"), at("etc/link-link")))
	must(unix.Mknod(at("char"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(unix.Mknod(at("large-minor"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))))
	must(unix.Mknod(at("whiteout"), unix.S_IFCHR, 0))
	must(unix.Mkfifo(at("fifo"), 0o622))
	must(os.Link(at("fifo"), at("fifo-link")))
	l, err := net.Listen("unix", at("socket"))
	must(err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	must(l.Close())
	write("usr/bin/setuid", "#!")
	must(os.Chown(at("usr/bin/setuid"), 70000, 4000000000))
	must(os.Chmod(at("usr/bin/setuid"), 0o755|os.ModeSetuid|os.ModeSetgid))
	xattr := func(p, name, value string) { must(unix.Lsetxattr(at(p), name, []byte(value), 0)) }
	for i := range 20 {
		p := fmt.Sprintf("etc/xattr-%d", i)
		write(p, p)
		xattr(p, "user.shared", "many files have this")
		xattr(p, "user.own", p)
	}
	xattr("etc/xattr-1", "user.empty", "")
	xattr("etc/xattr-1", "user.large", strings.Repeat("v", 3000))
	xattr("etc/link", "trusted.on-a-link", "yes")
	xattr("empty", "trusted.overlay.opaque", "y")
	xattr("usr/bin/setuid", "security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	acl := "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
	xattr("etc/passwd", "system.posix_acl_access", acl)
	xattr("usr", "system.posix_acl_default", acl)
	times := func(p string, sec, nsec int64) {
		must(unix.UtimesNanoAt(unix.AT_FDCWD, at(p), []unix.Timespec{{Sec: sec, Nsec: nsec}, {Sec: sec, Nsec: nsec}}, unix.AT_SYMLINK_NOFOLLOW))
	}
	times("etc/passwd", 1, 999999999)
	times("etc/link", -5, 1)
	times("fifo", 1<<33, 0)
}

func TestKernelAgrees(t *testing.T) {
	needKernel(t)
	source := t.TempDir()
	everyKind(t, source)
	for name, c := range map[string]struct {
		chunks chunk.Options
		inline int
		o      erofs.Options
	}{
		"default":       {chunk.Options{}, 512, erofs.Options{}},
		"small chunks":  {chunk.Options{ChunkSize: 4096}, 0, erofs.Options{Volume: "weft", UUID: [16]byte{1, 2}}},
		"extended":      {chunk.Options{ChunkSize: 1 << 20}, 4096, erofs.Options{Extended: true}},
		"many stripes":  {chunk.Options{ChunkSize: 4096, Stripe: 8192, Algorithm: chunk.SHA256}, 0, erofs.Options{}},
		"all in inodes": {chunk.Options{}, 1 << 30, erofs.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			b := build(t, source, c.chunks, c.inline, c.o)
			if c.chunks.Algorithm == chunk.SHA256 {
				// Digests are compared with those of a scan with blake3: the kernel's view is enough here.
				sameTrees(t, "kernel", scan(t, source, c.chunks.ChunkSize), scan(t, mount(t, b.image, b.blobs), c.chunks.ChunkSize))
				sameContent(t, source, b.open(t))
				return
			}
			judge(t, source, b)
		})
	}
}

func TestSameBytesAgain(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making devices needs root")
	}
	source := t.TempDir()
	everyKind(t, source)
	var images [][]byte
	for _, jobs := range []int{1, 7} {
		b := build(t, source, chunk.Options{Jobs: jobs, Codec: chunk.Zstd, Stripe: 1 << 20, Batch: 8192}, 512, erofs.Options{})
		content, err := os.ReadFile(b.image) // its table has the digests of the blobs
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, content)
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("the same tree gave two different images")
	}
}

func TestEmptyTree(t *testing.T) {
	needKernel(t)
	source := t.TempDir()
	judge(t, source, build(t, source, chunk.Options{}, 0, erofs.Options{}))
}

func TestMountTellsWhatIsWrong(t *testing.T) {
	needKernel(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	err := erofs.Mount(filepath.Join(dir, "x"), nil, dir, 0)
	if err == nil || !strings.Contains(err.Error(), "no valid EROFS") {
		t.Errorf("got %v, expected that it is no image", err)
	}
	if err := erofs.Mount(filepath.Join(dir, "missing"), nil, dir, 0); err == nil {
		t.Error("a missing image was mounted")
	}
}

func BenchmarkMount(b *testing.B) {
	needKernel(b)
	source := b.TempDir()
	everyKind(b, source)
	image := build(b, source, chunk.Options{}, 512, erofs.Options{Skipped: func(string, string) {}})
	target := b.TempDir()
	var spent time.Duration
	for b.Loop() {
		began := time.Now()
		if err := erofs.Mount(image.image, image.blobs, target, 0); err != nil {
			b.Fatal(err)
		}
		spent += time.Since(began)
		if err := unix.Unmount(target, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "µs/mount")
}

func TestCancelled(t *testing.T) {
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "x"), make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w, err := chunk.NewWriter(ctx, chunk.Discard{}, chunk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.FromDir(ctx, source, tree.Keep, tree.Chunks{Writer: w}); err == nil {
		t.Error("a cancelled build went on")
	}
	w.Abort()
}
