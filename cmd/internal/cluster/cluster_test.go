package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-dev/weft/supervise/control"
)

// TestMain lets the test binary stand for weft-node. FAKE_NODE says how it behaves.
func TestMain(m *testing.M) {
	if how := os.Getenv("FAKE_NODE"); how != "" && len(os.Args) == 4 && os.Args[2] == "--state" {
		os.Exit(fakeNode(how, os.Args[1], os.Args[3]))
	}
	os.Exit(m.Run())
}

func fakeNode(how, verb, state string) int {
	if verb == "clean" {
		if how == "cannot clean" {
			fmt.Println("weft-node: /dev/sda1 is busy")
			return 1
		}
		if err := os.WriteFile(filepath.Join(state, "cleaned"), nil, 0o600); err != nil {
			return 1
		}
		return 0
	}
	if how == "crash" {
		fmt.Println("weft-node: no space left on device")
		return 1
	}
	if how == "late" {
		time.Sleep(200 * time.Millisecond)
	}
	if how == "one late, one later" {
		delay := 200 * time.Millisecond
		if f, err := os.OpenFile(filepath.Join(state, "first"), os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			f.Close()
		} else {
			delay = 1500 * time.Millisecond
		}
		time.Sleep(delay)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	server, err := control.Listen(state)
	if err != nil {
		fmt.Println("weft-node:", err)
		return 1
	}
	status := control.Status{Phase: control.Starting, PID: os.Getpid(), State: state, StartedAt: time.Now()}
	server.Publish(status)
	status.Steps = []control.Step{{Name: "API ready", Seconds: 0.1}}
	server.Publish(status)
	switch how {
	case "fail":
		status.Phase, status.Error = control.Failed, "port 6443 is taken by process 77: end it, or choose another with --api-port"
		server.Publish(status)
	case "crash later":
		fmt.Println("weft-node: signal: out of memory")
		return 137
	case "forever":
	default:
		status.Phase = control.Ready
		server.Publish(status)
	}
	select {
	case <-server.Stops():
	case <-signals:
	}
	status.Phase = control.Stopping
	server.Publish(status)
	if server.Close() != nil {
		return 1
	}
	return 0
}

// fake returns a cluster whose weft-node behaves as told. It is stopped at the end of the test.
func fake(t *testing.T, how string) *Cluster {
	t.Helper()
	t.Setenv("FAKE_NODE", how)
	c := &Cluster{State: filepath.Join(t.TempDir(), "state"), Program: os.Args[0]}
	t.Cleanup(func() {
		if _, err := c.Stop(context.Background(), 0, func(control.Status) {}); err != nil {
			t.Logf("stop: %v", err)
		}
	})
	return c
}

func ignore(control.Status) {}

func TestStartStatusStop(t *testing.T) {
	c := fake(t, "well")
	if s, err := c.Status(t.Context()); err != nil || s.Phase != control.Stopped {
		t.Errorf("status before: %+v, %v", s, err)
	}
	var phases []control.Phase
	already, err := c.Start(t.Context(), func(s control.Status) { phases = append(phases, s.Phase) })
	if err != nil || already {
		t.Fatal(already, err)
	}
	if phases[len(phases)-1] != control.Ready {
		t.Errorf("phases %v", phases)
	}
	first, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if already, err := c.Start(t.Context(), ignore); err != nil || !already {
		t.Errorf("a second start: %v, %v", already, err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.PID != first.PID {
		t.Errorf("the second start changed the supervisor: %d, before %d, %v", s.PID, first.PID, err)
	}
	found, err := c.Stop(t.Context(), time.Second, ignore)
	if err != nil || !found {
		t.Errorf("stop: %v, %v", found, err)
	}
	if _, err := os.Stat(filepath.Join(c.State, "cleaned")); err == nil {
		t.Error("an orderly end was cleaned up after")
	}
}

func TestTwoStartsAtOnce(t *testing.T) {
	c := fake(t, "late")
	results := make(chan error)
	for range 2 {
		go func() {
			_, err := c.Start(t.Context(), ignore)
			if s, statusErr := c.Status(t.Context()); err == nil && (statusErr != nil || s.Phase != control.Ready) {
				t.Errorf("a start came back while the cluster was %s: %v", s.Phase, statusErr)
			}
			results <- err
		}()
	}
	var failures int
	for range 2 {
		if err := <-results; err != nil {
			failures++
			if !strings.Contains(err.Error(), "is at work on the state folder") {
				t.Error(err)
			}
		}
	}
	if s, err := c.Status(t.Context()); err != nil || s.Phase != control.Ready || failures > 1 {
		t.Errorf("afterwards: %+v, %v; %d starts failed", s, err, failures)
	}
}

func TestAFailedStartTellsWhyAndTheNextOneWorks(t *testing.T) {
	for how, want := range map[string]string{
		"fail":        "port 6443 is taken by process 77",
		"crash":       "no space left on device",
		"crash later": "out of memory",
	} {
		t.Run(how, func(t *testing.T) {
			c := fake(t, how)
			_, err := c.Start(t.Context(), ignore)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v, want %q", err, want)
			}
			var advised interface{ Advice() string }
			if !errors.As(err, &advised) || !strings.Contains(advised.Advice(), c.Log()) {
				t.Errorf("the error does not name the log")
			}
			if pid, held, err := control.Holder(c.State); held || err != nil {
				t.Errorf("process %d of the failed start goes on: %v", pid, err)
			}
			t.Setenv("FAKE_NODE", "well")
			if _, err := c.Start(t.Context(), ignore); err != nil {
				t.Errorf("the next start: %v", err)
			}
		})
	}
}

// A supervisor that lost the race must not take over when the one that won is stopped.
func TestTheLoserOfTwoStartsGoesAway(t *testing.T) {
	c := fake(t, "one late, one later")
	began := time.Now()
	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := c.Start(t.Context(), ignore)
			results <- err
		}()
	}
	if err := errors.Join(<-results, <-results); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stop(t.Context(), 0, ignore); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(began.Add(2 * time.Second)))
	if pid, held, err := control.Holder(c.State); held || err != nil {
		t.Errorf("after the stop process %d runs a cluster: %v", pid, err)
	}
}

