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

// Action is what is done with a resource.
type Action string

// The actions. CreateReplacement and DeleteDeposed are the two halves of a replacement that creates before it destroys.
const (
	Create            Action = "create"
	Update            Action = "update"
	Replace           Action = "replace" // delete, then create
	CreateReplacement Action = "create-replacement"
	DeleteDeposed     Action = "delete-deposed"
	Delete            Action = "delete"
	Adopt             Action = "adopt"  // it exists and becomes the state's
	Forget            Action = "forget" // it stays and is no longer the state's
	Retain            Action = "retain" // it is no longer wanted and has to stay until the user allows more
	NoOp              Action = "no-op"
)

// Step is what a plan does with one resource, and why.
type Step struct {
	ID      ID       `json:"id"`
	Type    string   `json:"type"`
	Action  Action   `json:"action"`
	Cause   string   `json:"cause"`
	Origin  string   `json:"origin,omitempty"`
	Changes []Change `json:"changes,omitempty"`

	resource Resource
	inputs   map[string]any // resolved as far as they are known
	full     map[string]any // with the values that are kept elsewhere
	record   *Record        // before the run
	object   *Object
	print    string // fingerprint of inputs
	relearn  bool   // nothing differs, but the state has to take in what was found
}

// Record is what the state held before the run, nil if nothing.
func (s Step) Record() *Record { return s.record }

// removes says whether the step takes something away or out of the state.
func (s Step) removes() bool {
	return s.Action == Delete || s.Action == Forget || s.Action == DeleteDeposed || s.Action == Retain
}

// Plan is what a run would do, each resource behind what it needs, deletions last.
type Plan struct {
	Operation string    `json:"operation"` // what the revision will be called
	Made      time.Time `json:"made"`
	Lineage   string    `json:"lineage"`
	Serial    uint64    `json:"serial"`
	Targets   []ID      `json:"targets,omitempty"`
	Steps     []Step    `json:"steps"`

	needs map[ID][]ID
}

// Changed says whether the plan does anything to the world.
func (p *Plan) Changed() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Action != NoOp && s.Action != Retain })
}

// writes says whether applying the plan writes to the state.
func (p *Plan) writes() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Action != NoOp && s.Action != Retain || s.relearn })
}

// Counts says how many steps there are of each action.
func (p *Plan) Counts() map[Action]int {
	counts := map[Action]int{}
	for _, s := range p.Steps {
		counts[s.Action]++
	}
	return counts
}

// Plan finds out what has to be done so that exactly the given resources exist. It first mends what an earlier run left
// unfinished (see Recover). All problems are found before anything is done; they are joined, each names its origin.
func (e *Engine) Plan(ctx context.Context, resources []Resource) (*Plan, error) {
	return e.plan(ctx, resources, e.opts.Operation, nil)
}

// PlanRevision plans to go back to what was wanted in an earlier revision. Applying it makes a new revision.
func (e *Engine) PlanRevision(ctx context.Context, number uint64) (*Plan, error) {
	resources, err := e.state.Wanted(number)
	if err != nil {
		return nil, err
	}
	return e.plan(ctx, resources, fmt.Sprintf("rollback to %d", number), nil)
}

func (e *Engine) plan(ctx context.Context, resources []Resource, operation string, adopted map[ID]bool) (*Plan, error) {
	g, err := newGraph(resources, func(typ string) bool { _, ok := e.opts.Drivers[typ]; return ok })
	if err != nil {
		return nil, err
	}
	if _, err := e.Recover(ctx); err != nil {
		return nil, err
	}
	p := &planner{engine: e, graph: g, records: e.state.Records(), adopted: adopted, steps: make([]Step, len(g.order)), errs: make([]error, len(g.order)),
		outputs: make(map[ID]any, len(g.order))}
	if p.targets, err = p.chosen(); err != nil {
		return nil, err
	}
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	if err := p.prefetch(ctx); err != nil {
		return nil, err
	}
	p.planWanted(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	steps := slices.DeleteFunc(p.steps, func(s Step) bool { return s.Action == "" })
	removals, err := p.removals(ctx)
	if err != nil {
		return nil, err
	}
	return &Plan{Operation: operation, Made: time.Now().UTC(), Lineage: e.state.Lineage(), Serial: e.state.Serial(), Targets: e.opts.Targets,
		Steps: append(steps, removals...), needs: g.needs}, nil
}

type planner struct {
	engine  *Engine
	graph   *graph
	records map[ID]*Record
	targets map[ID]bool // nil for everything
	adopted map[ID]bool // forgotten instead of deleted
	steps   []Step
	errs    []error

	fetched map[ID]*Object

	mu      sync.Mutex
	outputs map[ID]any // what is known of each resource's outputs after the run
}

// chosen adds to the targets what they need.
func (p *planner) chosen() (map[ID]bool, error) {
	if len(p.engine.opts.Targets) == 0 {
		return nil, nil
	}
	chosen := map[ID]bool{}
	todo := slices.Clone(p.engine.opts.Targets)
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if chosen[id] {
			continue
		}
		_, wanted := p.graph.resources[id]
		if !wanted && p.records[id] == nil {
			return nil, fmt.Errorf("the target %q is neither wanted nor in the state", id)
		}
		chosen[id] = true
		todo = append(todo, p.graph.needs[id]...)
	}
	return chosen, nil
}

