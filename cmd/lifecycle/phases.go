package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/spec"
)

func oneImage(s *session) error {
	if len(s.args) != 1 {
		return &failure{code: codeArguments, verb: "parse arguments", err: fmt.Errorf("received %d arguments, but expected 1", len(s.args))}
	}
	return s.sameRegistry()
}

func analyze(ctx context.Context, s *session) error {
	if err := oneImage(s); err != nil {
		return err
	}
	if err := s.begin(ctx, s.args[0], s.get("previous-image"), s.get("run-image"), s.get("cache-image")); err != nil {
		return err
	}
	_, err := s.analyze(ctx)
	return fail("analyze", err)
}

func (s *session) analyze(ctx context.Context) (md spec.Analyzed, err error) {
	// Whether the image may be written in the end is found out meanwhile.
	written := make(chan error, 1)
	go func() { written <- s.mayWrite(ctx) }()
	defer func() {
		if writeErr := <-written; err == nil {
			err = writeErr
		}
	}()
	runName, err := s.chooseRunImage(ctx)
	if err != nil {
		return spec.Analyzed{}, err
	}
	run, err := s.needRunImage(ctx, runName)
	if err != nil {
		return spec.Analyzed{}, fmt.Errorf("getting run image: %w", err)
	}
	previous, err := s.find(ctx, orElse(s.get("previous-image"), s.args[0]))
	if err != nil {
		return spec.Analyzed{}, fmt.Errorf("getting previous image: %w", err)
	}
	md, err = lifecycle.Analyze(s.api, s.log, previous, run)
	if err != nil {
		return md, err
	}
	if s.api.SBOM && !s.is("skip-layers") && !s.is("skip-restore") && previous != nil {
		if err := errors.Join(os.MkdirAll(s.get("layers"), 0o777), s.kept(ctx, previous)); err != nil {
			return md, err
		}
		if err := lifecycle.RestoreSBOM(previous.Image, md.Metadata, lifecycle.Same(s.get("layers"))); err != nil {
			return md, err
		}
	}
	return md, writeTOML(s.get("analyzed"), md)
}

func noArguments(s *session) error {
	if len(s.args) != 0 {
		return &failure{code: codeArguments, verb: "parse arguments", err: errors.New("received unexpected arguments")}
	}
	return nil
}

// notRoot holds for the phases that run programs of buildpacks.
func notRoot(s *session) error {
	if os.Geteuid() == 0 {
		return &failure{codeFailed, s.phase, errors.New("refusing to run as root")}
	}
	s.log = &logger{level: s.level, out: s.stdout}
	return nil
}

func detect(ctx context.Context, s *session) error {
	if err := errors.Join(noArguments(s)); err != nil {
		return err
	}
	if err := notRoot(s); err != nil {
		return err
	}
	md, err := s.readAnalyzed()
	if err != nil {
		return fail("detect", err)
	}
	_, _, err = s.detect(ctx, md)
	return fail("detect", err)
}

// readAnalyzed reads analyzed.toml; without it nothing is known of images.
func (s *session) readAnalyzed() (spec.Analyzed, error) {
	var md spec.Analyzed
	err := readTOML(s.get("analyzed"), &md)
	if errors.Is(err, fs.ErrNotExist) {
		s.log.Warnf("No analyzed metadata found at path %q", s.get("analyzed"))
		return spec.Analyzed{}, nil
	}
	return md, err
}

// systemTOML is system.toml: buildpacks that the operator adds to every group.
type systemTOML struct {
	System struct {
		Pre  systemGroup `toml:"pre"`
		Post systemGroup `toml:"post"`
	} `toml:"system"`
}

type systemGroup struct {
	Buildpacks []spec.Element `toml:"buildpacks"`
}

