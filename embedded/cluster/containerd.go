package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/weft-dev/weft/embedded/pki"
)

const (
	containerdSocket = stateMount + "/run/containerd.sock"
	pauseImage       = "weft.local/pause:1"
)

// containerdArgs writes containerd's configuration, the CNI configuration and the registry's host files, and returns
// containerd's flags. programs is the folder of the node's programs.
func containerdArgs(s State, id Identity, programs, cgroup string) ([]string, error) {
	config := fmt.Sprintf(`version = 3
root = %[1]q
state = "/run/containerd"
oom_score = -999
imports = []

[grpc]
  address = %[2]q

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  discard_unpacked_layers = false
  max_concurrent_downloads = 4
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = %[3]q
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = %[4]q

[plugins."io.containerd.cri.v1.runtime"]
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = %[5]q
        SystemdCgroup = false
        Root = "/run/containerd/runc"
        ShimCgroup = %[9]q
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [%[6]q]
    conf_dir = %[7]q
    ip_pref = "ipv4"

[plugins."io.containerd.internal.v1.opt"]
  path = %[8]q
`, inNode(s, s.Data("containerd")), containerdSocket, pauseImage, inNode(s, s.path("run", "certs.d")), filepath.Join(programs, "runc"), programs,
		inNode(s, s.path("run", "cni")), inNode(s, s.Data("containerd"))+"/opt", cgroup+"/shims")
	file := s.path("run", "containerd.toml")
	if err := pki.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if err := writeCNI(s); err != nil {
		return nil, err
	}
	return []string{"--config", inNode(s, file)}, writeRegistryHosts(s, id)
}

func writeCNI(s State) error {
	config := fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "weft",
  "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true, "ipMasq": false, "enabledad": false,
     "ipam": {"type": "host-local", "dataDir": %q,
              "ranges": [[{"subnet": %q}], [{"subnet": %q}]]}},
    {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}
  ]
}
`, inNode(s, s.Data("cni")), podCIDRv4, podCIDRv6)
	dir := s.path("run", "cni")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return pki.WriteFile(filepath.Join(dir, "10-weft.conflist"), []byte(config), 0o600)
}

// writeRegistryHosts tells containerd that the cluster's own registry speaks plain HTTP, under each name it ever had.
func writeRegistryHosts(s State, id Identity) error {
	for _, port := range id.RegistryPorts {
		dir := s.path("run", "certs.d", fmt.Sprintf("127.0.0.1:%d", port))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		text := strings.ReplaceAll("server = \"URL\"\n[host.\"URL\"]\n  capabilities = [\"pull\", \"resolve\"]\n", "URL", fmt.Sprintf("http://127.0.0.1:%d", port))
		if err := pki.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
