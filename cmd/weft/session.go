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
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/driver"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/project"
	"github.com/weft-dev/weft/cmd/internal/source"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/cluster"
	"github.com/weft-dev/weft/engine/folder"
	"github.com/weft-dev/weft/engine/kubernetes"
	"github.com/weft-dev/weft/engine/seal"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/stack/terraform"
	"github.com/weft-dev/weft/supervise/control"
)

// sourceFlags say what is read.
type sourceFlags struct {
	files     []string
	stack     string
	workspace string
	arguments []string
	modules   []string
	images    []string
	name      string
	namespace string
	registry  string
}

func (f *sourceFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "`file` or folder of manifests, - for standard input; may be given again")
	c.Flags().StringVar(&f.stack, "stack", "", "`name` of the stack, where a project has several")
	c.Flags().StringVar(&f.workspace, "workspace", "", "`name` of the workspace of a Kusion project")
	c.Flags().StringArrayVarP(&f.arguments, "argument", "D", nil, "`NAME=VALUE` for option() in KCL; may be given again")
	c.Flags().StringArrayVar(&f.modules, "module", nil, "`NAME=FOLDER` that a module is read from; may be given again")
	c.Flags().StringArrayVar(&f.images, "image", nil, "`OLD=NEW`: use another image than the one that is written; may be given again")
	c.Flags().StringVar(&f.name, "name", "", "`name` of the owner of everything, and of its state (default: what the source says)")
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "`namespace` of objects that name none (default: what the source says, else the context's)")
	c.Flags().StringVar(&f.registry, "registry", "", "`host/path` where built images go for another cluster than the embedded one")
}

// options makes of the flags what a source is opened with. Without a path and files it is the folder that one is in.
func (f *sourceFlags) options(a *app, path string) (source.Options, error) {
	if path == "" && len(f.files) == 0 {
		path = "."
	}
	if wrong := validation.IsDNS1123Label(f.namespace); f.namespace != "" && len(wrong) > 0 {
		return source.Options{}, output.Usagef("--namespace: %q is no name of a namespace: at most 63 lower case letters, digits and '-', which neither begins nor ends it", f.namespace)
	}
	o := source.Options{Path: path, Files: f.files, Stack: f.stack, Workspace: f.workspace, Arguments: f.arguments, Stdin: a.in, Getenv: a.getenv}
	var err error
	if o.Images, err = pairs("--image", f.images); err != nil {
		return o, err
	}
	o.Modules, err = pairs("--module", f.modules)
	return o, err
}

func pairs(flag string, list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, item := range list {
		key, value, ok := strings.Cut(item, "=")
		if !ok || key == "" || value == "" {
			return nil, output.Usagef("%s: expected OLD=NEW, got %q", flag, item)
		}
		m[key] = value
	}
	return m, nil
}

// stateFlags say where the state is kept and how it is read.
type stateFlags struct {
	backend    string
	identity   string
	recipients []string
	lockWait   time.Duration
}

func (f *stateFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.backend, "backend", "", "where the state is kept: a `folder`, or \"kubernetes\" for the cluster itself (default: the state folder of the embedded cluster; other clusters keep their own)")
	c.Flags().StringVar(&f.identity, "identity", "", "`file` with the age key that reads the state (default $WEFT_IDENTITY, else identity in the user's configuration folder, made on first use)")
	c.Flags().StringArrayVar(&f.recipients, "recipient", nil, "age public `key` that secrets in a new state and in plan files are encrypted to; may be given again")
	c.Flags().DurationVar(&f.lockWait, "lock-wait", 0, "how long to wait while somebody else works on the state (default: not at all)")
}

// runFlags are for planning and applying.
type runFlags struct {
	refresh          string
	targets          []string
	force            bool
	adopt            bool
	allowDelete      []string
	createNamespaces bool
	parallel         int
}

func (f *runFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.refresh, "refresh", "all", "what is read before it is planned: `all|changed|none`")
	c.Flags().StringArrayVar(&f.targets, "target", nil, "only this resource `id` and what it needs; may be given again")
	c.Flags().BoolVar(&f.force, "force-conflicts", false, "take over fields that other managers have set")
	c.Flags().BoolVar(&f.adopt, "adopt", false, "take over objects that belong to another owner")
	c.Flags().StringArrayVar(&f.allowDelete, "allow-delete", nil, "`kind` that may be deleted although data or other objects go with it: Namespace, PersistentVolume, PersistentVolumeClaim, CustomResourceDefinition")
	c.Flags().BoolVar(&f.createNamespaces, "create-namespaces", false, "make the namespaces that are named and do not exist (always for a folder with a weft.yaml)")
	c.Flags().IntVar(&f.parallel, "parallel", 24, "how many `operations` run at once")
}

