package logging_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/weft-dev/weft/logging"
	"github.com/weft-dev/weft/logging/resource"
)

// tenants are a thousand resources of a hundred namespaces.
func tenants() []*resource.Document {
	var all []*resource.Document
	add := func(kind, namespace, name string, spec object) {
		all = append(all, resource.New(object{"apiVersion": "fluentbit.fluent.io/v1alpha2", "kind": kind, "metadata": object{"name": name, "namespace": namespace}, "spec": spec}, nil))
	}
	add("ClusterFluentBitConfig", "", "config", object{})
	add("ClusterInput", "", "tail", object{"tail": object{"path": "/var/log/containers/*.log", "tag": "kube.*", "memBufLimit": "5MB"}})
	for n := range 100 {
		ns := fmt.Sprintf("team-%03d", n)
		add("FluentBitConfig", ns, "c", object{})
		for i := range 4 {
			add("Filter", ns, fmt.Sprintf("f%d", i), object{"match": "*", "filters": []any{object{"grep": object{"regex": `log ^\S+ error (?<a>\d+)$`}}, object{"parser": object{"keyName": "log", "parser": "p"}}}})
			add("Output", ns, fmt.Sprintf("o%d", i), object{"match": "*", "es": object{"host": "es." + ns, "port": 9200.0}})
		}
		add("Parser", ns, "p", object{"regex": object{"regex": `^(?<time>[^ ]+) (?<stream>stdout|stderr) (?<logtag>[^ ]*) (?<log>.*)$`}})
	}
	return all
}

// One of a thousand resources has changed: everything that the manager does but for reading and writing. The time is that of the processor, since the
// wall's tells of the machine's other work.
func BenchmarkPlanOneChanged(b *testing.B) {
	docs := tenants()
	planner := logging.Planner{Namespace: "fluent"}
	planner.Plan(resource.NewSet(docs), resource.FoundMap{})
	began := processor()
	for b.Loop() {
		changed := *docs[500]
		docs[500] = &changed
		if r := planner.Plan(resource.NewSet(docs), resource.FoundMap{}); len(r.Problems) > 0 {
			b.Fatal(r.Problems[0])
		}
	}
	b.ReportMetric(float64(processor()-began)/float64(b.N)/1e6, "cpu-ms/op")
}

// processor is the process's time of the processor in nanoseconds.
func processor() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// What is kept from one plan to the next changes nothing of what is found.
func TestPlanAgain(t *testing.T) {
	docs := tenants()
	planner := logging.Planner{Namespace: "fluent"}
	good := docs[7] // an output
	for i, spec := range []object{nil, {"match": "*", "es": object{"host": "h", "logstashPrefix": "x", "time_key_format": 5.0}}, {"match": "*", "customPlugin": object{"config": "Name es\nNo_Such_Option 1"}}, nil,
		{"match": "*", "parser": "p"}} {
		docs[7] = good
		if spec != nil {
			docs[7] = resource.New(object{"apiVersion": "fluentbit.fluent.io/v1alpha2", "kind": good.Kind, "metadata": good.Object["metadata"], "spec": spec}, nil)
		}
		again := planner.Plan(resource.NewSet(docs), resource.FoundMap{})
		fresh := (&logging.Planner{Namespace: "fluent"}).Plan(resource.NewSet(docs), resource.FoundMap{})
		if got, want := fmt.Sprint(again.Problems), fmt.Sprint(fresh.Problems); got != want || (spec != nil) != (len(again.Problems) > 0) {
			t.Errorf("change %d: %s, not %s", i, got, want)
		}
		if again.Configurations[0].Hash != fresh.Configurations[0].Hash {
			t.Errorf("change %d: the configuration differs", i)
		}
	}
}
