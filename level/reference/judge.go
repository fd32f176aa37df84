package reference

import (
	"fmt"
	"slices"
	"strings"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// Finding is a reference, or a label, that levels do not allow.
type Finding struct {
	Field    string         `json:"field"`
	Use      Use            `json:"use"`
	Request  level.Request  `json:"-"` // what the object does by it; empty for labels
	Decision level.Decision `json:"-"`
	Cause    level.Cause    `json:"cause"`
	// Message tells the user which field reaches too far. It is the same whether what is named exists or not, and names no label.
	Message string `json:"message"`
	// Reason is for administrators: it tells labels.
	Reason string `json:"reason"`
}

// Relabels is the use of findings about labels.
const Relabels Use = "Relabels"

// Requester is who writes an object.
type Requester struct {
	User    string
	Groups  []string
	Subject *level.Subject
}

// server is the name by which an API server makes requests of its own.
const server = "system:apiserver"

// Judge finds what an object leads to, and returns what of it levels do not allow.
func Judge(s *level.Snapshot, who Requester, o *Object, look Lookup) ([]Finding, error) {
	references, err := Find(o, look)
	if err != nil {
		return nil, err
	}
	findings := labels(s, who, o)
	if len(references) == 0 {
		return findings, nil
	}
	holder := holderOf(s, o)
	for i := range references {
		r := &references[i]
		subject := holder
		switch {
		case r.Requester:
			subject = who.Subject
		case r.Subject != nil:
			subject = given(s, *r.Subject)
		case r.Backend != "":
			subject = s.Holder(r.Backend, nil)
		}
		d, broken := decide(s, subject, r, o)
		if d.Denied && r.Use == Gives && who.User == server {
			continue // its built-in roles and bindings, without which it does not start
		}
		if d.Denied && r.Use == Host && r.Requester && s.Agent(who.User) {
			continue // its own pods
		}
		if d.Denied && r.Use == Owns && s.Agent(who.User) && r.Request.Group == "" && r.Request.Resource == "nodes" && who.User == "system:node:"+r.Request.Name {
			continue // its lease, by which the cluster knows that it lives, and its own pods
		}
		if d.Denied {
			f := finding(s, subject, r.Field, r.Use, d, broken)
			f.Request = r.Request
			findings = append(findings, f)
		} else if r.Use == Owns && o.Namespace != "" {
			if owner, d := owned(s, o, r); d.Denied {
				findings = append(findings, finding(s, owner, r.Field, r.Use, d, ""))
			}
		}
	}
	slices.SortStableFunc(findings, func(a, b Finding) int { return strings.Compare(a.Field, b.Field) })
	return findings, nil
}

// given is what a subject of a binding is cleared for. The groups of service accounts stand for them, and that of the nodes' agents for those.
func given(s *level.Snapshot, n level.SubjectName) *level.Subject {
	if n.Kind == level.UserGroup {
		if n.Name == "system:nodes" {
			return s.Subject(level.SubjectName{Kind: level.User, Name: "system:kube-controller-manager"}) // levels bind neither
		}
		if namespace, ok := strings.CutPrefix(n.Name, "system:serviceaccounts:"); ok {
			return s.Holder(namespace, nil)
		}
	}
	return s.Subject(n)
}

func decide(s *level.Snapshot, subject *level.Subject, r *Reference, o *Object) (level.Decision, string) {
	if r.Use == Places {
		return place(s, subject, r, o)
	}
	if r.Level == "" {
		return s.Decide(subject, &r.Request), ""
	}
	l, err := s.Registry().Parse(r.Level)
	if err != nil {
		return level.Decision{Denied: true, Cause: level.LevelTooLow, Origin: level.OwnLabel}, err.Error()
	}
	return s.Reach(subject, level.Read, level.Exactly(l), level.OwnLabel), ""
}

// place says whether a pod may run on a node. The system's pods run everywhere.
func place(s *level.Snapshot, holder *level.Subject, r *Reference, o *Object) (level.Decision, string) {
	var node level.Label
	origin := level.OwnLabel
	if r.Level != "" {
		l, err := s.Registry().Parse(r.Level)
		if err != nil { // no node can have it
			return level.Decision{Denied: true, Cause: level.LevelTooLow, Origin: origin}, err.Error()
		}
		node = l
	} else if l, ok := s.Own(nodes, "", r.Request.Name); ok {
		node = l
	} else {
		origin = level.DefaultLabel
	}
	d := level.Decision{Cause: level.Cleared, Access: level.Read, Target: level.Exactly(node), Origin: origin}
	labels := holder.Labels()
	if _, system := s.Registry().Unlabelled(o.Namespace); system || len(labels) == 0 {
		return d, ""
	}
	pod, placement := labels[0], s.Registry().Spec().Placement
	switch {
	case placement != api.AtLeast && !pod.Dominates(node):
		d.Denied, d.Cause = true, level.LevelTooLow
	case placement != api.AtMost && !node.Dominates(pod):
		d.Denied, d.Cause = true, level.LevelTooHigh
	}
	return d, fmt.Sprintf("the object is on %s, the node on %s; placement is %s", s.Registry().Format(pod), s.Registry().Format(node), placement)
}

// holderOf is what an object may reach.
func holderOf(s *level.Snapshot, o *Object) *level.Subject {
	if text := Label(o.New); text != "" && o.Subresource == "" {
		if l, err := s.Registry().Parse(text); err == nil {
			return s.Holder(o.Namespace, &l)
		}
	}
	if o.Subresource != "" { // its object is another one's
		if l, ok := s.Own(o.Resource, o.Namespace, o.Name); ok {
			return s.Holder(o.Namespace, &l)
		}
	}
	return s.Holder(o.Namespace, nil)
}

// owned says whether an object may depend on an owner that is below it: whoever deletes the owner deletes the object.
func owned(s *level.Snapshot, o *Object, r *Reference) (*level.Subject, level.Decision) {
	if r.Request.Namespace == "" {
		return nil, level.Decision{} // owners without a namespace are nodes and the like
	}
	own, err := s.Registry().Parse(Label(o.New))
	if err != nil || s.Registry().Spec().Mode != api.Authority {
		return nil, level.Decision{}
	}
	label, labelled := s.Own(level.Kind{Group: r.Request.Group, Resource: r.Request.Resource}, r.Request.Namespace, r.Request.Name)
	if !labelled {
		label, _ = s.Namespace(o.Namespace)
	}
	owner := s.Holder("", &label)
	return owner, s.Reach(owner, level.Change, level.Exactly(own), level.OwnLabel)
}

var what = map[Use]string{
	Reads:    "names something that levels do not let this object reach",
	Runs:     "names a service account that levels do not let this object act as",
	Places:   "asks for a node that levels do not let this object run on",
	Host:     "reaches the machine below, which levels do not let this object do",
	Owns:     "names an owner that levels do not let this object have",
	Routes:   "leads traffic to where levels do not let this object reach",
	Gives:    "gives rights that levels do not let the subject have",
	Hooks:    "sends requests to a service that levels do not let see them",
	Identity: "asks to be known as somebody whom levels do not let you act as",
	Relabels: "is a level that you, or this object, cannot have",
}

func finding(s *level.Snapshot, subject *level.Subject, field string, use Use, d level.Decision, broken string) Finding {
	f := Finding{Field: field, Use: use, Decision: d, Cause: d.Cause, Message: fmt.Sprintf("levels: %s %s", field, what[use])}
	f.Reason = broken
	if broken == "" {
		f.Reason = s.Explain(subject, d).Reason
	}
	return f
}

// labels judges the labels of the object itself: nobody gives an object a level, or takes one away, that he does not reach; no object is above
// its namespace, no namespace above its workspace or below what is in it; the agent of a node does not change the node's.
func labels(s *level.Snapshot, who Requester, o *Object) []Finding {
	if o.New == nil || o.Operation != Create && o.Operation != Update || !carriesLabels(o) {
		return nil
	}
	isNamespace := o.Resource == (level.Kind{Resource: "namespaces"})
	now, was := Label(o.New), ""
	if o.Old != nil {
		was = Label(o.Old)
	}
	field := "metadata.labels[" + api.LevelLabel + "]"
	if labelsOf(o.New)[api.LevelLabel] == nil && labelsOf(o.Old)[api.LevelLabel] == nil {
		field = "metadata.labels[" + api.TalkLabel + "]"
	}
	var found []Finding
	deny := func(field, format string, args ...any) {
		f := finding(s, who.Subject, field, Relabels, level.Decision{Denied: true, Cause: level.LevelTooLow, Origin: level.OwnLabel}, fmt.Sprintf(format, args...))
		found = append(found, f)
	}
	if a, b := text(labelsOf(o.New), api.LevelLabel), text(labelsOf(o.New), api.TalkLabel); a != "" && b != "" && a != b {
		deny(field, "%q, but %s is %q: remove one of them", a, api.TalkLabel, b)
		return found
	}
	space := func(m map[string]any) string {
		if w := text(labelsOf(m), api.WorkspaceLabel); w != "" {
			return w
		}
		return text(labelsOf(m), api.KubeSphereWS)
	}
	moved := isNamespace && space(o.New) != space(o.Old)
	if now == was && o.Operation == Update && !moved {
		return nil
	}
	if now == "" && was == "" && !moved {
		return nil
	}
	label, set := level.Label{}, false
	if now != "" {
		l, err := s.Registry().Parse(now)
		if err != nil {
			deny(field, "%v", err)
			return found
		}
		label, set = l, true
	}
	if o.Resource == nodes && s.Agent(who.User) && now != was {
		deny(field, "the agent of a node does not say what level the node has")
		return found
	}
	if o.Operation == Create || now != was {
		for _, one := range []string{now, was} {
			if l, err := s.Registry().Parse(one); err == nil && one != "" {
				if d := s.Reach(who.Subject, level.Change, level.Exactly(l), level.OwnLabel); d.Denied {
					found = append(found, finding(s, who.Subject, field, Relabels, d, ""))
					return found
				}
			}
		}
	}
	if s.Registry().Spec().Mode != api.Authority {
		return found
	}
	switch {
	case isNamespace:
		if !set {
			label, _ = s.Registry().Unlabelled(o.Name)
		}
		if highest, ok := s.Highest(o.Name); ok && !label.Dominates(highest) {
			deny(field, "what is in the namespace is on %s: lower that first", s.Registry().Format(highest))
		}
		w := s.Workspace(space(o.New))
		if w != nil && w.Label != nil && !w.Label.Dominates(label) {
			deny(field, "the workspace %s is on %s: raise it first", w.Name, s.Registry().Format(*w.Label))
		}
		if moved {
			for _, name := range []string{space(o.Old), space(o.New)} {
				if role := who.Subject.Role(name); role != 0 && role != level.Admin {
					deny("metadata.labels["+api.WorkspaceLabel+"]", "the subject's role in workspace %s does not allow this change", name)
				}
			}
		}
	case o.Namespace != "" && set:
		if above, _ := s.Namespace(o.Namespace); !above.Dominates(label) {
			deny(field, "the namespace %s is on %s: raise it first", o.Namespace, s.Registry().Format(above))
		}
	}
	return found
}

// carriesLabels says whether what is written to a subresource has the object's own metadata.
func carriesLabels(o *Object) bool {
	switch o.Subresource {
	case "", "status", "finalize", "ephemeralcontainers", "resize", "approval":
		return true
	}
	return !strings.Contains(o.Subresource, "/") && o.Old != nil && Label(o.New) != Label(o.Old)
}
