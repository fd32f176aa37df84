package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/weft-dev/weft/supervise/control"
)

// logLimit is the size in bytes from which the supervisor's log is put aside at the next start.
const logLimit = 16 << 20

// startLimit bounds the time in which a supervisor must answer on its socket. What follows has no bound but the caller's context,
// because a busy machine may take minutes.
const startLimit = 60 * time.Second

// Start makes sure that the cluster is ready, and says whether it was before. Otherwise each status of the start is reported, the last
// one with phase Ready. When ctx ends, a supervisor that this call started is ended again, which is reported as phase Stopping.
func (c *Cluster) Start(ctx context.Context, report func(control.Status)) (already bool, err error) {
	if err := control.Create(c.State); err != nil {
		return false, err
	}
	client := control.NewClient(c.State)
	for {
		s, err := client.Status(ctx)
		switch {
		case errors.Is(err, control.ErrNotRunning):
			free, err := c.waitForSocketOrLock(ctx)
			if err != nil {
				return false, err
			}
			if free {
				return false, c.launch(ctx, report)
			}
		case err != nil:
			return false, err
		case s.Phase == control.Ready:
			return true, nil
		case s.Phase == control.Starting:
			return false, c.follow(ctx, nil, report)
		case s.Phase == control.Failed:
			if _, err := c.Stop(ctx, 0, report); err != nil {
				return false, err
			}
		default: // it is on its way out
			if err := control.WaitReleased(ctx, c.State); err != nil {
				return false, err
			}
		}
	}
}

// waitForSocketOrLock waits while another process holds the lock without answering: it has just begun, or it cleans up. It says whether
// the lock is free; otherwise the socket is there.
func (c *Cluster) waitForSocketOrLock(ctx context.Context) (free bool, err error) {
	limit := time.After(10 * time.Second)
	for {
		pid, held, err := control.Holder(c.State)
		if err != nil {
			return false, err
		}
		if !held {
			return true, nil
		}
		if _, err := control.NewClient(c.State).Status(ctx); !errors.Is(err, control.ErrNotRunning) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-limit:
			return false, &heldError{control.HeldError{State: c.State, PID: pid}}
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// heldError is a lock that is held for long by a process that does not answer.
type heldError struct{ control.HeldError }

func (e *heldError) Advice() string {
	return fmt.Sprintf("Wait for it, or end it with `weft down --state %s`, which kills what does not answer.", e.State)
}

// launch starts the supervisor in a session of its own, so that it outlives this process and the terminal, and follows it.
func (c *Cluster) launch(ctx context.Context, report func(control.Status)) error {
	if c.Program == "" {
		return c.NoProgram
	}
	log, err := c.openLog()
	if err != nil {
		return fmt.Errorf("open the supervisor's log: %w", err)
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd := exec.Command(c.Program, append([]string{"run", "--state", c.State}, c.Flags...)...)
	cmd.Dir = c.State
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.Program, err)
	}
	child := &child{process: cmd.Process, log: c.Log(), begin: begin, ended: make(chan struct{})}
	go func() {
		child.err = cmd.Wait()
		close(child.ended)
	}()
	leader := 0
	err = c.follow(ctx, child, func(s control.Status) {
		leader = s.PID
		report(s)
	})
	switch {
	case err != nil && ctx.Err() != nil:
		report(control.Status{Version: control.Version, Phase: control.Stopping, State: c.State})
		return errors.Join(context.Cause(ctx), child.end())
	case err == nil && leader != cmd.Process.Pid:
		return child.end() // another start was quicker; ours must not take over when that one is stopped
	}
	return err
}

func (c *Cluster) openLog() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(c.Log()), 0o700); err != nil {
		return nil, err
	}
	if info, err := os.Stat(c.Log()); err == nil && info.Size() > logLimit {
		if err := os.Rename(c.Log(), c.Log()+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(c.Log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// follow reports the supervisor's status until it is ready. child is the supervisor if this process started it.
func (c *Cluster) follow(ctx context.Context, child *child, report func(control.Status)) error {
	if err := c.waitForSocket(ctx, child); err != nil {
		return err
	}
	for s, err := range control.NewClient(c.State).Events(ctx) {
		if errors.Is(err, control.ErrNotRunning) {
			break
		}
		if err != nil {
			return err
		}
		report(s)
		switch s.Phase {
		case control.Ready:
			return nil
		case control.Failed:
			return c.failure(ctx, s)
		case control.Stopping:
			return errors.New("the cluster was stopped by somebody else while it was starting")
		}
	}
	if child == nil {
		return fmt.Errorf("the cluster's supervisor ended while it was starting; its log is %s", c.Log())
	}
	select {
	case <-child.ended:
		return child.failure()
	case <-time.After(5 * time.Second):
		return fmt.Errorf("the cluster's supervisor stopped answering while it was starting; its log is %s", c.Log())
	}
}

// failure gives a failed supervisor the time to clean up, so that the next command finds the folder free.
func (c *Cluster) failure(ctx context.Context, s control.Status) error {
	err := errors.New(s.Error)
	if s.Error == "" {
		err = errors.New("the cluster failed to start")
	}
	limited, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if control.WaitReleased(limited, c.State) != nil {
		if _, stopErr := c.Stop(ctx, 0, func(control.Status) {}); stopErr != nil {
			return errors.Join(err, stopErr)
		}
	}
	return &failedError{err, c.Log()}
}

// failedError tells where more is written.
type failedError struct {
	error
	log string
}

func (e *failedError) Unwrap() error { return e.error }

func (e *failedError) Advice() string { return "More is in " + e.log + " (`weft logs`)." }

func (c *Cluster) waitForSocket(ctx context.Context, child *child) error {
	limit := time.After(startLimit)
	ended := make(<-chan struct{})
	if child != nil {
		ended = child.ended
	}
	for {
		_, err := control.NewClient(c.State).Status(ctx)
		if !errors.Is(err, control.ErrNotRunning) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ended:
			return child.failure()
		case <-limit:
			return fmt.Errorf("the cluster's supervisor did not answer within %s; its log is %s", startLimit, c.Log())
		case <-time.After(15 * time.Millisecond):
		}
	}
}

// child is the supervisor as started by this process.
type child struct {
	process *os.Process
	log     string
	begin   int64         // where its part of the log begins, in bytes
	ended   chan struct{} // closed when it has ended, with err set
	err     error
}

// failure explains the end of a supervisor that should have gone on.
func (c *child) failure() error {
	err := c.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	t := &tail{}
	if f, openErr := os.Open(c.log); openErr == nil {
		defer f.Close()
		if _, seekErr := f.Seek(c.begin, io.SeekStart); seekErr == nil {
			_, _ = io.Copy(t, f) // what can be read is enough for an explanation
		}
	}
	return &failedError{fmt.Errorf("the cluster's supervisor ended while it was starting: %w%s", err, t.suffix()), c.log}
}

// end asks an unwanted supervisor to stop and waits for it.
func (c *child) end() error {
	_ = c.process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-c.ended:
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("the cluster's supervisor (process %d) is still stopping; `weft down` waits for it", c.process.Pid)
	}
}

// tail keeps the end of an output.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	if n := len(t.b) - 2<<10; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(b), nil
}

// suffix is the last lines, ready to follow an error message.
func (t *tail) suffix() string {
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(t.b), "?")), "\n")
	if len(lines) > 5 {
		lines = lines[len(lines)-5:]
	}
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	return ":\n  " + strings.Join(lines, "\n  ")
}
