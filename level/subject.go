package level

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
)

// Source says where a subject's clearance comes from.
type Source string

// The sources.
const (
	ByName      Source = "name"      // clearances that name the user or service account
	ByGroup     Source = "group"     // clearances of the user's groups
	ByNamespace Source = "namespace" // a service account has the level of its namespace
	ByDefault   Source = "default"   // nobody cleared it
	ByObject    Source = "object"    // what an object names is judged by the label that it carries
	ByExemption Source = "exempt"    // the control plane, a node's agent, or exempt in the registry
	ByMasters   Source = "masters"   // group system:masters, which API servers let through before they ask anybody
)

// Subject is a resolved user: what it is cleared for. It is immutable and valid for the snapshot that made it.
type Subject struct {
	held   []held // none of which dominates another
	source Source
	roles  map[string]Role // by workspace
	system bool            // an account of a system namespace: it works on when the levels are out of date
}

type held struct {
	label   Label
	trusted bool
}

// Exempt says whether levels do not bind the subject.
func (s *Subject) Exempt() bool { return s.source == ByExemption || s.source == ByMasters }

// Source says where the clearance comes from.
func (s *Subject) Source() Source { return s.source }

// Labels are the labels it is cleared for; what one of them allows is allowed.
func (s *Subject) Labels() []Label {
	var all []Label
	for _, h := range s.held {
		all = append(all, h.label)
	}
	return all
}

// high is the join of what it is cleared for.
func (s *Subject) high() Label {
	var l Label
	for _, h := range s.held {
		l = l.Join(h.label)
	}
	return l
}

const masters = "system:masters"

// Resolve returns what a user is cleared for. What names the user decides alone; else its groups; else the default. Groups never clear a
// service account: without a clearance of its own it has the level of its namespace. It does not allocate when the user was seen before.
func (s *Snapshot) Resolve(user string, groups []string) *Subject {
	if found := s.memo.get(user, groups); found != nil {
		return found
	}
	if namespace, ok := accountNamespace(user); ok && len(s.users[user]) == 0 && !s.exempt[user] && !slices.Contains(groups, masters) && !s.members[user] {
		if p, ok := s.namespaces.get(namespace); ok { // not remembered: it changes with the namespace
			return &p.account
		}
	}
	resolved := s.resolve(user, groups)
	if resolved.source != ByNamespace && resolved.source != ByDefault || !strings.HasPrefix(user, accountPrefix) {
		s.memo.put(user, groups, resolved)
	}
	return resolved
}

// ResolveName returns what a named subject is cleared for: a user or service account without groups, or a group alone.
func (s *Snapshot) ResolveName(n SubjectName) *Subject {
	if n.Kind == UserGroup {
		return s.Resolve("", []string{n.Name})
	}
	return s.Resolve(n.user(), nil)
}

func accountNamespace(user string) (string, bool) {
	rest, ok := strings.CutPrefix(user, accountPrefix)
	if !ok {
		return "", false
	}
	namespace, name, ok := strings.Cut(rest, ":")
	return namespace, ok && namespace != "" && name != ""
}

func (s *Snapshot) resolve(user string, groups []string) *Subject {
	r := &Subject{roles: s.rolesOf(user, groups)}
	namespace, account := accountNamespace(user)
	switch {
	case slices.Contains(groups, masters):
		r.source = ByMasters
	case s.exempt[user] || s.nodes[user] && slices.Contains(groups, "system:nodes"):
		r.source = ByExemption
	case len(s.users[user]) > 0:
		r.source = ByName
		for _, g := range s.users[user] {
			r.add(g)
		}
	case account:
		label, _ := s.Namespace(namespace)
		r.held, r.source, r.system = []held{{label, systemNamespaces[namespace]}}, ByNamespace, systemNamespaces[namespace]
	default:
		for _, group := range groups {
			for _, g := range s.groups[group] {
				r.add(g)
			}
		}
		r.source = ByGroup
		if len(r.held) == 0 {
			r.held, r.source = s.registry.defaultClearance.held, ByDefault
		} else if s.registry.spec.Groups == "Join" {
			r.held = []held{{r.high(), !slices.ContainsFunc(r.held, func(h held) bool { return !h.trusted })}}
		}
	}
	return r
}

// add keeps what is not dominated. In modes with a way down a lower label can allow more, so a label is dropped only for its equal.
func (s *Subject) add(g Grant) {
	for i, h := range s.held {
		if h.label == g.Label {
			s.held[i].trusted = h.trusted || g.Trusted
			return
		}
	}
	s.held = append(s.held, held{g.Label, g.Trusted})
}

func (s *Snapshot) rolesOf(user string, groups []string) map[string]Role {
	var roles map[string]Role
	namespace, account := accountNamespace(user)
	for name, w := range s.workspaces {
		n := SubjectName{Kind: User, Name: user}
		if account {
			n = SubjectName{ServiceAccount, namespace, user[len(accountPrefix)+len(namespace)+1:]}
		}
		role := w.Members[n]
		if role == 0 && !account { // what names the user decides alone; else the group that may most
			for _, group := range groups {
				role = max(role, w.Members[SubjectName{Kind: UserGroup, Name: group}])
			}
		}
		if role != 0 {
			if roles == nil {
				roles = map[string]Role{}
			}
			roles[name] = role
		}
	}
	return roles
}

// memo remembers resolved users by a hash of name and all groups, and compares both before it answers.
type memo struct {
	seed   maphash.Seed
	shards [64]struct {
		sync.RWMutex
		known map[uint64]memoEntry
	}
}

const memoPerShard = 1024

type memoEntry struct {
	user    string
	groups  []string
	subject *Subject
}

func newMemo() *memo { return &memo{seed: maphash.MakeSeed()} }

func (m *memo) key(user string, groups []string) uint64 {
	var h maphash.Hash
	h.SetSeed(m.seed)
	_, _ = h.WriteString(user) // cannot fail
	_ = h.WriteByte(0)
	for _, g := range groups {
		_, _ = h.WriteString(g)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func (m *memo) get(user string, groups []string) *Subject {
	k := m.key(user, groups)
	shard := &m.shards[k%uint64(len(m.shards))]
	shard.RLock()
	e, ok := shard.known[k]
	shard.RUnlock()
	if !ok || e.user != user || !slices.Equal(e.groups, groups) {
		return nil
	}
	return e.subject
}

func (m *memo) put(user string, groups []string, s *Subject) {
	k := m.key(user, groups)
	shard := &m.shards[k%uint64(len(m.shards))]
	shard.Lock()
	defer shard.Unlock()
	if shard.known == nil || len(shard.known) >= memoPerShard { // a flood of names must not fill the memory
		shard.known = map[uint64]memoEntry{}
	}
	cloned := make([]string, len(groups))
	for i, g := range groups {
		cloned[i] = strings.Clone(g)
	}
	shard.known[k] = memoEntry{strings.Clone(user), cloned, s}
}
