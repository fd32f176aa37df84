package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// PlanVersion is the version of the format of plan files. Newer ones are refused.
const PlanVersion = 2

// planHeader begins a plan file; the version and one line of encrypted JSON follow.
const planHeader = "weft-plan "

// planFile is what a plan file holds.
type planFile struct {
	Lineage   string          `json:"lineage"`
	Serial    uint64          `json:"serial"`
	Made      time.Time       `json:"made"`
	Operation string          `json:"operation"`
	Targets   []ID            `json:"targets,omitempty"`
	Settings  json.RawMessage `json:"settings,omitempty"`
	Needs     map[ID][]ID     `json:"needs,omitempty"`
	Steps     []fileStep      `json:"steps"`
}

// fileStep is a step with what tells whether it still holds.
type fileStep struct {
	Step
	Changes  []Change        `json:"changes,omitempty"`  // encoded
	Resource json.RawMessage `json:"resource,omitempty"` // nil for removals
	Exists   bool            `json:"exists,omitempty"`
	Identity string          `json:"identity,omitempty"`
	Mark     string          `json:"mark,omitempty"`
	Print    string          `json:"print,omitempty"`
	Relearn  bool            `json:"relearn,omitempty"`
}

// Encode writes the plan for a later ApplySaved, encrypted. Settings are the caller's own, who gets them back. Values kept elsewhere
// stay references.
func (e *Engine) Encode(plan *Plan, settings any) ([]byte, error) {
	if e.state.sealer == nil {
		return nil, errors.New("a plan file is encrypted, and no key is configured")
	}
	f := planFile{Lineage: plan.Lineage, Serial: plan.Serial, Made: plan.Made, Operation: plan.Operation, Targets: plan.Targets, Needs: plan.needs}
	var err error
	if f.Settings, err = json.Marshal(settings); err != nil {
		return nil, err
	}
	for _, s := range plan.Steps {
		step, err := e.encodeStep(s)
		if err != nil {
			return nil, err
		}
		f.Steps = append(f.Steps, step)
	}
	body, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	sealed, err := e.state.sealer.Seal(body)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s%d\n%s\n", planHeader, PlanVersion, sealed), nil
}

func (e *Engine) encodeStep(s Step) (fileStep, error) {
	out := fileStep{Step: s, Print: s.print, Relearn: s.relearn}
	var err error
	for _, c := range s.Changes {
		if c.Before, err = encodeTree(c.Before, e.state.sealer); err != nil {
			return out, err
		}
		if c.After, err = encodeTree(c.After, e.state.sealer); err != nil {
			return out, err
		}
		out.Changes = append(out.Changes, c)
	}
	out.Step.Changes = nil
	if !s.removes() {
		if out.Resource, err = encodeResource(s.resource, e.state.sealer); err != nil {
			return out, err
		}
	}
	if s.object != nil {
		out.Exists, out.Identity, out.Mark = true, s.object.Identity, e.state.mark(s.full, s.object.Mark)
	}
	return out, nil
}

// SavedPlan is a plan that was read from a file.
type SavedPlan struct {
	Plan     Plan // to be shown; it is applied by ApplySaved
	Settings json.RawMessage
	steps    []fileStep
}

// ReadPlan reads what Encode wrote.
func ReadPlan(data []byte, sealer Sealer) (*SavedPlan, error) {
	header, body, _ := bytes.Cut(data, []byte("\n"))
	rest, ok := bytes.CutPrefix(header, []byte(planHeader))
	if !ok {
		return nil, errors.New("it is no plan file: it does not begin with " + planHeader)
	}
	version, err := strconv.Atoi(string(bytes.TrimSpace(rest)))
	if err != nil || version < 1 {
		return nil, errors.New("its version is no number")
	}
	if version > PlanVersion {
		return nil, fmt.Errorf("its format has version %d, this program knows up to %d: use a newer weft", version, PlanVersion)
	}
	if sealer == nil {
		return nil, errors.New("it is encrypted, and no key is configured")
	}
	plain, err := sealer.Open(string(bytes.TrimSpace(body)))
	if err != nil {
		return nil, err
	}
	var f planFile
	if err := json.Unmarshal(plain, &f); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	saved := &SavedPlan{Settings: f.Settings, steps: f.Steps,
		Plan: Plan{Lineage: f.Lineage, Serial: f.Serial, Made: f.Made, Operation: f.Operation, Targets: f.Targets, needs: f.Needs}}
	for _, s := range f.Steps {
		step, err := s.decode(sealer)
		if err != nil {
			return nil, fmt.Errorf("it is damaged: %s: %w", s.ID, err)
		}
		saved.Plan.Steps = append(saved.Plan.Steps, step)
	}
	return saved, nil
}

func (s fileStep) decode(sealer Sealer) (Step, error) {
	step := s.Step
	step.print, step.relearn = s.Print, s.Relearn
	for _, c := range s.Changes {
		for _, v := range []*any{&c.Before, &c.After} {
			data, err := json.Marshal(*v)
			if err != nil {
				return step, err
			}
			if *v, err = decodeJSON(data); err != nil {
				return step, err
			}
			if *v, err = decodeTree(*v, sealer); err != nil {
				return step, err
			}
		}
		step.Changes = append(step.Changes, c)
	}
	if len(s.Resource) > 0 {
		var err error
		if step.resource, err = decodeResource(s.Resource, sealer); err != nil {
			return step, err
		}
	} else if !step.removes() {
		return step, errors.New("it does not say what is wanted")
	}
	return step, nil
}

