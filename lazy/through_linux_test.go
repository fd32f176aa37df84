package lazy

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy/fuse"
	"github.com/weft-dev/weft/registry/registrytest"
)

// needMode skips a test where a mode does not work.
func needMode(t testing.TB, mode Mode) {
	t.Helper()
	if mode == Fanotify {
		needWatch(t)
		return
	}
	needMounts(t)
	err := fuse.Check()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// inBothModes runs a test with both ways of making readers wait.
func inBothModes(t *testing.T, test func(*testing.T, Mode)) {
	t.Helper()
	for _, mode := range []Mode{Fanotify, FUSE} {
		t.Run(string(mode), func(t *testing.T) {
			needMode(t, mode)
			test(t, mode)
		})
	}
}

func TestFUSE(t *testing.T) { filledOnDemand(t, FUSE) }

// bigImage is an image of a folder with a large file, a small one, and a program.
func bigImage(t *testing.T) (name string, want map[string][]byte) {
	t.Helper()
	dir, to := t.TempDir(), filepath.Join(stateDir(t), "image")
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 3<<20+777)
	for i := range big {
		big[i] = byte(i ^ i>>9)
	}
	want = map[string][]byte{"big": big, "small": big[:100], "true": b}
	for name, b := range want {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := image.Build(t.Context(), to, image.Options{ChunkSize: 64 << 10}, image.Folder(dir)); err != nil {
		t.Fatal(err)
	}
	return to, want
}

// TestBehind opens files when they are complete: the kernel reads them itself, also when nobody serves them any more.
func TestBehind(t *testing.T) {
	needMode(t, FUSE)
	name, want := bigImage(t)
	root := stateDir(t)
	s := openService(t, Options{Root: root, Mode: FUSE, Learn: -1, Logger: logger(t)})
	im := prepared(t, s, name)
	target := mountImage(t, im)
	// Who has it open before it is complete goes on through the server, and so does who opens it meanwhile.
	early := open(t, target, "true")
	if err := im.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := open(t, target, "true")
	readFrom(t, late, want["true"])
	if st := im.Stats(); st.Through != 0 || st.Asked == 0 {
		t.Errorf("a file that was open before it was complete: %+v", st)
	}
	before := im.Stats().Asked
	big := open(t, target, "big")
	first := make([]byte, 1000)
	if _, err := big.ReadAt(first, 1<<20); err != nil || !bytes.Equal(first, want["big"][1<<20:][:1000]) {
		t.Error("other content", err)
	}
	if st := im.Stats(); st.Asked != before || st.Through != 1 {
		t.Errorf("a read of a complete file came to the server: %d before, %+v", before, st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	readFrom(t, big, want["big"]) // nobody is there
	// The next process goes on with how files are open.
	s = openService(t, Options{Root: root, Mode: FUSE, Learn: -1, Logger: logger(t)})
	defer s.Close()
	if err := s.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	im = s.Images()[0]
	again := []*os.File{open(t, target, "true"), open(t, target, "big")}
	readFrom(t, again[0], want["true"])
	readFrom(t, again[1], want["big"])
	if st := im.Stats(); st.Through != 1 {
		t.Errorf("one of two files is read by the kernel itself: %+v", st)
	}
	for _, f := range append(again, early, late, big) {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	for im.Stats().Through != 2 { // until the kernel has told that it is closed
		f := open(t, target, "true")
		readFrom(t, f, want["true"])
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
}

func open(t *testing.T, target, name string) *os.File {
	t.Helper()
	f, err := os.Open(filepath.Join(target, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func readFrom(t *testing.T, f *os.File, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has other content: %v", f.Name(), err)
	}
}

// TestOverlayOnFUSE runs a program from an overlay over a mount of which nothing is there, as containers do.
func TestOverlayOnFUSE(t *testing.T) {
	needMode(t, FUSE)
	name, want := bigImage(t)
	s := openService(t, Options{Root: stateDir(t), Mode: FUSE, Learn: -1, Logger: logger(t)})
	defer s.Close()
	im := prepared(t, s, name)
	target, over, upper := mountImage(t, im), t.TempDir(), stateDir(t)
	if err := errors.Join(os.Mkdir(upper+"/u", 0o755), os.Mkdir(upper+"/w", 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("overlay", over, "overlay", 0, "lowerdir="+target+",upperdir="+upper+"/u,workdir="+upper+"/w"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(over, unix.MNT_DETACH) }()
	for _, dir := range []string{over, target} {
		if out, err := exec.Command(filepath.Join(dir, "true")).CombinedOutput(); err != nil {
			t.Errorf("a program from %s: %v %s", dir, err, out)
		}
	}
	f, err := os.OpenFile(filepath.Join(over, "big"), os.O_RDWR, 0) // copied up
	if err != nil {
		t.Fatal(err)
	}
	readFrom(t, f, want["big"])
	f.Close()
	if err := im.Unmount(t.Context(), target); err != nil { // the overlay has a mount of its own
		t.Error(err)
	}
	if out, err := exec.Command("cmp", filepath.Join(over, "small"), filepath.Join(over, "small")).CombinedOutput(); err != nil {
		t.Errorf("reading when the folder is unmounted: %v %s", err, out)
	}
	if err := unix.Unmount(over, 0); err != nil {
		t.Error(err)
	}
}

// TestCutOff kills everybody who holds a connection: reads fail and see nothing wrong, and the next start mounts again.
func TestCutOff(t *testing.T) {
	needMode(t, FUSE)
	name, want := bigImage(t)
	root, target := stateDir(t), t.TempDir()
	worker := startWorker(t, FUSE, root, name, target)
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	k, h := processes(t, root)
	kill(t, worker)
	if err := errors.Join(unix.Kill(k, unix.SIGKILL), unix.Kill(h, unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(target, "big")); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("a read when everybody was killed: %v", err)
	}
	s := openService(t, Options{Root: root, Mode: FUSE, Learn: -1, Logger: logger(t)})
	defer s.Close()
	if err := s.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	im := s.Images()[0]
	if un := im.Stats().Unguarded; !slices.Equal(un, []string{target}) {
		t.Errorf("mounts that were cut off are %v, expected %s", un, target)
	}
	if failed := readAll(t, want, target); len(failed) > 0 {
		t.Errorf("%v could not be read", failed)
	}
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
	if on, err := mountOn(target); err != nil || on != nil {
		t.Errorf("left on the folder: %+v %v", on, err)
	}
}

// TestBusyFUSE unmounts what somebody has open: that is refused, and the mount goes on.
func TestBusyFUSE(t *testing.T) {
	needMode(t, FUSE)
	name, want := bigImage(t)
	s := openService(t, Options{Root: stateDir(t), Mode: FUSE, Learn: -1, Logger: logger(t)})
	defer s.Close()
	im := prepared(t, s, name)
	target := mountImage(t, im)
	f := open(t, target, "big")
	if err := im.Unmount(t.Context(), target); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a mount in use is unmounted: %v", err)
	}
	readFrom(t, f, want["big"])
	f.Close()
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
	if n := len(s.guard.(*watch).client.Connections()); n != 0 { //nolint:forcetypeassert // it is one in this mode
		t.Errorf("the keeper has %d connections of mounts that have ended", n)
	}
}

// TestUnmountedMeanwhile unmounts when no worker runs: the next one lets go of the connection, and then nobody is left. Go's poller may tell the end of a
// file system as an error of its own, so it is done several times.
func TestUnmountedMeanwhile(t *testing.T) {
	needMode(t, FUSE)
	name, _ := bigImage(t)
	root := stateDir(t)
	for range 8 {
		s := openService(t, Options{Root: root, Mode: FUSE, Learn: -1, Logger: logger(t)})
		im := prepared(t, s, name)
		target := mountImage(t, im)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := unix.Unmount(target, 0); err != nil {
			t.Fatal(err)
		}
		s = openService(t, Options{Root: root, Mode: FUSE, Learn: -1, Logger: logger(t)})
		client := s.guard.(*watch).client //nolint:forcetypeassert // it is one in this mode
		for end := time.Now().Add(time.Minute); len(client.Connections()) > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the keeper keeps a connection of what is mounted nowhere")
			}
		}
		if err := errors.Join(s.Images()[0].Unmount(t.Context(), target), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// touch reads a file by mapping it, without read-ahead: then the kernel asks for single pages and cannot leave off by itself.
func touch(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ, unix.MAP_PRIVATE)
	if err == nil {
		err = unix.Madvise(m, unix.MADV_RANDOM)
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("the first byte is %d", m[0])
}

// TestKilledReaders kills processes that wait for content which never comes: they end at once. While they wait nobody else has to.
func TestKilledReaders(t *testing.T) {
	needMode(t, FUSE)
	r := registrytest.New(t, registrytest.Config{})
	dir := content(t, 3, 10, 300<<10)
	ref := r.Host + "/app:v1"
	push(t, ref, dir, image.Options{})
	s := openService(t, Options{Root: stateDir(t), Mode: FUSE, Learn: -1, ReadAhead: -1, Deadline: time.Hour, Logger: logger(t)})
	defer s.Close()
	im := prepared(t, s, ref)
	target := mountImage(t, im)
	r.Fail(registrytest.Fault{Method: "GET", Path: "/blobs/", Delay: time.Hour})
	ended := make(chan error)
	var readers []*exec.Cmd
	for i, name := range slices.Sorted(maps.Keys(filesOf(t, dir))) {
		cmd := exec.Command("cat", filepath.Join(target, name))
		if i%2 == 0 {
			cmd = exec.Command(os.Args[0], "touch", filepath.Join(target, name))
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, cmd)
		go func() { ended <- cmd.Wait() }()
	}
	waiting := time.After(time.Minute)
	for im.Stats().Events < int64(len(readers)) {
		select {
		case <-time.After(time.Millisecond):
		case <-waiting:
			t.Fatalf("of %d readers %d wait for content", len(readers), im.Stats().Events)
		}
	}
	if _, err := os.ReadDir(filepath.Join(target, "b")); err != nil {
		t.Error(err)
	}
	for _, cmd := range readers {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
	for range readers {
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatal("a reader that was killed does not end")
		}
	}
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
}

// TestFallsBackToFUSE has its state where fanotify does not work.
func TestFallsBackToFUSE(t *testing.T) {
	needMode(t, FUSE)
	name, want := bigImage(t)
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	if _, err := Open(t.Context(), Options{Root: root, Mode: Fanotify}); !errors.Is(err, ErrCannot) {
		t.Errorf("fanotify on tmpfs: %v", err)
	}
	s := openService(t, Options{Root: root, Learn: -1, Logger: logger(t)})
	defer s.Close()
	if s.Mode() != FUSE || !strings.Contains(s.Reason(), "tmpfs") {
		t.Errorf("chosen: %s, since %q", s.Mode(), s.Reason())
	}
	im := prepared(t, s, name)
	target := mountImage(t, im)
	if failed := readAll(t, want, target); len(failed) > 0 {
		t.Errorf("%v could not be read", failed)
	}
	if err := im.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	// There is nothing for the kernel to read itself from, so it goes on through the server.
	if failed := readAll(t, want, target); len(failed) > 0 {
		t.Errorf("%v could not be read when it was complete", failed)
	}
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
	if err := s.saveCounts(); err != nil {
		t.Error(err)
	}
	if v, err := Look(root, logger(t)); err != nil || v.Mode != FUSE || v.Reason != s.Reason() {
		t.Errorf("others see %+v %v", v, err)
	}
}

// TestKeepersOfFUSEDied kills keeper and holder while the worker lives: nobody notices, and the new ones hold the connection, too.
func TestKeepersOfFUSEDied(t *testing.T) {
	needMode(t, FUSE)
	name, want := bigImage(t)
	root := stateDir(t)
	s := openService(t, Options{Root: root, Mode: FUSE, Learn: -1, Logger: logger(t)})
	target := mountImage(t, prepared(t, s, name))
	k, h := processes(t, root)
	if err := errors.Join(unix.Kill(k, unix.SIGKILL), unix.Kill(h, unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	f := open(t, target, "true")
	readFrom(t, f, want["true"])
	f.Close()
	client := s.guard.(*watch).client //nolint:forcetypeassert // it is one in this mode
	for held := false; !held; time.Sleep(time.Millisecond) {
		if now, _ := processes(t, root); now == k || len(client.Connections()) == 0 {
			continue
		}
		device, memory, err := client.OpenConnection(client.Connections()[0])
		if held = err == nil; held {
			device.Close()
			memory.Close()
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openService(t, Options{Root: root, Mode: FUSE, Learn: -1, Logger: logger(t)})
	defer s.Close()
	if err := s.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	im := s.Images()[0]
	if failed := readAll(t, want, target); len(failed) > 0 || len(im.Stats().Unguarded) > 0 {
		t.Errorf("%v could not be read: %+v", failed, im.Stats())
	}
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
}