func (s *session) order() (spec.Order, error) {
	var o struct {
		Order      spec.Order `toml:"order"`
		Extensions spec.Order `toml:"order-extensions"`
	}
	if err := readTOML(s.get("order"), &o); err != nil {
		return nil, fmt.Errorf("reading order: %w", err)
	}
	if len(o.Extensions) > 0 {
		return nil, errors.New("reading order: image extensions (order-extensions) are not supported")
	}
	if !s.api.ExecutionEnv {
		return o.Order, nil
	}
	var system systemTOML
	if err := readTOML(s.get("system"), &system); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading system: %w", err)
	}
	return lifecycle.WithSystem(o.Order, system.System.Pre.Buildpacks, system.System.Post.Buildpacks), nil
}

func (s *session) detect(ctx context.Context, md spec.Analyzed) (spec.Group, spec.Plan, error) {
	order, err := s.order()
	if err != nil {
		return spec.Group{}, spec.Plan{}, &failure{codeFailed, "initialize detector", err}
	}
	d := &lifecycle.Detector{API: s.api, Folders: s.folders(), Executor: lifecycle.Direct{}, Logger: s.log, Environ: os.Environ(),
		Target: s.imageTarget(md), ExecEnv: s.execEnv}
	if err := d.CheckOrder(order); err != nil {
		if lifecycle.KindOf(err) != lifecycle.KindBuildpackAPI {
			err = &failure{codeFailed, "initialize detector", err}
		}
		return spec.Group{}, spec.Plan{}, err
	}
	group, plan, err := d.Detect(ctx, order)
	if err != nil {
		if k := lifecycle.KindOf(err); k == lifecycle.KindNotDetected || k == lifecycle.KindDetectFailed {
			fmt.Fprintln(s.stderr, "ERROR: No buildpack groups passed detection.")
			if k == lifecycle.KindNotDetected {
				fmt.Fprintln(s.stderr, "ERROR: Please check that you are running against the correct path.")
			}
		}
		return group, plan, err
	}
	if err := writeTOML(s.get("group"), group); err != nil {
		return group, plan, err
	}
	return group, plan, writeTOML(s.get("plan"), plan)
}

func restore(ctx context.Context, s *session) error {
	if err := noArguments(s); err != nil {
		return err
	}
	if err := s.begin(ctx, s.get("cache-image"), s.get("build-image")); err != nil {
		return err
	}
	group, err := s.readGroup()
	if err != nil {
		return fail("restore", err)
	}
	md, err := s.readAnalyzed()
	if err != nil {
		return fail("restore", err)
	}
	if err := s.openCache(ctx); err != nil {
		return fail("restore", err)
	}
	return fail("restore", s.restore(ctx, md, group))
}

func (s *session) readGroup() (spec.Group, error) {
	var g spec.Group
	if err := readTOML(s.get("group"), &g); err != nil {
		return g, &failure{codeFailed, "read group file", err} // as upstream, not a code of the phase
	}
	for _, e := range g.Group {
		if _, err := spec.Buildpack(e.API); err != nil {
			return g, &lifecycle.Error{Kind: lifecycle.KindBuildpackAPI, Err: fmt.Errorf("set API for buildpack '%s': %w", e, err)}
		}
	}
	return g, nil
}

func (s *session) restore(ctx context.Context, md spec.Analyzed, group spec.Group) (err error) {
	if err := os.MkdirAll(s.get("layers"), 0o777); err != nil {
		return err
	}
	r := &lifecycle.Restorer{API: s.api, Folders: s.folders(), Logger: s.log, Original: md.Metadata, Cache: s.cache,
		SkipLayer: s.is("skip-layers") || s.is("skip-restore")}
	if s.mounts != nil {
		r.Folders.Below, r.Mount = s.mounts.below, s.mounts.mount
		defer func() { err = errors.Join(err, dropMountRight()) }()
	}
	return r.Restore(ctx, group)
}

