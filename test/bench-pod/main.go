//go:build linux

// Command bench-pod measures how long a pod takes from its creation to the first HTTP 200 on a node that has nothing of its image: on containerd's
// overlayfs snapshotter, on Weft's without and with what an earlier start taught, and on stargz-snapshotter where -rival names its program. What a node
// takes that has the image already is measured too: no snapshotter can save that.
//
//	go run ./test/bench-pod [-rival /path/to/containerd-stargz-grpc] [-rounds 5]
//
// Everything runs in namespaces of its own: a registry in this process behind a throttle that all connections share, and for each run a new
// containerd, a new snapshotter and new folders. The kinds of snapshotters take turns. It needs root and the programs of `make build`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// insideVariable says that the program runs in its own namespaces.
const insideVariable = "WEFT_BENCHPOD_INSIDE"

type options struct {
	top, rival string
	only       string
	rounds     int
	rate       float64 // Mbit/s
	latency    time.Duration
	verbose    bool
}

func main() {
	var o options
	flag.StringVar(&o.top, "top", ".", "the repository's folder, with bin/ from make build")
	flag.StringVar(&o.rival, "rival", "", "containerd-stargz-grpc to measure beside")
	flag.StringVar(&o.only, "only", "", "measure only these kinds, by commas: overlayfs, weft, learned, present, stargz")
	flag.IntVar(&o.rounds, "rounds", 5, "runs of each kind")
	flag.Float64Var(&o.rate, "rate", 100, "Mbit/s that all connections to the registry share")
	flag.DurationVar(&o.latency, "latency", 5*time.Millisecond, "before each answer of the registry")
	flag.BoolVar(&o.verbose, "v", false, "print each run with its requests and, when one fails, all logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-pod:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if os.Getenv(insideVariable) != "" {
		return inside(ctx, o)
	}
	if os.Geteuid() != 0 {
		return errors.New("namespaces and mounts need root: run it with sudo")
	}
	group := fmt.Sprintf("weft-benchpod-%d", os.Getpid())
	// The folder is on a disk whose files the kernel watches, which those of tmpfs are not.
	dir, err := os.MkdirTemp("/var/tmp", "weft-benchpod-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer removeGroups(group)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"="+group, "WEFT_BENCHPOD_DIR="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return errors.New("the measurement failed")
	} else if err != nil {
		return err
	}
	return nil
}

