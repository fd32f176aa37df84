package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/sandbox"
)

// Layers come back by mounting where this program may mount: then it runs in a mount namespace of its own, so that nothing is left
// when it ends, however that happens. What programs change lies in the layers folder itself, which is the upper side of the mounts.

// envMounts says to the program that it has a mount namespace of its own.
const envMounts = "WEFT_LIFECYCLE_MOUNTS"

// overlayDir is where the kernel keeps what it needs for overlays. It lies in the layers folder, for that has to be the same mount.
const overlayDir = ".weft-overlay"

// mayMount says whether this process may mount.
func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// isolate runs the program again in a mount namespace of its own and gives its exit code; ok is false if that is not possible.
func isolate(ctx context.Context, s *session, args []string) (code int, ok bool) {
	if s.get("cache-dir") == "" || !mayMount() {
		return 0, false
	}
	if _, err := os.Stat(filepath.Join(s.get("cache-dir"), "committed")); err != nil {
		return 0, false // nothing will come back
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Env = append(os.Environ(), envMounts+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, s.stdout, s.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the kernel takes the end of the thread that started it for the end of the parent
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, false
	}
	err := cmd.Wait()
	_ = os.RemoveAll(filepath.Join(s.get("layers"), overlayDir))
	if cmd.ProcessState == nil {
		fmt.Fprintf(s.stderr, "ERROR: %v\n", err)
		return codeFailed, true
	}
	if status, isWait := cmd.ProcessState.Sys().(syscall.WaitStatus); isWait && status.Signaled() {
		return 128 + int(status.Signal()), true
	}
	return cmd.ProcessState.ExitCode(), true
}

// mounts are the overlays of this process over the layers folders of buildpacks.
type mounts struct {
	layers string
	upper  map[string]*os.Root // by the folder's name
	below  lifecycle.Below
}

// newMounts gives nil if this process has no mount namespace of its own.
func newMounts(layers string) *mounts {
	if os.Getenv(envMounts) == "" {
		return nil
	}
	return &mounts{layers: layers, upper: map[string]*os.Root{}, below: lifecycle.Below{}}
}

// add mounts lower below the layers folder of a buildpack.
func (m *mounts) add(dir string, lower []string) error {
	at, work := filepath.Join(m.layers, dir), filepath.Join(m.layers, overlayDir, dir)
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o755)); err != nil {
		return err
	}
	upper, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	err = sandbox.MountOverlay(sandbox.Mount{Lower: lower, Upper: at, Work: work}, at)
	if err != nil {
		upper.Close()
		return err
	}
	m.upper[dir] = upper
	return nil
}

// mount is add with the right to mount, which this process otherwise does not use.
func (m *mounts) mount(dir string, lower []string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if len(m.upper) == 0 {
		// Nothing that is mounted here may reach the machine.
		if err := withMountRight(func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }); err != nil {
			return err
		}
	}
	return withMountRight(func() error { return m.add(dir, lower) })
}

// unchanged says that programs have not touched a layer that was mounted.
func (m *mounts) unchanged(key string) bool {
	dir, name, _ := strings.Cut(key, "/")
	upper := m.upper[dir]
	if upper == nil || m.below[key] == "" {
		return false
	}
	_, err := upper.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// capabilities of the calling thread.
func setCapabilities(permitted, effective uint32) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Permitted: permitted, Effective: effective}}
	return unix.Capset(&header, &data[0])
}

// withMountRight lets the calling thread, which the caller has locked, mount while f runs. Root can do that anyhow.
func withMountRight(f func() error) error {
	if os.Geteuid() == 0 {
		return f()
	}
	if err := setCapabilities(1<<unix.CAP_SYS_ADMIN, 1<<unix.CAP_SYS_ADMIN); err != nil {
		return err
	}
	return errors.Join(f(), setCapabilities(1<<unix.CAP_SYS_ADMIN, 0))
}

// keepMountRight lets all threads keep the right to mount, without using it, when they become another user.
func keepMountRight(become func() error) error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); errno != 0 {
		return errno
	}
	if err := become(); err != nil {
		return err
	}
	if err := allThreadsCapabilities(1 << unix.CAP_SYS_ADMIN); err != nil {
		return err
	}
	// Becoming another user has also taken off that this process ends with the one that started it.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0); errno != 0 {
		return errno
	}
	return nil
}

// dropMountRight takes the right away for good.
func dropMountRight() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return allThreadsCapabilities(0)
}

func allThreadsCapabilities(permitted uint32) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Permitted: permitted}}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&data)
	if errno != 0 {
		return errno
	}
	return nil
}
