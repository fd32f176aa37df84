package lazy

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy/keeper"
	"github.com/weft-dev/weft/registry/registrytest"
)

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

// TestKills kills workers, and now and then keepers, while files are read for the first time, and tells how much longer than its fill a reader waits. With
// a stand-by nobody starts a worker again for a while, and stand-bys are killed, too, whether they fill or wait.
func TestKills(t *testing.T) {
	for _, mode := range []Mode{Fanotify, FUSE} {
		t.Run(string(mode), func(t *testing.T) { testKills(t, mode, false) })
		t.Run(string(mode)+"/stand-by", func(t *testing.T) { testKills(t, mode, true) })
	}
}

func testKills(t *testing.T, mode Mode, standBy bool) {
	needMode(t, mode)
	if standBy {
		t.Setenv("WEFT_TEST_STAND_BY", "1")
	}
	kills, most := 30, time.Duration(0)
	if testing.Short() {
		kills = 10
	}
	if standBy {
		kills = 10
	}
	if n, err := strconv.Atoi(os.Getenv("WEFT_KILLS")); err == nil {
		kills, most = n, 500*time.Millisecond
		if standBy { // each takes longer, since nobody is in a hurry to start a worker
			kills = (n + 3) / 4
		}
	}
	r := registrytest.New(t, registrytest.Config{Latency: 3 * time.Millisecond})
	dir := content(t, 3, 600, 128<<10)
	ref := r.Host + "/app:v1"
	push(t, ref, dir, image.Options{})
	k := &killing{mode: mode, standBy: standBy, random: rand.New(rand.NewPCG(1, 2))}
	for done := 0; done < kills && !t.Failed(); k.rounds++ {
		done += k.round(t, ref, dir, kills-done)
	}
	k.tell(t, most)
}

// killing is what happened.
type killing struct {
	mode                     Mode
	standBy                  bool
	random                   *rand.Rand
	workers, keepers, rounds int
	standBys, filling        int         // killed stand-bys, and those of them that were filling
	times                    []time.Time // of kills
	reads                    int
	waits                    []wait
}

// wait is a read, and how much of its time was taken by fills.
type wait struct {
	from, to time.Time
	fills    time.Duration
	kills    int // within it
}

func (w wait) beyond() time.Duration { return w.to.Sub(w.from) - w.fills }

// each is how much longer than its fill a reader waited because of one kill.
func (w wait) each() time.Duration { return w.beyond() / time.Duration(max(w.kills, 1)) }

// round mounts an image anew and kills until all of it has been read.
func (k *killing) round(t *testing.T, ref, dir string, kills int) (done int) {
	root, target := stateDir(t), t.TempDir()
	t.Cleanup(func() { // of a test that failed
		if unix.Unmount(target, unix.MNT_DETACH) == nil {
			endKeepers(t, root)
		}
	})
	worker := startWorker(t, k.mode, root, ref, target)
	var readers [4]*readingProcess
	for i := range readers {
		readers[i] = startReader(t, target, dir, k.rounds*10+i)
	}
	from := len(k.times)
	for ; done < kills && slices.ContainsFunc(readers[:], (*readingProcess).runs); done++ {
		time.Sleep(time.Duration(k.random.IntN(60)) * time.Millisecond)
		if (k.workers+done)%10 == 9 {
			pid, _ := processes(t, root)
			k.times = append(k.times, time.Now())
			if err := unix.Kill(pid, unix.SIGKILL); err == nil {
				k.keepers++
			}
			time.Sleep(50 * time.Millisecond)
		}
		if k.standBy {
			k.killStandBys(t, root, worker)
		} else {
			k.times = append(k.times, time.Now())
			kill(t, worker)
		}
		worker = startWorker(t, k.mode, root, ref, target)
	}
	k.workers += done
	fills := readFills(t, root+".log")
	for _, r := range readers {
		waits := r.end(t)
		k.reads += len(waits)
		for i := range waits {
			w := &waits[i]
			for _, f := range fills[r.cmd.Process.Pid] {
				if f.to.After(w.from) && f.to.Before(w.to) {
					w.fills += f.to.Sub(f.from)
				}
			}
			for _, at := range k.times[from:] {
				if at.After(w.from) && at.Before(w.to) {
					w.kills++
				}
			}
			if w.kills > 0 {
				k.waits = append(k.waits, *w)
			}
		}
	}
	if err := unix.Unmount(target, 0); err != nil {
		t.Error(err)
	}
	kill(t, worker)
	endKeepers(t, root)
	if err := os.Remove(root + ".log"); err != nil {
		t.Error(err)
	}
	return done
}

