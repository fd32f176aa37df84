package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/buildpack/buildpackage"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/cmd/internal/output"
)

func (a *app) buildpackCommand(publish bool) *cobra.Command {
	cmd := &cobra.Command{Use: "buildpack", Short: "Begin, package and look at buildpacks", Example: "  weft buildpack new example/hello"}
	group(cmd)
	cmd.AddCommand(a.newBuildpackCommand(), a.packageCommand(publish), a.inspectBuildpackCommand(), a.pullBuildpackCommand())
	return cmd
}

func (a *app) newBuildpackCommand() *cobra.Command {
	var path, api, version string
	var targets, stacks []string
	cmd := &cobra.Command{
		Use:     "new ID",
		Short:   "Write the folder of a new buildpack",
		Example: "  weft buildpack new example/hello\n  weft buildpack new example/hello --path hello --targets linux/amd64",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			n := buildpackage.New{ID: args[0], Version: version, API: api, Stacks: stacks}
			for _, t := range targets {
				parts := strings.Split(t, "/")
				if parts[0] != "linux" || len(parts) > 3 {
					return output.Usagef("--targets: %q is not of the form linux/ARCH[/VARIANT]", t)
				}
				target := spec.Target{OS: parts[0]}
				if len(parts) > 1 {
					target.Arch = parts[1]
				}
				if len(parts) > 2 {
					target.ArchVariant = parts[2]
				}
				n.Targets = append(n.Targets, target)
			}
			if len(n.Targets) == 0 && len(stacks) == 0 {
				n.Targets = []spec.Target{{OS: "linux"}}
			}
			dir := path
			if dir == "" {
				dir = spec.EscapeID(args[0])
			}
			if err := buildpackage.Scaffold(dir, n); err != nil {
				return err
			}
			return a.print().Result(map[string]string{"folder": dir}, func(page *output.Page) {
				page.Line("The buildpack %s@%s is in the folder %s; try it with `weft build IMAGE --buildpack %s`.", args[0], version, dir, dir)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&path, "path", "p", "", "`FOLDER` to write (default the ID, with _ for /)")
	flags.StringVarP(&api, "api", "a", "0.10", "`VERSION` of the Buildpack API")
	flags.StringVarP(&version, "version", "V", "1.0.0", "`VERSION` of the buildpack")
	flags.StringSliceVarP(&targets, "targets", "t", nil, "`PLATFORM` that it is for, such as linux/amd64 (default linux)")
	flags.StringSliceVarP(&stacks, "stacks", "s", nil, "`ID` of a stack, the older way")
	return cmd
}

// packageFlags are the choices of `weft buildpack package`.
type packageFlags struct {
	config, path, format, pullPolicy string
	tags, targets, plain             []string
	labels                           map[string]string
	place                            placeFlags
}

func (a *app) packageCommand(publish bool) *cobra.Command {
	var f packageFlags
	cmd := &cobra.Command{
		Use:   "package NAME",
		Short: "Make a buildpackage of a buildpack and what it needs",
		Long: `Make a buildpackage: an image with a buildpack and, if it is a composite one, its parts. package.toml says what goes in; without one it is
the buildpack in the folder --path. With --format file NAME is a .cnb file, otherwise the name of an image.`,
		Example: `  weft buildpack package registry.example.com/hello --path hello
  weft buildpack package hello.cnb --format file --config package.toml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.packageBuildpack(cmd.Context(), args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.config, "config", "c", "", "`FILE` package.toml")
	flags.StringVarP(&f.path, "path", "p", "", "`FOLDER` of the buildpack (default the working folder)")
	flags.StringVarP(&f.format, "format", "f", "image", "`FORMAT` of the package: image or file")
	f.place.add(flags, publish)
	flags.StringSliceVar(&f.tags, "tag", nil, "more `NAMES` of the image")
	flags.StringToStringVarP(&f.labels, "label", "l", nil, "`NAME=VALUE` labels of the image")
	flags.StringSliceVarP(&f.targets, "target", "t", nil, "`PLATFORM` that the package is for (default this machine's)")
	flags.StringVar(&f.pullPolicy, "pull-policy", "", "`always` is the only one here: names are looked up anew")
	flags.StringArrayVar(&f.plain, "insecure-registry", nil, "`HOST` to speak to without TLS")
	return cmd
}

func (a *app) packageBuildpack(ctx context.Context, name string, f packageFlags) error {
	if f.pullPolicy != "" && f.pullPolicy != "always" {
		return output.Usagef("--pull-policy: a package is always made of what names mean now")
	}
	arch, err := buildpackage.TargetArch(f.targets)
	if err != nil {
		return output.Usagef("--target: %w", err)
	}
	c, err := a.packageConfig(f)
	if err != nil {
		return err
	}
	state, err := buildState(a.getenv)
	if err != nil {
		return err
	}
	client := a.registryClient(f.plain)
	finder := &buildpackage.Finder{Registry: client, Cache: filepath.Join(state, "buildpacks")}
	p, err := finder.Assemble(ctx, c)
	if err != nil {
		return err
	}
	img, err := buildpackage.Make(p, arch, f.labels)
	if err != nil {
		return err
	}
	made := madeImage{Image: name}
	switch f.format {
	case "file":
		if filepath.Ext(name) != ".cnb" {
			name += ".cnb"
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		made.Digest, made.Image, made.Where = digest.String(), name, "the file "+name
		if err := buildpackage.WriteFile(img, name); err != nil {
			return err
		}
	case "image":
		to, err := a.placeOf(ctx, name, f.place)
		if err != nil {
			return err
		}
		defer to.Close()
		made.Image, made.Where = to.name, to.where
		if made.Digest, err = a.put(ctx, client, img, to, f.tags); err != nil {
			return err
		}
	default:
		return output.Usagef("--format is %q, image and file are the formats", f.format)
	}
	return a.print().Result(made, func(page *output.Page) {
		page.Line("%s with %d buildpacks (%s) is in %s.", p.Main, len(p.Modules), made.Digest, made.Where)
	})
}

func (a *app) packageConfig(f packageFlags) (buildpackage.Config, error) {
	if f.config == "" {
		dir := f.path
		if dir == "" {
			dir = "."
		}
		abs, err := filepath.Abs(dir)
		return buildpackage.Config{Buildpack: buildpackage.URI{URI: abs}, Dir: abs}, err
	}
	data, err := os.ReadFile(f.config)
	if err != nil {
		return buildpackage.Config{}, output.Usagef("--config: %w", err)
	}
	c, warnings, err := buildpackage.ReadConfig(data, f.config)
	for _, w := range warnings {
		a.print().Warn("%s", w)
	}
	if f.path != "" && err == nil {
		c.Buildpack.URI, err = filepath.Abs(f.path)
	}
	return c, err
}

// inspectedPackage is what `weft buildpack inspect -o json` prints.
type inspectedPackage struct {
	Buildpack  spec.Info     `json:"buildpack"`
	Buildpacks []spec.Info   `json:"buildpacks"`
	Order      spec.Order    `json:"order,omitempty"`
	Stacks     []spec.Stack  `json:"stacks,omitempty"`
	Targets    []spec.Target `json:"targets,omitempty"`
	Folder     string        `json:"folder"`
}

func (a *app) findBuildpack(ctx context.Context, locator string, plain []string) (buildpackage.Package, error) {
	l, err := buildpackage.ParseLocator(locator, ".", nil)
	if err != nil {
		return buildpackage.Package{}, output.Usagef("%w", err)
	}
	if l.Kind == buildpackage.FromBuilder {
		return buildpackage.Package{}, output.Usagef("%s: there is no builder here; see `weft builder inspect`", locator)
	}
	state, err := buildState(a.getenv)
	if err != nil {
		return buildpackage.Package{}, err
	}
	finder := &buildpackage.Finder{Registry: a.registryClient(plain), Cache: filepath.Join(state, "buildpacks")}
	return finder.Find(ctx, l)
}

func (a *app) inspectBuildpackCommand() *cobra.Command {
	var plain []string
	cmd := &cobra.Command{
		Use:     "inspect BUILDPACK",
		Short:   "Show what a buildpack is: a folder, a file, an address or an image",
		Example: "  weft buildpack inspect hello.cnb\n  weft buildpack inspect docker://registry.example.com/hello -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.findBuildpack(cmd.Context(), args[0], plain)
			if err != nil {
				return err
			}
			i := inspectedPackage{Buildpack: p.Main.Buildpack, Order: p.Main.Order, Stacks: p.Main.Stacks, Targets: p.Main.Targets, Folder: p.Main.Dir}
			for _, m := range p.Modules {
				i.Buildpacks = append(i.Buildpacks, m.Buildpack)
			}
			return a.print().Result(i, func(page *output.Page) { packagePage(page, i) })
		},
	}
	cmd.Flags().StringArrayVar(&plain, "insecure-registry", nil, "`HOST` to speak to without TLS")
	return cmd
}

func packagePage(page *output.Page, i inspectedPackage) {
	page.Line("%s@%s", i.Buildpack.ID, i.Buildpack.Version)
	for _, line := range []string{i.Buildpack.Description, i.Buildpack.Homepage} {
		if line != "" {
			page.Line("  %s", line)
		}
	}
	for _, t := range i.Targets {
		page.Line("  for  %s", strings.TrimRight(t.OS+"/"+t.Arch, "/"))
	}
	for _, s := range i.Stacks {
		page.Line("  for the stack  %s", s.ID)
	}
	var rows [][]output.Cell
	for _, b := range i.Buildpacks {
		rows = append(rows, output.Row(b.ID, b.Version, b.Homepage))
	}
	page.Table([]string{"BUILDPACK", "VERSION", "HOMEPAGE"}, rows)
	if len(i.Order) > 0 {
		orderPage(page, i.Order)
	}
}

func (a *app) pullBuildpackCommand() *cobra.Command {
	var plain []string
	cmd := &cobra.Command{
		Use:     "pull BUILDPACK",
		Short:   "Bring a buildpack to this machine",
		Example: "  weft buildpack pull docker://registry.example.com/hello",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.findBuildpack(cmd.Context(), args[0], plain)
			if err != nil {
				return err
			}
			return a.print().Result(map[string]string{"buildpack": p.Main.String(), "folder": p.Main.Dir}, func(page *output.Page) {
				page.Line("%s is in %s.", p.Main, p.Main.Dir)
			})
		},
	}
	cmd.Flags().StringArrayVar(&plain, "insecure-registry", nil, "`HOST` to speak to without TLS")
	return cmd
}
