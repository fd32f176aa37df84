package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Result is what a run did.
type Result struct {
	Done    map[Action]int
	Failed  map[ID]error
	Skipped []ID // not begun, because of a failure, a drain or a cancellation
}

// Apply does what the plan says. The plan has to be for the state as it is now.
//
// The error joins what failed; it names the resources that were skipped. Everything that was done is in the state.
func (e *Engine) Apply(ctx context.Context, plan *Plan) (*Result, error) {
	if plan.Lineage != e.state.Lineage() {
		return nil, errors.New("the plan is for another state")
	}
	if plan.Serial != e.state.Serial() {
		return nil, errors.New("the state changed since the plan was made; plan again")
	}
	a := &applier{engine: e, plan: plan, result: &Result{Done: map[Action]int{}, Failed: map[ID]error{}}, stop: make(chan struct{}), drained: make(chan struct{})}
	go func() {
		defer close(a.drained)
		select {
		case <-e.opts.Drain:
			a.halt()
		case <-a.stop:
		}
	}()
	s := a.schedule()
	s.run(ctx, e.opts.Workers, a.stop, a.do, a.skip)
	a.halt()
	<-a.drained
	err := a.err(ctx)
	if len(e.state.Pending()) == 0 {
		err = errors.Join(err, e.state.Compact(false))
	}
	return a.result, err
}

type applier struct {
	engine *Engine
	plan   *Plan
	tasks  []Step

	once    sync.Once
	stop    chan struct{} // closed when nothing more may begin
	drained chan struct{}

	mu     sync.Mutex
	result *Result
}

func (a *applier) halt() { a.once.Do(func() { close(a.stop) }) }

// schedule puts every task behind those it has to wait for: a resource behind what it needs, a deletion behind everything
// that needed it by the state, the deletion of what was replaced behind those that now use the replacement.
func (a *applier) schedule() *schedule {
	a.tasks = slices.Clone(a.plan.Steps)
	main := make(map[ID]int, len(a.tasks))
	for i, t := range a.tasks {
		if t.Action != DeleteDeposed {
			main[t.ID] = i
		}
	}
	for _, t := range a.plan.Steps {
		if t.Action == CreateReplacement {
			a.tasks = append(a.tasks, Step{ID: t.ID, Type: t.record.Type, Action: DeleteDeposed, Cause: "it was replaced", record: t.record})
		}
	}
	usedBy := map[ID][]ID{} // by the state and by the plan
	for id, r := range a.engine.state.Records() {
		for _, need := range r.DependsOn {
			usedBy[need] = append(usedBy[need], id)
		}
	}
	for id, needs := range a.plan.needs {
		for _, need := range needs {
			usedBy[need] = append(usedBy[need], id)
		}
	}
	s := newSchedule(len(a.tasks))
	for i, t := range a.tasks {
		switch t.Action {
		case Delete, Forget, DeleteDeposed:
			for _, user := range usedBy[t.ID] {
				if j, ok := main[user]; ok && j != i {
					s.after(i, j)
				}
			}
			if j, ok := main[t.ID]; ok && t.Action == DeleteDeposed {
				s.after(i, j)
			}
		default:
			for _, need := range a.plan.needs[t.ID] {
				if j, ok := main[need]; ok {
					s.after(i, j)
				}
			}
		}
	}
	// Records of different runs may depend on each other in a circle; then their order of deletion does not matter.
	s.breakCycles(func(task, _ int) bool {
		action := a.tasks[task].Action
		return action == Delete || action == Forget || action == DeleteDeposed
	})
	return s
}

func (a *applier) do(ctx context.Context, i int) bool {
	t := a.tasks[i]
	if t.Action == NoOp && !t.relearn {
		a.done(t)
		return true
	}
	start := time.Now()
	a.engine.event(Event{ID: t.ID, Action: t.Action, State: "begun"})
	err := a.engine.perform(ctx, t, a.plan.needs[t.ID])
	if err != nil {
		a.engine.event(Event{ID: t.ID, Action: t.Action, State: "failed", Error: err.Error(), Elapsed: time.Since(start)})
		a.mu.Lock()
		a.result.Failed[t.ID] = &Problem{Origin: t.Origin, Resource: t.ID, Msg: fmt.Sprintf("%s: %v", t.Action, err), Cause: err}
		a.mu.Unlock()
		if a.engine.opts.OnFailure == Stop {
			a.halt()
		}
		return false
	}
	a.engine.event(Event{ID: t.ID, Action: t.Action, State: "done", Elapsed: time.Since(start)})
	a.done(t)
	return true
}

func (a *applier) done(t Step) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result.Done[t.Action]++
}

func (a *applier) skip(i int) {
	t := a.tasks[i]
	if t.Action == NoOp {
		return
	}
	a.engine.event(Event{ID: t.ID, Action: t.Action, State: "skipped"})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result.Skipped = append(a.result.Skipped, t.ID)
}