// StaleError says that a saved plan does not hold any more. Nothing was changed.
type StaleError struct{ Reasons []string }

// Error lists what changed.
func (e *StaleError) Error() string {
	const most = 10
	s := "the plan does not hold any more; plan again"
	for i, r := range e.Reasons {
		if i == most {
			return s + fmt.Sprintf("\n  and %d more", len(e.Reasons)-most)
		}
		s += "\n  " + r
	}
	return s
}

// ApplySaved does exactly what a plan file says. It refuses (StaleError) if the state is another one or has changed, or if anything that
// the plan changes is not as it was when the plan was made.
func (e *Engine) ApplySaved(ctx context.Context, saved *SavedPlan) (*Result, error) {
	plan := saved.Plan
	plan.Steps = slices.Clone(plan.Steps)
	switch {
	case plan.Lineage != e.state.Lineage():
		return nil, &StaleError{[]string{"it was made for another state: the lineage is not the same"}}
	case plan.Serial != e.state.Serial():
		return nil, &StaleError{[]string{fmt.Sprintf("the state changed since: its serial was %d and is %d", plan.Serial, e.state.Serial())}}
	}
	if err := e.rebind(ctx, &plan, saved.steps); err != nil {
		return nil, err
	}
	return e.Apply(ctx, &plan)
}

// rebind gives the steps of a saved plan what exists now, and compares it with what existed then.
func (e *Engine) rebind(ctx context.Context, plan *Plan, saved []fileStep) error {
	p := &planner{engine: e, records: e.state.Records(), fetched: map[ID]*Object{}}
	settled := p.records // what the plan leaves as it is, so that its outputs are known
	p.records = e.state.Records()
	for _, s := range plan.Steps {
		if s.Action != NoOp {
			delete(settled, s.ID)
		}
	}
	deposed := e.state.deposedRecords()
	requests := map[string][]Request{}
	for i := range plan.Steps {
		s := &plan.Steps[i]
		s.record = p.records[s.ID]
		if s.Action == DeleteDeposed {
			s.record = deposed[s.ID]
		}
		if s.record == nil && s.removes() {
			return &StaleError{[]string{fmt.Sprintf("%s is not in the state", s.ID)}}
		}
		if !s.removes() {
			requests[s.Type] = append(requests[s.Type], Request{ID: s.ID, Inputs: s.resource.Inputs, Record: s.record})
		}
	}
	if e.opts.Refresh != RefreshNone {
		if err := p.fetch(ctx, requests); err != nil {
			return err
		}
	}
	reasons := make([]string, len(plan.Steps))
	errs := make([]error, len(plan.Steps))
	newSchedule(len(plan.Steps)).run(ctx, e.opts.Workers, nil, func(ctx context.Context, i int) bool {
		reasons[i], errs[i] = e.recheck(ctx, p, settled, &plan.Steps[i], saved[i])
		return true
	}, func(int) {})
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return err
	}
	if reasons = slices.DeleteFunc(reasons, func(r string) bool { return r == "" }); len(reasons) > 0 {
		return &StaleError{reasons}
	}
	return nil
}

// recheck reads what a step is about and says what is not as it was.
func (e *Engine) recheck(ctx context.Context, p *planner, settled map[ID]*Record, s *Step, saved fileStep) (string, error) {
	if s.removes() || saved.unread(e.opts.Refresh) {
		return "", nil
	}
	d, err := e.driver(s.Type)
	if err != nil {
		return "", err
	}
	if s.inputs, err = e.known(s.resource.Inputs, settled); err != nil {
		return "", err
	}
	if s.full, err = e.reveal(ctx, s.inputs); err != nil {
		return "", err
	}
	if print := e.state.fingerprint(d.Version(), s.full); HasExternal(s.inputs) && saved.Print != "" && print != "" && print != saved.Print {
		return fmt.Sprintf("%s: a value that is kept elsewhere changed", s.ID), nil
	}
	object, fetched := p.fetched[s.ID]
	if !fetched {
		if object, err = d.Read(ctx, Request{ID: s.ID, Inputs: s.full, Record: s.record}); err != nil {
			return "", fmt.Errorf("%s cannot be read: %w", s.ID, err)
		}
	}
	s.object = object
	switch {
	case saved.Exists && object == nil:
		return fmt.Sprintf("%s was deleted since", s.ID), nil
	case !saved.Exists && object != nil:
		return fmt.Sprintf("%s was made since", s.ID), nil
	case object == nil:
	case object.Identity != saved.Identity:
		return fmt.Sprintf("%s was made anew since", s.ID), nil
	case saved.Mark != "" && e.state.mark(s.full, object.Mark) != saved.Mark:
		return fmt.Sprintf("%s was changed since", s.ID), nil
	}
	return "", nil
}

// unread says whether the step was planned from the state alone.
func (s fileStep) unread(refresh Refresh) bool {
	return refresh == RefreshNone && s.Exists || s.Action == NoOp && !s.Relearn && refresh != RefreshAll
}

// known resolves references to resources that stay as they are.
func (e *Engine) known(inputs map[string]any, settled map[ID]*Record) (map[string]any, error) {
	tree, err := substitute(inputs, func(r Reference) (any, error) {
		record := settled[r.Resource]
		if record == nil {
			return Unknown{}, nil
		}
		return at(record.Outputs, r.Path)
	})
	m, _ := tree.(map[string]any)
	return m, err
}
