package door

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

const (
	tallyLimit = 2048        // kinds of denied requests that are remembered
	shown      = 200         // of these, in a report
	repeated   = time.Minute // a request that is let through is written down again after this time
	mostGroups = 100         // of a user, to judge a request again
)

// tally remembers who was denied what, or would have been. Components of the cluster always find room.
type tally struct {
	mu   sync.Mutex
	seen map[tallyKey]*tallied
	more int64
}

type tallyKey struct{ user, verb, group, resource, subresource, namespace, field, cause string }

type tallied struct {
	count                 int64
	first, last, recorded time.Time
	component             bool
	groups                []string      // of the user, and
	request               level.Request // what was asked, the first time
}

// add counts a denial, and says whether it is to be written down: what was denied always is, what was let through the first time in a minute.
// field is that of an object that reaches too far.
func (t *tally) add(user string, groups []string, r *level.Request, field string, cause level.Cause, denied bool) (record bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	key := tallyKey{user, r.Verb, r.Group, r.Resource, r.Subresource, r.Namespace, field, string(cause)}
	one := t.seen[key]
	if one == nil {
		component := level.IsComponent(user)
		if len(t.seen) >= tallyLimit && !component || len(t.seen) >= 2*tallyLimit {
			t.more++
			return denied
		}
		if t.seen == nil {
			t.seen = map[tallyKey]*tallied{}
		}
		for _, s := range []*string{&key.user, &key.verb, &key.group, &key.resource, &key.subresource, &key.namespace, &key.field} {
			*s = strings.Clone(*s) // they are parts of the request
		}
		one = &tallied{first: now, component: component, request: level.Request{Verb: key.verb, Group: key.group, Resource: key.resource, Subresource: key.subresource,
			Namespace: key.namespace, Name: strings.Clone(r.Name)}}
		for _, g := range groups[:min(len(groups), mostGroups)] {
			one.groups = append(one.groups, strings.Clone(g))
		}
		t.seen[key] = one
	}
	one.count++
	one.last = now
	if denied || one.recorded.IsZero() || now.Sub(one.recorded) >= repeated {
		one.recorded = now
		return true
	}
	return false
}

// list is the report's part of the tally: components first, then what came last. What levels are against no more, since somebody was cleared or
// something got another level, is forgotten; what an object named too far is not judged again.
func (t *tally) list(against func(user string, groups []string, r *level.Request) bool) (denied []api.Denial, more int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, one := range t.seen {
		if k.field == "" && !against(k.user, one.groups, &one.request) {
			delete(t.seen, k)
			continue
		}
		denied = append(denied, api.Denial{User: k.user, Verb: k.verb, Group: k.group, Resource: k.resource, Subresource: k.subresource, Namespace: k.namespace, Field: k.field, Cause: k.cause,
			Component: one.component, Count: one.count, First: metav1.NewTime(one.first.Truncate(time.Second)), Last: metav1.NewTime(one.last.Truncate(time.Second))})
	}
	more = t.more
	slices.SortFunc(denied, func(a, b api.Denial) int {
		if a.Component != b.Component {
			if a.Component {
				return -1
			}
			return 1
		}
		return cmp.Or(b.Last.Compare(a.Last.Time), strings.Compare(a.User, b.User), strings.Compare(a.Verb, b.Verb), strings.Compare(a.Resource, b.Resource), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Subresource, b.Subresource), strings.Compare(a.Field, b.Field))
	})
	if len(denied) > shown {
		for _, d := range denied[shown:] {
			more += d.Count
		}
		denied = denied[:shown]
	}
	return denied, more
}

// forget begins anew.
func (t *tally) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen, t.more = nil, 0
}
