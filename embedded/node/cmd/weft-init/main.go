//go:build linux

// Command weft-init is a small first process for containers.
//
//	weft-init [--] PROGRAM [ARGUMENT...]
//
// It starts PROGRAM in a process group of its own, forwards every signal it
// gets to it, reaps orphans, and exits as PROGRAM did (128 plus the signal's
// number when a signal ended it). A program that installs no SIGTERM handler
// is ended by SIGTERM when it runs under weft-init, while as the first process
// of a container the kernel would ignore the signal for it.
//
// Exit codes of its own: 2 wrong usage, 126 PROGRAM cannot be executed,
// 127 PROGRAM not found.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

const usage = "usage: weft-init [--] PROGRAM [ARGUMENT...]"

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) > 0 && (args[0] == "-h" || args[0] == "--help") {
		fmt.Println(usage)
		return 0
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, usage)
		return 2
	}
	path, err := exec.LookPath(args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return failed(args[0], err)
	}

	// Before the start, so that no signal in between is lost.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	child, err := start(path, args)
	if err != nil {
		return failed(args[0], err)
	}
	if code, ended := reap(child); ended {
		return code
	}
	for s := range signals {
		switch s {
		case syscall.SIGCHLD:
			if code, ended := reap(child); ended {
				return code
			}
		case syscall.SIGURG: // the Go scheduler's own preemption signal
		case syscall.SIGTTIN, syscall.SIGTTOU: // meant for us, a background group
		default:
			// The only possible error is that the child has just ended,
			// which the SIGCHLD on its way reports.
			_ = syscall.Kill(child, s.(syscall.Signal))
		}
	}
	return 0
}

// start runs the program; with a terminal on standard input its process group
// becomes the terminal's foreground group, so that Ctrl-C and job control work.
func start(path string, args []string) (pid int, err error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if isTerminal(0) {
		attr.Foreground, attr.Ctty = true, 0
	}
	files := []uintptr{0, 1, 2}
	return syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: files, Sys: attr})
}

// reap collects all ended children and tells whether the given one is among
// them and how it ended.
func reap(child int) (code int, ended bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case pid <= 0:
			return code, ended
		case pid == child && status.Signaled():
			code, ended = 128+int(status.Signal()), true
		case pid == child && status.Exited():
			code, ended = status.ExitStatus(), true
		}
	}
}

func failed(program string, err error) int {
	fmt.Fprintf(os.Stderr, "weft-init: cannot start %q: %v\n", program, err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return 127
	}
	return 126
}
