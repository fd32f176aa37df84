//go:build linux

package main

import "golang.org/x/sys/unix"

// isTerminal reports whether the file descriptor is this process's
// controlling terminal.
func isTerminal(fd int) bool {
	_, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil
}
