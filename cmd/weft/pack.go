package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/buildpack/builder"
	"github.com/weft-dev/weft/buildpack/buildpackage"
	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/buildpack/target"
	"github.com/weft-dev/weft/cmd/internal/output"
)

// rebaseFlags are the choices of `weft rebase`.
type rebaseFlags struct {
	runImage, previous, reports, pullPolicy string
	tags, plain                             []string
	force                                   bool
	place                                   placeFlags
}

// rebaseCommand puts an image on a new run image.
func (a *app) rebaseCommand(publish bool) *cobra.Command {
	var f rebaseFlags
	cmd := &cobra.Command{
		Use:   "rebase IMAGE",
		Short: "Put an image that buildpacks made on a newer run image, without building",
		Long: `Replace the layers of the run image below an application by those of another run image. Nothing is built and no layer of the
application is sent; only configuration and manifest are written.

Without --run-image it is the one that the image names, as it is now. IMAGE is a name in a registry, oci:FOLDER, containerd:NAME or
docker-daemon:NAME; run images of the last two are looked for there first, then in registries.`,
		Example: "  weft rebase registry.example.com/team/app:v1\n  weft rebase registry.example.com/team/app:v1 --run-image registry.example.com/run:patched",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rebase(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.runImage, "run-image", "", "run `IMAGE`")
	flags.StringVar(&f.previous, "previous-image", "", "`IMAGE` to take the application from, if it is another")
	flags.StringSliceVarP(&f.tags, "tag", "t", nil, "more `NAMES` in the same registry")
	flags.BoolVar(&f.force, "force", false, "rebase even if the images say that it is unsafe")
	flags.StringVar(&f.reports, "report-output-dir", "", "`FOLDER` for report.toml")
	flags.StringArrayVar(&f.plain, "insecure-registry", nil, "`HOST` to speak to without TLS")
	f.place.add(flags, publish)
	f.place.addUnpack(flags)
	flags.StringVar(&f.pullPolicy, "pull-policy", "", "`always` is the only one here: the run image is looked up anew")
	return cmd
}

// quietLogger tells warnings only.
type quietLogger struct{ print *output.Printer }

func (quietLogger) Debugf(string, ...any)              {}
func (quietLogger) Infof(string, ...any)               {}
func (l quietLogger) Warnf(format string, args ...any) { l.print.Warn(format, args...) }

func (a *app) rebase(ctx context.Context, image string, f rebaseFlags) (err error) {
	api, err := spec.Platform(spec.NewestPlatform.String())
	if err != nil {
		return err
	}
	if f.pullPolicy != "" && f.pullPolicy != "always" {
		return output.Usagef("--pull-policy: an image is always put on what the name of the run image means now")
	}
	client := a.registryClient(f.plain)
	app, err := a.openPlaced(ctx, client, cmp.Or(f.previous, image), f.place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.Close()) }()
	runImage := f.runImage
	if runImage == "" {
		md, err := lifecycle.LayersLabel(app.Image)
		if err != nil {
			return err
		}
		if runImage = md.RunImage.Image; runImage == "" {
			return output.Advise(fmt.Errorf("%s does not say which run image it stands on", image), "Name one with --run-image.")
		}
	}
	run, err := a.openRunImage(ctx, client, runImage, app.at, f.place)
	if err != nil {
		return fmt.Errorf("the run image: %w", err)
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	at := app.at
	if f.previous != "" {
		if at, err = a.placeOf(ctx, image, f.place); err != nil {
			return err
		}
		defer at.Close()
	}
	to, finish, err := at.target(client)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, finish()) }()
	if err := errors.Join(app.whole(), run.whole()); err != nil {
		return err
	}
	r := &lifecycle.Rebaser{API: api, Logger: quietLogger{a.print()}, Target: to, Names: append([]string{at.name}, f.tags...), Force: f.force, From: app.Reference}
	report, err := r.Rebase(ctx, app.Image, run.NamedImage)
	if err != nil {
		return err
	}
	if at.daemon != nil { // it names images by identity, and no registry has the digest
		id, err := at.daemon.ID(ctx, at.name)
		if err != nil {
			return err
		}
		report.Image.ImageID, report.Image.Digest = id, ""
	}
	if f.reports != "" {
		data, err := spec.Encode(report)
		if err != nil {
			return err
		}
		if err := errors.Join(os.MkdirAll(f.reports, 0o755), os.WriteFile(filepath.Join(f.reports, "report.toml"), data, 0o644)); err != nil {
			return err
		}
	}
	return a.print().Result(report.Image, func(page *output.Page) {
		page.Line("%s stands on %s now: %s", image, run.Reference, cmp.Or(report.Image.Digest, report.Image.ImageID))
	})
}

