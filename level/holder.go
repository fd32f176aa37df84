package level

import (
	"maps"
	"slices"
)

// Holder is what an object may reach by what it names: what a service account of its namespace may, or, where it carries a label of its own,
// what that label dominates. The service accounts' own clearances do not count: whoever makes pods could use them.
func (s *Snapshot) Holder(namespace string, own *Label) *Subject {
	if own != nil {
		return &Subject{held: []held{{label: *own}}, source: ByObject}
	}
	if p, ok := s.namespaces.get(namespace); ok {
		return &p.account
	}
	label, _ := s.Namespace(namespace)
	return &Subject{held: []held{{label, systemNamespaces[namespace]}}, source: ByNamespace}
}

// Reach judges an access of a subject to whatever lies within bounds.
func (s *Snapshot) Reach(subject *Subject, a Access, b Bounds, o Origin) Decision {
	d := Decision{Access: a, Target: b, Origin: o}
	if subject.Exempt() {
		d.Cause = Exempt
		return d
	}
	s.judge(subject, &d)
	return d
}

// Exactly are the bounds of one label.
func Exactly(l Label) Bounds { return exactly(l) }

// Everything are the bounds of all that there is.
func (s *Snapshot) Everything() Bounds { return s.all }

// Own is the label that an object carries, if it carries one.
func (s *Snapshot) Own(kind Kind, namespace, name string) (Label, bool) {
	p := s.cluster
	if namespace != "" {
		var ok bool
		if p, ok = s.namespaces.get(namespace); !ok {
			return Label{}, false
		}
	}
	l, ok := p.objects[objectKey{kind, name}]
	return l, ok
}

// Highest is the lowest label that dominates all objects of a namespace that carry one; false if none does.
func (s *Snapshot) Highest(namespace string) (l Label, labelled bool) {
	p, ok := s.namespaces.get(namespace)
	if !ok {
		return l, false
	}
	for _, own := range p.objects {
		l, labelled = l.Join(own), true
	}
	return l, labelled
}

// Workspace is the workspace of that name, nil if there is none.
func (s *Snapshot) Workspace(name string) *Workspace { return s.workspaces[name] }

// Agent says whether a user is the agent of a node that is there.
func (s *Snapshot) Agent(user string) bool { return s.nodes[user] }

// Role is the subject's role in a workspace, zero if it is no member.
func (s *Subject) Role(workspace string) Role { return s.roles[workspace] }

// Unlabelled is the label that a namespace without one is taken to have.
func (r *Registry) Unlabelled(namespace string) (Label, bool) {
	if systemNamespaces[namespace] {
		return r.top, true
	}
	return r.namespace, false
}

// WorkspaceOf is the workspace of a namespace, nil if it has none.
func (s *Snapshot) WorkspaceOf(namespace string) *Workspace {
	if p, ok := s.namespaces.get(namespace); ok {
		return p.workspace
	}
	return nil
}

// Workspaces are the names of all workspaces.
func (s *Snapshot) Workspaces() []string { return slices.Sorted(maps.Keys(s.workspaces)) }

// ClearedFor is a subject that is cleared for a label.
func ClearedFor(l Label, trusted bool) *Subject {
	return &Subject{held: []held{{l, trusted}}, source: ByName}
}
