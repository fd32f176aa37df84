package project

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Builds reads the weft.yaml of a folder whose objects are described elsewhere, by a Kusion project: it may name the images that are
// built and the registry, and nothing else. A folder without one builds nothing.
func Builds(dir, name string) (*Project, error) {
	p := &Project{Dir: filepath.Clean(dir)}
	path := filepath.Join(p.Dir, ConfigName)
	if _, err := p.loadConfig(path); err != nil {
		return nil, err
	}
	var errs []error
	for field, given := range map[string]bool{"name": p.Name != "", "namespace": p.Namespace != "", "manifests": len(p.Manifests) > 0} {
		if given {
			errs = append(errs, &Error{Place: Place{File: path}, Path: field, What: "is told by project.yaml here", Fix: "Remove it: weft.yaml beside a project.yaml may have version, images and registry."})
		}
	}
	p.Name = name
	return p, errors.Join(errs...)
}

// Unused tells of the images that none of the references means.
func (p *Project) Unused(used map[string]bool) []error {
	var errs []error
	for _, i := range p.Images {
		if !used[i.Name] {
			errs = append(errs, &Error{Place: i.At, Path: "images." + i.Name, What: "is used by no container",
				Fix: fmt.Sprintf("Write image = %q where a container wants it, or remove it here.", i.Name)})
		}
	}
	return errs
}
