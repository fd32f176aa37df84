package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	apirbac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/klog/v2"

	"github.com/weft-dev/weft/embedded/pki"
	"github.com/weft-dev/weft/embedded/policy"
)

func policyOptions() policy.Options {
	return policy.Options{
		Node:     nodeName,
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix(podCIDRv4), netip.MustParsePrefix(podCIDRv6)},
		Table:    "weft-policy",
	}
}

// closeNetwork cuts off all pods until the agent knows what may be open: none starts before its policies are in force.
func (c *cluster) closeNetwork() error {
	o := policyOptions()
	o.NetNS = int(c.ns.net.Fd())
	if err := policy.Close(o); err != nil {
		return fmt.Errorf("closing the pods' network: %w", err)
	}
	return nil
}

// grantPolicies lets the agent read what policies depend on.
func (c *cluster) grantPolicies(ctx context.Context) error {
	return c.grant(ctx, "weft:policy", agentUser,
		apirbac.PolicyRule().WithAPIGroups("").WithResources("pods", "namespaces", "nodes").WithVerbs("list", "watch"),
		apirbac.PolicyRule().WithAPIGroups("networking.k8s.io").WithResources("networkpolicies").WithVerbs("list", "watch"),
		apirbac.PolicyRule().WithAPIGroups("policy.networking.k8s.io").WithResources("clusternetworkpolicies").WithVerbs("list", "watch"),
		apirbac.PolicyRule().WithAPIGroups("apiextensions.k8s.io").WithResources("customresourcedefinitions").WithResourceNames(policy.DefinitionName).WithVerbs("list", "watch"))
}

// runPolicies enforces NetworkPolicies and, once their definition is installed, ClusterNetworkPolicies. What it does can be read in run/policy.json.
func runPolicies(ctx context.Context, a *agent) error {
	o := policyOptions()
	o.Client = a.client
	var err error
	if o.Dynamic, err = dynamic.NewForConfig(a.rest); err != nil {
		return err
	}
	o.Runtime = containerdSocket
	latest := make(chan policy.Status, 1)
	o.Report = func(s policy.Status) {
		select {
		case <-latest: // replaced by the newer one
		default:
		}
		latest <- s
	}
	ctx, cancel := context.WithCancel(ctx)
	var group wait.Group
	defer group.Wait()
	defer cancel()
	group.StartWithContext(ctx, func(ctx context.Context) {
		writeStatus(ctx, filepath.Join(a.config.State, "run", "policy.json"), latest)
	})
	return policy.Run(ctx, o)
}

// writeStatus keeps the file up to date, with at most a few writes a second.
func writeStatus(ctx context.Context, file string, latest <-chan policy.Status) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-latest:
			data, err := json.MarshalIndent(s, "", "  ")
			if err == nil {
				err = pki.WriteFile(file, append(data, '\n'), 0o600)
			}
			if err != nil {
				klog.ErrorS(err, "writing the state of network policies")
			}
			klog.V(2).InfoS("network policies", "state", s.String())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(250 * time.Millisecond):
		}
	}
}
