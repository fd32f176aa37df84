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
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/buildpack/target"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/store"
)

// Phases of a build, in their order.
const (
	PhaseAnalyze = "analyze" // compares the source with the earlier build
	PhaseDetect  = "detect"
	PhasePrepare = "prepare" // gets the packages that the detected buildpacks stand on, if they have changed
	PhaseBuild   = "build"
	PhaseExport  = "export"
)

// CacheUnchanged is what Event.Cache says of the phase analyze if nothing is to be done.
const CacheUnchanged = "unchanged"

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

	// Fingerprint stands for everything that the image was made from; equal ones lead to equal images.
	Fingerprint string `json:"fingerprint"`
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

// Check says what Build would do without doing it: Unchanged is set if the image is there and made of the same; else only the fingerprint
// is known.
func Check(ctx context.Context, opts Options) (Result, error) {
	b, err := newBuild(opts)
	if err != nil {
		return Result{}, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	b.result.Image = b.opts.Image
	_, _, err = b.analyze(ctx)
	b.result.Fingerprint = b.fingerprint
	return b.result, err
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
	base        base
	selection   selection
}

func newBuild(opts Options) (*build, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	ref, err := registry.ParseReference(opts.Image)
	if err != nil {
		return nil, err
	}
	b := &build{opts: opts, repository: ref.Repository.String(), log: &progress{to: opts.Events}}
	b.state = imageState(opts.State, b.repository)
	if b.store, err = store.Open(b.opts.Store); err != nil {
		return nil, err
	}
	switch {
	case opts.Target != nil:
		b.target = opts.Target
	case opts.Layout != "":
		b.target = target.NewFolder(opts.Layout)
	case opts.Daemon != nil:
		b.target = target.NewDaemonTarget(opts.Daemon, filepath.Join(b.state, "daemon"))
	default:
		b.target, err = target.NewRegistry(opts.Registry, opts.Image)
	}
	if err != nil {
		return nil, err
	}
	b.project, err = readProject(opts.Source, opts.Descriptor, opts.ExecEnv)
	return b, err
}

func (b *build) run(ctx context.Context) (Result, error) {
	b.result.Image = b.opts.Image
	var previous v1.Image
	var record buildRecord
	err := b.phase(PhaseAnalyze, func() (string, error) {
		var err error
		previous, record, err = b.analyze(ctx)
		b.result.Fingerprint = b.fingerprint
		switch {
		case err != nil:
			return "", err
		case b.result.Unchanged:
			return CacheUnchanged, nil
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
	if err := b.prepareBase(ctx, work, group); err != nil {
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
	if b.opts.SBOMDir != "" {
		if err := b.copySBOMs(work); err != nil {
			return b.result, fmt.Errorf("the bills of materials: %w", err)
		}
	}
	err = b.phase(PhaseExport, func() (string, error) { return b.export(ctx, work, group, md, previous) })
	if err != nil {
		return b.result, err
	}
	return b.result, b.remember()
}

// prepareBase changes to what the detected buildpacks stand on, and sums up the build anew.
func (b *build) prepareBase(ctx context.Context, w *work, group spec.Group) error {
	if b.base.builder != nil || b.base.chosen {
		return nil
	}
	language, err := b.languageOf(group)
	if err != nil || language == b.base.language {
		return err
	}
	return b.phase(PhasePrepare, func() (string, error) {
		if err := b.changeLanguage(ctx, language); err != nil {
			return "", err
		}
		if err := b.setRoot(w); err != nil {
			return "", err
		}
		var err error
		b.fingerprint, err = b.computeFingerprint(ctx)
		if language == "" {
			return "no packages", err
		}
		return "Debian packages for " + language, err
	})
}

// copySBOMs copies the bills of materials to the user's folder, as `docker cp` would.
func (b *build) copySBOMs(w *work) error {
	from := filepath.Join(w.folders.Layers.Host, "sbom")
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	to := b.opts.SBOMDir
	if _, err := os.Stat(to); err == nil {
		to = filepath.Join(to, "sbom")
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	return copyTree(from, to, nil)
}

func (b *build) writeReport(report spec.Report) error {
	data, err := spec.Encode(report)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.opts.ReportDir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.opts.ReportDir, "report.toml"), data, 0o644)
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
	t, err := lifecycle.TargetOf(b.base.run.image)
	if err == nil && t.Distro == nil {
		t.Distro = lifecycle.DistroOf(filepath.Join("/", b.base.root, "etc", "os-release"))
	}
	return t, err
}

func (b *build) detect(ctx context.Context, w *work) (spec.Group, spec.Plan, error) {
	on, err := b.imageTarget()
	if err != nil {
		return spec.Group{}, spec.Plan{}, err
	}
	d := &lifecycle.Detector{API: b.platformAPI(), Folders: w.folders, Executor: w.executor(b, true), Logger: b.log, Environ: w.environ(),
		Target: on, ExecEnv: b.opts.ExecEnv}
	group, plan, err := d.Detect(ctx, w.order)
	if lifecycle.KindOf(err) == lifecycle.KindNotDetected {
		return group, plan, &lifecycle.Error{Kind: lifecycle.KindNotDetected, Err: fmt.Errorf(
			"no buildpack knows what to do with %s; tried: %s", b.opts.Source, tried(w.order))}
	}
	return group, plan, err
}

// cache is what is kept for the next build: in the content store, or in an image if the user names one.
func (b *build) cache(ctx context.Context, w *work) (lifecycle.Cache, error) {
	if b.opts.CacheImage == "" {
		return b.ownCache(w), nil
	}
	to, err := target.NewRegistry(b.opts.Registry, b.opts.CacheImage)
	if err != nil {
		return nil, fmt.Errorf("the cache image: %w", err)
	}
	return lifecycle.NewImageCache(ctx, to, b.opts.CacheImage, b.log)
}

// ownCache is what this image keeps in the content store.
func (b *build) ownCache(w *work) *kept.Cache {
	return kept.New(b.store, "build/"+filepath.Base(b.state), w.folders)
}

// restore prepares the layers folder: layers in the content store come back by mounting, those of a cache image are fetched, and of layers
// that only the image has the metadata comes back.
func (b *build) restore(ctx context.Context, w *work, group spec.Group, previous v1.Image) (string, error) {
	if b.opts.ClearCache {
		if b.opts.CacheImage != "" {
			return "cleared", nil // what the build keeps takes the place of all that was there
		}
		return "cleared", b.ownCache(w).Forget(ctx)
	}
	cache, err := b.cache(ctx, w)
	if err != nil {
		return "", err
	}
	r := &lifecycle.Restorer{API: b.platformAPI(), Folders: w.folders, Logger: b.log, Cache: cache}
	if previous != nil {
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
	n := len(w.folders.Below)
	if b.opts.CacheImage != "" {
		md, err := cache.Metadata(ctx)
		if err != nil {
			return "", err
		}
		for _, bp := range md.Buildpacks {
			n += len(bp.Layers)
		}
	}
	if n > 0 {
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
		Target: on, ExecEnv: b.opts.ExecEnv, Output: b.log, Prepare: giveOne,
		Begin: func(e spec.Element) { b.log.begin(e.String()) }}
	return lb.Build(ctx, group, plan)
}

func (b *build) export(ctx context.Context, w *work, group spec.Group, md spec.BuildMetadata, previous v1.Image) (string, error) {
	x := &lifecycle.Exporter{API: b.platformAPI(), Folders: w.folders, Logger: b.log, Target: b.target,
		Names: append([]string{b.opts.Image}, b.opts.Tags...), Compression: b.opts.Compression, Owner: layer.Owner{UID: b.base.uid, GID: b.base.gid},
		RunImage: b.base.run.image, RunImageRef: b.base.run.reference, RunImageName: b.base.run.name, Previous: previous,
		Launcher: b.opts.Programs.Launcher, DefaultProcess: b.opts.DefaultProcess, ExecEnv: b.opts.ExecEnv}
	if !b.opts.Created.IsZero() {
		x.Created = b.opts.Created.Unix()
	}
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
	cache, err := b.cache(ctx, w)
	if err == nil {
		err = x.WriteCache(ctx, cache, group)
	}
	if err != nil {
		return "", fmt.Errorf("keep the layers for the next build: %w", err)
	}
	b.result.Digest = out.Digest.String()
	if b.opts.ReportDir != "" {
		if err := b.writeReport(out.Report); err != nil {
			return "", fmt.Errorf("report.toml: %w", err)
		}
	}
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
