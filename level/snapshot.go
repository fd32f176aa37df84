package level

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// systemNamespaces are on the top level if they carry no label, and their service accounts are trusted: the cluster's controllers live there.
var systemNamespaces = map[string]bool{"kube-system": true}

// Snapshot is everything a decision needs. It is immutable: many goroutines may use it, and With methods return another one.
type Snapshot struct {
	registry   *Registry
	users      map[string][]Grant // by the name that requests have, service accounts too
	groups     map[string][]Grant
	exempt     map[string]bool
	nodes      map[string]bool
	workspaces map[string]*Workspace
	members    map[string]bool // service accounts that are members of a workspace
	namespaces *table[*place]
	cluster    *place        // objects without a namespace
	labels     map[Label]int // how many namespaces and objects have each label
	all        Bounds        // of everything
	memo       *memo
	stale      bool
	frozen     map[string]bool // namespaces that are being re-graded; nil if none is
	coming     []Label         // what is to be
	nextExpiry time.Time
}

// place is a namespace, or what has none.
type place struct {
	label     Label
	labelled  bool
	workspace *Workspace
	objects   map[objectKey]Label
	bounds    Bounds          // of the place and its labelled objects
	kinds     map[Kind]Bounds // of the labelled objects of a kind, and of the place
	account   Subject         // service accounts without a clearance of their own
}

type objectKey struct {
	Kind
	name string
}

// controlPlane are the users of Kubernetes' own components, which levels never bind.
// The last is how API servers call kubelets, which ask what it may.
var controlPlane = []string{"system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy", "kube-apiserver-kubelet-client"}

const nodePrefix = "system:node:"

// IsComponent says whether a name is that of a component of the cluster: of the control plane, a node's agent, or a controller in a system
// namespace. Doors refuse to enforce what would hold up one of them.
func IsComponent(user string) bool {
	namespace, _ := accountNamespace(user)
	return slices.Contains(controlPlane, user) || strings.HasPrefix(user, nodePrefix) || systemNamespaces[namespace] || strings.HasPrefix(user, "system:kube-")
}

// NeverBound says whether levels do not bind a user, whatever the levels are: the control plane's own, and whom API servers let through
// before they ask.
func NeverBound(user string, groups []string) bool {
	return slices.Contains(groups, masters) || slices.Contains(controlPlane, user)
}

// NewSnapshot compiles a model. Grants that have expired at now are left out.
func NewSnapshot(m *Model, now time.Time) *Snapshot {
	s := &Snapshot{registry: m.Registry, namespaces: newTable[*place](), labels: map[Label]int{}, nodes: map[string]bool{}, exempt: map[string]bool{},
		workspaces: map[string]*Workspace{}, members: map[string]bool{}}
	for _, name := range controlPlane {
		s.exempt[name] = true
	}
	for _, name := range slices.Concat(m.Registry.spec.Exempt, m.Exempt) {
		s.exempt[name] = true
	}
	for _, name := range m.Nodes {
		s.nodes[nodePrefix+name] = true
	}
	for _, f := range m.Frozen {
		if s.frozen == nil {
			s.frozen = map[string]bool{}
		}
		if f.Namespace != "" {
			s.frozen[f.Namespace] = true
		}
		s.coming = append(s.coming, f.To)
	}
	for i := range m.Workspaces {
		s.workspaces[m.Workspaces[i].Name] = &m.Workspaces[i]
		for n := range m.Workspaces[i].Members {
			if n.Kind == ServiceAccount {
				s.members[n.user()] = true
			}
		}
	}
	s.setGrants(m.Grants, now)
	objects := map[string]map[objectKey]Label{}
	for _, o := range m.Objects {
		if objects[o.Namespace] == nil {
			objects[o.Namespace] = map[objectKey]Label{}
		}
		objects[o.Namespace][objectKey{o.Kind, o.Name}] = o.Label
	}
	s.cluster = s.newPlace(Namespace{Label: &Label{}}, objects[""])
	s.count(s.cluster, 1)
	for _, n := range m.Namespaces {
		if _, known := s.namespaces.get(n.Name); known {
			continue
		}
		p := s.newPlace(n, objects[n.Name])
		s.namespaces.put(n.Name, p)
		s.count(p, 1)
		delete(objects, n.Name)
	}
	delete(objects, "")
	for name, inside := range objects { // of namespaces that were not told
		p := s.newPlace(Namespace{Name: name}, inside)
		s.namespaces.put(name, p)
		s.count(p, 1)
	}
	s.bound()
	return s
}

func (s *Snapshot) setGrants(grants []Grant, now time.Time) {
	s.users, s.groups, s.memo, s.nextExpiry = map[string][]Grant{}, map[string][]Grant{}, newMemo(), time.Time{}
	for _, g := range grants {
		if !g.Expires.IsZero() {
			if !g.Expires.After(now) {
				continue
			}
			if s.nextExpiry.IsZero() || g.Expires.Before(s.nextExpiry) {
				s.nextExpiry = g.Expires
			}
		}
		to := s.users
		if g.Subject.Kind == UserGroup {
			to = s.groups
		}
		to[g.Subject.user()] = append(to[g.Subject.user()], g)
	}
}

