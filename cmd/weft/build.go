package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
)

// buildFlags are the choices of `weft build`.
type buildFlags struct {
	path, descriptor, process, runImage, network, compression, builder, previous   string
	creation, workspace, platform, execEnv, pullPolicy, sboms, reports             string
	lifecycleImage, cacheImage, packRegistry                                       string
	buildpacks, extensions, pre, post, env, envFiles, tags, volumes, caches, plain []string
	clearCache, noSystem, trustBuilder, trustBuildpacks, interactive, usern        bool
	erofs, nydus                                                                   bool
	uid, gid                                                                       int
	place                                                                          placeFlags
}

func (a *app) buildCommand(publish bool) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build IMAGE",
		Short: "Build an image from source with buildpacks, without a daemon",
		Long: `Build the image of a source folder with Cloud Native Buildpacks and push it. Buildpacks run in a sandbox on this machine.

IMAGE is a name in a registry, such as registry.example.com/team/app:v1; a name without a registry goes to the registry of the embedded
cluster; oci:FOLDER writes a folder in the OCI image layout; containerd:NAME goes straight into a containerd, by default the embedded cluster's;
docker-daemon:NAME, and with --publish=false each name, goes to the Docker daemon if one answers. A source that has not changed since the last build is neither built nor pushed. project.toml in the source says more: what belongs to it, which
builder, which buildpacks and which variables.

Without --builder weft's own buildpacks are tried, for Go, Java, Node.js, Python, web pages and programs named in a Procfile. What these
languages need comes from Debian packages.`,
		Example: `  weft build registry.example.com/team/app:v1
  weft build oci:image --path app
  weft build containerd:app:v1 --path app
  weft build app --buildpack ./my-buildpack --env BP_GO_TARGETS=./cmd/server
  weft build app --builder registry.example.com/builder
  weft build app --builder debian:python`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.build(cmd.Context(), args[0], f) },
	}
	f.add(cmd.Flags(), publish)
	return cmd
}

