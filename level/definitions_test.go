package level

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// The definitions are taken by a real API server, which fills in defaults and refuses what is wrong.
func TestDefinitionsOnARealAPIServer(t *testing.T) {
	server := kube.Start(t)
	client, err := dynamic.NewForConfig(server.Config)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := api.CRDs.ReadDir("crds")
	if err != nil || len(entries) != 5 {
		t.Fatal(len(entries), err)
	}
	definitions := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, e := range entries {
		data, err := api.CRDs.ReadFile("crds/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := definitions.Create(t.Context(), object(t, string(data)), metav1.CreateOptions{FieldValidation: "Strict"}); err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
	}
	create := func(resource, text string) (*unstructured.Unstructured, error) {
		u := object(t, "apiVersion: level.weft.dev/v1alpha1\n"+text)
		made, err := client.Resource(schema.GroupVersionResource{Group: api.Group, Version: api.Version, Resource: resource}).Create(t.Context(), u, metav1.CreateOptions{FieldValidation: "Strict"})
		for deadline := time.Now().Add(time.Minute); err != nil && strings.Contains(err.Error(), "could not find the requested resource") && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond) // a definition is served a moment after it is made
			made, err = client.Resource(schema.GroupVersionResource{Group: api.Group, Version: api.Version, Resource: resource}).Create(t.Context(), u, metav1.CreateOptions{FieldValidation: "Strict"})
		}
		return made, err
	}
	made, err := create("registries", "kind: Registry\nmetadata: {name: cluster}\nspec: {levels: [{name: low}, {name: high, aliases: ['1.5']}], categories: [{name: hr, mode: Integrity}]}")
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{"mode": "Authority", "groups": "Any"} {
		if got, _, _ := unstructured.NestedString(made.Object, "spec", field); got != want {
			t.Errorf("spec.%s is %q, not %q", field, got, want)
		}
	}
	if door, _, _ := unstructured.NestedString(made.Object, "spec", "doors", "authorizer"); door != "Audit" {
		t.Errorf("a door begins with %q", door)
	}
	for _, good := range []string{
		"kind: Clearance\nmetadata: {name: a}\nspec: {label: high.hr, subjects: [{kind: User, name: u}, {kind: ServiceAccount, name: s, namespace: ns}], expires: '2030-01-01T00:00:00Z'}",
		"kind: Workspace\nmetadata: {name: w}\nspec: {members: [{kind: Group, name: g, role: Viewer}]}",
		"kind: Workspace\nmetadata: {name: empty}",
	} {
		resource := "clearances"
		if strings.HasPrefix(good, "kind: Workspace") {
			resource = "workspaces"
		}
		if _, err := create(resource, good); err != nil {
			t.Error(err)
		}
	}
	for want, bad := range map[string]string{
		"the registry of a cluster is named cluster": "kind: Registry\nmetadata: {name: other}\nspec: {levels: [{name: a}]}",
		"spec.levels": "kind: Registry\nmetadata: {name: cluster}\nspec: {levels: []}",
		"strict puts": "kind: Registry\nmetadata: {name: cluster}\nspec: {levels: [{name: a}], defaults: {strict: true, namespace: a}}",
		"Duplicate":   "kind: Registry\nmetadata: {name: cluster}\nspec: {levels: [{name: a}, {name: a}]}",
		"spec.mode":   "kind: Registry\nmetadata: {name: cluster}\nspec: {levels: [{name: a}], mode: Biba}",
		"a ServiceAccount needs a namespace, users": "kind: Clearance\nmetadata: {name: x}\nspec: {label: a, subjects: [{kind: User, name: u, namespace: ns}]}",
		"a ServiceAccount needs a namespace":        "kind: Clearance\nmetadata: {name: x}\nspec: {label: a, subjects: [{kind: ServiceAccount, name: u}]}",
		"spec.subjects":                             "kind: Clearance\nmetadata: {name: x}\nspec: {label: a, subjects: []}",
		"spec.members[0].role":                      "kind: Workspace\nmetadata: {name: x}\nspec: {members: [{kind: User, name: u, role: Boss}]}",
	} {
		resource := map[string]string{"Reg": "registries", "Cle": "clearances", "Wor": "workspaces"}[bad[6:9]]
		if _, err := create(resource, bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}
