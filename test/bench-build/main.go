// Command bench-build measures builds, beside upstream's lifecycle where UPSTREAM_LIFECYCLE names its program, and prints a table.
// Figures are whole processes, the median of several runs, against a registry in this process on loopback.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/server"
)

const runs = 3

// bench is the place where everything happens.
type bench struct {
	dir, bin, host, upstream string
}

func main() {
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
	b := &bench{dir: dir, bin: filepath.Join(dir, "bin"), host: listener.Addr().String(), upstream: os.Getenv("UPSTREAM_LIFECYCLE")}
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.bin+"/", "./cmd/weft", "./cmd/lifecycle", "./cmd/sandbox", "./cmd/launcher")
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
	fmt.Printf("load before: %s\n%-58s %10s %10s %8s\n", strings.TrimSpace(string(load)), "", "weft", "upstream", "factor")
	return errors.Join(b.hello(), b.large(), b.rebase())
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

// measure runs a command several times and gives the median time and the greatest memory; before runs before each.
func (b *bench) measure(before func() error, program string, args ...string) (time.Duration, int64, error) {
	var times []time.Duration
	var memory int64
	for range runs {
		if before != nil {
			if err := before(); err != nil {
				return 0, 0, err
			}
		}
		cmd := exec.Command(program, args...)
		cmd.Env = []string{"PATH=/usr/bin:/bin:" + os.Getenv("PATH"), "HOME=" + b.dir, "XDG_CACHE_HOME=" + b.dir + "/cache-home", "CNB_PLATFORM_API=0.14", "CNB_RUN_PATH=" + b.dir + "/run.toml"}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		began := time.Now()
		if err := cmd.Start(); err != nil {
			return 0, 0, err
		}
		stop := make(chan struct{})
		peak := make(chan int64)
		go func() { peak <- watchMemory(cmd.Process.Pid, stop) }()
		err := cmd.Wait()
		times = append(times, time.Since(began))
		close(stop)
		memory = max(memory, <-peak)
		if err != nil {
			return 0, 0, fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out.String())
		}
	}
	slices.Sort(times)
	return times[runs/2], memory, nil
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

func (b *bench) row(what string, ours, theirs time.Duration) {
	if theirs == 0 {
		fmt.Printf("%-58s %9.3fs %10s %8s\n", what, ours.Seconds(), "-", "-")
		return
	}
	fmt.Printf("%-58s %9.3fs %9.3fs %7.1fx\n", what, ours.Seconds(), theirs.Seconds(), theirs.Seconds()/ours.Seconds())
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

func (b *bench) hello() error {
	ours, _, err := b.measure(b.fresh("layers", "cache-ours"), filepath.Join(b.bin, "lifecycle"), b.create("hello", "ours")...)
	if err != nil {
		return err
	}
	var theirs time.Duration
	if b.upstream != "" {
		if theirs, _, err = b.measure(b.fresh("layers", "cache-theirs"), b.upstream, b.create("hello", "theirs")...); err != nil {
			return err
		}
	}
	b.row("hello-world, lifecycle create", ours, theirs)
	n := 0
	ours, _, err = b.measure(func() error { n++; return os.WriteFile(filepath.Join(b.dir, "app/page"), fmt.Append(nil, n), 0o644) },
		filepath.Join(b.bin, "weft"), "build", b.host+"/verb/hello", "--path", b.dir+"/app", "--buildpack", b.dir+"/buildpacks/hello/1", "--run-image", b.host+"/run:one")
	b.row("hello-world, weft build in the sandbox", ours, 0)
	return err
}

func (b *bench) large() error {
	oursFirst, memory, err := b.measure(b.fresh("layers", "cache-ours"), filepath.Join(b.bin, "lifecycle"), b.unique("ours")...)
	if err != nil {
		return err
	}
	var theirsFirst, theirsAgain time.Duration
	if b.upstream != "" {
		if theirsFirst, _, err = b.measure(b.fresh("layers", "cache-theirs"), b.upstream, b.unique("theirs")...); err != nil {
			return err
		}
		if theirsAgain, _, err = b.measure(b.fresh("layers"), b.upstream, b.unique("theirs")...); err != nil {
			return err
		}
	}
	b.row("172 MB layer, first build with cache, lifecycle create", oursFirst, theirsFirst)
	again, _, err := b.measure(b.fresh("layers"), filepath.Join(b.bin, "lifecycle"), b.unique("ours")...)
	if err != nil {
		return err
	}
	b.row("172 MB layer, rebuild from the cache, lifecycle create", again, theirsAgain)
	verb := []string{"build", b.host + "/verb/large", "--path", b.dir + "/app", "--buildpack", b.dir + "/buildpacks/large/1", "--run-image", b.host + "/run:one"}
	weft := filepath.Join(b.bin, "weft")
	first, memoryVerb, err := b.measure(func() error { return os.RemoveAll(b.dir + "/cache-home") }, weft, verb...)
	if err != nil {
		return err
	}
	b.row("172 MB layer, first weft build", first, theirsFirst)
	n := 0
	change, _, err := b.measure(func() error {
		n++
		return os.WriteFile(filepath.Join(b.dir, "app/page"), fmt.Append(nil, "c", n), 0o644)
	}, weft, verb...)
	if err != nil {
		return err
	}
	b.row("172 MB layer, weft build after a change of the source", change, theirsAgain)
	same, _, err := b.measure(nil, weft, verb...)
	if err != nil {
		return err
	}
	b.row("172 MB layer, weft build with nothing changed", same, theirsAgain)
	fmt.Printf("greatest memory: lifecycle %d MiB, weft %d MiB\n", memory>>10, memoryVerb>>10)
	return nil
}

// unique names an image of its own for the large layer.
func (b *bench) unique(who string) []string { return b.create("large", who) }

func (b *bench) rebase() error {
	side := 0
	args := func(who string) []string {
		side++
		return []string{"rebase", "-run-image", b.host + "/run:" + []string{"one", "two"}[side%2], "-report", b.dir + "/report.toml", b.host + "/" + who + "/hello"}
	}
	var times [2][]time.Duration
	for i, program := range []string{filepath.Join(b.bin, "lifecycle"), b.upstream} {
		if program == "" {
			continue
		}
		for range runs {
			took, _, err := b.once(program, args([]string{"ours", "theirs"}[i])...)
			if err != nil {
				return err
			}
			times[i] = append(times[i], took)
		}
		slices.Sort(times[i])
	}
	var theirs time.Duration
	if len(times[1]) > 0 {
		theirs = times[1][runs/2]
	}
	b.row("rebase", times[0][runs/2], theirs)
	return nil
}

func (b *bench) once(program string, args ...string) (time.Duration, int64, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + b.dir, "CNB_PLATFORM_API=0.14", "CNB_RUN_PATH=" + b.dir + "/run.toml"}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out)
	}
	return time.Since(began), 0, nil
}
