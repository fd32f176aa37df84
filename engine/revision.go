package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Outcome of a run.
type Outcome string

// The outcomes.
const (
	Running     Outcome = "running"
	Done        Outcome = "done"
	Failed      Outcome = "failed"
	Interrupted Outcome = "interrupted" // drained, cancelled or killed; the next run goes on from there
)

// Revision is one run that changed something: what was wanted, and what came of it.
type Revision struct {
	Number    uint64         `json:"number"`
	Operation string         `json:"operation"` // for example "apply", "destroy", "rollback to 3"
	By        string         `json:"by,omitempty"`
	Begun     time.Time      `json:"begun"`
	Ended     time.Time      `json:"ended,omitzero"`
	Outcome   Outcome        `json:"outcome"`
	Counts    map[Action]int `json:"counts,omitempty"`
	Error     string         `json:"error,omitempty"`
	Targets   []ID           `json:"targets,omitempty"` // the run was limited to these

	// Delta is what is wanted otherwise than in the revision before: an id's fingerprint, empty if it is no longer wanted.
	Delta map[ID]string `json:"delta,omitempty"`
}

// keptRevisions is how many revisions a state remembers.
const keptRevisions = 100

// Revisions returns the runs that changed something, the oldest first. The caller must not change them.
func (s *State) Revisions() []*Revision {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.revisions)
}

func (s *State) foldRevision(e *entry) {
	maps.Copy(s.blobs, e.Blobs)
	if e.Op == "run" {
		s.revisions = append(s.revisions, e.Run)
		return
	}
	for i, r := range s.revisions {
		if r.Number == e.Run.Number {
			ended := *e.Run
			ended.Delta = maps.Clone(r.Delta)
			if ended.Delta == nil {
				ended.Delta = map[ID]string{}
			}
			maps.Copy(ended.Delta, e.Run.Delta) // pinned resources
			s.revisions[i] = &ended
		}
	}
}

// trimRevisions joins the oldest revisions beyond those that are kept, and drops what none needs any more. mu is held.
func (s *State) trimRevisions() {
	for len(s.revisions) > keptRevisions {
		joined := *s.revisions[1]
		joined.Delta = maps.Clone(s.revisions[0].Delta)
		if joined.Delta == nil {
			joined.Delta = map[ID]string{}
		}
		maps.Copy(joined.Delta, s.revisions[1].Delta)
		s.revisions = append([]*Revision{&joined}, s.revisions[2:]...)
	}
	used := map[string]bool{}
	for _, r := range s.revisions {
		for _, print := range r.Delta {
			used[print] = true
		}
	}
	maps.DeleteFunc(s.blobs, func(print string, _ json.RawMessage) bool { return !used[print] })
}

// wantedIn returns what was wanted in a revision: ids with fingerprints. 0 stands for before the first.
func (s *State) wantedIn(number uint64) (map[ID]string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	set := map[ID]string{}
	if number == 0 {
		return set, nil
	}
	for _, r := range s.revisions {
		for id, print := range r.Delta {
			if print == "" {
				delete(set, id)
			} else {
				set[id] = print
			}
		}
		if r.Number == number {
			return set, nil
		}
	}
	if len(s.revisions) == 0 {
		return nil, fmt.Errorf("there is no revision %d: nothing was applied yet", number)
	}
	return nil, fmt.Errorf("there is no revision %d; there are %d to %d", number, s.revisions[0].Number, s.revisions[len(s.revisions)-1].Number)
}

// Wanted returns the resources as they were wanted in a revision, sorted by id.
func (s *State) Wanted(number uint64) ([]Resource, error) {
	set, err := s.wantedIn(number)
	if err != nil {
		return nil, err
	}
	resources := make([]Resource, 0, len(set))
	for _, id := range sortedKeys(set) {
		r, err := s.blob(set[id])
		if err != nil {
			return nil, fmt.Errorf("%s in revision %d: %w", id, number, err)
		}
		resources = append(resources, r)
	}
	return resources, nil
}

func (s *State) blob(print string) (Resource, error) {
	s.mu.RLock()
	data, ok := s.blobs[print]
	s.mu.RUnlock()
	if !ok {
		return Resource{}, fmt.Errorf("the state does not hold it any more")
	}
	return decodeResource(data, s.sealer)
}

// last returns the number of the newest revision, or of the newest with the outcome; 0 if there is none.
func (s *State) last(outcomes ...Outcome) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range slices.Backward(s.revisions) {
		if len(outcomes) == 0 || slices.Contains(outcomes, r.Outcome) {
			return r.Number
		}
	}
	return 0
}

// LastDone returns the number of the newest revision that came out well, 0 if there is none.
func (s *State) LastDone() uint64 { return s.last(Done) }

