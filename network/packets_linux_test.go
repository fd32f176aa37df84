package network

import (
	"bytes"
	"hash/crc32"
	"os"
	"testing"

	"sigs.k8s.io/yaml"
)

func crc32c(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// enforcement is a compiler whose changes go to the kernel.
type enforcement struct {
	compiler *Compiler
	table    *Table
	objects  Objects
}

func enforce(t testing.TB, w *world) *enforcement {
	t.Helper()
	c, err := NewCompiler(Config{Table: "weft-test", Node: "n1", PodCIDRs: prefixes("10.244.0.0/24", "fd00:10:244::/64")})
	must(t, err)
	table, err := OpenTable("weft-test", w.node.fd())
	must(t, err)
	must(t, table.Replace(c.Ruleset()))
	c.Changes()
	return &enforcement{compiler: c, table: table}
}

// set makes the objects the wanted state, by changes to what was there before.
func (e *enforcement) set(t testing.TB, o Objects) {
	t.Helper()
	for _, ns := range o.Namespaces {
		e.compiler.SetNamespace(ns)
	}
	for _, p := range o.Pods {
		e.compiler.SetPod(p)
	}
	for _, old := range e.objects.Policies {
		e.compiler.DeletePolicy(old.Namespace, old.Name)
	}
	for _, np := range o.Policies {
		e.compiler.SetPolicy(np)
	}
	for _, old := range e.objects.Cluster {
		e.compiler.DeleteClusterPolicy(old.Name)
	}
	for _, cp := range o.Cluster {
		e.compiler.SetClusterPolicy(cp)
	}
	for _, n := range o.Nodes {
		e.compiler.SetNode(n)
	}
	e.objects = o
	must(t, e.table.Apply(e.compiler.Changes()))
}

// allProbes is every connection between two different places, with what Evaluate says about it.
func allProbes(w *world, o Objects) []*probe {
	s := NewSnapshot(o)
	var out []*probe
	for from, a := range w.spots {
		for to, b := range w.spots {
			if from == to || (from == "outside" && to == "node") {
				continue
			}
			for i, v6 := range []bool{false, true} {
				for _, protocol := range []Protocol{TCP, UDP} {
					for _, port := range listenPorts {
						p := &probe{from: from, to: to, v6: v6, protocol: protocol, port: port}
						p.want = Evaluate(s, s.Address(a.ips[i]), s.Address(b.ips[i]), protocol, port).Allowed
						out = append(out, p)
					}
				}
			}
		}
	}
	return out
}

func (w *world) compare(t testing.TB, o Objects) {
	t.Helper()
	probes := allProbes(w, o)
	w.run(t, probes)
	allowed, wrong := 0, 0
	s := NewSnapshot(o)
	for _, p := range probes {
		if p.want {
			allowed++
		}
		if p.done == p.want {
			continue
		}
		if wrong++; wrong <= 5 {
			i := 0
			if p.v6 {
				i = 1
			}
			t.Errorf("%s: packets came through: %v, but Evaluate: %s", p, p.done,
				Evaluate(s, s.Address(w.spots[p.from].ips[i]), s.Address(w.spots[p.to].ips[i]), p.protocol, p.port))
		}
	}
	if wrong > 0 {
		var b bytes.Buffer
		for _, np := range o.Policies {
			y, _ := yaml.Marshal(np.Spec)
			b.WriteString(np.Namespace + "/" + np.Name + "\n")
			b.Write(y)
		}
		for _, cp := range o.Cluster {
			y, _ := yaml.Marshal(cp.Spec)
			b.WriteString(cp.Name + "\n")
			b.Write(y)
		}
		t.Fatalf("%d of %d probes are wrong with\n%s", wrong, len(probes), b.String())
	}
	t.Logf("%d probes agree, %d of them allowed", len(probes), allowed)
}

// Random policies, one after another by incremental changes: what Evaluate says is what packets do.
func TestPacketsAgreeWithEvaluate(t *testing.T) {
	rounds := uint64(12)
	if os.Getenv("WEFT_LONG_TESTS") != "" {
		rounds = 200
	}
	for name, how := range map[string]datapath{"bridge": bridged, "routed": routed} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, how, newGenerator(0).pods())
			e := enforce(t, w)
			for seed := range rounds {
				o := newGenerator(seed + 1).objects()
				e.set(t, o)
				w.compare(t, o)
			}
		})
	}
}