// check lets the drivers look at all that is wanted of them.
func (p *planner) check(ctx context.Context) error {
	requests := map[string][]Request{}
	for _, id := range p.graph.order {
		if r := p.graph.resources[id]; p.targets == nil || p.targets[id] {
			requests[r.Type] = append(requests[r.Type], Request{ID: id, Inputs: r.Inputs, Record: p.records[id], Origin: r.Origin, Locate: r.Locate})
		}
	}
	var errs []error
	for _, typ := range slices.Sorted(maps.Keys(requests)) {
		if c, ok := p.engine.opts.Drivers[typ].(Checker); ok {
			errs = append(errs, c.Check(ctx, requests[typ]))
		}
	}
	return errors.Join(errs...)
}

// prefetch lets the drivers that can read many resources at once.
func (p *planner) prefetch(ctx context.Context) error {
	p.fetched = map[ID]*Object{}
	if p.engine.opts.Refresh == RefreshNone {
		return nil
	}
	requests := map[string][]Request{}
	for _, id := range p.graph.order {
		r := p.graph.resources[id]
		if _, ok := p.engine.opts.Drivers[r.Type].(Prefetcher); ok && (p.targets == nil || p.targets[id]) {
			requests[r.Type] = append(requests[r.Type], Request{ID: id, Inputs: r.Inputs, Record: p.records[id]})
		}
	}
	return p.fetch(ctx, requests)
}

// fetch reads the resources of each type at once where its driver can.
func (p *planner) fetch(ctx context.Context, requests map[string][]Request) error {
	for _, typ := range slices.Sorted(maps.Keys(requests)) {
		prefetcher, ok := p.engine.opts.Drivers[typ].(Prefetcher)
		if !ok {
			continue
		}
		found, err := prefetcher.Prefetch(ctx, requests[typ])
		if err != nil {
			return fmt.Errorf("read the resources of type %s: %w", typ, err)
		}
		maps.Copy(p.fetched, found)
	}
	return nil
}

func (p *planner) planWanted(ctx context.Context) {
	index := make(map[ID]int, len(p.graph.order))
	for i, id := range p.graph.order {
		index[id] = i
	}
	s := newSchedule(len(p.graph.order))
	for i, id := range p.graph.order {
		for _, need := range p.graph.needs[id] {
			s.after(i, index[need])
		}
	}
	s.run(ctx, p.engine.opts.Workers, nil, func(ctx context.Context, i int) bool {
		id := p.graph.order[i]
		if p.targets != nil && !p.targets[id] {
			p.know(id, outputsOf(p.records[id]))
			return true
		}
		step, outputs, err := p.planOne(ctx, p.graph.resources[id])
		if err != nil {
			p.errs[i] = p.engine.problem(step, "", err)
			return false
		}
		p.steps[i] = step
		p.know(id, outputs)
		return true
	}, func(int) {})
}

func outputsOf(r *Record) any {
	if r == nil {
		return Unknown{}
	}
	return r.Outputs
}

func (p *planner) know(id ID, outputs any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outputs[id] = outputs
}

func (p *planner) lookup(r Reference) (any, error) {
	p.mu.Lock()
	outputs := p.outputs[r.Resource]
	p.mu.Unlock()
	v, err := at(outputs, r.Path)
	if err != nil {
		return nil, fmt.Errorf("the reference to %s: %w", r, err)
	}
	return v, nil
}

