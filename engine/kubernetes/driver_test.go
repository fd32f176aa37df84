package kubernetes

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/drivertest"
	"github.com/weft-dev/weft/kube"
	kubetest "github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

type tree = map[string]any

func driver(t testing.TB, place kubetest.Place, opts Options) *Driver {
	client, err := kube.New(place.Config)
	if err != nil {
		t.Fatal(err)
	}
	opts.Namespace, opts.Owner = place.Namespace, "test"
	return New(client, opts)
}

func configMap(name string, data tree) engine.Resource {
	return engine.Resource{ID: engine.ID("v1:ConfigMap:" + name), Type: "kubernetes",
		Inputs: tree{"apiVersion": "v1", "kind": "ConfigMap", "metadata": tree{"name": name}, "data": data}}
}

func TestCompliance(t *testing.T) {
	place := kubetest.Namespace(t)
	maps := place.Clients.CoreV1().ConfigMaps(place.Namespace)
	drivertest.Kit{
		Driver:   driver(t, place, Options{Force: true}),
		Resource: configMap("kit", tree{"a": "1", "b": "2"}),
		Changed:  configMap("kit", tree{"a": "3"}),
		Disturb: func(t testing.TB) {
			if _, err := maps.Patch(t.Context(), "kit", types.MergePatchType, []byte(`{"data":{"a":"theirs"}}`), metav1.PatchOptions{FieldManager: "someone"}); err != nil {
				t.Fatal(err)
			}
		},
		Remove: func(t testing.TB) {
			if err := maps.Delete(t.Context(), "kit", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		Exists: func(t testing.TB) bool {
			list, err := maps.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=kit"})
			if err != nil {
				t.Fatal(err)
			}
			return len(list.Items) > 0
		},
	}.Run(t)
}

type log struct{ records [][]byte }

func (l *log) Append(b []byte) (uint64, error) {
	l.records = append(l.records, append([]byte(nil), b...))
	return uint64(len(l.records)), nil
}
func (l *log) Post(b []byte) (uint64, error) { return l.Append(b) }
func (l *log) Compact([]byte) error          { return nil }

type rig struct {
	testing.TB
	driver *Driver
	log    log
}

func (r *rig) engine() *engine.Engine {
	r.Helper()
	var first sync.Mutex
	state, err := engine.Load(&locked{&first, &r.log}, nil, r.log.records, uint64(len(r.log.records)), nil)
	if err != nil {
		r.Fatal(err)
	}
	e, err := engine.New(state, engine.Options{Drivers: map[string]engine.Driver{"kubernetes": r.driver}, Retries: -1})
	if err != nil {
		r.Fatal(err)
	}
	return e
}

type locked struct {
	mu  *sync.Mutex
	log *log
}

func (l *locked) Append(b []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Append(b)
}
func (l *locked) Post(b []byte) (uint64, error) { return l.Append(b) }
func (l *locked) Compact(b []byte) error        { return l.log.Compact(b) }

func (r *rig) plan(set ...engine.Resource) (*engine.Plan, *engine.Engine) {
	r.Helper()
	e := r.engine()
	p, err := e.Plan(r.Context(), set)
	if err != nil {
		r.Fatal(err)
	}
	return p, e
}

func (r *rig) apply(set ...engine.Resource) {
	r.Helper()
	p, e := r.plan(set...)
	if _, err := e.Apply(r.Context(), p); err != nil {
		r.Fatal(err)
	}
}

func actions(p *engine.Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%s %s: %s\n", s.Action, s.ID, s.Cause)
		for _, c := range s.Changes {
			fmt.Fprintf(&b, "  %s: %v -> %v\n", c.Path, c.Before, c.After)
		}
	}
	return b.String()
}

func TestUnchangedPlanListsEachKindOnce(t *testing.T) {
	place := kubetest.Namespace(t)
	var mu sync.Mutex
	var requests []string
	cfg := rest.CopyConfig(place.Config)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			requests = append(requests, r.Method+" "+r.URL.Path)
			mu.Unlock()
			return rt.RoundTrip(r)
		})
	})
	client, err := kube.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, driver: New(client, Options{Owner: "test", Namespace: place.Namespace})}
	var set []engine.Resource
	for i := range 20 {
		set = append(set, configMap(fmt.Sprint("c", i), tree{"i": fmt.Sprint(i)}))
	}
	account := engine.Resource{ID: "v1:ServiceAccount:a", Type: "kubernetes", Inputs: tree{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": tree{"name": "a"}}}
	set = append(set, account)
	r.apply(set...)
	mu.Lock()
	requests = nil
	mu.Unlock()
	if p, _ := r.plan(set...); p.Changed() {
		t.Errorf("not at rest:\n%s", actions(p))
	}
	if len(requests) != 2 {
		t.Errorf("%d requests:\n%s", len(requests), strings.Join(requests, "\n"))
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestReferencesUnknownAndDiff(t *testing.T) {
	place := kubetest.Namespace(t)
	r := &rig{TB: t, driver: driver(t, place, Options{})}
	a := configMap("a", tree{"x": "1"})
	b := configMap("b", tree{"uid": engine.Reference{Resource: a.ID, Path: []string{"metadata", "uid"}}, "x": engine.Reference{Resource: a.ID, Path: []string{"data", "x"}}})
	r.apply(b, a)
	live, err := place.Clients.CoreV1().ConfigMaps(place.Namespace).Get(t.Context(), "b", metav1.GetOptions{})
	if err != nil || live.Data["x"] != "1" || len(live.Data["uid"]) != 36 {
		t.Fatal(live.Data, err)
	}
	a.Inputs = configMap("a", tree{"x": "2"}).Inputs
	p, e := r.plan(b, a)
	if got := actions(p); got != `update v1:ConfigMap:a: its inputs changed
  data.x: 1 -> 2
update v1:ConfigMap:b: its inputs changed
  data.x: 1 -> (known after apply)
` {
		t.Errorf("got\n%s", got)
	}
	if _, err := e.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if live, _ := place.Clients.CoreV1().ConfigMaps(place.Namespace).Get(t.Context(), "b", metav1.GetOptions{}); live.Data["x"] != "2" {
		t.Errorf("data %v", live.Data)
	}
}

func TestReplaceImmutableField(t *testing.T) {
	place := kubetest.Namespace(t)
	r := &rig{TB: t, driver: driver(t, place, Options{})}
	secret := func(value string) engine.Resource {
		return engine.Resource{ID: "s", Type: "kubernetes", Inputs: tree{"apiVersion": "v1", "kind": "Secret", "metadata": tree{"name": "s"}, "immutable": true, "stringData": tree{"a": value}}}
	}
	r.apply(secret("1"))
	p, _ := r.plan(secret("2"))
	if got := actions(p); !strings.HasPrefix(got, "replace s: ") || !strings.Contains(got, "field is immutable") {
		t.Errorf("got\n%s", got)
	}
	r.apply(secret("2"))
	live, err := place.Clients.CoreV1().Secrets(place.Namespace).Get(t.Context(), "s", metav1.GetOptions{})
	if err != nil || string(live.Data["a"]) != "2" {
		t.Errorf("%s, %v", live.Data["a"], err)
	}
}

func TestWrongFieldsConflictsAndPreciousKinds(t *testing.T) {
	place := kubetest.Namespace(t)
	r := &rig{TB: t, driver: driver(t, place, Options{})}
	wrong := engine.Resource{ID: "d", Type: "kubernetes", Origin: "stack.k:7:3", Inputs: tree{"apiVersion": "v1", "kind": "ConfigMap", "metadata": tree{"name": "d"}, "dada": tree{}}}
	if _, err := r.engine().Plan(t.Context(), []engine.Resource{wrong}); err == nil || !strings.Contains(err.Error(), "stack.k:7:3: d: ") || !strings.Contains(err.Error(), "dada: unknown field") {
		t.Errorf("error %v", err)
	}
	a := configMap("a", tree{"x": "1"})
	r.apply(a)
	if _, err := place.Clients.CoreV1().ConfigMaps(place.Namespace).Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"x":"theirs"}}`), metav1.PatchOptions{FieldManager: "someone"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.engine().Plan(t.Context(), []engine.Resource{a}); err == nil || !strings.Contains(err.Error(), `data.x: is set by "someone"`) {
		t.Errorf("error %v", err)
	}
	if _, err := r.engine().Plan(t.Context(), []engine.Resource{a, {ID: "other", Type: "kubernetes", Inputs: a.Inputs}}); err == nil || !strings.Contains(err.Error(), "are the same object") {
		t.Errorf("error %v", err)
	}
	ns := engine.Resource{ID: "ns", Type: "kubernetes", Inputs: tree{"apiVersion": "v1", "kind": "Namespace", "metadata": tree{"name": place.Namespace + "-x"}}}
	second := &rig{TB: t, driver: driver(t, place, Options{})}
	second.apply(ns)
	p, e := second.plan()
	if _, err := e.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := actions(p); got != "retain ns: it is no longer wanted: everything in it goes with it; allow deleting Namespace to have it removed\n" {
		t.Errorf("plan %q", got)
	}
	inside := engine.Resource{ID: "inside", Type: "kubernetes", DependsOn: []engine.ID{"ns"},
		Inputs: tree{"apiVersion": "v1", "kind": "ConfigMap", "metadata": tree{"name": "x", "namespace": place.Namespace + "-x"}}}
	second.apply(ns, inside)
	outside := inside
	outside.DependsOn = nil
	if p, _ := second.plan(outside); !strings.Contains(actions(p), "everything in it goes with it: ConfigMap (1); allow deleting Namespace") {
		t.Errorf("plan %s", actions(p))
	}
	second.driver = driver(t, place, Options{AllowDelete: []string{"Namespace"}})
	second.apply()
}
