package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/registry/registrytest"
)

// terminalFor gives a program a pseudo terminal for its standard error, and a function that returns what it wrote there.
func terminalFor(t *testing.T, cmd *exec.Cmd) (written func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs pseudo terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	var n int
	err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	if err == nil {
		n, err = unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(filepath.Join("/dev/pts", strconv.Itoa(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err == nil {
		err = unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 120})
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = tty
	all := make(chan string, 1)
	go func() {
		b, err := io.ReadAll(master)
		if err != nil && !errors.Is(err, unix.EIO) { // the other side was closed
			b = append(b, err.Error()...)
		}
		all <- string(b)
	}()
	return func() string {
		tty.Close()
		return <-all
	}
}

// TestUpShowsPhases holds what a user of `weft up` sees of a build: each phase with its time and what it took from earlier builds, and what
// buildpacks print, on a terminal and elsewhere.
func TestUpShowsPhases(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "./cmd/weft", "./cmd/sandbox", "./cmd/launcher", "./cmd/webfiles", "./cmd/certificates")
	build.Dir, build.Env, build.Stderr = "../..", append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := build.Run(); err != nil {
		t.Fatal(err)
	}
	r := registrytest.New(t, registrytest.Config{})
	for _, kind := range []string{"plain", "terminal"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			b.write("weft.yaml", "version: 1\nname: page-"+kind+"\nmanifests: [job.yaml]\nimages:\n  page:\n    source: web\n")
			if err := os.Mkdir(filepath.Join(b.dir, "web"), 0o755); err != nil {
				t.Fatal(err)
			}
			b.write("web/index.html", "one")
			b.write("job.yaml", `apiVersion: batch/v1
kind: CronJob
metadata: {name: page}
spec:
  schedule: "0 0 1 1 *"
  suspend: true
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: page, image: page}]}}}}
`)
			up := func() string {
				t.Helper()
				cmd := exec.Command(filepath.Join(bin, "weft"), "--kubeconfig", b.kubeconfig, "up", b.dir, "--registry", r.Host+"/"+kind, "-n", b.place.Namespace)
				cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=1", "HOME="+bin)
				var plain bytes.Buffer
				cmd.Stderr = &plain
				written := plain.String
				if kind == "terminal" {
					written = terminalFor(t, cmd)
				}
				err := cmd.Run()
				seen := written()
				if err != nil {
					t.Fatalf("%v\n%s", err, seen)
				}
				return seen
			}
			expect := func(seen string, patterns ...string) {
				t.Helper()
				for _, p := range patterns {
					if !regexp.MustCompile(p).MatchString(seen) {
						t.Errorf("nothing like %s is shown:\n%q", p, seen)
					}
				}
			}
			const item = `(?m)^(\x1b\[\d+A\r\x1b\[J)?image/page: `
			first := up()
			expect(first, item+`analyze  [\d.]+m?s, [a-z]`, item+`detect  [\d.]+m?s`, item+`build  [\d.]+m?s`, item+`export  [\d.]+m?s, `,
				`image/page: +Serving 1 files of \.|Serving 1 files of \.`, `image/page  built and pushed, [0-9a-f]{12}`)
			if second := up(); regexp.MustCompile(item + `(detect|build|export)`).MatchString(second) {
				t.Errorf("phases of a build that was not needed are shown: %q", second)
			}
			b.write("web/index.html", "two")
			expect(up(), item+`analyze  [\d.]+m?s, [a-z]`, item+`export  [\d.]+m?s, .*reused`)
		})
	}
}