func build(ctx context.Context, s *session) error {
	if err := noArguments(s); err != nil {
		return err
	}
	if err := notRoot(s); err != nil {
		return err
	}
	group, err := s.readGroup()
	if err != nil {
		return fail("build", err)
	}
	var plan spec.Plan
	if err := readTOML(s.get("plan"), &plan); err != nil {
		return &failure{codeFailed, "read plan file", err}
	}
	md, err := s.readAnalyzed()
	if err != nil {
		return fail("build", err)
	}
	_, err = s.build(ctx, md, group, plan)
	return fail("build", err)
}

func (s *session) build(ctx context.Context, md spec.Analyzed, group spec.Group, plan spec.Plan) (spec.BuildMetadata, error) {
	b := &lifecycle.Builder{API: s.api, Folders: s.folders(), Executor: lifecycle.Direct{}, Logger: s.log, Environ: os.Environ(),
		Target: s.imageTarget(md), ExecEnv: s.execEnv, Output: s.stdout}
	return b.Build(ctx, group, plan)
}

func export(ctx context.Context, s *session) error {
	if len(s.args) == 0 {
		return &failure{code: codeArguments, verb: "parse arguments", err: errors.New("at least one image argument is required")}
	}
	if err := s.sameRegistry(); err != nil {
		return err
	}
	if s.get("run-image") != os.Getenv("CNB_RUN_IMAGE") {
		return &failure{code: codeArguments, verb: "resolve inputs", err: errors.New("-run-image is unsupported")}
	}
	if s.get("image") != "" {
		return &failure{code: codeArguments, verb: "resolve inputs", err: errors.New("-image is unsupported")}
	}
	s.log = &logger{level: s.level, out: s.stdout}
	md, err := s.readAnalyzed()
	if err != nil {
		return fail("export", err)
	}
	if md.RunImage == nil || md.RunImage.Reference == "" {
		return &failure{code: codeArguments, verb: "resolve inputs", err: errors.New("run image not found in analyzed metadata")}
	}
	previous := ""
	if md.Image != nil {
		previous = md.Image.Reference
	}
	if err := s.begin(ctx, append(s.names(), md.RunImage.Reference, previous, s.get("cache-image"))...); err != nil {
		return err
	}
	group, err := s.readGroup()
	if err != nil {
		return fail("export", err)
	}
	if err := s.openCache(ctx); err != nil {
		return fail("export", err)
	}
	var built spec.BuildMetadata
	if err := readTOML(filepath.Join(s.get("layers"), "config", "metadata.toml"), &built); err != nil {
		return fail("export", fmt.Errorf("failed to read build metadata file: %w", err))
	}
	return fail("export", s.export(ctx, md, group, built))
}

func (s *session) export(ctx context.Context, md spec.Analyzed, group spec.Group, built spec.BuildMetadata) error {
	run, err := s.needRunImage(ctx, s.layoutName(md.RunImage.Reference))
	if err != nil {
		return err
	}
	if err := s.whole(ctx, run); err != nil {
		return err
	}
	to, err := s.target(s.args[0])
	if err != nil {
		return err
	}
	x := &lifecycle.Exporter{API: s.api, Folders: s.folders(), Logger: s.log, Target: to, Names: s.names(), Compression: layer.Gzip,
		Owner: layer.Owner{UID: s.number("uid"), GID: s.number("gid")}, RunImage: run.Image, RunImageRef: md.RunImage.Reference,
		Launcher: s.get("launcher"), LauncherSBOM: s.get("launcher-sbom"), DefaultProcess: s.get("process-type"), ExecEnv: s.execEnv,
		Original: md.Metadata}
	if s.mounts != nil {
		x.Unchanged = s.mounts.unchanged
	}
	x.LauncherSource.Version = version
	if x.RunImageName, err = s.runImageName(md, built); err != nil {
		return err
	}
	if md.Image != nil && md.Image.Reference != "" {
		previous, err := s.find(ctx, s.layoutName(md.Image.Reference))
		if err != nil {
			return err
		}
		if err := s.whole(ctx, previous); err != nil {
			return err
		}
		if previous != nil {
			x.Previous = previous.Image
		}
	}
	if s.sourceDateEpoch != "" {
		if x.Created, err = strconv.ParseInt(s.sourceDateEpoch, 10, 64); err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH must be seconds since 1970, not %q", s.sourceDateEpoch)
		}
	}
	err = readTOML(s.get("project-metadata"), &x.Project)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("failed to read project metadata file: %w", err)
	}
	return s.publish(ctx, x, group, built)
}

