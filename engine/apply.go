package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Result is what a run did.
type Result struct {
	Revision uint64 // 0 if there was nothing to do
	Done     map[Action]int
	Failed   map[ID]error
	Skipped  []ID    // not begun, because of a failure, a drain or a cancellation
	Rollback *Result // what the rollback after a failure did, nil if there was none
}

// Apply does what the plan says. The plan has to be for the state as it is now.
//
// First everything is made, each resource when what it needs is done; then, if asked to, it is waited for; at last the deletions are done.
// The error joins what failed; it names the resources that were skipped. Everything that was done is in the state.
func (e *Engine) Apply(ctx context.Context, plan *Plan) (*Result, error) {
	if plan.Lineage != e.state.Lineage() {
		return nil, errors.New("the plan is for another state")
	}
	if plan.Serial != e.state.Serial() {
		return nil, errors.New("the state changed since the plan was made; plan again")
	}
	a := &applier{engine: e, plan: plan, result: &Result{Done: map[Action]int{}, Failed: map[ID]error{}}, stop: make(chan struct{}), drained: make(chan struct{})}
	var revision *Revision
	if plan.writes() {
		if plan.sensitive() {
			if err := e.state.ensureSecretSalt(); err != nil {
				return nil, err
			}
		}
		if plan.Changed() {
			var err error
			if revision, err = e.beginRevision(plan); err != nil {
				return nil, err
			}
			a.result.Revision = revision.Number
		}
	}
	err := a.run(ctx)
	if revision != nil {
		outcome := Done
		switch {
		case err != nil && a.interrupted(ctx):
			outcome = Interrupted
		case err != nil:
			outcome = Failed
		}
		err = errors.Join(err, e.endRevision(revision, outcome, a.result.Done, err))
		if outcome == Failed && e.opts.OnFailure == Rollback {
			return a.result, e.rollBack(ctx, plan, a.result, err)
		}
	}
	if len(e.state.Pending()) == 0 {
		err = errors.Join(err, e.state.Compact(false))
	}
	return a.result, err
}

// sensitive says whether the plan makes anything with values that must not be shown.
func (p *Plan) sensitive() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool {
		return !s.removes() && (HasSensitive(s.resource.Inputs) || HasExternal(s.resource.Inputs))
	})
}

// rollBack applies the last revision that came out well again, after a failure. What the failed run adopted is left alone.
func (e *Engine) rollBack(ctx context.Context, plan *Plan, result *Result, cause error) error {
	number := e.state.LastDone()
	resources, err := e.state.Wanted(number)
	if err != nil {
		return errors.Join(cause, fmt.Errorf("the rollback could not begin: %w", err))
	}
	adopted := map[ID]bool{}
	for _, s := range plan.Steps {
		adopted[s.ID] = s.Action == Adopt
	}
	to := "nothing, as no earlier run came out well"
	operation := "rollback to nothing"
	if number > 0 {
		to, operation = fmt.Sprintf("revision %d", number), fmt.Sprintf("rollback to %d", number)
	}
	back := &Engine{state: e.state, opts: e.opts, externals: e.externals}
	back.opts.OnFailure, back.opts.Targets, back.opts.Refresh = Continue, nil, RefreshAll
	e.event(Event{State: "rollback", Error: to})
	again, err := back.plan(ctx, resources, operation, adopted)
	if err == nil {
		result.Rollback, err = back.Apply(ctx, again)
	}
	if err != nil {
		return errors.Join(cause, fmt.Errorf("the rollback to %s failed too: %w", to, err))
	}
	return errors.Join(cause, fmt.Errorf("rolled back to %s", to))
}

