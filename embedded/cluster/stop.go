package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/weft-dev/weft/embedded/cgroup"
	"github.com/weft-dev/weft/supervise/control"
)

// stop ends everything: the kubelet first, so that it starts nothing again, then the pods with their grace, then the rest.
func (c *cluster) stop(ctx context.Context, grace time.Duration) error {
	c.endBackground()
	var errs []error
	if c.mode == control.ModeNode {
		errs = append(errs, c.stopPods(ctx, grace))
	}
	errs = append(errs, c.group.Stop(ctx))
	if c.tree != nil {
		errs = append(errs, c.tree.Remove(ctx))
	}
	for _, f := range c.closers {
		f()
	}
	return errors.Join(errs...)
}

// Clean removes what a killed supervisor of a state folder left behind: processes and control groups. Mounts, network
// devices and packet filters were the namespaces' own and went with the last process.
func Clean(ctx context.Context, dir string) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := control.Check(dir); err != nil {
		return err
	}
	lock, err := control.Acquire(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	s := State{Dir: dir}
	id, err := s.Identity()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil // a cluster without root has no control group, and its processes ended with their supervisor
	}
	tree, err := cgroup.Find("/weft-" + id.ID)
	if err != nil {
		return nil // no control groups, so none were made
	}
	return tree.Remove(ctx)
}
