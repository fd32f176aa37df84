// Package buildpack makes images from source: it finds the buildpacks that an application needs, runs them in a sandbox, and puts
// the result into a registry or a folder, without a daemon. The phases are those of package lifecycle; this package decides what they
// work on: the copy of the source, the build image, the caches and where the image goes.
//
// It must not know who asks: neither command line nor engine nor cluster.
package buildpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/kept"
	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/buildpack/target"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/store"
)

// Options of a build. Source, Image and State are required.
type Options struct {
	Source   string           // folder of the application
	Image    string           // name of the image, for example localhost:5000/guestbook
	Tags     []string         // more names in the same registry
	Registry *registry.Client // nil: one with the credentials of docker login

	State    string // folder for caches and what is known of earlier builds; may be shared by builds of different images
	Store    string // folder of the content store that keeps layers, best on the file system of State; "": one in State
	Programs Programs

	Buildpacks []string // folders or IDs of bundled ones, to be used together; nil: project.toml decides, else the bundled ones are tried
	Descriptor string   // file to read instead of project.toml of the source
	RunImage   string   // name of the image to put the application on; "": an empty one
	Layout     string   // folder that becomes the image in the OCI layout, instead of a registry

	Env            map[string]string // variables for buildpacks
	DefaultProcess string            // type of the process that the image starts, instead of what buildpacks say
	Compression    layer.Compression
	NoNetwork      bool // buildpacks may not use the network
	ClearCache     bool // forget what earlier builds kept
	Limits         sandbox.Limits

	Events func(Event) // told what happens; called from one goroutine at a time
}

// Programs are the small programs that a build needs, as paths.
type Programs struct {
	Sandbox  string
	Launcher string
}

