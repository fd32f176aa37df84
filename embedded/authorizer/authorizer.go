// Package authorizer puts levels into an embedded API server: an authorizer ahead of all others, which denies or has no opinion, and a look at
// open streams, which are cut when who opened them may no longer. It compares itself with Kubernetes' roles in a benchmark. What levels
// deny is told by package level.
package authorizer

import (
	"context"
	"strings"
	"time"

	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/warning"

	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/door"
)

// patience is how long a request waits for what levels there are, after the start of the server.
const patience = 10 * time.Second

// Authorizer asks levels, then the next one.
type Authorizer struct {
	door  *door.Door
	known <-chan struct{}
	next  authorizer.Authorizer
}

// New puts a door in front of an authorizer. Until known is closed requests wait, and are denied if that takes too long.
func New(d *door.Door, known <-chan struct{}, next authorizer.Authorizer) *Authorizer {
	return &Authorizer{d, known, next}
}

// Authorize denies what levels deny. It leaves everything else to the next authorizer.
func (a *Authorizer) Authorize(ctx context.Context, attributes authorizer.Attributes) (authorizer.Decision, string, error) {
	if denied, message := a.denies(ctx, attributes); denied {
		return authorizer.DecisionDeny, message, nil
	}
	return a.next.Authorize(ctx, attributes)
}

// ConditionsAwareAuthorize denies what levels deny. It leaves everything else to the next authorizer, conditions included.
func (a *Authorizer) ConditionsAwareAuthorize(ctx context.Context, attributes authorizer.Attributes) authorizer.ConditionsAwareDecision {
	if denied, message := a.denies(ctx, attributes); denied {
		return authorizer.ConditionsAwareDecisionFromParts(authorizer.DecisionDeny, message, nil)
	}
	return a.next.ConditionsAwareAuthorize(ctx, attributes)
}

// EvaluateConditions is the next authorizer's: levels make no conditions.
func (a *Authorizer) EvaluateConditions(ctx context.Context, d authorizer.ConditionsAwareDecision, data authorizer.ConditionsData) (authorizer.Decision, string, error) {
	return a.next.EvaluateConditions(ctx, d, data)
}

func (a *Authorizer) denies(ctx context.Context, attributes authorizer.Attributes) (denied bool, message string) {
	u := attributes.GetUser()
	if u == nil {
		return false, "" // the next authorizer refuses it
	}
	name, groups := u.GetName(), u.GetGroups()
	select {
	case <-a.known:
	default:
		if !level.NeverBound(name, groups) {
			a.wait(ctx)
		}
	}
	r := level.Request{Verb: attributes.GetVerb(), Group: attributes.GetAPIGroup(), Resource: attributes.GetResource(), Subresource: attributes.GetSubresource(),
		Namespace: attributes.GetNamespace(), Name: attributes.GetName()}
	if !attributes.IsResourceRequest() {
		r = level.Request{Verb: r.Verb, Path: attributes.GetPath()}
	}
	if s := streamOf(ctx); s != nil {
		s.note(name, groups, &r)
		if !strings.HasPrefix(r.Verb, "impersonate") {
			if denied, message := a.acting(s); denied {
				return true, message
			}
		}
	}
	verdict := a.door.Judge(name, groups, &r)
	if !verdict.Against {
		return false, ""
	}
	if !isQuestion(ctx) {
		a.door.Remember(name, groups, &r, verdict)
		if verdict.Warning != "" {
			warning.AddWarning(ctx, "", verdict.Warning)
		}
	}
	return verdict.Denied, verdict.Message
}

// wait waits until it is known which levels there are.
func (a *Authorizer) wait(ctx context.Context) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-a.known:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// isQuestion says whether somebody only asks what a user may do: that is no attempt of the user.
func isQuestion(ctx context.Context) bool {
	info, ok := request.RequestInfoFrom(ctx)
	return ok && info.APIGroup == "authorization.k8s.io" && strings.HasSuffix(info.Resource, "reviews") && info.Verb == "create"
}
