// Package cgroup gives one embedded cluster a control group of its own in every hierarchy of the machine, whether that
// has cgroup v1, v2 or both, and removes it again together with every process inside.
//
// It must not know which processes these are.
package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Version is how a machine has its controllers mounted.
type Version int

// V1 covers the hybrid layout too, where v2 is mounted without controllers.
const (
	V1 Version = 1
	V2 Version = 2
)

// Tree is one named group in all hierarchies.
type Tree struct {
	Name    string // path inside each hierarchy, beginning with a slash
	Version Version
	mounts  []string // mount points of the hierarchies
}

// Find looks up the machine's hierarchies. It makes nothing.
func Find(name string) (*Tree, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := &Tree{Name: name}
	unified, legacy := "", 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(kind) < 1 || slices.Contains(t.mounts, fields[4]) {
			continue
		}
		switch kind[0] {
		case "cgroup":
			legacy++
		case "cgroup2":
			unified = fields[4]
		default:
			continue
		}
		t.mounts = append(t.mounts, fields[4])
	}
	switch {
	case len(t.mounts) == 0:
		return nil, errors.New("no cgroup file system is mounted")
	case legacy == 0 && unified != "":
		t.Version = V2
	default:
		t.Version = V1
	}
	return t, nil
}

// Create makes the group in every hierarchy.
func (t *Tree) Create() error {
	for _, mount := range t.mounts {
		if t.Version == V2 {
			enableControllers(mount)
		}
		dir := filepath.Join(mount, t.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("the control group %s cannot be made: %w", dir, err)
		}
		if err := inheritCPUSet(mount, dir); err != nil {
			return err
		}
		if t.Version == V2 {
			enableControllers(dir)
		}
	}
	return nil
}

// enableControllers hands the controllers down to child groups. What the machine does not have is left out, so errors of
// single controllers say nothing.
func enableControllers(dir string) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return
	}
	for _, c := range strings.Fields(string(data)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
	}
}

// inheritCPUSet copies the parent's processors and memory nodes: a new group of cgroup v1 has none and takes no process.
func inheritCPUSet(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(own)) != "" {
			continue
		}
		value, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			continue // cgroup v2 inherits by itself
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0); err != nil {
			return err
		}
	}
	return nil
}

// Add moves a process into the child group of that name, in every hierarchy.
func (t *Tree) Add(child string, pid int) error {
	for _, mount := range t.mounts {
		dir := filepath.Join(mount, t.Name, child)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := inheritCPUSet(filepath.Dir(dir), dir); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("moving process %d into %s: %w", pid, dir, err)
		}
	}
	return nil
}

// AddAll moves a process and those that it has started already into a child group of the tree. Those that it starts from then on are born there.
func (t *Tree) AddAll(child string, pid int) error {
	if err := t.Add(child, pid); err != nil {
		return err
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return err
	}
	for _, name := range lists {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		for _, text := range strings.Fields(string(data)) {
			started, err := strconv.Atoi(text)
			if err != nil {
				continue
			}
			if err := t.AddAll(child, started); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// Processes lists the processes in the group and below it.
func (t *Tree) Processes() ([]int, error) {
	var pids []int
	for _, mount := range t.mounts {
		err := filepath.WalkDir(filepath.Join(mount, t.Name), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
				return nil // removed meanwhile
			}
			if err != nil {
				return err
			}
			if d.Name() != "cgroup.procs" {
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV) && !errors.Is(err, syscall.EOPNOTSUPP) {
				return err
			}
			for _, line := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(line); err == nil && pid > 0 && !slices.Contains(pids, pid) {
					pids = append(pids, pid)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// Remove kills every process in the group and removes the group. It returns an error when ctx ends before all is gone.
func (t *Tree) Remove(ctx context.Context) error {
	for {
		pids, err := t.Processes()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
		if len(pids) == 0 {
			if err = t.removeFolders(); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("control group %s: %d processes do not end: %w", t.Name, len(pids), errors.Join(err, context.Cause(ctx)))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (t *Tree) removeFolders() error {
	var first error
	for _, mount := range t.mounts {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(mount, t.Name), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		for _, dir := range slices.Backward(dirs) {
			if e := os.Remove(dir); e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
				err = e
			}
		}
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}
