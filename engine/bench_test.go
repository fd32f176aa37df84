//go:build unix

package engine_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/folder"
)

// null is a driver that does nothing at once.
type null struct{}

func (null) Version() string                                              { return "1" }
func (null) Read(context.Context, engine.Request) (*engine.Object, error) { return nil, nil }
func (null) Delete(context.Context, engine.Request) error                 { return nil }
func (null) Create(context.Context, engine.Request) (*engine.Object, error) {
	return &engine.Object{}, nil
}
func (null) Compare(context.Context, engine.Request, *engine.Object) (engine.Comparison, error) {
	return engine.Comparison{}, nil
}
func (null) Update(context.Context, engine.Request, *engine.Object) (*engine.Object, error) {
	return &engine.Object{}, nil
}

// memory is a log that keeps nothing.
type memory struct{ n atomic.Uint64 }

func (m *memory) Append([]byte) (uint64, error) { return m.n.Add(1), nil }
func (m *memory) Post(b []byte) (uint64, error) { return m.Append(b) }
func (m *memory) Compact([]byte) error          { return nil }

const benchSize = 10_000

// benchSet is 10,000 resources in chains of ten.
func benchSet() []res {
	set := make([]res, benchSize)
	for i := range set {
		set[i] = res{ID: engine.ID(fmt.Sprintf("apps/v1:Deployment:default:r%05d", i)), Type: "null", Inputs: tree{"metadata": tree{"name": fmt.Sprint(i)}, "spec": tree{"replicas": int64(3)}}}
		if i%10 > 0 {
			set[i].DependsOn = []engine.ID{set[i-1].ID}
		}
	}
	return set
}

func planAndApply(b *testing.B, state *engine.State, set []res) {
	e, err := engine.New(state, engine.Options{Drivers: map[string]engine.Driver{"null": null{}}})
	if err != nil {
		b.Fatal(err)
	}
	p, err := e.Plan(b.Context(), set)
	if err != nil {
		b.Fatal(err)
	}
	r, err := e.Apply(b.Context(), p)
	if err != nil || r.Done[engine.Create] != benchSize {
		b.Fatal(err, r.Done)
	}
}

// processorTime is what the process used so far, in microseconds; on a busy machine it says more than the clock.
func processorTime(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1000
}

// BenchmarkOverheadMemory plans and creates 10,000 resources; µs/resource is the engine's own cost of both.
func BenchmarkOverheadMemory(b *testing.B) {
	set := benchSet()
	before := processorTime(b)
	for b.Loop() {
		state, err := engine.Load(&memory{}, nil, nil, 0, nil)
		if err != nil {
			b.Fatal(err)
		}
		planAndApply(b, state, set)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/benchSize, "µs/resource")
	b.ReportMetric((processorTime(b)-before)/float64(b.N)/benchSize, "cpu-µs/resource")
}

// BenchmarkOverheadFolder does the same with a journal on the disk.
func BenchmarkOverheadFolder(b *testing.B) {
	set := benchSet()
	before := processorTime(b)
	syncs := 0
	for b.Loop() {
		f, err := folder.Open(b.Context(), b.TempDir(), folder.Options{Operation: "bench"})
		if err != nil {
			b.Fatal(err)
		}
		planAndApply(b, f.State, set)
		syncs += f.Syncs()
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/benchSize, "µs/resource")
	b.ReportMetric((processorTime(b)-before)/float64(b.N)/benchSize, "cpu-µs/resource")
	b.ReportMetric(float64(syncs)/float64(b.N)/benchSize, "fsyncs/resource")
}

// BenchmarkPlanNothing plans 10,000 resources that are as they were applied.
func BenchmarkPlanNothing(b *testing.B) {
	set := benchSet()
	state, err := engine.Load(&memory{}, nil, nil, 0, nil)
	if err != nil {
		b.Fatal(err)
	}
	planAndApply(b, state, set)
	e, err := engine.New(state, engine.Options{Drivers: map[string]engine.Driver{"null": null{}}, Refresh: engine.RefreshChanged})
	if err != nil {
		b.Fatal(err)
	}
	before := processorTime(b)
	for b.Loop() {
		p, err := e.Plan(b.Context(), set)
		if err != nil || p.Changed() {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/benchSize, "µs/resource")
	b.ReportMetric((processorTime(b)-before)/float64(b.N)/benchSize, "cpu-µs/resource")
}