// removeGroups removes the control groups of pods in every hierarchy, the deepest first.
func removeGroups(name string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
	for _, root := range append(roots, "/sys/fs/cgroup/"+name) {
		var found []string
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				found = append([]string{path}, found...)
			}
			return nil
		})
		for _, path := range found {
			for range 100 { // processes that were killed may take a moment to leave it
				if err := os.Remove(path); !errors.Is(err, syscall.EBUSY) {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
}

// enter makes the namespaces usable.
func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("run", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("switch the loopback device on: %w", err)
	}
	return nil
}

// kind is a way to get an image onto a node.
type kind struct {
	name, image, snapshotter string
}

func inside(ctx context.Context, o options) error {
	if err := enter(); err != nil {
		return err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	r, err := startRegistry(o.rate*1e6/8, o.latency)
	if err != nil {
		return err
	}
	defer r.close()
	n := &bench{options: o, registry: r, dir: os.Getenv("WEFT_BENCHPOD_DIR"), group: "/" + os.Getenv(insideVariable)}
	if n.top, err = filepath.Abs(o.top); err != nil {
		return err
	}
	if o.rival != "" {
		if n.rival, err = filepath.Abs(o.rival); err != nil {
			return err
		}
	}
	made, err := n.push(ctx)
	if err != nil {
		return fmt.Errorf("making the image: %w", err)
	}
	kinds := []kind{{"overlayfs", registryHost + "/plain/app:1", "overlayfs"}, {"weft", registryHost + "/lazy/app:1", "weft"}, {"learned", registryHost + "/learned/app:1", "weft"},
		{present, registryHost + "/plain/app:1", "overlayfs"}}
	if n.rival != "" {
		kinds = append(kinds, kind{"stargz", registryHost + "/stargz/app:1", "stargz"})
	}
	if o.only != "" {
		list := strings.Split(o.only, ",")
		kinds = slices.DeleteFunc(kinds, func(k kind) bool { return !slices.Contains(list, k.name) })
	}
	if slices.ContainsFunc(kinds, func(k kind) bool { return k.name == "learned" }) {
		if err := n.teach(ctx, registryHost+"/learned/app:1"); err != nil {
			return fmt.Errorf("the start that teaches: %w", err)
		}
	}
	results := map[string][]result{}
	for round := range o.rounds {
		for i := range kinds {
			k := kinds[(i+round)%len(kinds)] // none is always the first
			res, err := n.once(ctx, k, nil)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", k.name, round+1, err)
			}
			if o.verbose {
				fmt.Printf("%-10s %8s %6.1f MB\n", k.name, res.took.Round(time.Millisecond), float64(res.fetched)/1e6)
			}
			results[k.name] = append(results[k.name], res)
		}
	}
	fmt.Printf("load before: %s\nimage: %.1f MB unpacked, %.1f MB as gzip layers; a start reads %.1f MB of it\n%.0f Mbit/s for all connections together, %s before each answer; medians of %d\n\n",
		strings.TrimSpace(string(load)), float64(made.unpacked)/1e6, float64(made.packed)/1e6, float64(made.read)/1e6, o.rate, o.latency, o.rounds)
	printTable(kinds, results, made)
	return nil
}

// result is one run.
type result struct {
	took    time.Duration
	fetched int64 // bytes of answers' bodies until the service answered
	stages  map[string]time.Duration
	stage   func(string)
}

// stageNames are the parts of a start, in their order.
var stageNames = []string{"sandbox", "pull", "create", "start", "answer"}

// present is the kind whose image is on the node already: what remains is containerd's own work, which no snapshotter can save.
const present = "present"

// goals are in percent of another kind's time.
var goals = map[string][]struct {
	of    string
	limit float64
}{
	"weft":    {{"overlayfs", 50}},
	"learned": {{"overlayfs", 35}, {"stargz", 60}},
}

func printTable(kinds []kind, results map[string][]result, made content) {
	took, fetched := map[string]time.Duration{}, map[string]int64{}
	for _, k := range kinds {
		list := results[k.name]
		slices.SortFunc(list, func(a, b result) int { return int(a.took - b.took) })
		took[k.name] = list[len(list)/2].took
		slices.SortFunc(list, func(a, b result) int { return int(a.fetched - b.fetched) })
		fetched[k.name] = list[len(list)/2].fetched
	}
	fmt.Printf("%-12s %14s %12s %14s  %s\n", "", "first answer", "fetched", "fetched/read", "goals")
	for _, k := range kinds {
		var verdicts []string
		for _, g := range goals[k.name] {
			if took[g.of] == 0 {
				continue
			}
			share := 100 * float64(took[k.name]) / float64(took[g.of])
			verdicts = append(verdicts, fmt.Sprintf("%.0f %% of %s (at most %.0f: %s)", share, g.of, g.limit, met(share <= g.limit)))
		}
		ratio := float64(fetched[k.name]) / float64(made.read)
		if k.snapshotter == "weft" {
			verdicts = append(verdicts, "fetched at most 1.5 of read: "+met(ratio <= 1.5))
		}
		fmt.Printf("%-12s %11.3f s %9.1f MB %14.2f  %s\n", k.name, took[k.name].Seconds(), float64(fetched[k.name])/1e6, ratio, strings.Join(verdicts, "; "))
	}
	printStages(kinds, results)
}

// printStages prints where the time goes, as medians of each stage by itself.
func printStages(kinds []kind, results map[string][]result) {
	fmt.Printf("\n%-12s", "seconds in")
	for _, s := range stageNames {
		fmt.Printf(" %9s", s)
	}
	fmt.Println()
	for _, k := range kinds {
		fmt.Printf("%-12s", k.name)
		for _, s := range stageNames {
			var list []time.Duration
			for _, r := range results[k.name] {
				list = append(list, r.stages[s])
			}
			slices.Sort(list)
			fmt.Printf(" %9.3f", list[len(list)/2].Seconds())
		}
		fmt.Println()
	}
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "missed"
}
