package kubernetes

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weft-dev/weft/engine"
)

// WithEdges returns the resources with the edges that follow from what objects name: their namespace, the definition of
// their kind, a binding's role and accounts, and what a workload's pods run as, mount and read. Only resources of the given type
// are looked at, and only edges to resources of the list are added. The namespace is for objects that name none.
func WithEdges(resources []engine.Resource, typ, namespace string) []engine.Resource {
	index := map[object]engine.ID{}
	kinds := map[schema.GroupKind]engine.ID{}
	for _, r := range resources {
		if r.Type != typ {
			continue
		}
		u := &unstructured.Unstructured{Object: r.Inputs}
		kind := u.GroupVersionKind().GroupKind()
		index[object{kind.Kind, namespaceOf(u, namespace), u.GetName()}] = r.ID
		if kind.Kind == "CustomResourceDefinition" {
			group, _, _ := unstructured.NestedString(r.Inputs, "spec", "group")
			name, _, _ := unstructured.NestedString(r.Inputs, "spec", "names", "kind")
			kinds[schema.GroupKind{Group: group, Kind: name}] = r.ID
		}
	}
	out := slices.Clone(resources)
	for i, r := range out {
		if r.Type != typ {
			continue
		}
		u := &unstructured.Unstructured{Object: r.Inputs}
		ns := namespaceOf(u, namespace)
		needs := slices.Clone(r.DependsOn)
		add := func(id engine.ID, found bool) {
			if found && id != r.ID && !slices.Contains(needs, id) {
				needs = append(needs, id)
			}
		}
		if id, ok := kinds[u.GroupVersionKind().GroupKind()]; ok {
			add(id, true)
		}
		if ns != "" {
			id, ok := index[object{"Namespace", "", ns}]
			add(id, ok)
		}
		for _, o := range named(u, ns) {
			id, ok := index[o]
			add(id, ok)
		}
		out[i].DependsOn = needs
	}
	return out
}

// object is how objects name each other. Groups are left out: the kinds that are named are Kubernetes' own.
type object struct{ kind, namespace, name string }

// clusterScoped are the kinds that others name and that live in no namespace.
var clusterScoped = []string{"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "PersistentVolume", "StorageClass", "PriorityClass", "RuntimeClass", "IngressClass"}

func namespaceOf(u *unstructured.Unstructured, otherwise string) string {
	switch {
	case slices.Contains(clusterScoped, u.GetKind()):
		return ""
	case u.GetNamespace() != "":
		return u.GetNamespace()
	}
	return otherwise
}

// named lists what an object names.
func named(u *unstructured.Unstructured, ns string) []object {
	switch u.GetKind() {
	case "RoleBinding", "ClusterRoleBinding":
		return namedByBinding(u, ns)
	case "PersistentVolumeClaim":
		class, _, _ := unstructured.NestedString(u.Object, "spec", "storageClassName")
		volume, _, _ := unstructured.NestedString(u.Object, "spec", "volumeName")
		return []object{{"StorageClass", "", class}, {"PersistentVolume", "", volume}}
	case "Ingress":
		class, _, _ := unstructured.NestedString(u.Object, "spec", "ingressClassName")
		return []object{{"IngressClass", "", class}}
	case "Pod":
		return namedByPod(u.Object, ns)
	}
	for _, path := range [][]string{{"spec", "template"}, {"spec", "jobTemplate", "spec", "template"}} {
		if template, found, err := unstructured.NestedMap(known(u.Object), path...); err == nil && found {
			return namedByPod(template, ns)
		}
	}
	return nil
}

// known copies a tree with nothing in the place of marks, which the helpers of package unstructured cannot copy.
func known(inputs map[string]any) map[string]any {
	var unknown []string
	m, _ := withoutUnknown(engine.Reveal(inputs), "", nil, &unknown).(map[string]any)
	return m
}

func namedByBinding(u *unstructured.Unstructured, ns string) []object {
	kind, _, _ := unstructured.NestedString(u.Object, "roleRef", "kind")
	name, _, _ := unstructured.NestedString(u.Object, "roleRef", "name")
	all := []object{{kind, ns, name}, {kind, "", name}}
	subjects, _ := u.Object["subjects"].([]any)
	for _, s := range subjects {
		m, _ := s.(map[string]any)
		subjectNS, _ := m["namespace"].(string)
		if subjectNS == "" {
			subjectNS = ns
		}
		if name, _ := m["name"].(string); m["kind"] == "ServiceAccount" {
			all = append(all, object{"ServiceAccount", subjectNS, name})
		}
	}
	return all
}

// namedBy are the keys in a pod's specification below which names of other objects stand.
var namedBy = map[string]string{
	"configMap": "ConfigMap", "configMapRef": "ConfigMap", "configMapKeyRef": "ConfigMap",
	"secret": "Secret", "secretRef": "Secret", "secretKeyRef": "Secret", "imagePullSecrets": "Secret",
	"persistentVolumeClaim": "PersistentVolumeClaim",
}

func namedByPod(pod map[string]any, ns string) []object {
	spec, _ := pod["spec"].(map[string]any)
	var all []object
	for key, kind := range map[string]string{"serviceAccountName": "ServiceAccount", "priorityClassName": "PriorityClass", "runtimeClassName": "RuntimeClass"} {
		if name, ok := spec[key].(string); ok {
			scope := ns
			if kind != "ServiceAccount" {
				scope = ""
			}
			all = append(all, object{kind, scope, name})
		}
	}
	var search func(v any, kind string)
	search = func(v any, kind string) {
		switch v := v.(type) {
		case map[string]any:
			for _, key := range []string{"name", "secretName", "claimName"} {
				if name, ok := v[key].(string); ok && kind != "" {
					all = append(all, object{kind, ns, name})
				}
			}
			for key, e := range v {
				search(e, namedBy[key])
			}
		case []any:
			for _, e := range v {
				search(e, kind)
			}
		}
	}
	search(spec, "")
	return all
}
