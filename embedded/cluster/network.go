package cluster

import "net"

// The addresses of one cluster. They live in the node's network namespace only, so every cluster has the same ones.
const (
	nodeName    = "weft"
	nodeIPv4    = "10.44.0.1"
	nodeIPv6    = "fd00:44::1"
	podCIDRv4   = "10.42.0.0/16"
	podCIDRv6   = "fd00:42::/64"
	serviceCIDR = "10.43.0.0/16,fd00:43::/112"
	dnsService  = "10.43.0.10"
	dnsPort     = 53
	apiPort     = 6443 // inside the namespace

	// The tap device of the way out. The gateway answers DNS with what the host knows.
	egressDevice    = "egress0"
	egressAddress   = "10.44.255.2/24"
	egressGateway   = "10.44.255.1"
	egressAddressV6 = "fd00:44:ff::2/64"
	egressGatewayV6 = "fd00:44:ff::1"
)

// kubernetesService is the address of the Service "kubernetes".
var kubernetesService = []net.IP{net.IPv4(10, 43, 0, 1), net.ParseIP("fd00:43::1")}