func (f *buildFlags) add(flags *pflag.FlagSet, publish bool) {
	flags.StringVarP(&f.path, "path", "p", ".", "source `FOLDER`, or a zip or jar file")
	flags.StringVarP(&f.builder, "builder", "B", "", "builder `IMAGE`; oci:FOLDER; debian:LANGUAGE (base, java, node, python, full) for weft's buildpacks on Debian packages; host for them on this machine")
	flags.StringVarP(&f.descriptor, "descriptor", "d", "", "`FILE` to read instead of project.toml of the source")
	flags.StringSliceVarP(&f.buildpacks, "buildpack", "b", nil, "`BUILDPACK` in the order in which they run: a folder, a .cnb or .tgz file, an address, docker://IMAGE, ID@VERSION of one of the builder, or from=builder for its order")
	flags.StringArrayVar(&f.pre, "pre-buildpack", nil, "`BUILDPACK` before each group of the builder's order")
	flags.StringArrayVar(&f.post, "post-buildpack", nil, "`BUILDPACK` after each group of the builder's order")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "`NAME=VALUE` for buildpacks; NAME alone takes the value from here")
	flags.StringArrayVar(&f.envFiles, "env-file", nil, "`FILE` with a NAME=VALUE or NAME on each line")
	flags.StringVarP(&f.process, "default-process", "D", "", "`TYPE` of the process that the image starts")
	flags.StringSliceVarP(&f.tags, "tag", "t", nil, "more `NAMES` in the same registry")
	flags.StringVar(&f.runImage, "run-image", "", "`IMAGE` to put the application on, instead of the builder's")
	flags.StringVar(&f.previous, "previous-image", "", "`IMAGE` to reuse layers of, instead of the one that is built")
	f.place.add(flags, publish)
	f.place.addUnpack(flags)
	flags.StringVar(&f.pullPolicy, "pull-policy", "", "when names of builders and run images are looked up anew: `always`, if-not-present or never; given explicitly, always also looks for newer Debian packages")
	flags.StringVar(&f.network, "network", "", "none: buildpacks may not use the network")
	flags.StringArrayVar(&f.volumes, "volume", nil, "`HOST:TARGET[:rw]`: a folder of this machine that buildpacks see")
	flags.StringVar(&f.workspace, "workspace", "", "`FOLDER` of the application in build and image (default /workspace)")
	flags.StringVar(&f.platform, "platform", "", "`PLATFORM` to build on; only this machine's")
	flags.StringVar(&f.execEnv, "exec-env", "production", "`ENVIRONMENT` that the image is for")
	flags.IntVar(&f.uid, "uid", 0, "`NUMBER` of the user, instead of the builder's")
	flags.IntVar(&f.gid, "gid", 0, "`NUMBER` of the group, instead of the builder's")
	flags.StringVar(&f.creation, "creation-time", "", "`TIME` that the image says it was made: seconds since 1970, or now")
	flags.StringVar(&f.sboms, "sbom-output-dir", "", "`FOLDER` for the bills of materials")
	flags.StringVar(&f.reports, "report-output-dir", "", "`FOLDER` for report.toml")
	flags.StringArrayVar(&f.caches, "cache", nil, "`type=build;format=bind;source=FOLDER` or format=volume;name=NAME, or format=image;name=IMAGE: where layers are kept for the next build")
	flags.StringVar(&f.cacheImage, "cache-image", "", "`IMAGE` in a registry in which layers are kept for the next build, also on other machines")
	flags.StringVar(&f.compression, "compression", "gzip", "of layers: gzip or zstd")
	flags.BoolVar(&f.erofs, "erofs", false, "also push the image's EROFS form beside it, by which weft's snapshotter starts it before it is downloaded")
	flags.BoolVar(&f.nydus, "nydus", false, "also push the image's Nydus form beside it, for Nydus's snapshotter")
	flags.BoolVar(&f.clearCache, "clear-cache", false, "forget what earlier builds kept")
	flags.BoolVar(&f.noSystem, "disable-system-buildpacks", false, "leave out the builder's system buildpacks")
	flags.StringArrayVar(&f.plain, "insecure-registry", nil, "`HOST` to speak to without TLS")
	flags.BoolVar(&f.trustBuilder, "trust-builder", false, "nothing changes: no builder ever sees credentials")
	flags.BoolVar(&f.trustBuildpacks, "trust-extra-buildpacks", false, "nothing changes: no buildpack ever sees credentials")
	flags.BoolVar(&f.usern, "userns-host", false, "not supported: buildpacks always have a user namespace of their own")
	flags.StringArrayVar(&f.extensions, "extension", nil, "not supported")
	flags.StringVar(&f.lifecycleImage, "lifecycle-image", "", "not supported: the lifecycle is weft's own")
	flags.StringVarP(&f.packRegistry, "buildpack-registry", "r", "", "not supported")
	flags.BoolVar(&f.interactive, "interactive", false, "not supported")
	for _, name := range []string{"userns-host", "extension", "lifecycle-image", "buildpack-registry", "interactive"} {
		if err := flags.MarkHidden(name); err != nil {
			panic(err) // the flag was added above
		}
	}
}

// refuse tells of options of pack that there is nothing for. None is accepted and ignored.
func (f *buildFlags) refuse() error {
	for _, o := range []struct {
		given bool
		name  string
		why   string
	}{
		{len(f.extensions) > 0, "extension", "image extensions are not supported"},
		{f.lifecycleImage != "", "lifecycle-image", "the lifecycle is weft's own"},
		{f.packRegistry != "", "buildpack-registry", "registries of buildpacks are not read; name packages as docker://IMAGE"},
		{f.interactive, "interactive", "progress is shown as it is"},
		{f.usern, "userns-host", "buildpacks always have a user namespace of their own"},
	} {
		if o.given {
			return output.Usagef("--%s: %s", o.name, o.why)
		}
	}
	if f.platform != "" && f.platform != "linux/"+runtime.GOARCH {
		return output.Usagef("--platform: this machine builds for linux/%s, not for %s", runtime.GOARCH, f.platform)
	}
	return nil
}

