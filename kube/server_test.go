package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/kube/manifest"
	kubetest "github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// bench is one test's namespace, a client that counts its requests, and short ways to use it.
type bench struct {
	testing.TB
	*Client
	place    kubetest.Place
	mu       sync.Mutex
	requests []string
}

func newBench(t testing.TB, opts ...Option) *bench {
	b := &bench{TB: t, place: kubetest.Namespace(t)}
	cfg := rest.CopyConfig(b.place.Config)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			b.mu.Lock()
			b.requests = append(b.requests, r.Method+" "+r.URL.Path+"?"+r.URL.RawQuery)
			b.mu.Unlock()
			return rt.RoundTrip(r)
		})
	})
	var err error
	if b.Client, err = New(cfg, opts...); err != nil {
		t.Fatal(err)
	}
	return b
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// taken returns the requests since the last call that are of the given method; "" for all.
func (b *bench) taken(method string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var some []string
	for _, r := range b.requests {
		if strings.HasPrefix(r, method) {
			some = append(some, r)
		}
	}
	b.requests = nil
	return some
}

func (b *bench) parse(text string) []manifest.Object {
	b.Helper()
	objects, err := manifest.Parse("app.yaml", []byte(text), manifest.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	return objects
}

func (b *bench) set(text string) Set {
	b.Helper()
	return Set{Owner: Owner{Namespace: b.place.Namespace, Name: "app"}, Objects: b.parse(text)}
}

func (b *bench) apply(set Set) *Result {
	b.Helper()
	r, err := b.Apply(b.Context(), set)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (b *bench) plan(set Set) *Plan {
	b.Helper()
	p, err := b.Plan(b.Context(), set)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// refused plans a set that must not pass, and returns the errors.
func (b *bench) refused(set Set) string {
	b.Helper()
	p, err := b.Plan(b.Context(), set)
	if err == nil {
		b.Fatalf("planned: %v", describePlan(p))
	}
	return err.Error()
}

func (b *bench) live(kind, name string) *unstructured.Unstructured {
	b.Helper()
	u := &unstructured.Unstructured{}
	version, k, _ := strings.Cut(kind, " ")
	u.SetAPIVersion(version)
	u.SetKind(k)
	u.SetNamespace(b.place.Namespace)
	u.SetName(name)
	live, err := b.Get(b.Context(), u)
	if err != nil {
		b.Fatal(err)
	}
	return live
}

func describePlan(p *Plan) string {
	var out strings.Builder
	for _, s := range p.Steps {
		id := s.Object
		id.Namespace = ""
		fmt.Fprintf(&out, "%s %s: %s\n", s.Action, id, s.Reason)
		for _, c := range s.Changes {
			fmt.Fprintf(&out, "  %s\n", c)
		}
	}
	return out.String()
}

func (b *bench) want(p *Plan, want string) {
	b.Helper()
	if got := describePlan(p); got != strings.TrimLeft(want, "\n") {
		b.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func (b *bench) wantError(got string, want ...string) {
	b.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			b.Errorf("the error does not say %q:\n%s", w, got)
		}
	}
}

const web = `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue, size: "3"}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {password: hunter2}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: app
        image: example.org/app:1
        resources: {limits: {cpu: 1000m}}
`

func TestLifeOfASet(t *testing.T) {
	b := newBench(t)
	set := b.set(web)
	b.want(b.plan(set), `
create ConfigMap settings: it is not in the cluster
create Secret key: it is not in the cluster
create Deployment web: it is not in the cluster
`)
	if b.live("v1 ConfigMap", "settings") != nil {
		t.Fatal("planning made an object")
	}
	if r := b.apply(set); r.Counts[Create] != 3 || !r.Changed() {
		t.Errorf("counts %v", r.Counts)
	}

	b.taken("")
	r := b.apply(set)
	if r.Changed() || r.Counts[Unchanged] != 3 {
		t.Errorf("unchanged set: counts %v\n%s", r.Counts, describePlan(r.Plan))
	}
	requests := b.taken("")
	if len(requests) != 4 { // the inventory and one list for each of three kinds
		t.Errorf("an unchanged run made %d requests:\n%s", len(requests), strings.Join(requests, "\n"))
	}
	for _, q := range requests {
		if !strings.HasPrefix(q, "GET ") {
			t.Errorf("an unchanged run wrote: %s", q)
		}
	}

	set.Objects = b.parse(strings.NewReplacer("blue", "red", "hunter2", "hunter22", "app:1", "app:2", `, size: "3"`, "").Replace(web))
	b.want(b.plan(set), `
update ConfigMap settings: the manifest changed
  ~ data.color: "blue" -> "red"
  - data.size: "3"
update Secret key: the manifest changed
  ~ data.password: (hidden, 7 bytes) -> (hidden, 8 bytes)
update Deployment web: the manifest changed
  ~ spec.template.spec.containers[name=app].image: "example.org/app:1" -> "example.org/app:2"
`)
	b.apply(set)
	if got := b.live("v1 ConfigMap", "settings").Object["data"]; fmt.Sprint(got) != "map[color:red]" {
		t.Errorf("data %v", got)
	}

	set.Objects = set.Objects[:1]
	b.want(b.plan(set), `
unchanged ConfigMap settings: as it was applied
delete Deployment web: no longer in the set
delete Secret key: no longer in the set
`)
	b.apply(set)
	if b.live("v1 Secret", "key") != nil || b.live("apps/v1 Deployment", "web") != nil {
		t.Error("not pruned")
	}
	if _, err := b.Delete(b.Context(), set); err != nil {
		t.Fatal(err)
	}
	if b.live("v1 ConfigMap", "settings") != nil || b.live("v1 Secret", "weft-app") != nil {
		t.Error("deleting the set left something")
	}
}

func TestDriftIsFoundAndRepaired(t *testing.T) {
	b := newBench(t)
	set := b.set(web)
	b.apply(set)
	b.merge("v1 ConfigMap", "settings", `{"data":{"color":"green","foreign":"x"}}`, "someone")
	b.merge("apps/v1 Deployment", "web", `{"metadata":{"annotations":{"note":"theirs"}}}`, "someone")
	p := b.refused(set)
	b.wantError(p, `app.yaml:4:8: ConfigMap `+b.place.Namespace+`/settings: data.color: is set by "someone" to another value`)

	set.Force = true
	b.want(b.plan(set), `
update ConfigMap settings: it was changed outside of this set, last by "someone"
  ~ data.color: "green" -> "blue"
unchanged Secret key: as it was applied
unchanged Deployment web: as it was applied
`)
	b.apply(set)
	if got := b.live("v1 ConfigMap", "settings").Object["data"]; fmt.Sprint(got) != "map[color:blue foreign:x size:3]" {
		t.Errorf("data %v: a foreign field must stay", got)
	}
	if err := b.on(secretResource, b.place.Namespace).Delete(b.Context(), "key", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	set.Force = false
	if got := describePlan(b.plan(set)); !strings.Contains(got, "create Secret key: it was deleted outside of this set\n") {
		t.Errorf("plan\n%s", got)
	}
}

// merge changes an object as another manager.
func (b *bench) merge(kind, name, patch, manager string) {
	b.Helper()
	live := b.live(kind, name)
	r, err := b.kinds.find(b.Context(), live.GroupVersionKind())
	if err != nil {
		b.Fatal(err)
	}
	_, err = b.on(r, b.place.Namespace).Patch(b.Context(), name, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{FieldManager: manager})
	if err != nil {
		b.Fatal(err)
	}
}

func TestErrorsNameTheirPlaceAndChangeNothing(t *testing.T) {
	b := newBench(t)
	set := b.set(`apiVersion: v1
kind: ConfigMap
metadata: {name: good}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicaz: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: app
        image: x
        ports:
        - containerPort: "80"
---
apiVersion: v1
kind: Service
metadata: {name: UPPER}
spec:
  ports:
  - port: 99999
---
apiVersion: v1
kind: ConfigMap
metadata: {name: lost, namespace: nowhere-at-all}
`)
	b.wantError(b.refused(set),
		"app.yaml:9:3: Deployment "+b.place.Namespace+"/web: spec.replicaz: unknown field; did you mean \"replicas\"?",
		"app.yaml:18:11: Deployment "+b.place.Namespace+"/web: spec.template.spec.containers[0].ports[0].containerPort: expected an integer, found string",
		"app.yaml:22:12: Service "+b.place.Namespace+"/UPPER: metadata.name: Invalid value",
		"app.yaml:25:5: Service "+b.place.Namespace+"/UPPER: spec.ports[0].port: Invalid value: 99999",
		`app.yaml:29:24: ConfigMap nowhere-at-all/lost: metadata.namespace: the namespace "nowhere-at-all" does not exist`)
	if b.live("v1 ConfigMap", "good") != nil || b.live("v1 Secret", "weft-app") != nil {
		t.Error("something was changed although the set is wrong")
	}

	b.wantError(b.refused(b.set("apiVersion: v2\nkind: ConfigMap\nmetadata: {name: a}\n")), "app.yaml:2:1: ConfigMap a: kind: the cluster serves no kind ConfigMap in v2; it serves it in v1")
	b.wantError(b.refused(b.set("apiVersion: x.y/v1\nkind: Nope\nmetadata: {name: a}\n")), "app.yaml:2:1: Nope.x.y a: kind: the cluster serves no kind Nope")
	twice := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: " + b.place.Namespace + "}\n"
	b.wantError(b.refused(b.set(twice)), "app.yaml:5:1: ConfigMap "+b.place.Namespace+"/a: already described at app.yaml:1:1")
	bad := b.set("")
	bad.Owner.Name = "Not A Name"
	b.wantError(b.refused(bad), `the owner "Not A Name" is no valid name`)
	bad = b.set("")
	bad.AllowDelete = []string{"Pod"}
	b.wantError(b.refused(bad), `cannot be allowed for kind "Pod"`)
}

func TestImmutableField(t *testing.T) {
	b := newBench(t)
	b.apply(b.set(web))
	b.wantError(b.refused(b.set(strings.ReplaceAll(web, "app: web", "app: other"))), "app.yaml:16:3: Deployment", "spec.selector:", "field is immutable; delete the object to have it made anew")
}

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

func TestDefinitionBeforeItsObjects(t *testing.T) {
	b := newBench(t)
	group := b.place.Namespace + ".example.org"
	crd := `apiVersion: ` + group + `/v1
kind: Widget
metadata: {name: w}
spec: {size: 3}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.` + group + `}
spec:
  group: ` + group + `
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties: {size: {type: integer}, color: {type: string, enum: [red, blue]}}
`
	wrong := b.set(strings.Replace(crd, "spec: {size: 3}", `spec: {sise: 3, color: green}`, 1))
	b.wantError(b.refused(wrong), "app.yaml:4:8: Widget."+group+" ", `spec.sise: unknown field; did you mean "size"?`,
		"app.yaml:4:17: Widget", "spec.color: green is not allowed; expected one of [red blue]", "spec.size: missing; it is required")
	set := b.set(crd)
	b.want(b.plan(set), `
create CustomResourceDefinition widgets.`+group+`: it is not in the cluster
create Widget.`+group+` w: its kind is defined in the same set
`)
	b.apply(set)
	if b.live(group+"/v1 Widget", "w") == nil {
		t.Fatal("no widget")
	}
	if r := b.apply(set); r.Changed() {
		t.Errorf("not at rest:\n%s", describePlan(r.Plan))
	}
	set.Objects, set.AllowDelete, set.Wait = nil, []string{"CustomResourceDefinition"}, true
	b.apply(set)
	if b.live("apiextensions.k8s.io/v1 CustomResourceDefinition", "widgets."+group) != nil {
		t.Error("the definition was left")
	}
}

func TestNamespacesOfTheSet(t *testing.T) {
	b := newBench(t)
	name := b.place.Namespace + "-made"
	set := b.set("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: b, namespace: " + name + "2}\n")
	set.Owner.Namespace, set.CreateNamespaces = name, true
	b.apply(set)
	if r := b.apply(set); r.Changed() || r.Counts[Unchanged] != 2 {
		t.Errorf("counts %v\n%s", r.Counts, describePlan(r.Plan))
	}
	set.Objects, set.AllowDelete = nil, []string{"Namespace"}
	r := b.apply(set)
	if r.Counts[Delete] != 4 {
		t.Errorf("counts %v\n%s", r.Counts, describePlan(r.Plan))
	}
}

// TestInterruptedApply ends an apply after some of its writes and looks that the next run knows what was made.
func TestInterruptedApply(t *testing.T) {
	b := newBench(t)
	var text strings.Builder
	for i := range 20 {
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%02d}\ndata: {a: b}\n", i)
	}
	set := b.set(text.String())
	set.Workers = 2
	ctx, cancel := context.WithCancel(b.Context())
	done := 0
	set.Progress = func(Event) {
		if done++; done == 7 {
			cancel()
		}
	}
	if _, err := b.Apply(ctx, set); err == nil {
		t.Fatal("a cancelled apply gave no error")
	}
	// Even an inventory that was never completed has to find them: take the UIDs out, as after a crash.
	inv, err := b.Inventory(b.Context(), set.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Entries) != 20 {
		t.Fatalf("%d entries were announced", len(inv.Entries))
	}
	for i, e := range inv.Entries {
		inv.Entries[i] = Entry{Identity: e.Identity}
	}
	if err := b.saveInventory(b.Context(), set.Owner, inv); err != nil {
		t.Fatal(err)
	}
	set.Objects, set.Progress = nil, nil
	b.apply(set)
	left, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).List(b.Context(), metav1.ListOptions{LabelSelector: OwnerLabel})
	if err != nil || len(left.Items) != 0 {
		t.Errorf("%d objects were forgotten, %v", len(left.Items), err)
	}
}

func TestTwoRunsAtOnce(t *testing.T) {
	b := newBench(t)
	set := b.set(web)
	b.apply(set)
	set.Objects = b.parse(strings.ReplaceAll(web, "name: key", "name: key2"))
	p := b.plan(set)
	inv, err := b.Inventory(b.Context(), set.Owner)
	if err != nil {
		t.Fatal(err)
	}
	inv.Entries = inv.Entries[1:]
	if err := b.saveInventory(b.Context(), set.Owner, inv); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ApplyPlan(b.Context(), p); err == nil || !strings.Contains(err.Error(), "another run changes the same objects") {
		t.Errorf("error %v", err)
	}
	if b.live("v1 Secret", "key2") != nil {
		t.Error("the second run wrote although it was late")
	}
}

func TestInventoryInTheWay(t *testing.T) {
	b := newBench(t)
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "weft-app"}}}
	if _, err := b.on(secretResource, b.place.Namespace).Create(b.Context(), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.wantError(b.refused(b.set(web)), "Secret "+b.place.Namespace+"/weft-app is in the way")
}

