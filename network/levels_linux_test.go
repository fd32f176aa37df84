package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// TestLevelsOnPackets tries what the rules of levels, black and white lists are compiled to, in each form, between real pods: the worlds are written by
// the tests of level/network, with who may reach whom as the rules say it.
func TestLevelsOnPackets(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "level", "network", "testdata", "worlds.yaml"))
	must(t, err)
	var worlds []struct {
		Cluster  []*ClusterPolicy              `json:"clusterNetworkPolicies"`
		Policies []*networkingv1.NetworkPolicy `json:"networkPolicies"`
		Classes  map[string]string             `json:"classes"`
		Denied   map[string][]string           `json:"denied"`
		Allowed  []string                      `json:"allowed"`
	}
	must(t, yaml.Unmarshal(data, &worlds))
	pods := scenarioObjects(t, "").Pods
	w := newWorld(t, routed, pods)
	e := enforce(t, w)
	matrix, err := OpenTable("weft-matrix", w.node.fd())
	must(t, err)
	refused, passed := 0, 0
	for i, one := range worlds {
		try := func(form string) {
			t.Helper()
			var probes []*probe
			for _, from := range pods {
				for _, to := range pods {
					if from.Key() == to.Key() || from.Name == "c" || to.Name == "b" { // enough of them
						continue
					}
					for _, v6 := range []bool{false, true} {
						probes = append(probes, &probe{from: from.Key(), to: to.Key(), v6: v6, protocol: TCP, port: 80, want: slices.Contains(one.Allowed, from.Namespace+" > "+to.Namespace)})
					}
				}
			}
			w.run(t, probes)
			for _, p := range probes {
				if p.want {
					passed++
				} else {
					refused++
				}
				if p.done != p.want {
					t.Errorf("world %d, %s: %s: the rules say allowed=%t, packets came through: %t", i, form, p, p.want, p.done)
				}
			}
		}
		o := scenarioObjects(t, "")
		o.Cluster = one.Cluster
		e.set(t, o)
		try("ClusterNetworkPolicies")
		o.Cluster, o.Policies = nil, one.Policies
		e.set(t, o)
		try("NetworkPolicies")
		o.Policies = nil
		e.set(t, o)
		m := Matrix{Table: "weft-matrix", Addresses: map[netip.Addr]string{}, Denied: one.Denied}
		for _, p := range pods {
			for _, a := range p.IPs {
				m.Addresses[a] = one.Classes[p.Namespace]
			}
		}
		r, err := m.Ruleset()
		must(t, err)
		must(t, matrix.Replace(r))
		try("matrix")
		empty := Matrix{Table: "weft-matrix"}
		r, err = empty.Ruleset()
		must(t, err)
		must(t, matrix.Replace(r))
	}
	t.Logf("%d worlds in three forms: %d connections passed, %d were refused", len(worlds), passed, refused)
	if passed < 100 || refused < 100 {
		t.Errorf("only %d connections passed and %d were refused: the worlds say little", passed, refused)
	}
}