// Difference is how one resource is wanted otherwise in a later revision.
type Difference struct {
	ID      ID       `json:"id"`
	Action  Action   `json:"action"` // create, update, delete: what the later revision asked for
	Changes []Change `json:"changes,omitempty"`
}

// Diff compares what was wanted in two revisions. Sensitive values are not shown.
func (s *State) Diff(from, to uint64) ([]Difference, error) {
	before, err := s.wantedIn(from)
	if err != nil {
		return nil, err
	}
	after, err := s.wantedIn(to)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(before)
	maps.Copy(all, after)
	var out []Difference
	for _, id := range sortedKeys(all) {
		if before[id] == after[id] {
			continue
		}
		var a, b Resource
		d := Difference{ID: id, Action: Update}
		if before[id] == "" {
			d.Action = Create
		} else if a, err = s.blob(before[id]); err != nil {
			return nil, fmt.Errorf("%s in revision %d: %w", id, from, err)
		}
		if after[id] == "" {
			d.Action = Delete
		} else if b, err = s.blob(after[id]); err != nil {
			return nil, fmt.Errorf("%s in revision %d: %w", id, to, err)
		}
		if d.Action == Update {
			d.Changes = diffTrees(a.Inputs, b.Inputs)
			concealChanges(d.Changes, append(secretsIn(a.Inputs), secretsIn(b.Inputs)...))
		}
		out = append(out, d)
	}
	return out, nil
}

// diffTrees lists the fields in which two trees differ.
func diffTrees(a, b any) []Change {
	var changes []Change
	var compare func(path string, a, b any)
	compare = func(path string, a, b any) {
		x, isMap := a.(map[string]any)
		y, both := b.(map[string]any)
		if isMap && both {
			keys := maps.Clone(x)
			maps.Copy(keys, y)
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				below := k
				if path != "" {
					below = path + "." + k
				}
				compare(below, x[k], y[k])
			}
			return
		}
		l, isList := a.([]any)
		m, both := b.([]any)
		if isList && both {
			for i := range max(len(l), len(m)) {
				var x, y any
				if i < len(l) {
					x = l[i]
				}
				if i < len(m) {
					y = m[i]
				}
				compare(fmt.Sprintf("%s[%d]", path, i), x, y)
			}
			return
		}
		if !sameValue(a, b) {
			changes = append(changes, Change{Path: path, Before: a, After: b})
		}
	}
	compare("", a, b)
	return changes
}

func sameValue(a, b any) bool {
	x, errX := json.Marshal(Reveal(a))
	y, errY := json.Marshal(Reveal(b))
	return errX == nil && errY == nil && string(x) == string(y)
}

// storedResource is how revisions and plan files hold a resource. Inputs are a tree where it is written and text where it is read.
type storedResource[Inputs any] struct {
	ID                  ID            `json:"id"`
	Type                string        `json:"type"`
	Inputs              Inputs        `json:"inputs,omitempty"`
	DependsOn           []ID          `json:"dependsOn,omitempty"`
	Origin              string        `json:"origin,omitempty"`
	Protect             bool          `json:"protect,omitempty"`
	Keep                bool          `json:"keep,omitempty"`
	CreateBeforeDestroy bool          `json:"createBeforeDestroy,omitempty"`
	Timeout             time.Duration `json:"timeout,omitempty"`
}

func encodeResource(r Resource, sealer Sealer) (json.RawMessage, error) {
	inputs, err := encodeTop(r.Inputs, sealer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.ID, err)
	}
	return json.Marshal(storedResource[map[string]any]{r.ID, r.Type, inputs, r.DependsOn, r.Origin, r.Protect, r.Keep, r.CreateBeforeDestroy, r.Timeout})
}

func decodeResource(data []byte, sealer Sealer) (Resource, error) {
	var stored storedResource[json.RawMessage]
	if err := json.Unmarshal(data, &stored); err != nil {
		return Resource{}, fmt.Errorf("a resource cannot be read: %w", err)
	}
	r := Resource{ID: stored.ID, Type: stored.Type, DependsOn: stored.DependsOn, Origin: stored.Origin, Protect: stored.Protect, Keep: stored.Keep,
		CreateBeforeDestroy: stored.CreateBeforeDestroy, Timeout: stored.Timeout}
	if len(stored.Inputs) > 0 && string(stored.Inputs) != "null" {
		tree, err := decodeJSON(stored.Inputs)
		if err != nil {
			return r, fmt.Errorf("a resource cannot be read: %w", err)
		}
		m, ok := tree.(map[string]any)
		if !ok {
			return r, fmt.Errorf("a resource cannot be read: its inputs have to be a map")
		}
		if _, err := decodeMap(m, sealer); err != nil {
			return r, err
		}
		r.Inputs = m
	}
	return r, nil
}

