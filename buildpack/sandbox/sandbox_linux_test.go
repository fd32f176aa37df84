package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
)

const program = "github.com/weft-dev/weft/cmd/sandbox"

func TestMain(m *testing.M) {
	code := m.Run()
	sandboxtest.Clean()
	os.Exit(code)
}

// fixture is a runner and a specification whose root has this machine's /usr.
func fixture(t testing.TB) (sandbox.Runner, sandbox.Spec) {
	t.Helper()
	sandboxtest.NeedKernel(t)
	bin := os.Getenv("SANDBOX_PROGRAM")
	if bin == "" {
		bin = sandboxtest.Program(t, program)
	}
	dir := t.TempDir()
	lower := filepath.Join(dir, "lower")
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+link, filepath.Join(lower, link)); err != nil {
			t.Fatal(err)
		}
	}
	return sandbox.Runner{Program: bin, Scratch: dir}, sandbox.Spec{
		Root: sandbox.Mount{Kind: sandbox.Overlay, Lower: []string{lower}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")},
		Mounts: []sandbox.Mount{
			{Kind: sandbox.Bind, Source: "/usr", Target: "/usr", ReadOnly: true},
			{Kind: sandbox.Tmpfs, Target: "/tmp", Mode: 0o1777},
		},
		Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/", Hostname: "build", UID: 1000, GID: 1000, HostUID: 61234, HostGID: 61234,
	}
}

func shell(t testing.TB, change func(*sandbox.Spec), script string) (sandbox.Status, string) {
	t.Helper()
	runner, spec := fixture(t)
	spec.Args = []string{"/bin/sh", "-c", script}
	if change != nil {
		change(&spec)
	}
	var out bytes.Buffer
	status, err := runner.Run(t.Context(), spec, nil, &out, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return status, out.String()
}

func TestProgramIsAnOrdinaryUserWithNothing(t *testing.T) {
	_, out := shell(t, nil, `id -u; id -g; hostname; grep -E '^(Cap(Prm|Eff|Amb)|NoNewPrivs|Seccomp):' /proc/self/status | tr '\t' ' '; ls -d /proc/[0-9]* | wc -l; ls /root /home /etc/shadow 2>&1 | head -1; ls /proc/self/fd | wc -l`)
	want := "1000\n1000\nbuild\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n"
	if !strings.HasPrefix(out, want) {
		t.Fatalf("got\n%s\nwant it to begin with\n%s", out, want)
	}
	rest := strings.Fields(strings.TrimPrefix(out, want))
	if n := rest[0]; n > "6" || len(n) > 1 {
		t.Errorf("%s processes are visible, only those inside should be", n)
	}
	if !strings.Contains(out, "No such file") && !strings.Contains(out, "cannot access") {
		t.Errorf("folders of the machine are visible:\n%s", out)
	}
}

func TestForbidden(t *testing.T) {
	tests := map[string]string{
		"mount":                   `mount -t tmpfs x /tmp`,
		"user namespace":          `unshare -U true`,
		"network namespace":       `unshare -n true`,
		"write to the system":     `echo x >/usr/bin/x`,
		"kernel settings":         `echo 1 >/proc/sys/kernel/panic`,
		"change root":             `chroot /tmp true`,
		"host name":               `hostname other`,
		"signal the keeper":       `kill -9 1 && kill -0 1 && exit 1`,
		"read the keeper":         `cat /proc/1/environ`,
		"become somebody else":    `setpriv --reuid 0 true`,
		"write to a foreign file": `echo x >/etc/passwd`,
	}
	for name, script := range tests {
		t.Run(name, func(t *testing.T) {
			if status, out := shell(t, nil, script); status.Code == 0 {
				t.Errorf("%s succeeded: %s", script, out)
			}
		})
	}
}

func TestNetworkOnlyWhenAllowed(t *testing.T) {
	script := `wc -l </proc/net/dev`
	_, closed := shell(t, nil, script)
	if strings.TrimSpace(closed) != "3" { // two lines of heading and loopback
		t.Errorf("a closed sandbox sees %s lines of network devices, want 3", closed)
	}
	host, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	_, open := shell(t, func(s *sandbox.Spec) { s.Network = true }, `cut -d: -f1 /proc/net/dev`)
	for line := range strings.Lines(string(host)) {
		if name, _, ok := strings.Cut(line, ":"); ok && !strings.Contains(open, strings.TrimSpace(name)) {
			t.Errorf("an open sandbox does not see the device %s", name)
		}
	}
}

func TestHowItEnds(t *testing.T) {
	tests := []struct {
		script string
		want   sandbox.Status
	}{
		{`exit 0`, sandbox.Status{}},
		{`exit 100`, sandbox.Status{Code: 100}},
		{`kill -TERM $$`, sandbox.Status{Code: 143, Signal: "terminated"}},
		{`kill -9 $$`, sandbox.Status{Code: 137, Signal: "killed"}},
		{`sleep 1000 & exit 3`, sandbox.Status{Code: 3}}, // the orphan dies with the sandbox
	}
	for _, tt := range tests {
		t.Run(tt.script, func(t *testing.T) {
			if got, _ := shell(t, nil, tt.script); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Run("time", func(t *testing.T) {
		status, _ := shell(t, func(s *sandbox.Spec) { s.Limits.Time = 300 * time.Millisecond }, `sleep 1000 & sleep 1000`)
		if status.Killed != "time limit" {
			t.Errorf("got %+v", status)
		}
	})
	t.Run("processes", func(t *testing.T) {
		status, out := shell(t, func(s *sandbox.Spec) { s.Limits.Processes = 30; s.Limits.Time = 20 * time.Second },
			`i=0; while [ $i -lt 200 ]; do sleep 5 & i=$((i+1)); done; echo all`)
		if strings.Contains(out, "all") && !strings.Contains(out, "fork") {
			t.Errorf("200 processes started although 30 are allowed: %+v %s", status, out)
		}
	})
	t.Run("file size", func(t *testing.T) {
		status, out := shell(t, func(s *sandbox.Spec) { s.Limits.FileSize = 1 << 20 }, `head -c 2000000 /dev/zero >/tmp/big`)
		if status.Code == 0 {
			t.Errorf("a file beyond the limit was written: %s", out)
		}
	})
	t.Run("temporary folder", func(t *testing.T) {
		status, out := shell(t, func(s *sandbox.Spec) { s.Mounts[1].Size = 1 << 20 }, `head -c 2000000 /dev/zero >/tmp/big`)
		if status.Code == 0 || !strings.Contains(out, "No space") {
			t.Errorf("%+v %s", status, out)
		}
	})
	t.Run("memory", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("control groups are not writable for an ordinary user")
		}
		status, _ := shell(t, func(s *sandbox.Spec) { s.Limits.Memory = 32 << 20 }, `cat /dev/zero | tail -c 200000000 >/dev/null`)
		if status.Killed != "memory limit" {
			t.Errorf("got %+v, want a kill for memory", status)
		}
	})
}

func TestCancelLeavesNothing(t *testing.T) {
	runner, spec := fixture(t)
	spec.Args = []string{"/bin/sh", "-c", "echo ready; sleep 98761 & sleep 98761"}
	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 6)
		_, _ = r.Read(buf)
		cancel()
	}()
	_, err = runner.Run(ctx, spec, nil, w, w)
	w.Close()
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if out, _ := exec.Command("pgrep", "-f", "sleep 98761").Output(); len(out) != 0 {
		t.Errorf("processes are left: %s", out)
	}
	if left, _ := filepath.Glob(filepath.Join(runner.Scratch, "root-*")); len(left) != 0 {
		t.Errorf("mount points are left: %v", left)
	}
}

