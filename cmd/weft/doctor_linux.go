package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/cmd/internal/cluster"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/supervise/control"
)

// examine looks at the machine.
func examine(ctx context.Context, c *cluster.Cluster) []finding {
	findings := []finding{checkNode(c), checkState(ctx, c), checkSpace(c.State), checkMemory()}
	if os.Geteuid() != 0 {
		return append(findings, finding{"root", limited, fmt.Sprintf("user %d", os.Geteuid()),
			"Only the API, the controllers and the scheduler run; pods need root: `sudo weft up`."})
	}
	findings = append(findings, finding{"root", good, "yes", ""}, checkCgroups("/sys/fs/cgroup"), checkNamespaces())
	findings = append(findings, checkPrograms(c)...)
	findings = append(findings,
		checkTool("nft", "nftables", "Services and network policies need it."),
		checkTool("iptables", "iptables", "Host ports of pods need it."),
		checkFilesystem("overlay", "Images are unpacked with it; the kernel module is overlay."),
		checkFilesystem("erofs", "Lazy images need it; the kernel module is erofs."),
		checkPath("/dev/fuse", "Lazy images fall back to it; the kernel module is fuse."),
		checkPath("/proc/sys/net/bridge/bridge-nf-call-iptables", "Pods of one bridge are filtered through it; the kernel module is br_netfilter. Without it routed links are used."),
	)
	return findings
}

func checkNode(c *cluster.Cluster) finding {
	if c.Program == "" {
		return finding{"weft-node", bad, c.NoProgram.Error(), (&cluster.MissingProgramError{}).Advice()}
	}
	return finding{"weft-node", good, c.Program, ""}
}

func checkState(ctx context.Context, c *cluster.Cluster) finding {
	const name = "state folder"
	if _, err := os.Stat(c.State); errors.Is(err, os.ErrNotExist) {
		return finding{name, good, c.State + " (made by the first start)", ""}
	}
	if err := control.Check(c.State); err != nil {
		return finding{name, bad, err.Error(), "Choose another folder with --state."}
	}
	s, err := c.Status(ctx)
	if err != nil {
		return finding{name, limited, c.State + ": " + err.Error(), "`weft down` ends a supervisor that does not answer."}
	}
	if s.Phase == control.Stopped && control.Leftover(c.State) {
		return finding{name, limited, c.State + ": its cluster was killed", "`weft down` removes what it left, `weft up` goes on with its data."}
	}
	return finding{name, good, fmt.Sprintf("%s (%s)", c.State, s.Phase), ""}
}

// leastSpace and leastMemory are what a cluster with a few images needs, in bytes.
const (
	leastSpace  = 4 << 30
	leastMemory = 1 << 30
)

func checkSpace(state string) finding {
	const name = "disk"
	dir := state
	var fs unix.Statfs_t
	for err := unix.Statfs(dir, &fs); err != nil; err = unix.Statfs(dir, &fs) {
		if dir == filepath.Dir(dir) {
			return finding{name, limited, err.Error(), ""}
		}
		dir = filepath.Dir(dir) // it is made by the first start
	}
	free := int64(fs.Bavail) * fs.Bsize
	found := output.Bytes(free) + " free below " + dir
	if free < leastSpace {
		return finding{name, limited, found, fmt.Sprintf("Make room for %s, or choose another folder with --state: pods are evicted from a full disk.", output.Bytes(leastSpace))}
	}
	return finding{name, good, found, ""}
}

func checkMemory() finding {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return finding{"memory", limited, err.Error(), ""}
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			found := output.Bytes(kib<<10) + " available"
			if kib<<10 < leastMemory {
				return finding{"memory", limited, found, fmt.Sprintf("The cluster itself takes about 700 MiB; make %s available.", output.Bytes(leastMemory))}
			}
			return finding{"memory", good, found, ""}
		}
	}
	return finding{"memory", limited, "not known", ""}
}

// checkCgroups looks at the hierarchy below root, /sys/fs/cgroup.
func checkCgroups(root string) finding {
	const name = "cgroups"
	const advice = "Pods need writable cgroups with the controllers cpu, memory and pids. In a container, start it with its own writable cgroups."
	if b, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); err == nil {
		if lacking := lackingControllers(strings.Fields(string(b)), "cpu", "memory", "pids"); lacking != "" {
			return finding{name, limited, "v2 without " + lacking, advice}
		}
		return writable(name, root, "v2", advice)
	}
	var lacking []string
	for _, controller := range []string{"cpu", "memory", "pids", "cpuset"} {
		if _, err := os.Stat(filepath.Join(root, controller)); err != nil {
			lacking = append(lacking, controller)
		}
	}
	if len(lacking) > 0 {
		return finding{name, limited, "v1 without " + strings.Join(lacking, ", "), advice}
	}
	return writable(name, filepath.Join(root, "memory"), "v1", advice)
}

func lackingControllers(have []string, need ...string) string {
	var lacking []string
	for _, n := range need {
		found := false
		for _, h := range have {
			found = found || h == n
		}
		if !found {
			lacking = append(lacking, n)
		}
	}
	return strings.Join(lacking, ", ")
}

func writable(name, dir, found, advice string) finding {
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return finding{name, limited, found + ", not writable", advice}
	}
	return finding{name, good, found, ""}
}

func checkNamespaces() finding {
	const name = "namespaces"
	var lacking []string
	for _, ns := range []string{"mnt", "net", "pid", "ipc", "uts", "user"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			lacking = append(lacking, ns)
		}
	}
	if len(lacking) > 0 {
		return finding{name, limited, "the kernel lacks " + strings.Join(lacking, ", "), "Pods need a kernel with these namespaces."}
	}
	return finding{name, good, "mount, network, process, ipc, uts, user", ""}
}

// checkPrograms looks for the programs of a node beside weft-node.
func checkPrograms(c *cluster.Cluster) []finding {
	if c.Program == "" {
		return nil
	}
	dir := filepath.Join(filepath.Dir(c.Program), "node")
	var lacking []string
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "runc", "bridge", "host-local", "loopback", "portmap", "weft-dns", "weft-pause"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode()&0o111 == 0 {
			lacking = append(lacking, name)
		}
	}
	if len(lacking) > 0 {
		return []finding{{"node programs", limited, "missing in " + dir + ": " + strings.Join(lacking, ", "), "Pods need them: `make build` as root, which installs a C compiler and libseccomp's headers."}}
	}
	return []finding{{"node programs", good, dir, ""}}
}

func checkTool(program, debian, use string) finding {
	path, err := exec.LookPath(program)
	if err != nil {
		return finding{program, limited, "missing", use + " Install it: `apt-get install " + debian + "`."}
	}
	return finding{program, good, path, ""}
}

func checkFilesystem(name, use string) finding {
	b, err := os.ReadFile("/proc/filesystems")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "nodev")) == name {
				return finding{name, good, "in the kernel", ""}
			}
		}
	}
	return finding{name, limited, "not in the kernel, or its module is not loaded", use + " Try `modprobe " + name + "`."}
}

func checkPath(path, use string) finding {
	if _, err := os.Stat(path); err != nil {
		return finding{filepath.Base(path), limited, "missing", use}
	}
	return finding{filepath.Base(path), good, "there", ""}
}
