package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// Policies are what Compile makes.
type Policies struct {
	Objects []*unstructured.Unstructured // to be applied to the cluster
	Static  []*unstructured.Unstructured // for the folder ValidatingAdmissionPolicy of static manifests; an API server refuses them as objects
	Gaps    []string                     // what these policies do not do as the other doors would
}

// Options say how policies are made.
type Options struct {
	Now time.Time
	// Guardians are users that may change the policies themselves and the objects that say what levels there are, beside Registry.spec.exempt.
	Guardians []string
	// Setting of the policies; empty means that of the registry's door for admission.
	Setting api.DoorSetting
}

const (
	prefix     = "weft-levels-"
	rolePrefix = "weft:level:"
	// PartLabel is on every object that Compile makes.
	PartLabel = "level.weft.dev/part"
	// Resource is the synthetic resource of which cluster roles say who is cleared for what: labels.level.weft.dev.
	Resource = "labels"
	// wildcard is a name that no label has: who may do everything with labels says nothing by it about his clearance.
	wildcard = "~"
)

// Limits of what goes into the expressions of one policy.
const (
	maxLabels   = 128  // labels that are compared with each other
	maxHoldings = 1000 // subjects that are listed for holders of every right
	maxObjects  = 2000 // labelled objects and namespaces
)

type compiler struct {
	Policies
	model    *level.Model
	snapshot *level.Snapshot
	registry *level.Registry
	options  Options
	texts    []string               // all that may stand as a label
	labels   map[string]level.Label // by text
	classes  map[string][]string    // class:access -> texts
	holdings map[string]string      // u:NAME or g:GROUP -> class
	groups   map[string]held        // by class
}

// held is what subjects of a class hold.
type held struct {
	label   level.Label
	trusted bool
}

// Compile makes the policies of a model.
func Compile(m *level.Model, o Options) (*Policies, error) {
	if o.Now.IsZero() {
		return nil, fmt.Errorf("policies: the time is not given")
	}
	c := &compiler{model: m, snapshot: level.NewSnapshot(m, o.Now), registry: m.Registry, options: o, labels: map[string]level.Label{},
		classes: map[string][]string{}, holdings: map[string]string{}, groups: map[string]held{}}
	c.options.Setting = cmp.Or(o.Setting, m.Registry.Spec().Doors.Admission)
	c.spell()
	if len(c.texts) > maxLabels {
		return nil, fmt.Errorf("policies: %d labels are in use; expressions can hold %d: use the webhook", len(c.texts), maxLabels)
	}
	if n := len(m.Objects) + len(m.Namespaces); n > maxObjects {
		return nil, fmt.Errorf("policies: %d namespaces and labelled objects; expressions can hold %d: use the webhook", n, maxObjects)
	}
	c.roles()
	if len(c.holdings) > maxHoldings {
		return nil, fmt.Errorf("policies: %d subjects have a clearance; expressions can hold %d: use the webhook", len(c.holdings), maxHoldings)
	}
	c.Objects = append(c.Objects, c.writes()...)
	c.Objects = append(c.Objects, c.references()...)
	c.Objects = append(c.Objects, c.placement()...)
	c.Static = c.guard()
	c.gaps()
	return &c.Policies, nil
}

// spell lists the texts by which labels that are in use may be written. A text that is not among them is cleared for nobody.
func (c *compiler) spell() {
	add := func(text string) {
		if l, err := c.registry.Parse(text); err == nil {
			c.labels[text] = l
		}
	}
	for _, l := range c.registry.Spec().Levels {
		add(l.Name)
		for _, alias := range l.Aliases {
			add(alias)
		}
	}
	use := func(l level.Label) {
		text := c.registry.Format(l)
		add(text)
		name, rest, some := strings.Cut(text, c.registry.Format(level.Label{Rank: l.Rank})+".")
		if !some || name != "" {
			return
		}
		categories := strings.Split(rest, ".")
		if len(categories) > 3 {
			c.Gaps = append(c.Gaps, fmt.Sprintf("%s: a label with more than three categories must be written with the categories in this order", text))
			return
		}
		for _, order := range orders(categories) {
			add(c.registry.Format(level.Label{Rank: l.Rank}) + "." + strings.Join(order, "."))
		}
	}
	use(c.snapshot.Everything().High)
	for _, n := range c.model.Namespaces {
		l, _ := c.snapshot.Namespace(n.Name)
		use(l)
	}
	for _, o := range c.model.Objects {
		use(o.Label)
	}
	c.texts = slices.Sorted(maps.Keys(c.labels))
}