func (p *planner) planOne(ctx context.Context, r Resource) (Step, any, error) {
	s := Step{ID: r.ID, Type: r.Type, Origin: r.Origin, resource: r, record: p.records[r.ID]}
	resolved, err := substitute(r.Inputs, p.lookup)
	if err != nil {
		return s, nil, err
	}
	s.inputs, _ = resolved.(map[string]any)
	if s.full, err = p.engine.reveal(ctx, s.inputs); err != nil {
		return s, nil, err
	}
	d := p.engine.opts.Drivers[r.Type]
	if s.record != nil && s.record.Type != r.Type {
		s.Cause = fmt.Sprintf("its type changes from %s", s.record.Type)
		return p.replacement(ctx, s)
	}
	s.print = p.engine.state.fingerprint(d.Version(), s.full)
	same := s.record != nil && s.print != "" && s.print == s.record.Fingerprint
	refresh := p.engine.opts.Refresh
	if s.record != nil && (refresh == RefreshNone || refresh == RefreshChanged && same) {
		s.object = s.record.object()
		if same {
			s.Action, s.Cause, s.relearn = NoOp, "as it was applied", p.unlearned(r, s.record)
			return s, s.record.Outputs, nil
		}
	} else if fetched, ok := p.fetched[r.ID]; ok {
		s.object = fetched
	} else {
		req := Request{ID: r.ID, Inputs: s.full, Record: s.record}
		if s.object, err = attempt(ctx, p.engine, r.ID, NoOp, r.Timeout, func(ctx context.Context) (*Object, error) { return d.Read(ctx, req) }); err != nil {
			return s, nil, fmt.Errorf("it cannot be read: %w", err)
		}
	}
	if s.object == nil {
		s.Action, s.Cause = Create, "it does not exist"
		if s.record != nil {
			s.Cause = "it was deleted outside"
		}
		_, err := d.Compare(ctx, Request{ID: r.ID, Inputs: s.full}, nil)
		return s, Unknown{}, err
	}
	mark := p.engine.state.mark(s.full, s.object.Mark)
	if same && mark != "" && mark == s.record.Mark && s.object.Identity == s.record.Identity {
		s.Action, s.Cause, s.relearn = NoOp, "as it was applied", p.unlearned(r, s.record)
		return s, s.object.Outputs, nil
	}
	return p.compare(ctx, d, s, same)
}

func (p *planner) compare(ctx context.Context, d Driver, s Step, same bool) (Step, any, error) {
	c, err := d.Compare(ctx, Request{ID: s.ID, Inputs: s.full, Record: s.record}, s.object)
	if err != nil {
		return s, nil, err
	}
	s.Changes = c.Changes
	secrets := secretsIn(s.full)
	if s.record != nil {
		secrets = append(secrets, secretsIn(s.record.Inputs)...)
	}
	concealChanges(s.Changes, secrets)
	locate(s.Changes, s.resource)
	switch {
	case s.record == nil && c.Replace != "":
		return s, nil, fmt.Errorf("it exists and cannot be brought to what is wanted: %s; delete it first", c.Replace)
	case s.record == nil:
		s.Action, s.Cause = Adopt, "it exists and is not in the state"
	case len(c.Changes) == 0:
		s.Action, s.Cause = NoOp, "nothing differs"
		s.relearn = s.print != s.record.Fingerprint || p.engine.state.mark(s.full, s.object.Mark) != s.record.Mark || s.record.Identity != s.object.Identity || p.unlearned(s.resource, s.record)
		return s, s.object.Outputs, nil
	case c.Replace != "":
		s.Cause = c.Replace
		return p.replacement(ctx, s)
	case s.object.Identity != s.record.Identity:
		s.Action, s.Cause = Update, "it was made anew outside"
	case same:
		s.Action, s.Cause = Update, "it was changed outside"
	default:
		s.Action, s.Cause = Update, "its inputs changed"
	}
	return s, afterUpdate(s.object.Outputs, c.Computed), nil
}

// unlearned says whether the state has to take in something that no driver looks at.
func (p *planner) unlearned(r Resource, record *Record) bool {
	return record.Keep != r.Keep || record.Protect != r.Protect || record.Timeout != r.Timeout || !slices.Equal(record.DependsOn, p.graph.needs[r.ID])
}

// locate says of each change where its field was written.
func locate(changes []Change, r Resource) {
	if r.Locate == nil {
		return
	}
	for i, c := range changes {
		if place, exact := r.Locate(c.Path); exact && c.Origin == "" {
			changes[i].Origin = place
		}
	}
}

