// Package sandbox runs one program of somebody else isolated from the machine: an ordinary user in namespaces of its own, over a
// root folder put together from read-only folders, without capabilities, with a system call filter and with limits.
//
// One process stands between the caller and the program, the small program cmd/sandbox. The keeper is PID 1 of the sandbox: it mounts,
// starts the program as a copy of itself that gives up what is left and calls execve, waits and reaps. It never shares a user with
// the program.
//
// The package knows nothing of buildpacks, images or registries.
package sandbox

import (
	"errors"
	"fmt"
	"path"
	"time"
)

// Kinds of Mount.
const (
	Bind    = "bind"    // a file or folder of the machine
	Tmpfs   = "tmpfs"   // an empty folder in memory
	Overlay = "overlay" // Upper over Lower
)

// A Mount makes something visible at Target inside the sandbox. Missing targets are created.
type Mount struct {
	Kind     string `json:"kind"`
	Target   string `json:"target"`             // absolute path inside
	Source   string `json:"source,omitempty"`   // Bind: path on the machine
	ReadOnly bool   `json:"readOnly,omitempty"` // Bind
	Mode     uint32 `json:"mode,omitempty"`     // Tmpfs: permission bits, default 0755
	Size     int64  `json:"size,omitempty"`     // Tmpfs: bytes, 0 means the kernel's default

	Lower []string `json:"lower,omitempty"` // Overlay: topmost first
	Upper string   `json:"upper,omitempty"` // Overlay: takes the writes
	Work  string   `json:"work,omitempty"`  // Overlay: empty, on the file system of Upper
}

// Limits bound what the program may use. Zero means no limit of ours.
type Limits struct {
	Memory    int64         `json:"memory,omitempty"`    // bytes, all processes together; needs a writable cgroup
	Processes int64         `json:"processes,omitempty"` // processes and threads together
	CPUs      float64       `json:"cpus,omitempty"`      // cores; needs a writable cgroup
	FileSize  int64         `json:"fileSize,omitempty"`  // bytes of one file
	Files     int64         `json:"files,omitempty"`     // open files of one process
	Time      time.Duration `json:"time,omitempty"`      // wall time after which everything inside is killed
}

// Spec says what to run and what it may see.
type Spec struct {
	Root     Mount    `json:"root"` // kind Overlay; Target is ignored
	Mounts   []Mount  `json:"mounts"`
	Args     []string `json:"args"` // Args[0] is a path inside
	Env      []string `json:"env"`
	Dir      string   `json:"dir"`
	Hostname string   `json:"hostname"`
	UID      int      `json:"uid"` // the user inside, not 0
	GID      int      `json:"gid"`
	HostUID  int      `json:"hostUid"` // who that is on the machine; only a privileged caller may choose
	HostGID  int      `json:"hostGid"`
	Network  bool     `json:"network"` // false: a network namespace with nothing but loopback
	Limits   Limits   `json:"limits"`

	// Filled in by Run.
	Mountpoint string `json:"mountpoint"` // an empty folder where the root is put together
	Rootless   bool   `json:"rootless"`
}

// ErrUnavailable is wrapped by errors that say that this machine cannot run a sandbox at all.
var ErrUnavailable = errors.New("no sandbox on this machine")

func (s *Spec) validate() error {
	if len(s.Args) == 0 || !path.IsAbs(s.Args[0]) {
		return errors.New("sandbox: the program must be an absolute path")
	}
	if s.UID <= 0 || s.GID <= 0 {
		return errors.New("sandbox: the program must run as an ordinary user and group, not as 0")
	}
	for _, m := range s.Mounts {
		if !path.IsAbs(m.Target) || path.Clean(m.Target) != m.Target {
			return fmt.Errorf("sandbox: the mount target %q is not a clean absolute path", m.Target)
		}
	}
	return nil
}

// Status is how the program ended.
type Status struct {
	Code   int    `json:"code"`             // exit code, 128 + signal number when a signal ended it
	Signal string `json:"signal,omitempty"` // name of the signal
	Killed string `json:"killed,omitempty"` // why Run ended it: "time limit" or "memory limit"
}
