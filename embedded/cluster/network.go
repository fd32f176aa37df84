package cluster

import "net"

// The addresses of one cluster. They live in the node's network namespace only, so every cluster has the same ones.
const (
	nodeName      = "weft"
	nodeIPv4      = "10.44.0.1"
	nodeIPv6      = "fd00:44::1"
	podCIDRv4     = "10.42.0.0/16"
	podCIDRv6     = "fd00:42::/64"
	serviceCIDRv4 = "10.43.0.0/16"
	serviceCIDRv6 = "fd00:43::/112"
	serviceCIDR   = serviceCIDRv4 + "," + serviceCIDRv6
	dnsService    = "10.43.0.10"
	dnsPort       = 53
	apiPort       = 6443 // inside the namespace

	// egressGateway is where weft-egress answers: the default route, and DNS with what the host knows. The addresses are set
	// aside for a machine's own use (RFC 7335), so no network that the host reaches has them.
	egressGateway = "192.0.0.1"
	egressAddress = "192.0.0.2/29"
)

// kubernetesService is the address of the Service "kubernetes".
var kubernetesService = []net.IP{net.IPv4(10, 43, 0, 1), net.ParseIP("fd00:43::1")}
