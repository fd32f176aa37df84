package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/driver"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/source"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/kubernetes"
	"github.com/weft-dev/weft/engine/seal"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/stack/terraform"
)

// session is an opened state with everything that is needed to plan and apply.
type session struct {
	app       *app
	set       *source.Set
	place     source.Place
	rest      *rest.Config
	clusterID string // of the cluster, to know it again
	backend   stateBackend
	keys      *seal.Keys
	engine    *engine.Engine
	follow    *engineProgress
	addresses addressBook
	mounts    bool // the embedded cluster mounts images that have an EROFS form
	kube      *kubernetes.Driver
	settings  settings
	options   engine.Options
}

// settings are what a plan file says about where and how it is applied.
type settings struct {
	Form        string   `json:"form"`
	Root        string   `json:"root,omitempty"`
	Name        string   `json:"name"`
	Namespace   string   `json:"namespace"`
	Registry    string   `json:"registry,omitempty"`
	Cluster     string   `json:"cluster"` // UID of its namespace kube-system
	Backend     string   `json:"backend,omitempty"`
	Force       bool     `json:"force,omitempty"`
	Adopt       bool     `json:"adopt,omitempty"`
	AllowDelete []string `json:"allowDelete,omitempty"`
	Refresh     string   `json:"refresh,omitempty"`
}

// sessionRequest is what open needs to know.
type sessionRequest struct {
	operation string // what the lock says
	settings  settings
	state     stateFlags
	run       runFlags
	apply     applyFlags
	starts    bool                      // the embedded cluster is started if it does not run
	runsPods  bool                      // a cluster without nodes is refused
	drain     <-chan struct{}           // see engine.Options
	progress  *output.Progress          // for what is done; may be nil
	source    source.Source             // read once the place is known; nil if it is not needed
	amend     func(o *engine.Options)   // last changes; may be nil
	kubeAmend func(*kubernetes.Options) // last changes; may be nil
}

// readSource opens the source and says how it is settled.
func (a *app) readSource(ctx context.Context, path string, f sourceFlags) (source.Source, settings, error) {
	o, err := f.options(a, path)
	if err != nil {
		return nil, settings{}, err
	}
	src, err := source.Open(ctx, o)
	if err != nil {
		var option *source.OptionError
		if errors.As(err, &option) {
			return nil, settings{}, &output.UsageError{Err: err}
		}
		return nil, settings{}, placed(err)
	}
	about := src.About()
	s := settings{Form: about.Form, Name: cmp.Or(f.name, about.Name), Namespace: cmp.Or(f.namespace, about.Namespace), Registry: cmp.Or(f.registry, about.Registry)}
	if about.Root != "" {
		if s.Root, err = filepath.Abs(about.Root); err != nil {
			return nil, s, err
		}
	}
	if s.Name == "" {
		return nil, s, output.Usagef("--name: what is read from standard input needs a name, under which it is found again")
	}
	return src, s, nil
}

// load reads the source.
func (s *session) load(ctx context.Context, src source.Source, createNamespaces bool) error {
	set, err := src.Load(ctx, s.place)
	if err != nil {
		return placed(err)
	}
	for _, w := range set.Warnings {
		s.app.print().Warn("%s", w)
	}
	if len(set.Problems) > 0 {
		return placed(errors.Join(set.Problems...))
	}
	if createNamespaces || src.About().Form == "project" {
		owner := kube.Owner{Namespace: s.place.Namespace, Name: s.settings.Name}.Label()
		if set.Resources, err = kubernetes.WithNamespaces(ctx, s.place.Client, set.Resources, source.KubernetesType, owner); err != nil {
			return err
		}
	}
	s.set = set
	return nil
}

