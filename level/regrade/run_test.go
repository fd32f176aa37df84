package regrade

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/level/feed"
	"github.com/weft-dev/weft/test/graded"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// world is an API server with levels, a workspace with a namespace and a secret, and doors that follow it.
type world struct {
	kube.Place
	*graded.Cluster
	t     *testing.T
	feeds []*feed.Feed
}

var (
	ofWorkspaces = graded.Resource("workspaces")
	ofNamespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	ofSecrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
)

func newWorld(t *testing.T, doors int) *world {
	place := kube.Namespace(t)
	w := &world{Place: place, Cluster: graded.New(t, place.Config), t: t}
	w.Install()
	w.Apply("registries", `{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: low}, {name: middle}, {name: high}], doors: {webhook: Enforce}}}`)
	w.Apply("workspaces", `{apiVersion: level.weft.dev/v1alpha1, kind: Workspace, metadata: {name: `+w.Namespace+`}}`)
	if _, err := w.Clients.CoreV1().Secrets(w.Namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Labels: map[string]string{api.LevelLabel: "middle"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.reset()
	t.Cleanup(func() {
		ctx := context.Background()
		for _, gone := range []struct{ of, name string }{{"regrades", Name}, {"registries", "cluster"}, {"workspaces", w.Namespace}, {"doors", "regrade-0"}, {"doors", "regrade-1"}} {
			_ = w.Objects.Resource(graded.Resource(gone.of)).Delete(ctx, gone.name, metav1.DeleteOptions{}) // it may never have been made
		}
	})
	for i := range doors {
		w.door("regrade-" + string(rune('0'+i)))
	}
	return w
}

// door starts a door that judges by a feed of its own.
func (w *world) door(name string) {
	w.t.Helper()
	f, err := feed.New(w.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	reporter := door.Reporter{Door: &door.Door{State: f.State, Kind: door.Webhook}, Name: name, Objects: w.Objects, Log: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = f.Run(ctx) }) // ends with the context
	all.Go(func() { reporter.Run(ctx) })
	w.t.Cleanup(func() { stop(); all.Wait() })
	w.feeds = append(w.feeds, f)
}

func (w *world) label(of schema.GroupVersionResource, in, name string, labels string) {
	w.t.Helper()
	var to dynamic.ResourceInterface = w.Objects.Resource(of)
	if in != "" {
		to = w.Objects.Resource(of).Namespace(in)
	}
	if _, err := to.Patch(w.t.Context(), name, "application/merge-patch+json", []byte(`{"metadata":{"labels":`+labels+`}}`), metav1.PatchOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// reset puts everything on the level middle.
func (w *world) reset() {
	w.t.Helper()
	w.label(ofWorkspaces, "", w.Namespace, `{"level.weft.dev/level":"middle"}`)
	w.label(ofNamespaces, "", w.Namespace, `{"level.weft.dev/level":"middle","level.weft.dev/workspace":"`+w.Namespace+`"}`)
	w.label(ofSecrets, w.Namespace, "s", `{"level.weft.dev/level":"middle"}`)
}

func (w *world) things(ctx context.Context) ([]Thing, error) {
	var all []Thing
	for _, x := range []struct {
		of             schema.GroupVersionResource
		kind, in, name string
	}{{ofWorkspaces, "Workspace", "", w.Namespace}, {ofNamespaces, "Namespace", "", w.Namespace}, {ofSecrets, "Secret", w.Namespace, "s"}} {
		var from dynamic.ResourceInterface = w.Objects.Resource(x.of)
		if x.in != "" {
			from = w.Objects.Resource(x.of).Namespace(x.in)
		}
		u, err := from.Get(ctx, x.name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		all = append(all, Thing{x.of.Group, x.of.Version, x.kind, x.of.Resource, x.in, x.name, string(u.GetUID()), u.GetLabels()})
	}
	return all, nil
}

// plan lowers the workspace: three labels change.
func (w *world) plan(ctx context.Context) (*Plan, error) {
	all, err := w.things(ctx)
	if err != nil {
		return nil, err
	}
	return Make(registry(w.t, api.Authority), all, 0, "low")
}

// levels are those of workspace, namespace and secret.
func (w *world) levels() string {
	w.t.Helper()
	all, err := w.things(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var text []string
	for _, x := range all {
		text = append(text, x.Labels[api.LevelLabel])
	}
	return strings.Join(text, " ")
}

func (w *world) under() bool {
	w.t.Helper()
	_, err := w.Objects.Resource(resource).Get(w.t.Context(), Name, metav1.GetOptions{})
	return err == nil
}

// run is a Run whose requests pass through a wire.
func (w *world) run(wire func(http.RoundTripper) http.RoundTripper) *Run {
	w.t.Helper()
	config := rest.CopyConfig(w.Config)
	if wire != nil {
		config.Wrap(wire)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		w.t.Fatal(err)
	}
	return &Run{Objects: objects, Patience: 20 * time.Second, Say: func(string, ...any) {}}
}

func (w *world) make() *Plan {
	w.t.Helper()
	p, err := w.plan(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// cut is a process that is killed at its n-th change of the cluster: from there on nothing leaves it any more. The change itself is made or not.
type cut struct {
	next  http.RoundTripper
	at    int64
	after bool // the API server still took the change
	seen  *atomic.Int64
}

var errKilled = errors.New("killed")

func (c cut) RoundTrip(r *http.Request) (*http.Response, error) {
	n := c.seen.Load()
	if r.Method != http.MethodGet {
		n = c.seen.Add(1)
	}
	if n > c.at || n == c.at && (r.Method == http.MethodGet || !c.after) {
		return nil, errKilled
	}
	answer, err := c.next.RoundTrip(r)
	if n == c.at && err == nil {
		_ = answer.Body.Close()
		return nil, errKilled
	}
	return answer, err
}

// watchDoors notes every answer that a door gives while a re-grading is under way that belongs neither to all levels before nor to all after.
func (w *world) watchDoors(ctx context.Context) (mixed func() string) {
	var found atomic.Pointer[string]
	var all sync.WaitGroup
	for _, f := range w.feeds {
		all.Go(func() {
			for ctx.Err() == nil {
				s := f.State()
				if s.Snapshot == nil {
					continue
				}
				// A user of the level low, without a clearance, must see nothing before and all after.
				nobody := s.Snapshot.Resolve("nobody", nil)
				secret := s.Snapshot.Decide(nobody, &level.Request{Verb: "get", Resource: "secrets", Namespace: w.Namespace, Name: "s"}).Denied
				other := s.Snapshot.Decide(nobody, &level.Request{Verb: "get", Resource: "secrets", Namespace: w.Namespace, Name: "t"}).Denied
				if secret != other {
					text := "the secret is denied: " + map[bool]string{true: "yes", false: "no"}[secret] + ", what follows its namespace: " + map[bool]string{true: "yes", false: "no"}[other]
					found.Store(&text)
				}
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	return func() string {
		all.Wait()
		if text := found.Load(); text != nil {
			return *text
		}
		return ""
	}
}

func TestRegradesAsOne(t *testing.T) {
	w := newWorld(t, 2)
	ctx, stop := context.WithCancel(t.Context())
	mixed := w.watchDoors(ctx)
	for range 3 {
		if err := w.run(nil).Apply(t.Context(), w.make(), w.plan); err != nil {
			t.Fatal(err)
		}
		if got := w.levels(); got != "low low low" || w.under() {
			t.Fatalf("levels %s, still under way: %v", got, w.under())
		}
		// Back, as one as well.
		up := func(ctx context.Context) (*Plan, error) {
			all, err := w.things(ctx)
			if err != nil {
				return nil, err
			}
			return Make(registry(t, api.Authority), all, 2, "middle")
		}
		p, err := up(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.run(nil).Apply(t.Context(), p, up); err != nil {
			t.Fatal(err)
		}
		if got := w.levels(); got != "middle middle middle" {
			t.Fatalf("levels %s", got)
		}
	}
	stop()
	if text := mixed(); text != "" {
		t.Errorf("a door judged by a mixture: %s", text)
	}
}

// TestKilledAtEachStep ends a run before and after each change that it makes: the next one finishes or undoes it, and no door ever judges by a mixture.
func TestKilledAtEachStep(t *testing.T) {
	w := newWorld(t, 1)
	ctx, stop := context.WithCancel(t.Context())
	mixed := w.watchDoors(ctx)
	undone, finished := 0, 0
	for at := int64(1); ; at++ {
		for _, after := range []bool{false, true} {
			var seen atomic.Int64
			err := w.run(func(next http.RoundTripper) http.RoundTripper { return cut{next, at, after, &seen} }).Apply(t.Context(), w.make(), w.plan)
			if seen.Load() < at { // it never came to that change
				if err != nil {
					t.Fatal(err)
				}
				stop()
				if text := mixed(); text != "" {
					t.Errorf("a door judged by a mixture: %s", text)
				}
				if at < 7 || undone < 2 || finished < 6 { // create, labelling, three labels, releasing, delete
					t.Errorf("%d changes, %d times undone, %d times finished", at-1, undone, finished)
				}
				return
			}
			if err == nil {
				t.Fatalf("killed at %d, and nobody noticed", at)
			}
			did, err := w.run(nil).Recover(t.Context())
			if err != nil {
				t.Fatalf("killed at %d: %v", at, err)
			}
			switch got := w.levels(); {
			case w.under():
				t.Fatalf("killed at %d: it is still under way", at)
			case did == "undone" && got == "middle middle middle":
				undone++
			case did == "finished" && got == "low low low":
				finished++
			case did == "" && (got == "middle middle middle" || got == "low low low"):
			default:
				t.Fatalf("killed at %d, %s: levels %s", at, did, got)
			}
			if w.levels() != "middle middle middle" {
				back := func(ctx context.Context) (*Plan, error) {
					all, err := w.things(ctx)
					if err != nil {
						return nil, err
					}
					return Make(registry(t, api.Authority), all, 2, "middle")
				}
				p, err := back(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := w.run(nil).Apply(t.Context(), p, back); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestADoorThatDoesNotFollowStopsIt(t *testing.T) {
	w := newWorld(t, 0)
	u := &unstructured.Unstructured{Object: map[string]any{"report": map[string]any{"kind": "Webhook", "setting": "Enforce", "state": "Ready", "renewed": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")}}}
	u.SetAPIVersion(api.Group + "/" + api.Version)
	u.SetKind("Door")
	u.SetName("regrade-0")
	if _, err := w.Objects.Resource(door.Resource).Apply(t.Context(), "regrade-0", u, metav1.ApplyOptions{FieldManager: "test"}); err != nil {
		t.Fatal(err)
	}
	run := w.run(nil)
	run.Patience = time.Second
	var wait *WaitError
	if err := run.Apply(t.Context(), w.make(), w.plan); !errors.As(err, &wait) || strings.Join(wait.Doors, " ") != "regrade-0" {
		t.Fatalf("got %v", err)
	}
	if got := w.levels(); got != "middle middle middle" || w.under() {
		t.Errorf("levels %s, under way: %v", got, w.under())
	}
}

func TestLevelsThatChangedMeanwhileAreNotTrodOn(t *testing.T) {
	w := newWorld(t, 0)
	p := w.make()
	w.label(ofSecrets, w.Namespace, "s", `{"level.weft.dev/level":"low"}`)
	if err := w.run(nil).Apply(t.Context(), p, w.plan); !errors.Is(err, ErrChanged) {
		t.Fatalf("got %v", err)
	}
	if got := w.levels(); got != "middle middle low" || w.under() {
		t.Errorf("levels %s, under way: %v", got, w.under())
	}
}
