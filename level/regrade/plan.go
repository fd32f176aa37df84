package regrade

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// Thing is an object as far as re-grading needs it.
type Thing struct {
	Group, Version, Kind string
	Resource             string // the plural that requests name
	Namespace, Name, UID string
	Labels               map[string]string
}

func (t *Thing) String() string {
	name := strings.ToLower(t.Kind) + " "
	if t.Namespace != "" {
		name += t.Namespace + "/"
	}
	return name + t.Name
}

func (t *Thing) isNamespace() bool { return t.Group == "" && t.Kind == "Namespace" }

// isWorkspace knows KubeSphere's as well.
func (t *Thing) isWorkspace() bool {
	return t.Group == api.Group && t.Kind == "Workspace" || t.Group == "tenant.kubesphere.io" && (t.Kind == "Workspace" || t.Kind == "WorkspaceTemplate")
}

// Change is one thing that gets another level.
type Change struct {
	Thing  Thing  `json:"-"`
	Object string `json:"object"`
	From   string `json:"from"` // the level it has, also if it carries no label
	To     string `json:"to"`
	Reason string `json:"reason"`
}

// Plan is what has to change, in the order in which no parent is ever below its child.
type Plan struct {
	Changes []Change `json:"changes"`
}

// Steps are the labels that a plan changes: each name under which a thing carries its level, or our own if it carries none.
func (p *Plan) Steps() []api.RegradeStep {
	var all []api.RegradeStep
	for i := range p.Changes {
		c := &p.Changes[i]
		keys := slices.DeleteFunc([]string{api.LevelLabel, api.TalkLabel}, func(k string) bool { _, ok := c.Thing.Labels[k]; return !ok })
		if len(keys) == 0 {
			keys = []string{api.LevelLabel}
		}
		t := &c.Thing
		for _, k := range keys {
			all = append(all, api.RegradeStep{Group: t.Group, Version: t.Version, Resource: t.Resource, Namespace: t.Namespace, Name: t.Name, UID: t.UID, Key: k, From: t.Labels[k], To: c.To})
		}
	}
	return all
}

// Make plans that the thing at an index gets a level. Parents are raised as far as they must be to stand above their children, children
// lowered to stay below their parents: a workspace dominates its namespaces and, in the mode Authority, a namespace its labelled objects.
// The join and the meet are the least changes that do so, so the plan is the smallest there is. An error names the label that cannot be read.
func Make(r *level.Registry, things []Thing, target int, to string) (*Plan, error) {
	want, err := r.Parse(to)
	if err != nil {
		return nil, err
	}
	p := planner{registry: r, things: things, unlabelled: level.NewSnapshot(&level.Model{Registry: r}, time.Time{})}
	t := &things[target]
	has, _, err := p.level(t)
	if err != nil {
		return nil, err
	}
	if has == want {
		return &Plan{Changes: []Change{}}, nil
	}
	if err := p.raiseAbove(t, want); err != nil {
		return nil, err
	}
	if err := p.lowerBelow(t, want); err != nil {
		return nil, err
	}
	p.change(t, has, want, "asked for")
	return &Plan{Changes: p.changes}, nil
}

type planner struct {
	registry   *level.Registry
	things     []Thing
	unlabelled *level.Snapshot // knows what a namespace without a label has
	changes    []Change
}

func (p *planner) change(t *Thing, from, to level.Label, reason string) {
	p.changes = append(p.changes, Change{Thing: *t, Object: t.String(), From: p.registry.Format(from), To: p.registry.Format(to), Reason: reason})
}

// level is what a thing has, and whether it carries it. A workspace without a label has none.
func (p *planner) level(t *Thing) (level.Label, bool, error) {
	l, err := p.registry.LabelOf(t.Labels)
	switch {
	case err != nil:
		return level.Label{}, false, fmt.Errorf("%s: %w", t, err)
	case l != nil:
		return *l, true, nil
	case t.isNamespace():
		found, _ := p.unlabelled.Namespace(t.Name)
		return found, false, nil
	case t.Namespace != "":
		if n := p.namespace(t.Namespace); n != nil {
			found, _, err := p.level(n)
			return found, false, err
		}
		found, _ := p.unlabelled.Namespace(t.Namespace)
		return found, false, nil
	}
	return level.Label{}, false, nil
}

func (p *planner) namespace(name string) *Thing {
	for i := range p.things {
		if t := &p.things[i]; t.isNamespace() && t.Name == name {
			return t
		}
	}
	return nil
}

// parent is what a thing must not be above; nil if there is nothing.
func (p *planner) parent(t *Thing) *Thing {
	switch {
	case t.isNamespace():
		name := level.WorkspaceOf(t.Labels)
		for i := range p.things {
			if w := &p.things[i]; name != "" && w.isWorkspace() && w.Name == name {
				return w
			}
		}
	case t.Namespace != "" && p.registry.Spec().Mode == api.Authority:
		return p.namespace(t.Namespace)
	}
	return nil
}

// raiseAbove raises the parents of a thing that is to have a label, the highest first.
func (p *planner) raiseAbove(t *Thing, want level.Label) error {
	parent := p.parent(t)
	if parent == nil {
		return nil
	}
	has, labelled, err := p.level(parent)
	if err != nil {
		return err
	}
	if parent.isWorkspace() && !labelled || has.Dominates(want) {
		return nil
	}
	next := has.Join(want)
	if err := p.raiseAbove(parent, next); err != nil {
		return err
	}
	p.change(parent, has, next, fmt.Sprintf("%s would be above it", t))
	return nil
}

// lowerBelow lowers the children of a thing that is to have a label, the lowest first.
func (p *planner) lowerBelow(t *Thing, want level.Label) error {
	for i := range p.things {
		child := &p.things[i]
		if p.parent(child) != t {
			continue
		}
		has, labelled, err := p.level(child)
		if err != nil {
			return err
		}
		if !labelled && !child.isNamespace() || want.Dominates(has) { // what carries no label follows its namespace
			continue
		}
		next := has.Meet(want)
		if err := p.lowerBelow(child, next); err != nil {
			return err
		}
		p.change(child, has, next, fmt.Sprintf("it would be above %s", t))
	}
	return nil
}

// Find is the index of the thing that a user means by a kind and a name: KIND is a kind, a resource, or either with its group (namespaces,
// workspace, secrets, things.example.com).
func Find(things []Thing, kind, namespace, name string) (int, error) {
	word, group, qualified := strings.Cut(strings.ToLower(kind), ".")
	word = cmp.Or(map[string]string{"ns": "namespace", "ws": "workspace"}[word], word)
	found := -1
	for i := range things {
		t := &things[i]
		if strings.ToLower(t.Kind) != word && t.Resource != word || qualified && t.Group != group || t.Name != name || t.Namespace != "" && t.Namespace != namespace {
			continue
		}
		if found >= 0 {
			return -1, fmt.Errorf("%s %s is in the group %q and in %q: name the kind with its group, as in %s.%s", kind, name, things[found].Group, t.Group, t.Resource, cmp.Or(t.Group, things[found].Group))
		}
		found = i
	}
	if found < 0 {
		return -1, fmt.Errorf("there is no %s %s", kind, name)
	}
	return found, nil
}
