package project

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weft-dev/weft/kube/manifest"
)

// containerLists are the fields whose items have an image, wherever they stand in an object.
var containerLists = []string{"containers", "initContainers", "ephemeralContainers"}

// repositoryOf returns an image reference without tag and digest.
func repositoryOf(reference string) string {
	reference, _, _ = strings.Cut(reference, "@")
	if i := strings.LastIndexByte(reference, ':'); i > strings.LastIndexByte(reference, '/') {
		reference = reference[:i]
	}
	return reference
}

func checkImage(name string) string {
	if name != repositoryOf(name) || name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, " \t\n") || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
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
		eachImage(o.Object, func(c map[string]any, reference string) { used[repositoryOf(reference)] = true })
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

// WithImages returns the objects with the references of built images, by image name. What is not in references stays.
func (p *Project) WithImages(references map[string]string) []manifest.Object {
	objects := make([]manifest.Object, len(p.Objects))
	for i, o := range p.Objects {
		u := &unstructured.Unstructured{Object: o.DeepCopy().Object}
		eachImage(u.Object, func(container map[string]any, reference string) {
			if built, ok := references[repositoryOf(reference)]; ok {
				container["image"] = built
			}
		})
		objects[i] = o.With(u)
	}
	return objects
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
