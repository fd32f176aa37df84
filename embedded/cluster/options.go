package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/embedded/cgroup"
	"github.com/weft-dev/weft/supervise"
	"github.com/weft-dev/weft/supervise/control"
)

// Options say how a cluster runs.
type Options struct {
	State    string // the state folder
	Mode     string // auto, node or api
	Programs string // folder of containerd, runc and the other programs of a node
	Self     string // this program, to be started again as the components
	Fsync    bool   // whether etcd waits for the disk
	// Snapshotter makes the pods' files of images: overlayfs or weft; empty: as at the last start, at first weft.
	Snapshotter string
	APIPort     int           // on the host; 0 means the last one, or 6443, or a free one
	Grace       time.Duration // the longest that pods may take to end when the supervisor is stopped by a signal

	StartTimeout time.Duration // the longest that a start may take; 0 means DefaultStartTimeout

	AuthorizationConfig string
	AdmissionManifests  string
	APIServerArgs       []string
}

// nodePrograms are needed for pods.
var nodePrograms = []string{"containerd", "containerd-shim-runc-v2", "runc", "bridge", "host-local", "loopback", "portmap", "weft-import", "weft-egress", "weft-dns"}

// chooseMode finds out what this machine allows. missing has a sentence for each thing that stands in the way of pods.
func chooseMode(o Options, tree *cgroup.Tree, treeErr error) (mode control.Mode, missing []string, err error) {
	if o.Mode == string(control.ModeAPI) {
		return control.ModeAPI, nil, nil
	}
	if os.Geteuid() != 0 {
		missing = append(missing, "pods need root: run the same command with sudo")
	} else if err := tryNamespaces(); err != nil {
		missing = append(missing, fmt.Sprintf("pods need network and mount namespaces of their own, which this machine refuses (%v): in a container, start it with --privileged", err))
	}
	switch {
	case treeErr != nil:
		missing = append(missing, fmt.Sprintf("pods need control groups (%v): mount them at /sys/fs/cgroup", treeErr))
	case os.Geteuid() == 0:
		if err := tree.Create(); err != nil {
			missing = append(missing, fmt.Sprintf("pods need control groups that can be written (%v): in a container, start it with --privileged and --cgroupns=host", err))
		}
	}
	for _, name := range nodePrograms {
		if _, err := os.Stat(filepath.Join(o.Programs, name)); err != nil {
			missing = append(missing, fmt.Sprintf("the program %s is not in %s: run `make build`, which says why it could not be built", name, o.Programs))
		}
	}
	if o.Snapshotter == snapshotterWeft {
		if _, err := os.Stat(o.lazyd()); err != nil {
			missing = append(missing, fmt.Sprintf("the program lazyd is not at %s: run `make build`, or choose --snapshotter overlayfs", o.lazyd()))
		}
	}
	if _, err := exec.LookPath("nft"); err != nil {
		missing = append(missing, "Services need the program nft: install the package nftables")
	}
	switch {
	case len(missing) == 0:
		return control.ModeNode, nil, nil
	case o.Mode == string(control.ModeNode):
		errs := make([]error, len(missing))
		for i, m := range missing {
			errs[i] = errors.New(m)
		}
		return "", missing, errors.Join(errs...)
	default:
		return control.ModeAPI, missing, nil
	}
}

// tryNamespaces tells whether the kernel lets this process make the namespaces of a node.
func tryNamespaces() error {
	c := make(chan error)
	go supervise.OwnThread(func() { c <- unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS) })
	return <-c
}
