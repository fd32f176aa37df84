package kube

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const oldDeployment = `apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  annotations: {}
data: {color: green, old: field}
`

func TestTakeOverFromClientSideApply(t *testing.T) {
	b := newBench(t)
	o := b.parse(oldDeployment)[0]
	o.SetNamespace(b.place.Namespace)
	o.SetAnnotations(map[string]string{lastApplied: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"},"data":{"color":"green","old":"field"}}`})
	r, err := b.kinds.find(b.Context(), o.GroupVersionKind())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.on(r, b.place.Namespace).Create(b.Context(), o.Unstructured, metav1.CreateOptions{FieldManager: "kubectl-client-side-apply"}); err != nil {
		t.Fatal(err)
	}
	b.merge("v1 ConfigMap", "settings", `{"data":{"theirs":"stays"}}`, "controller")
	set := b.set(web)
	set.Objects = set.Objects[:1]
	want := b.plan(set)
	b.want(want, `
adopt ConfigMap settings: it exists and was not applied by this set; the fields of kubectl-client-side-apply are taken over
  ~ data.color: "green" -> "blue"
  - data.old: "field"
  + data.size: "3"
  - metadata.annotations: {"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"settings\"},\"data\":{\"color\":\"green\",\"old\":\"field\"}}"}
  + metadata.labels: {"weft.dev/owner":"`+b.place.Namespace+`.app"}
`)
	before := b.live("v1 ConfigMap", "settings")
	b.apply(set)
	after := b.live("v1 ConfigMap", "settings")
	if got := fmt.Sprint(after.Object["data"]); got != "map[color:blue size:3 theirs:stays]" {
		t.Errorf("data %s", got)
	}
	if got := Diff(before, after); fmt.Sprint(got) != fmt.Sprint(want.Steps[0].Changes) {
		t.Errorf("planned %v\nhappened %v", want.Steps[0].Changes, got)
	}
	if r := b.apply(set); r.Changed() {
		t.Errorf("not at rest:\n%s", describePlan(r.Plan))
	}
}

const byKusion = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {stays: here, goes: away}}
spec:
  replicas: 3
  minReadySeconds: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 7
      containers:
      - {name: web, image: "web:1", env: [{name: OLD, value: gone}, {name: KEPT, value: here}], imagePullPolicy: Always}
`

const afterKusion = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {stays: here}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "web:2", env: [{name: KEPT, value: here}]}
`

// TestTakeOverFromKusion plans what goes with the fields that kusion wrote by updates, which own defaults too, and does just that.
func TestTakeOverFromKusion(t *testing.T) {
	b := newBench(t)
	o := b.parse(byKusion)[0]
	o.SetNamespace(b.place.Namespace)
	r, err := b.kinds.find(b.Context(), o.GroupVersionKind())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.on(r, b.place.Namespace).Create(b.Context(), o.Unstructured, metav1.CreateOptions{FieldManager: "kusion"}); err != nil {
		t.Fatal(err)
	}
	const revision = "deployment.kubernetes.io/revision"
	for b.live("apps/v1 Deployment", "web").GetAnnotations()[revision] == "" { // its controller is done
		select {
		case <-b.Context().Done():
			t.Fatal("its controller did nothing")
		case <-time.After(20 * time.Millisecond):
		}
	}
	set := b.set(afterKusion)
	want := b.plan(set)
	b.want(want, `
adopt Deployment web: it exists and was not applied by this set; the fields of kusion are taken over
  - metadata.labels.goes: "away"
  + metadata.labels[weft.dev/owner]: "`+b.place.Namespace+`.app"
  - spec.minReadySeconds: 5
  ~ spec.replicas: 3 -> 1
  - spec.template.spec.containers[name=web].env[name=OLD]: {"name":"OLD","value":"gone"}
  ~ spec.template.spec.containers[name=web].image: "web:1" -> "web:2"
  ~ spec.template.spec.containers[name=web].imagePullPolicy: "Always" -> "IfNotPresent"
  ~ spec.template.spec.terminationGracePeriodSeconds: 7 -> 30
`)
	before := b.live("apps/v1 Deployment", "web")
	b.apply(set)
	after := b.live("apps/v1 Deployment", "web")
	counted := after.GetAnnotations() // its controller may have been quick to count the change
	counted[revision] = before.GetAnnotations()[revision]
	after.SetAnnotations(counted)
	if got := Diff(before, after); fmt.Sprint(got) != fmt.Sprint(want.Steps[0].Changes) {
		t.Errorf("planned %v\nhappened %v", want.Steps[0].Changes, got)
	}
	if r := b.apply(set); r.Changed() {
		t.Errorf("not at rest:\n%s", describePlan(r.Plan))
	}
}

func TestTakeOverFromServerSideApply(t *testing.T) {
	b := newBench(t)
	kubectl, err := New(b.place.Config, WithFieldManager("kubectl"))
	if err != nil {
		t.Fatal(err)
	}
	o := b.parse(oldDeployment)[0]
	o.SetNamespace(b.place.Namespace)
	r, _ := kubectl.kinds.find(b.Context(), o.GroupVersionKind())
	if _, err := kubectl.patch(b.Context(), r, o.Unstructured, patchOptions{}); err != nil {
		t.Fatal(err)
	}
	set := b.set(web)
	set.Objects = set.Objects[:1]
	b.apply(set)
	after := b.live("v1 ConfigMap", "settings")
	if got := fmt.Sprint(after.Object["data"]); got != "map[color:blue size:3]" {
		t.Errorf("data %s", got)
	}
	for _, e := range after.GetManagedFields() {
		if e.Manager != FieldManager {
			t.Errorf("%s still owns fields: %s", e.Manager, e.FieldsV1.String())
		}
	}
}

func TestConflictOnAdoptionNamesTheManager(t *testing.T) {
	b := newBench(t)
	other, err := New(b.place.Config, WithFieldManager("argocd"))
	if err != nil {
		t.Fatal(err)
	}
	o := b.parse(oldDeployment)[0]
	o.SetNamespace(b.place.Namespace)
	r, _ := other.kinds.find(b.Context(), o.GroupVersionKind())
	if _, err := other.patch(b.Context(), r, o.Unstructured, patchOptions{}); err != nil {
		t.Fatal(err)
	}
	set := b.set(web)
	b.wantError(b.refused(set), `app.yaml:4:8: ConfigMap `+b.place.Namespace+`/settings: data.color: is set by "argocd" to another value; leave the field out, or force`)
	set.Force = true
	b.apply(set)
	if got := fmt.Sprint(b.live("v1 ConfigMap", "settings").Object["data"]); got != "map[color:blue old:field size:3]" {
		t.Errorf("data %s", got)
	}
}
