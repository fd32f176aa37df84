// Package manager is the in-cluster process: it watches the resources of Weft's parts, asks each part what should be, and makes it so through package
// kube. It is level-triggered: every change leads to the whole state being planned anew by pure functions, and only what differs is written. The
// reconciler is one for all parts; what is a part's own stands in a file of its name.
package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/kube/manifest"
)

// Part is a part of Weft that the manager serves.
type Part interface {
	// Name is a word; the inventories of the part's sets begin with it.
	Name() string
	// Definitions are the CustomResourceDefinitions that the part needs.
	Definitions() ([]manifest.Object, error)
	// Resources are the kinds that it watches.
	Resources() []schema.GroupVersionResource
	// Plan says what should be, given all objects of the kinds. It reads what else it needs, and writes nothing.
	Plan(ctx context.Context, objects []*unstructured.Unstructured, read Reader, now time.Time) (*Plan, error)
}

// Watcher is a Part that plans anew when objects of further kinds change, which it reads itself.
type Watcher interface {
	Watches() []schema.GroupVersionResource
}

// Poller is a Part that also looks at what no watch tells.
type Poller interface {
	// Poll looks again and again until the context ends, and calls changed when a plan would say something else than before.
	Poll(ctx context.Context, read Reader, changed func())
}

// Reader reads objects.
type Reader interface {
	// Read gives nil without an error if there is no such object.
	Read(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error)
	// List gives the objects of a namespace that a label selector selects.
	List(ctx context.Context, resource schema.GroupVersionResource, namespace, selector string) ([]*unstructured.Unstructured, error)
}

// Plan is what should be.
type Plan struct {
	Sets     []Set
	Statuses []Status
}

// Set is the objects that one resource leads to. They are removed when the resource is gone.
type Set struct {
	Of      Ref
	Objects []manifest.Object
}

// Ref names a watched object.
type Ref struct {
	Resource  schema.GroupVersionResource
	Kind      string
	Namespace string
	Name      string
}

// Status is what is told about a watched object.
type Status struct {
	Ref
	Status map[string]any
	// Warnings become events when the status did not say them before.
	Warnings []Warning
}

// Warning is something that people should look at.
type Warning struct{ Reason, Message string }

// Manager serves parts.
type Manager struct {
	Config *rest.Config
	Parts  []Part
	Log    *slog.Logger
	// Install applies the parts' definitions first.
	Install bool
	// Resync is after how long everything is compared with the cluster again though nothing changed; default 5 minutes.
	Resync time.Duration
	// Settle is how long to wait for further changes; default 200 ms.
	Settle time.Duration
}

// Run serves until the context ends. Errors of single objects are logged, told in the status and tried again.
func (m *Manager) Run(ctx context.Context) error {
	if m.Log == nil {
		m.Log = slog.New(slog.DiscardHandler)
	}
	if m.Resync == 0 {
		m.Resync = 5 * time.Minute
	}
	if m.Settle == 0 {
		m.Settle = 200 * time.Millisecond
	}
	client, err := kube.New(m.Config)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	if m.Install {
		if err := m.install(ctx, client); err != nil {
			return err
		}
	}
	objects, err := dynamic.NewForConfig(m.Config)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	clients, err := kubernetes.NewForConfig(m.Config)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	changed := make(chan struct{}, 1)
	listers, err := m.watch(ctx, objects, changed)
	if err != nil {
		return err
	}
	r := &reconciler{client: client, objects: objects, clients: clients, log: m.Log, resync: m.Resync, applied: map[kube.Owner]applied{}}
	polls, stop := context.WithCancel(ctx)
	var polling sync.WaitGroup
	defer polling.Wait()
	defer stop()
	for _, part := range m.Parts {
		if p, ok := part.(Poller); ok {
			polling.Go(func() { p.Poll(polls, r, func() { tell(changed) }) })
		}
	}
	for {
		again := m.Resync
		for _, part := range m.Parts {
			if err := r.reconcile(ctx, part, listers[part.Name()]); err != nil && ctx.Err() == nil {
				m.Log.Error("reconciling", "part", part.Name(), "error", err)
				again = r.backoff(again)
			}
		}
		if !m.pause(ctx, changed, again) {
			return nil
		}
	}
}

// pause waits for a change and until changes settle, or for a time. It answers false when the context has ended.
func (m *Manager) pause(ctx context.Context, changed <-chan struct{}, longest time.Duration) bool {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	case <-changed:
	}
	settle := time.NewTimer(m.Settle)
	defer settle.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-settle.C:
	}
	select { // what came meanwhile is seen by the run that begins now
	case <-changed:
	default:
	}
	return true
}

func (m *Manager) install(ctx context.Context, client *kube.Client) error {
	for _, part := range m.Parts {
		definitions, err := part.Definitions()
		if err != nil {
			return err
		}
		for _, d := range definitions {
			if _, err := client.ApplyObject(ctx, d, true, true); err != nil {
				return fmt.Errorf("installing the definition %s: %w", d.GetName(), err)
			}
		}
		if err := client.Wait(ctx, definitions, nil); err != nil {
			return fmt.Errorf("installing definitions: %w", err)
		}
	}
	return nil
}

// tell says that something changed, unless that has been said and not been heard yet.
func tell(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}

// watch starts watching what parts need, and Secrets, ConfigMaps and what Watchers name without their content, and returns once all was listed.
func (m *Manager) watch(ctx context.Context, objects dynamic.Interface, changed chan<- struct{}) (map[string][]cache.GenericLister, error) {
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { tell(changed) }, DeleteFunc: func(any) { tell(changed) },
		UpdateFunc: func(old, now any) {
			a, ok1 := old.(metav1.Object)
			b, ok2 := now.(metav1.Object)
			if !ok1 || !ok2 || a.GetResourceVersion() != b.GetResourceVersion() {
				tell(changed)
			}
		},
	}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(objects, 0)
	listers := map[string][]cache.GenericLister{}
	var synced []cache.InformerSynced
	add := func(informer cache.SharedIndexInformer) error {
		_, err := informer.AddEventHandler(handler)
		synced = append(synced, informer.HasSynced)
		return err
	}
	for _, part := range m.Parts {
		for _, resource := range part.Resources() {
			informer := factory.ForResource(resource)
			if err := add(informer.Informer()); err != nil {
				return nil, fmt.Errorf("watching %s: %w", resource, err)
			}
			listers[part.Name()] = append(listers[part.Name()], informer.Lister())
		}
	}
	metas, err := metadata.NewForConfig(m.Config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	contents := metadatainformer.NewSharedInformerFactory(metas, 0)
	watched := []schema.GroupVersionResource{secrets, configMaps}
	for _, part := range m.Parts {
		if w, ok := part.(Watcher); ok {
			watched = append(watched, w.Watches()...)
		}
	}
	for _, resource := range watched {
		if err := add(contents.ForResource(resource).Informer()); err != nil {
			return nil, fmt.Errorf("watching %s: %w", resource, err)
		}
	}
	factory.Start(ctx.Done())
	contents.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil, errors.Join(errors.New("the watched kinds were not listed"), ctx.Err())
	}
	return listers, nil
}

var (
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
)
