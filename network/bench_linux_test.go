package network

import (
	"fmt"
	"testing"
)

// BenchmarkKernelReplace writes 1,000 policies and 10,000 pods as one transaction.
func BenchmarkKernelReplace(b *testing.B) {
	table, err := OpenTable("weft-bench", newNetns(b).fd())
	must(b, err)
	r := loaded(b, largeCluster()).Ruleset()
	for b.Loop() {
		must(b, table.Replace(r))
	}
}

// BenchmarkKernelPodChange compiles and writes a change of the labels of one of 10,000 pods.
func BenchmarkKernelPodChange(b *testing.B) {
	table, err := OpenTable("weft-bench", newNetns(b).fd())
	must(b, err)
	o := largeCluster()
	c := loaded(b, o)
	must(b, table.Replace(c.Ruleset()))
	c.Changes()
	p := o.Pods[4321]
	for i := 0; b.Loop(); i++ {
		p.Labels = map[string]string{"app": fmt.Sprint("app", i%10), "tier": "1"}
		c.SetPod(p)
		must(b, table.Apply(c.Changes()))
	}
}
