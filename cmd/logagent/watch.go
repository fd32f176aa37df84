package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// mainFiles are the names under which a folder holds a configuration, as the Secrets of Fluent Operator do.
var mainFiles = []string{"fluent-bit.yaml", "fluent-bit.conf", "fluent.conf", "fluentd.conf"}

// inFolder is the configuration that a path names: the file, or the one that lies in a folder.
func inFolder(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, nil // the reader tells what is wrong
	}
	for _, name := range mainFiles {
		file := filepath.Join(path, name)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("-c %s: the folder has none of %s", path, strings.Join(mainFiles, ", "))
}

// first is the first path that leads to a configuration. If none does, the first one tells why.
func first(paths []string) (string, error) {
	for _, path := range paths {
		name, err := inFolder(path)
		if err != nil {
			continue
		}
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	return inFolder(paths[0])
}

// watchEvery is how often the files of the configuration are looked at. A mounted Secret changes by a link, which no event tells of reliably.
const watchEvery = time.Second

// watch sends when one of the configuration's files has changed, until ctx ends. Which files these are is asked anew after each change.
func watch(ctx context.Context, files func() []string, changed chan<- os.Signal) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	last := signature(files())
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := signature(files())
		if now == last {
			continue
		}
		// kubelet swaps all files at once; an editor writes one after the other: the state has to hold for a moment.
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery / 4):
		}
		if again := signature(files()); again != now {
			continue
		}
		last = now
		select {
		case changed <- os.Interrupt: // stands for "read anew"; nobody looks at its kind
		case <-ctx.Done():
			return
		}
	}
}

// signature tells files apart by what a change of them changes.
func signature(files []string) string {
	var b strings.Builder
	for _, name := range files {
		target, err := filepath.EvalSymlinks(name)
		if err != nil {
			fmt.Fprintf(&b, "%s missing\n", name)
			continue
		}
		info, err := os.Stat(target)
		if errors.Is(err, os.ErrNotExist) {
			fmt.Fprintf(&b, "%s missing\n", name)
			continue
		}
		if err == nil {
			fmt.Fprintf(&b, "%s %s %d %d\n", name, target, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
