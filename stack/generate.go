// Package stack turns Kusion's documents (project.yaml, stack.yaml, workspaces, applications) into a Spec, and a Spec into resources of
// the engine. All of it is pure: the caller reads the files and evaluates the language (package frontend).
//
// It must not know clusters, stores of secrets or command lines.
package stack

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/module"
	"github.com/weft-dev/weft/stack/spec"
)

// Input is what a Spec is made of.
type Input struct {
	Project   *Project
	Stack     *Stack
	Workspace *Workspace
	Apps      *config.Tree // by name
	// Getenv reads the variables that name a cloud's region; Manifests reads files that a configuration names, see module.Request;
	// Random makes up n letters and digits for a secret that nobody gave a value.
	Getenv    func(string) string
	Manifests func(path string) ([]module.Manifest, error)
	Random    func(n int) string
}

// generation is one run of Generate.
type generation struct {
	Input
	reader    *config.Reader
	namespace string
	spec      *spec.Spec
	warnings  []string
}

// Generate makes the Spec of a stack: for each application, in the order of their names, the namespace, the secrets, the workload and
// what its accessories come to, patched and ordered. The error holds everything that is wrong.
func Generate(in Input) (*spec.Spec, []string, error) {
	g := &generation{Input: in, reader: &config.Reader{}, namespace: Namespace(in.Project, in.Stack), spec: &spec.Spec{Resources: []spec.Resource{}}}
	g.spec.SecretStore = in.Workspace.SecretStore
	g.spec.Context, _ = in.Workspace.Context.Plain().(map[string]any)
	g.reader.Node(in.Apps, "").Sorted(g.app)
	g.extend()
	spec.Order(g.spec.Resources)
	if err := g.reader.Err(); err != nil {
		return nil, g.warnings, err
	}
	return g.spec, g.warnings, nil
}

// app makes one application's resources.
func (g *generation) app(name string, n config.Node) {
	n.Each(func(field string, v config.Node) {
		if !slices.Contains([]string{"name", "workload", "accessories", "labels", "annotations", "_type"}, field) {
			v.FailWith("Fields here are workload, accessories, labels and annotations.", "is no field of an application")
		}
	})
	g.add(namespaceObject(g.namespace, n.Place()))
	work := n.Field("workload")
	g.secrets(work.Field("secrets"))
	begin := len(g.spec.Resources)
	var patchers []module.Patcher
	if work.Is() {
		patchers = g.call(name, work, work, patchers)
	}
	workload := g.markWorkload(begin, work)
	n.Field("accessories").Sorted(func(_ string, v config.Node) { patchers = g.call(name, v, work, patchers) })
	for i := range patchers {
		g.patch(n, workload, &patchers[i])
	}
	g.imports(begin)
}

func namespaceObject(name string, at config.Place) spec.Resource {
	r := spec.Object(map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"creationTimestamp": nil, "name": name},
		"spec": map[string]any{}, "status": map[string]any{},
	})
	r.Origin = at
	return r
}

// add adds a resource. The same one again is let be, another one under its id is a problem.
func (g *generation) add(r spec.Resource) {
	for i := range g.spec.Resources {
		if old := &g.spec.Resources[i]; old.ID == r.ID {
			if r.Kind() != "Namespace" {
				g.reader.Add(&config.Problem{At: r.Origin, What: fmt.Sprintf("makes %s, which is made at %s already", r.ID, old.Origin)})
			}
			return
		}
	}
	g.spec.Resources = append(g.spec.Resources, r)
}

