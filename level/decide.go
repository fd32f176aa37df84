package level

import (
	"strings"
)

// Request is what an authorizer sees of a request.
type Request struct {
	Verb, Group, Resource, Subresource string
	Namespace, Name                    string
	Path                               string // of requests that concern no resource
}

// Cause says in one word why a decision is as it is. The words are stable: programs may compare them.
type Cause string

// The causes. The first group has no opinion, the second denies.
const (
	Cleared     Cause = "Cleared"
	Exempt      Cause = "Exempt"
	NonResource Cause = "NonResource"

	LevelTooLow     Cause = "LevelTooLow"
	CategoryMissing Cause = "CategoryMissing"
	LevelTooHigh    Cause = "LevelTooHigh"  // something would flow down
	CategoryLeaks   Cause = "CategoryLeaks" // something would flow out of a category
	RoleTooLow      Cause = "RoleTooLow"    // the subject's role in the workspace
	Stale           Cause = "Stale"         // the levels may be out of date
)

// Origin says where the label of a request's target comes from.
type Origin string

// The origins.
const (
	OwnLabel         Origin = "label"            // the object's own
	NamespaceLabel   Origin = "namespace"        // of the object's namespace
	DefaultLabel     Origin = "default"          // nothing is labelled
	CollectionLabels Origin = "collection"       // everything that may be among what is listed
	GuardedKind      Origin = "guarded kind"     // who writes it gains power over everything
	IdentityLabel    Origin = "identity"         // whom the request acts as, or makes a token for
	UnknownIdentity  Origin = "unknown identity" // one that nobody cleared
	FrozenNamespace  Origin = "re-grading"       // the namespace is being re-graded
)

// Decision is the answer to a request. A decision that does not deny has no opinion: other authorizers decide.
type Decision struct {
	Denied bool
	Cause  Cause
	Access Access
	Target Bounds
	Origin Origin
}

// Decide judges a request of a subject that this snapshot resolved. It does not allocate.
func (s *Snapshot) Decide(subject *Subject, r *Request) Decision {
	if r.Resource == "" {
		return Decision{Cause: NonResource}
	}
	d := Decision{Access: AccessOf(r.Verb, r.Subresource)}
	if subject.Exempt() {
		d.Cause = Exempt
		return d
	}
	var p *place
	d.Target, d.Origin, p = s.target(r, d.Access)
	if s.frozen != nil && (s.frozen[r.Namespace] || r.Resource == "namespaces" && s.frozen[r.Name]) {
		d.Target, d.Origin = exactly(s.all.High), FrozenNamespace
	}
	if p != nil && p.workspace != nil && subject.roles != nil && d.Access != Read {
		if role := subject.roles[p.workspace.Name]; role == Viewer || role == Operator && governs(r) {
			d.Denied, d.Cause = true, RoleTooLow
			return d
		}
	}
	s.judge(subject, &d)
	return d
}

// judge compares what a subject holds with the target of a decision.
func (s *Snapshot) judge(subject *Subject, d *Decision) {
	if s.stale && d.Target.High != (Label{}) && !subject.system {
		d.Denied, d.Cause = true, Stale
		return
	}
	worst := none
	for i := range subject.held {
		h := &subject.held[i]
		rules := &s.registry.normal
		if h.trusted {
			rules = &s.registry.trusted
		}
		found := rules[d.Access].check(&h.label, &d.Target)
		if found == none {
			d.Cause = Cleared
			return
		}
		if worst == none {
			worst = found
		}
	}
	d.Denied = true
	switch worst {
	case categoryMissing:
		d.Cause = CategoryMissing
	case rankTooHigh:
		d.Cause = LevelTooHigh
	case categoryLeaks:
		d.Cause = CategoryLeaks
	default:
		d.Cause = LevelTooLow
	}
}

// target finds the labels of what a request is about.
func (s *Snapshot) target(r *Request, a Access) (Bounds, Origin, *place) {
	if strings.HasPrefix(r.Verb, "impersonate") && !strings.HasPrefix(r.Verb, "impersonate-on:") {
		b, o := s.impersonated(r)
		return b, o, nil
	}
	namespace, name := r.Namespace, r.Name
	if r.Group == "" && r.Resource == "namespaces" {
		if namespace == "" {
			namespace = name
		}
		if namespace == "" {
			if a == Create {
				return exactly(s.registry.namespace), DefaultLabel, nil
			}
			return s.all, CollectionLabels, nil
		}
		if a != Read && r.Verb != "create" {
			p, b := s.place(namespace)
			return b, NamespaceLabel, p // deleting it deletes what is in it
		}
		label, labelled := s.Namespace(namespace)
		p, _ := s.namespaces.get(namespace)
		return exactly(label), originOf(labelled), p
	}
	if namespace == "" {
		b, o := s.clusterTarget(r, a)
		return b, o, nil
	}
	p, known := s.namespaces.get(namespace)
	if !known {
		label, _ := s.Namespace(namespace)
		return s.withAccount(r, exactly(label)), DefaultLabel, nil
	}
	switch {
	case r.Resource == "*":
		return p.bounds, CollectionLabels, p
	case name == "" && a != Create:
		return s.withAccount(r, p.kind(Kind{r.Group, r.Resource})), CollectionLabels, p
	case name != "" && len(p.objects) > 0:
		if l, ok := p.objects[objectKey{Kind{r.Group, r.Resource}, name}]; ok {
			return s.withAccount(r, exactly(l)), OwnLabel, p
		}
	}
	return s.withAccount(r, exactly(p.label)), originOf(p.labelled), p
}