func TestWarningsAreTold(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.set("apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\n"))
	if !slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.Contains(w, "deprecated") }) {
		t.Errorf("warnings %q", p.Warnings)
	}
}

// beKubelet stands in for a node: it writes the given status to every pod of the namespace until the test ends.
func (b *bench) beKubelet(status string) {
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(cancel)
	go func() {
		_ = b.follow(ctx, podResource, b.place.Namespace, metav1.ListOptions{}, func(u *unstructured.Unstructured, gone bool) {
			if phase, _, _ := unstructured.NestedString(u.Object, "status", "phase"); gone || phase != "Pending" || u.GetDeletionTimestamp() != nil {
				return
			}
			_, _ = b.on(podResource, b.place.Namespace).Patch(ctx, u.GetName(), "application/merge-patch+json", []byte(`{"status":`+status+`}`),
				metav1.PatchOptions{FieldManager: "kubelet"}, "status")
		})
	}()
}

const running = `{"phase":"Running","conditions":[{"type":"Ready","status":"True"},{"type":"PodScheduled","status":"True"}],"containerStatuses":[{"name":"app","ready":true,"image":"x","imageID":"x","restartCount":0,"state":{"running":{}}}]}`

func TestWaitUntilReady(t *testing.T) {
	b := newBench(t)
	b.beKubelet(running)
	set := b.set(web + `---
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota}
spec: {hard: {configmaps: "100"}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: paused}
spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: app, image: x}]}}}
`)
	set.Wait = true
	var told []string
	set.Progress = func(e Event) {
		told = append(told, fmt.Sprintf("%s %s %s %d/%d", e.Phase, e.Object.Kind, e.State, e.Done, e.Total))
	}
	b.apply(set)
	if len(told) == 0 || !slices.Contains(told, "wait Deployment ready 3/3") && !slices.Contains(told, "wait Deployment ready 2/3") && !slices.Contains(told, "wait Deployment ready 1/3") {
		t.Errorf("progress %q", told)
	}
	available, _, _ := unstructured.NestedInt64(b.live("apps/v1 Deployment", "web").Object, "status", "availableReplicas")
	if available != 2 {
		t.Errorf("came back with %d pods available", available)
	}
	b.taken("")
	if r := b.apply(set); r.Changed() {
		t.Error("not at rest")
	}
	if requests := b.taken(""); len(requests) != 6 {
		t.Errorf("waiting for what is ready asks again:\n%s", strings.Join(requests, "\n"))
	}
}