// applyFlags are for applying.
type applyFlags struct {
	onFailure string
	wait      string
	timeout   time.Duration
	retries   int
	yes       bool
}

func (f *applyFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.onFailure, "on-failure", "stop", "what happens when something fails: `stop|continue|rollback`")
	c.Flags().StringVar(&f.wait, "wait", "all", "wait until everything is ready before anything is deleted: `all|none`")
	c.Flags().DurationVar(&f.timeout, "timeout", 5*time.Minute, "how long one operation, and waiting at the end, may take")
	c.Flags().IntVar(&f.retries, "retries", 4, "how often an operation that failed for a passing reason is tried again")
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
}

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

// locations are folders on this machine.
type locations struct {
	builds string // caches of builds
	store  string // content store that keeps layers of builds, the registry's; empty for one of the builds' own
	states string // states of the embedded cluster; empty for others
}

// place connects to the cluster: the one that was named, or the embedded one.
func (a *app) place(ctx context.Context, s *session, r sessionRequest) (locations, error) {
	c, err := a.cluster()
	if err != nil {
		return locations{}, err
	}
	where := locations{builds: filepath.Join(c.State, "build"), store: filepath.Join(c.State, "data", "store"), states: filepath.Join(c.State, "engine")}
	config := a.kubeconfig
	s.place.Registry = r.settings.Registry
	if a.foreign() {
		where.states, where.store = "", ""
		if r.source != nil && r.source.About().Builds && s.place.Registry == "" {
			return where, output.Advise(errors.New("no registry is named, from which that cluster could pull the built images"),
				"Name one with --registry HOST/PATH, or in "+project.ConfigName+" with registry: HOST/PATH.")
		}
		if where.builds, err = buildState(a.getenv); err != nil {
			return where, err
		}
	} else {
		status, err := a.embedded(ctx, r)
		if err != nil {
			return where, err
		}
		config, s.place.Registry, s.addresses = status.Kubeconfig, status.Registry, c
	}
	cfg, namespace, err := kube.Config(config, a.context)
	if err != nil {
		return where, err
	}
	s.rest, s.place.Namespace = cfg, cmp.Or(r.settings.Namespace, namespace)
	s.place.Client, err = kube.New(cfg)
	return where, err
}

func (a *app) embedded(ctx context.Context, r sessionRequest) (control.Status, error) {
	c, err := a.cluster()
	if err != nil {
		return control.Status{}, err
	}
	status, err := c.Status(ctx)
	if err == nil && status.Phase != control.Ready && r.starts {
		status, _, err = a.startCluster(ctx)
	}
	switch {
	case err != nil:
		return status, err
	case status.Phase != control.Ready:
		return status, output.Advise(fmt.Errorf("the embedded Kubernetes in %s is not running (it is %s)", c.State, status.Phase),
			"Start it with `weft up`, or name another cluster with --kubeconfig or --context.")
	case r.runsPods && status.Mode == control.ModeAPI:
		return status, output.Advise(errors.New("pods cannot run on this machine: "+strings.Join(status.Missing, "; ")), "See `weft doctor`, or name another cluster with --kubeconfig or --context.")
	}
	return status, nil
}

// clusterID is what tells a cluster from all others.
func clusterID(ctx context.Context, client *kube.Client) (string, error) {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "kube-system"}}}
	live, err := client.Get(ctx, u)
	if err != nil {
		return "", fmt.Errorf("the cluster does not answer: %w", err)
	}
	if live == nil {
		return "", nil
	}
	return string(live.GetUID()), nil
}

// stateBackend is an opened and locked state.
type stateBackend interface {
	State() *engine.State
	// Lost is closed when the lock was lost.
	Lost() <-chan struct{}
	Close() error
}

type folderBackend struct{ *folder.Folder }

func (b folderBackend) State() *engine.State  { return b.Folder.State }
func (b folderBackend) Lost() <-chan struct{} { return nil }

// kubernetesBackend is the value of --backend for the cluster itself.
const kubernetesBackend = "kubernetes"

type clusterBackend struct{ opened *cluster.State }

func (b clusterBackend) State() *engine.State  { return b.opened.State }
func (b clusterBackend) Lost() <-chan struct{} { return b.opened.Lost() }
func (b clusterBackend) Close() error          { return b.opened.Close() }

// openInCluster opens the state in the cluster. Its namespace is made if need be, as the state is there before any object.
func (a *app) openInCluster(ctx context.Context, s *session, r sessionRequest) (stateBackend, error) {
	if err := s.place.Client.EnsureNamespace(ctx, s.place.Namespace); err != nil {
		return nil, err
	}
	opened, err := cluster.Open(ctx, s.rest, cluster.Options{Namespace: s.place.Namespace, Name: s.settings.Name, Holder: whoAmI(), Operation: r.operation, Wait: r.state.lockWait, Sealer: s.keys})
	if err != nil {
		return nil, lockAdvice(err)
	}
	return clusterBackend{opened}, nil
}

