package regrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level/door"
)

// Name is that of the Regrade object: there is one, so there is one re-grading at a time.
const Name = "cluster"

const fieldManager = "weft-regrade"

var resource = schema.GroupVersionResource{Group: api.Group, Version: api.Version, Resource: "regrades"}

// ErrChanged says that levels were changed by others between the plan and the freezing: nothing was changed, plan again.
var ErrChanged = errors.New("levels were changed by somebody else meanwhile; nothing was changed")

// Run carries plans out. All that it knows lies in the Regrade object: a run that ends at any point is finished or undone by Recover.
type Run struct {
	Objects  dynamic.Interface
	Patience time.Duration                 // how long doors may take for each phase
	Say      func(format string, a ...any) // progress
}

// Apply freezes the namespaces of a plan, labels, waits for all doors and releases. Once doors have frozen, plan is asked again: it must
// still be the same, else ErrChanged. A re-grading that is there already is an error: Recover first.
func (r *Run) Apply(ctx context.Context, p *Plan, plan func(context.Context) (*Plan, error)) error {
	g := &api.Regrade{Spec: api.RegradeSpec{Phase: api.Freezing, Steps: p.Steps()}}
	g.APIVersion, g.Kind, g.Name = api.Group+"/"+api.Version, "Regrade", Name
	u, err := toUnstructured(g)
	if err != nil {
		return err
	}
	r.Say("freezing")
	if u, err = r.Objects.Resource(resource).Create(ctx, u, metav1.CreateOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("freezing: %w", err)
	}
	if err := r.frozen(ctx, p, plan); err != nil {
		undo, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer stop()
		return errors.Join(err, r.remove(undo, u))
	}
	if u, err = r.advance(ctx, u, api.Labelling); err != nil {
		return err
	}
	return r.finish(ctx, u)
}

// frozen waits until nobody gets in, and looks whether the plan still holds.
func (r *Run) frozen(ctx context.Context, p *Plan, plan func(context.Context) (*Plan, error)) error {
	if err := r.await(ctx, api.Freezing); err != nil {
		return err
	}
	again, err := plan(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(again.Steps(), p.Steps()) {
		return ErrChanged
	}
	return nil
}

// Recover finishes a re-grading that was interrupted once it had begun to label, and undoes one that had not. It says which, empty if there
// was none.
func (r *Run) Recover(ctx context.Context) (string, error) {
	u, err := r.Objects.Resource(resource).Get(ctx, Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) { // also if the kind is not there: levels were never enabled
		return "", nil
	}
	if err != nil {
		return "", err
	}
	g, err := fromUnstructured(u)
	if err != nil {
		return "", err
	}
	if g.Spec.Phase == api.Freezing {
		return "undone", r.remove(ctx, u)
	}
	return "finished", r.finish(ctx, u)
}

// finish labels and releases. Each part may have been done before.
func (r *Run) finish(ctx context.Context, u *unstructured.Unstructured) error {
	g, err := fromUnstructured(u)
	if err != nil {
		return err
	}
	if g.Spec.Phase == api.Labelling {
		for i := range g.Spec.Steps {
			if err := r.label(ctx, &g.Spec.Steps[i]); err != nil {
				return err
			}
		}
		if u, err = r.advance(ctx, u, api.Releasing); err != nil {
			return err
		}
	}
	r.Say("waiting for the doors to see the new levels")
	if err := r.await(ctx, api.Releasing); err != nil {
		return err
	}
	return r.remove(ctx, u)
}

func (r *Run) label(ctx context.Context, s *api.RegradeStep) error {
	what := strings.TrimPrefix(s.Namespace+"/", "/") + s.Resource + "/" + s.Name
	var objects dynamic.ResourceInterface = r.Objects.Resource(schema.GroupVersionResource{Group: s.Group, Version: s.Version, Resource: s.Resource})
	if s.Namespace != "" {
		objects = r.Objects.Resource(schema.GroupVersionResource{Group: s.Group, Version: s.Version, Resource: s.Resource}).Namespace(s.Namespace)
	}
	for {
		u, err := objects.Get(ctx, s.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && string(u.GetUID()) != s.UID {
			r.Say("%s is gone", what)
			return nil
		}
		if err != nil {
			return fmt.Errorf("labelling %s: %w", what, err)
		}
		has := u.GetLabels()[s.Key]
		if has == s.To {
			return nil
		}
		if has != s.From {
			r.Say("%s was set to %q by somebody else; it is set to %q", what, has, s.To)
		}
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": s.UID, "resourceVersion": u.GetResourceVersion(), "labels": map[string]string{s.Key: s.To}}})
		if err != nil {
			return err
		}
		r.Say("%s: %s", what, s.To)
		_, err = objects.Patch(ctx, s.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager})
		switch {
		case apierrors.IsConflict(err): // changed between reading and writing: look again
		case err != nil:
			return fmt.Errorf("labelling %s: %w", what, err)
		default:
			return nil
		}
	}
}

// advance sets the next phase, if nobody else changed the re-grading.
func (r *Run) advance(ctx context.Context, u *unstructured.Unstructured, to api.RegradePhase) (*unstructured.Unstructured, error) {
	next := u.DeepCopy()
	if err := unstructured.SetNestedField(next.Object, string(to), "spec", "phase"); err != nil {
		return nil, err
	}
	next, err := r.Objects.Resource(resource).Update(ctx, next, metav1.UpdateOptions{FieldManager: fieldManager})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("another run took this re-grading over: %w", err)
	}
	return next, err
}

// remove ends a re-grading, if nobody else changed it.
func (r *Run) remove(ctx context.Context, u *unstructured.Unstructured) error {
	uid, version := u.GetUID(), u.GetResourceVersion()
	err := r.Objects.Resource(resource).Delete(ctx, Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// await waits until every door says that it knows a phase. One that tells nothing any more may still judge, so it is waited for as well.
func (r *Run) await(ctx context.Context, phase api.RegradePhase) error {
	ctx, stop := context.WithTimeout(ctx, r.Patience)
	defer stop()
	for {
		waiting, err := r.waiting(ctx, phase)
		if err == nil && len(waiting) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return fmt.Errorf("asking the doors: %w", err)
			}
			return &WaitError{Phase: phase, Doors: waiting}
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// WaitError says which doors did not follow. Before labels were changed all is undone; after that, the next run goes on.
type WaitError struct {
	Phase api.RegradePhase
	Doors []string
}

func (e *WaitError) Error() string {
	return fmt.Sprintf("doors that do not follow (%s): %s", e.Phase, strings.Join(e.Doors, ", "))
}

func (r *Run) waiting(ctx context.Context, phase api.RegradePhase) ([]string, error) {
	list, err := r.Objects.Resource(door.Resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var all []string
	for i := range list.Items {
		var d api.Door
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &d); err != nil {
			return nil, fmt.Errorf("door %s: %w", list.Items[i].GetName(), err)
		}
		if time.Since(d.Report.Renewed.Time) > door.Lease || d.Report.State == api.DoorStale || !slices.Contains(d.Report.Regrades, Name+"/"+string(phase)) {
			all = append(all, d.Name)
		}
	}
	return all, nil
}

func toUnstructured(g *api.Regrade) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(g)
	return &unstructured.Unstructured{Object: content}, err
}

func fromUnstructured(u *unstructured.Unstructured) (*api.Regrade, error) {
	var g api.Regrade
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &g); err != nil {
		return nil, fmt.Errorf("regrade %s: %w", u.GetName(), err)
	}
	return &g, nil
}