// resourceState is what makes a wanted resource another one; where it was written is no part of it.
type resourceState struct {
	Type, Inputs              any
	DependsOn                 []ID
	Protect, Keep, CreateFist bool
	Timeout                   time.Duration
}

// print is the fingerprint of a resource as it is wanted.
func (s *State) print(r Resource) (string, error) {
	inputs, err := encodeTop(r.Inputs, plainSealer{})
	if err != nil {
		return "", fmt.Errorf("%s: %w", r.ID, err)
	}
	return s.keyed(HasSensitive(r.Inputs), "wanted", resourceState{r.Type, inputs, r.DependsOn, r.Protect, r.Keep, r.CreateBeforeDestroy, r.Timeout}), nil
}

// plainSealer leaves values as they are, for fingerprints.
type plainSealer struct{}

func (plainSealer) Seal(plain []byte) (string, error)  { return string(plain), nil }
func (plainSealer) Open(sealed string) ([]byte, error) { return []byte(sealed), nil }

// delta is what the plan wants otherwise than the last revision, and the blobs for it.
func (e *Engine) delta(plan *Plan) (delta map[ID]string, blobs map[string]json.RawMessage, err error) {
	s := e.state
	before, err := s.wantedIn(s.last())
	if err != nil {
		return nil, nil, err
	}
	delta, blobs = map[ID]string{}, map[string]json.RawMessage{}
	seen := map[ID]bool{}
	for _, step := range plan.Steps {
		if step.Action == DeleteDeposed {
			continue
		}
		seen[step.ID] = true
		if step.removes() { // also what is retained: it is no longer wanted
			if before[step.ID] != "" {
				delta[step.ID] = ""
			}
			continue
		}
		if err := e.addWanted(step.resource, before, delta, blobs); err != nil {
			return nil, nil, err
		}
	}
	for id := range before {
		if !seen[id] && len(plan.Targets) == 0 {
			delta[id] = ""
		}
	}
	return delta, blobs, nil
}

func (e *Engine) addWanted(r Resource, before, delta map[ID]string, blobs map[string]json.RawMessage) error {
	print, err := e.state.print(r)
	if err != nil {
		return err
	}
	if print == "" {
		return fmt.Errorf("%s: %w", r.ID, ErrNoSealer)
	}
	if before[r.ID] == print {
		return nil
	}
	delta[r.ID] = print
	if e.state.has(print) {
		return nil
	}
	blobs[print], err = encodeResource(r, e.state.sealer)
	return err
}

func (s *State) has(print string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.blobs[print]
	return ok
}

// beginRevision writes down what the run wants, before it begins.
func (e *Engine) beginRevision(plan *Plan) (*Revision, error) {
	delta, blobs, err := e.delta(plan)
	if err != nil {
		return nil, err
	}
	r := &Revision{Number: e.state.last() + 1, Operation: plan.Operation, By: e.opts.By, Begun: time.Now().UTC(), Outcome: Running, Targets: plan.Targets, Delta: delta}
	return r, e.state.append(&entry{Op: "run", Run: r, Blobs: blobs})
}

// endRevision writes down what came of it. Resources whose drivers can pin them are kept as they came out.
func (e *Engine) endRevision(r *Revision, outcome Outcome, counts map[Action]int, cause error) error {
	ended := *r
	ended.Ended, ended.Outcome, ended.Counts, ended.Delta = time.Now().UTC(), outcome, counts, nil
	if cause != nil {
		ended.Error = e.withoutSecrets(cause.Error())
	}
	en := &entry{Op: "ran", Run: &ended}
	if err := e.pin(r, en); err != nil {
		return err
	}
	return e.state.append(en)
}

func (e *Engine) pin(r *Revision, en *entry) error {
	set, err := e.state.wantedIn(r.Number)
	if err != nil {
		return err
	}
	pinned, blobs := map[ID]string{}, map[string]json.RawMessage{}
	for id, print := range set {
		record := e.state.Record(id)
		if record == nil {
			continue
		}
		pinner, ok := e.opts.Drivers[record.Type].(Pinner)
		if !ok {
			continue
		}
		wanted, err := e.state.blob(print)
		if err != nil {
			return err
		}
		wanted.Inputs = pinner.Pin(wanted.Inputs, record.Outputs)
		if err := e.addWanted(wanted, set, pinned, blobs); err != nil {
			return err
		}
	}
	if len(pinned) > 0 {
		en.Run.Delta, en.Blobs = pinned, blobs
	}
	return nil
}
