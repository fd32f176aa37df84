// Package feed follows the objects of a cluster that levels are made of, and keeps a snapshot of them behind an atomic pointer. It says when
// what it knows may be out of date. It must not know how a request arrives, nor what is done with a decision.
package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// DefaultPatience is how long a watch may be lost before what it told counts as out of date.
const DefaultPatience = 2 * time.Second

const (
	probeEvery       = time.Second
	discoveryTimeout = 10 * time.Second      // of one request
	rebuildPause     = 20 * time.Millisecond // between two snapshots, so that a storm of changes does not take a processor
)

// State is what a feed knows at some time. It is immutable.
type State struct {
	// Snapshot is nil while nothing is known, and while the cluster has no Registry: then there are no levels.
	Snapshot *level.Snapshot
	// Known says that everything was listed once. Without it nobody can say whether there are levels.
	Known bool
	// Stale says that a watch is lost: Snapshot then denies whatever is not on the lowest level. Without a Snapshot there is a Registry that
	// cannot be read: then nothing is known about anything.
	Stale bool
	// Doors are the settings that the Registry has now.
	Doors api.Doors
	// Registry is the resourceVersion of the Registry that Snapshot was made of.
	Registry string
	// Regrades are the names of re-gradings, each with the phase that Snapshot was made with: NAME/PHASE.
	Regrades []string
	// Problems are objects that cannot be read, and watches that do not work.
	Problems []string
}

// Feed follows a cluster.
type Feed struct {
	// Patience is how long a watch may be lost; default DefaultPatience.
	Patience time.Duration
	// Changed, if set, is called after every new state, one call at a time.
	Changed func(*State)
	// Exempt are users of the installation's own programs, which levels do not bind.
	Exempt []string
	Log    *slog.Logger

	config    *rest.Config
	objects   dynamic.Interface
	metas     metadata.Interface
	discovery discovery.DiscoveryInterface

	state atomic.Pointer[State]
	known chan struct{}
	once  sync.Once
	wake  chan struct{}

	mu         sync.Mutex
	watches    map[watchKey]*watched
	dirty      dirty
	kinds      map[level.Kind]bool // kinds whose labelled objects are followed
	broken     []string            // groups that discovery could not read
	failing    time.Time           // since when the API server does not answer
	hasKinds   bool                // the definitions of levels are installed
	looked     bool                // it is known whether they are
	looking    bool                // kinds are being looked up
	listed     bool                // kinds were looked up since the definitions are there
	compiled   *compiled
	unreadable []string // what is wrong with the Registry, if there was no good one
}

// New prepares a feed of a cluster. The account of the configuration must be able to read everything, and levels must not bind it.
func New(config *rest.Config) (*Feed, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // as many watches as there are kinds start at once
	f := &Feed{config: config, known: make(chan struct{}), wake: make(chan struct{}, 1), watches: map[watchKey]*watched{}, kinds: map[level.Kind]bool{}}
	f.state.Store(&State{})
	var err1, err2, err3 error
	f.objects, err1 = dynamic.NewForConfig(config)
	f.metas, err2 = metadata.NewForConfig(config)
	asking := rest.CopyConfig(config)
	asking.Timeout = discoveryTimeout
	f.discovery, err3 = discovery.NewDiscoveryClientForConfig(asking)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return f, nil
}

// State is what is known now.
func (f *Feed) State() *State { return f.state.Load() }

// Known is closed once everything was listed.
func (f *Feed) Known() <-chan struct{} { return f.known }

func (f *Feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run follows the cluster until the context ends. Errors are no end: they make the state stale.
func (f *Feed) Run(ctx context.Context) error {
	if f.Patience == 0 {
		f.Patience = DefaultPatience
	}
	if f.Log == nil {
		f.Log = slog.New(slog.DiscardHandler)
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	f.follow(ctx, &running, definitions)
	running.Go(func() { f.probe(ctx) })
	timer := time.NewTimer(probeEvery)
	defer timer.Stop()
	for {
		f.watch(ctx, &running)
		f.publish()
		timer.Reset(f.untilNext())
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			continue
		case <-f.wake:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.settle()):
		}
	}
}

// settle is how long to wait for further changes: not at all for what can be put into a snapshot by itself.
func (f *Feed) settle() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dirty.all {
		return rebuildPause
	}
	return 0
}

