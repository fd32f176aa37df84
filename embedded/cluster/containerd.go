package cluster

import (
	"fmt"
	"golang.org/x/sys/unix"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/weft-dev/weft/embedded/pki"
	"github.com/weft-dev/weft/embedded/runtime"
)

const (
	containerdSocket = stateMount + "/run/containerd.sock"
	pauseImage       = "weft.local/pause:1"
	podBridge        = "cni0"
)

// containerdArgs writes containerd's configuration, the pod network's and the registry's host files, and returns
// containerd's flags. programs is the folder of the node's programs.
func containerdArgs(s State, id Identity, programs string) ([]string, error) {
	hosts, network := s.path("run", "certs.d"), s.path("run", "cni")
	node := runtime.Containerd{
		Root:          inNode(s, s.Data("containerd")),
		State:         "/run/containerd",
		Socket:        containerdSocket,
		ShimSockets:   "/run/containerd/s",
		Programs:      programs,
		NetworkConfig: inNode(s, network),
		RegistryHosts: inNode(s, hosts),
		SandboxImage:  pauseImage,
		LogLevel:      "warn",

		RestrictOOMScore: !canLowerOOMScore(),
	}
	if id.Snapshotter == snapshotterWeft {
		node.Snapshotter, node.Proxies = snapshotterWeft, []runtime.Proxy{snapshotterProxy(s)}
	}
	config, err := node.Config()
	if err != nil {
		return nil, err
	}
	pods, err := runtime.Network{
		Bridge:  podBridge,
		Subnets: []netip.Prefix{netip.MustParsePrefix(podCIDRv4), netip.MustParsePrefix(podCIDRv6)},
		Leases:  inNode(s, s.Data("cni")),
	}.Config()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		s.path("run", "containerd.toml"):           config,
		filepath.Join(network, "10-weft.conflist"): pods,
	}
	for _, port := range id.RegistryPorts {
		name := fmt.Sprintf("127.0.0.1:%d", port)
		// The registry has every name it ever had in the node's namespace, so each is reached under itself.
		if files[filepath.Join(hosts, name, "hosts.toml")], err = runtime.RegistryHost("http://" + name); err != nil {
			return nil, err
		}
	}
	for file, data := range files {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, err
		}
		if err := pki.WriteFile(file, data, 0o600); err != nil {
			return nil, err
		}
	}
	return []string{"--config", inNode(s, s.path("run", "containerd.toml"))}, nil
}

// canLowerOOMScore tells whether this process may make others less likely to be killed when memory runs out. Containers
// miss that capability often.
func canLowerOOMScore() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return false
	}
	return sets[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
