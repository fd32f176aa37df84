package network

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Three classes, the lower of which must not reach the higher ones: packets between all pods agree with that, in both families.
func TestMatrixOnPackets(t *testing.T) {
	pods := newGenerator(0).pods()
	w := newWorld(t, routed, pods)
	m := Matrix{Table: "weft-matrix", Addresses: map[netip.Addr]string{}, Denied: map[string][]string{"low": {"mid", "high"}, "mid": {"high"}}}
	rank := map[string]int{}
	for i, p := range pods {
		class := []string{"low", "mid", "high"}[i%3]
		rank[p.Key()] = i % 3
		for _, a := range p.IPs {
			m.Addresses[a] = class
		}
	}
	r, err := m.Ruleset()
	must(t, err)
	table, err := OpenTable(m.Table, w.node.fd())
	must(t, err)
	must(t, table.Replace(r))
	var probes []*probe
	for _, from := range pods {
		for _, to := range pods {
			if from.Key() == to.Key() {
				continue
			}
			for _, v6 := range []bool{false, true} {
				probes = append(probes, &probe{from: from.Key(), to: to.Key(), v6: v6, protocol: TCP, port: 80, want: rank[from.Key()] >= rank[to.Key()]})
			}
		}
	}
	for _, name := range []string{"outside", "node"} { // of no class
		probes = append(probes, &probe{from: name, to: pods[2].Key(), protocol: TCP, port: 80, want: true})
	}
	w.run(t, probes)
	for _, p := range probes {
		if p.done != p.want {
			t.Errorf("%s: came through: %v", p, p.done)
		}
	}
}

// BenchmarkMatrixLoad makes and writes a matrix of 20,000 addresses in 8 classes as one transaction.
func BenchmarkMatrixLoad(b *testing.B) {
	table, err := OpenTable("weft-matrix", newNetns(b).fd())
	must(b, err)
	m := Matrix{Table: "weft-matrix", Addresses: map[netip.Addr]string{}, Denied: map[string][]string{}}
	for i := range 20000 {
		m.Addresses[netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})] = fmt.Sprint("c", i%8)
	}
	for i := range 8 {
		for j := i + 1; j < 8; j++ {
			m.Denied[fmt.Sprint("c", i)] = append(m.Denied[fmt.Sprint("c", i)], fmt.Sprint("c", j))
		}
	}
	before, n := processorTime(b), 0
	for b.Loop() {
		r, err := m.Ruleset()
		must(b, err)
		must(b, table.Replace(r))
		n++
	}
	b.ReportMetric((processorTime(b)-before)/float64(n), "cpu-ms/op")
}

// processorTime is what the process has taken so far, in milliseconds: on a busy machine the clock says little.
func processorTime(b *testing.B) float64 {
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
}
