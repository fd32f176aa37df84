package admission

import (
	"cmp"
	"strings"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/reference"
)

// Judge judges writes by levels.
type Judge struct {
	// Snapshot is what is judged by; nil while nothing is known yet: then all but the system's own writes are denied, if the door enforces.
	Snapshot func() *level.Snapshot
	// Off, if it is set, says that nothing is to be judged: there are no levels, or somebody opened the door.
	Off func() bool
	// Setting of the door; nil means that of the registry.
	Setting func() api.DoorSetting
	// Rules of roles, those who have them, and Pod of addresses, for what objects name; all may be nil.
	Rules func(namespace, name string) ([]reference.Rule, bool)
	Bound func(namespace, role string, labels map[string]string) []reference.Holding
	Pod   func(address string) (namespace, name string, found bool)
	// Usage of workspaces; nil means that ceilings are not judged.
	Usage *Usage
	// Ledger is how several processes that judge for one cluster count together; nil if this is the only one.
	Ledger Ledger
	// Remember, if it is set, is told of each write that levels are against.
	Remember func(user string, groups []string, r level.Request, findings []reference.Finding, denied bool)
}

// User is who writes.
type User struct {
	Name   string
	Groups []string
}

// Verdict is the answer to a write.
type Verdict struct {
	Setting  api.DoorSetting
	Findings []reference.Finding // what levels deny; empty if nothing
	Subject  []string            // what the user is cleared for, for the audit record
}

// Denied says whether the write is refused.
func (v *Verdict) Denied() bool { return len(v.Findings) > 0 && v.Setting == api.Enforce }

// Message tells the user what is denied, without a word about what exists.
func (v *Verdict) Message() string {
	var all []string
	for i, f := range v.Findings {
		if i == 8 {
			all = append(all, "...")
			break
		}
		all = append(all, f.Message)
	}
	return strings.Join(all, "; ")
}

// TooLarge is the use of findings about objects that cannot be judged.
const TooLarge reference.Use = "TooLarge"

// Unknown is the cause of findings while no levels are known.
const Unknown level.Cause = "Unknown"

// system are users whose writes are let through while no levels are known.
func system(u User) bool {
	switch u.Name {
	case "system:apiserver", "system:kube-controller-manager", "system:kube-scheduler":
		return true
	}
	return strings.HasPrefix(u.Name, "system:serviceaccount:kube-system:")
}

// Write judges a write, and has it remembered if levels are against it. With dry only looking is meant: it does not count for ceilings.
func (j *Judge) Write(u User, o *reference.Object, dry bool) Verdict {
	v := j.write(u, o, dry)
	j.remember(u, o, &v)
	return v
}

func (j *Judge) remember(u User, o *reference.Object, v *Verdict) {
	if j.Remember != nil && len(v.Findings) > 0 {
		j.Remember(u.Name, u.Groups, requestOf(o), v.Findings, v.Denied())
	}
}

func (j *Judge) write(u User, o *reference.Object, dry bool) Verdict {
	if j.Off != nil && j.Off() {
		return Verdict{Setting: api.Audit}
	}
	s := j.Snapshot()
	if s == nil {
		v := Verdict{Setting: api.Audit}
		if j.Setting != nil {
			v.Setting = j.Setting()
		}
		if !system(u) {
			v.Findings = []reference.Finding{{Cause: Unknown, Message: "levels: not known yet, try again", Reason: "no levels were read yet"}}
		}
		return v
	}
	subject := s.Resolve(u.Name, u.Groups)
	v := Verdict{Setting: s.Registry().Spec().Doors.Admission}
	if j.Setting != nil {
		v.Setting = j.Setting()
	}
	request := requestOf(o)
	if d := s.Decide(subject, &request); d.Denied {
		v.Findings = append(v.Findings, reference.Finding{Decision: d, Cause: d.Cause, Message: d.Message(), Reason: s.Explain(subject, d).Reason})
	}
	found, err := reference.Judge(s, reference.Requester{User: u.Name, Groups: u.Groups, Subject: subject}, o, j.lookup(s))
	if err != nil {
		found = []reference.Finding{{Use: TooLarge, Cause: level.LevelTooLow, Message: "levels: " + err.Error(), Reason: err.Error()}}
	}
	v.Findings = append(v.Findings, found...)
	if j.Usage != nil && len(v.Findings) == 0 {
		if f, over := j.ceiling(s, o, dry); over {
			v.Findings = append(v.Findings, f)
		}
	}
	if len(v.Findings) > 0 {
		for _, l := range subject.Labels() {
			v.Subject = append(v.Subject, s.Registry().Format(l))
		}
	}
	return v
}

// Ledger is what processes that judge for one cluster have let through and may not all have seen yet.
type Ledger interface {
	// Take hands to hear what was let through into a workspace, and writes down what try returns, if it is not nil. Both are called again if another
	// process was faster. An error means that nothing was written down.
	Take(workspace string, hear func([]api.Reservation), try func() *api.Reservation) error
}

// ceiling says whether a write would exceed the ceiling of a workspace.
func (j *Judge) ceiling(s *level.Snapshot, o *reference.Object, dry bool) (f reference.Finding, over bool) {
	w := capped(s, o)
	if w == nil {
		return f, false
	}
	if j.Ledger == nil || dry {
		f, over, _ = j.Usage.admit(s, w, o, dry)
		return f, over
	}
	err := j.Ledger.Take(w.Name, j.Usage.Hear, func() (counted *api.Reservation) {
		f, over, counted = j.Usage.admit(s, w, o, false)
		return counted
	})
	if err != nil {
		reason := "what the pods of the workspace " + w.Name + " request cannot be counted now, try again"
		return reference.Finding{Field: "spec", Use: Ceiling, Cause: Unknown, Message: "levels: " + reason, Reason: reason + ": " + err.Error()}, true
	}
	return f, over
}

// requestOf is what an authorizer would have seen.
func requestOf(o *reference.Object) level.Request {
	verb := map[reference.Operation]string{reference.Create: "create", reference.Update: "update", reference.Delete: "delete", reference.Connect: "create"}[o.Operation]
	r := level.Request{Verb: cmp.Or(verb, "*"), Group: o.Resource.Group, Resource: o.Resource.Resource, Subresource: o.Subresource, Namespace: o.Namespace, Name: o.Name}
	if o.Operation == reference.Connect && o.Subresource == "" {
		r.Verb = "*"
	}
	return r
}

func (j *Judge) lookup(s *level.Snapshot) reference.Lookup {
	look := reference.Lookup{Rules: j.Rules, Bound: j.Bound, Pod: j.Pod}
	declared := s.Registry().Spec().References
	if len(declared) == 0 {
		return look
	}
	look.Paths = func(k level.Kind) []reference.Path {
		var all []reference.Path
		for _, r := range declared {
			if r.Group == k.Group && r.Resource == k.Resource {
				all = append(all, reference.Path{Field: r.Path, To: level.Kind{Group: r.To.Group, Resource: r.To.Resource}})
			}
		}
		return all
	}
	return look
}