// openState opens the state where the flags say, or where it belongs by the kind of cluster.
func (a *app) openState(ctx context.Context, s *session, r sessionRequest, where locations) error {
	identity, err := a.identity(r.state.identity)
	if err != nil {
		return err
	}
	if s.keys, err = seal.New(r.state.recipients, []string{identity}); err != nil {
		return err
	}
	at := cmp.Or(r.state.backend, r.settings.Backend)
	if at == "" && where.states == "" {
		at = kubernetesBackend
	}
	s.settings.Backend = at
	name := s.place.Namespace + "." + s.settings.Name
	if at == kubernetesBackend {
		if s.backend, err = a.openInCluster(ctx, s, r); err != nil {
			return err
		}
	} else {
		if at != "" {
			if at, err = filepath.Abs(at); err != nil {
				return err
			}
			s.settings.Backend = at
		} else {
			at = filepath.Join(where.states, name)
		}
		f, err := folder.Open(ctx, at, folder.Options{Operation: r.operation, Wait: r.state.lockWait, Sealer: s.keys})
		if err != nil {
			return lockAdvice(err)
		}
		s.backend = folderBackend{f}
	}
	if err := s.shareKeys(r.state.recipients, identity); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

func lockAdvice(err error) error {
	var here *folder.LockedError
	var there *cluster.LockedError
	switch {
	case errors.As(err, &here):
		return output.Advise(err, "Wait with --lock-wait 1m, or end the other process.")
	case errors.As(err, &there):
		return output.Advise(err, "Wait with --lock-wait 1m. If the holder is gone its lock ends by itself; `weft state unlock --force` ends it at once.")
	}
	return err
}

// shareKeys encrypts to those whom the state names; a new state is told for whom it is.
func (s *session) shareKeys(recipients []string, identity string) error {
	state := s.backend.State()
	known := state.Recipients()
	switch {
	case len(known) == 0 || len(recipients) == 0:
	case strings.Join(known, " ") != strings.Join(recipients, " "):
		return output.Advise(fmt.Errorf("the state is encrypted to %s and not to those of --recipient", strings.Join(known, ", ")),
			"Leave --recipient out, or change them with `weft state rekey --recipient ...`.")
	}
	if len(known) > 0 {
		keys, err := seal.New(known, []string{identity})
		if err != nil {
			return err
		}
		s.keys = keys
	}
	return state.SetRecipients(s.keys, s.keys.Recipients())
}

// identity returns the user's age key.
func (a *app) identity(file string) (string, error) {
	if file != "" {
		if _, err := os.Stat(file); err != nil {
			return "", fmt.Errorf("--identity: %w", err)
		}
		return seal.UserIdentity(file)
	}
	if key := a.getenv("WEFT_IDENTITY"); key != "" {
		return key, nil
	}
	base := a.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(base) {
		home := a.getenv("HOME")
		if home == "" {
			return "", errors.New("no place for the key that secrets are encrypted with: neither XDG_CONFIG_HOME nor HOME is set; name one with --identity")
		}
		base = filepath.Join(home, ".config")
	}
	return seal.UserIdentity(filepath.Join(base, "weft", "identity"))
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
		Events: s.follow.building, Built: s.follow.built})
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

// unlock shows or takes away a lock.
func (a *app) unlock(ctx context.Context, path string, src sourceFlags, state stateFlags, force bool) error {
	r := sessionRequest{operation: "unlock", state: state}
	if src.name != "" && path == "" && len(src.files) == 0 {
		r.settings = settings{Name: src.name, Namespace: src.namespace}
	} else {
		var err error
		if _, r.settings, err = a.readSource(ctx, path, src); err != nil {
			return err
		}
	}
	s := &session{app: a, settings: r.settings}
	where, err := a.place(ctx, s, r)
	if err != nil {
		return err
	}
	if at := cmp.Or(state.backend, r.settings.Backend); at != kubernetesBackend && (at != "" || where.states != "") {
		f, err := folder.Open(ctx, cmp.Or(at, filepath.Join(where.states, s.place.Namespace+"."+s.settings.Name)), folder.Options{Operation: "unlock", LockOnly: true})
		if err == nil {
			return errors.Join(f.Close(), errNotLocked)
		}
		return output.Advise(err, "The lock of a folder ends with its holder: end that process.")
	}
	holder, err := cluster.Unlock(ctx, s.rest, s.place.Namespace, s.settings.Name, force)
	switch {
	case err != nil:
		return err
	case holder == nil:
		return errNotLocked
	case !force:
		return output.Advise(holder, "--force takes the lock away.")
	}
	return a.changed("The lock of %s is taken away.", holder.Holder)
}
