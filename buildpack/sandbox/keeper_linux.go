package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	specFile   = 3 // the keeper reads the Spec here
	statusFile = 4 // and writes reports here
)

// Main is the whole of the program cmd/sandbox. It returns the exit code.
func Main(args []string) int {
	if len(args) != 2 || args[1] != "keeper" {
		fmt.Fprintln(os.Stderr, "sandbox is started by weft; it has no use of its own")
		return 2
	}
	runtime.LockOSThread()
	status := os.NewFile(statusFile, "status")
	var spec Spec
	err := json.NewDecoder(os.NewFile(specFile, "spec")).Decode(&spec)
	unix.CloseOnExec(specFile)
	unix.CloseOnExec(statusFile)
	if err == nil {
		err = keeper(spec, status)
	}
	if err != nil {
		_ = json.NewEncoder(status).Encode(report{Error: err.Error()})
		return 1
	}
	return 0
}

// keeper builds the root, starts the program and waits.
func keeper(spec Spec, status *os.File) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := privateMounts(); err != nil {
		return err
	}
	if err := prepare(spec); err != nil {
		return err
	}
	if err := unix.CloseRange(5, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	pid, err := startProgram(spec)
	if err != nil {
		return err // and PID 1 takes with it what there is of the program
	}
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		if got != pid {
			continue // an orphan of the program
		}
		result := Status{Code: ws.ExitStatus()}
		if ws.Signaled() {
			result = Status{Code: 128 + int(ws.Signal()), Signal: ws.Signal().String()}
		}
		return json.NewEncoder(status).Encode(report{Status: &result})
	}
}

// prepare makes the sandbox what the program is to see.
func prepare(spec Spec) error {
	if err := buildRoot(spec); err != nil {
		return err
	}
	if spec.Hostname != "" {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("host name: %w", err)
		}
	}
	if !spec.Network {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
	}
	return nil
}

// keeperEnv is the environment of the keeper: one processor, no collection of garbage, no reading of control groups. It lives for a
// moment.
var keeperEnv = []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"}

// execHint says what is behind the kernel's "no such file" for a script whose interpreter is missing.
func execHint(program string, err error) error {
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	f, openErr := os.Open(program)
	if openErr != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 128)
	n, readErr := io.ReadFull(f, head)
	if readErr != nil && !errors.Is(readErr, io.ErrUnexpectedEOF) {
		return err
	}
	if line, _, _ := strings.Cut(string(head[:n]), "\n"); strings.HasPrefix(line, "#!") {
		return fmt.Errorf("its interpreter %s is missing in the build image", strings.TrimSpace(line[2:]))
	}
	return err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// inside gives the path of target below the root that is being put together. Every element must be a real folder: a symbolic link
// of the build image must not lead a mount out of it.
func inside(root, target string, folder bool) (string, error) {
	parts := strings.Split(strings.Trim(target, "/"), "/")
	at := root
	for i, part := range parts {
		at = filepath.Join(at, part)
		last := i == len(parts)-1
		info, err := os.Lstat(at)
		switch {
		case err == nil && info.Mode()&os.ModeSymlink != 0:
			return "", fmt.Errorf("%s is a symbolic link in the build image, nothing can be mounted there", target)
		case err == nil:
			continue
		case !errors.Is(err, os.ErrNotExist):
			return "", err
		}
		if last && !folder {
			f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL, 0o644)
			if err != nil {
				return "", err
			}
			f.Close()
			continue
		}
		if err := os.Mkdir(at, 0o755); err != nil {
			return "", err
		}
	}
	return at, nil
}
