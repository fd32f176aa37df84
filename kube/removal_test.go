package kube

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestPruneSparesWhatItMust(t *testing.T) {
	b := newBench(t)
	ns2 := b.place.Namespace + "-b"
	text := `apiVersion: v1
kind: ConfigMap
metadata: {name: kept, annotations: {weft.dev/keep: "true"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: remade}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: gone}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: inside, namespace: ` + ns2 + `}
---
apiVersion: v1
kind: Namespace
metadata: {name: ` + ns2 + `}
`
	b.apply(b.set(text))
	cm := Resource{GVR: secretResource.GVR.GroupVersion().WithResource("configmaps"), Namespaced: true}
	remade := b.live("v1 ConfigMap", "remade")
	if err := b.on(cm, b.place.Namespace).Delete(b.Context(), "remade", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	clean := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "remade", "labels": map[string]any{OwnerLabel: remade.GetLabels()[OwnerLabel]}}}}
	if _, err := b.on(cm, b.place.Namespace).Create(b.Context(), clean, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	empty := b.set("")
	p := b.plan(empty)
	b.want(p, `
delete ConfigMap gone: no longer in the set
forget ConfigMap kept: no longer in the set, but its annotation weft.dev/keep says to keep it
forget ConfigMap remade: another object has its name by now
delete ConfigMap inside: no longer in the set
keep PersistentVolumeClaim data: no longer in the set, but the data on it may go with it; allow deleting PersistentVolumeClaim to have it removed
keep Namespace `+ns2+`: no longer in the set, but everything in it goes with it; allow deleting Namespace to have it removed
`)
	b.apply(empty)
	if b.live("v1 ConfigMap", "kept") == nil || b.live("v1 ConfigMap", "remade") == nil || b.live("v1 PersistentVolumeClaim", "data") == nil {
		t.Error("something was deleted that had to stay")
	}
	if got := b.live("v1 ConfigMap", "kept").GetLabels()[OwnerLabel]; got != "" {
		t.Errorf("a forgotten object still says that it belongs to %q", got)
	}
	if b.live("v1 ConfigMap", "gone") != nil {
		t.Error("not pruned")
	}
	empty.AllowDelete = []string{"Namespace", "PersistentVolumeClaim"}
	b.apply(empty)
	if n := b.live("v1 Namespace", ns2); n != nil && n.GetDeletionTimestamp() == nil {
		t.Error("the namespace was not deleted although it was allowed")
	}
	if b.live("v1 Secret", "weft-app") != nil {
		t.Error("the empty inventory was left")
	}
}

func TestTwoOwners(t *testing.T) {
	b := newBench(t)
	set := b.set(web)
	set.Objects = set.Objects[:1]
	b.apply(set)
	second := set
	second.Owner.Name = "second"
	b.wantError(b.refused(second), `app.yaml:1:1: ConfigMap `+b.place.Namespace+`/settings: it belongs to "`+b.place.Namespace+`.app" already; give it another name, or adopt it`)
	second.Adopt = true
	b.apply(second)
	set.Objects = nil
	b.want(b.plan(set), `
forget ConfigMap settings: it belongs to "`+b.place.Namespace+`.second" by now
`)
	b.apply(set)
	if b.live("v1 ConfigMap", "settings").GetLabels()[OwnerLabel] != b.place.Namespace+".second" {
		t.Error("the new owner lost the object")
	}
}
