package lazy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/registry/registrytest"
)

// workerMain is a worker of its own process: it takes over what an earlier one had mounted, or prepares and mounts the image of its arguments.
func workerMain(mode Mode, root, ref, target string) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{Root: root, Mode: mode, ReadAhead: -1, Learn: -1, Retire: func() { os.Exit(3) }})
	if err != nil {
		return err
	}
	if err := s.Restore(ctx); err != nil {
		return err
	}
	if len(s.Images()) == 0 {
		im, err := s.Prepare(ctx, Request{Reference: ref})
		if err != nil {
			return err
		}
		if err := im.Mount(ctx, target, MountOptions{}); err != nil {
			return err
		}
	}
	for _, im := range s.Images() {
		if un := im.Stats().Unguarded; len(un) > 0 {
			return fmt.Errorf("mounts were unguarded: %v", un)
		}
	}
	fmt.Println("ready")
	select {}
}

// startWorker starts a worker and returns when it is ready, or has ended.
func startWorker(t testing.TB, mode Mode, root, ref, target string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "worker", string(mode), root, ref, target)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var line [16]byte
	if n, err := out.Read(line[:]); err != nil || !bytes.HasPrefix(line[:n], []byte("ready")) {
		t.Fatalf("the worker is not ready: %v %v", err, cmd.Wait())
	}
	return cmd
}

// kill ends a process as nothing else does.
func kill(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

// processes are keeper and holder of a folder.
func processes(t testing.TB, root string) (keeperPID, holderPID int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "run", "holder.json"))
	if err != nil {
		t.Fatal(err)
	}
	var h struct {
		PID    int
		Keeper struct{ PID int }
	}
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	return h.Keeper.PID, h.PID
}

// endKeepers ends what a test's folder has left.
func endKeepers(t testing.TB, root string) {
	if _, err := os.Stat(filepath.Join(root, "run", "holder.json")); err != nil {
		return
	}
	k, h := processes(t, root)
	_, _ = unix.Kill(k, unix.SIGKILL), unix.Kill(h, unix.SIGKILL)
}

// reader reads all files of a mount in an order of its own, again and again, and compares every byte.
func reader(ctx context.Context, want map[string][]byte, target string, seed uint64, read *atomic.Int64, slowest *atomic.Int64) error {
	names := make([]string, 0, len(want))
	for n := range want {
		names = append(names, n)
	}
	r := rand.New(rand.NewPCG(seed, 7))
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, n := range names {
		if ctx.Err() != nil {
			return nil
		}
		began := time.Now()
		got, err := os.ReadFile(filepath.Join(target, n))
		if err != nil {
			return err
		}
		if d := int64(time.Since(began)); d > slowest.Load() {
			slowest.Store(d)
		}
		if !bytes.Equal(got, want[n]) {
			at := 0
			for at < len(got) && at < len(want[n]) && got[at] == want[n][at] {
				at++
			}
			return fmt.Errorf("%s differs from byte %d on (%d of %d bytes)", n, at, len(got), len(want[n]))
		}
		read.Add(1)
	}
	return nil
}

func filesOf(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		all[rel] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestKills kills workers, and now and then keepers, while files are read for the first time.
func TestKills(t *testing.T) {
	for _, mode := range []Mode{Fanotify, FUSE} {
		t.Run(string(mode), func(t *testing.T) { testKills(t, mode) })
	}
}

func testKills(t *testing.T, mode Mode) {
	needMode(t, mode)
	kills := 30
	if testing.Short() {
		kills = 10
	}
	if n, err := strconv.Atoi(os.Getenv("WEFT_KILLS")); err == nil {
		kills = n
	}
	r := registrytest.New(t, registrytest.Config{Latency: 3 * time.Millisecond})
	dir := content(t, 3, 600, 128<<10)
	want := filesOf(t, dir)
	ref := r.Host + "/app:v1"
	push(t, ref, dir, image.Options{})
	random := rand.New(rand.NewPCG(1, 2))
	var read, slowest atomic.Int64
	done, keepers, rounds := 0, 0, 0
	for ; done < kills; rounds++ {
		root, target := stateDir(t), t.TempDir()
		worker := startWorker(t, mode, root, ref, target)
		ctx, cancel := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		failures := make(chan error, 4)
		var left atomic.Int32
		left.Store(4)
		for i := range uint64(4) {
			readers.Go(func() {
				failures <- reader(ctx, want, target, uint64(rounds)*10+i, &read, &slowest)
				left.Add(-1)
			})
		}
		for done < kills && left.Load() > 0 {
			time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
			if done%10 == 9 {
				k, _ := processes(t, root)
				if err := unix.Kill(k, unix.SIGKILL); err == nil {
					keepers++
				}
				time.Sleep(50 * time.Millisecond)
			}
			kill(t, worker)
			done++
			worker = startWorker(t, mode, root, ref, target)
		}
		cancel()
		readers.Wait()
		for range 4 {
			if err := <-failures; err != nil {
				t.Error(err)
			}
		}
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
		kill(t, worker)
		endKeepers(t, root)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d workers and %d keepers killed, %d files read and compared on %d mounts, the slowest read took %s", done, keepers, read.Load(), rounds, time.Duration(slowest.Load()))
}