func (a *applier) err(ctx context.Context) error {
	var errs []error
	for _, id := range sortedKeys(a.result.Failed) {
		errs = append(errs, a.result.Failed[id])
	}
	if n := len(a.result.Skipped); n > 0 {
		slices.Sort(a.result.Skipped)
		errs = append(errs, fmt.Errorf("%d resources were not begun: %v", n, a.result.Skipped))
	}
	if ctx.Err() != nil {
		errs = append(errs, context.Cause(ctx))
	}
	return errors.Join(errs...)
}

// perform does one step: it writes that it begins, lets the driver work, and writes what came of it.
func (e *Engine) perform(ctx context.Context, t Step, needs []ID) error {
	d, err := e.driver(t.Type)
	if err != nil {
		return err
	}
	switch t.Action {
	case Forget:
		return e.state.append(&entry{Op: "end", ID: t.ID, Action: Forget})
	case Delete, DeleteDeposed:
		return e.remove(ctx, d, t, t.Action)
	case Replace:
		old := t
		old.Type = t.record.Type
		oldDriver, err := e.driver(old.Type)
		if err != nil {
			return err
		}
		if err := e.remove(ctx, oldDriver, old, Delete); err != nil {
			return err
		}
		t.record, t.object, t.Action = nil, nil, Create
	}
	return e.make(ctx, d, t, needs)
}

func (e *Engine) remove(ctx context.Context, d Driver, t Step, action Action) error {
	op := &Operation{ID: t.ID, Action: action, Record: t.record, Begun: time.Now().UTC()}
	if err := e.begin(op); err != nil {
		return err
	}
	_, err := attempt(ctx, e, t.ID, action, t.record.Timeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, d.Delete(ctx, Request{ID: t.ID, Inputs: t.record.Inputs, Record: t.record})
	})
	e.opts.Crash("deleted")
	if err != nil {
		return e.failed(ctx, d, op, err)
	}
	return e.end(&entry{Op: "end", ID: t.ID, Action: action})
}

func (e *Engine) make(ctx context.Context, d Driver, t Step, needs []ID) error {
	inputs, err := substitute(t.resource.Inputs, e.output)
	if err != nil {
		return err
	}
	resolved, _ := inputs.(map[string]any)
	req := Request{ID: t.ID, Inputs: resolved, Record: t.record}
	record := &Record{ID: t.ID, Type: t.Type, DependsOn: needs, Inputs: resolved, Fingerprint: fingerprint(e.state.salt, d.Version(), resolved),
		Keep: t.resource.Keep, Protect: t.resource.Protect, Timeout: t.resource.Timeout}
	if t.Action == Update && HasUnknown(t.inputs) {
		c, err := d.Compare(ctx, req, t.object)
		switch {
		case err != nil:
			return err
		case c.Replace != "":
			return fmt.Errorf("now that all its inputs are known it has to be replaced (%s), which the plan did not say; plan again", c.Replace)
		case len(c.Changes) == 0:
			t.Action = NoOp
		}
	}
	if t.Action == NoOp {
		record.learn(t.object)
		return e.end(&entry{Op: "end", ID: t.ID, Action: NoOp, Record: record})
	}
	op := &Operation{ID: t.ID, Action: t.Action, Record: record, Begun: time.Now().UTC()}
	if err := e.begin(op); err != nil {
		return err
	}
	object, err := attempt(ctx, e, t.ID, t.Action, t.resource.Timeout, func(ctx context.Context) (*Object, error) {
		if t.Action == Update || t.Action == Adopt {
			return d.Update(ctx, req, t.object)
		}
		return d.Create(ctx, req)
	})
	e.opts.Crash("made")
	if err == nil && object == nil {
		err = errors.New("the driver said that it is done and returned nothing")
	}
	if err != nil {
		return e.failed(ctx, d, op, err)
	}
	done := *record
	done.learn(object)
	return e.end(&entry{Op: "end", ID: t.ID, Action: t.Action, Record: &done})
}

// output gives what a resource that was made has put out.
func (e *Engine) output(r Reference) (any, error) {
	record := e.state.Record(r.Resource)
	if record == nil {
		return nil, fmt.Errorf("%s does not exist", r.Resource)
	}
	v, err := at(record.Outputs, r.Path)
	if err != nil {
		return nil, fmt.Errorf("the reference to %s: %w", r, err)
	}
	return v, nil
}

func (e *Engine) begin(op *Operation) error {
	err := e.state.append(&entry{Op: "begin", Begin: op})
	e.opts.Crash("begun")
	return err
}

func (e *Engine) end(en *entry) error {
	err := e.state.append(en)
	e.opts.Crash("ended")
	return err
}
