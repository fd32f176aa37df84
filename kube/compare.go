package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func (p *planner) planObject(ctx context.Context, t target, recorded Entry) (Step, error) {
	id := t.object.Identity()
	s := Step{Object: id, Pos: t.object.Start(), desired: t.object, resource: t.resource, live: p.live[id],
		entry: Entry{Identity: id, Desired: fingerprint([]any{p.client.manager, t.object.Object})}}
	if t.pending {
		s.Action, s.Reason = Create, "its kind is defined in the same set"
		return s, nil
	}
	if s.live != nil && s.live.GetDeletionTimestamp() != nil {
		s.Action, s.Reason, s.terminating = Create, "the one that is there is being deleted", true
		return s, nil
	}
	sameManifest := recorded.Desired == s.entry.Desired
	if s.live != nil && sameManifest && recorded.UID == s.live.GetUID() {
		owned, err := ownedFingerprint(s.live, p.client.manager)
		if err != nil {
			return s, t.object.ErrorAt("", err.Error(), "")
		}
		if owned == recorded.Live {
			s.Action, s.Reason, s.entry = Unchanged, "as it was applied", recorded
			return s, nil
		}
	}
	return p.compare(ctx, t, s, recorded, sameManifest)
}

// compare asks the server what an apply would make of the object.
func (p *planner) compare(ctx context.Context, t target, s Step, recorded Entry, sameManifest bool) (Step, error) {
	result, err := p.client.patch(ctx, t.resource, t.object.Unstructured, patchOptions{dryRun: true, force: p.set.Force})
	missing := apierrors.IsNotFound(err) && p.namespaces[t.object.GetNamespace()]
	if missing || err == nil && result.GetResourceVersion() == "" {
		s.Action, s.Reason = Create, "it is not in the cluster"
		if recorded.UID != "" {
			s.Reason = "it was deleted outside of this set"
		}
		return s, nil
	}
	if isTypeError(err) {
		return s, p.client.allTypeErrors(ctx, t.object, err)
	}
	if err != nil && !isFieldConflict(err) && !refusesDryRun(err) {
		return s, explain(t.object, err)
	}
	if s.live == nil {
		live, getErr := p.client.get(ctx, t.resource, t.object.GetNamespace(), t.object.GetName())
		if getErr != nil {
			return s, explain(t.object, getErr)
		}
		if s.live = live; live == nil {
			s.Action, s.Reason = Create, "it is not in the cluster"
			return s, nil
		}
	}
	ours := s.live.GetLabels()[OwnerLabel] == p.set.Owner.Label() || recorded.UID == s.live.GetUID()
	if other := s.live.GetLabels()[OwnerLabel]; !ours && other != "" && !p.set.Adopt {
		return s, t.object.ErrorAt("", fmt.Sprintf("it belongs to %q already", other), "give it another name, or adopt it")
	}
	if isFieldConflict(err) && !ours {
		if foreign := withoutPredecessors(explain(t.object, err)); foreign != nil {
			return s, foreign
		}
		result, err = p.client.patch(ctx, t.resource, t.object.Unstructured, patchOptions{dryRun: true, force: true})
	}
	if refusesDryRun(err) {
		s.Action, s.Reason = Update, "an admission webhook allows no dry run, so the fields could not be compared"
		return s, nil
	}
	if err != nil {
		return s, explain(t.object, err)
	}
	if !ours {
		return p.adoption(ctx, s, result)
	}
	return p.update(s, result, recorded, sameManifest)
}

func (p *planner) adoption(ctx context.Context, s Step, result *unstructured.Unstructured) (Step, error) {
	s.Action, s.Reason = AdoptIt, "it exists and was not applied by this set"
	if names := predecessorsOf(s.live); len(names) > 0 {
		s.Reason += "; the fields of " + strings.Join(names, ", ") + " are taken over"
		if err := p.client.foreseeTakeOver(ctx, s.resource, s.desired, s.live, result); err != nil {
			return s, s.desired.ErrorAt("", err.Error(), "")
		}
	}
	s.Changes = Diff(s.live, result)
	return s, nil
}

func (p *planner) update(s Step, result *unstructured.Unstructured, recorded Entry, sameManifest bool) (Step, error) {
	s.Changes = Diff(s.live, result)
	ofUs := func(e metav1.ManagedFieldsEntry) bool { return isApplyOf(e, p.client.manager) }
	before, err := ownedSet(s.live, ofUs)
	if err != nil {
		return s, s.desired.ErrorAt("", err.Error(), "")
	}
	after, err := ownedSet(result, ofUs)
	if err != nil {
		return s, s.desired.ErrorAt("", err.Error(), "")
	}
	switch {
	case len(s.Changes) == 0 && before.Equals(after):
		s.Action, s.Reason = Unchanged, "the cluster has what the manifest says"
		s.entry.UID = s.live.GetUID()
		if s.entry.Live, err = ownedFingerprint(s.live, p.client.manager); err != nil {
			return s, s.desired.ErrorAt("", err.Error(), "")
		}
	case len(s.Changes) == 0:
		s.Action, s.Reason = Update, "which fields belong to this set changes"
	case sameManifest:
		s.Action, s.Reason = Update, "it was changed outside of this set"+byWhom(s.live, p.client.manager)
	case recorded.UID != "" && recorded.UID != s.live.GetUID():
		s.Action, s.Reason = Update, "it was made anew outside of this set"
	default:
		s.Action, s.Reason = Update, "the manifest changed"
	}
	return s, nil
}

// byWhom names the other manager that wrote last since our own apply.
func byWhom(live *unstructured.Unstructured, manager string) string {
	var own, last *metav1.ManagedFieldsEntry
	entries := live.GetManagedFields()
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Time == nil:
		case isApplyOf(*e, manager):
			own = e
		case e.Subresource == "" && (last == nil || last.Time.Before(e.Time)):
			last = e
		}
	}
	if last == nil || own != nil && last.Time.Before(own.Time) {
		return ""
	}
	return fmt.Sprintf(", last by %q", last.Manager)
}

func withoutPredecessors(err error) error {
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		return err
	}
	foreign := *conflict
	foreign.Conflicts = slices.DeleteFunc(slices.Clone(conflict.Conflicts), func(f Conflict) bool {
		return slices.ContainsFunc(Predecessors, func(p Predecessor) bool { return p.Manager == f.Manager })
	})
	if len(foreign.Conflicts) == 0 {
		return nil
	}
	return &foreign
}

func refusesDryRun(err error) bool {
	return apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "does not support dry run")
}
