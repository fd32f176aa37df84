package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
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
		if err := os.MkdirAll(dir, 0o755); err != nil {
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

// removeCgroup removes a control group without processes, if it can be removed.
func removeCgroup(name string) {
	dirs, err := cgroups(name)
	if err != nil {
		return
	}
	for _, dir := range dirs {
		_ = os.Remove(dir) // the kernel removes it only if it is empty
	}
}
