package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test program be the agent: a process of its own can be killed.
func TestMain(m *testing.M) {
	if os.Getenv("LOGAGENT_TEST") == "run" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func agentCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "LOGAGENT_TEST=run")
	cmd.Stderr = os.Stderr
	return cmd
}

// sink is a server that counts lines, and fails as long as it is told to.
type sink struct {
	*httptest.Server
	mu     sync.Mutex
	seen   map[string]int
	status int
}

func newSink(t *testing.T) *sink {
	s := &sink{seen: map[string]int{}, status: 200}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil && s.status == 200 {
			lines := bufio.NewScanner(bytes.NewReader(body))
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				var line struct{ Log string }
				if json.Unmarshal(lines.Bytes(), &line) == nil {
					s.seen[line.Log]++
				}
			}
		}
		w.WriteHeader(s.status)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) port() string { return s.URL[strings.LastIndexByte(s.URL, ':')+1:] }

func (s *sink) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// count gives how many different lines came, and how many came more than once.
func (s *sink) count() (lines, again int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.seen {
		if n > 1 {
			again++
		}
	}
	return len(s.seen), again
}

func (s *sink) await(t *testing.T, want int) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		got, _ := s.count()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d different lines arrived, want %d", got, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

const toSink = `[SERVICE]
    Flush 0.05
    Grace 10
    Log_Level off
    Hot_Reload on
    scheduler.base 1
    scheduler.cap 1
STORAGE
[INPUT]
    Name tail
    Path DIR/*.log
    Tag t
    DB DIR/positions
    Read_from_Head on
    Refresh_Interval 1
    Rotate_Wait 1
    watcher_interval 0.1
INPUT
[OUTPUT]
    Name http
    Match *
    Port PORT
    format json_lines
    Retry_Limit no_limits
`

