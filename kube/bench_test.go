package kube

import (
	"fmt"
	"strings"
	"testing"
)

// objects returns n objects without pods, of five kinds, that differ in the given text.
func objects(n int, text string) string {
	kinds := []string{
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d}\ndata: {text: %q, more: value}\n",
		"apiVersion: v1\nkind: Secret\nmetadata: {name: s%d}\nstringData: {text: %q}\n",
		"apiVersion: v1\nkind: Service\nmetadata: {name: w%d, annotations: {text: %q}}\nspec: {selector: {app: web}, ports: [{port: 80, name: http}]}\n",
		"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r%d, annotations: {text: %q}}\nrules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n",
		"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a%d, annotations: {text: %q}}\n",
	}
	var b strings.Builder
	for i := range n {
		b.WriteString("---\n")
		fmt.Fprintf(&b, kinds[i%len(kinds)], i, text)
	}
	return b.String()
}

// BenchmarkApply plans and applies 500 objects of which every one changed.
func BenchmarkApply500Changed(b *testing.B) {
	bench := newBench(b)
	bench.apply(bench.set(objects(500, "first")))
	for i := 0; b.Loop(); i++ {
		if r := bench.apply(bench.set(objects(500, fmt.Sprint(i)))); r.Counts[Update] != 500 {
			b.Fatal(r.Counts)
		}
	}
}

// BenchmarkApplyPlan500 applies a plan of 500 changed objects; planning is not counted.
func BenchmarkApplyPlan500(b *testing.B) {
	bench := newBench(b)
	bench.apply(bench.set(objects(500, "first")))
	b.ResetTimer()
	for i := range b.N {
		b.StopTimer()
		plan := bench.plan(bench.set(objects(500, fmt.Sprint(i))))
		b.StartTimer()
		if _, err := bench.ApplyPlan(b.Context(), plan); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCreate500 plans and applies 500 objects that do not exist.
func BenchmarkCreate500(b *testing.B) {
	bench := newBench(b)
	b.ResetTimer()
	for range b.N {
		bench.apply(bench.set(objects(500, "x")))
		b.StopTimer()
		if _, err := bench.Delete(b.Context(), bench.set("")); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkUnchanged500 runs an apply that finds nothing to do, with a new client as a new program has it.
func BenchmarkUnchanged500(b *testing.B) {
	bench := newBench(b)
	set := bench.set(objects(500, "x"))
	bench.apply(set)
	bench.apply(set)
	for b.Loop() {
		client, err := New(bench.place.Config)
		if err != nil {
			b.Fatal(err)
		}
		r, err := client.Apply(b.Context(), set)
		if err != nil || r.Changed() {
			b.Fatal(err, r.Counts)
		}
	}
}
