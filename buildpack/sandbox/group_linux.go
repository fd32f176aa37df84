package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const hierarchies = "/sys/fs/cgroup"

// A group holds the control group folders of one sandbox: one with cgroup v2, one per controller with v1, none where they cannot be
// written (an ordinary user): then only the limits that rlimits can express hold.
type group struct {
	folders []string
	oomFile string
	oomKey  string
}

// newGroup makes the groups that limits ask for and puts the process pid into them.
func newGroup(limits Limits, pid int) (*group, error) {
	g := &group{}
	if limits.Memory == 0 && limits.Processes == 0 && limits.CPUs == 0 {
		return g, nil
	}
	name := "weft-sandbox-" + strconv.Itoa(pid)
	var err error
	if _, statErr := os.Stat(filepath.Join(hierarchies, "cgroup.controllers")); statErr == nil {
		err = g.unified(name, limits, pid)
	} else {
		err = g.legacy(name, limits, pid)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || isReadOnly(err) {
		g.close()
		return &group{}, nil
	}
	return g, err
}

func (g *group) unified(name string, limits Limits, pid int) error {
	set := map[string]string{}
	if limits.Memory > 0 {
		set["memory.max"] = strconv.FormatInt(limits.Memory, 10)
	}
	if limits.Processes > 0 {
		set["pids.max"] = strconv.FormatInt(limits.Processes, 10)
	}
	if limits.CPUs > 0 {
		set["cpu.max"] = fmt.Sprintf("%d 100000", int64(math.Round(limits.CPUs*100000)))
	}
	dir, err := g.make(hierarchies, name, set, pid)
	g.oomFile, g.oomKey = filepath.Join(dir, "memory.events"), "oom_kill"
	return err
}

func (g *group) legacy(name string, limits Limits, pid int) error {
	if limits.Memory > 0 {
		dir, err := g.make(filepath.Join(hierarchies, "memory"), name, map[string]string{
			"memory.limit_in_bytes": strconv.FormatInt(limits.Memory, 10)}, pid)
		if err != nil {
			return err
		}
		g.oomFile, g.oomKey = filepath.Join(dir, "memory.oom_control"), "oom_kill"
	}
	if limits.Processes > 0 {
		if _, err := g.make(filepath.Join(hierarchies, "pids"), name, map[string]string{
			"pids.max": strconv.FormatInt(limits.Processes, 10)}, pid); err != nil {
			return err
		}
	}
	if limits.CPUs > 0 {
		if _, err := g.make(filepath.Join(hierarchies, "cpu"), name, map[string]string{
			"cpu.cfs_quota_us": strconv.FormatInt(int64(math.Round(limits.CPUs*100000)), 10)}, pid); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) make(hierarchy, name string, set map[string]string, pid int) (string, error) {
	dir := filepath.Join(hierarchy, name)
	if _, err := os.Stat(hierarchy); err != nil {
		return dir, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return dir, err
	}
	g.folders = append(g.folders, dir)
	for file, value := range set {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil {
			return dir, err
		}
	}
	return dir, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

func (g *group) outOfMemory() bool {
	if g.oomFile == "" {
		return false
	}
	data, err := os.ReadFile(g.oomFile)
	if err != nil {
		return false
	}
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if key == g.oomKey && value != "0" {
			return true
		}
	}
	return false
}

// close removes the groups. The kernel lets go of the last process a moment after its end has been seen.
func (g *group) close() {
	for _, dir := range g.folders {
		for range 50 {
			if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	g.folders = nil
}
