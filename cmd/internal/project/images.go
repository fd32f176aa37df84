package project

import (
	"errors"
	"fmt"
	"strings"
)

// containerLists are the fields whose items have an image, wherever they stand in an object.
var containerLists = []string{"containers", "initContainers", "ephemeralContainers"}

// Repository returns an image reference without tag and digest.
func Repository(reference string) string {
	reference, _, _ = strings.Cut(reference, "@")
	if i := strings.LastIndexByte(reference, ':'); i > strings.LastIndexByte(reference, '/') {
		reference = reference[:i]
	}
	return reference
}

func checkImage(name string) string {
	if name != Repository(name) || name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, " \t\n") || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
		return fmt.Sprintf("must be the name of an image in lower case without tag and digest, got %q", name)
	}
	return ""
}

func checkRegistry(s string) string {
	if strings.Contains(s, "://") || strings.ContainsAny(s, " \t\n@") || strings.HasPrefix(s, "/") {
		return fmt.Sprintf("must be a host and a path such as ghcr.io/me, got %q", s)
	}
	return ""
}

// checkImages finds the configured images that no manifest uses, and drops the guessed one if it is not used.
func (p *Project) checkImages(configured bool) error {
	used := map[string]bool{}
	for _, o := range p.Objects {
		eachImage(o.Object, func(c map[string]any, reference string) { used[Repository(reference)] = true })
	}
	var errs []error
	var list []Image
	for _, i := range p.Images {
		switch {
		case used[i.Name]:
			list = append(list, i)
		case configured:
			errs = append(errs, &Error{Place: i.At, Path: "images." + i.Name, What: "is used by no manifest",
				Fix: fmt.Sprintf("Write image: %s where the manifests want it, or remove it here.", i.Name)})
		}
	}
	p.Images = list
	return errors.Join(errs...)
}

// ReplaceImages puts what with gives for an image reference in its place, wherever a container of the object names one.
func ReplaceImages(object map[string]any, with func(reference string) any) {
	eachImage(object, func(container map[string]any, reference string) { container["image"] = with(reference) })
}

// ImagePath is the image's name in the registry: the project's, with the image's own behind it where it is another.
func ImagePath(p *Project, image Image) string {
	name := image.Name
	if i := strings.IndexByte(name, '/'); i >= 0 && strings.ContainsAny(name[:i], ".:") {
		name = name[i+1:] // a registry's host, which is not the one that it goes to
	}
	if name == p.Name {
		return name
	}
	return p.Name + "/" + name
}

// eachImage visits every container of an object that names an image.
func eachImage(value any, visit func(container map[string]any, reference string)) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			eachImage(item, visit)
		}
	case map[string]any:
		for _, name := range containerLists {
			containers, _ := v[name].([]any)
			for _, c := range containers {
				container, _ := c.(map[string]any)
				if reference, ok := container["image"].(string); ok {
					visit(container, reference)
				}
			}
		}
		for _, item := range v {
			eachImage(item, visit)
		}
	}
}
