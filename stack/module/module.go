// Package module holds what Kusion's modules do, built in: each makes the resources of one accessory, or of an application's
// workload, out of what a developer wrote (the accessory) and what the platform decided (the workspace). The outputs are those of
// the modules in KusionStack/catalog; docs/stack.md lists where users are better served by something else.
//
// A generator is a pure function. It must not know clusters, the disk or where its configuration came from.
package module

import (
	"maps"
	"slices"

	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// Request is what a module is given.
type Request struct {
	Project, Stack, App string
	// Namespace is where namespaced objects go.
	Namespace string
	// Workload is the application's workload, nil if it has none; Dev the accessory, Platform the workspace's configuration of the
	// module for the project; each may be nil.
	Workload, Dev, Platform *config.Tree
	// Path is the accessory's field, for errors.
	Path string
	// Getenv reads the variables that name a cloud's region.
	Getenv func(string) string
	// Manifests reads files and folders of manifests that a configuration names, relative to the stack; nil refuses.
	Manifests func(path string) ([]Manifest, error)
}

// Manifest is an object of a file.
type Manifest struct {
	Object map[string]any
	At     config.Place
}

// Response is what a module makes.
type Response struct {
	Resources []spec.Resource
	Patcher   *Patcher
}

// Patcher changes the application's workload, or any resource.
type Patcher struct {
	Environments                                   []map[string]any // variables of all containers, as in a Pod
	Labels, PodLabels, Annotations, PodAnnotations map[string]string
	JSON                                           map[string]JSONPatch // by the id of a resource
}

// JSONPatch is a patch of RFC 7396 (MergePatch) or RFC 6902 (JSONPatch).
type JSONPatch struct {
	Type    string
	Payload []byte
}

// Generator makes a module's resources. Its error holds all problems of the configuration.
type Generator func(*Request) (*Response, error)

// generators by the name of the module, which is the first part of the full name of its schemas.
var generators = map[string]Generator{
	"service":      service,
	"job":          job,
	"network":      network,
	"monitoring":   monitoring,
	"opsrule":      opsRule,
	"mysql":        mysql.generate,
	"postgres":     postgres.generate,
	"k8s_manifest": k8sManifest,
	"inference":    inference,
	"opensearch":   openSearch,
}

// Find returns a module's generator, nil if it is none that is built in.
func Find(name string) Generator { return generators[name] }

// Names are the modules that are built in.
func Names() []string { return slices.Sorted(maps.Keys(generators)) }

// appName is the name of an application's resources.
func (r *Request) appName() string { return r.Project + "-" + r.Stack + "-" + r.App }

// appLabels are the labels by which an application's pods are selected.
func (r *Request) appLabels() map[string]any {
	return map[string]any{"app.kubernetes.io/part-of": r.Project, "app.kubernetes.io/name": r.App}
}

// nodes are the cursors on what a module is given.
func (r *Request) nodes() (reader *config.Reader, dev, platform config.Node) {
	reader = &config.Reader{}
	return reader, reader.Node(r.Dev, r.Path), reader.Node(r.Platform, "workspace")
}

// object begins an object as upstream's writer does: with an empty creation time, and without empty labels and annotations.
func object(apiVersion, kind, namespace, name string, labels, annotations map[string]any) map[string]any {
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": metadata(namespace, name, labels, annotations)}
}

func metadata(namespace, name string, labels, annotations map[string]any) map[string]any {
	m := map[string]any{"creationTimestamp": nil}
	set(m, "namespace", namespace)
	set(m, "name", name)
	set(m, "labels", labels)
	set(m, "annotations", annotations)
	return m
}

// set sets a field unless it is empty.
func set(m map[string]any, name string, v any) {
	switch v := v.(type) {
	case nil:
		return
	case string:
		if v == "" {
			return
		}
	case int64:
		if v == 0 {
			return
		}
	case map[string]any:
		if len(v) == 0 {
			return
		}
	case []any:
		if len(v) == 0 {
			return
		}
	}
	m[name] = v
}

// merged is the union of maps, of which later ones go before.
func merged(all ...map[string]any) map[string]any {
	union := map[string]any{}
	for _, m := range all {
		maps.Copy(union, m)
	}
	return union
}

// at notes where resources come from.
func at(place config.Place, resources ...spec.Resource) []spec.Resource {
	for i := range resources {
		if resources[i].Origin == (config.Place{}) {
			resources[i].Origin = place
		}
	}
	return resources
}
