// Command build builds the programs of a Weft node and its images into a
// folder, says how long each step took and skips what is fresh.
//
//	go run ./build -out ../../bin/node [NAME...]
//
// It runs in the folder embedded/node. All programs are static; only runc
// needs a C compiler. Without libseccomp's headers runc is built without
// system call filters, with a warning.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	out := flag.String("out", "", "folder for the programs (required)")
	force := flag.Bool("force", false, "build also what is fresh")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./build -out FOLDER [-force] [NAME...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *out == "" {
		flag.Usage()
		os.Exit(2)
	}
	folder, err := filepath.Abs(*out)
	if err == nil {
		err = build(ctx, &builder{out: folder, force: *force, only: flag.Args()})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func build(ctx context.Context, b *builder) error {
	if _, err := os.Stat("cmd/containerd"); err != nil {
		return errors.New("run this in the folder embedded/node")
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	var err error
	if b.sources, err = sources(ctx); err != nil {
		return err
	}
	list := programs(cFeatures(ctx))
	for _, name := range b.only {
		if !slices.ContainsFunc(list, func(p program) bool { return p.name == name }) && name != "images" {
			return fmt.Errorf("there is no program %q", name)
		}
	}
	var failed []string
	for _, p := range list {
		if !b.wanted(p.name) {
			continue
		}
		if p.missing != "" {
			say("!", p.name, "not built: "+p.missing)
			failed = append(failed, p.name)
			continue
		}
		if p.warning != "" {
			say("!", p.name, "WARNING: "+p.warning)
		}
		if err := b.program(ctx, p); err != nil {
			return err
		}
	}
	if b.wanted("images") {
		if err := b.images(); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("without %s no pod can run on this machine", strings.Join(failed, ", "))
	}
	return nil
}

type builder struct {
	out     string
	force   bool
	only    []string
	sources map[string]string // digest of what programs are built from, by module folder
}

func (b *builder) wanted(name string) bool {
	return len(b.only) == 0 || slices.Contains(b.only, name)
}

// program builds one program unless the stamp beside it says that nothing
// has changed.
func (b *builder) program(ctx context.Context, p program) error {
	target := filepath.Join(b.out, p.name)
	stamp := p.stamp(b.sources[p.module])
	if !b.force && b.fresh(target, stamp) {
		say("✓", p.name, "up to date")
		return nil
	}
	began := time.Now()
	if err := compile(ctx, p, target); err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	say("✓", p.name, fmt.Sprintf("built, %.1f MB  %.1fs", float64(info.Size())/1e6, time.Since(began).Seconds()))
	return b.mark(target, stamp)
}

func (b *builder) stampFile(target string) string {
	return filepath.Join(b.out, ".built", filepath.Base(target))
}

func (b *builder) fresh(target, stamp string) bool {
	if _, err := os.Stat(target); err != nil {
		return false
	}
	have, err := os.ReadFile(b.stampFile(target))
	return err == nil && string(have) == stamp
}

func (b *builder) mark(target, stamp string) error {
	file := b.stampFile(target)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(stamp), 0o644)
}
