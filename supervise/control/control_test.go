package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func newState(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := Create(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func listenOn(t *testing.T, state string) *Server {
	t.Helper()
	s, err := Listen(state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStatusAndStop(t *testing.T) {
	state := newState(t)
	client := NewClient(state)
	if _, err := client.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a supervisor: %v", err)
	}
	server := listenOn(t, state)
	server.Publish(Status{Phase: Ready, Kubernetes: "v1.37.2", Components: []Component{{Name: "etcd", State: "running"}}})
	got, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Phase != Ready || got.Kubernetes != "v1.37.2" || len(got.Components) != 1 || got.Version != Version {
		t.Errorf("status %+v", got)
	}
	if err := client.Stop(t.Context(), StopRequest{GraceSeconds: 2.5}); err != nil {
		t.Fatal(err)
	}
	if r := <-server.Stops(); r.GraceSeconds != 2.5 {
		t.Errorf("stop request %+v", r)
	}
	if err := client.Stop(t.Context(), StopRequest{GraceSeconds: -1}); err == nil || !strings.Contains(err.Error(), "graceSeconds: must not be negative") {
		t.Errorf("a negative grace period: %v", err)
	}
}

func TestEventsEndWithTheNewestStatus(t *testing.T) {
	state := newState(t)
	server := listenOn(t, state)
	var phases []Phase
	for s, err := range NewClient(state).Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		phases = append(phases, s.Phase)
		switch s.Phase {
		case Starting:
			server.Publish(Status{Phase: Ready})
		case Ready:
			server.Publish(Status{Phase: Stopping})
			go func() {
				if err := server.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
	}
	if want := []Phase{Starting, Ready, Stopping}; fmt.Sprint(phases) != fmt.Sprint(want) {
		t.Errorf("phases %v, want %v", phases, want)
	}
	if err := WaitReleased(t.Context(), state); err != nil {
		t.Error(err)
	}
	if Leftover(state) {
		t.Error("the folder tells of leftovers after an orderly end")
	}
}

func TestEventsEndWithTheirContext(t *testing.T) {
	state := newState(t)
	listenOn(t, state)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range NewClient(state).Events(ctx) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v", last)
	}
}

// TestManyReaders is for the race detector: everybody who follows sees the last of many changes.
func TestManyReaders(t *testing.T) {
	state := newState(t)
	server := listenOn(t, state)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for s, err := range NewClient(state).Events(t.Context()) {
				if err != nil {
					t.Error(err)
					return
				}
				if s.Phase == Ready {
					return
				}
			}
			t.Error("the stream ended before the last change")
		})
	}
	for i := range 500 {
		server.Publish(Status{Phase: Starting, Steps: []Step{{Name: fmt.Sprint(i)}}})
	}
	server.Publish(Status{Phase: Ready})
	wg.Wait()
}

func TestALongStateFolder(t *testing.T) {
	state := filepath.Join(t.TempDir(), strings.Repeat("a-long-name/", 15))
	if err := Create(state); err != nil {
		t.Fatal(err)
	}
	server := listenOn(t, state)
	server.Publish(Status{Phase: Ready})
	if s, err := NewClient(state).Status(t.Context()); err != nil || s.Phase != Ready {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(state, "run", "control.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestOnlyTheOwnerReachesTheSocket(t *testing.T) {
	state := newState(t)
	listenOn(t, state)
	for path, want := range map[string]os.FileMode{"": 0o700, "run": 0o700, "run/control.sock": 0o600, "run/lock": 0o600} {
		info, err := os.Stat(filepath.Join(state, path))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %v, want %v", path, got, want)
		}
	}
}

func TestTwoSupervisorsOfOneFolder(t *testing.T) {
	state := newState(t)
	listenOn(t, state)
	_, err := Listen(state)
	var held *HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("the second supervisor: %v", err)
	}
	if pid, isHeld, err := Holder(state); pid != os.Getpid() || !isHeld || err != nil {
		t.Errorf("holder: %d %v %v", pid, isHeld, err)
	}
}

