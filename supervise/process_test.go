package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// polite ends on SIGTERM, stubborn does not.
const (
	polite   = `trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done`
	stubborn = `trap '' TERM; echo up; while :; do sleep 0.02; done`
)

func shell(script string) Spec {
	return Spec{Name: "child", Path: "/bin/sh", Args: []string{"-c", script}}
}

func start(t *testing.T, spec Spec) *Process {
	t.Helper()
	p, err := Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, p) })
	return p
}

func stop(t *testing.T, p *Process) {
	t.Helper()
	if err := p.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// eventually waits for a condition; the limit is far from what is expected and only ends a test that hangs.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}

func alive(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) == nil }

// logged waits until the log says something.
func logged(t *testing.T, path, what string) {
	t.Helper()
	eventually(t, what+" in the log", func() bool {
		b, _ := os.ReadFile(path)
		return bytes.Contains(b, []byte(what))
	})
}

func TestStopEndsAPoliteProcessWithItsSignal(t *testing.T) {
	spec := shell(`trap 'echo caught; exit 0' TERM; echo up; while :; do sleep 0.02; done`)
	spec.Log = filepath.Join(t.TempDir(), "logs", "child.log")
	p := start(t, spec)
	pid := p.Status().PID
	logged(t, spec.Log, "up")
	stop(t, p)
	if s := p.Status(); s.State != Stopped || s.LastError != "" || s.PID != 0 {
		t.Errorf("status after a polite end: %+v", s)
	}
	if alive(pid) {
		t.Error("the child is alive after Stop")
	}
	logged(t, spec.Log, "caught")
}

func TestStopKillsAStubbornProcessAfterItsGrace(t *testing.T) {
	spec := shell(stubborn)
	spec.Log = filepath.Join(t.TempDir(), "log")
	spec.Grace = 50 * time.Millisecond
	p := start(t, spec)
	pid := p.Status().PID
	logged(t, spec.Log, "up")
	stop(t, p)
	if s := p.Status(); !strings.Contains(s.LastError, "was killed") {
		t.Errorf("the status does not tell that the child was killed: %+v", s)
	}
	if alive(pid) {
		t.Error("the child is alive after Stop")
	}
}

func TestStopKillsAtOnceWhenItsContextEnds(t *testing.T) {
	spec := shell(stubborn)
	spec.Grace = time.Hour
	p := start(t, spec)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if s := p.Status(); s.State != Stopped {
		t.Errorf("status: %+v", s)
	}
}

func TestStopKillsWhatTheChildLeftInItsGroup(t *testing.T) {
	dir := t.TempDir()
	spec := shell(`trap 'exit 0' TERM; sh -c 'trap "" TERM; echo $$ > ` + dir + `/pid.new; mv pid.new pid; sleep 1000' & while :; do sleep 0.02; done`)
	spec.Dir = dir
	p := start(t, spec)
	var grandchild int
	eventually(t, "the grandchild runs", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "pid"))
		grandchild, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return alive(grandchild)
	})
	stop(t, p)
	eventually(t, "the grandchild is gone", func() bool { return !runs(grandchild) })
}

// runs says whether a process exists and is not a zombie that waits for init.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err != nil && runtime.GOOS != "linux" && alive(pid)
	}
	return !strings.Contains(string(b), ") Z ")
}

func TestAProcessThatDiesIsStartedAgain(t *testing.T) {
	spec := shell(`echo began; sleep 0.05; echo "no memory left" >&2; exit 3`)
	spec.Log = filepath.Join(t.TempDir(), "log")
	spec.Backoff = Backoff{Initial: time.Millisecond, Max: 5 * time.Millisecond}
	var mu sync.Mutex
	var states []string
	spec.OnChange = func(s Status) {
		mu.Lock()
		defer mu.Unlock()
		states = append(states, s.State)
	}
	p := start(t, spec)
	eventually(t, "three restarts", func() bool { return p.Status().Restarts >= 3 })
	stop(t, p)
	if s := p.Status(); !strings.Contains(s.LastError, "exit status 3: no memory left") {
		t.Errorf("the last error does not say how the child ended: %q", s.LastError)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{Starting, Running, Restarting, Starting, Running}; !slices.Equal(states[:5], want) {
		t.Errorf("states %q, want first %q", states, want)
	}
	if states[len(states)-1] != Stopped {
		t.Errorf("the last state is %q", states[len(states)-1])
	}
}

func TestPolicies(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy Policy
		script string
		again  bool
	}{
		{"never, failed", Never, "exit 1", false},
		{"on failure, succeeded", OnFailure, "exit 0", false},
		{"on failure, failed", OnFailure, "exit 1", true},
		{"always, succeeded", Always, "exit 0", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := shell("sleep 0.05; " + test.script)
			spec.Restart = test.policy
			spec.Backoff.Initial = time.Millisecond
			p := start(t, spec)
			if test.again {
				eventually(t, "a restart", func() bool { return p.Status().Restarts > 0 })
				return
			}
			<-p.Done()
			if s := p.Status(); s.Restarts != 0 || s.State != Stopped {
				t.Errorf("status: %+v", s)
			}
		})
	}
}

