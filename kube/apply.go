package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weft-dev/weft/kube/manifest"
)

// Phase is what an apply is about to do or does.
type Phase string

// The phases, in their order.
const (
	Applying Phase = "apply"
	Waiting  Phase = "wait"
	Pruning  Phase = "prune"
)

// Event is one piece of progress.
type Event struct {
	Phase  Phase             `json:"phase"`
	Object manifest.Identity `json:"object"`
	Action Action            `json:"action,omitempty"`
	// State is "done" or "failed" while applying and pruning; while waiting "waiting", "ready" or "failed".
	State string `json:"state"`
	// Reason says what is waited for or what went wrong.
	Reason string `json:"reason,omitempty"`
	Done   int    `json:"done"`  // objects of this phase that are done
	Total  int    `json:"total"` // objects of this phase
}

// Result is what an apply did.
type Result struct {
	Plan    *Plan          `json:"plan"`
	Counts  map[Action]int `json:"counts"`
	Elapsed time.Duration  `json:"elapsed"` // nanoseconds
}

// Changed says whether anything but the inventory was written.
func (r *Result) Changed() bool { return r.Plan.Changed() }

// Apply brings the cluster to what the set says: it plans, applies wave by wave, waits if asked to, prunes, and records
// what it owns. When nothing differs it writes nothing.
//
// On an error the result tells what was done so far; the inventory records it, so that the next apply goes on from there.
func (c *Client) Apply(ctx context.Context, set Set) (*Result, error) {
	plan, err := c.Plan(ctx, set)
	if err != nil {
		return nil, err
	}
	return c.ApplyPlan(ctx, plan)
}

// Delete removes everything that the owner's inventory records (with the exceptions of pruning) and the inventory.
func (c *Client) Delete(ctx context.Context, set Set) (*Result, error) {
	set.Objects, set.NoPrune = nil, false
	return c.Apply(ctx, set)
}

// ApplyPlan does what the plan says. The plan's steps are not compared again: an object that changed since is brought to
// what the manifest says, and a conflict that arose since is an error.
func (c *Client) ApplyPlan(ctx context.Context, plan *Plan) (*Result, error) {
	start := time.Now()
	r := &runner{client: c, plan: plan, set: plan.set, inventory: *plan.inventory, result: &Result{Plan: plan, Counts: map[Action]int{}},
		entries: map[manifest.Identity]Entry{}}
	for _, e := range plan.kept {
		r.entries[e.Identity] = e
	}
	recorded := plan.inventory.byIdentity()
	for _, s := range plan.Steps {
		if s.Action == Unchanged || s.Action == Blocked {
			r.entries[s.Object] = s.entry
			r.result.Counts[s.Action]++
		} else if e, known := recorded[s.Object]; known && s.Action != Delete && s.Action != Forget {
			r.entries[s.Object] = e // until it is replaced by what the apply led to
		}
	}
	err := r.run(ctx)
	r.result.Elapsed = time.Since(start)
	return r.result, err
}

type runner struct {
	client    *Client
	plan      *Plan
	set       Set
	inventory Inventory

	mu      sync.Mutex
	entries map[manifest.Identity]Entry
	result  *Result
	done    map[Phase]int
}

func (r *runner) run(ctx context.Context) error {
	var apply, remove []Step
	for _, s := range r.plan.Steps {
		switch s.Action {
		case Create, Update, AdoptIt:
			apply = append(apply, s)
		case Delete, Forget:
			remove = append(remove, s)
		}
	}
	err := r.applyAll(ctx, apply)
	if err == nil && r.set.Wait {
		err = r.wait(ctx)
	}
	if err == nil {
		err = r.removeAll(ctx, remove)
	} else {
		for _, s := range remove {
			r.record(s.entry)
		}
	}
	// What was done has to be recorded even if the caller gave up.
	saveCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return errors.Join(err, r.save(saveCtx))
}

func (r *runner) record(e Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries[e.Identity] = e
}

func (r *runner) tell(e Event, finished bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = map[Phase]int{}
	}
	if finished {
		r.done[e.Phase]++
	}
	e.Done = r.done[e.Phase]
	if r.set.Progress != nil {
		r.set.Progress(e)
	}
}