// call has a module make the resources of an accessory or a workload.
func (g *generation) call(app string, n, work config.Node, patchers []module.Patcher) []module.Patcher {
	if !n.Is() || n.Tree().Kind != config.Map {
		n.Each(nil)
		return patchers
	}
	typ := n.Tree().Type
	if t := n.Field("_type"); t.Is() {
		typ = t.Text()
	}
	name, _, _ := strings.Cut(typ, ".")
	generate := module.Find(name)
	if generate == nil {
		what := fmt.Sprintf("is a %s, and there is no module %q", typ, name)
		if typ == "" {
			what = "has no schema, so that its module is not known"
		}
		n.FailWith("Modules are "+strings.Join(module.Names(), ", ")+". Modules of others cannot be run yet.", "%s", what)
		return patchers
	}
	platform := g.Workspace.Config(name, g.Project.Name)
	response, err := generate(&module.Request{
		Project: g.Project.Name, Stack: g.Stack.Name, App: app, Namespace: g.namespace, Path: n.Path(),
		Workload: work.Tree(), Dev: n.Tree(), Platform: platform, Getenv: g.Getenv, Manifests: g.Manifests,
	})
	if err != nil {
		g.addAll(err)
		return patchers
	}
	if response == nil {
		return patchers
	}
	policy, _ := platform.Get("healthPolicy").Plain().(map[string]any)
	for _, r := range response.Resources {
		g.health(&r, policy, n.Path() == work.Path())
		g.add(r)
	}
	if response.Patcher != nil {
		patchers = append(patchers, *response.Patcher)
	}
	return patchers
}

// addAll notes the problems that a module joined.
func (g *generation) addAll(err error) {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		g.reader.Add(err)
		return
	}
	for _, e := range joined.Unwrap() {
		g.reader.Add(e)
	}
}

// health notes when a resource counts as ready, for the workload or for objects of the kind that the policy names.
func (g *generation) health(r *spec.Resource, policy map[string]any, workload bool) {
	if policy == nil || r.Type != spec.Kubernetes {
		return
	}
	same := strings.EqualFold(fmt.Sprint(policy["apiVersion"]), fmt.Sprint(r.Attributes["apiVersion"])) && strings.EqualFold(fmt.Sprint(policy["kind"]), r.Kind())
	if !same && (!workload || r.Kind() == "ConfigMap") {
		return
	}
	if r.Extensions == nil {
		r.Extensions = map[string]any{}
	}
	r.Extensions[spec.HealthPolicy] = policy
	g.warnings = append(g.warnings, fmt.Sprintf("%s: the health policy is kept in the Spec and not run; %s counts as ready by Weft's own rules", r.Origin, r.ID))
}

// markWorkload marks the last resource that the workload's module made, which is the workload itself.
func (g *generation) markWorkload(begin int, work config.Node) *spec.Resource {
	if !work.Is() || len(g.spec.Resources) == begin {
		return nil
	}
	w := &g.spec.Resources[len(g.spec.Resources)-1]
	w.Extensions[spec.IsWorkload] = true
	// upstream names the workload first
	rest := append([]spec.Resource{*w}, g.spec.Resources[begin:len(g.spec.Resources)-1]...)
	copy(g.spec.Resources[begin:], rest)
	return &g.spec.Resources[begin]
}

// imports notes what exists already and is taken over, as the workspace's modules say.
func (g *generation) imports(begin int) {
	imported := map[string]config.Node{}
	for _, m := range g.Workspace.Modules {
		n := g.reader.Node(g.Workspace.Config(m.Name, g.Project.Name), "modules."+m.Name).Field("importedResources")
		n.Each(func(id string, v config.Node) {
			if old, twice := imported[id]; twice && old.Scalar() != v.Scalar() {
				v.Fail("imports %s as another resource than %s does", id, old.Path())
			}
			imported[id] = v
		})
	}
	for i := begin; i < len(g.spec.Resources); i++ {
		r := &g.spec.Resources[i]
		v, ok := imported[r.ID]
		if !ok {
			continue
		}
		if r.Extensions == nil {
			r.Extensions = map[string]any{}
		}
		r.Extensions[spec.ImportID] = v.Scalar()
		if r.Type == spec.Terraform {
			r.Attributes = map[string]any{} // what exists is taken as it is
		}
	}
}

// extend adds the labels and annotations of extensions to all objects.
func (g *generation) extend() {
	for _, e := range extensions(g.Project, g.Stack) {
		if e.Kind != MetadataExtension {
			continue
		}
		for i := range g.spec.Resources {
			r := &g.spec.Resources[i]
			if meta, ok := r.Attributes["metadata"].(map[string]any); ok && r.Type == spec.Kubernetes {
				mergeTexts(meta, "labels", e.Labels)
				mergeTexts(meta, "annotations", e.Annotations)
			}
		}
	}
}