// options turns the flags into those of the build. The target is still missing.
func (f *buildFlags) options(a *app) (buildpack.Options, error) {
	opts := buildpack.Options{Source: f.path, Builder: f.builder, Buildpacks: f.buildpacks, PreBuildpacks: f.pre, PostBuildpacks: f.post, NoSystem: f.noSystem,
		Descriptor: f.descriptor, DefaultProcess: f.process, Tags: f.tags, RunImage: f.runImage, PreviousImage: f.previous, ClearCache: f.clearCache,
		Workspace: f.workspace, UID: f.uid, GID: f.gid, ExecEnv: f.execEnv, SBOMDir: f.sboms, ReportDir: f.reports, Registry: a.registryClient(f.plain)}
	var err error
	if err := f.refuse(); err != nil {
		return opts, err
	}
	if opts.Compression, err = layer.ParseCompression(f.compression); err != nil {
		return opts, output.Usagef("--compression: %w", err)
	}
	if opts.PullPolicy, err = buildpack.ParsePullPolicy(f.pullPolicy); err != nil {
		return opts, output.Usagef("--pull-policy: %w", err)
	}
	if strings.Contains(f.execEnv, "/") { // platform.md, "Execution Environment"
		return opts, output.Usagef("--exec-env is %q, but the name of an environment has no slash; write for example test", f.execEnv)
	}
	switch f.network {
	case "", "default", "host", "bridge":
	case "none":
		opts.NoNetwork = true
	default:
		return opts, output.Usagef("--network is %q, none is the only other network than this machine's", f.network)
	}
	for _, v := range f.volumes {
		volume, err := buildpack.ParseVolume(v)
		if err != nil {
			return opts, output.Usagef("--volume: %w", err)
		}
		opts.Volumes = append(opts.Volumes, volume)
	}
	switch f.creation {
	case "":
	case "now":
		opts.Created = time.Now().UTC()
	default:
		seconds, err := strconv.ParseInt(f.creation, 10, 64)
		if err != nil || seconds <= 0 {
			return opts, output.Usagef("--creation-time: %q is neither now nor a number of seconds since 1970", f.creation)
		}
		opts.Created = time.Unix(seconds, 0).UTC()
	}
	if opts.Env, err = a.buildEnv(*f); err != nil {
		return opts, err
	}
	if opts.State, err = buildState(a.getenv); err != nil {
		return opts, err
	}
	opts.CacheImage = f.cacheImage
	if err := setCache(&opts, f.caches); err != nil {
		return opts, err
	}
	switch {
	case opts.CacheImage != "" && !f.place.publish:
		return opts, output.Usagef("--cache-image: the layers go to a registry, so the image has to, too: add --publish")
	case opts.CacheImage != "" && opts.Cache != "":
		return opts, output.Usagef("--cache-image and --cache both say where layers are kept")
	}
	return opts, nil
}

// setCache reads the forms of pack's option --cache. Only the build cache has a place of its own.
func setCache(opts *buildpack.Options, list []string) error {
	for _, text := range list {
		fields := map[string]string{"type": "build", "format": "volume"}
		for part := range strings.SplitSeq(text, ";") {
			name, value, ok := strings.Cut(part, "=")
			if !ok {
				return output.Usagef("--cache: %q is not of the form type=build;format=bind;source=FOLDER", text)
			}
			fields[strings.ToLower(name)] = value
		}
		if fields["type"] != "build" {
			if fields["type"] == "launch" {
				return output.Usagef("--cache: there is no cache of the type launch: layers of the last image are reused where it is")
			}
			return output.Usagef("--cache: the type %q is unknown, build is the only one", fields["type"])
		}
		switch fields["format"] {
		case "bind":
			if fields["source"] == "" {
				return output.Usagef("--cache: source=FOLDER is missing")
			}
			abs, err := filepath.Abs(fields["source"])
			if err != nil {
				return err
			}
			opts.Cache = abs
		case "volume":
			if name := fields["name"]; name != "" {
				if strings.ContainsAny(name, "/\\") || name == ".." {
					return output.Usagef("--cache: the name %q must not have slashes", name)
				}
				opts.Cache = filepath.Join(opts.State, "volumes", name)
			}
		case "image":
			if fields["name"] == "" {
				return output.Usagef("--cache: name=IMAGE is missing")
			}
			opts.CacheImage = fields["name"]
		default:
			return output.Usagef("--cache: the format %q is unknown; use bind, volume or image", fields["format"])
		}
	}
	return nil
}

// buildResult is what `weft build -o json` prints.
type buildResult struct {
	buildpack.Result
	Where     string     `json:"where"`               // the registry, daemon or folder where the image is
	Converted []attached `json:"converted,omitempty"` // forms of it that are beside it
}

