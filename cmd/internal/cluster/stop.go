package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/weft-dev/weft/supervise/control"
)

// stopMargin is how long a supervisor may take to stop besides the pods' grace period. One that takes longer is killed.
const stopMargin = 30 * time.Second

// Stop ends the cluster and removes what it left on the machine, and says whether there was anything to end. Pods get at most grace
// to end by themselves. The state folder stays.
func (c *Cluster) Stop(ctx context.Context, grace time.Duration, report func(control.Status)) (found bool, err error) {
	if _, err := os.Stat(c.State); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err := control.Check(c.State); err != nil {
		return false, err
	}
	orderly, err := c.stopSupervisor(ctx, grace, report)
	if err != nil {
		return false, err
	}
	if orderly && !control.Leftover(c.State) {
		return true, nil
	}
	found = orderly || control.Leftover(c.State)
	if c.Program == "" && !found {
		return false, nil
	}
	if err := c.run(ctx, "clean", "--state", c.State); err != nil {
		return found, err
	}
	return found, control.ClearLeftover(c.State)
}

// stopSupervisor says whether there was a supervisor. Afterwards there is none.
func (c *Cluster) stopSupervisor(ctx context.Context, grace time.Duration, report func(control.Status)) (bool, error) {
	client := control.NewClient(c.State)
	err := client.Stop(ctx, control.StopRequest{GraceSeconds: grace.Seconds()})
	if errors.Is(err, control.ErrNotRunning) {
		free, waitErr := c.waitForSocketOrLock(ctx)
		if waitErr == nil && free {
			return false, nil
		}
		err = waitErr
		if waitErr == nil {
			err = client.Stop(ctx, control.StopRequest{GraceSeconds: grace.Seconds()})
		}
	}
	if ctx.Err() != nil {
		return true, context.Cause(ctx)
	}
	if err != nil {
		// It does not answer, for example because it was suspended.
		return true, c.killSupervisor(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, grace+stopMargin)
	defer cancel()
	for s, err := range client.Events(limited) {
		if err != nil {
			break // the lock tells the rest
		}
		report(s)
	}
	err = control.WaitReleased(limited, c.State)
	if err != nil && ctx.Err() == nil {
		return true, c.killSupervisor(ctx)
	}
	return true, err
}

// killSupervisor kills the holder of the lock. The kernel kills its children with it.
func (c *Cluster) killSupervisor(ctx context.Context) error {
	pid, held, err := control.Holder(c.State)
	if err != nil || !held {
		return err
	}
	if pid <= 1 {
		return fmt.Errorf("an unknown process holds %s and does not answer: find it with `fuser %s`, and end it", c.State, filepath.Join(c.State, "run", "lock"))
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("the supervisor (process %d) does not answer and cannot be killed: %w", pid, err)
	}
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return control.WaitReleased(limited, c.State)
}

// Purge removes the state folder of a cluster that was stopped. It refuses a folder that is not a state folder of weft, or below which
// something is still mounted, because what is mounted would be removed with it.
func (c *Cluster) Purge() error {
	if _, err := os.Lstat(c.State); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := control.Check(c.State); err != nil {
		return err
	}
	lock, err := control.Acquire(c.State)
	if err != nil {
		return err
	}
	mounts, err := mountsBelow(c.State)
	if err == nil && len(mounts) > 0 {
		err = fmt.Errorf("%s is still mounted, so the state folder is not removed: unmount it with `umount %s` and try again", mounts[0], mounts[0])
	}
	if err == nil {
		err = removeMarkedLast(c.State)
	}
	return errors.Join(err, lock.Release())
}

// removeMarkedLast removes a state folder so that after an interruption it still counts as one.
func removeMarkedLast(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == control.MarkName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// mountsBelow lists the mount points below a folder that this process sees.
func mountsBelow(dir string) ([]string, error) {
	if runtime.GOOS != "linux" {
		return nil, nil
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		point := unescape.Replace(fields[4])
		if strings.HasPrefix(point, dir+"/") {
			found = append(found, point)
		}
	}
	return found, lines.Err()
}

// unescape undoes the octal escapes of proc_pid_mountinfo(5).
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
