package buildpack_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/buildpack"
)

// scripted is an application with a buildpack that runs a script as bin/build.
func scripted(t *testing.T, script string) string {
	t.Helper()
	source := files(t, map[string]string{
		"bp/buildpack.toml": "api = \"0.10\"\n[buildpack]\nid = \"test/hostile\"\nversion = \"1\"\n", "bp/bin/detect": "#!/bin/sh\n",
		"bp/bin/build": "#!/bin/bash\n" + script + "\n", "project.toml": "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nuri = \"bp\"\n",
	})
	for _, name := range []string{"bp/bin/detect", "bp/bin/build"} {
		if err := os.Chmod(filepath.Join(source, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Whoever may write there by its mode: that it is not writable is the sandbox' doing.
	if err := os.Chmod(filepath.Join(source, "bp"), 0o777); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	return source
}

// TestHostileBuildpacks runs buildpacks that want what is not theirs: none gets it, each build ends, and nothing of it stays.
func TestHostileBuildpacks(t *testing.T) {
	m := newMachine(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("CNB_REGISTRY_AUTH", `{"x":"Basic s3cr3t"}`)
	t.Setenv("MY_TOKEN", "s3cr3t")
	secret := `{"auths":{"registry.example.com":{"auth":"dTpzM2NyM3Q="}},"note":"s3cr3t"}`
	// Whoever may read it by its mode, that it is not to be seen is the sandbox' doing.
	if err := errors.Join(os.Chmod(filepath.Dir(home), 0o755), os.Mkdir(filepath.Join(home, ".docker"), 0o755), os.WriteFile(filepath.Join(home, ".docker", "config.json"), []byte(secret), 0o644)); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(m.host)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, script string
		change       func(*buildpack.Options)
		want         string // in error or output; "" wants that the build succeeds
		never        string // in the output
	}{
		{"reads credentials", `cat ` + home + `/.docker/config.json ~/.docker/config.json /root/.docker/config.json; env; cat /proc/*/environ | tr '\0' '\n'; ls -a ` + home + ` /root /home/*; true`, nil, "", "s3cr3t"},
		{"writes outside its layers", `for f in /usr/x /cnb/buildpacks/x /cnb/buildpacks/test_hostile/1/x /platform/env/X /layers/../cnb/x /proc/sys/kernel/hostname; do echo x >$f && echo written $f; done; true`, nil, "", "written"},
		{"a layer that is a link", `ln -s /etc "$1/out"; printf '[types]\nlaunch = true\n' >"$1/out.toml"`, nil, "is not a folder", ""},
		{"metadata that is a link", `ln -s /etc/passwd "$1/launch.toml"`, nil, "launch.toml", ""},
		{"an endless file of metadata", `ln -s /dev/zero "$1/launch.toml"`, nil, "launch.toml", ""},
		{"a pipe as metadata", `mkfifo "$1/launch.toml"`, func(o *buildpack.Options) { o.Limits.Time = 20 * time.Second }, "launch.toml", ""},
		{"a layer called after a reserved file", `mkdir "$1/launch"; printf '[types]\nlaunch = true\nnonsense' >"$1/launch.toml"`, nil, "launch.toml:3", ""},
		{"network forbidden", `if echo >/dev/tcp/127.0.0.1/` + port + `; then echo connected; fi; true`, func(o *buildpack.Options) { o.NoNetwork = true }, "", "connected"},
		{"hangs", `sleep 9999 & sleep 9999`, func(o *buildpack.Options) { o.Limits.Time = time.Second }, "time limit", ""},
		{"fork bomb", `bomb() { bomb | bomb & }; bomb; sleep 9999`, func(o *buildpack.Options) { o.Limits.Time, o.Limits.Processes = 2*time.Second, 100 }, "time limit", ""},
		{"eats memory", `head -c 300000000 /dev/zero | tail -c 299999999 >/dev/null`, func(o *buildpack.Options) { o.Limits.Memory = 64 << 20 }, "memory limit", ""},
		{"writes a file without end", `cat /dev/zero >"$1/big"`, func(o *buildpack.Options) { o.Limits.FileSize = 4 << 20 }, "exit status", ""},
		{"leaves a process behind", `sleep 98762 & disown; exit 0`, nil, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m.t = t
			if tt.name == "eats memory" && os.Getuid() != 0 {
				t.Skip("control groups are not writable for an ordinary user")
			}
			opts := m.options(scripted(t, tt.script), "hostile")
			if tt.change != nil {
				tt.change(&opts)
			}
			_, err := buildpack.Build(t.Context(), opts)
			text := m.output()
			if err != nil {
				text += err.Error()
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(text, tt.want)) {
				t.Errorf("got %v, want %q\n%s", err, tt.want, text)
			}
			if tt.never != "" && strings.Contains(text, tt.never) {
				t.Errorf("the buildpack got what it wanted:\n%s", text)
			}
			if left, err := filepath.Glob(filepath.Join(m.state, "work", "*")); err != nil || len(left) > 0 {
				t.Errorf("folders are left: %v %v", left, err)
			}
			if out, _ := exec.Command("pgrep", "-f", "sleep (9999|98762)").Output(); len(out) > 0 {
				t.Errorf("processes are left: %s", out)
			}
		})
	}
}

// TestFullDisk builds on a disk that a buildpack fills: there is an error, nothing stays, and the next build succeeds.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small disk")
	}
	m := newMachine(t)
	if err := unix.Mount("small", m.state, "tmpfs", 0, "size=16m"); err != nil {
		t.Skip("cannot mount here: ", err)
	}
	defer func() { _ = unix.Unmount(m.state, unix.MNT_DETACH) }()
	opts := m.options(scripted(t, `mkdir "$1/big"; head -c 100000000 /dev/zero >"$1/big/file"`), "full")
	if _, err := buildpack.Build(t.Context(), opts); err == nil || !strings.Contains(m.output()+err.Error(), "No space left on device") {
		t.Errorf("a full disk gave %v\n%s", err, m.output())
	}
	opts = m.options(scripted(t, `mkdir "$1/small"; echo x >"$1/small/file"; printf '[types]\nlaunch = true\ncache = true\n' >"$1/small.toml"`), "full")
	if _, err := buildpack.Build(t.Context(), opts); err != nil {
		t.Errorf("after a full disk: %v\n%s", err, m.output())
	}
}