// inspection is what `weft inspect -o json` prints.
type inspection struct {
	Image      string              `json:"image"`
	Digest     string              `json:"digest"`
	RunImage   spec.RunImageRef    `json:"runImage"`
	Rebasable  bool                `json:"rebasable"`
	Buildpacks []spec.Element      `json:"buildpacks"`
	Processes  []spec.Process      `json:"processes"`
	Default    string              `json:"defaultProcess"`
	Layers     []inspectedLayer    `json:"layers"`
	Target     spec.ImageTarget    `json:"target"`
	Metadata   spec.LayersMetadata `json:"-"`
}

type inspectedLayer struct {
	DiffID    string `json:"diffId"`
	Digest    string `json:"digest,omitempty"` // this and what follows is not known of images in a Docker daemon
	Size      int64  `json:"size,omitempty"`   // compressed, bytes
	CreatedBy string `json:"createdBy,omitempty"`
}

func (a *app) inspectCommand(publish bool) *cobra.Command {
	var f placeFlags
	var plain []string
	cmd := &cobra.Command{
		Use:     "inspect IMAGE",
		Aliases: []string{"inspect-image"},
		Short:   "Show how buildpacks made an image: buildpacks, processes, layers, run image",
		Long:    "IMAGE is a name in a registry, oci:FOLDER, containerd:NAME or docker-daemon:NAME.",
		Example: "  weft inspect registry.example.com/team/app:v1\n  weft inspect containerd:app:v1 -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			client := a.registryClient(plain)
			named, err := a.openPlaced(cmd.Context(), client, args[0], f)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, named.Close()) }()
			switch label, err := kindOf(named.Image); {
			case err != nil:
				return err
			case label == builder.LabelMetadata:
				return a.inspectBuilder(cmd.Context(), args[0], plain)
			case label == buildpackage.LabelPackage:
				return output.Advise(fmt.Errorf("%s is a buildpackage", args[0]), "See `weft buildpack inspect docker://"+args[0]+"`.")
			}
			i, err := inspect(named.NamedImage)
			if err != nil {
				return err
			}
			return a.print().Result(i, func(page *output.Page) { inspectPage(page, i) })
		},
	}
	f.add(cmd.Flags(), publish)
	cmd.Flags().StringArrayVar(&plain, "insecure-registry", nil, "`HOST` to speak to without TLS")
	return cmd
}

// kindOf gives the label that says what an image is, "" if it is an application.
func kindOf(img v1.Image) (string, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return "", err
	}
	for _, label := range []string{builder.LabelMetadata, buildpackage.LabelPackage} {
		if config.Config.Labels[label] != "" && config.Config.Labels[spec.LabelLifecycle] == "" {
			return label, nil
		}
	}
	return "", nil
}

func inspect(named lifecycle.NamedImage) (inspection, error) {
	i := inspection{Image: named.Name, Digest: named.Reference[strings.LastIndexByte(named.Reference, '@')+1:]}
	config, err := named.Image.ConfigFile()
	if err != nil {
		return i, err
	}
	if config.Config.Labels[spec.LabelLifecycle] == "" {
		return i, fmt.Errorf("%s was not made by buildpacks: it has no label %s", named.Name, spec.LabelLifecycle)
	}
	if i.Metadata, err = lifecycle.LayersLabel(named.Image); err != nil {
		return i, err
	}
	var build spec.BuildMetadata
	if err := json.Unmarshal([]byte(config.Config.Labels[spec.LabelBuild]), &build); err != nil {
		return i, fmt.Errorf("the label %s of %s: %w", spec.LabelBuild, named.Name, err)
	}
	i.RunImage, i.Rebasable = i.Metadata.RunImage, config.Config.Labels[spec.LabelRebasable] != "false"
	i.Buildpacks, i.Processes = build.Buildpacks, build.Processes
	if i.Target, err = lifecycle.TargetOf(named.Image); err != nil {
		return i, err
	}
	if len(config.Config.Entrypoint) == 1 {
		if t, ok := strings.CutPrefix(config.Config.Entrypoint[0], "/cnb/process/"); ok {
			i.Default = t
		}
	}
	for _, id := range config.RootFS.DiffIDs {
		i.Layers = append(i.Layers, inspectedLayer{DiffID: id.String()})
	}
	if _, ok := named.Image.(*target.DaemonImage); ok { // the rest would make the daemon save the image
		return i, nil
	}
	manifest, err := named.Image.Manifest()
	if err != nil {
		return i, err
	}
	for n, l := range manifest.Layers[:min(len(manifest.Layers), len(i.Layers))] {
		i.Layers[n].Digest, i.Layers[n].Size = l.Digest.String(), l.Size
		if n < len(config.History) {
			i.Layers[n].CreatedBy = config.History[n].CreatedBy
		}
	}
	return i, nil
}

