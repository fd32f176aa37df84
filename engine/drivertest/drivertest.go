// Package drivertest is what every driver of the engine has to pass: the life of one resource against the real thing,
// and the same with a crash at each step.
package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weft-dev/weft/engine"
)

// Kit is a driver with one resource to live through.
type Kit struct {
	Driver engine.Driver
	// Resource and Changed are two versions of one resource; Type is set by the kit. Changed must not need a replacement.
	Resource, Changed engine.Resource
	// Disturb changes something in the world that the resource says otherwise; Remove takes it away.
	Disturb, Remove func(t testing.TB)
	// Exists looks into the world, not through the driver.
	Exists func(t testing.TB) bool

	rows *strings.Builder
}

const typ = "tested"

// Run lives through the kit once, and then once for each point at which it may be interrupted.
func (k Kit) Run(t *testing.T) {
	k.Resource.Type, k.Changed.Type = typ, typ
	var table strings.Builder
	k.rows = &table
	t.Run("life", k.life)
	t.Run("crashes", k.crashes)
	t.Logf("compliance of %T (version %s):\n%s", k.Driver, k.Driver.Version(), table.String())
}

// row adds a line to the table that `go test -v` prints.
func (k Kit) row(t *testing.T, step string, action engine.Action) {
	verdict := "passed"
	if t.Failed() {
		verdict = "FAILED"
	}
	fmt.Fprintf(k.rows, "  %-32s %-10s %s\n", step, action, verdict)
}

func (k Kit) life(t *testing.T) {
	log := &log{limit: -1}
	step := func(name string, want engine.Action, resources ...engine.Resource) {
		t.Helper()
		if got := k.apply(t, log, resources); got != want {
			t.Errorf("%s: the plan says %q, want %q", name, got, want)
		}
		if got := k.plan(t, log, resources); got != engine.NoOp {
			t.Errorf("%s: planned again it says %q, nothing should be left to do", name, got)
		}
		if k.Exists(t) != (len(resources) > 0) {
			t.Errorf("%s: exists=%t", name, k.Exists(t))
		}
		k.row(t, name, want)
	}
	if k.Exists(t) {
		t.Fatal("the resource exists before the test")
	}
	step("create", engine.Create, k.Resource)
	step("nothing to do", engine.NoOp, k.Resource)
	k.Disturb(t)
	if got := k.plan(t, log, []engine.Resource{k.Resource}); got != engine.Update && got != engine.Replace {
		t.Errorf("a change outside is planned as %q", got)
	}
	k.row(t, "drift is seen", engine.Update)
	step("repair", engine.Update, k.Resource)
	step("change", engine.Update, k.Changed)
	k.Remove(t)
	step("make again", engine.Create, k.Changed)
	step("delete", engine.Delete)
	step("nothing left", engine.NoOp)

	step("create for adoption", engine.Create, k.Resource)
	log.records, log.snapshot = nil, nil // the state is lost
	step("adopt", engine.Adopt, k.Resource)
	step("delete what was adopted", engine.Delete)
}

// crashes stops the journal after each number of records: everything that was not written down is forgotten, effects stay.
func (k Kit) crashes(t *testing.T) {
	for limit := 1; ; limit++ {
		log := &log{limit: limit}
		crashed := false
		for _, resources := range [][]engine.Resource{{k.Resource}, {k.Changed}, nil} {
			if err := k.try(t, log, resources); err != nil {
				if !errors.Is(err, errCrash) {
					t.Fatalf("after %d records: %v", limit, err)
				}
				crashed = true
				log.limit = -1
				if err := k.try(t, log, resources); err != nil {
					t.Fatalf("the run after a crash behind record %d: %v", limit, err)
				}
			}
			if got := k.plan(t, log, resources); got != engine.NoOp {
				t.Errorf("after a crash behind record %d the plan still says %q", limit, got)
			}
			if k.Exists(t) != (resources != nil) {
				t.Errorf("after a crash behind record %d: exists=%t", limit, k.Exists(t))
			}
		}
		if !crashed {
			if limit < 4 {
				t.Errorf("only %d records were written", limit)
			}
			k.row(t, fmt.Sprintf("a crash behind each of %d records", limit-1), "")
			return
		}
	}
}

func (k Kit) engine(t *testing.T, log *log) (*engine.Engine, error) {
	t.Helper()
	state, err := engine.Load(log, log.snapshot, slices.Clone(log.records), uint64(len(log.records)), nil)
	if err != nil {
		return nil, err
	}
	return engine.New(state, engine.Options{Drivers: map[string]engine.Driver{typ: k.Driver}, Retries: -1})
}

func (k Kit) plan(t *testing.T, log *log, resources []engine.Resource) engine.Action {
	t.Helper()
	e, err := k.engine(t, log)
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Plan(t.Context(), resources)
	if err != nil {
		t.Fatal(err)
	}
	return action(p)
}

func (k Kit) apply(t *testing.T, log *log, resources []engine.Resource) engine.Action {
	t.Helper()
	e, err := k.engine(t, log)
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Plan(t.Context(), resources)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return action(p)
}

func (k Kit) try(t *testing.T, log *log, resources []engine.Resource) error {
	t.Helper()
	e, err := k.engine(t, log)
	if err != nil {
		return err
	}
	p, err := e.Plan(context.WithoutCancel(t.Context()), resources)
	if err != nil {
		return err
	}
	_, err = e.Apply(context.WithoutCancel(t.Context()), p)
	return err
}

func action(p *engine.Plan) engine.Action {
	for _, s := range p.Steps {
		if s.Action != engine.NoOp {
			return s.Action
		}
	}
	return engine.NoOp
}

var errCrash = errors.New("the process was killed")

// log keeps records in memory and fails for good after limit records, as if the process had been killed then.
type log struct {
	mu       sync.Mutex
	limit    int // -1 for none
	snapshot []byte
	records  [][]byte
}

func (l *log) Append(record []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit == 0 || l.limit > 0 && len(l.records) >= l.limit {
		return 0, fmt.Errorf("record %d: %w", len(l.records)+1, errCrash)
	}
	l.records = append(l.records, slices.Clone(record))
	return uint64(len(l.records)), nil
}

func (l *log) Post(b []byte) (uint64, error) { return l.Append(b) }
func (l *log) Compact([]byte) error          { return nil }
