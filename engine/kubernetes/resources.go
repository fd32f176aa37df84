package kubernetes

import (
	"context"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/kube/manifest"
)

// ReadOptions are how manifests become resources.
type ReadOptions struct {
	Type      string // of the resources
	Namespace string // for namespaced objects that name none
}

// Resources makes a resource of each manifest, with its namespace filled in, the values of Secrets marked sensitive, and the edges
// that follow from what objects name (see WithEdges). Without a client the scope of kinds that are not Kubernetes' own is guessed from
// the definitions among the objects.
func Resources(ctx context.Context, client *kube.Client, objects []manifest.Object, o ReadOptions) ([]engine.Resource, error) {
	scopes := kube.ScopesIn(objects)
	resources := make([]engine.Resource, len(objects))
	for i, object := range objects {
		u := object.DeepCopy()
		namespaced, err := isNamespaced(ctx, client, scopes, u)
		if err != nil {
			return nil, object.ErrorAt("kind", err.Error(), "")
		}
		switch {
		case !namespaced:
			u.SetNamespace("")
		case u.GetNamespace() == "":
			u.SetNamespace(o.Namespace)
		}
		resources[i] = engine.Resource{ID: IDOf(u), Type: o.Type, Inputs: WithSecrets(u), Origin: object.Start().String(),
			Locate: func(field string) (string, bool) {
				pos, exact := object.Position(field)
				if key, ok := strings.CutPrefix(field, "data."); ok && !exact && object.GetKind() == "Secret" {
					pos, exact = object.Position("stringData." + key)
				}
				return pos.String(), exact
			},
			Keep: u.GetAnnotations()[kube.KeepAnnotation] == "true"}
	}
	return WithEdges(resources, o.Type, o.Namespace), nil
}

func isNamespaced(ctx context.Context, client *kube.Client, scopes kube.Scopes, u *unstructured.Unstructured) (bool, error) {
	if namespaced, known := scopes[u.GroupVersionKind().GroupKind()]; known {
		return namespaced, nil
	}
	if client == nil {
		return !slices.Contains(clusterScoped, u.GetKind()), nil
	}
	namespaced, err := client.Namespaced(ctx, u)
	if isUnknownKind(err) {
		return u.GetNamespace() != "", nil // planning tells that the kind is not served
	}
	return namespaced, err
}

// IDOf is the id of an object's resource: KIND/NAMESPACE/NAME or KIND/NAME, for example Deployment/default/web. The group stands behind
// the kind unless it is one of Kubernetes' own. The version is no part of it: the object stays the same in another.
func IDOf(u *unstructured.Unstructured) engine.ID {
	return engine.ID(strings.ReplaceAll(manifest.IdentityOf(u).String(), " ", "/"))
}

// WithSecrets returns the object's content with the values of a Secret marked sensitive.
func WithSecrets(u *unstructured.Unstructured) map[string]any {
	if u.GetKind() != "Secret" || u.GetAPIVersion() != "v1" {
		return u.Object
	}
	for _, field := range []string{"data", "stringData"} {
		values, _ := u.Object[field].(map[string]any)
		for key, v := range values {
			switch v.(type) {
			case engine.Reference, engine.External, engine.Sensitive, engine.Unknown:
			default:
				values[key] = engine.Sensitive{Value: v}
			}
		}
	}
	return u.Object
}

// WithNamespaces adds the namespaces that the resources of the type name, and that neither exist nor are among them. One that was made
// so before stays wanted: it carries the owner's label.
func WithNamespaces(ctx context.Context, client *kube.Client, resources []engine.Resource, typ, owner string) ([]engine.Resource, error) {
	made := map[string]bool{}
	var named []string
	for _, r := range resources {
		if r.Type != typ {
			continue
		}
		u := &unstructured.Unstructured{Object: r.Inputs}
		if u.GetKind() == "Namespace" && u.GetAPIVersion() == "v1" {
			made[u.GetName()] = true
		}
		if ns := u.GetNamespace(); ns != "" && !slices.Contains(named, ns) {
			named = append(named, ns)
		}
	}
	slices.Sort(named)
	added := false
	for _, name := range named {
		if made[name] {
			continue
		}
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
		live, err := client.Get(ctx, u)
		if err != nil {
			return nil, err
		}
		if live == nil || live.GetLabels()[kube.OwnerLabel] == owner {
			resources = append(resources, engine.Resource{ID: IDOf(u), Type: typ, Inputs: u.Object, Origin: "namespace " + name})
			added = true
		}
	}
	if !added {
		return resources, nil
	}
	return WithEdges(resources, typ, ""), nil
}