// publish exports the image and writes the cache, at the same time if the platform wants that. A cache that cannot be written is no
// reason to fail.
func (s *session) publish(ctx context.Context, x *lifecycle.Exporter, group spec.Group, built spec.BuildMetadata) error {
	cached := make(chan error, 1)
	write := func() {
		if s.cache == nil {
			cached <- nil
			return
		}
		cached <- x.WriteCache(ctx, s.cache, group)
	}
	parallel := s.is("parallel")
	if parallel {
		if v, ok := s.cache.(*lifecycle.VolumeCache); ok {
			v.TakeFrom(lifecycle.Folder{}) // the export reads the layers, too
		}
		go write()
	}
	out, err := x.Export(ctx, group, built)
	if err == nil {
		s.reportOfDaemon(&out.Report.Image)
		err = writeTOML(s.get("report"), out.Report)
	}
	if err == nil && !parallel {
		write()
	}
	if err != nil && !parallel {
		return err
	}
	if cacheErr := <-cached; cacheErr != nil {
		s.log.Warnf("Failed to export cache: %v", cacheErr)
	}
	return err
}

// layoutName turns a reference of a layout folder (PATH@DIGEST) back into the name that leads there.
func (s *session) layoutName(reference string) string {
	if !s.is("layout") {
		return reference
	}
	rel, err := filepath.Rel(s.get("layout-dir"), reference)
	if err != nil {
		return reference
	}
	return nameOfLayoutPath(rel)
}

// runImageName is what the image will say about its run image, for rebase.
func (s *session) runImageName(md spec.Analyzed, built spec.BuildMetadata) (spec.RunImageName, error) {
	images, err := s.runImages()
	if err != nil || len(images) == 0 {
		return spec.RunImageName{}, err
	}
	if s.api.RunTOML {
		for _, image := range images {
			if lifecycle.SameImage(image, md.RunImage.Image) {
				return image, nil
			}
		}
	}
	return images[0], nil
}

func create(ctx context.Context, s *session) error {
	if err := oneImage(s); err != nil {
		return err
	}
	if err := s.begin(ctx, append(s.names(), s.get("previous-image"), s.get("run-image"), s.get("cache-image"))...); err != nil {
		return err
	}
	if err := s.openCache(ctx); err != nil {
		return err
	}
	s.log.phase("ANALYZING")
	md, err := s.analyze(ctx)
	if err != nil {
		return fail("analyze", err)
	}
	s.log.phase("DETECTING")
	group, plan, err := s.detect(ctx, md)
	if err != nil {
		return fail("detect", err)
	}
	if !s.is("skip-restore") || s.api.AtLeast(spec.API{Major: 0, Minor: 10}) {
		s.log.phase("RESTORING")
		if err := s.restore(ctx, md, group); err != nil {
			return fail("restore", err)
		}
	}
	s.log.phase("BUILDING")
	built, err := s.build(ctx, md, group, plan)
	if err != nil {
		return fail("build", err)
	}
	s.log.phase("EXPORTING")
	return fail("export", s.export(ctx, md, group, built))
}

// lookUp starts to find a run image and gives what waits for it.
func (s *session) lookUp(ctx context.Context, name string) func() (*lifecycle.NamedImage, error) {
	if name == "" {
		return nil
	}
	var found *lifecycle.NamedImage
	done := make(chan error, 1)
	go func() {
		var err error
		if found, err = s.needRunImage(ctx, name); err == nil && s.daemon == nil {
			_, err = found.Image.ConfigFile()
		}
		done <- err
	}()
	return func() (*lifecycle.NamedImage, error) { err := <-done; return found, err }
}