// killStandBys kills a worker for a while, in a third of the cases its stand-by before it, and in another third after it.
func (k *killing) killStandBys(t *testing.T, root string, worker *exec.Cmd) {
	run := filepath.Join(root, "run")
	for end := time.Now().Add(time.Minute); keeper.Look(run).StandBy == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Error("nobody stands by")
			return
		}
	}
	standBy, which := keeper.Look(run).StandBy, k.random.IntN(3)
	end := func() {
		k.times = append(k.times, time.Now())
		if err := unix.Kill(standBy, unix.SIGKILL); err == nil {
			k.standBys++
		}
	}
	if which == 0 {
		end()
		time.Sleep(time.Duration(k.random.IntN(20)) * time.Millisecond)
	}
	k.times = append(k.times, time.Now())
	kill(t, worker)
	time.Sleep(time.Duration(k.random.IntN(100)) * time.Millisecond)
	if which == 1 {
		end()
		k.filling++
	}
	time.Sleep(time.Duration(k.random.IntN(200)) * time.Millisecond)
}

// tell prints the result, and fails if a reader waited longer than most because of a kill; 0: whatever they waited.
func (k *killing) tell(t *testing.T, most time.Duration) {
	if k.standBy {
		t.Logf("%d stand-bys killed, %d of them in place of a worker", k.standBys, k.filling)
	}
	t.Logf("%d workers and %d keepers killed, %d reads compared on %d mounts, %d of them while something was killed", k.workers, k.keepers, k.reads, k.rounds, len(k.waits))
	if len(k.waits) == 0 {
		return
	}
	slices.SortFunc(k.waits, func(a, b wait) int { return cmp.Compare(a.each(), b.each()) })
	longest := slices.MaxFunc(k.waits, func(a, b wait) int { return cmp.Compare(a.beyond(), b.beyond()) })
	last := k.waits[len(k.waits)-1]
	t.Logf("of these, waited longer than their fill because of one kill: half of them at most %s, 99 of 100 at most %s, the longest %s (its fills took %s); the longest of all, with %d kills in it, %s",
		k.waits[len(k.waits)/2].each(), k.waits[len(k.waits)*99/100].each(), last.each(), last.fills, longest.kills, longest.beyond())
	if most > 0 && last.each() > most {
		t.Errorf("a reader waited %s longer than its fill because of one kill, at most %s were expected", last.each(), most)
	}
}

// fill is what a worker's log says of one.
type fill struct{ from, to time.Time }

// readFills reads the logs of all workers of a folder, by the process that waited.
func readFills(t testing.TB, name string) map[int][]fill {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int][]fill{}
	for line := range bytes.Lines(b) {
		var l struct {
			Time    time.Time     `json:"time"`
			Msg     string        `json:"msg"`
			Process int           `json:"process"`
			Fill    time.Duration `json:"fill"`
		}
		if err := json.Unmarshal(line, &l); err == nil && l.Msg == "a reader waited" { // a killed worker may leave half a line
			all[l.Process] = append(all[l.Process], fill{l.Time.Add(-l.Fill), l.Time})
		}
	}
	return all
}

// readingProcess reads a mount and says of each read when it began and ended.
type readingProcess struct {
	cmd *exec.Cmd
	out bytes.Buffer
	err error
	did chan struct{}
}

func startReader(t testing.TB, target, dir string, seed int) *readingProcess {
	t.Helper()
	r := &readingProcess{cmd: exec.Command(os.Args[0], "reader", target, dir, strconv.Itoa(seed)), did: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, os.Stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.did)
		r.err = r.cmd.Wait()
	}()
	return r
}

func (r *readingProcess) runs() bool {
	select {
	case <-r.did:
		return false
	default:
		return true
	}
}

// end waits until all is read, and gives the reads.
func (r *readingProcess) end(t testing.TB) []wait {
	t.Helper()
	<-r.did
	if r.err != nil {
		t.Errorf("a reader: %v", r.err)
	}
	var list []wait
	for line := range bytes.Lines(r.out.Bytes()) {
		var from, to int64
		if _, err := fmt.Sscan(string(line), &from, &to); err != nil {
			t.Error(err)
		}
		list = append(list, wait{from: time.Unix(0, from), to: time.Unix(0, to)})
	}
	return list
}

// readerMain reads all files of a mount once, in an order of its own, and compares every byte.
func readerMain(target, dir, seed string) error {
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	var names []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(n, 7))
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	out := bufio.NewWriter(os.Stdout)
	for _, name := range names {
		rel, err := filepath.Rel(dir, name)
		if err == nil {
			err = compareFile(out, name, filepath.Join(target, rel))
		}
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

// compareFile reads a file in steps and tells the times of each.
func compareFile(out io.Writer, name, mounted string) error {
	want, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	f, err := os.Open(mounted)
	if err != nil {
		return err
	}
	defer f.Close()
	p := make([]byte, 64<<10)
	for at := 0; ; {
		from := time.Now()
		n, err := f.ReadAt(p, int64(at))
		fmt.Fprintln(out, from.UnixNano(), time.Now().UnixNano())
		if at+n > len(want) || !bytes.Equal(p[:n], want[at:at+n]) {
			return fmt.Errorf("%s differs in the %d bytes from %d on", mounted, n, at)
		}
		at += n
		if errors.Is(err, io.EOF) && at == len(want) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s after %d of %d bytes: %w", mounted, at, len(want), err)
		}
	}
}