// A supervisor takes the lock before it answers: a start that comes in between waits for the answer.
func TestAStartWaitsForASupervisorThatJustBegan(t *testing.T) {
	c := fake(t, "well")
	if err := control.Create(c.State); err != nil {
		t.Fatal(err)
	}
	lock, err := control.Acquire(c.State)
	if err != nil {
		t.Fatal(err)
	}
	answer := http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"version":%d,"phase":"ready"}`, control.Version)
	})}
	go func() {
		time.Sleep(100 * time.Millisecond)
		l, err := net.Listen("unix", filepath.Join(c.State, "run", "control.sock"))
		if err != nil {
			t.Error(err)
			return
		}
		_ = answer.Serve(l) // ends by Close
	}()
	if already, err := c.Start(t.Context(), ignore); !already || err != nil {
		t.Errorf("got %v, %v", already, err)
	}
	if err := errors.Join(answer.Close(), lock.Release()); err != nil {
		t.Error(err)
	}
}

// A supervisor that has failed may live on, when whoever started it was killed: the next start takes its place.
func TestAFailedSupervisorIsReplaced(t *testing.T) {
	c := fake(t, "fail")
	if err := control.Create(c.State); err != nil {
		t.Fatal(err)
	}
	failed := exec.Command(c.Program, "run", "--state", c.State)
	if err := failed.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- failed.Wait() }()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if s, err := c.Status(t.Context()); err == nil && s.Phase == control.Failed {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not fail")
		}
	}
	t.Setenv("FAKE_NODE", "well")
	if already, err := c.Start(t.Context(), ignore); already || err != nil {
		t.Fatalf("%v, %v", already, err)
	}
	<-ended
	if s, err := c.Status(t.Context()); err != nil || s.Phase != control.Ready || s.PID == failed.Process.Pid {
		t.Errorf("afterwards: %+v, %v", s, err)
	}
}

func TestAnInterruptedStart(t *testing.T) {
	for _, how := range []string{"late", "forever"} {
		for _, after := range []time.Duration{0, 10 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond} {
			t.Run(fmt.Sprint(how, after), func(t *testing.T) {
				c := fake(t, how)
				ctx, cancel := context.WithTimeoutCause(t.Context(), after, errors.New("interrupted"))
				defer cancel()
				if _, err := c.Start(ctx, ignore); how == "forever" && (err == nil || !strings.Contains(err.Error(), "interrupted")) {
					t.Errorf("got %v", err)
				}
				if _, held, err := control.Holder(c.State); how == "forever" && (held || err != nil) {
					t.Errorf("the supervisor goes on: %v, %v", held, err)
				}
				t.Setenv("FAKE_NODE", "well")
				if _, err := c.Start(t.Context(), ignore); err != nil {
					t.Errorf("the next start: %v", err)
				}
			})
		}
	}
}

func TestStopKillsASupervisorThatDoesNotAnswer(t *testing.T) {
	c := fake(t, "well")
	if _, err := c.Start(t.Context(), ignore); err != nil {
		t.Fatal(err)
	}
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for stat := ""; !strings.Contains(stat, ") T "); { // all threads are stopped a moment later
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID))
		if err != nil {
			t.Skipf("needs /proc: %v", err)
		}
		stat = string(b)
	}
	found, err := c.Stop(t.Context(), 0, ignore)
	if err != nil || !found {
		t.Errorf("stop: %v, %v", found, err)
	}
	if _, held, err := control.Holder(c.State); held || err != nil {
		t.Errorf("process %d lives: %v", s.PID, err)
	}
	if _, err := os.Stat(filepath.Join(c.State, "cleaned")); err != nil {
		t.Error("what a killed supervisor left was not cleaned up")
	}
	if control.Leftover(c.State) {
		t.Error("the folder still tells of leftovers")
	}
}

func TestStopReportsWhatCannotBeCleaned(t *testing.T) {
	c := fake(t, "well")
	if _, err := c.Start(t.Context(), ignore); err != nil {
		t.Fatal(err)
	}
	if err := c.killSupervisor(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FAKE_NODE", "cannot clean")
	if _, err := c.Stop(t.Context(), 0, ignore); err == nil || !strings.Contains(err.Error(), "/dev/sda1 is busy") {
		t.Errorf("got %v", err)
	}
	if !control.Leftover(c.State) {
		t.Error("the folder forgot its leftovers")
	}
	t.Setenv("FAKE_NODE", "well")
}

func TestStopOfNothing(t *testing.T) {
	c := fake(t, "well")
	if found, err := c.Stop(t.Context(), 0, ignore); found || err != nil {
		t.Errorf("a folder that is not there: %v, %v", found, err)
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stop(t.Context(), 0, ignore); err == nil || !strings.Contains(err.Error(), "is not a state folder of weft") {
		t.Errorf("a foreign folder: %v", err)
	}
}

func TestPurge(t *testing.T) {
	c := fake(t, "well")
	if err := c.Purge(); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
	if _, err := c.Start(t.Context(), ignore); err != nil {
		t.Fatal(err)
	}
	if err := c.Purge(); err == nil || !strings.Contains(err.Error(), "is at work on the state folder") {
		t.Errorf("while the cluster runs: %v", err)
	}
	if _, err := c.Stop(t.Context(), 0, ignore); err != nil {
		t.Fatal(err)
	}
	if err := c.Purge(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	photos := filepath.Join(t.TempDir(), "photos")
	if err := os.MkdirAll(filepath.Join(photos, "2026"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (&Cluster{State: photos}).Purge(); err == nil || !strings.Contains(err.Error(), "is not a state folder") {
		t.Errorf("a foreign folder: %v", err)
	}
	if _, err := os.Stat(filepath.Join(photos, "2026")); err != nil {
		t.Error("a foreign folder was touched")
	}
}

func TestPurgeRefusesWhatIsMounted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	c := fake(t, "well")
	if err := control.Create(c.State); err != nil {
		t.Fatal(err)
	}
	inside, outside := filepath.Join(c.State, "pods", "a b"), t.TempDir()
	precious := filepath.Join(outside, "precious")
	for _, dir := range []string{inside, precious} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mount", "--bind", outside, inside).CombinedOutput(); err != nil {
		t.Skipf("mounting is not possible here: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", inside).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	if err := c.Purge(); err == nil || !strings.Contains(err.Error(), inside+" is still mounted") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error("a mounted folder was emptied")
	}
}

func TestMissingProgram(t *testing.T) {
	c := &Cluster{State: filepath.Join(t.TempDir(), "state"), NoProgram: &MissingProgramError{"/nowhere"}}
	var missing *MissingProgramError
	if _, err := c.Start(t.Context(), ignore); !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
}

func TestFindProgram(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "weft-node")
	self := filepath.Join(dir, "weft")
	env := map[string]string{}
	getenv := func(k string) string { return env[k] }
	if _, err := FindProgram(getenv, self); err == nil || !strings.Contains(err.Error(), program) {
		t.Errorf("without the program: %v", err)
	}
	if err := os.WriteFile(program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := FindProgram(getenv, self); err != nil || got != program {
		t.Errorf("beside: %q, %v", got, err)
	}
	link := filepath.Join(t.TempDir(), "kusion")
	if err := os.WriteFile(self, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	if got, err := FindProgram(getenv, link); err != nil || got != program {
		t.Errorf("through a link: %q, %v", got, err)
	}
	env["WEFT_NODE"] = "/nowhere/weft-node"
	if _, err := FindProgram(getenv, self); err == nil || !strings.Contains(err.Error(), "/nowhere/weft-node") {
		t.Errorf("a wrong variable: %v", err)
	}
}

func TestDefaultState(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HOME": "/home/a"}, "/home/a/.local/state/weft"},
		{map[string]string{"HOME": "/home/a", "XDG_STATE_HOME": "/var/x"}, "/var/x/weft"},
		{map[string]string{"HOME": "/home/a", "XDG_STATE_HOME": "relative"}, "/home/a/.local/state/weft"},
		{map[string]string{"HOME": "/home/a", "WEFT_STATE": "/s"}, "/s"},
		{nil, ""},
	} {
		got, err := DefaultState(func(k string) string { return test.env[k] })
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%v: got %q, %v", test.env, got, err)
		}
	}
}
