package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeUser gives up root's rights for good. Programs of the same user cannot read this process' environment and memory, where
// credentials are.
func becomeUser(uid, gid int) error {
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return err
	}
	if err := syscall.Setgid(gid); err != nil {
		return err
	}
	if err := syscall.Setuid(uid); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
