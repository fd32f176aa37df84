package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/pipeline"
)

// publish writes a configuration as kubelet does: a new folder, to which one link is turned.
func publish(t *testing.T, folder, version, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(folder, version), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, version, "fluent-bit.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(version, filepath.Join(folder, "new")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(folder, "new"), filepath.Join(folder, "..data")); err != nil {
		t.Fatal(err)
	}
}

// A mounted Secret that changes is read anew without a restart; one that cannot be used changes nothing.
func TestWatch(t *testing.T) {
	folder, out := t.TempDir(), t.TempDir()
	text := func(file string) string {
		return fmt.Sprintf("[SERVICE]\n  Flush 0.1\n[INPUT]\n  Name dummy\n  Tag t\n  Rate 50\n[OUTPUT]\n  Name file\n  Match *\n  Path %s\n  File %s\n", out, file)
	}
	publish(t, folder, "..1", text("first"))
	if err := os.Symlink("..data/fluent-bit.conf", filepath.Join(folder, "fluent-bit.conf")); err != nil {
		t.Fatal(err)
	}
	command, err := parseArguments([]string{"--watch", "-c", folder})
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{command: command, log: pipeline.NewLogger(t.Output(), new(slog.LevelVar)), level: new(slog.LevelVar), stderr: t.Output(), out: &logOutput{out: t.Output()}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx, make(chan os.Signal, 1)) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(out, name))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	grows := func(name string) {
		t.Helper()
		for before, end := size(name), time.Now().Add(2*time.Minute); size(name) <= before; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no records in %s", name)
			}
		}
	}
	grows("first")
	publish(t, folder, "..2", text("second"))
	grows("second")
	publish(t, folder, "..3", "[INPUT]\n  Name no-such-input\n")
	time.Sleep(2 * watchEvery) // time enough to read it
	grows("second")
	publish(t, folder, "..4", text("third"))
	grows("third")
}

func TestFolderWithoutConfiguration(t *testing.T) {
	folder := t.TempDir()
	if _, err := inFolder(folder); err == nil {
		t.Error("an empty folder was taken")
	}
	if err := os.WriteFile(filepath.Join(folder, "fluent-bit.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if file, err := inFolder(folder); err != nil || filepath.Base(file) != "fluent-bit.yaml" {
		t.Errorf("%s %v", file, err)
	}
}

// Of several configurations the first that is there is taken, as in an image that serves both engines' resources.
func TestFirstConfiguration(t *testing.T) {
	empty, fluentd := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(fluentd, "fluent.conf"), []byte("<match **>\n  @type null\n</match>\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		paths []string
		want  string // of the name or the error
	}{
		{[]string{empty, fluentd}, filepath.Join(fluentd, "fluent.conf")}, {[]string{filepath.Join(empty, "none"), fluentd}, filepath.Join(fluentd, "fluent.conf")},
		{[]string{fluentd, empty}, filepath.Join(fluentd, "fluent.conf")},
		{[]string{empty, filepath.Join(empty, "none")}, "the folder has none of"}, {[]string{filepath.Join(empty, "none"), empty}, filepath.Join(empty, "none")},
	} {
		name, err := first(c.paths)
		if err != nil {
			name = err.Error()
		}
		if !strings.Contains(name, c.want) {
			t.Errorf("%v: %s", c.paths, name)
		}
	}
}
