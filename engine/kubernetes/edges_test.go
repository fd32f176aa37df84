package kubernetes

import (
	"fmt"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/kube/manifest"
	kubetest "github.com/weft-dev/weft/test/kube"
)

// resourcesOf reads manifests; the ids are kind/name.
func resourcesOf(t testing.TB, text string) []engine.Resource {
	t.Helper()
	objects, err := manifest.Parse("set.yaml", []byte(text), manifest.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var all []engine.Resource
	for _, o := range objects {
		all = append(all, engine.Resource{ID: engine.ID(o.GetKind() + "/" + o.GetName()), Type: "kubernetes", Inputs: o.Object, Origin: o.Start().String()})
	}
	return all
}

func TestEdges(t *testing.T) {
	const set = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    spec:
      serviceAccountName: web
      priorityClassName: high
      imagePullSecrets: [{name: pull}]
      volumes:
      - {name: v, configMap: {name: files}}
      - {name: s, secret: {secretName: tls}}
      - {name: d, persistentVolumeClaim: {claimName: data}}
      - {name: p, projected: {sources: [{configMap: {name: projected}}]}}
      initContainers: [{name: i, envFrom: [{secretRef: {name: env}}]}]
      containers: [{name: settings, env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: a}}}]}]
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}
---
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: high}}
---
{apiVersion: v1, kind: Secret, metadata: {name: pull, namespace: shop}}
---
{apiVersion: v1, kind: Secret, metadata: {name: tls, namespace: shop}}
---
{apiVersion: v1, kind: Secret, metadata: {name: env, namespace: shop}}
---
{apiVersion: v1, kind: Secret, metadata: {name: env}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: files, namespace: shop}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: projected, namespace: shop}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: shop}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: shop}, spec: {storageClassName: fast}}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: fast}}
---
{apiVersion: batch/v1, kind: CronJob, metadata: {name: nightly, namespace: shop}, spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: a, envFrom: [{configMapRef: {name: settings}}]}]}}}}}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: reader}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: ServiceAccount, name: web}]
---
{apiVersion: example.org/v1, kind: Widget, metadata: {name: w}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec: {group: example.org, names: {kind: Widget}}
`
	want := map[engine.ID][]engine.ID{
		"Deployment/web": {"ConfigMap/files", "ConfigMap/projected", "ConfigMap/settings", "Namespace/shop", "PersistentVolumeClaim/data", "PriorityClass/high",
			"Secret/env", "Secret/pull", "Secret/tls", "ServiceAccount/web"},
		"CronJob/nightly":            {"ConfigMap/settings", "Namespace/shop"},
		"RoleBinding/readers":        {"ClusterRole/reader", "Namespace/shop", "ServiceAccount/web"},
		"PersistentVolumeClaim/data": {"Namespace/shop", "StorageClass/fast"},
		"Widget/w":                   {"CustomResourceDefinition/widgets.example.org"},
		"Namespace/shop":             nil,
	}
	resources := resourcesOf(t, set)
	for i := range resources {
		if resources[i].ID == "Secret/env" && resources[i].Inputs["metadata"].(map[string]any)["namespace"] == nil {
			resources[i].ID = "Secret/env-elsewhere" // of the same name in another namespace
		}
	}
	for _, r := range WithEdges(resources, "kubernetes", "default") {
		needs, told := want[r.ID]
		slices.Sort(r.DependsOn)
		if told && !slices.Equal(r.DependsOn, needs) {
			t.Errorf("%s depends on %q, want %q", r.ID, r.DependsOn, needs)
		}
	}
	if len(resources[0].DependsOn) != 0 {
		t.Error("the given resources were changed")
	}
}

// TestDefinitionAndNamespaceFirst makes a definition, an object of it and a namespace in one run, the wrong way round.
func TestDefinitionAndNamespaceFirst(t *testing.T) {
	place := kubetest.Namespace(t)
	group, ns := place.Namespace+".example.org", place.Namespace+"-new"
	set := WithEdges(resourcesOf(t, fmt.Sprintf(`
{apiVersion: %[1]s/v1, kind: Widget, metadata: {name: w, namespace: %[2]s}, spec: {size: 3}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: %[2]s}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: %[2]s}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
`, group, ns)), "kubernetes", place.Namespace)
	r := &rig{TB: t, driver: driver(t, place, Options{AllowDelete: []string{"Namespace", "CustomResourceDefinition"}})}
	r.apply(set...)
	if p, _ := r.plan(set...); p.Changed() {
		t.Errorf("not at rest:\n%s", actions(p))
	}
	r.apply()
	if _, err := place.Clients.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{}); err == nil {
		t.Error("the namespace was left")
	}
}
