//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-dev/weft/lazy/keeper"
)

// use is the memory of a process, in bytes.
type use struct{ rss, pss, peak int64 }

// memory reads what the kernel says of a process.
func memory(pid int) (u use, err error) {
	for file, fields := range map[string]map[string]*int64{"smaps_rollup": {"Rss:": &u.rss, "Pss:": &u.pss}, "status": {"VmHWM:": &u.peak}} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			return u, err
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			if v := strings.Fields(s.Text()); len(v) == 3 && fields[v[0]] != nil {
				if _, err := fmt.Sscan(v[1], fields[v[0]]); err != nil {
					return u, errors.Join(err, f.Close())
				}
				*fields[v[0]] <<= 10
			}
		}
		f.Close()
	}
	return u, nil
}

func mib(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }

// show prints the memory of each process.
func (d *daemon) show(when string) error {
	guards := keeper.Look(filepath.Join(d.root, "lazy", "run"))
	fmt.Printf("%s, in MiB:\n  %-24s %8s %8s %8s\n", when, "", "RSS", "PSS", "peak RSS")
	var sum use
	for _, p := range []struct {
		name string
		pid  int
	}{{"snapshotter and worker", d.cmd.Process.Pid}, {"keeper", guards.Keeper}, {"holder", guards.Holder}, {"stand-by", guards.StandBy}} {
		u, err := memory(p.pid)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Printf("  %-24s %8s %8s %8s\n", p.name, mib(u.rss), mib(u.pss), mib(u.peak))
		sum.rss, sum.pss, sum.peak = sum.rss+u.rss, sum.pss+u.pss, sum.peak+u.peak
	}
	fmt.Printf("  %-24s %8s %8s %8s\n", "together", mib(sum.rss), mib(sum.pss), mib(sum.peak))
	d.peak = max(d.peak, sum.peak)
	return nil
}

// read lets each container read its part of its image's files, a few containers at the same time, so that every file is read by one.
func (d *daemon) read(o options) error {
	began, bytes := time.Now(), int64(0)
	work := make(chan int)
	type result struct {
		n   int64
		err error
	}
	results := make(chan result)
	for range 8 {
		go func() {
			for i := range work {
				n, err := readPart(d.targets[i], i/o.images, (o.containers+o.images-1)/o.images)
				results <- result{n, err}
			}
		}()
	}
	go func() {
		for i := range d.targets {
			work <- i
		}
		close(work)
	}()
	var failures []error
	for range d.targets {
		r := <-results
		bytes += r.n
		failures = append(failures, r.err)
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	fmt.Printf("%s MiB read in %s\n", mib(bytes), time.Since(began).Round(time.Millisecond))
	return d.show("all files read")
}

// readPart reads every n-th file of a folder from the first one on.
func readPart(dir string, first, n int) (read int64, err error) {
	i := 0
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if i++; i%n != first%n {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		k, err := io.Copy(io.Discard, f)
		read += k
		return err
	})
	return read, err
}

// judge says whether it is little enough.
func (d *daemon) judge() error {
	if d.peak > most {
		return fmt.Errorf("the processes took %s MiB together, at most %s were expected", mib(d.peak), mib(most))
	}
	fmt.Printf("at most %s MiB together, %s are allowed\n", mib(d.peak), mib(most))
	return nil
}
