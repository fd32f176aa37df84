package feed

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

// watched is one watch and what it has told. Its fields are guarded by the feed's lock.
type watched struct {
	feed     *Feed
	key      watchKey
	stop     context.CancelFunc
	critical bool
	synced   bool
	lost     time.Time // since when the watch does not work; zero if it does
	err      error
	objects  map[name]runtime.Object
}

type name struct{ namespace, name string }

// retry is how often a lost watch is tried again: revocations must not wait for it.
var retry = wait.Backoff{Duration: 100 * time.Millisecond, Factor: 1.5, Jitter: 0.1, Steps: 10, Cap: time.Second}

// follow starts a watch unless it runs.
func (f *Feed) follow(ctx context.Context, running *sync.WaitGroup, key watchKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watches[key] != nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	w := &watched{feed: f, key: key, stop: stop, critical: key.isCritical(), lost: time.Now(), objects: map[name]runtime.Object{}}
	f.watches[key] = w
	backoff := retry
	reflector := cache.NewReflectorWithOptions(w.listWatch(), nil, w, cache.ReflectorOptions{Name: "levels " + key.String(), TypeDescription: key.String(), Backoff: &backoff})
	running.Go(func() { reflector.RunWithContext(ctx) })
}

func (w *watched) listWatch() cache.ListerWatcher {
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		l, err := w.feed.metas.Resource(w.key.resource).List(ctx, w.key.options(o))
		w.told(err)
		return l, err
	}
	follow := func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		i, err := w.feed.metas.Resource(w.key.resource).Watch(ctx, w.key.options(o))
		return w.open(i, err)
	}
	if w.key.whole() {
		list = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			l, err := w.feed.objects.Resource(w.key.resource).List(ctx, w.key.options(o))
			w.told(err)
			return l, err
		}
		follow = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			i, err := w.feed.objects.Resource(w.key.resource).Watch(ctx, w.key.options(o))
			return w.open(i, err)
		}
	}
	return &cache.ListWatch{ListWithContextFunc: list, WatchFuncWithContext: follow}
}

func (w *watched) open(i watch.Interface, err error) (watch.Interface, error) {
	w.told(err)
	if err != nil {
		return nil, err
	}
	// The stream's end is seen at once, before the next try: an idle one that ended in order is no loss unless that try fails.
	return watch.Filter(i, func(e watch.Event) (watch.Event, bool) {
		if e.Type == watch.Error {
			w.told(fmt.Errorf("the watch ended: %v", e.Object))
		}
		return e, true
	}), nil
}

// told notes whether the API server answered.
func (w *watched) told(err error) {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	was := w.lost
	w.err = err
	switch {
	case err == nil:
		w.lost = time.Time{}
	case w.lost.IsZero():
		w.lost = time.Now()
	}
	if was.IsZero() != w.lost.IsZero() {
		w.feed.signal()
	}
}

func nameOf(o any) (name, runtime.Object, bool) {
	object, ok := o.(runtime.Object)
	if !ok {
		return name{}, nil, false
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return name{}, nil, false
	}
	m.SetManagedFields(nil)
	return name{m.GetNamespace(), m.GetName()}, object, true
}

// Add takes an object that the watch told.
func (w *watched) Add(o any) error {
	n, object, ok := nameOf(o)
	if !ok {
		return fmt.Errorf("%s: %T is no object", w.key, o)
	}
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	if old := w.objects[n]; old != nil && sameLabels(w.key, old, object) {
		w.objects[n] = object
		return nil
	}
	w.objects[n] = object
	w.changed(n)
	return nil
}

// Update takes an object that the watch told.
func (w *watched) Update(o any) error { return w.Add(o) }

// Delete forgets an object.
func (w *watched) Delete(o any) error {
	n, _, ok := nameOf(o)
	if !ok {
		return fmt.Errorf("%s: %T is no object", w.key, o)
	}
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	delete(w.objects, n)
	w.changed(n)
	return nil
}

