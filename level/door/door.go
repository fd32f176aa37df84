// Package door judges requests where they are made: it takes the snapshot that a feed keeps, does with a denial what the door is set to (let it
// through and write it down, warn, deny), remembers who was denied what, and reports how it is. It must not know how a request is spelled.
package door

import (
	"slices"
	"strings"
	"sync/atomic"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/chain"
	"github.com/weft-dev/weft/level/feed"
	"github.com/weft-dev/weft/level/reference"
)

// Kind is which door it is.
type Kind string

// The kinds of doors.
const (
	Authorizer Kind = "Authorizer" // in the process of an API server
	Webhook    Kind = "Webhook"    // asked by an API server
	Admission  Kind = "Admission"  // asked about objects that are written
)

// setting is what a Registry says of this kind of door.
func (k Kind) setting(d api.Doors) api.DoorSetting {
	switch k {
	case Webhook:
		return d.Webhook
	case Admission:
		return d.Admission
	}
	return d.Authorizer
}

// NotKnown is the cause of denials while a door does not know whether there are levels.
const NotKnown level.Cause = "NotKnown"

// Door judges requests. All its methods are for many goroutines.
type Door struct {
	Kind Kind
	// State is what is known.
	State func() *feed.State
	// Chain takes records of denials; may be nil.
	Chain *chain.Writer
	// Exempt are the users of the installation's own programs, to be told beside the report: the snapshot knows them.
	Exempt []string

	off   atomic.Bool
	tally tally
}

// Verdict is what is to be done with a request.
type Verdict struct {
	Against bool // levels are against it
	Denied  bool // and it is to be denied
	Cause   level.Cause
	Message string // why, for the user; it names no label and does not tell whether the target exists
	Warning string // for the user of a request that is let through

	decision level.Decision
}

// SetOff opens the door, or closes it again.
func (d *Door) SetOff(off bool) {
	if d.off.Swap(off) == off {
		return
	}
	event := "On"
	if off {
		event = "Off"
	}
	d.record(chain.Record{Event: event})
}

// Off says whether the door was opened.
func (d *Door) Off() bool { return d.off.Load() }

// Setting is what the door does with a denial now.
func (d *Door) Setting() api.DoorSetting { return d.Kind.setting(d.State().Doors) }

// Judge judges a request. One that levels are not against costs no allocation.
func (d *Door) Judge(user string, groups []string, r *level.Request) Verdict {
	decision, setting, denied := d.decide(user, groups, r)
	if !denied {
		return Verdict{Cause: decision.Cause}
	}
	v := Verdict{Against: true, Denied: setting == api.Enforce, Cause: decision.Cause, decision: decision}
	switch setting {
	case api.Enforce:
		v.Message = decision.Message()
	case api.Warn:
		v.Warning = decision.Message() + "; it is let through while the door is set to warn"
	}
	return v
}

// Remember counts and writes down a request that levels are against.
func (d *Door) Remember(user string, groups []string, r *level.Request, v Verdict) {
	if d.tally.add(user, groups, r, "", v.Cause, v.Denied) {
		d.record(recordOf(eventOf(v.Denied), user, groups, r, v.decision))
	}
}

// mostFindings is how many findings about one write are remembered.
const mostFindings = 8

// RememberWrite counts and writes down what levels have against a write: r is the write, each finding a field that reaches too far.
func (d *Door) RememberWrite(user string, groups []string, r level.Request, findings []reference.Finding, denied bool) {
	for i := range findings[:min(len(findings), mostFindings)] {
		f := &findings[i]
		field := chain.Shorten(f.Field)
		if !d.tally.add(user, groups, &r, field, f.Cause, denied) {
			continue
		}
		decision := f.Decision
		decision.Cause = f.Cause
		record := recordOf(eventOf(denied), user, groups, &r, decision)
		record.Detail = field
		d.record(record)
	}
}

func eventOf(denied bool) string {
	if denied {
		return "Denied"
	}
	return "WouldDeny"
}

// Denies says whether a request would be denied now, and remembers nothing.
func (d *Door) Denies(user string, groups []string, r *level.Request) bool {
	_, setting, denied := d.decide(user, groups, r)
	return denied && setting == api.Enforce
}

// Cut remembers that a stream was cut.
func (d *Door) Cut(user string, groups []string, r *level.Request) {
	decision, _, _ := d.decide(user, groups, r)
	d.record(recordOf("Cut", user, groups, r, decision))
}

// against says whether levels are against a request now, whatever the door does about it.
func (d *Door) against(user string, groups []string, r *level.Request) bool {
	s := d.State()
	return s.Snapshot == nil || s.Snapshot.Decide(s.Snapshot.Resolve(user, groups), r).Denied
}

func (d *Door) decide(user string, groups []string, r *level.Request) (decision level.Decision, setting api.DoorSetting, denied bool) {
	s := d.State()
	switch {
	case d.off.Load(), s.Known && s.Snapshot == nil && !s.Stale:
		return decision, api.Audit, false
	case s.Snapshot != nil:
		decision = s.Snapshot.Decide(s.Snapshot.Resolve(user, groups), r)
		return decision, d.Kind.setting(s.Doors), decision.Denied
	case r.Resource == "", level.NeverBound(user, groups), worksOn(user, groups):
		return decision, api.Audit, false
	}
	setting = api.Enforce
	decision = level.Decision{Denied: true, Cause: NotKnown, Access: level.AccessOf(r.Verb, r.Subresource)}
	if s.Known { // there is a Registry, but it cannot be read
		setting, decision.Cause = d.Kind.setting(s.Doors), level.Stale
	}
	return decision, setting, true
}

// worksOn says whether a component of the cluster works while nothing is known about levels.
func worksOn(user string, groups []string) bool {
	return level.IsComponent(user) && (!strings.HasPrefix(user, "system:node:") || slices.Contains(groups, "system:nodes"))
}

func (d *Door) record(r chain.Record) {
	if d.Chain == nil {
		return
	}
	r.Door = string(d.Kind)
	d.Chain.Append(r)
}

// most is how many groups of a user are written down.
const most = 20

func recordOf(event, user string, groups []string, r *level.Request, d level.Decision) chain.Record {
	c := chain.Record{Event: event, User: chain.Shorten(user), Verb: chain.Shorten(r.Verb), Group: chain.Shorten(r.Group), Resource: chain.Shorten(r.Resource),
		Subresource: chain.Shorten(r.Subresource), Namespace: chain.Shorten(r.Namespace), Name: chain.Shorten(r.Name), Cause: string(d.Cause), Origin: string(d.Origin)}
	for _, g := range groups[:min(len(groups), most)] {
		c.Groups = append(c.Groups, chain.Shorten(g))
	}
	return c
}