// open finds the cluster, reads the source, locks the state and makes the engine.
func (a *app) open(ctx context.Context, r sessionRequest) (*session, error) {
	s := &session{app: a, settings: r.settings}
	where, err := a.place(ctx, s, r)
	if err != nil {
		return nil, err
	}
	if s.clusterID, err = clusterID(ctx, s.place.Client); err != nil {
		return nil, err
	}
	if r.settings.Cluster != "" && r.settings.Cluster != s.clusterID {
		return nil, output.Advise(errors.New("the plan was made for another cluster"), "Name that cluster with --kubeconfig or --context, or plan again.")
	}
	s.settings.Cluster, s.settings.Namespace, s.settings.Registry = s.clusterID, s.place.Namespace, s.place.Registry
	if r.source != nil {
		if err := s.load(ctx, r.source, r.run.createNamespaces); err != nil {
			return nil, err
		}
	}
	if err := a.openState(ctx, s, r, where); err != nil {
		return nil, err
	}
	if err := s.makeEngine(r, where); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *session) makeEngine(r sessionRequest, where locations) error {
	s.follow = newEngineProgress(s.app, r.progress, r.apply.wait != "none")
	ko := kubernetes.Options{Owner: kube.Owner{Namespace: s.place.Namespace, Name: s.settings.Name}.Label(), Namespace: s.place.Namespace,
		Force: s.settings.Force || r.run.force, Adopt: s.settings.Adopt || r.run.adopt, AllowDelete: append(s.settings.AllowDelete, r.run.allowDelete...), Progress: s.follow.waiting}
	if err := kube.CheckAllowDelete(ko.AllowDelete); err != nil {
		return &output.UsageError{Err: fmt.Errorf("--allow-delete: %w", err)}
	}
	if r.kubeAmend != nil {
		r.kubeAmend(&ko)
	}
	s.settings.Force, s.settings.Adopt, s.settings.AllowDelete = ko.Force, ko.Adopt, ko.AllowDelete
	s.settings.Refresh = cmp.Or(r.settings.Refresh, r.run.refresh)
	s.kube = kubernetes.New(s.place.Client, ko)
	builds := driver.New(driver.Options{Root: s.settings.Root, State: where.builds, Base: buildpack.Options{Store: where.store},
		Events: s.follow.building, Built: s.follow.built, Attach: s.attach()})
	o := engine.Options{Drivers: map[string]engine.Driver{source.KubernetesType: s.kube, source.BuildType: builds, source.TerraformType: terraform.Driver{}},
		Workers: r.run.parallel, Refresh: engine.Refresh(s.settings.Refresh), OnFailure: engine.OnFailure(r.apply.onFailure), Timeout: buildTimeout,
		WaitTimeout: r.apply.timeout, Wait: r.apply.wait != "none", Retries: r.apply.retries, Drain: r.drain, Progress: s.follow.event, By: whoAmI(), Operation: r.operation,
		Resolve: func(ctx context.Context, v engine.External) (any, error) { return source.Resolve(ctx, s.place, v) }}
	for _, id := range r.run.targets {
		o.Targets = append(o.Targets, engine.ID(id))
	}
	if r.apply.timeout > 0 {
		o.Timeout = max(o.Timeout, r.apply.timeout)
	}
	if o.Retries == 0 {
		o.Retries = -1
	}
	if r.amend != nil {
		r.amend(&o)
	}
	var err error
	s.options = o
	if s.engine, err = engine.New(s.backend.State(), o); err != nil {
		return &output.UsageError{Err: err}
	}
	return nil
}

// attach puts the EROFS form beside images that are built for a cluster that mounts it; nil for others.
func (s *session) attach() func(context.Context, engine.ID, buildpack.Result) {
	if !s.mounts {
		return nil
	}
	return func(ctx context.Context, id engine.ID, r buildpack.Result) {
		client := registry.New(registry.Options{Keychain: registry.DockerCredentials("")})
		defer client.Close()
		// The node has the registry's disk: what is not compressed is mounted from there without a copy.
		if _, err := attachOne(ctx, client, r.Ref, image.EROFS, chunk.None); err != nil && ctx.Err() == nil {
			s.app.print().Warn("%s: its EROFS form is not there, so its pods start when it is unpacked: %v", id, err)
		}
	}
}

// buildTimeout bounds one operation, of which a build from source is the longest.
const buildTimeout = 30 * time.Minute

func whoAmI() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// Close gives up the lock.
func (s *session) Close() error {
	if s.backend == nil {
		return nil
	}
	return s.backend.Close()
}

// gently returns a context that outlives the first interrupt, which closes drain, and ends with the second or when the lock is lost.
func (a *app) gently(ctx context.Context) (run context.Context, drain <-chan struct{}, stop func()) {
	run, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		for first := true; ; first = false {
			select {
			case <-signals:
				if !first {
					cancel(errInterrupted)
					return
				}
				a.print().Say("Interrupted: what runs is finished and nothing more is begun. Interrupt again to cancel what runs.")
			case <-ended:
				return
			}
		}
	}()
	return run, ctx.Done(), func() {
		signal.Stop(signals)
		close(ended)
		cancel(nil)
	}
}

// watchLock cancels a run whose lock was lost.
func (s *session) watchLock(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := make(chan struct{})
	go func() {
		select {
		case <-s.backend.Lost():
			cancel(errors.New("the lock on the state was lost: nothing more is done, and the next run finds out what was under way"))
		case <-stop:
		}
	}()
	return ctx, func() {
		close(stop)
		cancel(nil)
	}
}

// openPlan reads a saved plan and what it says about where it is applied.
func openPlan(data []byte, identity string) (*engine.SavedPlan, settings, error) {
	var where settings
	keys, err := seal.New(nil, []string{identity})
	if err != nil {
		return nil, where, err
	}
	saved, err := engine.ReadPlan(data, keys)
	if err != nil {
		return nil, where, err
	}
	if err := json.Unmarshal(saved.Settings, &where); err != nil || where.Name == "" {
		return nil, where, errors.New("it is damaged: it does not say what it is for")
	}
	return saved, where, nil
}
