package network

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	packets "github.com/weft-dev/weft/network"
)

// writtenWorld is what namespaces say, what is compiled of it in each form, and between which of them packets pass. Package network tries it on real
// packets, and knows nothing of levels.
type writtenWorld struct {
	Says     []saying                      `json:"says"`
	Cluster  []*packets.ClusterPolicy      `json:"clusterNetworkPolicies"`
	Policies []*networkingv1.NetworkPolicy `json:"networkPolicies"`
	Classes  map[string]string             `json:"classes"` // of the matrix, by namespace
	Denied   map[string][]string           `json:"denied"`  // of the matrix
	Allowed  []string                      `json:"allowed"`
}

type saying struct {
	Name      string   `json:"name"`
	Level     string   `json:"level,omitempty"`
	Workspace string   `json:"workspace,omitempty"`
	Deny      []string `json:"deny,omitempty"`
	Allow     []string `json:"allow,omitempty"`
	Isolated  bool     `json:"isolated,omitempty"`
}

// TestWorldsAreWritten compares the worlds with what the rules make of them now; UPDATE=1 writes them.
func TestWorldsAreWritten(t *testing.T) {
	file := filepath.Join("testdata", "worlds.yaml")
	all := []writtenWorld{
		world(t, "", saying{Name: "x", Level: "low"}, saying{Name: "y", Level: "high"}, saying{Name: "z"}),
		world(t, "", saying{Name: "x", Level: "low", Deny: []string{"y"}}, saying{Name: "y", Level: "high"}, saying{Name: "z", Level: "low", Allow: []string{"level"}}),
		world(t, "w", saying{Name: "x", Workspace: "w"}, saying{Name: "y", Workspace: "w", Level: "high"}, saying{Name: "z", Isolated: true}),
	}
	for seed := range uint64(9) {
		all = append(all, randomWorld(t, seed))
	}
	got, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s holds other worlds than the rules make: run with UPDATE=1, and the tests of package network", file)
	}
}

func randomWorld(t *testing.T, seed uint64) writtenWorld {
	rnd := rand.New(rand.NewPCG(seed, 3))
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	var says []saying
	for _, name := range []string{"x", "y", "z"} {
		s := saying{Name: name, Level: pick("", "base", "low", "low", "high"), Workspace: pick("", "w", "v"), Isolated: rnd.IntN(5) == 0}
		if rnd.IntN(3) == 0 {
			s.Deny = []string{pick("x", "y", "z", "workspace:w", "*")}
		}
		if rnd.IntN(3) == 0 {
			s.Allow = []string{pick("x", "y", "z", "workspace:v", "level")}
		}
		says = append(says, s)
	}
	return world(t, pick("", "w", "v"), says...)
}

func world(t *testing.T, isolated string, says ...saying) writtenWorld {
	t.Helper()
	var levels []string
	var spaces []Space
	var pods []packets.Pod
	for i, s := range says {
		levels = append(levels, s.Level)
		spaces = append(spaces, Space{Name: s.Name, Workspace: s.Workspace, Deny: s.Deny, Allow: s.Allow, Isolated: s.Isolated})
		pods = append(pods, packets.Pod{Namespace: s.Name, Name: "p", IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}})
	}
	r := rules(t, levels, spaces, isolated)
	w := writtenWorld{Says: says, Policies: r.Policies(nil), Classes: map[string]string{}, Allowed: []string{}}
	var err error
	if w.Cluster, err = r.ClusterPolicies(); err != nil {
		t.Fatal(err)
	}
	m := r.Matrix("weft", pods)
	w.Denied = m.Denied
	for _, p := range pods {
		w.Classes[p.Namespace] = m.Addresses[p.IPs[0]]
	}
	for _, from := range r.Names() {
		for _, to := range r.Names() {
			if r.Judge(from, to).Allowed {
				w.Allowed = append(w.Allowed, fmt.Sprint(from, " > ", to))
			}
		}
	}
	return w
}
