// Package metrics serves metrics.k8s.io, the API behind `kubectl top` and scaling on CPU, for one node: it reads the
// kubelet's resource metrics again and again and makes rates of them. It must not know how the cluster's processes run;
// addresses and certificates are handed in.
package metrics

import (
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// container is one container of the node; the zero value is the node itself.
type container struct {
	pod  types.NamespacedName
	name string
}

// point is what was measured of a container at one moment.
type point struct {
	at     time.Time
	start  time.Time // of the container; zero if not known
	cpu    float64   // seconds used since the start
	memory float64   // bytes of the working set
	has    int       // which of the two values were there
}

const (
	hasCPU    = 1
	hasMemory = 2
)

// answerLimit is the greatest answer of a kubelet that is read, in bytes.
const answerLimit = 64 << 20

// parse reads the kubelet's /metrics/resource (Prometheus text format; names from pkg/kubelet/metrics/collectors).
func parse(r io.Reader, now time.Time) (map[container]point, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(r, answerLimit))
	if err != nil {
		return nil, fmt.Errorf("the kubelet's metrics: %w", err)
	}
	points := map[container]point{}
	for name, set := range map[string]func(*point, float64){
		"node_cpu_usage_seconds_total":       func(p *point, v float64) { p.cpu, p.has = v, p.has|hasCPU },
		"node_memory_working_set_bytes":      func(p *point, v float64) { p.memory, p.has = v, p.has|hasMemory },
		"container_cpu_usage_seconds_total":  func(p *point, v float64) { p.cpu, p.has = v, p.has|hasCPU },
		"container_memory_working_set_bytes": func(p *point, v float64) { p.memory, p.has = v, p.has|hasMemory },
		"container_start_time_seconds":       func(p *point, v float64) { p.start = time.UnixMilli(int64(v * 1000)) },
	} {
		for _, m := range families[name].GetMetric() {
			var c container
			for _, l := range m.GetLabel() {
				switch l.GetName() {
				case "container":
					c.name = l.GetValue()
				case "pod":
					c.pod.Name = l.GetValue()
				case "namespace":
					c.pod.Namespace = l.GetValue()
				}
			}
			value := m.GetUntyped().GetValue() + m.GetGauge().GetValue() + m.GetCounter().GetValue() // one of them is there
			if math.IsNaN(value) || math.IsInf(value, 0) || value < 0 || value > 1e18 {
				continue
			}
			p, ok := points[c]
			if !ok {
				p.at = now
			}
			if t := m.GetTimestampMs(); t > 0 && name != "container_start_time_seconds" {
				p.at = time.UnixMilli(t)
			}
			set(&p, value)
			points[c] = p
		}
	}
	for c, p := range points {
		if p.has != hasCPU|hasMemory {
			delete(points, c) // it is just starting or ending
		}
	}
	return points, nil
}

// usage is what a container used in a window of time.
type usage struct {
	at     time.Time
	window time.Duration
	list   corev1.ResourceList
}

// history keeps the last two measurements of everything.
type history struct {
	mu           sync.RWMutex
	last, before map[container]point
}

// add takes in a new measurement. A kubelet measures less often than it is asked: what has not changed is not new.
func (h *history) add(points map[container]point) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := make(map[container]point, len(points))
	for c, p := range points {
		last, ok := h.last[c]
		switch {
		case !ok:
		case !p.at.After(last.at):
			if b, ok := h.before[c]; ok {
				before[c] = b
			}
			points[c] = last
		case p.cpu < last.cpu || !p.start.Equal(last.start) && p.start.After(last.at): // it is another one of the same name
		default:
			before[c] = last
		}
	}
	h.last, h.before = points, before
}

// freshWindow bounds the age at which a container's start stands in for the first measurement.
const (
	freshMin = 2 * time.Second
	freshMax = 30 * time.Second
)

// of computes what a container uses; false if that is not known yet.
func (h *history) of(c container) (usage, bool) {
	last, ok := h.last[c]
	if !ok {
		return usage{}, false
	}
	before, ok := h.before[c]
	if !ok {
		// From its start on a new container has used exactly what its counter says.
		age := last.at.Sub(last.start)
		if last.start.IsZero() || age < freshMin || age > freshMax {
			return usage{}, false
		}
		before = point{at: last.start}
	}
	window := last.at.Sub(before.at)
	if window <= 0 {
		return usage{}, false
	}
	cores := (last.cpu - before.cpu) / window.Seconds()
	return usage{last.at, window, corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(math.Ceil(cores*1e9)), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(int64(last.memory), resource.BinarySI),
	}}, true
}

// node is what the node uses.
func (h *history) node() (usage, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.of(container{})
}

// pods are the containers of all pods of which the usage of every one is known. A pod that is known in part only would
// look smaller than it is.
func (h *history) pods() map[types.NamespacedName]map[string]usage {
	h.mu.RLock()
	defer h.mu.RUnlock()
	pods := map[types.NamespacedName]map[string]usage{}
	partly := map[types.NamespacedName]bool{}
	for c := range h.last {
		if c.name == "" {
			continue
		}
		u, ok := h.of(c)
		if !ok {
			partly[c.pod] = true
			continue
		}
		if pods[c.pod] == nil {
			pods[c.pod] = map[string]usage{}
		}
		pods[c.pod][c.name] = u
	}
	for pod := range partly {
		delete(pods, pod)
	}
	return pods
}
