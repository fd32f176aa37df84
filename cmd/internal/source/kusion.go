package source

import (
	"context"
	"errors"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weft-dev/weft/cmd/internal/kusion"
	"github.com/weft-dev/weft/cmd/internal/project"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/kubernetes"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/stack"
	"github.com/weft-dev/weft/stack/spec"
)

// TerraformType is the type of resources that are planned and cannot be made; see package stack/terraform.
const TerraformType = "terraform"

// isKusion looks for stack.yaml or project.yaml.
func isKusion(o Options) bool { return o.Path != "" && len(o.Files) == 0 && kusion.Is(o.Path) }

type kusionSource struct {
	options   Options
	place     *kusion.Place
	workspace *stack.Workspace
	backend   *kusion.Backend
	builds    *project.Project
	spec      *spec.Spec // given, or nil to evaluate
}

func openKusion(_ context.Context, o Options) (Source, error) {
	if err := o.only("stack", "workspace", "arguments", "modules", "images"); err != nil {
		return nil, err
	}
	place, err := kusion.Find(o.Path, o.Stack)
	if err != nil {
		return nil, err
	}
	home, err := kusion.Home(o.Getenv)
	if err != nil {
		return nil, err
	}
	backend, err := kusion.OpenBackend(home, "")
	if err != nil {
		return nil, err
	}
	return Kusion(o, place, backend, nil)
}

// Kusion is the source of a stack, with a Spec instead of its program if one is given.
func Kusion(o Options, place *kusion.Place, backend *kusion.Backend, given *spec.Spec) (Source, error) {
	s := &kusionSource{options: o, place: place, backend: backend, spec: given}
	workspaces, err := backend.Workspaces()
	if err != nil {
		return nil, err
	}
	if s.workspace, err = workspaces.Get(o.Workspace); err != nil {
		return nil, err
	}
	s.builds, err = project.Builds(place.Project.Dir, project.NameOf(place.Project.Name))
	return s, err
}

// About names no namespace: the objects of a Spec name their own, which comes and goes with the stack, and a state kept in the cluster
// must not go with it.
func (s *kusionSource) About() About {
	return About{Form: "kusion", Root: s.place.Project.Dir, Name: s.place.Owner(s.workspace.Name), Registry: s.builds.Registry, Builds: len(s.builds.Images) > 0}
}

// Load evaluates the stack and makes of its Spec resources of the engine.
func (s *kusionSource) Load(ctx context.Context, place Place) (*Set, error) {
	set := &Set{Warnings: s.place.Warnings}
	given := s.spec
	if given == nil {
		var warnings []string
		var err error
		given, warnings, err = s.place.Evaluate(ctx, kusion.Options{Workspace: s.workspace, Arguments: s.options.Arguments, Modules: s.options.Modules, Getenv: s.options.Getenv})
		set.Warnings = warnings
		if err != nil {
			set.Problems = split(err)
			return set, nil
		}
	}
	resources, problems := stack.Resources(given, stack.Types{Kubernetes: KubernetesType, Terraform: TerraformType})
	set.Problems = problems
	resources, err := s.withoutShared(ctx, place, resources)
	if err != nil {
		return nil, err
	}
	built, err := s.build(set, place)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for i := range resources {
		if resources[i].Type != KubernetesType {
			continue
		}
		project.ReplaceImages(resources[i].Inputs, func(reference string) any {
			used[project.Repository(reference)] = true
			if to, ok := built[project.Repository(reference)]; ok {
				return to
			}
			return mappedImage(s.options.Images, reference)
		})
		if len(resources[i].DependsOn) > 0 {
			for _, build := range set.Resources { // nothing is applied whose images cannot be built
				resources[i].DependsOn = append(resources[i].DependsOn, build.ID)
			}
		}
	}
	set.Problems = append(set.Problems, s.builds.Unused(used)...)
	set.Resources = append(set.Resources, kubernetes.WithEdges(resources, KubernetesType, place.Namespace)...)
	set.Done = func(_ context.Context, run Run) error { return s.record(given, run) }
	return set, nil
}

// withoutShared leaves out the namespaces that another stack of the project has made: all of them want the namespace that is called as
// the project is, and one of them owns it.
func (s *kusionSource) withoutShared(ctx context.Context, place Place, resources []engine.Resource) ([]engine.Resource, error) {
	if place.Client == nil {
		return resources, nil
	}
	stacks, err := kusion.Stacks(s.place.Project.Dir)
	if err != nil {
		return nil, err
	}
	workspaces, err := s.backend.Workspaces()
	if err != nil {
		return nil, err
	}
	siblings := map[string]bool{}
	for name := range stacks {
		sibling := kusion.Place{Project: s.place.Project, Stack: &stack.Stack{Name: name}}
		for _, workspace := range workspaces.Names() {
			siblings[kube.Owner{Namespace: place.Namespace, Name: sibling.Owner(workspace)}.Label()] = true
		}
	}
	delete(siblings, kube.Owner{Namespace: place.Namespace, Name: s.About().Name}.Label())
	shared := map[engine.ID]bool{}
	for _, r := range resources {
		u := &unstructured.Unstructured{Object: r.Inputs}
		if r.Type != KubernetesType || u.GetKind() != "Namespace" || u.GetAPIVersion() != "v1" {
			continue
		}
		live, err := place.Client.Get(ctx, u)
		if err != nil {
			return nil, err
		}
		if live != nil && siblings[live.GetLabels()[kube.OwnerLabel]] {
			shared[r.ID] = true
		}
	}
	if len(shared) == 0 {
		return resources, nil
	}
	resources = slices.DeleteFunc(resources, func(r engine.Resource) bool { return shared[r.ID] })
	for i := range resources {
		resources[i].DependsOn = slices.DeleteFunc(resources[i].DependsOn, func(id engine.ID) bool { return shared[id] })
	}
	return resources, nil
}

// split takes joined errors apart.
func split(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

// build adds the builds of the project's images.
func (s *kusionSource) build(set *Set, place Place) (map[string]any, error) {
	built := map[string]any{}
	for _, image := range s.builds.Images {
		r, err := buildResource(s.builds, image, place.Registry)
		if err != nil {
			return nil, err
		}
		set.Resources = append(set.Resources, r)
		built[image.Name] = engine.Reference{Resource: r.ID, Path: []string{"ref"}}
	}
	return built, nil
}

// record writes the release file.
func (s *kusionSource) record(given *spec.Spec, run Run) error {
	if run.Revision == 0 && run.Err == nil {
		return nil
	}
	releases, err := s.backend.Releases(s.place.Project.Name, s.workspace.Name)
	if err != nil {
		return err
	}
	made := map[string]bool{}
	for id := range run.Records {
		made[string(id)] = true
	}
	return releases.Record(kusion.Outcome{Project: s.place.Project.Name, Stack: s.place.Stack.Name, Workspace: s.workspace.Name,
		Destroyed: run.Operation == "destroy", Spec: given, Made: made, Failed: run.Err != nil, Now: time.Now(), Revision: run.Revision})
}
