package image_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
	"github.com/weft-dev/weft/test/mounts"
)

// TestMain keeps mounts away from the machine.
func TestMain(m *testing.M) { mounts.Private(m) }

// entry is a file of a random layer.
type entry struct {
	path   string
	kind   byte // of tar, or 'w' for a whiteout and 'o' for an opaque folder
	mode   int64
	uid    int
	to     string
	xattrs map[string]string
	data   []byte
	sec    int64
}

// randomLayer makes a layer. Paths are few, so that layers meet.
func randomLayer(r *rand.Rand) []entry {
	var dirs, files []string
	dirs = append(dirs, "")
	var all []entry
	used := map[string]bool{"": true}
	add := func(e entry) {
		e.uid, e.sec = r.IntN(3)*70000, 1e9+int64(r.IntN(1000))
		if e.mode == 0 {
			e.mode = int64(0o600 + r.IntN(0o100))
		}
		if r.IntN(4) == 0 && e.kind != 'w' && e.kind != 'o' && e.kind != tar.TypeLink {
			e.xattrs = map[string]string{"trusted.n": fmt.Sprint(r.IntN(3))}
		}
		all = append(all, e)
	}
	for range 5 + r.IntN(25) {
		dir := dirs[r.IntN(len(dirs))]
		p := strings.TrimPrefix(dir+"/"+string(rune('a'+r.IntN(6))), "/")
		if used[p] || strings.Count(p, "/") > 4 {
			continue
		}
		used[p] = true
		switch r.IntN(10) {
		case 0, 1, 2:
			add(entry{path: p, kind: tar.TypeDir, mode: 0o755})
			dirs = append(dirs, p)
			if r.IntN(4) == 0 {
				add(entry{path: p, kind: 'o'})
			}
		case 3:
			add(entry{path: p, kind: 'w'})
		case 4:
			add(entry{path: p, kind: tar.TypeSymlink, to: fmt.Sprint("target-", r.IntN(100)), mode: 0o777})
		case 5:
			add(entry{path: p, kind: tar.TypeFifo})
		case 6:
			if len(files) > 0 {
				add(entry{path: p, kind: tar.TypeLink, to: files[r.IntN(len(files))]})
				continue
			}
			fallthrough
		default:
			data := bytes.Repeat([]byte{byte(r.IntN(3))}, r.IntN(3)*r.IntN(100000))
			if len(data) > 0 && r.IntN(2) == 0 {
				data[r.IntN(len(data))] = byte(r.IntN(256))
			}
			add(entry{path: p, kind: tar.TypeReg, data: data})
			files = append(files, p)
		}
	}
	return all
}

// layerTar writes a layer as OCI has it.
func layerTar(t testing.TB, layer []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range layer {
		h := &tar.Header{Typeflag: e.kind, Name: e.path, Mode: e.mode, Uid: e.uid, Gid: e.uid, Linkname: e.to, Size: int64(len(e.data)), Format: tar.FormatPAX}
		h.ModTime = time.Unix(e.sec, 0)
		dir, base := filepath.Split(e.path)
		switch e.kind {
		case 'w':
			h.Typeflag, h.Name = tar.TypeReg, dir+".wh."+base
		case 'o':
			h.Typeflag, h.Name = tar.TypeReg, e.path+"/.wh..wh..opq"
		case tar.TypeDir:
			h.Name += "/"
		}
		for k, v := range e.xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layerFolder makes a layer as overlayfs has it.
func layerFolder(t testing.TB, layer []entry) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	for _, e := range layer {
		at := filepath.Join(dir, e.path)
		switch e.kind {
		case tar.TypeDir:
			must(os.Mkdir(at, 0o755))
		case 'o':
			must(unix.Lsetxattr(at, "trusted.overlay.opaque", []byte("y"), 0))
			continue
		case 'w':
			must(unix.Mknod(at, unix.S_IFCHR, 0))
			continue
		case tar.TypeSymlink:
			must(os.Symlink(e.to, at))
		case tar.TypeFifo:
			must(unix.Mkfifo(at, 0o600))
		case tar.TypeLink:
			must(os.Link(filepath.Join(dir, e.to), at))
			continue
		default:
			must(os.WriteFile(at, e.data, 0o600))
		}
		for k, v := range e.xattrs {
			must(unix.Lsetxattr(at, k, []byte(v), 0))
		}
		must(os.Lchown(at, e.uid, e.uid))
		if e.kind != tar.TypeSymlink {
			must(unix.Chmod(at, uint32(e.mode)))
		}
	}
	for _, e := range slices.Backward(layer) {
		if e.kind != 'w' && e.kind != 'o' && e.kind != tar.TypeLink {
			ts := []unix.Timespec{{Sec: e.sec}, {Sec: e.sec}}
			must(unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, e.path), ts, unix.AT_SYMLINK_NOFOLLOW))
		}
	}
	return dir
}