// applyAll applies wave by wave. A failed object does not stop the others of its wave.
func (r *runner) applyAll(ctx context.Context, steps []Step) error {
	if len(steps) == 0 {
		return nil
	}
	for _, s := range steps {
		if s.Object.GroupKind() == namespaceKind && s.Object.Name == r.set.Owner.Namespace && s.Action == Create {
			if err := r.applyOne(ctx, s, len(steps)); err != nil {
				return err
			}
			steps = slices.DeleteFunc(slices.Clone(steps), func(o Step) bool { return o.Object == s.Object })
			break
		}
	}
	if err := r.announce(ctx, steps); err != nil {
		return err
	}
	for wave := range waveCount {
		var now []Step
		for _, s := range steps {
			if waveOf(s.Object.GroupKind()) == wave {
				now = append(now, s)
			}
		}
		errs := make([]error, len(now))
		err := inParallel(ctx, r.set.Workers, len(now), func(ctx context.Context, i int) error {
			errs[i] = r.applyOne(ctx, now[i], len(steps))
			return ctx.Err()
		})
		if err := errors.Join(append(errs, err)...); err != nil {
			return err
		}
		if wave == waveDefinitions {
			if err := r.served(ctx, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// announce records what is about to be made, so that a run that dies leaves nothing unknown behind.
func (r *runner) announce(ctx context.Context, steps []Step) error {
	before := r.plan.inventory.byIdentity()
	news := false
	for _, s := range steps {
		e, known := before[s.Object]
		if !known {
			e, news = Entry{Identity: s.Object}, true
		}
		r.record(e)
	}
	if !news {
		return nil
	}
	all := r.inventory
	all.Entries = slices.Clone(r.plan.inventory.Entries)
	for _, s := range steps {
		if _, known := before[s.Object]; !known {
			all.Entries = append(all.Entries, Entry{Identity: s.Object})
		}
	}
	err := r.client.saveInventory(ctx, r.set.Owner, &all)
	r.inventory = all
	return err
}

func (r *runner) applyOne(ctx context.Context, s Step, total int) error {
	entry, err := r.client.applyStep(ctx, s, r.set)
	e := Event{Phase: Applying, Object: s.Object, Action: s.Action, State: "done", Total: total}
	if err != nil {
		e.State, e.Reason = "failed", err.Error()
		r.tell(e, true)
		return err
	}
	r.record(entry)
	r.mu.Lock()
	r.result.Counts[s.Action]++
	r.mu.Unlock()
	r.tell(e, true)
	return nil
}

// applyStep writes one object and returns what to record of it.
func (c *Client) applyStep(ctx context.Context, s Step, set Set) (Entry, error) {
	if s.terminating {
		if err := c.untilGone(ctx, s.resource, s.live, set.Timeout); err != nil {
			return s.entry, s.desired.ErrorAt("", err.Error(), "")
		}
	}
	if s.Action == AdoptIt {
		if err := c.adopt(ctx, s); err != nil {
			return s.entry, explain(s.desired, err)
		}
	}
	result, err := c.patch(ctx, s.resource, s.desired.Unstructured, patchOptions{force: set.Force})
	if err != nil {
		return s.entry, explain(s.desired, err)
	}
	s.entry.UID = result.GetUID()
	if s.entry.Live, err = ownedFingerprint(result, c.manager); err != nil {
		return s.entry, s.desired.ErrorAt("", err.Error(), "")
	}
	return s.entry, nil
}

// adopt takes over the predecessors' fields, again if the object changes meanwhile.
func (c *Client) adopt(ctx context.Context, s Step) error {
	for i := 1; ; i++ {
		live, err := c.get(ctx, s.resource, s.Object.Namespace, s.Object.Name)
		if err != nil || live == nil {
			return err
		}
		err = c.takeOver(ctx, s.resource, live)
		if i == attempts || !apierrors.IsConflict(err) {
			return err
		}
	}
}

// served waits until the kinds that were just defined can be used.
func (r *runner) served(ctx context.Context, steps []Step) error {
	var definitions []waitTarget
	for _, s := range steps {
		if s.Object.GroupKind() == crdKind {
			definitions = append(definitions, waitTarget{object: s.desired, resource: s.resource})
		}
	}
	if len(definitions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.set.Timeout)
	defer cancel()
	if err := r.client.wait(ctx, definitions, nil); err != nil {
		return err
	}
	return r.discovered(ctx)
}

// discovered waits until discovery lists every kind of the plan: it follows a definition with a short delay.
func (r *runner) discovered(ctx context.Context) error {
	for _, s := range r.plan.Steps {
		for s.Action == Create {
			_, err := r.client.kinds.find(ctx, s.desired.GroupVersionKind())
			if err == nil {
				break
			}
			if !isUnknownKind(err) {
				return err
			}
			r.client.kinds.invalidate()
			select {
			case <-ctx.Done():
				return s.desired.ErrorAt("kind", "the cluster does not serve it although it is defined", "")
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

func (r *runner) removeAll(ctx context.Context, steps []Step) error {
	var all []error
	for wave := waveCount - 1; wave >= 0; wave-- {
		var now []Step
		for _, s := range steps {
			if waveOf(s.Object.GroupKind()) == wave {
				now = append(now, s)
			}
		}
		errs := make([]error, len(now))
		err := inParallel(ctx, r.set.Workers, len(now), func(ctx context.Context, i int) error {
			errs[i] = r.removeOne(ctx, now[i], len(steps))
			return ctx.Err()
		})
		all = append(all, append(errs, err)...)
	}
	return errors.Join(all...)
}

func (r *runner) removeOne(ctx context.Context, s Step, total int) error {
	e := Event{Phase: Pruning, Object: s.Object, Action: s.Action, State: "done", Reason: s.Reason, Total: total}
	var err error
	switch s.Action {
	case Delete:
		var done bool
		if done, err = r.client.deleteUID(ctx, s.resource, s.Object.Namespace, s.Object.Name, s.entry.UID); done && r.set.Wait {
			err = r.client.untilGone(ctx, s.resource, s.live, r.set.Timeout)
		}
	case Forget:
		if s.live.GetLabels()[OwnerLabel] == r.set.Owner.Label() {
			err = r.client.disown(ctx, s)
		}
	}
	if err != nil {
		e.State, e.Reason = "failed", err.Error()
		r.record(s.entry)
		r.tell(e, true)
		return fmt.Errorf("%s %s: %w", s.Action, s.Object, err)
	}
	r.mu.Lock()
	r.result.Counts[s.Action]++
	r.mu.Unlock()
	r.tell(e, true)
	return nil
}

func (r *runner) save(ctx context.Context) error {
	r.mu.Lock()
	entries := make([]Entry, 0, len(r.entries))
	for _, e := range r.entries {
		entries = append(entries, e)
	}
	r.mu.Unlock()
	inv := r.inventory
	if sameEntries(inv.Entries, entries) {
		return nil
	}
	inv.Entries, inv.Manager = entries, r.client.manager
	if len(entries) == 0 {
		return r.client.deleteInventory(ctx, r.set.Owner, &inv)
	}
	return r.client.saveInventory(ctx, r.set.Owner, &inv)
}