func (s *Snapshot) newPlace(n Namespace, objects map[objectKey]Label) *place {
	p := &place{label: s.registry.namespace, workspace: s.workspaces[n.Workspace], objects: objects}
	switch {
	case n.Label != nil:
		p.label, p.labelled = *n.Label, true
	case systemNamespaces[n.Name]:
		p.label = s.registry.top
	}
	p.bounds = exactly(p.label)
	for key, l := range objects {
		p.bounds = p.bounds.with(l)
		if p.kinds == nil {
			p.kinds = map[Kind]Bounds{}
		}
		b, known := p.kinds[key.Kind]
		if !known {
			b = exactly(p.label)
		}
		p.kinds[key.Kind] = b.with(l)
	}
	p.account = Subject{held: []held{{p.label, systemNamespaces[n.Name]}}, source: ByNamespace, system: systemNamespaces[n.Name]}
	return p
}

// kind is the bounds of all objects of a kind.
func (p *place) kind(k Kind) Bounds {
	if k.Resource == "*" || k.Group == "*" {
		return p.bounds
	}
	if b, ok := p.kinds[k]; ok {
		return b
	}
	return exactly(p.label)
}

func (s *Snapshot) count(p *place, by int) {
	s.labels[p.label] += by
	for _, l := range p.objects {
		s.labels[l] += by
	}
}

func (s *Snapshot) bound() {
	first := true
	for l, n := range s.labels {
		switch {
		case n == 0:
			delete(s.labels, l)
		case first:
			s.all, first = exactly(l), false
		default:
			s.all = s.all.with(l)
		}
	}
	for _, l := range s.coming {
		s.all = s.all.with(l)
	}
}

// WithNamespace returns a snapshot in which a namespace has this label and workspace; its labelled objects stay.
func (s *Snapshot) WithNamespace(n Namespace) *Snapshot {
	var objects map[objectKey]Label
	if old, ok := s.namespaces.get(n.Name); ok {
		objects = old.objects
	}
	return s.replace(n.Name, s.newPlace(n, objects))
}

// WithoutNamespace returns a snapshot without a namespace and its objects.
func (s *Snapshot) WithoutNamespace(name string) *Snapshot { return s.replace(name, nil) }

func (s *Snapshot) replace(name string, p *place) *Snapshot {
	next := *s
	next.labels = maps.Clone(s.labels)
	if old, ok := s.namespaces.get(name); ok {
		next.count(old, -1)
	}
	if p == nil {
		next.namespaces = s.namespaces.with(name, nil)
	} else {
		next.namespaces = s.namespaces.with(name, &p)
		next.count(p, 1)
	}
	next.bound()
	return &next
}

// WithGrants returns a snapshot with other clearances.
func (s *Snapshot) WithGrants(grants []Grant, now time.Time) *Snapshot {
	next := *s
	next.setGrants(grants, now)
	return &next
}

// WithObjects returns a snapshot in which these are all objects of a namespace, or of none, that carry labels of their own.
func (s *Snapshot) WithObjects(namespace string, objects []Object) *Snapshot {
	labels := make(map[objectKey]Label, len(objects))
	for _, o := range objects {
		labels[objectKey{o.Kind, o.Name}] = o.Label
	}
	if namespace != "" {
		n := Namespace{Name: namespace}
		if old, ok := s.namespaces.get(namespace); ok {
			if old.labelled {
				n.Label = &old.label
			}
			if old.workspace != nil {
				n.Workspace = old.workspace.Name
			}
		} else if len(objects) == 0 {
			return s
		}
		return s.replace(namespace, s.newPlace(n, labels))
	}
	next := *s
	next.labels = maps.Clone(s.labels)
	next.count(s.cluster, -1)
	next.cluster = s.newPlace(Namespace{Label: &Label{}}, labels)
	next.count(next.cluster, 1)
	next.bound()
	return &next
}

// WithNodes returns a snapshot in which these nodes are there.
func (s *Snapshot) WithNodes(names []string) *Snapshot {
	next := *s
	next.nodes, next.memo = make(map[string]bool, len(names)), newMemo()
	for _, name := range names {
		next.nodes[nodePrefix+name] = true
	}
	return &next
}

// Stale returns a snapshot that knows that it may be out of date: it denies whatever is not on the lowest level.
func (s *Snapshot) Stale() *Snapshot {
	next := *s
	next.stale = true
	return &next
}

// NextExpiry is when the first clearance ends, zero if none does. A snapshot must be replaced then.
func (s *Snapshot) NextExpiry() time.Time { return s.nextExpiry }

// Registry is the order of levels.
func (s *Snapshot) Registry() *Registry { return s.registry }

// Namespace returns the label that a namespace has or is taken to have, and whether it carries it.
func (s *Snapshot) Namespace(name string) (l Label, labelled bool) {
	if p, ok := s.namespaces.get(name); ok {
		return p.label, p.labelled
	}
	if systemNamespaces[name] {
		return s.registry.top, false
	}
	return s.registry.namespace, false
}