// needMounts skips where overlayfs or EROFS cannot be mounted.
func needMounts(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	for _, name := range []string{"erofs", "overlay"} {
		fd, err := unix.Fsopen(name, unix.FSOPEN_CLOEXEC)
		if err != nil {
			t.Skip("the kernel has no ", name, ": ", err)
		}
		unix.Close(fd)
	}
	if _, err := os.Stat("/sys/fs/erofs"); err != nil {
		t.Skip("the kernel does not show EROFS in /sys")
	}
}

// overlay mounts layers with the kernel, the lowest first, and copies what it shows. In folders that are in one layer only, overlayfs lists
// whiteouts and does not find them: they are left out.
func overlay(t testing.TB, layers []string) string {
	t.Helper()
	target := t.TempDir()
	below := slices.Clone(layers)
	slices.Reverse(below)
	if len(below) == 1 {
		below = append(below, t.TempDir()) // one layer alone cannot be mounted without an upper one
	}
	if err := unix.Mount("overlay", target, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(below, ":")); err != nil {
		t.Fatal("overlay: ", err)
	}
	seen := filepath.Join(t.TempDir(), "seen")
	out, err := exec.Command("cp", "-a", target, seen).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "No such file or directory") {
			t.Fatal("cp: ", err, ": ", line)
		}
	}
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	return seen
}

func mountImage(t testing.TB, o *image.Opened) string {
	t.Helper()
	target := t.TempDir()
	if err := o.Mount(t.Context(), t.TempDir(), target, 0, t.Logf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
	})
	return target
}

func scan(t testing.TB, source image.Source, size int) tree.Side {
	t.Helper()
	w, err := chunk.NewWriter(t.Context(), chunk.Discard{}, chunk.Options{ChunkSize: size})
	if err != nil {
		t.Fatal(err)
	}
	root, err := source.Read(t.Context(), tree.Keep, tree.Chunks{Writer: w, Inline: -1})
	if err != nil {
		t.Fatal(err)
	}
	table, _, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return tree.Side{Root: root, Table: table}
}

func tarSource(b []byte) image.Tar {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

func same(t testing.TB, what string, want, got tree.Side) {
	t.Helper()
	// The root has no entry in the layers, and overlayfs shows hard links of lower layers as they are.
	want.Root.Mtime, want.Root.MtimeNsec = got.Root.Mtime, got.Root.MtimeNsec
	for _, d := range tree.Compare(want, got, 10) {
		t.Errorf("%s: %s", what, d)
	}
}

// TestLayersLikeOverlayfs stacks random layers and compares the image, mounted by the kernel, with what the kernel's overlayfs makes of them.
func TestLayersLikeOverlayfs(t *testing.T) {
	needMounts(t)
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	for seed := range rounds {
		r := rand.New(rand.NewPCG(1, uint64(seed)))
		var sources []image.Source
		var folders []string
		for range 1 + r.IntN(5) {
			layer := randomLayer(r)
			sources = append(sources, tarSource(layerTar(t, layer)))
			folders = append(folders, layerFolder(t, layer))
		}
		if len(sources) == 1 {
			sources = append(sources, tarSource(nil))
			folders = append(folders, t.TempDir())
			if err := os.Chmod(folders[1], 0o755); err != nil {
				t.Fatal(err)
			}
		}
		o := image.Options{ChunkSize: 4096}
		switch seed % 4 {
		case 1:
			o.Codec, o.Batch = chunk.Zstd, 16<<10
		case 2:
			o.Format, o.Codec = image.RAFS, chunk.LZ4
		case 3:
			o.Format = image.RAFS
		}
		dir := t.TempDir()
		if _, err := image.Build(t.Context(), dir, o, sources...); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		im, err := image.OpenPath(dir, nil)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		want := scan(t, image.Folder(overlay(t, folders)), 4096)
		same(t, fmt.Sprintf("seed %d, mounted", seed), want, scan(t, image.Folder(mountImage(t, im)), 4096))
		report, err := im.CheckBlobs(t.Context())
		if err != nil || !report.OK() {
			t.Errorf("seed %d: %v %v", seed, err, report)
		}
		// Each layer for itself, then merged: the same image.
		var layers []*image.Opened
		for i, s := range sources {
			part := filepath.Join(dir, fmt.Sprint("layer-", i))
			if _, err := image.Build(t.Context(), part, o, s); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			l, err := image.OpenPath(part, nil)
			if err != nil {
				t.Fatalf("seed %d, layer %d: %v", seed, i, err)
			}
			layers = append(layers, l)
		}
		merged, err := image.Merge(false, layers...)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		same(t, fmt.Sprintf("seed %d, merged", seed), want, tree.Side{Root: merged.Root, Table: merged.Table})
		// And back to tar.
		var out bytes.Buffer
		if err := im.Unpack(t.Context(), &out, nil); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		same(t, fmt.Sprintf("seed %d, unpacked", seed), want, scan(t, tarSource(out.Bytes()), 4096))
		if t.Failed() {
			t.Fatalf("seed %d failed", seed)
		}
	}
}
