package supervise

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttr gives the child a process group of its own, so that a Ctrl-C on the terminal does not reach it, and lets the
// kernel kill it when its supervisor dies.
func childAttr(base *syscall.SysProcAttr) *syscall.SysProcAttr {
	attr := syscall.SysProcAttr{}
	if base != nil {
		attr = *base
	}
	attr.Setpgid = !attr.Setsid // a new session is a new group already
	if attr.Pdeathsig == 0 {
		attr.Pdeathsig = syscall.SIGKILL
	}
	return &attr
}

func onMainThread() bool { return unix.Gettid() == unix.Getpid() }

// waitUnreaped returns when the child has ended and leaves it as a zombie, which keeps its number from being used again.
func waitUnreaped(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return // cmd.Wait meets and reports any other error
		}
	}
}

// killGroup kills what is left of the child's process group.
func killGroup(pid int) {
	_ = unix.Kill(-pid, unix.SIGKILL) // ESRCH: nothing is left
}
