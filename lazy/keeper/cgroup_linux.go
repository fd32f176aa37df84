package keeper

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cgroups are the folders of a control group below the root of each hierarchy.
func cgroups(name string) ([]string, error) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		return []string{filepath.Join("/sys/fs/cgroup", name)}, nil // version 2 alone
	}
	roots, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	for i, r := range roots {
		roots[i] = filepath.Join(filepath.Dir(r), name)
	}
	return roots, err
}

// enterCgroup moves a process to a control group.
func enterCgroup(name string, pid int) error {
	dirs, err := cgroups(name)
	if err != nil {
		return err
	}
	moved := false
	var failures []error
	for _, dir := range dirs {
		if err := errors.Join(os.MkdirAll(dir, 0o755), inheritCPUSet(dir, name)); err != nil {
			failures = append(failures, err)
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil { //nolint:gosec // a file of the kernel
			failures = append(failures, err)
			continue
		}
		moved = true
	}
	if moved {
		return nil
	}
	return errors.Join(append(failures, errors.New("there is no control group to be entered"))...)
}

// inheritCPUSet gives new control groups the processors and memory of their parents: version 1 lets no process into one that has none, and a process that
// stays behind in one hierarchy keeps the control group of its pod from being removed.
func inheritCPUSet(dir, name string) error {
	if filepath.Dir(name) != "." {
		if err := inheritCPUSet(filepath.Dir(dir), filepath.Dir(name)); err != nil {
			return err
		}
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, os.ErrNotExist) || err == nil && len(bytes.TrimSpace(own)) > 0 {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			continue // version 2: what is empty is inherited
		}
		above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), above, 0o644); err != nil { //nolint:gosec // a file of the kernel
			return err
		}
	}
	return nil
}

// removeGroups removes the control groups of a keeper that ends, its own included. Processes that were told to end may take a while, and a worker that is one
// of them, too. Another keeper of the folder has the groups for itself.
func (k *keeper) removeGroups() {
	name := k.options.Cgroup
	dirs, err := cgroups(name)
	if err != nil {
		return
	}
	left := make([]string, 0, 3*len(dirs))
	for _, dir := range dirs {
		root := strings.TrimSuffix(dir, name)
		_ = os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644) //nolint:gosec // a file of the kernel
		left = append(left, dir, dir+holderGroup, dir+standByGroup)
	}
	for end := time.Now().Add(groupsEnd); len(left) > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if h, err := readHolder(k.options.Dir); err != nil || h != nil || begins(k.options.Dir) {
			return
		}
		reap()
		left = slices.DeleteFunc(left, func(dir string) bool {
			err := os.Remove(dir) // the kernel removes it only if it is empty
			return err == nil || errors.Is(err, os.ErrNotExist)
		})
	}
}

// groupsEnd is how long that is tried.
const groupsEnd = 5 * time.Second