func TestWaitGivesUpWithTheReason(t *testing.T) {
	b := newBench(t)
	b.beKubelet(`{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"True"}],"containerStatuses":[{"name":"app","ready":false,"image":"x","imageID":"","restartCount":0,"state":{"waiting":{"reason":"InvalidImageName","message":"couldn't parse it"}}}]}`)
	set := b.set(strings.Replace(web, "replicas: 2", "replicas: 1\n  progressDeadlineSeconds: 3", 1))
	set.Wait = true
	_, err := b.Apply(b.Context(), set)
	var failure *WaitError
	if !errors.As(err, &failure) || !failure.Failed {
		t.Fatalf("error %v", err)
	}
	b.wantError(err.Error(), "app.yaml:11:1: Deployment "+b.place.Namespace+"/web: it got no further for 3 s: pod web-", "container app: InvalidImageName: couldn't parse it")
	set.Objects = set.Objects[:2]
	set.Wait = false
	b.apply(set)
	if b.live("apps/v1 Deployment", "web") != nil {
		t.Error("an apply that failed to become ready was not recorded, so it cannot be pruned")
	}
}

func TestWaitEndsInTime(t *testing.T) {
	b := newBench(t)
	set := b.set(web)
	set.Wait, set.Timeout = true, 2*time.Second
	_, err := b.Apply(b.Context(), set)
	if err == nil {
		t.Fatal("no error although no node runs pods")
	}
	b.wantError(err.Error(), "/web: not ready in time: 0 of 2 pods available: pod web-", "no nodes available to schedule pods")
	ctx, cancel := context.WithCancel(b.Context())
	set.Timeout = time.Minute
	set.Progress = func(Event) { cancel() }
	if _, err := b.Apply(ctx, set); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestFlakyServer answers many requests with 429 or 503, and cuts off the answers of others that were carried out.
func TestFlakyServer(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 2))
	faults := 0
	cfg := rest.CopyConfig(b.place.Config)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			n := random.IntN(10)
			if n < 3 && strings.Contains(r.URL.Path, b.place.Namespace) {
				faults++
			} else {
				n = 9
			}
			mu.Unlock()
			answer := func(code int) (*http.Response, error) {
				return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: http.Header{}, Body: http.NoBody, Request: r}, nil
			}
			switch n {
			case 0:
				return answer(http.StatusTooManyRequests)
			case 1:
				return answer(http.StatusServiceUnavailable)
			case 2:
				if response, err := rt.RoundTrip(r); err == nil {
					response.Body.Close()
				}
				return nil, syscall.ECONNRESET
			}
			return rt.RoundTrip(r)
		})
	})
	flaky, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	set := b.set(objects(40, "x"))
	if _, err := flaky.Apply(b.Context(), set); err != nil {
		t.Fatal(err)
	}
	if faults == 0 {
		t.Fatal("no fault was injected")
	}
	if r := b.apply(set); r.Changed() || r.Counts[Unchanged] != 40 {
		t.Errorf("counts %v\n%s", r.Counts, describePlan(r.Plan))
	}
	set.Objects = nil
	if _, err := flaky.Apply(b.Context(), set); err != nil {
		t.Fatal(err)
	}
	left, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).List(b.Context(), metav1.ListOptions{LabelSelector: OwnerLabel})
	if err != nil || len(left.Items) != 0 {
		t.Errorf("%d objects left, %v", len(left.Items), err)
	}
}