// concealChanges marks the values in changes that contain one of the secrets.
func concealChanges(changes []Change, secrets []string) {
	if len(secrets) == 0 {
		return
	}
	for i := range changes {
		changes[i].Before, changes[i].After = conceal(changes[i].Before, secrets), conceal(changes[i].After, secrets)
	}
}

func (p *planner) replacement(ctx context.Context, s Step) (Step, any, error) {
	if s.resource.Protect || s.record.Protect {
		return s, nil, fmt.Errorf("it would have to be replaced and is protected: %s", s.Cause)
	}
	if remover, ok := p.engine.opts.Drivers[s.record.Type].(Remover); ok {
		action, cause, err := remover.Removal(ctx, Request{ID: s.ID, Inputs: s.record.Inputs, Record: s.record})
		if err != nil {
			return s, nil, err
		}
		if action != Delete {
			return s, nil, fmt.Errorf("it would have to be replaced (%s), and the one that is there must not be deleted: %s", s.Cause, cause)
		}
	}
	s.Action = Replace
	if s.resource.CreateBeforeDestroy {
		s.Action = CreateReplacement
	}
	return s, Unknown{}, nil
}

// afterUpdate makes the outputs unknown that an update may alter.
func afterUpdate(outputs map[string]any, computed []string) any {
	if slices.Contains(computed, "*") {
		return Unknown{}
	}
	if len(computed) == 0 {
		return outputs
	}
	known := maps.Clone(outputs)
	if known == nil {
		known = map[string]any{}
	}
	for _, name := range computed {
		known[name] = Unknown{}
	}
	return known
}

// identity tells a thing from all others that a driver knows.
type identity struct{ typ, identity string }

// identities says which wanted resources the things in the world belong to. A thing may have two ids when its resource was renamed.
func (p *planner) identities() map[identity]ID {
	taken := map[identity]ID{}
	for _, s := range p.steps {
		if s.object != nil && s.Action != "" {
			taken[identity{s.Type, s.object.Identity}] = s.ID
		}
	}
	return taken
}

// removals plans for what the state has and nobody wants any more.
func (p *planner) removals(ctx context.Context) ([]Step, error) {
	var steps []Step
	taken := p.identities()
	for _, id := range slices.Sorted(maps.Keys(p.records)) {
		if _, wanted := p.graph.resources[id]; !wanted && (p.targets == nil || p.targets[id]) {
			steps = append(steps, Step{ID: id, Type: p.records[id].Type, record: p.records[id]})
		}
	}
	errs := make([]error, len(steps))
	newSchedule(len(steps)).run(ctx, p.engine.opts.Workers, nil, func(ctx context.Context, i int) bool {
		errs[i] = p.removal(ctx, &steps[i], taken)
		return true
	}, func(int) {})
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return nil, err
	}
	deposed := p.engine.state.deposedRecords()
	for _, id := range slices.Sorted(maps.Keys(deposed)) {
		if p.targets == nil || p.targets[id] {
			steps = append(steps, Step{ID: id, Type: deposed[id].Type, Action: DeleteDeposed, Cause: "it was replaced", record: deposed[id]})
		}
	}
	return steps, nil
}

// removal decides about one resource that is no longer wanted.
func (p *planner) removal(ctx context.Context, s *Step, taken map[identity]ID) error {
	r := s.record
	s.Action, s.Cause = Delete, "it is no longer wanted"
	by, same := taken[identity{r.Type, r.Identity}]
	switch {
	case same && r.Identity != "":
		s.Action, s.Cause = Forget, fmt.Sprintf("it is the same as %s, which is wanted", by)
		return nil
	case p.adopted[s.ID]:
		s.Action, s.Cause = Forget, "it existed before"
		return nil
	case r.Keep:
		s.Action, s.Cause = Forget, "it is no longer wanted and to be kept"
		return nil
	case r.Protect:
		return &Problem{Resource: s.ID, Msg: "it is no longer wanted and protected: take the protection off first, in a run of its own"}
	}
	d, err := p.engine.driver(r.Type)
	if err != nil {
		return &Problem{Resource: s.ID, Msg: err.Error(), Cause: err}
	}
	remover, ok := d.(Remover)
	if !ok || p.engine.opts.Refresh == RefreshNone {
		return nil
	}
	action, cause, err := remover.Removal(ctx, Request{ID: s.ID, Inputs: r.Inputs, Record: r})
	if err != nil {
		return &Problem{Resource: s.ID, Msg: err.Error(), Cause: err}
	}
	s.Action = action
	if cause != "" {
		s.Cause += ": " + cause
	}
	return nil
}
