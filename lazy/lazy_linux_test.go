package lazy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/imagetest"
	"github.com/weft-dev/weft/lazy/fanotify"
	"github.com/weft-dev/weft/lazy/keeper"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
	testmounts "github.com/weft-dev/weft/test/mounts"
)

// TestMain is the keeper, too: tests start this program as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "keeper" {
		err := keeper.Run(keeper.Options{Dir: os.Args[2], Deadline: 30 * time.Second, Say: func(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) }})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 3 && os.Args[1] == "touch" {
		fmt.Fprintln(os.Stderr, touch(os.Args[2]))
		os.Exit(1)
	}
	if len(os.Args) == 6 && os.Args[1] == "worker" {
		fmt.Fprintln(os.Stderr, workerMain(Mode(os.Args[2]), os.Args[3], os.Args[4], os.Args[5]))
		os.Exit(1)
	}
	if len(os.Args) == 4 && os.Args[1] == "follower" {
		fmt.Fprintln(os.Stderr, followerMain(Mode(os.Args[2]), os.Args[3]))
		return
	}
	if len(os.Args) == 5 && os.Args[1] == "reader" {
		if err := readerMain(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 3 && os.Args[1] == "bare" {
		fmt.Fprintln(os.Stderr, bareMain(os.Args[2]))
		os.Exit(1)
	}
	testmounts.Private(m)
}

// needMounts skips a test where images cannot be mounted.
func needMounts(t testing.TB) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("mounting needs root, and CI must have it")
	}
	t.Skip("mounting needs root")
}

