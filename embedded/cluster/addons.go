package cluster

import (
	"context"
	"net"
	"path/filepath"

	apirbac "k8s.io/client-go/applyconfigurations/rbac/v1"

	"github.com/weft-dev/weft/embedded/addons/balancer"
	"github.com/weft-dev/weft/embedded/addons/volume"
)

// runVolumes gives claims of the default StorageClass their folders.
func runVolumes(ctx context.Context, a *agent) error {
	v := volume.Controller{Client: a.client, Node: nodeName, Folder: filepath.Join(a.config.State, "data", "volumes")}
	return v.Run(ctx)
}

// runBalancers answers Services of type LoadBalancer on the host's loopback.
func runBalancers(ctx context.Context, a *agent) error {
	b := balancer.Controller{Client: a.client, Network: balancer.Network{
		Listen: func(address string) (net.Listener, error) {
			return inNetwork(a.host, func() (net.Listener, error) { return net.Listen("tcp", address) })
		},
		ListenPacket: func(address string) (net.PacketConn, error) {
			return inNetwork(a.host, func() (net.PacketConn, error) { return net.ListenPacket("udp", address) })
		},
		Dial: (&net.Dialer{}).DialContext, // the agent lives in the node's network
	}}
	return b.Run(ctx)
}

// grantAddons lets the agent do what the addons need.
func (c *cluster) grantAddons(ctx context.Context) error {
	rule := apirbac.PolicyRule
	return c.grant(ctx, "weft:addons", "weft:agent",
		rule().WithAPIGroups("").WithResources("persistentvolumeclaims").WithVerbs("get", "list", "watch"),
		rule().WithAPIGroups("").WithResources("persistentvolumes").WithVerbs("get", "list", "watch", "create", "delete"),
		rule().WithAPIGroups("storage.k8s.io").WithResources("storageclasses").WithVerbs("get", "list", "watch", "create", "patch"),
		rule().WithAPIGroups("").WithResources("services").WithVerbs("get", "list", "watch", "patch"),
		rule().WithAPIGroups("").WithResources("services/status").WithVerbs("patch"),
		rule().WithAPIGroups("").WithResources("events").WithVerbs("create", "patch", "update"))
}
