package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A Runner starts sandboxes.
type Runner struct {
	Program string // path of the program cmd/sandbox
	Scratch string // folder for mount points; they vanish with the sandbox, the empty folders are removed
}

// report is what the keeper says on the status pipe.
type report struct {
	Error  string  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"`
}

// Run runs the program of spec to its end and returns how it ended. An error means that it never started or that ctx ended; nothing
// that it started lives on after Run returns.
func (r Runner) Run(ctx context.Context, spec Spec, stdin io.Reader, stdout, stderr io.Writer) (Status, error) {
	if err := spec.validate(); err != nil {
		return Status{}, err
	}
	spec.Rootless = os.Geteuid() != 0
	mountpoint, err := os.MkdirTemp(r.Scratch, "root-")
	if err != nil {
		return Status{}, fmt.Errorf("sandbox: %w", err)
	}
	defer os.Remove(mountpoint)
	spec.Mountpoint = mountpoint

	parent := ctx
	if spec.Limits.Time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, spec.Limits.Time)
		defer cancel()
	}
	specR, specW, err := os.Pipe()
	if err != nil {
		return Status{}, fmt.Errorf("sandbox: %w", err)
	}
	defer specW.Close()
	statusR, statusW, err := os.Pipe()
	if err != nil {
		specR.Close()
		return Status{}, fmt.Errorf("sandbox: %w", err)
	}
	defer statusR.Close()

	cmd := exec.CommandContext(ctx, r.Program, "keeper")
	cmd.Env = keeperEnv
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	cmd.ExtraFiles = []*os.File{specR, statusW}
	cmd.WaitDelay = 2 * time.Second
	cmd.SysProcAttr = namespaces(spec)
	err = cmd.Start()
	specR.Close()
	statusW.Close()
	if err != nil {
		return Status{}, startError(err, spec.Rootless, r.Program)
	}
	group, groupErr := newGroup(spec.Limits, cmd.Process.Pid)
	defer group.close()
	if groupErr == nil {
		groupErr = json.NewEncoder(specW).Encode(spec)
	}
	specW.Close()
	if groupErr != nil {
		_ = cmd.Process.Kill()
	}
	reports, readErr := readReports(statusR)
	waitErr := cmd.Wait()
	if groupErr != nil {
		return Status{}, fmt.Errorf("sandbox: %w", groupErr)
	}
	if parent.Err() != nil {
		return Status{}, parent.Err()
	}
	if ctx.Err() != nil {
		return Status{Code: 128 + int(syscall.SIGKILL), Signal: "killed", Killed: "time limit"}, nil
	}
	return conclude(reports, readErr, waitErr, group.outOfMemory())
}

func namespaces(spec Spec) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if !spec.Network {
		attr.Cloneflags |= syscall.CLONE_NEWNET
	}
	if spec.Rootless {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

func startError(err error, rootless bool, program string) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sandbox: the program %s is missing; build it with `make build`", program)
	}
	if rootless && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL)) {
		return fmt.Errorf("sandbox: %w: the kernel does not let ordinary users make user namespaces (%w); "+
			"set kernel.unprivileged_userns_clone=1 and user.max_user_namespaces, or run as root", ErrUnavailable, err)
	}
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("sandbox: %w: namespaces are forbidden here, perhaps this is a container without CAP_SYS_ADMIN (%w)", ErrUnavailable, err)
	}
	return fmt.Errorf("sandbox: %w", err)
}

func readReports(r io.Reader) ([]report, error) {
	var all []report
	dec := json.NewDecoder(io.LimitReader(r, 1<<20))
	for {
		var one report
		err := dec.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, one)
	}
}

func conclude(reports []report, readErr, waitErr error, outOfMemory bool) (Status, error) {
	for _, one := range reports {
		if one.Error != "" {
			return Status{}, errors.New("sandbox: " + strings.TrimPrefix(one.Error, "sandbox: "))
		}
	}
	for _, one := range reports {
		if one.Status != nil {
			if outOfMemory && one.Status.Code != 0 {
				one.Status.Killed = "memory limit"
			}
			return *one.Status, nil
		}
	}
	if outOfMemory {
		return Status{Code: 128 + int(syscall.SIGKILL), Signal: "killed", Killed: "memory limit"}, nil
	}
	return Status{}, fmt.Errorf("sandbox: it ended without a word (%w)", errors.Join(waitErr, readErr))
}