func (a *app) build(ctx context.Context, image string, f buildFlags) (err error) {
	opts, err := f.options(a)
	if err != nil {
		return err
	}
	if info, err := os.Stat(f.path); err == nil && info.Mode().IsRegular() {
		dir, err := unzip(f.path)
		if err != nil {
			return fmt.Errorf("the source: %w", err)
		}
		defer os.RemoveAll(dir)
		opts.Source = dir
	}
	to, err := a.placeOf(ctx, image, f.place)
	if err != nil {
		return err
	}
	defer to.Close()
	formats, err := f.formats(to)
	if err != nil {
		return err
	}
	opts.Image, opts.Layout, opts.Daemon = to.name, to.folder, to.daemon
	if to.containerd != nil {
		t := to.containerd.NewTarget(to.snapshots)
		defer func() { err = errors.Join(err, t.Close()) }()
		opts.Target = t
	}
	result := buildResult{Where: to.where}
	progress := a.print().Progress()
	defer progress.Close()
	follow := &phaseProgress{progress: progress}
	opts.Events = follow.show
	result.Result, err = buildpack.Build(ctx, opts)
	if err != nil {
		follow.fail()
		if ctx.Err() != nil {
			return fmt.Errorf("the build was interrupted: %w", context.Cause(ctx))
		}
		for _, line := range follow.last {
			a.print().Say("  " + line)
		}
		return fmt.Errorf("%s cannot be built: %w", image, err)
	}
	if result.Converted, err = a.attach(ctx, opts.Registry, result.Ref, formats, progress); err != nil {
		return err
	}
	progress.Close()
	if to.daemon != nil || to.containerd != nil { // they know names, not digests
		result.Ref = to.name
	}
	return a.print().Result(result, func(page *output.Page) { buildPage(page, result) })
}

// formats are the forms of the image that are wanted beside it.
func (f *buildFlags) formats(to place) ([]image.Format, error) {
	var list []image.Format
	if f.erofs {
		list = append(list, image.EROFS)
	}
	if f.nydus {
		list = append(list, image.RAFS)
	}
	if len(list) > 0 && (to.daemon != nil || to.containerd != nil || to.folder != "") {
		return nil, output.Usagef("--erofs and --nydus: the forms lie beside images in registries, and %s is none", to.where)
	}
	return list, nil
}

// buildEnv gathers variables: files first, then flags.
func (a *app) buildEnv(f buildFlags) (map[string]string, error) {
	vars := map[string]string{}
	set := func(entry string) error {
		name, value, ok := strings.Cut(entry, "=")
		if name == "" {
			return fmt.Errorf("%q is not of the form NAME=VALUE", entry)
		}
		if !ok {
			value = a.getenv(name)
		}
		vars[name] = value
		return nil
	}
	for _, file := range f.envFiles {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, output.Usagef("--env-file: %w", err)
		}
		number := 0
		for line := range strings.Lines(string(data)) {
			number++
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := set(line); err != nil {
				return nil, &output.Problem{File: file, Line: number, Cause: err}
			}
		}
	}
	for _, entry := range f.env {
		if err := set(entry); err != nil {
			return nil, output.Usagef("--env: %w", err)
		}
	}
	return vars, nil
}

// phaseProgress shows each phase of a build with its time, and the output of buildpacks as it comes.
type phaseProgress struct {
	progress *output.Progress
	item     *output.Item
	last     []string
}

func (p *phaseProgress) show(e buildpack.Event) {
	switch e.Kind {
	case buildpack.PhaseStarted:
		p.item = p.progress.Start(e.Phase)
	case buildpack.PhaseDone:
		text := strings.TrimSuffix(fmt.Sprintf("%s, %s", e.Duration.Round(time.Millisecond), e.Cache), ", ")
		p.item.Done(text)
		p.item = nil
	default:
		if p.item != nil {
			p.item.Note("%s", e.Line)
		}
		if e.Kind != buildpack.Message {
			p.last = append(p.last, e.Line)
			p.last = p.last[max(0, len(p.last)-40):]
		}
	}
}

// fail ends the phase that is under way.
func (p *phaseProgress) fail() {
	if p.item != nil {
		p.item.Fail("failed")
	}
}

func buildPage(page *output.Page, r buildResult) {
	if r.Unchanged {
		page.Line("Nothing has changed, nothing was built.")
	}
	var rows [][]output.Cell
	for _, p := range r.Processes {
		rows = append(rows, output.Row(p.Type, strings.Join(append(p.Command.Entries, p.Args...), " "), p.BuildpackID))
	}
	if len(rows) > 0 {
		page.Table([]string{"PROCESS", "COMMAND", "BUILDPACK"}, rows)
	}
	page.Line("%s is in %s.", r.Ref, r.Where)
	for _, c := range r.Converted {
		page.Line("Its %s form is %s.", c.Format, c.Digest)
	}
}
