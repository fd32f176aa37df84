package manifest

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// check finds what is wrong with an object whatever its kind is.
func check(o Object) []error {
	var errs []error
	fail := func(field, msg, hint string) {
		e := &Error{Pos: o.Start(), Field: field, Msg: msg, Hint: hint}
		if p, _ := o.Position(field); p.Line > 0 {
			e.Pos = p
		}
		if kind, ok := o.Object["kind"].(string); ok {
			e.Object = kind
			if name, ok, _ := unstructured.NestedString(o.Object, "metadata", "name"); ok {
				e.Object += " " + name
			}
		}
		errs = append(errs, e)
	}
	if version, ok := o.Object["apiVersion"].(string); !ok || version == "" {
		fail("apiVersion", "missing or no string", "write for example apiVersion: v1")
	} else if _, err := schema.ParseGroupVersion(version); err != nil {
		fail("apiVersion", fmt.Sprintf("%q is no API version", version), "expected VERSION or GROUP/VERSION, for example apps/v1")
	}
	kind, ok := o.Object["kind"].(string)
	switch {
	case !ok || kind == "":
		fail("kind", "missing or no string", "write for example kind: ConfigMap")
	case kind == "Kustomization":
		fail("kind", "a Kustomization is a recipe and no object of the cluster", "build it first with: kubectl kustomize DIR")
		return errs
	}
	meta, ok := o.Object["metadata"].(map[string]any)
	if !ok {
		fail("metadata", "missing or no map", "write metadata: with at least a name")
		return errs
	}
	checkName(meta, fail)
	for _, f := range []string{"labels", "annotations"} {
		checkStrings(meta, f, fail)
	}
	return errs
}

func checkName(meta map[string]any, fail func(field, msg, hint string)) {
	name, isString := meta["name"].(string)
	_, generated := meta["generateName"]
	switch {
	case meta["name"] == nil && generated:
		fail("metadata.generateName", "an object with a generated name cannot be applied again", "give it metadata.name")
	case !isString:
		fail("metadata.name", "missing or no string", "give the object a name; quote it if it looks like a number")
	case name == "":
		fail("metadata.name", "is empty", "give the object a name")
	default:
		if wrong := content.IsPathSegmentName(name); len(wrong) > 0 {
			fail("metadata.name", fmt.Sprintf("%q %s", name, strings.Join(wrong, ", ")), "")
		}
	}
	if ns, given := meta["namespace"]; given && ns != nil {
		if _, ok := ns.(string); !ok {
			fail("metadata.namespace", "expected a string", "quote it")
		}
	}
}

func checkStrings(meta map[string]any, name string, fail func(field, msg, hint string)) {
	v, given := meta[name]
	if !given || v == nil {
		return
	}
	m, ok := v.(map[string]any)
	if !ok {
		fail("metadata."+name, "expected a map of strings", "")
		return
	}
	for key, value := range m {
		if _, ok := value.(string); !ok {
			fail(fmt.Sprintf("metadata.%s[%s]", name, key), "expected a string, found "+describe(value), "put the value in quotes")
		}
	}
}

func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case bool:
		return fmt.Sprintf("the boolean %t", v)
	case int64, float64:
		return fmt.Sprintf("the number %v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	}
	return fmt.Sprintf("%q", v)
}

// serverFields are written by the server. Exports (kubectl get -o yaml) hold them; in an apply they are refused or, worse,
// taken as a lock on one version.
var serverFields = []string{"creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"}

func dropServerFields(u *unstructured.Unstructured) {
	for _, f := range serverFields {
		unstructured.RemoveNestedField(u.Object, "metadata", f)
	}
}

// Duplicates returns an error for every object whose identity an earlier one has.
func Duplicates(objects []Object) []error {
	first := make(map[Identity]Position, len(objects))
	var errs []error
	for _, o := range objects {
		id := o.Identity()
		if at, twice := first[id]; twice {
			errs = append(errs, &Error{Pos: o.Start(), Object: id.String(), Msg: "already described at " + at.String(), Hint: "remove one of them"})
			continue
		}
		first[id] = o.Start()
	}
	return errs
}
