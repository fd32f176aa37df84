//go:build !linux

package supervise

import "syscall"

// childAttr gives the child a process group of its own, so that a Ctrl-C on the terminal does not reach it. Only Linux can
// kill a child at the death of its parent.
func childAttr(base *syscall.SysProcAttr) *syscall.SysProcAttr {
	attr := syscall.SysProcAttr{}
	if base != nil {
		attr = *base
	}
	attr.Setpgid = !attr.Setsid
	return &attr
}

func onMainThread() bool { return false }

func waitUnreaped(int) {}

func killGroup(int) {}