func TestRestartOnRequest(t *testing.T) {
	spec := shell(polite)
	spec.Restart = Never // a request holds for every policy
	p := start(t, spec)
	pid := p.Status().PID
	p.Restart()
	eventually(t, "another child", func() bool {
		s := p.Status()
		return s.State == Running && s.PID != pid && s.Restarts == 1
	})
}

func TestStartWaitsUntilReady(t *testing.T) {
	dir := t.TempDir()
	spec := shell(`sleep 0.1; touch ready; ` + polite)
	spec.Dir = dir
	spec.Ready = func(ctx context.Context) error {
		for ctx.Err() == nil {
			if exists(filepath.Join(dir, "ready")) {
				return nil
			}
			time.Sleep(time.Millisecond)
		}
		return ctx.Err()
	}
	start(t, spec)
	if !exists(filepath.Join(dir, "ready")) {
		t.Error("Start returned before the process was ready")
	}
}

func TestStartTellsWhyAProcessDidNotStart(t *testing.T) {
	never := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	notExecutable := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(notExecutable, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		spec Spec
		want string
	}{
		{"missing program", Spec{Path: "/nowhere/containerd"}, "child: the program /nowhere/containerd is missing"},
		{"missing folder", Spec{Path: "/bin/true", Dir: "/nowhere"}, "child: the working directory /nowhere is missing"},
		{"not executable", Spec{Path: notExecutable}, "may not be executed"},
		{"ended early", Spec{Path: "/bin/sh", Args: []string{"-c", "echo port 80 is taken; exit 1"}, Ready: never}, "child: ended with exit status 1: port 80 is taken"},
		{"ended well but early", Spec{Path: "/bin/true", Ready: never}, "child: ended before it was ready"},
		{"never ready", Spec{Path: "/bin/sleep", Args: []string{"100"}, Ready: func(context.Context) error { return errors.New("wrong certificate") }}, "never became ready: wrong certificate"},
		{"refused by Enter", Spec{Path: "/bin/true", Enter: func() error { return errors.New("no such namespace") }}, "no such namespace"},
		{"log in a place that is none", Spec{Path: "/bin/true", Log: notExecutable + "/log"}, "open the log"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.spec.Name = "child"
			_, err := Start(t.Context(), test.spec)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	spec := shell(stubborn)
	spec.Grace = 10 * time.Millisecond
	var pid int
	spec.OnChange = func(s Status) {
		if s.PID != 0 {
			pid = s.PID
		}
	}
	spec.Ready = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("interrupted"))
	defer cancel()
	_, err := Start(ctx, spec)
	if err == nil || !strings.Contains(err.Error(), "child did not become ready: interrupted") {
		t.Errorf("error: %v", err)
	}
	if alive(pid) {
		t.Error("the child is alive though Start failed")
	}
}

func TestStopAtAnyMoment(t *testing.T) {
	for i := range 40 {
		spec := shell(`exit 1`)
		spec.Backoff = Backoff{Initial: time.Microsecond, Max: time.Millisecond}
		p, err := Start(t.Context(), spec)
		if err != nil {
			continue // it ended before it counted as ready, which is allowed
		}
		time.Sleep(time.Duration(i) * 200 * time.Microsecond)
		stop(t, p)
		if s := p.Status(); s.State != Stopped {
			t.Fatalf("after Stop: %+v", s)
		}
	}
}

func TestTheLogIsLimited(t *testing.T) {
	dir := t.TempDir()
	spec := shell(`i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done; echo the end; ` + polite)
	spec.Log, spec.LogLimit = filepath.Join(dir, "log"), 8<<10
	start(t, spec)
	logged(t, spec.Log, "the end")
	for _, path := range []string{spec.Log, spec.Log + ".1"} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > spec.LogLimit+64<<10 { // one read of the pipe may pass the limit of an empty file
			t.Errorf("%s has %d bytes", path, info.Size())
		}
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("files %v, %v", names, err)
	}
}

