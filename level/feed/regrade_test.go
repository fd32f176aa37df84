package feed

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// TestReleasedOnceEverythingWasSeen: the watch of re-gradings may be ahead of those that tell the labels, in any order.
func TestReleasedOnceEverythingWasSeen(t *testing.T) {
	r, err := level.NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "low"}, {Name: "high"}}})
	if err != nil {
		t.Fatal(err)
	}
	secrets := watchKey{resource: schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, label: api.LevelLabel}
	step := func(of watchKey, namespace, name, from string) api.RegradeStep {
		return api.RegradeStep{Version: "v1", Resource: of.resource.Resource, Namespace: namespace, Name: name, UID: "1", Key: api.LevelLabel, From: from, To: "high"}
	}
	object := func(uid, label string) runtime.Object {
		o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}}
		if label != "" {
			o.Labels = map[string]string{api.LevelLabel: label}
		}
		return o
	}
	for what, c := range map[string]struct {
		step api.RegradeStep
		of   watchKey
		has  runtime.Object // nil: nothing was told
		want string
	}{
		"the label of before":                 {step(namespaces, "", "n", "low"), namespaces, object("1", "low"), "cluster/Labelling"},
		"no label yet":                        {step(namespaces, "", "n", ""), namespaces, object("1", ""), "cluster/Labelling"},
		"the new label":                       {step(namespaces, "", "n", "low"), namespaces, object("1", "high"), "cluster/Releasing"},
		"another label since":                 {step(namespaces, "", "n", "low"), namespaces, object("1", "other"), "cluster/Releasing"},
		"made anew":                           {step(namespaces, "", "n", "low"), namespaces, object("2", "low"), "cluster/Releasing"},
		"gone":                                {step(namespaces, "", "n", "low"), namespaces, nil, "cluster/Releasing"},
		"an object whose first label comes":   {step(secrets, "n", "s", ""), secrets, nil, "cluster/Labelling"},
		"an object whose first label is here": {step(secrets, "n", "s", ""), secrets, object("1", "high"), "cluster/Releasing"},
		"an object that is gone":              {step(secrets, "n", "s", "low"), secrets, nil, "cluster/Releasing"},
	} {
		t.Run(what, func(t *testing.T) {
			g := &api.Regrade{Spec: api.RegradeSpec{Phase: api.Releasing, Steps: []api.RegradeStep{c.step}}}
			g.Name = "cluster"
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(g)
			if err != nil {
				t.Fatal(err)
			}
			f := &Feed{watches: map[watchKey]*watched{
				regrades: {objects: map[name]runtime.Object{{"", "cluster"}: &unstructured.Unstructured{Object: content}}},
				c.of:     {objects: map[name]runtime.Object{}},
			}}
			if c.has != nil {
				f.watches[c.of].objects[name{c.step.Namespace, c.step.Name}] = c.has
			}
			frozen, names, problems := f.frozen(r)
			if !slices.Equal(names, []string{c.want}) || len(problems) > 0 || (len(frozen) > 0) != (c.want == "cluster/Labelling") {
				t.Errorf("%v, frozen %v, %v; want %s", names, frozen, problems, c.want)
			}
		})
	}
}
