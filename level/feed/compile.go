package feed

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
)

// dirty is what changed since the last snapshot.
type dirty struct {
	all        bool     // make it anew
	kinds      bool     // look up kinds
	grants     bool     // clearances
	nodes      bool     // which nodes are there
	namespaces []string // labels of namespaces
	objects    []string // namespaces whose labelled objects changed
}

// few is how many single changes are put into a snapshot one by one; more of them are faster by a new one.
const few = 64

// compiled is the last snapshot that was fresh, and what belongs to it.
type compiled struct {
	snapshot *level.Snapshot
	registry *level.Registry
	version  string // of the Registry
	regrades []string
	problems []string // of objects
}

// publish makes a snapshot of what changed, and puts it in place.
func (f *Feed) publish() {
	now := time.Now()
	f.mu.Lock()
	complete := f.complete()
	if complete || f.compiled != nil {
		f.compile(now)
	}
	old := f.state.Load()
	next := &State{Known: old.Known || complete}
	stale, problems := f.health(now)
	next.Problems = problems
	if c := f.compiled; c != nil {
		next.Snapshot, next.Registry, next.Regrades = c.snapshot, c.version, c.regrades
		next.Problems = append(slices.Clone(c.problems), problems...)
		if stale {
			next.Stale = true
			next.Snapshot = c.snapshot.Stale()
			if old.Stale && old.Snapshot != nil && old.Registry == c.version {
				next.Snapshot = old.Snapshot // a stale one does not change
			}
		}
	} else if len(f.unreadable) > 0 {
		next.Stale = true // there are levels, but nobody can say which
		next.Problems = append(slices.Clone(f.unreadable), problems...)
	}
	for _, u := range f.asUnstructured(registries) {
		next.Doors = doorsOf(u)
	}
	f.mu.Unlock()
	if same(old, next) {
		return
	}
	f.state.Store(next)
	if next.Known {
		f.once.Do(func() { close(f.known) })
	}
	if f.Changed != nil {
		f.Changed(next)
	}
}

// doorsOf reads the settings of a Registry whatever else is wrong with it.
func doorsOf(u *unstructured.Unstructured) api.Doors {
	read := func(door string) api.DoorSetting {
		s, _, _ := unstructured.NestedString(u.Object, "spec", "doors", door) // what is no text is no setting
		if set := api.DoorSetting(s); set == api.Warn || set == api.Enforce {
			return set
		}
		return api.Audit
	}
	return api.Doors{Authorizer: read("authorizer"), Webhook: read("webhook"), Admission: read("admission")}
}

func same(a, b *State) bool {
	return a.Doors == b.Doors && a.Snapshot == b.Snapshot && a.Known == b.Known && a.Stale == b.Stale && a.Registry == b.Registry && slices.Equal(a.Regrades, b.Regrades) && slices.Equal(a.Problems, b.Problems)
}

// compile brings the snapshot to what the watches told. The feed's lock is held.
func (f *Feed) compile(now time.Time) {
	d := f.dirty
	if d.grants || d.nodes || len(d.namespaces)+len(d.objects) > 0 { // whether a re-grading is over depends on what was seen
		d.all = d.all || len(f.asUnstructured(regrades)) > 0
	}
	f.dirty = dirty{kinds: d.kinds}
	c := f.compiled
	expired := c != nil && c.snapshot != nil && !c.snapshot.NextExpiry().IsZero() && !c.snapshot.NextExpiry().After(now)
	switch {
	case !f.hasKinds:
		f.compiled = nil
	case c == nil || d.all || len(d.namespaces)+len(d.objects) > few || len(c.problems) > 0 && (d.grants || len(d.namespaces)+len(d.objects) > 0):
		f.rebuild(now)
	case d.grants || expired || d.nodes || len(d.namespaces)+len(d.objects) > 0:
		next := *c
		if d.grants || expired {
			l, problems, err := level.LoadRest(f.declared())
			if err != nil || len(problems) > 0 {
				f.rebuild(now)
				return
			}
			next.snapshot = next.snapshot.WithGrants(l.Model.Grants, now)
		}
		if d.nodes {
			next.snapshot = next.snapshot.WithNodes(f.nodeNames())
		}
		for _, n := range unique(d.namespaces) {
			next.snapshot = f.withNamespace(&next, n)
		}
		for _, n := range unique(d.objects) {
			if n != "" || len(d.objects) > 0 {
				objects, problems := f.labelled(next.registry, n)
				next.problems = append(next.problems, problems...)
				next.snapshot = next.snapshot.WithObjects(n, objects[n])
			}
		}
		f.compiled = &next
	}
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

func (f *Feed) withNamespace(c *compiled, n string) *level.Snapshot {
	o := f.watches[namespaces].objects[name{"", n}]
	if o == nil {
		return c.snapshot.WithoutNamespace(n)
	}
	m, err := meta.Accessor(o)
	if err != nil {
		return c.snapshot
	}
	label, err := c.registry.LabelOf(m.GetLabels())
	if err != nil {
		c.problems = append(c.problems, "namespace "+n+": "+err.Error())
	}
	return c.snapshot.WithNamespace(level.Namespace{Name: n, Label: label, Workspace: level.WorkspaceOf(m.GetLabels())})
}

// declared are the objects of the kinds of levels.
func (f *Feed) declared() []manifest.Object {
	var all []manifest.Object
	for _, key := range []watchKey{registries, clearances, workspaces} {
		for _, u := range f.asUnstructured(key) {
			all = append(all, manifest.New(u, "cluster"))
		}
	}
	return all
}

// rebuild makes the snapshot anew. Without a Registry there is none; a Registry that cannot be read leaves the last one in force.
func (f *Feed) rebuild(now time.Time) {
	declared := f.asUnstructured(registries)
	f.unreadable = nil
	if len(declared) == 0 {
		f.compiled = nil
		return
	}
	objects := f.declared()
	loaded, found, err := level.LoadRest(objects)
	var problems []string
	if err != nil {
		problems = append(problems, err.Error())
		if f.compiled == nil {
			f.unreadable = problems
			return
		}
		kept := f.compiled.registry
		for i := range objects { // judge by the Registry as it was
			if objects[i].GetKind() == "Registry" {
				objects[i] = manifest.New(registryObject(kept), "the last good Registry")
			}
		}
		if loaded, found, err = level.LoadRest(objects); err != nil {
			return
		}
	}
	for _, p := range found {
		problems = append(problems, p.Error())
	}
	m := loaded.Model
	for _, o := range f.watches[namespaces].objects {
		a, err := meta.Accessor(o)
		if err != nil {
			continue
		}
		label, err := m.Registry.LabelOf(a.GetLabels())
		if err != nil {
			problems = append(problems, "namespace "+a.GetName()+": "+err.Error())
		}
		m.Namespaces = append(m.Namespaces, level.Namespace{Name: a.GetName(), Label: label, Workspace: level.WorkspaceOf(a.GetLabels())})
	}
	m.Nodes, m.Exempt = f.nodeNames(), f.Exempt
	labelled, wrong := f.labelled(m.Registry, "")
	problems = append(problems, wrong...)
	for _, all := range labelled {
		m.Objects = append(m.Objects, all...)
	}
	var regraded []string
	m.Frozen, regraded, wrong = f.frozen(m.Registry)
	problems = append(problems, wrong...)
	slices.Sort(problems)
	f.compiled = &compiled{level.NewSnapshot(m, now), m.Registry, declared[0].GetResourceVersion(), regraded, problems}
}

func registryObject(r *level.Registry) *unstructured.Unstructured {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&api.Registry{Spec: r.Spec()})
	if err != nil {
		content = map[string]any{}
	}
	o := &unstructured.Unstructured{Object: content}
	o.SetAPIVersion(api.Group + "/" + api.Version)
	o.SetKind("Registry")
	o.SetName(api.RegistryName)
	return o
}

