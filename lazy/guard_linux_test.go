package lazy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy/mountinfo"
	"github.com/weft-dev/weft/registry/registrytest"
)

// TestAllHoldersDied kills worker, keeper and holder: the kernel then lets everybody read what is not there. The next start must notice, say
// so, and make reads right again.
func TestAllHoldersDied(t *testing.T) {
	needWatch(t)
	r := registrytest.New(t, registrytest.Config{})
	dir := content(t, 9, 40, 200<<10)
	want := filesOf(t, dir)
	ref := r.Host + "/app:v1"
	push(t, ref, dir, image.Options{})
	root, target := stateDir(t), t.TempDir()
	worker := startWorker(t, Fanotify, root, ref, target)
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	k, h := processes(t, root)
	kill(t, worker)
	for _, pid := range []int{k, h} {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	wrong := 0
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) { // until the kernel has let go
		for name, b := range want {
			if got, err := os.ReadFile(filepath.Join(target, name)); err == nil && !bytes.Equal(got, b) {
				wrong++
			}
		}
		if wrong > 0 {
			break
		}
	}
	if wrong == 0 {
		t.Fatal("without anybody the kernel was expected to give zeros: the test tests nothing")
	}
	retired := make(chan error, 1)
	var s *Service
	s = openService(t, Options{Root: root, Mode: Fanotify, Learn: -1, Retire: func() { retired <- s.Close() }})
	if err := s.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	im := s.Images()[0]
	if un := im.Stats().Unguarded; !slices.Equal(un, []string{target}) {
		t.Errorf("unguarded mounts are %v, expected %s", un, target)
	}
	if failed := readAll(t, want, target); len(failed) > 0 {
		t.Errorf("%v could not be read", failed)
	}
	// This process had nobody to tell, as a stand-by has not. The next one has.
	var told []string
	next := openService(t, Options{Root: root, Mode: Fanotify, Learn: -1, Unguarded: func(_ string, targets []string) { told = append(told, targets...) }})
	defer next.Close()
	if err := errors.Join(<-retired, next.Restore(t.Context()), next.Restore(t.Context())); err != nil {
		t.Fatal(err)
	}
	if im = next.Images()[0]; !slices.Equal(told, []string{target}) || !slices.Equal(im.Stats().Unguarded, told) {
		t.Errorf("told of %v, expected %s once; the status says %v", told, target, im.Stats().Unguarded)
	}
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
	if un := im.Stats().Unguarded; len(un) > 0 {
		t.Errorf("%v are unguarded and not mounted", un)
	}
}

// TestUpgrade lets one service take over from another while everything is read.
func TestUpgrade(t *testing.T) { inBothModes(t, testUpgrade) }