func originOf(labelled bool) Origin {
	if labelled {
		return NamespaceLabel
	}
	return DefaultLabel
}

// place is a namespace and the bounds of all that is in it.
func (s *Snapshot) place(name string) (*place, Bounds) {
	if p, ok := s.namespaces.get(name); ok {
		return p, p.bounds
	}
	label, _ := s.Namespace(name)
	return nil, exactly(label)
}

// withAccount widens the target of a request for a service account's token by what the account is cleared for.
func (s *Snapshot) withAccount(r *Request, b Bounds) Bounds {
	if r.Resource != "serviceaccounts" || r.Subresource != "token" || r.Group != "" {
		return b
	}
	if r.Name == "" {
		return s.withAccounts(r.Namespace, b)
	}
	user := accountPrefix + r.Namespace + ":" + r.Name
	if s.exempt[user] { // its token opens everything
		return b.with(s.all.High)
	}
	for _, g := range s.users[user] {
		b = b.with(g.Label)
	}
	return b
}

// withAccounts widens bounds by what any service account of a namespace is cleared for. Only rights are asked about without a name, requests never.
func (s *Snapshot) withAccounts(namespace string, b Bounds) Bounds {
	prefix := accountPrefix + namespace + ":"
	for user, grants := range s.users {
		if strings.HasPrefix(user, prefix) {
			for _, g := range grants {
				b = b.with(g.Label)
			}
		}
	}
	for user := range s.exempt {
		if strings.HasPrefix(user, prefix) {
			b = b.with(s.all.High)
		}
	}
	return b
}

func (s *Snapshot) clusterTarget(r *Request, a Access) (Bounds, Origin) {
	kind := Kind{r.Group, r.Resource}
	if a != Read && guarded(r) || opensNode(r) {
		return s.all, GuardedKind
	}
	if r.Name != "" {
		if l, ok := s.cluster.objects[objectKey{kind, r.Name}]; ok {
			return exactly(l), OwnLabel
		}
		return exactly(s.cluster.label), DefaultLabel
	}
	switch {
	case a == Create && withoutNamespace[kind]:
		return exactly(s.cluster.label), DefaultLabel
	case withoutNamespace[kind]:
		return s.cluster.kind(kind), CollectionLabels
	}
	return s.all, CollectionLabels // over all namespaces, or a kind that is not known
}

// impersonated is the label of whom a request wants to act as. One that nobody cleared, and names that stand for several (UIDs, extra
// fields), need a subject that dominates everything.
func (s *Snapshot) impersonated(r *Request) (Bounds, Origin) {
	var target *Subject
	switch r.Resource {
	case "users":
		if len(s.users[r.Name]) > 0 {
			target = s.resolve(r.Name, nil)
		}
	case "serviceaccounts":
		switch {
		case r.Namespace == "":
		case r.Name == "":
			_, b := s.place(r.Namespace)
			return s.withAccounts(r.Namespace, b), IdentityLabel
		default:
			target = s.Resolve(accountPrefix+r.Namespace+":"+r.Name, nil)
		}
	case "groups":
		switch {
		case r.Name == "system:authenticated":
			return exactly(s.registry.clearance), IdentityLabel
		case len(s.groups[r.Name]) > 0:
			target = s.resolve("", []string{r.Name})
		}
	}
	if target == nil || target.Exempt() {
		return exactly(s.all.High), UnknownIdentity
	}
	return exactly(target.high()), IdentityLabel
}

// governs says whether a request changes who may do what in a namespace, or how much.
func governs(r *Request) bool {
	switch r.Resource {
	case "roles", "rolebindings", "networkpolicies", "resourcequotas", "limitranges", "namespaces", "*":
		return true
	}
	return r.Verb == "bind" || r.Verb == "escalate" || strings.HasPrefix(r.Verb, "impersonate")
}
