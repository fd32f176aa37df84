package lazy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy/keeper"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// until waits for something that takes a while on a busy machine.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}

// TestStandBy kills the worker for good, of an image in a private registry. All of it can be read, by way of the stand-by, then by that of its own stand-by
// when it is killed, too, and by that of a third one when the keeper is killed as well. Then a new worker takes over, and when it ends nothing is left.
func TestStandBy(t *testing.T) { inBothModes(t, testStandBy) }

func testStandBy(t *testing.T, mode Mode) {
	r := registrytest.New(t, registrytest.Config{Basic: &registrytest.Basic{User: "u", Password: "p"}})
	dir := content(t, 50, 40, 100<<10)
	want, ref, root, target := filesOf(t, dir), r.Host+"/team/app:v1", stateDir(t), t.TempDir()
	keychain := registry.Explicit(map[string]authn.AuthConfig{r.Host: {Username: "u", Password: "p"}})
	pushWith(t, keychain, ref, dir, image.Options{})
	t.Setenv("WEFT_TEST_STAND_BY", "1")
	t.Setenv("WEFT_TEST_CREDENTIALS", r.Host+" u p")
	worker := startWorker(t, mode, root, ref, target)
	t.Cleanup(func() {
		if b, err := os.ReadFile(filepath.Join(root, "run", "keeper.log")); err == nil && t.Failed() {
			t.Logf("the keeper's log:\n%s", b)
		}
		if unix.Unmount(target, unix.MNT_DETACH) == nil {
			endKeepers(t, root)
		}
		_ = os.Remove(root + ".log")
	})
	run := filepath.Join(root, "run")
	look := func() keeper.Processes { return keeper.Look(run) }
	standsBy := func(before int) int {
		t.Helper()
		until(t, "somebody stands by", func() bool { p := look().StandBy; return p != 0 && p != before })
		return look().StandBy
	}
	some := func(n int) { // reads files that nobody has read
		t.Helper()
		for name, b := range want {
			got, err := os.ReadFile(filepath.Join(target, name))
			if err != nil || !bytes.Equal(got, b) {
				t.Fatalf("%s: %d of %d bytes were read: %v", name, len(got), len(b), err)
			}
			if delete(want, name); len(want)%n == 0 {
				return
			}
		}
	}
	first := standsBy(0)
	some(10)
	kill(t, worker)
	some(10)
	second := standsBy(first)
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatalf("the stand-by does not fill: %v", err)
	}
	some(10)
	third := standsBy(second)
	before := look()
	for _, pid := range []int{before.Keeper, second} {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if failed := readAll(t, want, target); len(failed) > 0 {
		t.Errorf("%v could not be read when the keeper was killed, too", failed)
	}
	if now := look(); now.Keeper == before.Keeper || now.Holder == 0 {
		t.Errorf("the guards are %+v, and were %+v", now, before)
	}
	o, err := workerOptions(mode, root)
	if err != nil {
		t.Fatal(err)
	}
	s := openService(t, o)
	until(t, "the stand-by ends when there is a worker again", func() bool { return unix.Kill(third, 0) != nil })
	im := s.Images()[0]
	if un := im.Stats().Unguarded; len(un) > 0 {
		t.Errorf("%v were unguarded", un)
	}
	last := standsBy(third)
	if err := errors.Join(im.Unmount(t.Context(), target), s.Close()); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing is left", func() bool { return look() == keeper.Processes{} && unix.Kill(last, 0) != nil })
	if b, err := os.ReadFile(filepath.Join(run, "keeper.log")); err != nil || bytes.Contains(b, []byte("no keeper is there any more")) {
		t.Errorf("the stand-by was not ended, but ended by itself: %v\n%s", err, b)
	}
}

// TestUnmountedAndClosed ends a service right after it has unmounted the last image, a copy of whose mount is closed a moment later, as that of a container
// which ends: nothing of it is left.
func TestUnmountedAndClosed(t *testing.T) {
	needMode(t, FUSE)
	dir, to, root := content(t, 51, 4, 1000), filepath.Join(t.TempDir(), "image"), stateDir(t)
	if _, err := image.Build(t.Context(), to, image.Options{}, image.Folder(dir)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endKeepers(t, root) })
	s := openService(t, Options{Root: root, Mode: FUSE, Learn: -1})
	im, err := s.Prepare(t.Context(), Request{Reference: to})
	if err != nil {
		t.Fatal(err)
	}
	target := mountImage(t, im)
	held, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() {
		time.Sleep(500 * time.Millisecond)
		closed <- unix.Close(held)
	}()
	if err := errors.Join(im.Unmount(t.Context(), target), s.Close(), <-closed); err != nil {
		t.Fatal(err)
	}
	if left := keeper.Look(filepath.Join(root, "run")); left != (keeper.Processes{}) {
		t.Errorf("left are %+v", left)
	}
}

// TestSecretKilled has a process write credentials again and again, and looks at any moment: there are always some, and whole.
func TestSecretKilled(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "secrets"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	of := func(n uint64) inheritance {
		return inheritance{Version: inheritanceVersion, Known: map[string]authn.AuthConfig{"r/a": {Username: fmt.Sprint(n), Password: string(make([]byte, 100*n))}}}
	}
	if i, n, err := readSecret(f); err != nil || n != 0 || len(i.Known) != 0 {
		t.Errorf("of nothing: %+v %d %v", i, n, err)
	}
	for n := uint64(1); n < 20; n++ {
		if err := writeSecret(f, of(n), n); err != nil {
			t.Fatal(err)
		}
		half := int64(n%2) * secretHalf
		whole := make([]byte, secretHeader+200)
		if _, err := f.ReadAt(whole, half); err != nil && n > 3 {
			t.Fatal(err)
		}
		if i, at, err := readSecret(f); err != nil || at != n || i.Known["r/a"].Username != fmt.Sprint(n) {
			t.Fatalf("number %d: %+v %d %v", n, i, at, err)
		}
		// A write that was cut off at any place.
		for cut := range secretHeader + 40 {
			torn := append(append([]byte{}, whole[:cut]...), make([]byte, len(whole)-cut)...)
			if _, err := f.WriteAt(torn, half); err != nil {
				t.Fatal(err)
			}
			i, at, err := readSecret(f)
			if n > 1 && (err != nil || at != n-1 || i.Known["r/a"].Username != fmt.Sprint(n-1)) {
				t.Fatalf("number %d, cut at %d: %+v %d %v", n, cut, i, at, err)
			}
		}
		if err := writeSecret(f, of(n), n); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOldSecret reads what a process of an earlier version has left.
func TestOldSecret(t *testing.T) {
	for text, want := range map[string]int{`{"r/a":{"username":"u","password":"p"}}`: 1, `{}`: 0} {
		if i, n, err := readSecret(strings.NewReader(text)); err != nil || n != 0 || len(i.Known) != want || want == 1 && i.Known["r/a"].Username != "u" {
			t.Errorf("%s: %+v %d %v", text, i, n, err)
		}
	}
}

// FuzzSecret reads anything: it ends with credentials, with none, or with an error.
func FuzzSecret(f *testing.F) {
	f.Add([]byte(`{"r/a":{"username":"u"}}`))
	f.Add([]byte("WSEC\x02\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00{}"))
	f.Add([]byte("WSEC\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if i, _, err := readSecret(bytes.NewReader(b)); err != nil && (len(i.Known) > 0 || len(i.Lent) > 0) {
			t.Errorf("credentials and %v", err)
		}
	})
}
