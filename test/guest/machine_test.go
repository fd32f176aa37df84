//go:build linux

package guest

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

//go:embed init.sh
var initScript string

// ended is what the guest prints last, before the exit code of its command.
const ended = "guest: the command ended with "

// run starts a guest that runs a shell command in a folder of the host's files
// and gives what it printed. The test fails when the command does.
func run(t *testing.T, folder, command string) string {
	t.Helper()
	kernel := needs(t)
	script := fmt.Sprintf(`export HOME=/root TMPDIR=/var/lib/tmp PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
echo "guest: kernel $(uname -r), control groups $(stat -fc %%T /sys/fs/cgroup)"
( cd %q && %s
)
echo "%s$?"
echo o >/proc/sysrq-trigger
sleep 60
`, folder, command, ended)
	image, err := initramfs(kernel, initScript, script)
	if err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, image, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 28*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(accelerator(),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-machine", "q35", "-smp", "2", "-m", "6G",
		"-kernel", kernel.image, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off",
		"-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
		"-device", "virtio-rng-pci")...)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	code := -1
	for scanner := bufio.NewScanner(output); scanner.Scan(); {
		line := strings.TrimRight(scanner.Text(), "\r")
		if number, ok := strings.CutPrefix(line, ended); ok {
			if code, err = strconv.Atoi(number); err != nil {
				code = -1
			}
			break
		}
		t.Log(line)
		lines = append(lines, line)
	}
	_ = cmd.Process.Kill() // all is said, and nothing of the guest is kept
	_ = cmd.Wait()
	if code != 0 {
		t.Fatalf("in the guest the command ended with %d (-1: it did not end)", code)
	}
	return strings.Join(lines, "\n")
}

// accelerator chooses the processor's virtualization where it is complete.
// Elsewhere, also on a /dev/kvm that only takes adapted kernels, the processor
// is emulated, which takes about twenty times as long.
func accelerator() []string {
	for _, module := range []string{"kvm_intel", "kvm_amd"} {
		_, missing := os.Stat("/sys/module/" + module)
		if file, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); missing == nil && err == nil {
			_ = file.Close()
			return []string{"-accel", "kvm", "-cpu", "host"}
		}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

// needs skips the test where there is no guest, and finds the kernel.
func needs(t *testing.T) kernel {
	t.Helper()
	folder := os.Getenv("WEFT_GUEST_KERNEL")
	if folder == "" {
		t.Skip("runs a virtual machine: use `make test-guest`")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64: install the package qemu-system-x86")
	}
	found, err := findKernel(folder)
	if err != nil {
		t.Skipf("needs an unpacked kernel package, named by WEFT_GUEST_KERNEL: %v", err)
	}
	return found
}
