package sandbox_test

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestProcessorLimit gives two endless loops a quarter of a processor for two seconds. What the kernel was told is read back while they run,
// and what they used is what it counted.
func TestProcessorLimit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the limit needs control groups, which only root may make here")
	}
	if f, err := os.OpenFile("/sys/fs/cgroup/cpu/cgroup.procs", os.O_WRONLY, 0); err == nil {
		f.Close()
	} else if f, err := os.OpenFile("/sys/fs/cgroup/cgroup.procs", os.O_WRONLY, 0); err == nil {
		f.Close()
	} else {
		t.Skip("needs a control group of processors that can be written")
	}
	runner, spec := fixture(t)
	spec.Limits.CPUs = 0.25
	spec.Args = []string{"/bin/sh", "-c", `cat /proc/self/cgroup; echo --
timeout 2 sh -c 'while :; do :; done' & timeout 2 sh -c 'while :; do :; done' & wait; times`}
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := runner.Run(t.Context(), spec, nil, w, w)
		ended <- err
		w.Close()
	}()
	var groups, rest []string
	quota := ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		switch {
		case lines.Text() == "--":
			quota = quotaOf(t, groups)
		case quota == "":
			groups = append(groups, lines.Text())
		default:
			rest = append(rest, lines.Text())
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if quota != "25000 100000" {
		t.Errorf("the kernel was told %q (microseconds of each period), want 25000 100000", quota)
	}
	used := 0.0
	for _, field := range strings.Fields(strings.Join(rest, " ")) { // 0m0.250000s of the user and of the system
		minutes, seconds, _ := strings.Cut(strings.TrimSuffix(field, "s"), "m")
		m, err := strconv.ParseFloat(minutes, 64)
		if err != nil {
			t.Fatalf("times printed %q", rest)
		}
		s, err := strconv.ParseFloat(seconds, 64)
		if err != nil {
			t.Fatalf("times printed %q", rest)
		}
		used += 60*m + s
	}
	if used == 0 || used > 1.2 {
		t.Errorf("two loops used %.2f s of processors in two seconds, a quarter of a processor is 0.5 s", used)
	}
}

// quotaOf gives quota and period of the control group in lines of /proc/PID/cgroup (cgroups(7)).
func quotaOf(t *testing.T, lines []string) string {
	t.Helper()
	read := func(elements ...string) string {
		data, err := os.ReadFile(filepath.Join(append([]string{"/sys/fs/cgroup"}, elements...)...))
		if err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(string(data))
	}
	for _, line := range lines {
		_, rest, _ := strings.Cut(line, ":")
		controllers, path, _ := strings.Cut(rest, ":")
		if !strings.Contains(path, "weft-sandbox-") {
			continue
		}
		for _, c := range strings.Split(controllers, ",") {
			if c == "cpu" {
				return read("cpu", path, "cpu.cfs_quota_us") + " " + read("cpu", path, "cpu.cfs_period_us")
			}
		}
		if controllers == "" {
			return read(path, "cpu.max")
		}
	}
	t.Errorf("the program is in no control group of its own: %q", lines)
	return "none"
}
