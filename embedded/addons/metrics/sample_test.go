package metrics

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

const answer = `# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="main",namespace="a",pod="web"} 10 1700000010000
container_cpu_usage_seconds_total{container="side",namespace="a",pod="web"} 1 1700000010000
container_cpu_usage_seconds_total{container="new",namespace="a",pod="fresh"} 0.5 1700000010000
container_cpu_usage_seconds_total{container="half",namespace="a",pod="half"} 0.5 1700000010000
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="main",namespace="a",pod="web"} 1.048576e+06 1700000010000
container_memory_working_set_bytes{container="side",namespace="a",pod="web"} 4096 1700000010000
container_memory_working_set_bytes{container="new",namespace="a",pod="fresh"} 4096 1700000010000
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="main",namespace="a",pod="web"} 1.6e+09
container_start_time_seconds{container="new",namespace="a",pod="fresh"} 1.700000005e+09
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 100 1700000010000
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 2e+09 1700000010000
`

func at(seconds int64) time.Time { return time.Unix(seconds, 0) }

func measured(t *testing.T, text string) map[container]point {
	t.Helper()
	points, err := parse(strings.NewReader(text), at(1700000000))
	if err != nil {
		t.Fatal(err)
	}
	return points
}

func cpu(u usage) int64 { return u.list.Cpu().MilliValue() }

func TestRates(t *testing.T) {
	web, fresh := types.NamespacedName{Namespace: "a", Name: "web"}, types.NamespacedName{Namespace: "a", Name: "fresh"}
	h := &history{}
	h.add(measured(t, answer))
	if _, ok := h.node(); ok {
		t.Error("a rate from one measurement")
	}
	pods := h.pods()
	if _, ok := pods[web]; ok {
		t.Error("a rate of an old container from one measurement")
	}
	// Half a second of processor time in the five seconds since its start.
	if u := pods[fresh]["new"]; cpu(u) != 100 || u.window != 5*time.Second {
		t.Errorf("a new container: %+v", u)
	}

	h.add(measured(t, answer)) // the kubelet has measured nothing new
	later := strings.NewReplacer("1700000010000", "1700000020000", `pod="web"} 10 `, `pod="web"} 15 `, "seconds_total 100 ", "seconds_total 112 ").Replace(answer)
	h.add(measured(t, later))
	h.add(measured(t, later))
	pods = h.pods()
	if u := pods[web]["main"]; cpu(u) != 500 || u.window != 10*time.Second || u.list.Memory().Value() != 1<<20 || !u.at.Equal(at(1700000020)) {
		t.Errorf("main: %+v", u)
	}
	if u := pods[web]["side"]; cpu(u) != 0 {
		t.Errorf("side: %+v", u)
	}
	if u, ok := h.node(); !ok || cpu(u) != 1200 || u.list.Memory().Value() != 2e9 {
		t.Errorf("node: %+v", u)
	}

	// A container that has started again counts from zero. Until it has been measured twice its pod is not known.
	again := strings.NewReplacer("1700000010000", "1700000030000", `pod="web"} 10 `, `pod="web"} 2 `, "1.6e+09", "1.700000029e+09").Replace(answer)
	h.add(measured(t, again))
	if u, ok := h.pods()[web]; ok {
		t.Errorf("after a restart: %+v", u)
	}
	h.add(map[container]point{})
	if n := len(h.pods()); n != 0 {
		t.Errorf("%d pods that are gone", n)
	}
}

func TestTable(t *testing.T) {
	p := &pods{}
	table, err := p.ConvertToTable(t.Context(), p.NewList(), nil)
	if err != nil || len(table.ColumnDefinitions) != 4 {
		t.Fatalf("%+v, %v", table, err)
	}
	sum := plus(plus(nil, corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")}), corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")})
	if got := sum[corev1.ResourceCPU]; got.String() != "2500m" {
		t.Error(got.String())
	}
}

func FuzzParse(f *testing.F) {
	f.Add(answer)
	f.Add("node_cpu_usage_seconds_total NaN\nnode_memory_working_set_bytes -1\n")
	f.Add("x{y=\"\\\"} 1e999 99999999999999999999\n")
	f.Fuzz(func(t *testing.T, text string) {
		points, err := parse(strings.NewReader(text), at(1700000000))
		if err != nil {
			return
		}
		h := &history{}
		h.add(points)
		for c := range points {
			if u, ok := h.of(c); ok && (u.window <= 0 || u.list.Cpu().Sign() < 0 || u.list.Memory().Sign() < 0) {
				t.Fatalf("%v: %+v", c, u)
			}
		}
	})
}
