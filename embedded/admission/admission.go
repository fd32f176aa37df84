// Package admission puts levels into the admission chain of the embedded API server: the same judgement as the webhook's, in the same process, so
// that nothing can be down. It must not know how levels are judged, nor where they come from.
package admission

import (
	"context"
	"errors"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/warning"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	judging "github.com/weft-dev/weft/level/admission"
	"github.com/weft-dev/weft/level/reference"
)

// Annotations of audit events.
const (
	DecisionAnnotation = "level.weft.dev/decision"
	ReasonAnnotation   = "level.weft.dev/reason"
)

// Door is a link of an admission chain.
type Door struct {
	next  admission.Interface
	judge *judging.Judge
}

// New returns a link that judges what is written, and hands everything on to next.
func New(next admission.Interface, judge *judging.Judge) *Door { return &Door{next, judge} }

// Handles says yes: levels are about every operation.
func (d *Door) Handles(admission.Operation) bool { return true }

// Admit hands on.
func (d *Door) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if m, ok := d.next.(admission.MutationInterface); ok && d.next.Handles(a.GetOperation()) {
		return m.Admit(ctx, a, o)
	}
	return nil
}

// Validate judges, and hands on.
func (d *Door) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if err := d.validate(ctx, a, o); err != nil {
		return err
	}
	if v, ok := d.next.(admission.ValidationInterface); ok && d.next.Handles(a.GetOperation()) {
		return v.Validate(ctx, a, o)
	}
	return nil
}

// reviews are kinds that change nothing, and tell no more than an authorizer does.
func reviews(group string) bool {
	return group == "authorization.k8s.io" || group == "authentication.k8s.io"
}

func (d *Door) validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	resource := a.GetResource()
	if reviews(resource.Group) || a.GetUserInfo() == nil {
		return nil
	}
	object := &reference.Object{Operation: reference.Operation(a.GetOperation()), Resource: level.Kind{Group: resource.Group, Resource: resource.Resource},
		Subresource: a.GetSubresource(), Namespace: a.GetNamespace(), Name: a.GetName()}
	if a.GetOperation() == admission.Create || a.GetOperation() == admission.Update {
		var err error
		if object.New, err = content(a.GetObject(), a.GetKind(), o); err != nil {
			return apierrors.NewInternalError(err)
		}
		if object.Old, err = content(a.GetOldObject(), a.GetKind(), o); err != nil {
			return apierrors.NewInternalError(err)
		}
	}
	u := a.GetUserInfo()
	verdict := d.judge.Write(judging.User{Name: u.GetName(), Groups: u.GetGroups()}, object, a.IsDryRun())
	if len(verdict.Findings) == 0 {
		return nil
	}
	d.annotate(ctx, a, &verdict)
	if !verdict.Denied() {
		return nil
	}
	return apierrors.NewForbidden(resource.GroupResource(), a.GetName(), errors.New(verdict.Message()))
}

func (d *Door) annotate(ctx context.Context, a admission.Attributes, v *judging.Verdict) {
	decision := "would be denied"
	if v.Denied() {
		decision = "denied"
	}
	var reasons []string
	for _, f := range v.Findings[:min(len(v.Findings), 16)] {
		reasons = append(reasons, strings.TrimSpace(f.Field+" "+f.Reason+" ("+string(f.Cause)+")"))
		if v.Setting == api.Warn {
			warning.AddWarning(ctx, "", f.Message)
		}
	}
	// Only a repeated key or no audit event is an error, and neither is one of the request.
	_ = a.AddAnnotation(DecisionAnnotation, decision)
	_ = a.AddAnnotation(ReasonAnnotation, strings.Join(reasons, "; "))
}

// content is the JSON form of an object in the version in which it was sent.
func content(object runtime.Object, kind schema.GroupVersionKind, o admission.ObjectInterfaces) (map[string]any, error) {
	if object == nil {
		return nil, nil
	}
	if u, ok := object.(*unstructured.Unstructured); ok {
		return u.Object, nil
	}
	versioned, err := admission.ConvertToGVK(object, kind, o)
	if err != nil {
		return nil, err
	}
	return runtime.DefaultUnstructuredConverter.ToUnstructured(versioned)
}
