package kube

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

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

func TestWarningsAreTold(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.set("apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\n"))
	if !slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.Contains(w, "deprecated") }) {
		t.Errorf("warnings %q", p.Warnings)
	}
}
