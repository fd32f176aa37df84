package talk

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
)

// Piece is an object with what was changed in it and why.
type Piece struct {
	Object *unstructured.Unstructured `json:"object"`
	Notes  []string                   `json:"notes,omitempty"`
}

func (p *Piece) note(format string, a ...any) { p.Notes = append(p.Notes, fmt.Sprintf(format, a...)) }

// base is the level of what carries none, below all that were published.
const base = "0"

// Translate makes of manifests what they meant. What needs no change is passed on; Registry, clearances, workspaces, namespaces and nodes come first.
// The error joins everything that cannot be read, each a *manifest.Error.
func Translate(objects []manifest.Object) ([]Piece, error) {
	loaded, err := level.Load(objects)
	if err != nil {
		return nil, err
	}
	var pieces []Piece
	spec := loaded.Model.Registry.Spec()
	if loaded.Inferred {
		p := Piece{}
		p.note("the levels are the numbers that the manifests hold; one that is put in between later changes no object")
		if spec.Levels[0].Name != base {
			spec.Levels = append([]api.Level{{Name: base}}, spec.Levels...)
			p.note("%s is the base: whoever and whatever carries no level", base)
		}
		if p.Object, err = registryOf(spec); err != nil {
			return nil, err
		}
		pieces = append(pieces, p)
	}
	t := translator{}
	for _, l := range spec.Levels {
		t.levels = append(t.levels, l.Name)
	}
	for _, o := range objects {
		pieces = append(pieces, t.translate(o.DeepCopy())...)
	}
	slices.SortStableFunc(pieces, func(a, b Piece) int { return rank(a.Object) - rank(b.Object) })
	return pieces, nil
}

func rank(u *unstructured.Unstructured) int {
	order := []string{"Registry", "Clearance", "Workspace", "Namespace", "Node"}
	if i := slices.Index(order, u.GetKind()); i >= 0 {
		return i
	}
	return len(order)
}

func registryOf(spec api.RegistrySpec) (*unstructured.Unstructured, error) {
	levels := []any{}
	for _, l := range spec.Levels {
		levels = append(levels, map[string]any{"name": l.Name})
	}
	return made("Registry", api.RegistryName, nil, map[string]any{"levels": levels}), nil
}

func made(kind, name string, labels map[string]string, spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetAPIVersion(api.Group + "/" + api.Version)
	u.SetKind(kind)
	u.SetName(name)
	u.SetLabels(labels)
	return u
}

type translator struct{ levels []string } // the lowest first

func (t *translator) translate(u *unstructured.Unstructured) []Piece {
	k := u.GroupVersionKind()
	p := Piece{Object: u}
	text, labelled := u.GetLabels()[api.TalkLabel]
	switch {
	case k.Group == "iam.kubesphere.io" && k.Kind == "User":
		if !labelled {
			return nil // at the base, as everybody
		}
		p.note("the level of user %s is a Clearance: whatever is above it is closed to the user", u.GetName())
		p.Object = made("Clearance", u.GetName(), nil, map[string]any{"label": text, "subjects": []any{map[string]any{"kind": "User", "name": u.GetName()}}})
	case k.Group == "tenant.kubesphere.io" && (k.Kind == "Workspace" || k.Kind == "WorkspaceTemplate"):
		p.note("the workspace keeps its name: namespaces name it by %s as before", api.KubeSphereWS)
		labels := map[string]string{}
		if labelled {
			labels[api.LevelLabel] = text
		}
		p.Object = made("Workspace", u.GetName(), labels, map[string]any{})
	case k.Kind == "NetworkPolicy":
		t.policy(&p)
	default:
		if k.Kind == "Pod" && k.Group == "apps" {
			u.SetAPIVersion("v1")
			p.note("a Pod is of v1, not of %s", k.GroupVersion())
		}
		t.affinities(&p, u.Object)
	}
	return []Piece{p}
}

// affinities walks to the node affinities of a pod or a template, wherever it is.
func (t *translator) affinities(p *Piece, in map[string]any) {
	for key, v := range in {
		switch v := v.(type) {
		case map[string]any:
			if key == "requiredDuringSchedulingIgnoredDuringExecution" {
				t.terms(p, v)
				continue
			}
			t.affinities(p, v)
		case []any:
			for _, e := range v {
				if m, ok := e.(map[string]any); ok && key != "preferredDuringSchedulingIgnoredDuringExecution" {
					t.affinities(p, m)
				}
			}
		}
	}
}

