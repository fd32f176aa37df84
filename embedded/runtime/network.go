package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
)

// Network describes the pods' network of one node.
type Network struct {
	Name    string         // "weft" when empty
	Bridge  string         // device; at most 15 characters
	Subnets []netip.Prefix // at most one of each family; the first address is the gateway
	MTU     int            // bytes; 0 leaves the kernel's default
	Leases  string         // folder in which host-local keeps addresses in use
}

// Config gives the text of a CNI 1.1 configuration list, to be written as a
// file that ends in .conflist: bridge with host-local addresses, then
// portmap for host ports by nftables.
//
// There is no masquerading: outside of the node's network namespace nobody
// sees the pods' addresses, and the way out rewrites them anyway.
func (n Network) Config() ([]byte, error) {
	if n.Name == "" {
		n.Name = "weft"
	}
	if n.Bridge == "" || len(n.Bridge) > 15 {
		return nil, fmt.Errorf("bridge name %q has to have 1 to 15 characters", n.Bridge)
	}
	if !filepath.IsAbs(n.Leases) {
		return nil, fmt.Errorf("folder %q for addresses in use is not absolute", n.Leases)
	}
	ranges, err := n.addresses()
	if err != nil {
		return nil, err
	}
	bridge := map[string]any{
		"type":             "bridge",
		"bridge":           n.Bridge,
		"isDefaultGateway": true, // adds the default routes; a second one is an error
		"ipMasq":           false,
		"hairpinMode":      true,
		"ipam": map[string]any{
			"type":    "host-local",
			"ranges":  ranges,
			"dataDir": n.Leases,
		},
	}
	if n.MTU > 0 {
		bridge["mtu"] = n.MTU
	}
	portmap := map[string]any{
		"type":         "portmap",
		"backend":      "nftables",
		"snat":         true,
		"capabilities": map[string]bool{"portMappings": true},
	}
	return json.MarshalIndent(map[string]any{
		"cniVersion": "1.1.0",
		"name":       n.Name,
		"plugins":    []any{bridge, portmap},
	}, "", "  ")
}

func (n Network) addresses() (ranges [][]map[string]string, err error) {
	if len(n.Subnets) == 0 {
		return nil, errors.New("a pod network needs a subnet")
	}
	seen := map[bool]bool{}
	for _, subnet := range n.Subnets {
		four := subnet.Addr().Is4()
		if !subnet.IsValid() || subnet != subnet.Masked() || seen[four] {
			return nil, fmt.Errorf("pod subnet %s: expected one network address for each family", subnet)
		}
		seen[four] = true
		ranges = append(ranges, []map[string]string{{"subnet": subnet.String()}})
	}
	return ranges, nil
}