// interrupted says whether the run ended early because it was told to.
func (a *applier) interrupted(ctx context.Context) bool {
	return ctx.Err() != nil || stopped(ctx, a.engine.opts.Drain)
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

func (a *applier) run(ctx context.Context) error {
	go func() {
		defer close(a.drained)
		select {
		case <-a.engine.opts.Drain:
			a.halt()
		case <-a.stop:
		}
	}()
	a.makeAll().run(ctx, a.engine.opts.Workers, a.stop, a.do, a.skip)
	if a.engine.opts.Wait && !stopped(ctx, a.stop) {
		a.wait(ctx)
	}
	a.removeAll().run(ctx, a.engine.opts.Workers, a.stop, a.do, a.skip)
	a.halt()
	<-a.drained
	return a.err(ctx)
}

// makeAll puts every resource behind what it needs.
func (a *applier) makeAll() *schedule {
	a.tasks = slices.DeleteFunc(slices.Clone(a.plan.Steps), Step.removes)
	index := make(map[ID]int, len(a.tasks))
	for i, t := range a.tasks {
		index[t.ID] = i
	}
	s := newSchedule(len(a.tasks))
	for i, t := range a.tasks {
		for _, need := range a.plan.needs[t.ID] {
			if j, ok := index[need]; ok {
				s.after(i, j)
			}
		}
	}
	return s
}

// removeAll puts every deletion behind those of everything that needed it by the state, and blocks those that something which was not
// brought to its wanted form may still use.
func (a *applier) removeAll() *schedule {
	a.tasks = slices.DeleteFunc(slices.Clone(a.plan.Steps), func(s Step) bool { return !s.removes() })
	for _, t := range a.plan.Steps {
		if t.Action == CreateReplacement {
			a.tasks = append(a.tasks, Step{ID: t.ID, Type: t.record.Type, Action: DeleteDeposed, Cause: "it was replaced", record: t.record})
		}
	}
	index := make(map[ID]int, len(a.tasks))
	for i, t := range a.tasks {
		if t.Action != DeleteDeposed {
			index[t.ID] = i
		}
	}
	usedBy := a.usedBy()
	s := newSchedule(len(a.tasks))
	for i, t := range a.tasks {
		for _, user := range usedBy[t.ID] {
			if j, ok := index[user]; ok && j != i {
				s.after(i, j)
			}
			if a.bad(user) {
				s.blocked[i].Store(true)
			}
		}
		if t.Action == DeleteDeposed && a.bad(t.ID) {
			s.blocked[i].Store(true)
		}
	}
	// Records of different runs may depend on each other in a circle; then their order does not matter.
	s.breakCycles(func(int, int) bool { return true })
	return s
}

// usedBy says for each resource what needs it, by the state and by the plan.
func (a *applier) usedBy() map[ID][]ID {
	usedBy := map[ID][]ID{}
	for id, r := range a.engine.state.Records() {
		for _, need := range r.DependsOn {
			usedBy[need] = append(usedBy[need], id)
		}
	}
	for _, t := range a.plan.Steps {
		if t.record != nil {
			for _, need := range t.record.DependsOn {
				usedBy[need] = append(usedBy[need], t.ID)
			}
		}
	}
	for id, needs := range a.plan.needs {
		for _, need := range needs {
			usedBy[need] = append(usedBy[need], id)
		}
	}
	return usedBy
}

// bad says whether a resource failed or was skipped.
func (a *applier) bad(id ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.result.Failed[id] != nil || slices.Contains(a.result.Skipped, id)
}

// wait waits for everything that was made, and for what is as it was.
func (a *applier) wait(ctx context.Context) {
	requests := map[string][]Request{}
	for _, t := range a.tasks {
		if _, waits := a.engine.opts.Drivers[t.Type].(Waiter); waits && !a.bad(t.ID) {
			if record := a.engine.state.Record(t.ID); record != nil {
				requests[t.Type] = append(requests[t.Type], Request{ID: t.ID, Inputs: record.Inputs, Record: record})
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, a.engine.opts.WaitTimeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-a.stop: // waiting is nothing that has to be finished
			stop(errDrained)
		case <-ctx.Done():
		}
	}()
	for _, typ := range slices.Sorted(maps.Keys(requests)) {
		for id, err := range a.engine.opts.Drivers[typ].(Waiter).Wait(ctx, requests[typ]) {
			i := slices.IndexFunc(a.tasks, func(t Step) bool { return t.ID == id })
			a.fail(a.tasks[i], "ready", err)
		}
	}
}

var errDrained = errors.New("interrupted while waiting")

func (a *applier) fail(t Step, during string, err error) {
	problem := a.engine.problem(t, during, err)
	a.engine.event(Event{ID: t.ID, Action: t.Action, State: "failed", Error: problem.Error()})
	a.mu.Lock()
	a.result.Failed[t.ID] = problem
	a.mu.Unlock()
	if a.engine.opts.OnFailure != Continue {
		a.halt()
	}
}

func (a *applier) do(ctx context.Context, i int) bool {
	t := a.tasks[i]
	if t.Action == NoOp && !t.relearn || t.Action == Retain {
		a.done(t)
		return true
	}
	start := time.Now()
	a.engine.event(Event{ID: t.ID, Action: t.Action, State: "begun"})
	err := a.engine.perform(ctx, t, a.plan.needs[t.ID])
	if err != nil {
		a.fail(t, string(t.Action), err)
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
	if t.Action == NoOp || t.Action == Retain {
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
		if remover, ok := d.(Remover); ok {
			if err := remover.Release(ctx, Request{ID: t.ID, Inputs: t.record.Inputs, Record: t.record}); err != nil {
				return err
			}
		}
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
	full, err := e.reveal(ctx, resolved)
	if err != nil {
		return err
	}
	req := Request{ID: t.ID, Inputs: full, Record: t.record}
	record := &Record{ID: t.ID, Type: t.Type, DependsOn: needs, Inputs: resolved, Fingerprint: t.print, Keep: t.resource.Keep, Protect: t.resource.Protect, Timeout: t.resource.Timeout}
	if t.print == "" || len(References(t.resource.Inputs)) > 0 || HasExternal(resolved) { // else it is that of the plan
		record.Fingerprint = e.state.fingerprint(d.Version(), full)
	}
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
		e.state.learn(record, t.object, full)
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
	e.state.learn(&done, object, full)
	return e.end(&entry{Op: "end", ID: t.ID, Action: t.Action, Record: &done, Begun: true})
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
	err := e.state.post(en)
	e.opts.Crash("ended")
	return err
}
