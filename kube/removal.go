package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/weft-dev/weft/kube/manifest"
)

// planRemovals decides about everything that the inventory records and the set does not have.
func (p *planner) planRemovals(ctx context.Context) error {
	wanted := make(map[manifest.Identity]bool, len(p.targets))
	for _, t := range p.targets {
		wanted[t.object.Identity()] = true
	}
	var steps []Step
	for _, e := range p.plan.inventory.Entries {
		if wanted[e.Identity] {
			continue
		}
		if p.set.NoPrune {
			p.plan.kept = append(p.plan.kept, e)
			continue
		}
		s, err := p.removal(ctx, e)
		if err != nil {
			return fmt.Errorf("%s: %w", e.Identity, err)
		}
		if s.Action != "" {
			steps = append(steps, s)
		}
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(waveOf(b.Object.GroupKind()), waveOf(a.Object.GroupKind())) })
	p.plan.Steps = append(p.plan.Steps, steps...)
	return nil
}

func (p *planner) removal(ctx context.Context, e Entry) (Step, error) {
	s := Step{Object: e.Identity, entry: e}
	r, err := p.client.kinds.findKind(ctx, e.GroupKind())
	if err != nil {
		var unknown *UnknownKindError
		if errors.As(err, &unknown) && unknown.Cause == nil {
			return Step{}, nil // its kind is gone and the object with it
		}
		return s, err
	}
	s.resource = r
	live := p.live[e.Identity]
	if live == nil {
		if live, err = p.client.get(ctx, r, e.Namespace, e.Name); err != nil || live == nil {
			return Step{}, err
		}
	}
	s.live = live
	label := live.GetLabels()[OwnerLabel]
	switch {
	case e.UID != "" && live.GetUID() != e.UID:
		s.Action, s.Reason = Forget, "another object has its name by now"
	case e.UID == "" && label != p.set.Owner.Label():
		return Step{}, nil // an interrupted run meant to make it and did not
	case label != "" && label != p.set.Owner.Label():
		s.Action, s.Reason = Forget, fmt.Sprintf("it belongs to %q by now", label)
	case live.GetAnnotations()[KeepAnnotation] == "true":
		s.Action, s.Reason = Forget, "no longer in the set, but its annotation "+KeepAnnotation+" says to keep it"
	case precious[e.GroupKind()] != "" && !slices.Contains(p.set.AllowDelete, e.Kind):
		s.Action, s.Reason = Blocked, fmt.Sprintf("no longer in the set, but %s; allow deleting %s to have it removed", precious[e.GroupKind()], e.Kind)
	default:
		s.Action, s.Reason = Delete, "no longer in the set"
	}
	s.entry.UID = live.GetUID()
	return s, nil
}

// sameEntries tells whether writing the inventory would change it.
func sameEntries(a, b []Entry) bool {
	index := make(map[manifest.Identity]Entry, len(a))
	for _, e := range a {
		index[e.Identity] = e
	}
	for _, e := range b {
		if got, ok := index[e.Identity]; !ok || !reflect.DeepEqual(got, e) {
			return false
		}
	}
	return len(a) == len(b)
}
