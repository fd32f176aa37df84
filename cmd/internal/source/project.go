package source

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/cmd/internal/project"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/kubernetes"
)

// BuildType is the type of resources that package buildpack/driver makes.
const BuildType = "build"

// KubernetesType is the type of resources that package engine/kubernetes makes.
const KubernetesType = "kubernetes"

// isProject looks for weft.yaml, or for a folder with a subfolder of manifests.
func isProject(o Options) bool {
	if o.Path == "" || len(o.Files) > 0 {
		return false
	}
	return project.Is(o.Path)
}

type projectSource struct {
	options Options
	project *project.Project
}

func openProject(ctx context.Context, o Options) (Source, error) {
	if err := o.only("images"); err != nil {
		return nil, err
	}
	p, err := project.Load(ctx, o.Path)
	if err != nil {
		return nil, err
	}
	return &projectSource{o, p}, nil
}

func (s *projectSource) About() About {
	return About{Form: "project", Root: s.project.Dir, Name: s.project.Name, Namespace: s.project.Namespace, Registry: s.project.Registry, Builds: len(s.project.Images) > 0}
}

// Load makes one resource for each image and each object; an object refers to the images that it uses.
func (s *projectSource) Load(ctx context.Context, place Place) (*Set, error) {
	set := &Set{}
	built := map[string]any{}
	for _, image := range s.project.Images {
		r, err := buildResource(s.project, image, place.Registry)
		if err != nil {
			return nil, err
		}
		set.Resources = append(set.Resources, r)
		built[image.Name] = engine.Reference{Resource: r.ID, Path: []string{"ref"}}
	}
	replace := func(reference string) any {
		if to, ok := built[project.Repository(reference)]; ok {
			return to
		}
		return mappedImage(s.options.Images, reference)
	}
	objects, err := kubernetes.Resources(ctx, place.Client, s.project.Objects, kubernetes.ReadOptions{Type: KubernetesType, Namespace: place.Namespace})
	if err != nil {
		return nil, err
	}
	for i := range objects {
		project.ReplaceImages(objects[i].Inputs, replace)
		for _, build := range set.Resources { // nothing of a project is applied whose images cannot be built
			objects[i].DependsOn = append(objects[i].DependsOn, build.ID)
		}
	}
	set.Resources = append(set.Resources, objects...)
	return set, nil
}

// buildResource describes the build of an image. Source folders are named relative to the project, so that a state means the same in
// every checkout.
func buildResource(p *project.Project, image project.Image, registry string) (engine.Resource, error) {
	env := map[string]any{}
	for name, value := range image.Env {
		env[name] = value
	}
	folder, err := filepath.Rel(p.Dir, image.Source)
	if err != nil {
		return engine.Resource{}, err
	}
	inputs := map[string]any{"source": folder, "image": registry + "/" + project.ImagePath(p, image)}
	if len(env) > 0 {
		inputs["env"] = env
	}
	if image.Process != "" {
		inputs["process"] = image.Process
	}
	return engine.Resource{ID: engine.ID("image/" + image.Name), Type: BuildType, Inputs: inputs, Origin: image.At.String(), Keep: true}, nil
}

// mappedImage is the reference that takes the place of one as written: of the same name with tag or digest, or of the same name alone,
// whose tag or digest then stays unless the new one has its own.
func mappedImage(images map[string]string, reference string) string {
	if to, ok := images[reference]; ok {
		return to
	}
	name := project.Repository(reference)
	to, ok := images[name]
	if !ok {
		return reference
	}
	if to == project.Repository(to) {
		return to + strings.TrimPrefix(reference, name)
	}
	return to
}

// only refuses the options that were given and are not among the names.
func (o Options) only(names ...string) error {
	given := []struct {
		name, flag string
		set        bool
	}{
		{"files", "-f", len(o.Files) > 0}, {"stack", "--stack", o.Stack != ""}, {"workspace", "--workspace", o.Workspace != ""},
		{"arguments", "-D", len(o.Arguments) > 0}, {"modules", "--module", len(o.Modules) > 0}, {"images", "--image", len(o.Images) > 0},
	}
	for _, g := range given {
		if g.set && !slices.Contains(names, g.name) {
			return &OptionError{Flag: g.flag, Path: o.Path}
		}
	}
	return nil
}

// OptionError says that an option means nothing for what is read.
type OptionError struct{ Flag, Path string }

func (e *OptionError) Error() string { return e.Flag + " means nothing for " + e.Path }

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
