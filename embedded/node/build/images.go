package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-dev/weft/embedded/node/images"
)

// busyboxPath is where Debian's busybox-static installs the program.
const busyboxPath = "/bin/busybox"

// images writes the image archives from the programs built before. Without
// busybox the image for tests is left out: only tests need it.
func (b *builder) images() error {
	folder := filepath.Join(b.out, "images")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	pause, err := os.ReadFile(filepath.Join(b.out, "weft-pause"))
	if err != nil {
		return err
	}
	if err := writeImage(folder, "pause", images.Pause(pause)); err != nil {
		return err
	}
	agent, err := os.ReadFile(filepath.Join(b.out, "logagent"))
	if err != nil {
		return err
	}
	if err := writeImage(folder, "logagent", images.Logagent(agent)); err != nil {
		return err
	}
	busybox, err := os.ReadFile(busyboxPath)
	if err != nil {
		say("!", "images/testpod.tar", fmt.Sprintf("not written, only tests need it; install busybox-static (%v)", err))
		return nil
	}
	applets, err := exec.Command(busyboxPath, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", busyboxPath, err)
	}
	testpod, err := os.ReadFile(filepath.Join(b.out, "weft-testpod"))
	if err != nil {
		return err
	}
	init, err := os.ReadFile(filepath.Join(b.out, "weft-init"))
	if err != nil {
		return err
	}
	return writeImage(folder, "testpod", images.Testpod(busybox, strings.Fields(string(applets)), testpod, init))
}

// writeImage replaces the archive only when its content changes, so that its
// time tells when that was.
func writeImage(folder, name string, image images.Image) error {
	began := time.Now()
	var content bytes.Buffer
	if err := images.Write(&content, image); err != nil {
		return err
	}
	file := filepath.Join(folder, name+".tar")
	label := "images/" + name + ".tar"
	if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, content.Bytes()) {
		say("✓", label, "up to date")
		return nil
	}
	if err := os.WriteFile(file+".new", content.Bytes(), 0o644); err != nil {
		return err
	}
	say("✓", label, fmt.Sprintf("written, %.1f MB  %.1fs", float64(content.Len())/1e6, time.Since(began).Seconds()))
	return os.Rename(file+".new", file)
}
