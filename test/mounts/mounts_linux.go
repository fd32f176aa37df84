// Package mounts keeps what tests mount away from the machine.
package mounts

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// inside is set in the program that has a mount namespace of its own.
const inside = "WEFT_TEST_MOUNTS"

// Private is a TestMain: it runs the tests in a mount namespace of their own.
func Private(m *testing.M) {
	Enter()
	os.Exit(m.Run())
}

// Enter goes on in a mount namespace of its own, in which this program is started again with the same arguments, and does not return otherwise. So no mount is
// left behind, whatever ends the tests, and no other program that makes itself a namespace meanwhile gets a copy of their mounts, which would
// keep them alive when they are unmounted here. Ordinary users mount nothing, and fuzzing starts programs of its own: both run as they are.
func Enter() {
	if os.Getuid() != 0 || os.Getenv(inside) != "" || strings.Contains(strings.Join(os.Args, " "), "-test.fuzz") {
		return
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "the tests in their own mount namespace:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
