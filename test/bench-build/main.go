// Command bench-build measures builds, beside upstream's lifecycle where -rival names its program, and prints a table. Figures are whole
// processes, the median of several runs, against a registry in this process on loopback; cpu is the processor time of such a process
// and its children, which says more than the time where the machine is busy.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/server"
)

// bench is the place where everything happens.
type bench struct {
	dir, bin, host, rival string
	changes               int
}

var (
	rival = flag.String("rival", os.Getenv("UPSTREAM_LIFECYCLE"), "program of upstream's lifecycle to measure beside, \"\" for none")
	only  = flag.String("only", "", "measure only this: hello, export, large, rebase or sandbox (rebase needs hello)")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-build:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "bench-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: server.New(server.Config{Storage: server.Memory()})}
	go func() { _ = web.Serve(listener) }()
	defer web.Close()
	b := &bench{dir: dir, bin: filepath.Join(dir, "bin"), host: listener.Addr().String(), rival: *rival}
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", b.bin+"/", "./cmd/weft", "./cmd/lifecycle", "./cmd/sandbox", "./cmd/launcher", "./cmd/webfiles", "./cmd/certificates")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("run this in the repository's top folder: %w", err)
	}
	if err := b.prepare(); err != nil {
		return err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	fmt.Printf("load before: %s\n%-60s %9s %9s %9s %9s %7s %7s  %s\n", strings.TrimSpace(string(load)), "", "weft", "cpu", "upstream", "cpu", "factor", "cpu", "goal")
	for _, part := range []struct {
		name string
		do   func() error
	}{{"hello", b.hello}, {"export", b.export}, {"large", b.large}, {"rebase", b.rebase}, {"sandbox", b.sandbox}} {
		if *only != "" && !strings.Contains(*only, part.name) {
			continue
		}
		if err := part.do(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// prepare makes run images, a small and a large application and their buildpacks.
func (b *bench) prepare() error {
	client := registry.New(registry.Options{})
	for _, name := range []string{"run:one", "run:two"} {
		img, err := random.Image(1<<20, 3)
		if err != nil {
			return err
		}
		config, err := img.ConfigFile()
		if err != nil {
			return err
		}
		config = config.DeepCopy()
		config.OS, config.Architecture = "linux", "amd64"
		if img, err = mutate.ConfigFile(img, config); err != nil {
			return err
		}
		ref, err := registry.ParseReference(b.host + "/" + name)
		if err != nil {
			return err
		}
		if _, err := client.PushImage(context.Background(), ref, img, registry.PushOptions{}); err != nil {
			return err
		}
	}
	large := filepath.Join(b.dir, "content")
	if err := makeTree(large, 172<<20, 8350); err != nil {
		return err
	}
	files := map[string]string{
		"app/page":       "x",
		"run.toml":       fmt.Sprintf("[[images]]\nimage = %q\nmirrors = [%q]\n", b.host+"/run:one", b.host+"/run:two"),
		"hello.toml":     order("hello"),
		"large.toml":     order("large"),
		"platform/env/A": "1",
	}
	for id, script := range map[string]string{
		"hello": `mkdir -p "$1/x"; echo hello >"$1/x/file"; printf '[types]\nlaunch = true\n' >"$1/x.toml"; printf '[[processes]]\ntype = "web"\ncommand = ["x"]\n' >"$1/launch.toml"`,
		"large": `[ -d "$1/big/d0" ] || { mkdir -p "$1/big"; cp -r "$(dirname "$0")/../content/." "$1/big/"; }; printf '[types]\nlaunch = true\ncache = true\n' >"$1/big.toml"`,
	} {
		files["buildpacks/"+id+"/1/buildpack.toml"] = fmt.Sprintf("api = \"0.10\"\n[buildpack]\nid = %q\nversion = \"1\"\n", id)
		files["buildpacks/"+id+"/1/bin/detect"] = "#!/bin/sh\n"
		files["buildpacks/"+id+"/1/bin/build"] = "#!/bin/sh\nset -e\n" + script + "\n"
	}
	for name, text := range files {
		file := filepath.Join(b.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
			return err
		}
	}
	return os.Rename(large, filepath.Join(b.dir, "buildpacks/large/1/content"))
}

func order(id string) string {
	return fmt.Sprintf("[[order]]\n[[order.group]]\nid = %q\nversion = \"1\"\n", id)
}

// makeTree writes files of about size bytes altogether that compress to about 40 %, as programs do.
func makeTree(dir string, size int64, files int) error {
	r := rand.New(rand.NewPCG(1, 2))
	word := func() string { return fmt.Sprintf("%x ", r.Uint64()>>uint(8*r.IntN(6))) }
	for i := range files {
		at := filepath.Join(dir, fmt.Sprintf("d%d", i%100))
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		var text bytes.Buffer
		for want := int(size) / files; text.Len() < want; {
			text.WriteString(word())
		}
		if err := os.WriteFile(filepath.Join(at, fmt.Sprintf("f%d", i)), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cost is what a command took, or the medians of what several took and their greatest memory.
type cost struct {
	wall, cpu time.Duration
	memory    int64 // KiB
}

// once runs a command; before runs before it.
func (b *bench) once(before func() error, program string, args ...string) (cost, error) {
	if before != nil {
		if err := before(); err != nil {
			return cost{}, err
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin:" + os.Getenv("PATH"), "HOME=" + b.dir, "XDG_CACHE_HOME=" + b.dir + "/cache-home", "CNB_PLATFORM_API=0.14", "CNB_RUN_PATH=" + b.dir + "/run.toml"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return cost{}, err
	}
	stop := make(chan struct{})
	peak := make(chan int64)
	go func() { peak <- watchMemory(cmd.Process.Pid, stop) }()
	err := cmd.Wait()
	wall := time.Since(began)
	close(stop)
	memory := <-peak
	if err != nil {
		return cost{}, fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out.String())
	}
	return cost{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), memory}, nil
}

// middle gives the medians, and the greatest memory.
func middle(all []cost) cost {
	if len(all) == 0 {
		return cost{}
	}
	var m cost
	slices.SortFunc(all, func(a, b cost) int { return cmp.Compare(a.wall, b.wall) })
	m.wall = all[len(all)/2].wall
	slices.SortFunc(all, func(a, b cost) int { return cmp.Compare(a.cpu, b.cpu) })
	m.cpu = all[len(all)/2].cpu
	for _, c := range all {
		m.memory = max(m.memory, c.memory)
	}
	return m
}

// measure runs a command n times; before runs before each.
func (b *bench) measure(n int, before func() error, program string, args ...string) (cost, error) {
	var all []cost
	for range n {
		one, err := b.once(before, program, args...)
		if err != nil {
			return cost{}, err
		}
		all = append(all, one)
	}
	return middle(all), nil
}

// watchMemory gives the greatest resident memory of a process in KiB. The kernel's own account at its end would not do: it begins
// with the memory of the process that started it.
func watchMemory(pid int, stop <-chan struct{}) int64 {
	var peak int64
	for {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, rest, ok := strings.Cut(string(data), "VmHWM:"); err == nil && ok {
			var kib int64
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				peak = max(peak, kib)
			}
		}
		select {
		case <-stop:
			return peak
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// row prints ours beside theirs; theirs is zero where there is no rival.
func (b *bench) row(what string, ours, theirs cost, goal string) {
	fmt.Printf("%-60s %8.3fs %8.3fs", what, ours.wall.Seconds(), ours.cpu.Seconds())
	if theirs.wall == 0 {
		fmt.Printf(" %9s %9s %7s %7s  %s\n", "-", "-", "-", "-", goal)
		return
	}
	fmt.Printf(" %8.3fs %8.3fs %6.1fx %6.1fx  %s\n", theirs.wall.Seconds(), theirs.cpu.Seconds(), theirs.wall.Seconds()/ours.wall.Seconds(),
		theirs.cpu.Seconds()/ours.cpu.Seconds(), goal)
}

// create gives the arguments of the lifecycle's create.
func (b *bench) create(order, who string) []string {
	at := func(name string) string { return filepath.Join(b.dir, name) }
	return []string{"create", "-app", at("app"), "-layers", at("layers"), "-platform", at("platform"), "-buildpacks", at("buildpacks"), "-order", at(order + ".toml"),
		"-cache-dir", at("cache-" + who), "-launcher", filepath.Join(b.bin, "launcher"), b.host + "/" + who + "/" + order}
}

func (b *bench) fresh(names ...string) func() error {
	return func() error {
		for _, n := range names {
			if err := errors.Join(os.RemoveAll(filepath.Join(b.dir, n)), os.MkdirAll(filepath.Join(b.dir, n), 0o755)); err != nil {
				return err
			}
		}
		return nil
	}
}

// beside measures this lifecycle n times and the rival, fewer times, in turn: what else the machine does meets both.
func (b *bench) beside(n, rivals int, before func(who string) func() error, args func(who string) []string) (ours, theirs cost, err error) {
	var all [2][]cost
	for round := range n {
		for i, who := range []string{"ours", "theirs"} {
			program := filepath.Join(b.bin, "lifecycle")
			if i == 1 {
				if program = b.rival; b.rival == "" || round >= rivals {
					continue
				}
			}
			if err := before(who)(); err != nil {
				return ours, theirs, err
			}
			one, err := b.once(nil, program, args(who)...)
			if err != nil {
				return ours, theirs, err
			}
			all[i] = append(all[i], one)
		}
	}
	return middle(all[0]), middle(all[1]), nil
}

func (b *bench) weft() string { return filepath.Join(b.bin, "weft") }

// verb gives the arguments of weft build.
func (b *bench) verb(id string) []string {
	return []string{"build", b.host + "/verb/" + id, "--path", b.dir + "/app", "--buildpack", b.dir + "/buildpacks/" + id + "/1", "--run-image", b.host + "/run:one"}
}

// change gives the application another content.
func (b *bench) change() error {
	b.changes++
	return os.WriteFile(filepath.Join(b.dir, "app/page"), fmt.Append(nil, b.changes), 0o644)
}

func (b *bench) hello() error {
	ours, theirs, err := b.beside(7, 5, func(who string) func() error { return b.fresh("layers", "cache-"+who) }, func(who string) []string { return b.create("hello", who) })
	if err != nil {
		return err
	}
	b.row("hello-world, lifecycle create", ours, theirs, "")
	verb, err := b.measure(7, b.change, b.weft(), b.verb("hello")...)
	b.row("hello-world, weft build in the sandbox", verb, theirs, "at most 0.25 s")
	return err
}

// export measures the phase that makes the image, from the layers that the other phases have left.
func (b *bench) export() error {
	args := slices.DeleteFunc(b.create("large", "ours"), func(a string) bool { return a == "-cache-dir" || strings.HasSuffix(a, "/cache-ours") })
	if _, err := b.once(b.fresh("layers"), filepath.Join(b.bin, "lifecycle"), args...); err != nil {
		return err
	}
	n := 0
	name := func(who string) string { return fmt.Sprint(b.host, "/", who, "/export", n) }
	ours, theirs, err := b.beside(3, 3, func(who string) func() error {
		return func() error {
			n++ // a new repository: neither image nor layers are known there
			program := map[string]string{"ours": filepath.Join(b.bin, "lifecycle"), "theirs": b.rival}[who]
			_, err := b.once(nil, program, "analyze", "-layers", b.dir+"/layers", name(who))
			return err
		}
	}, func(who string) []string {
		return []string{"export", "-app", b.dir + "/app", "-layers", b.dir + "/layers", "-launcher", filepath.Join(b.bin, "launcher"), name(who)}
	})
	if err != nil {
		return err
	}
	b.row("172 MB layer, first export, lifecycle export", ours, theirs, "3x faster")
	return nil
}

func (b *bench) large() error {
	// A repository that the export has not filled yet.
	create := func(who string) []string {
		args := b.create("large", who)
		return append(args[:len(args)-1], b.host+"/"+who+"/first")
	}
	first, theirsFirst, err := b.beside(1, 1, func(who string) func() error { return b.fresh("layers", "cache-"+who) }, create)
	if err != nil {
		return err
	}
	b.row("172 MB layer, first build, lifecycle create", first, theirsFirst, "3x faster")
	again, theirsAgain, err := b.beside(5, 3, func(string) func() error { return b.fresh("layers") }, create)
	if err != nil {
		return err
	}
	b.row("172 MB layer, unchanged rebuild, lifecycle create", again, theirsAgain, "20x faster, at most 0.3 s")
	verb, err := b.measure(3, func() error { return os.RemoveAll(b.dir + "/cache-home") }, b.weft(), b.verb("large")...)
	if err != nil {
		return err
	}
	b.row("172 MB layer, first weft build", verb, theirsFirst, "3x faster")
	change, err := b.measure(5, b.change, b.weft(), b.verb("large")...)
	if err != nil {
		return err
	}
	b.row("172 MB layer, weft build after a change of the source", change, theirsAgain, "20x faster, at most 0.3 s")
	same, err := b.measure(5, nil, b.weft(), b.verb("large")...)
	if err != nil {
		return err
	}
	b.row("172 MB layer, weft build with nothing changed", same, theirsAgain, "20x faster, at most 0.3 s")
	fmt.Printf("greatest memory: lifecycle %d MiB, weft %d MiB, upstream %d MiB (at most 150 MiB)\n", max(first.memory, again.memory)>>10,
		max(verb.memory, change.memory, same.memory)>>10, max(theirsFirst.memory, theirsAgain.memory)>>10)
	return nil
}

// rebase alternates between two run images.
func (b *bench) rebase() error {
	rounds := map[string]int{}
	ours, theirs, err := b.beside(9, 5, func(who string) func() error { return func() error { rounds[who]++; return nil } }, func(who string) []string {
		return []string{"rebase", "-run-image", b.host + "/run:" + []string{"one", "two"}[rounds[who]%2], "-report", b.dir + "/report.toml", b.host + "/" + who + "/hello"}
	})
	b.row("rebase", ours, theirs, "8x faster, at most 0.02 s")
	return err
}

// sandbox measures the start of a program in a sandbox as a build has it, from the call to the end of /bin/true.
func (b *bench) sandbox() error {
	dir := filepath.Join(b.dir, "sandbox")
	lower := filepath.Join(dir, "lower")
	for _, d := range []string{lower, dir + "/upper", dir + "/work"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+link, filepath.Join(lower, link)); err != nil {
			return err
		}
	}
	runner := sandbox.Runner{Program: filepath.Join(b.bin, "sandbox"), Scratch: dir}
	spec := sandbox.Spec{Root: sandbox.Mount{Kind: sandbox.Overlay, Lower: []string{lower}, Upper: dir + "/upper", Work: dir + "/work"},
		Mounts: []sandbox.Mount{{Kind: sandbox.Bind, Source: "/usr", Target: "/usr", ReadOnly: true}, {Kind: sandbox.Tmpfs, Target: "/tmp", Mode: 0o1777}},
		Args:   []string{"/bin/true"}, Env: []string{"PATH=/usr/bin"}, Dir: "/", Hostname: "build", UID: 1000, GID: 1000, HostUID: 61234, HostGID: 61234}
	var all []cost
	for range 41 {
		began, used := time.Now(), processorTime()
		status, err := runner.Run(context.Background(), spec, nil, nil, nil)
		if err != nil || status.Code != 0 {
			return fmt.Errorf("sandbox: %+v %w", status, err)
		}
		all = append(all, cost{wall: time.Since(began), cpu: processorTime() - used})
	}
	b.row("sandbox: start and end of /bin/true", middle(all), cost{}, "at most 0.005 s")
	return nil
}

// processorTime is what this process and the children that it has waited for have used.
func processorTime() time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			panic(err) // the arguments are right
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}