func testUpgrade(t *testing.T, mode Mode) {
	r := registrytest.New(t, registrytest.Config{Latency: 2 * time.Millisecond})
	dir := content(t, 10, 150, 100<<10)
	want := filesOf(t, dir)
	ref := r.Host + "/app:v1"
	push(t, ref, dir, image.Options{})
	root := stateDir(t)
	closed := make(chan error, 1)
	var old atomic.Pointer[Service]
	s := openService(t, Options{Root: root, Mode: mode, ReadAhead: -1, Learn: -1, Retire: func() { closed <- old.Load().Close() }})
	old.Store(s)
	im, err := s.Prepare(t.Context(), Request{Reference: ref})
	if err != nil {
		t.Fatal(err)
	}
	target := mountImage(t, im)
	read := make(chan error, 1)
	var n, slowest atomic.Int64
	go func() { read <- reader(t.Context(), want, target, 1, &n, &slowest) }()
	for n.Load() < 10 {
		time.Sleep(time.Millisecond)
	}
	next := openService(t, Options{Root: root, Mode: mode, ReadAhead: -1, Learn: -1})
	defer next.Close()
	if err := <-closed; err != nil {
		t.Errorf("the old service: %v", err)
	}
	if err := next.Restore(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
	taken := next.Images()[0]
	if st := taken.Stats(); st.Events == 0 || len(st.Unguarded) > 0 {
		t.Errorf("the new service: %+v", st)
	}
	if err := taken.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
}

// TestReboot opens a folder whose mounts are gone: they are mounted again, with what was there.
func TestReboot(t *testing.T) { inBothModes(t, testReboot) }

func testReboot(t *testing.T, mode Mode) {
	dir, to := content(t, 11, 20, 200<<10), filepath.Join(t.TempDir(), "image")
	want := filesOf(t, dir)
	if _, err := image.Build(t.Context(), to, image.Options{}, image.Folder(dir)); err != nil {
		t.Fatal(err)
	}
	root := stateDir(t)
	s := openService(t, Options{Root: root, Mode: mode, Learn: -1})
	im, err := s.Prepare(t.Context(), Request{Reference: to})
	if err != nil {
		t.Fatal(err)
	}
	target := mountImage(t, im)
	readAll(t, want, target)
	present := im.Stats().Present
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	endKeepers(t, root)
	s = openService(t, Options{Root: root, Mode: mode, Learn: -1})
	defer s.Close()
	if err := s.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	im = s.Images()[0]
	if st := im.Stats(); st.Present != present || len(st.Unguarded) > 0 {
		t.Errorf("%d bytes were present, now: %+v", present, st)
	}
	if failed := readAll(t, want, target); len(failed) > 0 {
		t.Errorf("%v could not be read", failed)
	}
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
}

func TestRefuse(t *testing.T) { inBothModes(t, testRefuse) }

func testRefuse(t *testing.T, mode Mode) {
	dir, to := content(t, 12, 4, 1000), filepath.Join(t.TempDir(), "image")
	if _, err := image.Build(t.Context(), to, image.Options{}, image.Folder(dir)); err != nil {
		t.Fatal(err)
	}
	s := openService(t, Options{Root: stateDir(t), Mode: mode, Learn: -1})
	defer s.Close()
	im, err := s.Prepare(t.Context(), Request{Reference: to})
	if err != nil {
		t.Fatal(err)
	}
	target, over, upper := mountImage(t, im), t.TempDir(), stateDir(t)
	if err := errors.Join(os.Mkdir(upper+"/u", 0o755), os.Mkdir(upper+"/w", 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("overlay", over, "overlay", 0, "lowerdir="+target+",upperdir="+upper+"/u,workdir="+upper+"/w"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(over, unix.MNT_DETACH) })
	if err := mountinfo.Refuse(s.root); err != nil {
		t.Errorf("what is needed lies elsewhere: %v", err)
	}
	for _, on := range []string{target, over} {
		if err := mountinfo.Refuse(s.root, filepath.Join(on, "a", "aa")); !errors.Is(err, mountinfo.ErrOnLazyMount) {
			t.Errorf("a file on %s: %v", on, err)
		}
	}
	t.Setenv("SSL_CERT_FILE", filepath.Join(target, "a", "aa"))
	if _, err := Open(t.Context(), Options{Root: stateDir(t), Mode: mode}); !errors.Is(err, mountinfo.ErrOnLazyMount) {
		t.Errorf("a service with certificates on a lazy mount: %v", err)
	}
	if err := errors.Join(unix.Unmount(over, 0), im.Unmount(t.Context(), target)); err != nil {
		t.Error(err)
	}
}

// TestHolderDied kills the holder: the keeper starts another one, so that the keeper may be killed, too.
func TestHolderDied(t *testing.T) {
	needWatch(t)
	r := registrytest.New(t, registrytest.Config{})
	dir := content(t, 13, 40, 100<<10)
	want := filesOf(t, dir)
	ref := r.Host + "/app:v1"
	push(t, ref, dir, image.Options{})
	root, target := stateDir(t), t.TempDir()
	worker := startWorker(t, Fanotify, root, ref, target)
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	keeperPID, holderPID := processes(t, root)
	if err := unix.Kill(holderPID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	sleeps := fmt.Sprintf("%d ", unix.SYS_PPOLL) // what a holder does that outlives its keeper
	for next, end := holderPID, time.Now().Add(time.Minute); ; {
		doing, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", next))
		if next != holderPID && err == nil && strings.HasPrefix(string(doing), sleeps) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("there is no other holder: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
		_, next = processes(t, root)
	}
	kill(t, worker) // else it would hold everything
	if err := unix.Kill(keeperPID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	worker = startWorker(t, Fanotify, root, ref, target) // it says if mounts were unguarded
	if failed := readAll(t, want, target); len(failed) > 0 {
		t.Errorf("%v could not be read", failed)
	}
	if err := unix.Unmount(target, 0); err != nil {
		t.Error(err)
	}
	kill(t, worker)
	endKeepers(t, root)
}

// TestKeeperBegins starts a worker while another process says that it becomes the keeper, and does not: the worker waits, and starts its own.
func TestKeeperBegins(t *testing.T) {
	needWatch(t)
	root := stateDir(t)
	if err := openService(t, Options{Root: root, Mode: Eager}).Close(); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", other.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(root, "run")
	begins := fmt.Sprintf(`{"pid":%d,"start":%q}`, other.Process.Pid, strings.Fields(string(stat))[21])
	if err := errors.Join(os.MkdirAll(run, 0o700), os.WriteFile(filepath.Join(run, "beginning.json"), []byte(begins), 0o600)); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { // when a keeper has not begun because of it
		defer close(gone)
		for t.Context().Err() == nil {
			if b, err := os.ReadFile(filepath.Join(run, "keeper.log")); err == nil && bytes.Contains(b, []byte("will have a keeper")) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		kill(t, other)
	}()
	s, err := Open(t.Context(), Options{Root: root, Mode: Fanotify, Learn: -1})
	if err != nil {
		t.Fatal(err)
	}
	<-gone
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
