package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/cmd/internal/output"
)

// buildFlags are the choices of `weft build`.
type buildFlags struct {
	path, descriptor, process, runImage, network, compression string
	buildpacks, env, envFiles, tags                           []string
	clearCache                                                bool
}

func (a *app) buildCommand() *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build IMAGE",
		Short: "Build an image from source with buildpacks, without a daemon",
		Long: `Build the image of a source folder with Cloud Native Buildpacks and push it. Buildpacks run in a sandbox on this machine.

IMAGE is a name in a registry, such as registry.example.com/team/app:v1; a name without a registry goes to the registry of the embedded
cluster; oci:FOLDER writes a folder in the OCI image layout. A source that has not changed since the last build is neither
built nor pushed. project.toml in the source says more: what belongs to it, which buildpacks and which variables.`,
		Example: `  weft build registry.example.com/team/app:v1
  weft build oci:image --path app
  weft build app --buildpack ./my-buildpack --env BP_GO_TARGETS=./cmd/server`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.build(cmd.Context(), args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.path, "path", "p", ".", "source `FOLDER`")
	flags.StringVarP(&f.descriptor, "descriptor", "d", "", "`FILE` to read instead of project.toml of the source")
	flags.StringSliceVarP(&f.buildpacks, "buildpack", "b", nil, "`FOLDER` of a buildpack or ID of a bundled one, in the order in which they run")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "`NAME=VALUE` for buildpacks; NAME alone takes the value from here")
	flags.StringArrayVar(&f.envFiles, "env-file", nil, "`FILE` with a NAME=VALUE or NAME on each line")
	flags.StringVarP(&f.process, "default-process", "D", "", "`TYPE` of the process that the image starts")
	flags.StringSliceVarP(&f.tags, "tag", "t", nil, "more `NAMES` in the same registry")
	flags.StringVar(&f.runImage, "run-image", "", "`IMAGE` to put the application on; without it an empty one")
	flags.StringVar(&f.network, "network", "", "none: buildpacks may not use the network")
	flags.StringVar(&f.compression, "compression", "gzip", "of layers: gzip or zstd")
	flags.BoolVar(&f.clearCache, "clear-cache", false, "forget what earlier builds kept")
	return cmd
}

// buildResult is what `weft build -o json` prints.
type buildResult struct {
	buildpack.Result
	Where string `json:"where"` // the registry or folder where the image is
}

func (a *app) build(ctx context.Context, image string, f buildFlags) error {
	opts := buildpack.Options{Source: f.path, Buildpacks: f.buildpacks, Descriptor: f.descriptor, DefaultProcess: f.process, Tags: f.tags,
		RunImage: f.runImage, ClearCache: f.clearCache}
	var err error
	if opts.Compression, err = layer.ParseCompression(f.compression); err != nil {
		return output.Usagef("--compression: %w", err)
	}
	switch f.network {
	case "", "default", "host":
	case "none":
		opts.NoNetwork = true
	default:
		return output.Usagef("--network is %q, none is the only other network than this machine's", f.network)
	}
	if opts.Env, err = a.buildEnv(f); err != nil {
		return err
	}
	if opts.State, err = buildState(a.getenv); err != nil {
		return err
	}
	result := buildResult{}
	if err := a.buildTarget(ctx, image, &opts, &result); err != nil {
		return err
	}
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
	progress.Close()
	return a.print().Result(result, func(page *output.Page) { buildPage(page, result) })
}

// buildTarget finds where the image goes.
func (a *app) buildTarget(ctx context.Context, image string, opts *buildpack.Options, result *buildResult) error {
	if folder, ok := strings.CutPrefix(image, "oci:"); ok {
		abs, err := filepath.Abs(folder)
		if err != nil {
			return err
		}
		opts.Layout, opts.Image, result.Where = abs, "layout.local/"+folderName(abs), "the folder "+abs
		return nil
	}
	opts.Image = image
	first, _, slash := strings.Cut(image, "/")
	if slash && (strings.ContainsAny(first, ".:") || first == "localhost") {
		result.Where = first
		return nil
	}
	c, err := a.cluster()
	if err != nil {
		return err
	}
	status, err := c.Status(ctx)
	if err != nil || status.Registry == "" {
		return output.Advise(fmt.Errorf("%s names no registry, and the embedded cluster does not run", image),
			"Start it with `weft up`, name a registry as in registry.example.com/"+image+", or write a folder: oci:"+image)
	}
	opts.Image, result.Where = status.Registry+"/"+image, "the registry of the embedded cluster"
	return nil
}

// folderName makes a repository name of a path, so that folders do not share what is known of their builds.
func folderName(path string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(path)), "-")
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	if name == "" {
		return "root"
	}
	return name
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
		p.item.Note("%s", e.Line)
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
}