func configure(t *testing.T, dir, port, service, input string) string {
	t.Helper()
	name := filepath.Join(dir, "agent.conf")
	text := strings.NewReplacer("STORAGE\n", service, "INPUT\n", input, "PORT", port).Replace(toSink)
	if err := os.WriteFile(name, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// Lines are written and rotated while the agent is killed again and again, and its server fails at times. All lines arrive.
func TestKilledLosesNothing(t *testing.T) {
	for name, c := range map[string][2]string{
		"memory":     {"", ""},
		"filesystem": {"    storage.path DIR/storage\n", "    storage.type filesystem\n    Mem_Buf_Limit 64k\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, s := t.TempDir(), newSink(t)
			conf := configure(t, dir, s.port(), strings.ReplaceAll(c[0], "DIR", dir), c[1])
			total := killedWhileWriting(t, s, conf, filepath.Join(dir, "a.log"), 200*time.Millisecond)
			finish(t, s, conf, filepath.Join(dir, "a.log"), total)
		})
	}
}

// finish has one more agent bring what its killed ones left.
func finish(t *testing.T, s *sink, conf, name string, total int) {
	t.Helper()
	last := agentCommand("-c", conf)
	if err := last.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = last.Process.Kill() }()
	// One more line shows that it is up: a signal before would end it.
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("after\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s.await(t, total+1)
	_ = last.Process.Signal(syscall.SIGTERM)
	if err := last.Wait(); err != nil {
		t.Error(err)
	}
	_, again := s.count()
	t.Logf("%d lines, none lost, %d more than once", total, again)
}

// killedWhileWriting writes lines and rotates their file while the agent is killed again and again, each time after a little longer, and its server fails every
// other time. It gives the number of lines.
func killedWhileWriting(t *testing.T, s *sink, conf, name string, lives time.Duration) (total int) {
	t.Helper()
	written := make(chan int)
	go func() { written <- writeAndRotate(t, name) }()
	for kill := 0; total == 0 || kill < 5; kill++ {
		cmd := agentCommand("-c", conf)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if kill%2 == 1 {
			s.answer(503)
		}
		select {
		case total = <-written:
		case <-time.After(lives + time.Duration(kill)*60*time.Millisecond):
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		s.answer(200)
	}
	return total
}

func writeAndRotate(t *testing.T, name string) int {
	n := 0
	for file := range 4 {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Error(err)
			return n
		}
		for range 40 {
			var b strings.Builder
			for range 50 {
				fmt.Fprintf(&b, "line %d %s\n", n, strings.Repeat("x", n%200))
				n++
			}
			if _, err := io.WriteString(f, b.String()); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		f.Close()
		if file < 3 {
			// The old name matches no pattern: only the open file leads to its last lines. A reader that is killed now would need them, so they stay visible.
			if err := os.Rename(name, fmt.Sprintf("%s.%d.log", name, file)); err != nil {
				t.Error(err)
			}
		}
	}
	return n
}

// A reload in the middle neither loses nor doubles a line.
func TestReload(t *testing.T) {
	dir, s := t.TempDir(), newSink(t)
	conf := configure(t, dir, s.port(), "", "")
	cmd := agentCommand("-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	written := make(chan int)
	go func() { written <- writeAndRotate(t, filepath.Join(dir, "a.log")) }()
	total := 0
	for total == 0 {
		select {
		case total = <-written:
		case <-time.After(150 * time.Millisecond):
			if n, _ := s.count(); n > 0 { // it is up: a signal before would end it
				_ = cmd.Process.Signal(syscall.SIGHUP)
			}
		}
	}
	s.await(t, total)
	// A configuration with a mistake changes nothing.
	good, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, append(good, "[INPUT]\n    Name nosuch\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(syscall.SIGHUP)
	time.Sleep(200 * time.Millisecond)
	f, err := os.OpenFile(filepath.Join(dir, "a.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(f, "after\n")
	f.Close()
	s.await(t, total+1)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, again := s.count(); again > 0 {
		t.Errorf("%d lines arrived more than once", again)
	}
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.conf")
	if err := os.WriteFile(bad, []byte("[INPUT]\n    Name mqtt\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, taken, _ := net.SplitHostPort(listener.Addr().String())
	for _, c := range []struct {
		args string
		code int
		out  string
		err  string
	}{
		{"-h", 0, "Usage: logagent -c FILE", ""},
		{"-V", 0, "5.1.1", ""},
		{"-D -i dummy -o null", 0, "configuration test is successful", ""},
		{"--dry-run --config=" + bad, 1, "", "bad.conf:2:10: the input \"mqtt\" is not built into logagent"},
		{"-c " + dir + "/none.conf", 1, "", "none.conf"},
		{"-i", 1, "", "needs a value"},
		{"-x", 1, "", `there is no option "-x"`},
		{"-p a=b", 1, "", "stands before any -i"},
		{"", 1, "", "nothing to do"},
		{"-i dummy -p samples=x -o null -D", 1, "", "command line:1:1"},
		{"-q -i dummy -H -P " + taken + " -o null", 255, "", "address already in use"},
		{"-q -i tcp -p port=" + taken + " -o null", 255, "", "address already in use"},
	} {
		var out, errs bytes.Buffer
		cmd := agentCommand(strings.Fields(c.args)...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.err) {
			t.Errorf("%s: %d, %q, %q", c.args, code, out.String(), errs.String())
		}
	}
}

func TestInputsAndOutputsOfTheCommandLine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(name, []byte("hello\nbye\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := agentCommand("-q", "-i", "tail", "-p", "path="+name, "-p", "read_from_head=on", "-p", "exit_on_eof=on", "-t", "x", "-F", "grep", "-m", "*", "-p", "exclude=log bye",
		"-o", "stdout", "-p", "format=json_lines", "-p", "json_date_key=off", "-f", "0.1")
	out, err := cmd.Output()
	if err != nil || string(out) != "{\"log\":\"hello\"}\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// Records are shown to the agent's own user, also after a reload, and to nobody where --tap is missing.
func TestTap(t *testing.T) {
	dir, s := t.TempDir(), newSink(t)
	conf, socket := configure(t, dir, s.port(), "", "    Alias mine\n"), filepath.Join(dir, "tap")
	cmd := agentCommand("-c", conf, "--tap", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	log := filepath.Join(dir, "a.log")
	line := func(text string) {
		f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.WriteString(f, text+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	line("one")
	s.await(t, 1)
	reader := agentCommand("--tap-read", socket, "--tap-query", "point=mine&where=log=three")
	out, err := reader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(syscall.SIGHUP)
	seen := make(chan string, 1)
	go func() {
		in := bufio.NewScanner(out)
		in.Scan()
		seen <- in.Text()
	}()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		line("two")
		line("three")
		select {
		case got := <-seen:
			if !strings.Contains(got, `"point":"input/mine","tag":"t"`) || !strings.Contains(got, `"record":{"log":"three"}`) {
				t.Errorf("got %s", got)
			}
		case <-time.After(100 * time.Millisecond):
			if time.Now().After(deadline) {
				t.Fatal("nothing was shown")
			}
			continue
		}
		break
	}
	_ = reader.Process.Signal(syscall.SIGTERM)
	if err := reader.Wait(); err != nil {
		t.Error(err)
	}
	points, err := agentCommand("--tap-read", socket).Output()
	if err != nil || !strings.Contains(string(points), `{"kind":"output","name":"http.0"}`) {
		t.Errorf("%s, %v", points, err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket stayed")
	}
}
