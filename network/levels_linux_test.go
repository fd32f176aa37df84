package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// tried is what is compiled, and between which namespaces packets are to pass.
type tried struct {
	Labels   map[string]map[string]string  `json:"labels"` // of namespaces
	Cluster  []*ClusterPolicy              `json:"clusterNetworkPolicies"`
	Policies []*networkingv1.NetworkPolicy `json:"networkPolicies"`
	Classes  map[string]string             `json:"classes"`
	Denied   map[string][]string           `json:"denied"`
	Allowed  []string                      `json:"allowed"`
}

// try sends packets between pods of all namespaces, and counts what came through and what did not.
func (w *world) try(t *testing.T, what string, pods []Pod, allowed []string) (passed, refused int) {
	t.Helper()
	var probes []*probe
	for _, from := range pods {
		for _, to := range pods {
			if from.Key() == to.Key() || from.Name == "c" || to.Name == "b" { // enough of them
				continue
			}
			for _, v6 := range []bool{false, true} {
				probes = append(probes, &probe{from: from.Key(), to: to.Key(), v6: v6, protocol: TCP, port: 80, want: slices.Contains(allowed, from.Namespace+" > "+to.Namespace)})
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
			t.Errorf("%s: %s: allowed=%t is meant, packets came through: %t", what, p, p.want, p.done)
		}
	}
	return passed, refused
}

// TestLevelsOnPackets tries what the rules of levels, black and white lists are compiled to, in each form, between real pods: the worlds are written by
// the tests of level/network, with who may reach whom as the rules say it.
func TestLevelsOnPackets(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "level", "network", "testdata", "worlds.yaml"))
	must(t, err)
	var worlds []tried
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
			through, not := w.try(t, fmt.Sprintf("world %d, %s", i, form), pods, one.Allowed)
			passed, refused = passed+through, refused+not
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

// TestTheTalkOnPackets tries the network policies of graded management, as package level/talk translates them, between real pods.
func TestTheTalkOnPackets(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "level", "talk", "testdata", "policies.yaml"))
	must(t, err)
	var one tried
	must(t, yaml.Unmarshal(data, &one))
	o := scenarioObjects(t, "")
	w := newWorld(t, routed, o.Pods)
	e := enforce(t, w)
	for i := range o.Namespaces {
		o.Namespaces[i].Labels = one.Labels[o.Namespaces[i].Name]
	}
	o.Policies = one.Policies
	e.set(t, o)
	if passed, refused := w.try(t, "the talk", o.Pods, one.Allowed); passed == 0 || refused == 0 {
		t.Errorf("%d connections are to pass, %d to be refused: that says little", passed, refused)
	}
}
