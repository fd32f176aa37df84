package level

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Everybody is the subject that nobody cleared.
var Everybody = SubjectName{Kind: User, Name: "(anyone else)"}

// Named are the subjects that have a clearance, and Everybody; with accounts also the service accounts of each namespace, named *.
func (s *Snapshot) Named(accounts bool) []SubjectName {
	all := map[SubjectName]bool{Everybody: true}
	for _, grants := range []map[string][]Grant{s.users, s.groups} {
		for _, list := range grants {
			all[list[0].Subject] = true
		}
	}
	for _, w := range s.workspaces {
		for n := range w.Members {
			all[n] = true
		}
	}
	if accounts {
		for name := range s.namespaces.all {
			all[SubjectName{ServiceAccount, name, "*"}] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b SubjectName) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind)*-1, strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// Subject resolves a named subject.
func (s *Snapshot) Subject(n SubjectName) *Subject {
	switch n.Kind {
	case UserGroup:
		return s.Resolve("", []string{n.Name})
	default:
		return s.Resolve(n.user(), nil)
	}
}

// Spot is a place that subjects act on: a namespace, an object with a label of its own, or all namespaces.
type Spot struct {
	Kind
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

func (p Spot) String() string {
	switch {
	case p.Resource == "":
		return cmp.Or(p.Namespace, "(all namespaces)")
	case p.Namespace == "":
		return p.Resource + "/" + p.Name
	}
	return p.Namespace + "/" + p.Resource + "/" + p.Name
}

func (p Spot) request(a Access) Request {
	r := Request{Verb: [...]string{"get", "create", "update"}[a], Group: p.Group, Resource: p.Resource, Namespace: p.Namespace, Name: p.Name}
	if p.Resource == "" {
		r.Resource = "configmaps" // any kind without labels of its own
		r.Name = "-"
		if a == Create {
			r.Name = ""
		}
		if p.Namespace == "" {
			r.Verb, r.Name = [...]string{"list", "create", "deletecollection"}[a], ""
		}
	}
	return r
}

// Spots are the places of a snapshot: all namespaces, each namespace, each object with a label.
func (s *Snapshot) Spots() []Spot {
	all := []Spot{{}}
	for o := range s.cluster.objects {
		all = append(all, Spot{o.Kind, "", o.name})
	}
	for name, p := range s.namespaces.all {
		all = append(all, Spot{Namespace: name})
		for o := range p.objects {
			all = append(all, Spot{o.Kind, name, o.name})
		}
	}
	slices.SortFunc(all, comparePlaces)
	return all
}

func comparePlaces(a, b Spot) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Resource, b.Resource), strings.Compare(a.Group, b.Group), strings.Compare(a.Name, b.Name))
}

// At judges an access of a subject to a spot.
func (s *Snapshot) At(subject *Subject, p Spot, a Access) Decision {
	r := p.request(a)
	return s.Decide(subject, &r)
}

// Difference is an answer that a change turns round.
type Difference struct {
	Subject SubjectName `json:"subject"`
	Spot    Spot        `json:"spot"`
	Access  string      `json:"access"`
	Denied  bool        `json:"denied"` // afterwards
	Cause   Cause       `json:"cause"`
	Reason  string      `json:"reason"`
}

// Compare tells which answers differ between two snapshots, for all subjects and places of both.
func Compare(before, after *Snapshot, accounts bool) []Difference {
	subjects := before.Named(accounts)
	for _, n := range after.Named(accounts) {
		if !slices.Contains(subjects, n) {
			subjects = append(subjects, n)
		}
	}
	seen := map[Spot]bool{}
	spots := slices.DeleteFunc(append(before.Spots(), after.Spots()...), func(p Spot) bool {
		twice := seen[p]
		seen[p] = true
		return twice
	})
	slices.SortStableFunc(spots, comparePlaces)
	all := []Difference{}
	for _, n := range subjects {
		was, is := before.Subject(n), after.Subject(n)
		for _, p := range spots {
			for a := Read; a <= Change; a++ {
				old, now := before.At(was, p, a), after.At(is, p, a)
				if old.Denied != now.Denied {
					all = append(all, Difference{n, p, a.String(), now.Denied, now.Cause, after.Explain(is, now).Reason})
				}
			}
		}
	}
	return all
}
