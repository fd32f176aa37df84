package source

import (
	"context"
	"errors"
	"time"

	"github.com/weft-dev/weft/cmd/internal/kusion"
	"github.com/weft-dev/weft/cmd/internal/project"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/kubernetes"
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