func (f *Feed) nodeNames() []string {
	var all []string
	for n := range f.watches[nodes].objects {
		all = append(all, n.name)
	}
	return all
}

// labelled are the objects that carry labels of their own, by namespace; only those of one if it is named.
func (f *Feed) labelled(r *level.Registry, only string) (all map[string][]level.Object, problems []string) {
	all = map[string][]level.Object{}
	seen := map[level.Object]bool{}
	take := func(kind level.Kind, n name, labels map[string]string) {
		if only != "" && n.namespace != only {
			return
		}
		label, err := r.LabelOf(labels)
		if err != nil {
			problems = append(problems, strings.TrimPrefix(n.namespace+"/", "/")+kind.Resource+"/"+n.name+": "+err.Error())
		}
		if label == nil {
			return
		}
		o := level.Object{Kind: kind, Namespace: n.namespace, Name: n.name, Label: *label}
		if !seen[o] { // those with labels under both names come twice
			seen[o] = true
			all[n.namespace] = append(all[n.namespace], o)
		}
	}
	for key, w := range f.watches {
		if key.label == "" && key != nodes && key != workspaces {
			continue
		}
		kind := level.Kind{Group: key.resource.Group, Resource: key.resource.Resource}
		for n, o := range w.objects {
			if m, err := meta.Accessor(o); err == nil {
				take(kind, n, m.GetLabels())
			}
		}
	}
	return all, problems
}

// frozen are the namespaces of re-gradings that are under way, and the re-gradings with their phases. Watches of several kinds know nothing of
// each other's order: a release counts only when every changed label was seen, else there would be a moment with some of them.
func (f *Feed) frozen(r *level.Registry) (frozen []level.Frozen, names, problems []string) {
	for _, u := range f.asUnstructured(regrades) {
		var g api.Regrade
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &g); err != nil {
			problems = append(problems, "regrade "+u.GetName()+": "+err.Error())
			continue
		}
		if g.Spec.Phase == api.Releasing && !f.seen(g.Spec.Steps) {
			g.Spec.Phase = api.Labelling
		}
		names = append(names, g.Name+"/"+string(g.Spec.Phase))
		if g.Spec.Phase != api.Freezing && g.Spec.Phase != api.Labelling {
			continue
		}
		for _, s := range g.Spec.Steps {
			to, err := r.LabelOf(map[string]string{api.LevelLabel: s.To})
			if err != nil {
				problems = append(problems, "regrade "+u.GetName()+": "+err.Error())
			}
			namespace := s.Namespace
			if s.Resource == "namespaces" && s.Group == "" {
				namespace = s.Name
			}
			frozen = append(frozen, level.Frozen{Namespace: namespace, To: *to})
		}
	}
	return frozen, names, problems
}

// seen says whether the watches told every label that a re-grading changed. What is gone, or was made anew or changed once more, was seen.
func (f *Feed) seen(steps []api.RegradeStep) bool {
	for _, s := range steps {
		whole, watched := false, false
		var found metav1.Object
		for key, w := range f.watches {
			if key.resource.Group != s.Group || key.resource.Resource != s.Resource {
				continue
			}
			watched = true
			whole = whole || key.label == ""
			if m, err := meta.Accessor(w.objects[name{s.Namespace, s.Name}]); err == nil {
				found = m
			}
		}
		switch {
		case !watched: // a kind that nobody judges by
		case found == nil && (whole || s.From != ""): // gone
		case found == nil: // it gets its first label, and by that comes into sight
			return false
		case string(found.GetUID()) != s.UID:
		case found.GetLabels()[s.Key] == s.From:
			return false
		}
	}
	return true
}
