package cgroup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

func tree(t *testing.T) *Tree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("control groups need root")
	}
	tree, err := Find(fmt.Sprintf("/weft-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Remove(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return tree
}

func TestRemoveKillsWhatIsInside(t *testing.T) {
	tree := tree(t)
	if err := tree.Create(); err != nil {
		t.Fatal(err)
	}
	// The shell's child stands for what a killed supervisor leaves behind.
	cmd := exec.Command("sh", "-c", "sleep 600 & wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := tree.Add("system", cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	pids, err := tree.Processes()
	if err != nil || !slices.Contains(pids, cmd.Process.Pid) {
		t.Fatalf("processes %v, error %v, want %d among them", pids, err, cmd.Process.Pid)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }() // a killed child is there until it is reaped
	if err := tree.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("the process ended by itself")
	}
	for _, mount := range tree.mounts {
		if _, err := os.Stat(filepath.Join(mount, tree.Name)); err == nil {
			t.Errorf("a group is left in %s", mount)
		}
	}
}

func TestRemoveOfNothing(t *testing.T) {
	if err := tree(t).Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

// A process may have started others before it is moved.
func TestAddAllTakesWhatWasStartedBefore(t *testing.T) {
	tree := tree(t)
	if err := tree.Create(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "sh -c 'sleep 600 & echo $!; wait' & wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = tree.Remove(context.Background()), cmd.Wait() })
	var last int
	if _, err := fmt.Fscan(out, &last); err != nil {
		t.Fatal(err)
	}
	if err := tree.AddAll("system", cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if pids, err := tree.Processes(); err != nil || len(pids) != 3 || !slices.Contains(pids, last) {
		t.Errorf("processes %v, error %v, want 3 with %d among them", pids, err, last)
	}
}