// orders are all orders of a short list.
func orders(list []string) [][]string {
	if len(list) <= 1 {
		return [][]string{list}
	}
	var all [][]string
	for i := range list {
		rest := slices.Concat(list[:i:i], list[i+1:])
		for _, o := range orders(rest) {
			all = append(all, append([]string{list[i]}, o...))
		}
	}
	return all
}

var accesses = []level.Access{level.Read, level.Create, level.Change}

// class is the name of what a label clears for; its lists are made when it is first asked for.
func (c *compiler) class(l level.Label, trusted bool) string {
	name := c.registry.Format(l)
	if trusted {
		name += ":trusted"
	}
	if _, ok := c.groups[name]; ok {
		return name
	}
	c.groups[name] = held{l, trusted}
	subject := level.ClearedFor(l, trusted)
	for _, a := range accesses {
		list := []string{}
		for _, text := range c.texts {
			if !c.snapshot.Reach(subject, a, level.Exactly(c.labels[text]), level.OwnLabel).Denied {
				list = append(list, text)
			}
		}
		c.classes[name+":"+a.String()] = list
	}
	return name
}

// roles are the cluster roles that say who is cleared for which labels, and their bindings.
func (c *compiler) roles() {
	subjects := map[string][]any{}
	named := map[string]string{}
	bind := func(class, holding string, subject map[string]any) {
		if other, twice := named[holding]; twice && other != class {
			c.Gaps = append(c.Gaps, fmt.Sprintf("%s has the clearances %s and %s: the policies let pass what one of the two lets pass", strings.TrimPrefix(strings.TrimPrefix(holding, "u:"), "g:"), other, class))
		}
		named[holding] = class
		c.holdings[holding] = class
		subjects[class] = append(subjects[class], subject)
	}
	group := func(name string) map[string]any {
		return map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name}
	}
	everybody, _ := c.registry.Parse(cmp.Or(c.registry.Spec().Defaults.Clearance, c.registry.Format(level.Label{})))
	bind(c.class(everybody, false), "g:system:authenticated", group("system:authenticated"))
	for _, g := range c.model.Grants {
		if !g.Expires.IsZero() {
			if !g.Expires.After(c.options.Now) {
				continue
			}
			c.Gaps = append(c.Gaps, fmt.Sprintf("the clearance of %s ends at %s: make the policies anew then", g.Subject, g.Expires.UTC().Format(time.RFC3339)))
		}
		class := c.class(g.Label, g.Trusted)
		switch g.Subject.Kind {
		case level.ServiceAccount:
			bind(class, "u:system:serviceaccount:"+g.Subject.Namespace+":"+g.Subject.Name, map[string]any{"kind": "ServiceAccount", "namespace": g.Subject.Namespace, "name": g.Subject.Name})
		case level.UserGroup:
			bind(class, "g:"+g.Subject.Name, group(g.Subject.Name))
		default:
			bind(class, "u:"+g.Subject.Name, map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": g.Subject.Name})
		}
	}
	for _, n := range c.model.Namespaces {
		l, _ := c.snapshot.Namespace(n.Name)
		_, system := c.registry.Unlabelled(n.Name)
		name := "system:serviceaccounts:" + n.Name
		bind(c.class(l, system), "g:"+name, group(name))
	}
	for _, class := range slices.Sorted(maps.Keys(subjects)) {
		var rules []any
		for _, a := range accesses {
			if list := c.classes[class+":"+a.String()]; len(list) > 0 {
				rules = append(rules, map[string]any{"apiGroups": []any{api.Group}, "resources": []any{Resource}, "resourceNames": anys(list), "verbs": []any{a.String()}})
			}
		}
		role := object("rbac.authorization.k8s.io/v1", "ClusterRole", rolePrefix+class)
		role.Object["rules"] = rules
		binding := object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", rolePrefix+class)
		binding.Object["roleRef"] = map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": rolePrefix + class}
		binding.Object["subjects"] = subjects[class]
		c.Objects = append(c.Objects, role, binding)
	}
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

func object(apiVersion, kind, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind,
		"metadata": map[string]any{"name": name, "labels": map[string]any{PartLabel: "policy"}}}}
}

func (c *compiler) gaps() {
	c.Gaps = append(c.Gaps,
		"reads (get, list, watch, logs) and impersonation are not seen by admission: weft level audit lists who has such rights above his clearance",
		"objects and namespaces that get a label later are known to the policies when they are made anew; until then a label that is in use nowhere is cleared for nobody",
		"references in kinds that are not Kubernetes' own, contents of certificate requests, addresses in EndpointSlices and ceilings of workspaces need the webhook",
		"policies and webhooks as objects are not guarded by policies: put the static manifests beside the API server, or restrict who may change them")
	slices.Sort(c.Gaps)
	c.Gaps = slices.Compact(c.Gaps)
}
