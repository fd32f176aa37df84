//go:build unix

// Package fault kills a program at every step of what it does and looks whether the next run mends it.
//
// A product package has no crash points of its own in a global place: whoever wants to be tested takes a hook, for
// example a field `Crash func(point string)` that is nil in the product, and calls it between its steps. A test hands
// over the hook that Matrix gives it.
package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Case is something that may be interrupted and done again.
type Case struct {
	// Prepare fills a fresh folder before the first run; may be nil.
	Prepare func(t testing.TB, dir string)
	// Run does the work in the folder and calls hit at every crash point. It runs in a process of its own, which is killed
	// in hit when it is the point's turn, so it must not use the test's variables.
	Run func(ctx context.Context, dir string, hit func(point string)) error
	// Check looks at the folder after a run that was killed and one that was not. It must fail the test if anything
	// was lost, done twice or left behind.
	Check func(t testing.TB, dir, point string)
	// Killed looks at the folder between the two runs; may be nil.
	Killed func(t testing.TB, dir, point string)
	// Twice also kills the second run, half as many points in, before a third one.
	Twice bool
	// Every tests only each n-th point; default 1. The first and the last are always tested.
	Every int
	// Timeout bounds one run; default one minute.
	Timeout time.Duration
}

// The environment of a child.
const (
	envTest = "WEFT_FAULT_TEST" // the name of the test that started it
	envDir  = "WEFT_FAULT_DIR"
	envAt   = "WEFT_FAULT_AT" // the number of the point to die at, from 1; 0 for none
)

// Matrix runs the case once undisturbed, to count its points, and then once for each of them with a kill -9 there
// followed by another run. It returns the number of points; the runs themselves go on in parallel behind the caller.
func Matrix(t *testing.T, c Case) int {
	t.Helper()
	if os.Getenv(envTest) == t.Name() {
		child(c)
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	c.Every = max(c.Every, 1)
	points := c.count(t)
	if len(points) == 0 {
		t.Fatal("fault: the run has no crash point")
	}
	for n := 1; n <= len(points); n++ {
		if n != 1 && n != len(points) && n%c.Every != 0 {
			continue
		}
		t.Run(fmt.Sprintf("%03d-%s", n, points[n-1]), func(sub *testing.T) {
			sub.Parallel()
			c.crash(sub, t.Name(), n)
		})
	}
	return len(points)
}

// count runs the case to its end and returns the points it passed.
func (c Case) count(t *testing.T) []string {
	dir := c.fresh(t)
	if killed, err := c.start(t, t.Name(), dir, 0); killed || err != nil {
		t.Fatalf("fault: the undisturbed run failed: killed=%t %v", killed, err)
	}
	points := passed(t, dir)
	c.Check(t, dir, "none")
	return points
}

func (c Case) crash(t *testing.T, name string, n int) {
	dir := c.fresh(t)
	killed, err := c.start(t, name, dir, n)
	if err != nil {
		t.Fatalf("the run that was to be killed failed by itself: %v", err)
	}
	if !killed {
		t.Logf("the run ended before point %d: the order of its points varies", n)
	}
	all := passed(t, dir)
	point := all[len(all)-1]
	if c.Killed != nil {
		c.Killed(t, dir, point)
	}
	if c.Twice {
		if _, err := c.start(t, name, dir, n/2+1); err != nil {
			t.Fatalf("the second run failed after a kill at %s: %v", point, err)
		}
	}
	if killed, err := c.start(t, name, dir, 0); killed || err != nil {
		t.Fatalf("the next run failed after a kill at %s: killed=%t %v", point, killed, err)
	}
	c.Check(t, dir, point)
}

func (c Case) fresh(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "work")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if c.Prepare != nil {
		c.Prepare(t, dir)
	}
	return dir
}

// start runs the case in a child that dies at the n-th point.
func (c Case) start(t *testing.T, name, dir string, n int) (killed bool, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), c.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run="+pattern(name), "-test.count=1")
	cmd.Env = append(os.Environ(), envTest+"="+name, envDir+"="+dir, envAt+"="+strconv.Itoa(n))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL && ctx.Err() == nil {
			return true, nil
		}
	}
	if ctx.Err() != nil {
		return false, fmt.Errorf("not done after %s:\n%s", c.Timeout, out)
	}
	if err != nil {
		return false, fmt.Errorf("%w:\n%s", err, out)
	}
	return false, nil
}

// pattern matches exactly one test or subtest.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// pointsFile lies beside the folder, so that the case does not meet it.
func pointsFile(dir string) string { return filepath.Join(filepath.Dir(dir), "points") }

func passed(t *testing.T, dir string) []string {
	data, err := os.ReadFile(pointsFile(dir))
	if err != nil {
		t.Fatalf("fault: no point was passed: %v", err)
	}
	return strings.Fields(string(data))
}

// child does the work and ends the process.
func child(c Case) {
	dir := os.Getenv(envDir)
	at, err := strconv.Atoi(os.Getenv(envAt))
	if err != nil {
		fail(err)
	}
	log, err := os.OpenFile(pointsFile(dir), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		fail(err)
	}
	var passed atomic.Int64
	err = c.Run(context.Background(), dir, func(point string) {
		n := passed.Add(1)
		if _, err := log.WriteString(point + "\n"); err != nil {
			fail(err)
		}
		if int(n) == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the kernel has done it
		}
	})
	if err != nil {
		fail(err)
	}
	os.Exit(0)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