// FindPrograms gives the programs that lie beside the running one.
func FindPrograms() (Programs, error) {
	self, err := os.Executable()
	if err != nil {
		return Programs{}, err
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	dir := filepath.Dir(self)
	p := Programs{Sandbox: filepath.Join(dir, "sandbox"), Launcher: filepath.Join(dir, "launcher")}
	for _, file := range []string{p.Sandbox, p.Launcher} {
		if _, err := os.Stat(file); err != nil {
			return Programs{}, fmt.Errorf("the program %s is missing; `make build` makes it", file)
		}
	}
	return p, nil
}

// Phases of a build, in their order.
const (
	PhaseAnalyze = "analyze" // compares the source with the earlier build
	PhaseDetect  = "detect"
	PhaseBuild   = "build"
	PhaseExport  = "export"
)

// EventKind says what an Event tells.
type EventKind string

// Kinds of events.
const (
	PhaseStarted EventKind = "phase-started"
	PhaseDone    EventKind = "phase-done" // Duration and Cache are set
	Output       EventKind = "output"     // Line is a line that a buildpack printed
	Message      EventKind = "message"    // Line is a line of weft itself
	Warning      EventKind = "warning"
)

// Event is progress of a build.
type Event struct {
	Kind      EventKind     `json:"kind"`
	Phase     string        `json:"phase"`
	Buildpack string        `json:"buildpack,omitempty"` // ID@VERSION
	Line      string        `json:"line,omitempty"`
	Duration  time.Duration `json:"duration,omitempty"` // nanoseconds
	Cache     string        `json:"cache,omitempty"`    // what was taken from earlier builds, for people
}

// Phase is a phase that has ended.
type Phase struct {
	Name     string        `json:"name"`
	Duration time.Duration `json:"duration"` // nanoseconds
	Cache    string        `json:"cache,omitempty"`
}

// Result of a build.
type Result struct {
	Image      string         `json:"image"`  // as asked for
	Digest     string         `json:"digest"` // of the manifest, sha256:...
	Ref        string         `json:"ref"`    // name by digest, what a manifest should refer to
	Unchanged  bool           `json:"unchanged"`
	Buildpacks []spec.Element `json:"buildpacks"`
	Processes  []spec.Process `json:"processes"`
	Phases     []Phase        `json:"phases"`
}

// Build makes the image of opts.Source. If nothing has changed since the last build and the registry still has its image, nothing
// is built or uploaded.
func Build(ctx context.Context, opts Options) (Result, error) {
	b, err := newBuild(opts)
	if err != nil {
		return Result{}, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	return b.run(ctx)
}

// build is one build under way.
type build struct {
	opts       Options
	target     target.Target
	repository string
	state      string // folder of this image's state
	store      *store.Store
	log        *progress
	project    project

	result      Result
	fingerprint string
	run0        runImage
}

func newBuild(opts Options) (*build, error) {
	if opts.Source == "" || opts.Image == "" || opts.State == "" {
		return nil, errors.New("a build needs a source folder, an image name and a state folder")
	}
	source, err := filepath.Abs(opts.Source)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(source)
	if err != nil {
		return nil, fmt.Errorf("the source: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("the source %s is not a folder", source)
	}
	opts.Source = source
	if opts.State, err = filepath.Abs(opts.State); err != nil {
		return nil, err
	}
	if opts.Programs == (Programs{}) {
		if opts.Programs, err = FindPrograms(); err != nil {
			return nil, err
		}
	}
	if opts.Compression == "" {
		opts.Compression = layer.Gzip
	}
	for name := range opts.Env {
		if name == "" || strings.ContainsAny(name, "=/\x00") || strings.HasPrefix(name, ".") {
			return nil, fmt.Errorf("the variable name %q cannot be used", name)
		}
	}
	if opts.Registry == nil {
		opts.Registry = registry.New(registry.Options{Keychain: registry.DockerCredentials("")})
	}
	ref, err := registry.ParseReference(opts.Image)
	if err != nil {
		return nil, err
	}
	b := &build{opts: opts, repository: ref.Repository.String(), log: &progress{to: opts.Events}}
	b.state = imageState(opts.State, b.repository)
	if opts.Store == "" {
		b.opts.Store = filepath.Join(opts.State, "store")
	}
	if b.store, err = store.Open(b.opts.Store); err != nil {
		return nil, err
	}
	if opts.Layout != "" {
		b.target = target.NewFolder(opts.Layout)
	} else {
		b.target, err = target.NewRegistry(opts.Registry, opts.Image)
	}
	if err != nil {
		return nil, err
	}
	b.project, err = readProject(opts.Source, opts.Descriptor, execEnv)
	return b, err
}

// execEnv is what images are built for (buildpack.md, "Execution Environments").
const execEnv = "production"

func (b *build) run(ctx context.Context) (Result, error) {
	b.result.Image = b.opts.Image
	var previous v1.Image
	var record buildRecord
	err := b.phase(PhaseAnalyze, func() (string, error) {
		var err error
		previous, record, err = b.analyze(ctx)
		switch {
		case err != nil:
			return "", err
		case b.result.Unchanged:
			return "unchanged", nil
		case record.Digest == "":
			return "first build", nil
		}
		return "source or settings changed", nil
	})
	if err != nil || b.result.Unchanged {
		return b.result, err
	}
	work, err := b.prepare()
	if err != nil {
		return b.result, err
	}
	defer work.remove()
	var group spec.Group
	var plan spec.Plan
	err = b.phase(PhaseDetect, func() (string, error) {
		var err error
		group, plan, err = b.detect(ctx, work)
		return "", err
	})
	if err != nil {
		return b.result, err
	}
	b.result.Buildpacks = group.Group
	var md spec.BuildMetadata
	err = b.phase(PhaseBuild, func() (string, error) {
		kept, err := b.restore(ctx, work, group, previous)
		if err != nil {
			return "", err
		}
		md, err = b.build(ctx, work, group, plan)
		return kept, err
	})
	if err != nil {
		return b.result, err
	}
	b.result.Processes = md.Processes
	err = b.phase(PhaseExport, func() (string, error) { return b.export(ctx, work, group, md, previous) })
	if err != nil {
		return b.result, err
	}
	return b.result, b.remember()
}

// phase runs one phase, tells when it begins and ends, and notes how long it took.
func (b *build) phase(name string, do func() (cache string, err error)) error {
	started := time.Now()
	b.log.phase(name)
	cache, err := do()
	took := time.Since(started)
	b.log.flush()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.log.send(Event{Kind: PhaseDone, Phase: name, Duration: took, Cache: cache})
	b.result.Phases = append(b.result.Phases, Phase{name, took, cache})
	return nil
}

func (b *build) platformAPI() spec.PlatformAPI {
	api, err := spec.Platform(spec.NewestPlatform.String())
	if err != nil {
		panic(err) // the newest version is one of the supported ones
	}
	return api
}

// imageTarget is what the image is made for: what the run image says, the distribution else of the build image.
func (b *build) imageTarget() (spec.ImageTarget, error) {
	t, err := lifecycle.TargetOf(b.run0.image)
	if err == nil && t.Distro == nil {
		t.Distro = lifecycle.DistroOf("/etc/os-release")
	}
	return t, err
}

func (b *build) detect(ctx context.Context, w *work) (spec.Group, spec.Plan, error) {
	on, err := b.imageTarget()
	if err != nil {
		return spec.Group{}, spec.Plan{}, err
	}
	d := &lifecycle.Detector{API: b.platformAPI(), Folders: w.folders, Executor: w.executor(b, true), Logger: b.log, Environ: w.environ(),
		Target: on, ExecEnv: execEnv}
	group, plan, err := d.Detect(ctx, w.order)
	if lifecycle.KindOf(err) == lifecycle.KindNotDetected {
		return group, plan, &lifecycle.Error{Kind: lifecycle.KindNotDetected, Err: fmt.Errorf(
			"no buildpack knows what to do with %s; tried: %s", b.opts.Source, tried(w.order))}
	}
	return group, plan, err
}

// cache is what this image keeps in the content store.
func (b *build) cache(w *work) *kept.Cache {
	return kept.New(b.store, "build/"+filepath.Base(b.state), w.folders)
}

// restore prepares the layers folder: cached layers come back by mounting, of layers that only the image has the metadata comes back.
func (b *build) restore(ctx context.Context, w *work, group spec.Group, previous v1.Image) (string, error) {
	cache := b.cache(w)
	if b.opts.ClearCache {
		return "cleared", cache.Forget(ctx)
	}
	r := &lifecycle.Restorer{API: b.platformAPI(), Folders: w.folders, Logger: b.log, Cache: cache}
	if previous != nil {
		var err error
		if r.Original, err = lifecycle.LayersLabel(previous); err != nil {
			b.log.Warnf("the previous image is not used: %v", err)
		}
	}
	if err := r.Restore(ctx, group); err != nil {
		return "", err
	}
	for _, e := range group.Group {
		dir := filepath.Join(w.folders.Layers.Host, spec.EscapeID(e.ID))
		if err := give(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if n := len(w.folders.Below); n > 0 {
		return fmt.Sprintf("%d cached layers", n), nil
	}
	return "no cache", nil
}

// tried lists the buildpacks of an order.
func tried(order spec.Order) string {
	var ids []string
	for _, g := range order {
		for _, e := range g.Group {
			if !slices.Contains(ids, e.ID) {
				ids = append(ids, e.ID)
			}
		}
	}
	return strings.Join(ids, ", ")
}

func (b *build) build(ctx context.Context, w *work, group spec.Group, plan spec.Plan) (spec.BuildMetadata, error) {
	on, err := b.imageTarget()
	if err != nil {
		return spec.BuildMetadata{}, err
	}
	lb := &lifecycle.Builder{API: b.platformAPI(), Folders: w.folders, Executor: w.executor(b, false), Logger: b.log, Environ: w.environ(),
		Target: on, ExecEnv: execEnv, Output: b.log, Prepare: giveOne,
		Begin: func(e spec.Element) { b.log.begin(e.String()) }}
	return lb.Build(ctx, group, plan)
}

func (b *build) export(ctx context.Context, w *work, group spec.Group, md spec.BuildMetadata, previous v1.Image) (string, error) {
	x := &lifecycle.Exporter{API: b.platformAPI(), Folders: w.folders, Logger: b.log, Target: b.target,
		Names: append([]string{b.opts.Image}, b.opts.Tags...), Compression: b.opts.Compression, Owner: layer.Owner{UID: userID, GID: userID},
		RunImage: b.run0.image, RunImageRef: b.run0.reference, RunImageName: b.run0.name, Previous: previous,
		Launcher: b.opts.Programs.Launcher, DefaultProcess: b.opts.DefaultProcess, ExecEnv: execEnv}
	if b.project.Source != nil {
		x.Project.Source = &spec.ProjectSource{Type: "project", Version: map[string]any{"declared": b.project.Source["version"]},
			Metadata: map[string]any{"url": b.project.Source["url"]}}
	}
	if previous != nil {
		original, err := lifecycle.LayersLabel(previous)
		if err != nil {
			b.log.Warnf("the previous image is not used: %v", err)
			x.Previous = nil
		}
		x.Original = original
	}
	out, err := x.Export(ctx, group, md)
	if err != nil {
		return "", err
	}
	if err := x.WriteCache(ctx, b.cache(w), group); err != nil {
		return "", fmt.Errorf("keep the layers for the next build: %w", err)
	}
	b.result.Digest = out.Digest.String()
	b.result.Ref = b.repository + "@" + b.result.Digest
	return fmt.Sprintf("%d layers reused, %d added (%s)", out.Reused, out.Added, bytesText(out.Bytes)), nil
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

var _ io.Writer = (*progress)(nil)
