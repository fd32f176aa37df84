// Package cluster starts, follows and ends the embedded Kubernetes of a state folder, which runs in the background as the program
// weft-node.
//
// It must not print anything, nor know what the cluster is made of.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weft-dev/weft/supervise/control"
)

// Cluster is the embedded Kubernetes of one state folder.
type Cluster struct {
	State     string   // absolute path of the state folder
	Flags     []string // further flags of weft-node for a start
	Program   string   // absolute path of weft-node; empty: nothing can be started or cleaned
	NoProgram error    // why Program is empty
}

// MissingProgramError says that weft-node was not found.
type MissingProgramError struct{ Path string }

func (e *MissingProgramError) Error() string {
	return fmt.Sprintf("the program weft-node is missing (there is none at %s)", e.Path)
}

// Advice says how to get it.
func (e *MissingProgramError) Advice() string {
	return "Build it with `make build`, or name it in the variable WEFT_NODE."
}

// FindProgram returns the path of weft-node: what the variable WEFT_NODE says, or the one beside the running program.
func FindProgram(getenv func(string) string, self string) (string, error) {
	path := getenv("WEFT_NODE")
	if path == "" {
		if resolved, err := filepath.EvalSymlinks(self); err == nil {
			self = resolved
		}
		path = filepath.Join(filepath.Dir(self), "weft-node")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return "", &MissingProgramError{path}
	}
	return path, nil
}

// DefaultState returns the state folder of a user who names none: $WEFT_STATE, else weft in the XDG state folder.
func DefaultState(getenv func(string) string) (string, error) {
	if dir := getenv("WEFT_STATE"); dir != "" {
		return filepath.Abs(dir)
	}
	base := getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // the specification wants relative values to be ignored
		home := getenv("HOME")
		if home == "" {
			return "", errors.New("no place for the state folder: neither WEFT_STATE, XDG_STATE_HOME nor HOME is set; name one with --state")
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "weft"), nil
}

// Status returns what the supervisor says, or a status of phase Stopped when there is none.
func (c *Cluster) Status(ctx context.Context) (control.Status, error) {
	s, err := control.NewClient(c.State).Status(ctx)
	if errors.Is(err, control.ErrNotRunning) {
		return control.Status{Version: control.Version, Phase: control.Stopped, State: c.State, Components: []control.Component{}, Steps: []control.Step{}}, nil
	}
	return s, err
}

// Log is the file that takes what the supervisor itself says.
func (c *Cluster) Log() string { return filepath.Join(c.State, "logs", "supervisor.log") }

// run runs weft-node and waits for it.
func (c *Cluster) run(ctx context.Context, args ...string) error {
	if c.Program == "" {
		return c.NoProgram
	}
	cmd := exec.CommandContext(ctx, c.Program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C reaches it only through ctx
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("weft-node %s: %w%s", args[0], err, out.suffix())
	}
	return nil
}