// terms spells out comparisons of levels: nodes are compared as whole numbers only, so that a level in between would never match.
func (t *translator) terms(p *Piece, required map[string]any) {
	terms, ok := required["nodeSelectorTerms"].([]any)
	if !ok {
		return
	}
	kept := []any{}
	for _, term := range terms {
		m, ok := term.(map[string]any)
		if !ok {
			continue
		}
		possible := true
		for _, e := range expressions(m) {
			possible = t.spell(p, e) && possible
		}
		if possible {
			kept = append(kept, term)
		}
	}
	if len(kept) > 0 {
		required["nodeSelectorTerms"] = kept
	}
}

func expressions(selector map[string]any) []map[string]any {
	list, ok := selector["matchExpressions"].([]any)
	if !ok {
		return nil
	}
	var all []map[string]any
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

func isLevel(e map[string]any) bool { return e["key"] == api.TalkLabel || e["key"] == api.LevelLabel }

// spell replaces a comparison of levels by the levels that are meant, and says whether there is any.
func (t *translator) spell(p *Piece, e map[string]any) bool {
	if !isLevel(e) {
		return true
	}
	values := texts(e["values"])
	e["values"] = asAny(values)
	operator, _ := e["operator"].(string)
	if operator != "Lt" && operator != "Gt" || len(values) != 1 {
		return true
	}
	meant := t.beside(values[0], operator == "Gt", false)
	if len(meant) == 0 {
		p.note("no level is meant by %s %s %s: that choice is left out", e["key"], operator, values[0])
		return false
	}
	p.note("%s %s %s is spelled out: the levels %s", e["key"], operator, values[0], strings.Join(meant, ", "))
	e["operator"], e["values"] = "In", asAny(meant)
	return true
}

// beside are the levels above or below one, and that one as well if it is to be.
func (t *translator) beside(name string, above, itself bool) []string {
	i := slices.Index(t.levels, name)
	if i < 0 {
		return []string{}
	}
	if above {
		if itself {
			return t.levels[i:]
		}
		return t.levels[i+1:]
	}
	return t.levels[:i]
}

// policy makes of a selector of higher levels, which no API server takes and which would select the pods that are guarded, the peers that it meant.
func (t *translator) policy(p *Piece) {
	selector, found, err := unstructured.NestedMap(p.Object.Object, "spec", "podSelector")
	if !found || err != nil {
		return
	}
	kept, from := []any{}, []any{}
	for _, e := range expressions(selector) {
		values := texts(e["values"])
		if !isLevel(e) || e["operator"] != "Gt" || len(values) != 1 {
			e["values"] = asAny(values)
			kept = append(kept, e)
			continue
		}
		meant := t.beside(values[0], true, true)
		from = append(from, map[string]any{"namespaceSelector": map[string]any{"matchExpressions": []any{map[string]any{"key": e["key"], "operator": "In", "values": asAny(meant)}}}})
		p.note("the pods that may come in are those of namespaces on the levels %s; a selector of pods has no Gt, and it selects whom the policy guards", strings.Join(meant, ", "))
		p.note("level %s itself is among them: else pods of one namespace could not talk to each other", values[0])
	}
	if len(from) == 0 {
		return
	}
	delete(selector, "matchExpressions")
	if len(kept) > 0 {
		selector["matchExpressions"] = kept
	}
	spec := p.Object.Object["spec"].(map[string]any)
	spec["podSelector"] = selector
	ingress, _ := spec["ingress"].([]any)
	spec["ingress"] = append(ingress, map[string]any{"from": from})
}

// texts are the values of an expression, numbers as they are written in labels.
func texts(values any) []string {
	list, ok := values.([]any)
	if !ok {
		return nil
	}
	all := []string{}
	for _, v := range list {
		all = append(all, fmt.Sprint(v))
	}
	return all
}

func asAny(list []string) any {
	if list == nil {
		return nil
	}
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return runtime.DeepCopyJSONValue(all)
}