// stateDir is a folder on a real disk, for the kernel does not watch files on tmpfs.
func stateDir(t testing.TB) string {
	t.Helper()
	var st unix.Statfs_t
	dir := t.TempDir()
	if err := unix.Statfs(dir, &st); err == nil && st.Type != unix.TMPFS_MAGIC && st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return dir
	}
	dir, err := os.MkdirTemp("/var/tmp", "weft-lazy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// content makes a folder of files: large and small ones, with what compresses and what does not.
func content(t testing.TB, seed uint64, files, size int) string {
	t.Helper()
	dir := t.TempDir()
	r := mathrand.New(mathrand.NewPCG(seed, 1))
	for i := range files {
		b := make([]byte, 1+r.IntN(size))
		if i%2 == 0 {
			_, _ = rand.Read(b)
		} else {
			for j := range b {
				b[j] = byte(j/97) + byte(r.IntN(2))
			}
		}
		sub := filepath.Join(dir, string(rune('a'+i%5)))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sub, string(rune('a'+i%26))+string(rune('a'+i/26%26))), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// push makes an ordinary image of a folder and the converted one as its referrer, as "weft image convert" does.
func push(t testing.TB, ref, dir string, o image.Options) {
	t.Helper()
	pushWith(t, nil, ref, dir, o)
}

func pushWith(t testing.TB, keychain authn.Keychain, ref, dir string, o image.Options) {
	t.Helper()
	client := registry.New(registry.Options{Keychain: keychain})
	defer client.Close()
	imagetest.Push(t, client, ref, imagetest.Image(t, v1.ConfigFile{}, imagetest.Folder(t, dir)))
	imagetest.Convert(t, client, ref, o)
}

// equal compares two trees.
func equal(t testing.TB, want, got string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(want, path)
		if err != nil {
			return err
		}
		a, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(filepath.Join(got, rel))
		if err != nil {
			return err
		}
		if string(a) != string(b) {
			return errors.New(rel + " differs")
		}
		n++
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if n == 0 {
		t.Error("there was nothing to compare")
	}
}

func openService(t testing.TB, o Options) *Service {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func prepared(t testing.TB, s *Service, name string) *Image {
	t.Helper()
	im, err := s.Prepare(t.Context(), Request{Reference: name})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func mountImage(t testing.TB, im *Image) string {
	t.Helper()
	target := t.TempDir()
	if err := im.Mount(t.Context(), target, MountOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	return target
}

func TestEager(t *testing.T) {
	needMounts(t)
	for name, o := range forms {
		t.Run(name, func(t *testing.T) {
			dir, s, im := fromRegistry(t, Eager, o)
			if st := im.Stats(); st.Fetched != 0 {
				t.Errorf("Prepare has fetched content: %+v", st)
			}
			target := mountImage(t, im)
			equal(t, dir, target)
			if st := im.Stats(); st.Complete != st.Devices || st.Present != st.Bytes {
				t.Errorf("the mounted image is not complete: %+v", st)
			}
			if err := s.Remove(t.Context(), im.ID()); err == nil {
				t.Error("a mounted image was removed")
			}
			leave(t, s, im, target)
			if list, err := s.Cached(); err != nil || len(list) != 0 {
				t.Errorf("left after removal: %v %v", list, err)
			}
		})
	}
}

// needWatch skips a test where the kernel does not ask before it reads.
func needWatch(t testing.TB) {
	t.Helper()
	needMounts(t)
	err := fanotify.Check(stateDir(t))
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testLog{t}, nil))
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	fmt.Fprintf(os.Stderr, "%s: %s", l.t.Name(), p)
	return len(p), nil
}

// forms are images that are built differently.
var forms = map[string]image.Options{
	"plain": {}, "zstd": {Codec: chunk.Zstd, Batch: 64 << 10}, "nydus": {Format: image.RAFS, Codec: chunk.LZ4},
}

// fromRegistry pushes an image of a folder and prepares it.
func fromRegistry(t *testing.T, mode Mode, o image.Options) (dir string, s *Service, im *Image) {
	t.Helper()
	r := registrytest.New(t, registrytest.Config{})
	dir = content(t, 1, 40, 300<<10)
	ref := r.Host + "/app:v1"
	push(t, ref, dir, o)
	s = openService(t, Options{Root: stateDir(t), Mode: mode, Logger: logger(t)})
	t.Cleanup(func() { s.Close() })
	return dir, s, prepared(t, s, ref)
}

// leave unmounts an image and removes it.
func leave(t *testing.T, s *Service, im *Image, target string) {
	t.Helper()
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), im.ID()); err != nil {
		t.Fatal(err)
	}
}

func TestFanotify(t *testing.T) { filledOnDemand(t, Fanotify) }

// filledOnDemand reads images of which nothing is there when they are mounted.
func filledOnDemand(t *testing.T, mode Mode) {
	needMode(t, mode)
	for name, o := range forms {
		t.Run(name, func(t *testing.T) {
			dir, s, im := fromRegistry(t, mode, o)
			target := mountImage(t, im)
			if st := im.Stats(); st.Fetched != 0 {
				t.Errorf("mounting has fetched content: %+v", st)
			}
			equal(t, dir, target)
			st := im.Stats()
			if st.Events == 0 || st.Failed != 0 || st.Fetched == 0 {
				t.Errorf("after all was read: %+v", st)
			}
			if err := im.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			if st := im.Stats(); st.Complete != st.Devices {
				t.Errorf("after all was fetched: %+v", st)
			}
			leave(t, s, im, target)
		})
	}
}

// TestLearned reads some files from one folder's service, and finds them fetched already on another that has never seen the image.
func TestLearned(t *testing.T) { inBothModes(t, testLearned) }

func testLearned(t *testing.T, mode Mode) {
	r := registrytest.New(t, registrytest.Config{})
	dir := content(t, 1, 60, 300<<10)
	ref := r.Host + "/app:v1"
	push(t, ref, dir, image.Options{Codec: chunk.Zstd})
	some := slices.Sorted(maps.Keys(filesOf(t, dir)))[20:25]
	start := func(wait bool) Stats {
		s := openService(t, Options{Root: stateDir(t), Mode: mode, Share: true, Learn: time.Hour, Logger: logger(t)})
		defer s.Close()
		im, err := s.Prepare(t.Context(), Request{Reference: ref})
		if err != nil {
			t.Fatal(err)
		}
		// What is known is asked for before the image is mounted.
		for end := time.Now().Add(time.Minute); wait && mode == Fanotify && im.Stats().Prefetch == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nothing is fetched before the mount")
			}
		}
		target := mountImage(t, im)
		for wait && im.Stats().Present < 5*4096 || wait && s.busy() {
			time.Sleep(time.Millisecond)
		}
		for _, name := range some {
			got, err := os.ReadFile(filepath.Join(target, name))
			want, _ := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		st := im.Stats()
		if err := im.Unmount(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if st := start(false); st.Learned || st.Events == 0 || st.Prefetch != 0 {
		t.Errorf("the first start: %+v", st)
	}
	r.Forget()
	st := start(true)
	whole := 0
	for _, q := range r.Requests() {
		if q.Method == "GET" && q.Range == "" && strings.Contains(q.Path, "/blobs/") {
			whole++
		}
	}
	if whole != 2 {
		t.Errorf("%d blobs were asked for as a whole; configuration and metadata were expected, what is known of the start stands in its manifest", whole)
	}
	if !st.Learned || st.Events != 0 || st.Prefetch == 0 || st.Fetched != st.Prefetch {
		t.Errorf("the second start: %+v", st)
	}
	if st.Fetched*2 > 3*st.Read {
		t.Errorf("%d bytes were fetched for %d that were read", st.Fetched, st.Read)
	}
}

// TestReadAhead holds that a request gets more than a reader asks for, unless what is read next is known and on its way.
func TestReadAhead(t *testing.T) {
	needWatch(t)
	r := registrytest.New(t, registrytest.Config{})
	dir := t.TempDir()
	b := make([]byte, 4<<20)
	_, _ = rand.Read(b)
	if err := os.WriteFile(filepath.Join(dir, "file"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	ref := r.Host + "/app:v1"
	push(t, ref, dir, image.Options{Codec: chunk.Zstd})
	for known, most := range map[int32]int64{0: 300 << 10, 1: 160 << 10} {
		s := openService(t, Options{Root: stateDir(t), Mode: Fanotify, Learn: -1})
		s.prefetching.Store(known)
		im, err := s.Prepare(t.Context(), Request{Reference: ref})
		if err != nil {
			t.Fatal(err)
		}
		target := mountImage(t, im)
		f, err := os.Open(filepath.Join(target, "file"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(make([]byte, 4096), 1<<20); err != nil {
			t.Error(err)
		}
		f.Close()
		st := im.Stats()
		if st.Fetched > most || known == 0 && st.Fetched < 160<<10 || st.Fetched < 4096 {
			t.Errorf("with %d images being fetched %d bytes came for 4096", known, st.Fetched)
		}
		if err := errors.Join(im.Unmount(t.Context(), target), s.Close()); err != nil {
			t.Error(err)
		}
	}
}
