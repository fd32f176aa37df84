package cluster

import (
	"fmt"
	"net"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/embedded/cgroup"
	"github.com/weft-dev/weft/embedded/controlplane"
	"github.com/weft-dev/weft/embedded/pki"
)

// The users of this program's parts. Levels do not bind them.
const (
	supervisorUser = "weft:supervisor"
	agentUser      = "weft:agent"
	dnsUser        = "weft:dns"
)

// nodeCertificates makes the certificates and kubeconfig files of kubelet and kube-proxy.
func nodeCertificates(s State) error {
	folder := s.PKI()
	ca, err := folder.Authority("ca")
	if err != nil {
		return err
	}
	ips := []net.IP{net.ParseIP(nodeIPv4), net.ParseIP(nodeIPv6), net.IPv4(127, 0, 0, 1)}
	requests := []pki.Request{
		{Name: "kubelet", CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}, Client: true},
		{Name: "kubelet-server", CommonName: nodeName, DNSNames: []string{nodeName}, IPs: ips, Server: true},
		{Name: "kube-proxy", CommonName: "system:kube-proxy", Client: true},
		{Name: "dns", CommonName: dnsUser, Client: true},
		{Name: "agent", CommonName: agentUser, Client: true},
		{Name: "metrics", CommonName: "metrics", DNSNames: []string{metricsService + "." + metav1.NamespaceSystem + ".svc"}, IPs: ips[:1], Server: true},
	}
	for _, r := range requests {
		if _, err := ca.Issue(r); err != nil {
			return err
		}
	}
	server := fmt.Sprintf("https://%s:%d", nodeIPv4, apiPort)
	for _, name := range []string{"kubelet", "kube-proxy", "dns", "agent"} {
		if err := controlplane.Kubeconfig(folder, ca, name, server).Write(s.component(name)); err != nil {
			return err
		}
	}
	return nil
}

// inNode translates a path inside the state folder to what the node's programs see.
func inNode(s State, path string) string {
	rel, err := filepath.Rel(s.Dir, path)
	if err != nil {
		return path
	}
	return filepath.Join(stateMount, rel)
}

// kubeletArgs writes the kubelet's configuration and returns its flags.
func kubeletArgs(s State, id Identity, tree *cgroup.Tree) ([]string, error) {
	images := containerdSocket
	if id.snapshotter() == snapshotterWeft {
		images = snapshotterSocket // it learns there with what pods' images are pulled
	}
	config := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[1]s
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true, cacheTTL: 2m}
  x509: {clientCAFile: %[2]s}
authorization: {mode: Webhook}
tlsCertFile: %[3]s
tlsPrivateKeyFile: %[4]s
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
clusterDomain: cluster.local
clusterDNS: [%[5]s]
resolvConf: %[6]s
containerRuntimeEndpoint: unix://%[7]s
imageServiceEndpoint: unix://%[10]s
cgroupDriver: cgroupfs
cgroupRoot: %[8]s
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: true
volumePluginDir: %[9]s
nodeStatusUpdateFrequency: 10s
nodeStatusReportFrequency: 5m
serializeImagePulls: false
eventRecordQPS: 0
registryPullQPS: 0
syncFrequency: 10s
kubeAPIQPS: 100
kubeAPIBurst: 200
imageGCHighThresholdPercent: 100
evictionHard:
  memory.available: 100Mi
  nodefs.available: 1%%
  imagefs.available: 1%%
  nodefs.inodesFree: 1%%
maxPods: 250
shutdownGracePeriod: 0s
enableServer: true
logging: {format: text, verbosity: 1}
`, nodeIPv4, inNode(s, s.PKI().Cert("ca")), inNode(s, s.PKI().Cert("kubelet-server")), inNode(s, s.PKI().Key("kubelet-server")), dnsService,
		stateMount+"/run/resolv.conf", containerdSocket, tree.Name, inNode(s, s.Data("volume-plugins")), images)
	file := s.path("run", "kubelet.yaml")
	if err := pki.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return []string{"kubelet",
		"--config=" + inNode(s, file),
		"--kubeconfig=" + inNode(s, s.component("kubelet")),
		"--hostname-override=" + nodeName,
		"--node-ip=" + nodeIPv4 + "," + nodeIPv6,
		"--root-dir=/var/lib/kubelet",
		"--cert-dir=" + inNode(s, s.PKI().Path),
	}, nil
}

// proxyArgs writes kube-proxy's configuration and returns its flags.
func proxyArgs(s State) ([]string, error) {
	config := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: %[1]s
bindAddress: %[2]s
clusterCIDR: %[3]s,%[4]s
clientConnection:
  kubeconfig: %[5]s
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {syncPeriod: 30s, minSyncPeriod: 50ms}
`, nodeName, nodeIPv4, podCIDRv4, podCIDRv6, inNode(s, s.component("kube-proxy")))
	file := s.path("run", "kube-proxy.yaml")
	if err := pki.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return []string{"kube-proxy", "--config=" + inNode(s, file)}, nil
}