// Replace takes all objects of the watch.
func (w *watched) Replace(all []any, _ string) error {
	objects := make(map[name]runtime.Object, len(all))
	for _, o := range all {
		n, object, ok := nameOf(o)
		if !ok {
			return fmt.Errorf("%s: %T is no object", w.key, o)
		}
		objects[n] = object
	}
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	first := !w.synced
	w.objects, w.synced = objects, true
	w.feed.dirty.all = w.feed.dirty.all || !first || len(objects) > 0
	if w.key == definitions {
		w.feed.looked = true
		w.feed.lookAtDefinitions(w)
	}
	w.feed.signal()
	return nil
}

// Resync does nothing.
func (w *watched) Resync() error { return nil }

// changed notes what a change means. The feed's lock is held.
func (w *watched) changed(n name) {
	f := w.feed
	switch {
	case w.key == definitions:
		f.lookAtDefinitions(w)
	case w.key == namespaces:
		f.dirty.namespaces = append(f.dirty.namespaces, n.name)
	case w.key == clearances:
		f.dirty.grants = true
	case w.key == nodes:
		f.dirty.nodes = true
	case w.key.label != "":
		f.dirty.objects = append(f.dirty.objects, n.namespace)
	default:
		f.dirty.all = true
	}
	f.signal()
}

// lookAtDefinitions sees whether the kinds of levels are there, and has kinds looked up again. The feed's lock is held.
func (f *Feed) lookAtDefinitions(w *watched) {
	f.hasKinds = true
	for _, key := range []watchKey{registries, clearances, workspaces, regrades} {
		if w.objects[name{"", key.resource.GroupResource().String()}] == nil {
			f.hasKinds = false
		}
	}
	f.dirty.kinds = true
}

// sameLabels says whether a change is none for levels: of most objects only labels count.
func sameLabels(key watchKey, old, now runtime.Object) bool {
	if key == definitions {
		return true
	}
	a, err1 := meta.Accessor(old)
	b, err2 := meta.Accessor(now)
	if err1 != nil || err2 != nil || key.whole() && (key != workspaces || a.GetGeneration() != b.GetGeneration() || a.GetUID() != b.GetUID()) {
		return false // of a workspace the status is none of our business, and it changes with every pod
	}
	for _, label := range []string{api.LevelLabel, api.TalkLabel, api.WorkspaceLabel, api.KubeSphereWS} {
		x, there := a.GetLabels()[label]
		y, here := b.GetLabels()[label]
		if x != y || there != here {
			return false
		}
	}
	return true
}

// health says which critical watches are lost too long, and what is wrong otherwise. The feed's lock is held.
func (f *Feed) health(now time.Time) (stale bool, problems []string) {
	if !f.failing.IsZero() && now.Sub(f.failing) >= f.Patience {
		stale = true
		problems = append(problems, "the API server does not answer")
	}
	for key, w := range f.watches {
		if w.lost.IsZero() || now.Sub(w.lost) < f.Patience {
			continue
		}
		stale = stale || w.critical
		reason := "not listed yet"
		if w.err != nil {
			reason = w.err.Error()
		}
		problems = append(problems, "the watch of "+key.String()+" is lost: "+reason)
	}
	for _, group := range f.broken {
		problems = append(problems, "the kinds of "+group+" could not be looked up")
	}
	slices.Sort(problems)
	return stale, problems
}

// complete says whether everything that is to be known was listed once. The feed's lock is held.
func (f *Feed) complete() bool {
	switch {
	case !f.looked:
		return false
	case !f.hasKinds:
		return true
	}
	for _, key := range core {
		if w := f.watches[key]; w == nil || !w.synced {
			return false
		}
	}
	if !f.listed {
		return false
	}
	for _, w := range f.watches {
		if w.critical && !w.synced {
			return false
		}
	}
	return true
}

func get(ctx context.Context, client *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}

// asUnstructured returns the objects of a watch that are whole, by name.
func (f *Feed) asUnstructured(key watchKey) []*unstructured.Unstructured {
	w := f.watches[key]
	if w == nil {
		return nil
	}
	var all []*unstructured.Unstructured
	for _, o := range w.objects {
		if u, ok := o.(*unstructured.Unstructured); ok {
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b *unstructured.Unstructured) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}
