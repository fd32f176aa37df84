package source

import (
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/cmd/internal/project"
	"github.com/weft-dev/weft/engine/kubernetes"
	"github.com/weft-dev/weft/kube/manifest"
)

// isManifests accepts everything that the forms before it do not.
func isManifests(Options) bool { return true }

type manifestSource struct {
	options Options
	paths   []string
	name    string
	objects []manifest.Object
}

func openManifests(ctx context.Context, o Options) (Source, error) {
	if err := o.only("files", "images"); err != nil {
		return nil, err
	}
	s := &manifestSource{options: o, paths: o.Files}
	if o.Path != "" {
		s.paths = append([]string{o.Path}, o.Files...)
	}
	var err error
	if s.objects, err = (manifest.Reader{Recursive: true, Stdin: o.Stdin}).Read(ctx, s.paths...); err != nil {
		if isDir(o.Path) && len(o.Files) == 0 && !hasManifests(o.Path) { // it was meant as a project
			_, err = project.Load(ctx, o.Path)
		}
		return nil, err
	}
	if s.name, err = nameOfPath(s.paths[0]); err != nil {
		return nil, err
	}
	return s, nil
}

// nameOfPath names what is read after its first folder or file; standard input has no name.
func nameOfPath(path string) (string, error) {
	if path == "-" {
		return "", nil
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if !isDir(absolute) {
		absolute = strings.TrimSuffix(absolute, filepath.Ext(absolute))
	}
	return project.NameOf(absolute), nil
}

func (s *manifestSource) About() About { return About{Form: "manifests", Name: s.name} }

// Load makes a resource of each object.
func (s *manifestSource) Load(ctx context.Context, place Place) (*Set, error) {
	objects, err := kubernetes.Resources(ctx, place.Client, s.objects, kubernetes.ReadOptions{Type: KubernetesType, Namespace: place.Namespace})
	if err != nil {
		return nil, err
	}
	for i := range objects {
		project.ReplaceImages(objects[i].Inputs, func(reference string) any { return mappedImage(s.options.Images, reference) })
	}
	return &Set{Resources: objects}, nil
}

// hasManifests says whether there is any file below a folder that could be one.
func hasManifests(dir string) bool {
	found := false
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what cannot be read holds none
		found = found || err == nil && !d.IsDir() && slices.Contains(manifest.Extensions, filepath.Ext(path))
		if found {
			return fs.SkipAll
		}
		return nil
	})
	return found
}
