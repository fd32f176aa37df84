package snapshotterd

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/lazy/fanotify"
	"github.com/weft-dev/weft/lazy/fuse"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// TestKilledSnapshotter kills the snapshotter, of a private image, and reads what is missing with nobody to start it again. Then everything is removed, which is
// refused as long as anything is in use.
func TestKilledSnapshotter(t *testing.T) {
	needRoot(t)
	for mode, check := range map[string]func(string) error{"fanotify": fanotify.Check, "fuse": func(string) error { return fuse.Check() }} {
		t.Run(mode, func(t *testing.T) {
			root := stateDir(t)
			if err := check(root); err != nil {
				if os.Getenv("CI") != "" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			testKilledSnapshotter(t, mode, root)
		})
	}
}

func testKilledSnapshotter(t *testing.T, mode, root string) {
	reg := registrytest.New(t, registrytest.Config{Token: &registrytest.Token{User: "pod", Password: "topsecret"}})
	ref, layer, content := pushImage(t, registry.Explicit(map[string]authn.AuthConfig{reg.Host: {Username: "pod", Password: "topsecret"}}), reg.Host+"/app:1")
	login := `{"auths": {"` + reg.Host + `": {"username": "pod", "password": "topsecret"}}}`
	if err := os.WriteFile(filepath.Join(root, "config.json"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	group := filepath.Base(root)
	groups := func() []string {
		one, _ := filepath.Glob("/sys/fs/cgroup/" + group + "*") // version 2
		all, _ := filepath.Glob("/sys/fs/cgroup/*/" + group + "*")
		return append(one, all...)
	}
	t.Cleanup(func() { // of a test that failed
		for _, dir := range groups() {
			_ = os.Remove(dir)
		}
	})
	d := startDaemon(t, root, "--mode", mode, "--background=false", "--attempts=3", "--keeper-cgroup", group)
	if !d.mounts(t, ref, layer) {
		t.Fatal("the image is not mounted")
	}
	look := func() *lazy.View {
		t.Helper()
		v, err := lazy.Look(filepath.Join(root, "lazy"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	await(t, "somebody to stand by", func() bool { return look().StandBy != 0 })
	before := look()
	if before.Server != d.Process.Pid || before.StandsIn || len(before.Images) != 1 {
		t.Fatalf("before the kill: %+v", before)
	}
	target := before.Images[0].Mounts[0]
	remove := func(args ...string) error {
		c := RemoveCommand("keeper")
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(append([]string{"--root", root}, args...))
		c.SetOut(t.Output())
		return c.ExecuteContext(t.Context())
	}
	if err := remove(); err == nil || !strings.Contains(err.Error(), "end it first") {
		t.Errorf("removed while the snapshotter runs: %v", err)
	}
	for _, pid := range []int{before.Keeper, before.StandBy} {
		for _, file := range []string{"cmdline", "environ"} {
			if b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file)); err != nil || bytes.Contains(b, []byte("topsecret")) {
				t.Errorf("%s of process %d: %v, %q", file, pid, err, b)
			}
		}
	}
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(target, "file")); err != nil || !bytes.Equal(b, content) {
		t.Errorf("%d bytes were read, of %d: %v", len(b), len(content), err)
	}
	if v := look(); !v.Served || !v.StandsIn || v.Server != before.StandBy {
		t.Errorf("after the kill: %+v", v)
	}
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.HasPrefix(path, target) && e.Name() != "config.json" {
			if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte("topsecret")) {
				t.Errorf("%s has a secret", path)
			}
		}
		return nil
	})

	over, upper := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Mkdir(upper+"/u", 0o755), os.Mkdir(upper+"/w", 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("overlay", over, "overlay", 0, "lowerdir="+target+",upperdir="+upper+"/u,workdir="+upper+"/w"); err != nil {
		t.Fatal(err)
	}
	err := remove()
	if failed := unix.Unmount(over, 0); failed != nil {
		t.Error(failed)
	}
	if err == nil || !strings.Contains(err.Error(), over) {
		t.Errorf("removed while %s uses the image: %v", over, err)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	await(t, "all processes to end", func() bool { return len(guards(root)) == 0 })
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(b), root+"/") {
		t.Errorf("something is mounted: %v\n%s", err, b)
	}
	await(t, "the control groups to be removed", func() bool { return len(groups()) == 0 })
	other := filepath.Join(root, "snapshots", "other")
	if err := errors.Join(os.Mkdir(other, 0o755), unix.Mount("tmpfs", other, "tmpfs", 0, "size=1m")); err != nil {
		t.Fatal(err)
	}
	if err := remove("--files"); err == nil || !strings.Contains(err.Error(), other) {
		t.Errorf("files on a mount of somebody else were removed: %v", err)
	}
	if err := errors.Join(unix.Unmount(other, 0), remove("--files")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
}

// TestStandByIsThisProgram looks at what the keeper is told to start: the same program with what it needs of the flags, and of the environment what leads to
// registries.
func TestStandByIsThisProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("https_proxy", "http://proxy:3128")
	t.Setenv("DOCKER_AUTH_CONFIG", "topsecret")
	f := flags{verb: []string{"snapshotter"}, root: "/r", mode: "auto", level: "info", hosts: "/h", limit: 5, attempts: 2}
	args, env, err := f.standBy([]string{"/keeper", "--mounts", "/proc/1/ns/mnt", "--cgroup", "g"})
	want := []string{self, "snapshotter", "--follow", "--keeper-program=/keeper", "--keeper-program=--cgroup", "--keeper-program=g", "--root=/r", "--mode=auto", "--log-level=info",
		"--registry-hosts=/h", "--limit=5", "--read-ahead=0", "--attempts=2", "--timeout=0s"}
	if err != nil || !slices.Equal(args, want) {
		t.Errorf("%v, %v; want %v", args, err, want)
	}
	if !slices.Contains(env, "https_proxy=http://proxy:3128") || strings.Contains(strings.Join(env, " "), "topsecret") {
		t.Errorf("the environment is %v", env)
	}
}