func TestFilesWrittenBelongToTheHostUser(t *testing.T) {
	runner, spec := fixture(t)
	shared := filepath.Join(t.TempDir(), "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	want := uint32(os.Getuid())
	if want == 0 {
		want = 61234
		if err := os.Chown(shared, 61234, 61234); err != nil {
			t.Fatal(err)
		}
	}
	spec.Mounts = append(spec.Mounts, sandbox.Mount{Kind: sandbox.Bind, Source: shared, Target: "/layers"})
	spec.Args = []string{"/bin/sh", "-c", "echo made >/layers/file"}
	if status, err := runner.Run(t.Context(), spec, nil, nil, os.Stderr); err != nil || status.Code != 0 {
		t.Fatal(status, err)
	}
	info, err := os.Stat(filepath.Join(shared, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; got != want {
		t.Errorf("the file belongs to %d, want %d", got, want)
	}
}

func TestErrorsNameTheCause(t *testing.T) {
	runner, spec := fixture(t)
	script := filepath.Join(spec.Root.Lower[0], "script")
	if err := os.WriteFile(script, []byte("#!/usr/bin/nonesuch -x\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*sandbox.Spec)
		want   string
	}{
		{"missing program", func(s *sandbox.Spec) { s.Args = []string{"/bin/nonesuch"} }, "/bin/nonesuch: no such file"},
		{"missing interpreter", func(s *sandbox.Spec) { s.Args = []string{"/script"} }, "its interpreter /usr/bin/nonesuch -x is missing"},
		{"relative program", func(s *sandbox.Spec) { s.Args = []string{"sh"} }, "absolute path"},
		{"root user", func(s *sandbox.Spec) { s.Args = []string{"/bin/sh"}; s.UID = 0 }, "ordinary user"},
		{"missing mount", func(s *sandbox.Spec) {
			s.Args = []string{"/bin/sh"}
			s.Mounts = append(s.Mounts, sandbox.Mount{Kind: sandbox.Bind, Source: "/nonesuch", Target: "/x"})
		}, "mount /x"},
		{"mount through a link", func(s *sandbox.Spec) {
			s.Args = []string{"/bin/sh"}
			s.Mounts = append(s.Mounts, sandbox.Mount{Kind: sandbox.Tmpfs, Target: "/lib/x"})
		}, "symbolic link"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			one := spec
			one.Mounts = append([]sandbox.Mount(nil), spec.Mounts...)
			tt.change(&one)
			_, err := runner.Run(t.Context(), one, nil, nil, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestAsOrdinaryUser runs the tests above once more as a user without any right.
func TestAsOrdinaryUser(t *testing.T) {
	sandboxtest.NeedKernel(t)
	if os.Getuid() != 0 || os.Getenv("SANDBOX_PROGRAM") != "" {
		t.Skip("needs root to become somebody else")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "weft-rootless-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "test")
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(copied, data, 0o755), os.Chown(dir, 61235, 61235)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "-test.v", "-test.run", "^(TestProgramIs|TestForbidden|TestNetworkOnly|TestHowItEnds|TestLimits|TestCancel|TestFilesWritten|TestErrors)")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "HOME=" + dir, "SANDBOX_PROGRAM=" + sandboxtest.Program(t, program)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61235, Gid: 61235}}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), sandbox.ErrUnavailable.Error()) {
		t.Skipf("the kernel does not let ordinary users make namespaces:\n%s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func BenchmarkStart(b *testing.B) {
	runner, spec := fixture(b)
	spec.Args = []string{"/bin/true"}
	for b.Loop() {
		if status, err := runner.Run(b.Context(), spec, nil, nil, nil); err != nil || status.Code != 0 {
			b.Fatal(status, err)
		}
	}
}
