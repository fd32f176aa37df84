//go:build linux

// Command bench-lazy-memory measures how much memory the processes behind images on demand take: the snapshotter, which is the worker, the keeper,
// the holder and the stand-by.
//
//	go run ./test/bench-lazy-memory [-images 20] [-containers 100] [-size 32]
//
// It pulls images as containerd does, gives each container a snapshot of its own, mounts it, and reads all files of every image through the
// containers. It needs root, the program lazyd of `make build`, and Linux 6.15.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"

	"github.com/weft-dev/weft/registry/server"
)

// most is how much the processes may take together, in bytes.
const most = 200 << 20

type options struct {
	program, dir       string
	images, containers int
	size               int64 // of an image, in bytes
}

func main() {
	var o options
	flag.StringVar(&o.program, "program", "bin/lazyd", "the program to be measured")
	flag.StringVar(&o.dir, "dir", "/var/tmp", "folder on ext4, xfs or btrfs for what is fetched")
	flag.IntVar(&o.images, "images", 20, "images, all of different content")
	flag.IntVar(&o.containers, "containers", 100, "containers, as many of each image")
	mib := flag.Int64("size", 32, "MiB of an image")
	flag.Parse()
	o.size = *mib << 20
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-lazy-memory:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if os.Getuid() != 0 {
		return errors.New("mounting needs root")
	}
	if o.program, err = filepath.Abs(o.program); err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp(o.dir, "weft-memory-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	host, stop, err := serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	var list []pushed
	for i := range o.images {
		p, err := push(ctx, host, i, o)
		if err != nil {
			return err
		}
		list = append(list, p)
	}
	d, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	if err := d.show("at the start"); err != nil {
		return err
	}
	for i := range o.containers {
		if err := d.container(ctx, i, list[i%len(list)], o); err != nil {
			return err
		}
	}
	if err := d.show("all containers started"); err != nil {
		return err
	}
	if err := d.read(o); err != nil {
		return err
	}
	return d.judge()
}

// serve is a registry in this process.
func serve(ctx context.Context) (host string, stop func(), err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: server.New(server.Config{Storage: server.Memory()}), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }()
	return l.Addr().String(), func() { _ = s.Close() }, nil
}

// daemon is the running snapshotter.
type daemon struct {
	cmd     *exec.Cmd
	root    string
	client  snapshots.Snapshotter
	close   func() error
	targets []string
	peak    int64 // of the sum of all, in bytes
}

func start(ctx context.Context, o options) (*daemon, error) {
	d := &daemon{root: filepath.Join(o.dir, "root")}
	socket := filepath.Join(o.dir, "s")
	d.cmd = exec.CommandContext(ctx, o.program, "snapshotter", "--root", d.root, "--address", socket, "--mode", "fanotify", "--log-level", "warn")
	d.cmd.Stderr = os.Stderr
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(syscall.SIGTERM) }
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w; run make build first", err)
	}
	var err error
	for range 600 {
		if d.client, d.close, err = dial(ctx, socket); err == nil {
			return d, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, errors.Join(err, d.cmd.Process.Signal(syscall.SIGTERM), d.cmd.Wait())
}

// container gives a container its files, after pulling the image if it is the first one of it.
func (d *daemon) container(ctx context.Context, i int, p pushed, o options) error {
	if err := p.pull(ctx, d.client); err != nil {
		return err
	}
	parent, err := p.find(ctx, d.client)
	if err != nil {
		return err
	}
	mounts, err := d.client.Prepare(ctx, fmt.Sprint("container-", i), parent)
	if err != nil {
		return err
	}
	target := filepath.Join(o.dir, "containers", fmt.Sprint(i))
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := mount.All(mounts, target); err != nil {
		return err
	}
	d.targets = append(d.targets, target)
	return nil
}

// end unmounts everything and ends all processes.
func (d *daemon) end() error {
	var failures []error
	for _, t := range d.targets {
		failures = append(failures, mount.UnmountAll(t, 0))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var keys []string
	err := d.client.Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		keys = append(keys, i.Name)
		return nil
	})
	failures = append(failures, err)
	for len(keys) > 0 { // children first, whichever they are
		before := len(keys)
		left := keys[:0]
		for _, k := range keys {
			if err := d.client.Remove(ctx, k); err != nil {
				left = append(left, k)
			}
		}
		if keys = left; len(keys) == before {
			failures = append(failures, fmt.Errorf("%d snapshots cannot be removed", before))
			break
		}
	}
	if c, ok := d.client.(snapshots.Cleaner); ok {
		failures = append(failures, c.Cleanup(ctx))
	}
	failures = append(failures, d.close(), d.cmd.Process.Signal(syscall.SIGTERM))
	_ = d.cmd.Wait()
	return errors.Join(failures...)
}