// TestMain lets the test binary stand for a supervisor that is killed.
func TestMain(m *testing.M) {
	if state := os.Getenv("CONTROL_TEST_STATE"); state != "" {
		if _, err := Listen(state); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("listening")
		select {}
	}
	os.Exit(m.Run())
}

func TestAKilledSupervisorLeavesNoObstacle(t *testing.T) {
	state := newState(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CONTROL_TEST_STATE="+state)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if _, err := io.ReadFull(out, b); err != nil {
		t.Fatal(err)
	}
	if pid, held, err := Holder(state); pid != cmd.Process.Pid || !held || err != nil {
		t.Errorf("while it runs: %d %v %v", pid, held, err)
	}
	var cut error
	for _, err := range NewClient(state).Events(t.Context()) {
		if cut = err; err != nil {
			break
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if cut != nil {
		t.Errorf("the stream of a killed supervisor ended with %v", cut)
	}
	_ = cmd.Wait() // it was killed
	if _, err := NewClient(state).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("status after the kill: %v", err)
	}
	if !Leftover(state) {
		t.Error("the folder does not tell that its supervisor was killed")
	}
	if pid, held, err := Holder(state); held || err != nil {
		t.Errorf("the lock is still held by %d, %v", pid, err)
	}
	listenOn(t, state)
}

func TestANewerSupervisorIsRefused(t *testing.T) {
	state := newState(t)
	answerWith(t, state, fmt.Sprintf(`{"version":%d,"phase":"ready"}`, Version+1))
	if _, err := NewClient(state).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "newer weft") {
		t.Errorf("got %v", err)
	}
}

func TestAnAnswerThatIsNoStatus(t *testing.T) {
	state := newState(t)
	answerWith(t, state, `<html>`)
	if _, err := NewClient(state).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("got %v", err)
	}
}

// answerWith serves a fixed body on the control socket.
func answerWith(t *testing.T, state, body string) {
	t.Helper()
	if err := os.MkdirAll(runDir(state), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(runDir(state), socketName))
	if err != nil {
		t.Fatal(err)
	}
	s := http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
}

func TestCreateAndCheck(t *testing.T) {
	dir := t.TempDir()
	mark := func(name, content string) string {
		folder := filepath.Join(dir, name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, MarkName), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return folder
	}
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "holiday photos"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	halfMade := filepath.Join(dir, "half")
	if err := os.MkdirAll(halfMade, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(halfMade, "."+MarkName), []byte(`{"form`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, dir, create, check string }{
		{"new", filepath.Join(dir, "a", "b"), "", ""},
		{"interrupted before", halfMade, "", ""},
		{"foreign folder", full, "is not empty: choose another", "is not a state folder of weft"},
		{"a file", file, "make the state folder", "is not a state folder of weft"},
		{"version 1", mark("v1", `{"format":"weft-state","version":1}`), "", ""},
		{"newer", mark("v2", `{"format":"weft-state","version":2}`), "made by a newer weft", "made by a newer weft"},
		{"another mark", mark("other", `{"format":"helm"}`), "is not a state folder", "is not a state folder"},
		{"a broken mark", mark("broken", `{`), "is not a state folder", "is not a state folder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			expect(t, "Create", Create(test.dir), test.create)
			expect(t, "Check", Check(test.dir), test.check)
		})
	}
}

func expect(t *testing.T, what string, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: got error %v, want %q", what, err, want)
	}
}

// FuzzDecode holds that no answer of a supervisor makes the client panic or accept a newer version.
func FuzzDecode(f *testing.F) {
	good, err := json.Marshal(Status{Version: 1, Phase: Ready})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"components":[{"pid":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decode(b); err == nil && s.Version > Version {
			t.Errorf("accepted version %d", s.Version)
		}
	})
}