// untilNext is when something changes by itself: a clearance ends, or a lost watch has been lost too long.
func (f *Feed) untilNext() time.Duration {
	next := probeEvery
	if s := f.state.Load().Snapshot; s != nil && !s.NextExpiry().IsZero() {
		next = min(next, time.Until(s.NextExpiry()))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watches {
		if !w.lost.IsZero() && w.critical {
			next = min(next, time.Until(w.lost.Add(f.Patience)))
		}
	}
	return max(next, time.Millisecond)
}

// watch starts what is to be watched and is not yet: once there are definitions, the kinds of levels, namespaces and nodes; then the labelled
// objects of every kind.
func (f *Feed) watch(ctx context.Context, running *sync.WaitGroup) {
	f.mu.Lock()
	present, look := f.hasKinds, f.hasKinds && f.dirty.kinds && !f.looking
	if look {
		f.dirty.kinds, f.looking = false, true
	}
	f.mu.Unlock()
	if !present {
		f.mu.Lock()
		for key, w := range f.watches {
			if key != definitions {
				w.stop()
				delete(f.watches, key)
			}
		}
		f.listed, f.compiled = false, nil
		f.mu.Unlock()
		return
	}
	for _, key := range core {
		f.follow(ctx, running, key)
	}
	if look {
		// Not here: an API server that does not answer must not keep us from saying so.
		running.Go(func() {
			err := f.lookUpKinds(ctx, running)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.looking = false
			if err != nil && ctx.Err() == nil {
				f.Log.Error("looking up the kinds of the cluster", "error", err)
				f.dirty.kinds = true // tried again when the state is next looked at
			}
		})
	}
}

// lookUpKinds follows the labelled objects of every kind that the cluster has.
func (f *Feed) lookUpKinds(ctx context.Context, running *sync.WaitGroup) error {
	lists, err := discovery.ServerPreferredResources(f.discovery)
	failed, partly := discovery.GroupDiscoveryFailedErrorGroups(err)
	if err != nil && !partly {
		return err
	}
	wanted := map[watchKey]bool{}
	broken := []string{}
	for group := range failed {
		broken = append(broken, group.String())
	}
	slices.Sort(broken)
	kinds := map[level.Kind]bool{}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range list.APIResources {
			resource := version.WithResource(r.Name)
			if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "watch") || !slices.Contains(r.Verbs, "list") || unlabelled[resource.GroupResource()] {
				continue
			}
			kinds[level.Kind{Group: version.Group, Resource: r.Name}] = true
			for _, label := range []string{api.LevelLabel, api.TalkLabel} {
				wanted[watchKey{resource, label}] = true
			}
		}
	}
	f.mu.Lock()
	present := f.hasKinds
	f.mu.Unlock()
	if !present {
		return nil // the definitions went meanwhile
	}
	for key := range wanted {
		f.follow(ctx, running, key)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, w := range f.watches {
		gone := key.label != "" && !wanted[key] && !slices.Contains(broken, key.resource.GroupVersion().String())
		if gone {
			w.stop()
			delete(f.watches, key)
			f.dirty.all = true
		}
	}
	f.kinds, f.broken, f.listed = kinds, broken, true
	f.signal()
	return nil
}

// unlabelled are kinds whose objects do not count for themselves: namespaces and nodes are followed anyhow, and events and leases come and go.
var unlabelled = map[schema.GroupResource]bool{
	{Resource: "namespaces"}: true, {Resource: "nodes"}: true, {Resource: "events"}: true, {Group: "events.k8s.io", Resource: "events"}: true,
	{Group: "coordination.k8s.io", Resource: "leases"}: true, {Group: api.Group, Resource: "workspaces"}: true, {Group: api.Group, Resource: "registries"}: true,
	{Group: api.Group, Resource: "clearances"}: true,
}

// probe asks the API server for its version again and again: a connection that is silent may be dead.
func (f *Feed) probe(ctx context.Context) {
	client, err := rest.HTTPClientFor(f.config)
	if err != nil {
		f.Log.Error("probing the API server", "error", err)
		return
	}
	ask := func() error {
		ctx, cancel := context.WithTimeout(ctx, f.Patience)
		defer cancel()
		return get(ctx, client, f.config.Host+"/version")
	}
	for {
		err := ask()
		f.mu.Lock()
		before := f.failing
		switch {
		case err == nil:
			f.failing = time.Time{}
		case f.failing.IsZero():
			f.failing = time.Now()
		}
		changed := before != f.failing
		f.mu.Unlock()
		if changed {
			f.signal()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(probeEvery):
		}
	}
}

var (
	definitions = watchKey{resource: schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}}
	registries  = levelKind("registries")
	clearances  = levelKind("clearances")
	workspaces  = levelKind("workspaces")
	regrades    = levelKind("regrades")
	namespaces  = watchKey{resource: schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}}
	nodes       = watchKey{resource: schema.GroupVersionResource{Version: "v1", Resource: "nodes"}}
	core        = []watchKey{registries, clearances, workspaces, regrades, namespaces, nodes}
)

func levelKind(resource string) watchKey {
	return watchKey{resource: schema.GroupVersionResource{Group: api.Group, Version: api.Version, Resource: resource}}
}

// watchKey is what one watch follows: a kind, or those of its objects that carry a label.
type watchKey struct {
	resource schema.GroupVersionResource
	label    string
}

func (k watchKey) String() string {
	if k.label == "" {
		return k.resource.GroupResource().String()
	}
	return k.resource.GroupResource().String() + " with " + k.label
}

// whole says whether objects are needed with their content.
func (k watchKey) whole() bool { return k.resource.Group == api.Group && k.label == "" }

// isCritical says whether levels are out of date when the watch is lost. An API that somebody added and that is down must not stop the cluster.
func (k watchKey) isCritical() bool {
	g := k.resource.Group
	return k.label == "" || !strings.Contains(g, ".") || strings.HasSuffix(g, ".k8s.io") || g == api.Group
}

func (k watchKey) options(o metav1.ListOptions) metav1.ListOptions {
	o.LabelSelector = k.label
	return o
}
