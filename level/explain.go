package level

import (
	"fmt"
	"strings"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

// Explanation is a decision with all that led to it, for administrators: it tells labels that a subject may not know.
type Explanation struct {
	Decision string          `json:"decision"` // denied, or no opinion
	Cause    Cause           `json:"cause"`
	Reason   string          `json:"reason"`
	Subject  []string        `json:"subject,omitempty"` // the labels it is cleared for
	Source   Source          `json:"source"`
	Access   string          `json:"access,omitempty"`
	Target   string          `json:"target,omitempty"`
	Lowest   string          `json:"lowest,omitempty"` // of several targets, if it differs
	Origin   Origin          `json:"origin,omitempty"`
	Mode     api.Mode        `json:"mode"`
	Door     api.DoorSetting `json:"door"`
}

// Message is what the user of a denied request is told. It is the same whether the target exists or not, and names no label.
func (d Decision) Message() string {
	if !d.Denied {
		return ""
	}
	if d.Cause == RoleTooLow {
		return "levels: your role in this workspace does not reach for this"
	}
	return fmt.Sprintf("levels: your clearance does not reach for this (%s)", d.Access)
}

// Explain says why a decision is as it is.
func (s *Snapshot) Explain(subject *Subject, d Decision) Explanation {
	r := s.registry
	e := Explanation{Decision: "no opinion", Cause: d.Cause, Source: subject.source, Origin: d.Origin, Mode: r.spec.Mode, Door: r.Door()}
	if d.Denied {
		e.Decision = "denied"
	}
	for _, l := range subject.Labels() {
		e.Subject = append(e.Subject, r.Format(l))
	}
	if d.Cause == Exempt || d.Cause == NonResource {
		e.Reason = map[Cause]string{Exempt: "levels do not bind this subject", NonResource: "levels concern resources only"}[d.Cause]
		if subject.source == ByMasters {
			e.Reason = "an API server lets system:masters through before levels are asked"
		}
		return e
	}
	e.Access, e.Target = d.Access.String(), r.Format(d.Target.High)
	if d.Target.Low != d.Target.High {
		e.Lowest = r.Format(d.Target.Low)
	}
	e.Reason = s.reason(e, d)
	return e
}

func (s *Snapshot) reason(e Explanation, d Decision) string {
	who := "a clearance for " + strings.Join(e.Subject, " or ")
	what := "what is on " + e.Target
	if e.Lowest != "" {
		what = "what is on " + e.Lowest + " up to " + e.Target
	}
	if d.Origin == GuardedKind {
		what = "a kind that gives power over " + what
	}
	switch d.Cause {
	case Cleared:
		return fmt.Sprintf("%s is enough to %s %s; roles of the cluster decide", who, d.Access, what)
	case Stale:
		return "the levels may be out of date, and " + e.Target + " is above the lowest"
	case RoleTooLow:
		return "the subject's role in the workspace does not allow this change"
	case CategoryMissing:
		return fmt.Sprintf("%s lacks a category to %s %s", who, d.Access, what)
	case LevelTooHigh, CategoryLeaks:
		return fmt.Sprintf("%s holds more than %s: to %s it would let something flow down", who, what, d.Access)
	}
	return fmt.Sprintf("%s is too low to %s %s", who, d.Access, what)
}
