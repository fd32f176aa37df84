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
	specFile   = 3 // the keeper reads the Spec here, the gate too
	statusFile = 4 // both write reports here
)

// Main is the whole of the program cmd/sandbox. It returns the exit code.
func Main(args []string) int {
	if len(args) != 2 || (args[1] != "keeper" && args[1] != "gate") {
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
		if args[1] == "gate" {
			err = gate(spec)
		} else {
			err = keeper(spec, status)
		}
	}
	if err != nil {
		_ = json.NewEncoder(status).Encode(report{Error: err.Error()})
		return 1
	}
	return 0
}

// keeper starts the gate in a user namespace that owns none of the other namespaces, builds the root meanwhile, lets the gate go on,
// and waits.
func keeper(spec Spec, status *os.File) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := privateMounts(); err != nil {
		return err
	}
	pid, gate, err := startGate(spec)
	if err != nil {
		return err
	}
	if err := prepare(spec); err != nil {
		return err // and PID 1 takes the gate with it
	}
	spec.Mounts, spec.Root = nil, Mount{}
	if err := errors.Join(json.NewEncoder(gate).Encode(spec), gate.Close()); err != nil {
		return fmt.Errorf("start: %w", err)
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

// gateEnv is the environment of keeper and gate: one processor, no collection of garbage, no reading of control groups. They live for
// a moment.
var gateEnv = []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"}

// startGate starts the gate, which waits until it can read what to run. It has no right over anything but itself and comes along when
// the root changes.
func startGate(spec Spec) (int, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	hostUID, hostGID := spec.HostUID, spec.HostGID
	if spec.Rootless {
		hostUID, hostGID = 0, 0 // the only one mapped in the keeper's user namespace
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"sandbox", "gate"}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   gateEnv,
		Files: []uintptr{0, 1, 2, r.Fd(), statusFile},
		Sys: &syscall.SysProcAttr{
			Cloneflags:                 syscall.CLONE_NEWUSER,
			UidMappings:                []syscall.SysProcIDMap{{ContainerID: spec.UID, HostID: hostUID, Size: 1}},
			GidMappings:                []syscall.SysProcIDMap{{ContainerID: spec.GID, HostID: hostGID, Size: 1}},
			Credential:                 &syscall.Credential{Uid: uint32(spec.UID), Gid: uint32(spec.GID), NoSetGroups: true},
			GidMappingsEnableSetgroups: false,
			Pdeathsig:                  syscall.SIGKILL,
		},
	})
	r.Close()
	if err != nil {
		w.Close()
		return 0, nil, fmt.Errorf("user namespace of the program: %w", err)
	}
	return pid, w, nil
}

// gate gives up what is left and becomes the program.
func gate(spec Spec) error {
	if os.Getuid() != spec.UID || os.Getgid() != spec.GID {
		return fmt.Errorf("the program would run as %d:%d instead of %d:%d", os.Getuid(), os.Getgid(), spec.UID, spec.GID)
	}
	if err := setRlimits(spec.Limits); err != nil {
		return err
	}
	if err := os.Chdir(spec.Dir); err != nil {
		return fmt.Errorf("working folder: %w", err)
	}
	unix.Umask(0o022)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := dropCapabilities(); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if err := unix.CloseRange(5, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	if err := loadFilter(); err != nil {
		return fmt.Errorf("system call filter: %w", err)
	}
	err := syscall.Exec(spec.Args[0], spec.Args, spec.Env)
	return fmt.Errorf("%s: %w", spec.Args[0], execHint(spec.Args[0], err))
}

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

func setRlimits(l Limits) error {
	set := func(what int, value int64) error {
		if value == 0 {
			return nil
		}
		var current unix.Rlimit
		if err := unix.Getrlimit(what, &current); err != nil {
			return err
		}
		v := min(uint64(value), current.Max)
		return unix.Setrlimit(what, &unix.Rlimit{Cur: v, Max: v})
	}
	return errors.Join(set(unix.RLIMIT_NPROC, l.Processes), set(unix.RLIMIT_FSIZE, l.FileSize), set(unix.RLIMIT_NOFILE, l.Files),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
}

func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
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
