//go:build linux

package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The test program is weft-init itself when it is told so.
func TestMain(m *testing.M) {
	if os.Getenv("WEFT_INIT_TEST") != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func weftInit(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "WEFT_INIT_TEST=1")
	return cmd
}

func code(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		want int
		args []string
	}{
		{0, []string{"true"}},
		{7, []string{"--", "sh", "-c", "exit 7"}},
		{137, []string{"sh", "-c", "kill -9 $$"}},
		{127, []string{"no-such-program"}},
		{126, []string{"/etc"}},
		{2, nil},
		{2, []string{"--"}},
		{0, []string{"--help"}},
	} {
		if got := code(weftInit(c.args...).Run()); got != c.want {
			t.Errorf("%q: exit code %d, expected %d", c.args, got, c.want)
		}
	}
}

// inNamespace runs weft-init as the first process of a namespace, where the
// kernel ignores signals without a handler, and waits for the first line.
func inNamespace(t *testing.T, script string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a process namespace")
	}
	cmd := weftInit("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(out)
	if line, err := reader.ReadString('\n'); err != nil || line != "started\n" {
		t.Fatalf("%q %v", line, err)
	}
	return cmd, reader
}

func TestFirstProcessEndsOnTerm(t *testing.T) {
	cmd, _ := inNamespace(t, "echo started; while true; do sleep 0.1; done")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := code(cmd.Wait()); got != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, expected 143", got)
	}
}

func TestSignalsReachTheProgram(t *testing.T) {
	cmd, out := inNamespace(t, `trap 'echo got usr1' USR1; trap 'echo got term; exit 3' TERM; echo started; while true; do sleep 0.05; done`)
	for signal, want := range map[syscall.Signal]string{syscall.SIGUSR1: "got usr1\n"} {
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if line, err := out.ReadString('\n'); err != nil || line != want {
			t.Errorf("%q %v, expected %q", line, err, want)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := code(cmd.Wait()); got != 3 {
		t.Errorf("exit code %d, expected the program's 3", got)
	}
}

// An orphan is adopted and reaped, so no zombie stays.
func TestOrphansAreReaped(t *testing.T) {
	cmd, out := inNamespace(t, `mount --make-rprivate / && mount -t proc proc /proc || exit 1
		(sleep 0.1 &); echo started; sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l`)
	line, err := out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "0" {
		t.Errorf("zombies: %q %v", line, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