func TestAFullDiskDoesNotStopTheChild(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("needs /dev/full")
	}
	dir := t.TempDir()
	spec := shell(`i=0; while [ $i -lt 20000 ]; do echo "a line that fills the pipe $i"; i=$((i+1)); done; touch done; ` + polite)
	spec.Log, spec.Dir = "/dev/full", dir
	start(t, spec)
	eventually(t, "the child passed its output", func() bool { return exists(filepath.Join(dir, "done")) })
}

func TestGroupStopsTheYoungestFirst(t *testing.T) {
	var g Group
	var mu sync.Mutex
	var ended []string
	for _, name := range []string{"first", "second", "third"} {
		spec := shell(polite)
		spec.Name = name
		spec.OnChange = func(s Status) {
			mu.Lock()
			defer mu.Unlock()
			if s.State == Stopped {
				ended = append(ended, s.Name)
			}
		}
		if _, err := g.Start(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	if s := g.Status(); len(s) != 3 || s[0].Name != "first" || s[2].State != Running {
		t.Errorf("status: %+v", s)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"third", "second", "first"}; !slices.Equal(ended, want) {
		t.Errorf("ended in the order %q, want %q", ended, want)
	}
}

// TestMain lets the test binary stand for a supervisor that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("SUPERVISE_TEST_CHILD") != "" {
		_, err := Start(context.Background(), shell(`trap '' TERM; echo $$ > pid.new; mv pid.new pid; while :; do sleep 0.02; done`)) // silent: a cut pipe must not be what ends it
		fmt.Println(err)
		select {}
	}
	os.Exit(m.Run())
}

func TestAChildDiesWithItsSupervisor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux kills a child at the death of its parent")
	}
	dir := t.TempDir()
	supervisor := exec.Command(os.Args[0])
	supervisor.Dir = dir
	supervisor.Env = append(os.Environ(), "SUPERVISE_TEST_CHILD=1")
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	eventually(t, "the child runs", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "pid"))
		child, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return alive(child)
	})
	if err := supervisor.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = supervisor.Wait() // it was killed
	eventually(t, "the child is gone", func() bool { return !runs(child) })
}

// TestTheForkingThreadLives shows that children outlive the threads on which goroutines that start them end: the kernel would
// send the signal at the death of the parent when such a thread ends.
func TestTheForkingThreadLives(t *testing.T) {
	started := make(chan *Process)
	go func() {
		runtime.LockOSThread() // so that the thread ends with this goroutine
		p, err := Start(context.Background(), shell(polite))
		if err != nil {
			t.Error(err)
		}
		started <- p
	}()
	p := <-started
	if p == nil {
		return
	}
	pid := p.Status().PID
	time.Sleep(50 * time.Millisecond)
	if s := p.Status(); s.PID != pid || s.Restarts != 0 {
		t.Errorf("the child died with a thread: %+v", s)
	}
	stop(t, p)
}

// TestEnteredNamespacesStayWithTheChild shows that the thread that entered a namespace for a child is not the process's main one, serves
// nothing else, and ends with the child.
func TestEnteredNamespacesStayWithTheChild(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs Linux and root, to make a namespace")
	}
	own, err := os.Readlink("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	foreign := func() (threads []string) {
		tasks, err := filepath.Glob("/proc/self/task/*/ns/uts")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if ns, err := os.Readlink(task); err == nil && ns != own { // one may have ended meanwhile
				threads = append(threads, task)
			}
		}
		return threads
	}
	for range 10 { // so that chance gives the main thread too
		spec := shell(`readlink /proc/self/ns/uts; ` + polite)
		spec.Log = filepath.Join(t.TempDir(), "log")
		spec.Enter = enterNewNames
		p, err := Start(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		logged(t, spec.Log, "up")
		if b, err := os.ReadFile(spec.Log); err != nil || strings.Contains(string(b), own) || !strings.Contains(string(b), "uts:[") {
			t.Errorf("the child is in %q, this process in %s: %v", b, own, err)
		}
		if now, err := os.Readlink("/proc/self/ns/uts"); now != own || err != nil {
			t.Errorf("the process was in %s and is in %s: %v", own, now, err)
		}
		if threads := foreign(); len(threads) != 1 {
			t.Errorf("threads elsewhere while the child runs: %v", threads)
		}
		stop(t, p)
		eventually(t, "the thread's end", func() bool { return len(foreign()) == 0 })
	}
}
