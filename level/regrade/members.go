package regrade

import (
	"cmp"
	"slices"
	"strings"
	"time"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// Uncleared is a member of a Workspace who was cleared for its level, and will not be for the new one.
type Uncleared struct {
	Workspace string `json:"workspace"`
	Member    string `json:"member"`
	Cleared   string `json:"cleared"` // what the member is cleared for after the change
	Needs     string `json:"needs"`   // the new level of the Workspace
}

// Uncleared are the members whom a plan shuts out of their Workspace. The model is that of before the plan; a service account's clearance may change
// with its namespace. A user without a clearance of its own may have one by a group, which a Workspace does not tell.
func (p *Plan) Uncleared(m *level.Model, now time.Time) []Uncleared {
	after := *m
	after.Namespaces = slices.Clone(m.Namespaces)
	raised := map[string][2]level.Label{}
	for i := range p.Changes {
		c := &p.Changes[i]
		to, err := m.Registry.Parse(c.To)
		if err != nil {
			continue // the plan is made of labels of this Registry
		}
		from, err := m.Registry.Parse(c.From)
		if err != nil {
			continue
		}
		if c.Thing.Group == api.Group && c.Thing.isWorkspace() {
			raised[c.Thing.Name] = [2]level.Label{from, to}
		}
		if j := slices.IndexFunc(after.Namespaces, func(n level.Namespace) bool { return c.Thing.isNamespace() && n.Name == c.Thing.Name }); j >= 0 {
			after.Namespaces[j].Label = &to
		}
	}
	if len(raised) == 0 {
		return nil
	}
	old, next := level.NewSnapshot(m, now), level.NewSnapshot(&after, now)
	cleared := func(s *level.Subject, l level.Label) bool {
		return s.Exempt() || slices.ContainsFunc(s.Labels(), func(held level.Label) bool { return held.Dominates(l) })
	}
	var all []Uncleared
	for _, w := range m.Workspaces {
		labels, changes := raised[w.Name]
		if !changes {
			continue
		}
		for member := range w.Members {
			now := next.ResolveName(member)
			if !cleared(old.ResolveName(member), labels[0]) || cleared(now, labels[1]) {
				continue
			}
			var holds []string
			for _, l := range now.Labels() {
				holds = append(holds, m.Registry.Format(l))
			}
			all = append(all, Uncleared{w.Name, member.String(), strings.Join(holds, " or "), m.Registry.Format(labels[1])})
		}
	}
	slices.SortFunc(all, func(a, b Uncleared) int {
		return cmp.Or(strings.Compare(a.Workspace, b.Workspace), strings.Compare(a.Member, b.Member))
	})
	return all
}