func inspectPage(page *output.Page, i inspection) {
	page.Line("%s", i.Image)
	page.Line("  digest     %s", i.Digest)
	page.Line("  for        %s/%s", i.Target.OS, i.Target.Arch)
	if i.RunImage.Image != "" || i.RunImage.Reference != "" {
		page.Line("  run image  %s (%s)", i.RunImage.Image, i.RunImage.Reference)
	}
	var rows [][]output.Cell
	for _, b := range i.Buildpacks {
		rows = append(rows, output.Row(b.ID, b.Version, b.Homepage))
	}
	page.Table([]string{"BUILDPACK", "VERSION", "HOMEPAGE"}, rows)
	rows = nil
	for _, p := range i.Processes {
		mark := ""
		if p.Type == i.Default {
			mark = "default"
		}
		rows = append(rows, output.Row(p.Type, mark, strings.Join(append(slices.Clone(p.Command.Entries), p.Args...), " ")))
	}
	page.Table([]string{"PROCESS", "", "COMMAND"}, rows)
	rows = nil
	for _, l := range i.Layers {
		size := ""
		if l.Digest != "" {
			size = fmt.Sprint(l.Size)
		}
		rows = append(rows, output.Row(l.DiffID[:min(19, len(l.DiffID))], size, l.CreatedBy))
	}
	page.Table([]string{"LAYER", "BYTES", "MADE BY"}, rows)
}

func (a *app) sbomCommand(publish bool) *cobra.Command {
	cmd := &cobra.Command{Use: "sbom", Short: "Work with the bills of materials of images",
		Example: "  weft sbom download registry.example.com/team/app:v1"}
	var to string
	var f placeFlags
	download := &cobra.Command{
		Use:     "download IMAGE",
		Short:   "Write the SBOM files of an image to a folder",
		Example: "  weft sbom download registry.example.com/team/app:v1 --output-dir sbom",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.downloadSBOM(cmd.Context(), args[0], to, f) },
	}
	f.add(download.Flags(), publish)
	download.Flags().StringVar(&to, "output-dir", ".", "`FOLDER` for the files")
	cmd.AddCommand(download)
	return cmd
}

func (a *app) downloadSBOM(ctx context.Context, image, to string, f placeFlags) (err error) {
	named, err := a.openPlaced(ctx, a.registryClient(nil), image, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, named.Close()) }()
	md, err := lifecycle.LayersLabel(named.Image)
	if err != nil {
		return err
	}
	if md.SBOM == nil || md.SBOM.SHA == "" {
		return fmt.Errorf("%s has no SBOM layer", image)
	}
	config, err := named.Image.ConfigFile()
	if err != nil {
		return err
	}
	inside := "/layers"
	for _, kv := range config.Config.Env {
		if v, ok := strings.CutPrefix(kv, "CNB_LAYERS_DIR="); ok {
			inside = v
		}
	}
	at := filepath.Join(to, "layers")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := lifecycle.RestoreSBOM(named.Image, md, lifecycle.Folder{Host: at, Inside: inside}); err != nil {
		return err
	}
	return a.print().Result(map[string]string{"folder": at}, func(page *output.Page) { page.Line("The files are in %s.", at) })
}

// packCommand is weft under the name pack.
func packCommand(a *app) *cobra.Command {
	root := &cobra.Command{Use: "pack", Short: "Cloud Native Buildpacks, answered by weft without a daemon",
		Long: "The verbs of pack, without a daemon. With --publish an image goes to the registry that its name says; without it to the Docker daemon if one\n" +
			"answers, else to the registry of the embedded cluster. The last line says where it is.",
		Example:       "  pack build registry.example.com/team/app:v1 --path .\n  pack inspect registry.example.com/team/app:v1",
		SilenceErrors: true, SilenceUsage: true, PersistentPreRun: a.begin}
	group(root)
	flags := root.PersistentFlags()
	a.options.AddFlags(flags)
	flags.StringVar(&a.state, "state", "", "state `folder` of the embedded cluster (default $WEFT_STATE, else ~/.local/state/weft)")
	root.AddCommand(a.buildCommand(false), a.rebaseCommand(false), a.inspectCommand(false), a.builderCommand(false), a.buildpackCommand(false), a.sbomCommand(false),
		a.versionCommand())
	root.SetOut(a.out)
	return root
}
