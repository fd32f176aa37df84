// Package levels has the webhooks of levels: it answers an API server's SubjectAccessReviews and AdmissionReviews, and writes the configurations with
// which an API server asks. What levels deny is told by package level, what is done with it by package level/door.
package levels

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/manager/webhook"
)

// maxGroups bounds the groups of a user; more are no user but an attack.
const maxGroups = 10_000

// Authorize answers SubjectAccessReviews (authorization.k8s.io/v1): it denies, or has no opinion.
type Authorize struct{ Door *door.Door }

// Review answers one review.
func (a Authorize) Review(_ context.Context, body []byte) (any, error) {
	review, request, err := parse(body)
	if err != nil {
		return nil, &webhook.BadRequest{Message: err.Error()}
	}
	user, groups := review.Spec.User, review.Spec.Groups
	verdict := a.Door.Judge(user, groups, &request)
	if verdict.Against {
		a.Door.Remember(user, groups, &request, verdict)
	}
	answer := &authorizationv1.SubjectAccessReview{TypeMeta: review.TypeMeta}
	answer.Status = authorizationv1.SubjectAccessReviewStatus{Denied: verdict.Denied, Reason: verdict.Message}
	return answer, nil
}

// parse reads a review, and tells which field is wrong.
func parse(body []byte) (*authorizationv1.SubjectAccessReview, level.Request, error) {
	var review authorizationv1.SubjectAccessReview
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&review); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return nil, level.Request{}, fmt.Errorf("%s: is %s, expected %s", kind.Field, kind.Value, kind.Type)
		}
		return nil, level.Request{}, errors.New("no JSON: " + err.Error())
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, level.Request{}, errors.New("more than one review")
	}
	spec := &review.Spec
	resource, path := spec.ResourceAttributes, spec.NonResourceAttributes
	switch {
	case review.APIVersion != "authorization.k8s.io/v1":
		return nil, level.Request{}, fmt.Errorf("apiVersion: is %q, expected authorization.k8s.io/v1", review.APIVersion)
	case review.Kind != "SubjectAccessReview":
		return nil, level.Request{}, fmt.Errorf("kind: is %q, expected SubjectAccessReview", review.Kind)
	case resource == nil && path == nil:
		return nil, level.Request{}, errors.New("spec: has neither resourceAttributes nor nonResourceAttributes")
	case resource != nil && path != nil:
		return nil, level.Request{}, errors.New("spec: has both resourceAttributes and nonResourceAttributes")
	case len(spec.Groups) > maxGroups:
		return nil, level.Request{}, fmt.Errorf("spec.groups: has %d entries, at most %d are possible", len(spec.Groups), maxGroups)
	case path != nil:
		return &review, level.Request{Verb: path.Verb, Path: path.Path}, nil
	}
	request := level.Request{Verb: resource.Verb, Group: resource.Group, Resource: resource.Resource, Subresource: resource.Subresource, Namespace: resource.Namespace, Name: resource.Name}
	if request.Resource == "" {
		request.Resource = "*" // whatever it is
	}
	return &review, request, nil
}
