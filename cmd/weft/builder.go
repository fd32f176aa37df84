package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/builder"
	"github.com/weft-dev/weft/buildpack/buildpackage"
	"github.com/weft-dev/weft/buildpack/bundled"
	"github.com/weft-dev/weft/buildpack/debian"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/buildpack/target"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/registry"
)

// builderFlags are the choices of `weft builder create`.
type builderFlags struct {
	config, from, language, lock, runImage, mirror, suite, keyring, pullPolicy string
	tags, targets, plain                                                       []string
	labels                                                                     map[string]string
	place                                                                      placeFlags
}

func (a *app) builderCommand(publish bool) *cobra.Command {
	cmd := &cobra.Command{Use: "builder", Short: "Make and look at builders: images in which buildpacks run",
		Example: "  weft builder create registry.example.com/builder --from debian"}
	group(cmd)
	var f builderFlags
	create := &cobra.Command{
		Use:   "create IMAGE",
		Short: "Make a builder of a builder.toml, or of Debian packages",
		Long: `Make a builder image: a build image with buildpacks, their order and a lifecycle.

With --config the file builder.toml says what goes in, as pack reads it. With --from debian the build image and a run image are made of Debian
packages, with weft's own buildpacks; the archive is that of this machine's apt unless --mirror and --suite name another. --lock pins the
packages: the same file gives the same images, and a missing one is written.`,
		Example: `  weft builder create registry.example.com/builder --config builder.toml
  weft builder create registry.example.com/node --from debian --language node --lock node.lock.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.createBuilder(cmd.Context(), args[0], f) },
	}
	flags := create.Flags()
	flags.StringVarP(&f.config, "config", "c", "", "`FILE` builder.toml")
	flags.StringVar(&f.from, "from", "", "debian: make the images of Debian packages")
	flags.StringVar(&f.language, "language", debian.Full, "with --from debian: `LANGUAGE` of the builder: "+strings.Join(debian.Languages(), ", ")+", several joined by +")
	flags.StringVar(&f.lock, "lock", "", "with --from debian: `FILE` that pins the packages")
	flags.StringVar(&f.mirror, "mirror", "", "with --from debian: `URL` of another archive")
	flags.StringVar(&f.suite, "suite", "", "with --mirror: `SUITE`, such as bookworm")
	flags.StringVar(&f.keyring, "keyring", "", "with --mirror: `FILE` with the keys that may sign it")
	flags.StringVar(&f.runImage, "run-image", "", "with --from debian: `NAME` of the run image (default IMAGE with -run behind it)")
	f.place.add(flags, publish)
	f.place.addUnpack(flags)
	flags.StringSliceVar(&f.tags, "tag", nil, "more `NAMES` of the builder")
	flags.StringToStringVarP(&f.labels, "label", "l", nil, "`NAME=VALUE` labels of the builder")
	flags.StringSliceVarP(&f.targets, "target", "t", nil, "`PLATFORM` that the builder is for; only linux")
	flags.StringVar(&f.pullPolicy, "pull-policy", "", "`always` is the only one here: names are looked up anew")
	flags.StringArrayVar(&f.plain, "insecure-registry", nil, "`HOST` to speak to without TLS")
	var plain []string
	inspect := &cobra.Command{
		Use:     "inspect IMAGE",
		Short:   "Show what a builder has: buildpacks, order, lifecycle, run images",
		Example: "  weft builder inspect registry.example.com/builder",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inspectBuilder(cmd.Context(), args[0], plain)
		},
	}
	inspect.Flags().StringArrayVar(&plain, "insecure-registry", nil, "`HOST` to speak to without TLS")
	suggest := &cobra.Command{
		Use:     "suggest",
		Short:   "Name builders to begin with",
		Example: "  weft builder suggest",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.suggestBuilders() },
	}
	cmd.AddCommand(create, inspect, suggest)
	return cmd
}

// madeImage is what `builder create` and `buildpack package` print as JSON.
type madeImage struct {
	Image    string `json:"image"`
	Digest   string `json:"digest"`
	RunImage string `json:"runImage,omitempty"`
	Where    string `json:"where"`
}

func (a *app) createBuilder(ctx context.Context, image string, f builderFlags) error {
	if (f.config == "") == (f.from == "") {
		return output.Usagef("give either --config FILE or --from debian")
	}
	if f.from != "" && f.from != "debian" {
		return output.Usagef("--from is %q, debian is the only source of packages", f.from)
	}
	switch f.pullPolicy {
	case "", "always":
	default:
		return output.Usagef("--pull-policy: a builder is always made of what names mean now")
	}
	arch, err := buildpackage.TargetArch(f.targets)
	if err != nil {
		return output.Usagef("--target: %w", err)
	}
	if arch != runtime.GOARCH {
		return output.Usagef("--target: the lifecycle that lies beside weft is for linux/%s", runtime.GOARCH)
	}
	state, err := buildState(a.getenv)
	if err != nil {
		return err
	}
	to, err := a.placeOf(ctx, image, f.place)
	if err != nil {
		return err
	}
	defer to.Close()
	client := a.registryClient(f.plain)
	progress := a.print().Progress()
	defer progress.Close()
	m := &builderMaker{app: a, client: client, state: state, flags: f, to: to, progress: progress}
	var parts builder.Parts
	if f.config != "" {
		parts, err = m.fromConfig(ctx)
	} else {
		parts, err = m.fromDebian(ctx)
	}
	if err != nil {
		return err
	}
	parts.Labels, parts.Creator = f.labels, builder.Creator{Name: "weft", Version: version}
	item := progress.Start("builder")
	img, err := builder.Create(parts)
	if err != nil {
		item.Fail("failed")
		return err
	}
	made := madeImage{Image: to.name, Where: to.where, RunImage: parts.Config.Run.Images[0].Image}
	if made.Digest, err = a.put(ctx, client, img, to, f.tags); err != nil {
		item.Fail("failed")
		return err
	}
	item.Done(made.Digest)
	progress.Close()
	return a.print().Result(made, func(page *output.Page) {
		page.Line("run image  %s", made.RunImage)
		page.Line("%s (%s) is in %s.", made.Image, made.Digest, made.Where)
	})
}

// builderMaker gathers what a builder is made of.
type builderMaker struct {
	app      *app
	client   *registry.Client
	state    string
	flags    builderFlags
	to       place
	progress *output.Progress
}

func (m *builderMaker) fromConfig(ctx context.Context) (builder.Parts, error) {
	data, err := os.ReadFile(m.flags.config)
	if err != nil {
		return builder.Parts{}, output.Usagef("--config: %w", err)
	}
	c, warnings, err := builder.ReadConfig(data, m.flags.config)
	for _, w := range warnings {
		m.app.print().Warn("%s", w)
	}
	if err != nil {
		return builder.Parts{}, err
	}
	p := builder.Parts{Config: c}
	if p.BuildImage, err = m.image(ctx, c.Build.Image); err != nil {
		return p, fmt.Errorf("the build image: %w", err)
	}
	finder := &buildpackage.Finder{Registry: m.client, Cache: filepath.Join(m.state, "buildpacks")}
	for _, b := range c.Buildpacks {
		l, err := buildpackage.ParseLocator(b.Locator(), c.Dir, nil)
		if err != nil {
			return p, fmt.Errorf("%s: %w", m.flags.config, err)
		}
		found, err := finder.Find(ctx, l)
		if err != nil {
			return p, fmt.Errorf("%s: %w", m.flags.config, err)
		}
		for _, module := range found.Modules {
			if !slices.ContainsFunc(p.Modules, func(o buildpackage.Module) bool { return o.String() == module.String() }) {
				p.Modules = append(p.Modules, module)
			}
		}
	}
	p.LifecycleDir, err = m.lifecycle(ctx, finder, c)
	return p, err
}

// lifecycle gives the folder with the programs of the lifecycle.
func (m *builderMaker) lifecycle(ctx context.Context, finder *buildpackage.Finder, c builder.Config) (string, error) {
	uri := c.Lifecycle.URI
	if v := strings.TrimPrefix(c.Lifecycle.Version, "v"); v != "" {
		machine := map[string]string{"amd64": "x86-64"}[runtime.GOARCH]
		if machine == "" {
			machine = runtime.GOARCH
		}
		uri = fmt.Sprintf("https://github.com/buildpacks/lifecycle/releases/download/v%s/lifecycle-v%s+linux.%s.tgz", v, v, machine)
	}
	if uri == "" {
		return m.ownLifecycle()
	}
	l, err := buildpackage.ParseLocator(uri, c.Dir, nil)
	if err != nil || l.Kind != buildpackage.FromPath && l.Kind != buildpackage.FromWeb {
		return "", fmt.Errorf("%s: lifecycle.uri: %q is no archive and no folder (%w)", m.flags.config, uri, errors.Join(err, fs.ErrNotExist))
	}
	return finder.Folder(ctx, l)
}

// ownLifecycle puts the two programs of weft's lifecycle into a folder.
func (m *builderMaker) ownLifecycle() (string, error) {
	programs, err := buildpack.FindPrograms()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(m.state, "lifecycle")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for name, from := range map[string]string{"launcher": programs.Launcher, "lifecycle": filepath.Join(filepath.Dir(programs.Launcher), "lifecycle")} {
		data, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (m *builderMaker) image(ctx context.Context, name string) (v1.Image, error) {
	if folder, ok := strings.CutPrefix(name, "oci:"); ok {
		img, err := target.ReadLayout(folder)
		if err == nil && img == nil {
			err = fmt.Errorf("%s is no folder in the OCI layout", folder)
		}
		return img, err
	}
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	return m.client.Image(ctx, ref, &v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

func (m *builderMaker) fromDebian(ctx context.Context) (builder.Parts, error) {
	f := m.flags
	item := m.progress.Start("packages")
	images := debian.Images{Dir: filepath.Join(m.state, "debian"), Note: func(text string) { item.Wait(text) }}
	if f.mirror != "" || f.suite != "" {
		var err error
		if images.Sources, err = debian.NamedSources(f.mirror, f.suite, f.keyring); err != nil {
			return builder.Parts{}, output.Usagef("%w", err)
		}
	}
	lock, err := m.lock(ctx, images)
	if err != nil {
		item.Fail("failed")
		return builder.Parts{}, err
	}
	build, run, err := images.FromLock(ctx, lock, f.language)
	if err != nil {
		item.Fail("failed")
		return builder.Parts{}, err
	}
	item.Done(fmt.Sprintf("%s %s, %s", lock.Distro.Name, lock.Distro.Version, f.language))
	runPlace := m.to
	switch {
	case f.runImage != "":
		if runPlace, err = m.app.placeOf(ctx, f.runImage, f.place); err != nil {
			return builder.Parts{}, err
		}
		defer runPlace.Close()
	case m.to.folder != "":
		runPlace.folder += "-run"
		runPlace.name = "oci:" + runPlace.folder
	default:
		ref, err := registry.ParseReference(m.to.name)
		if err != nil {
			return builder.Parts{}, err
		}
		base := strings.TrimSuffix(m.to.name, ":"+ref.Tag)
		runPlace.name = base + "-run:" + ref.Tag
	}
	item = m.progress.Start("run image")
	if _, err := m.app.put(ctx, m.client, run, runPlace, nil); err != nil {
		item.Fail("failed")
		return builder.Parts{}, err
	}
	item.Done(runPlace.name)
	programs, err := buildpack.FindPrograms()
	if err != nil {
		return builder.Parts{}, err
	}
	dir, err := bundled.Install(filepath.Join(m.state, "buildpacks"), programs.Programs)
	if err != nil {
		return builder.Parts{}, err
	}
	modules, err := buildpackage.Installed(dir)
	if err != nil {
		return builder.Parts{}, err
	}
	own, err := m.ownLifecycle()
	return builder.Parts{BuildImage: build, Modules: modules, LifecycleDir: own, Config: builder.Config{Description: "weft's buildpacks on Debian packages for " + f.language,
		Order: bundled.Order(), Build: builder.Build{Image: "debian:" + f.language}, Run: builder.Run{Images: []spec.RunImageName{{Image: runPlace.name}}}}}, err
}

// lock reads the lock file, or makes one.
func (m *builderMaker) lock(ctx context.Context, images debian.Images) (*debian.Lock, error) {
	wanted, ok := debian.WantedFor(m.flags.language, nil, nil)
	if !ok {
		return nil, output.Usagef("--language: %q is none of %s", m.flags.language, strings.Join(debian.Languages(), ", "))
	}
	file := m.flags.lock
	if file != "" {
		data, err := os.ReadFile(file)
		if err == nil {
			return debian.ReadLock(data, file)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	lock, err := images.MakeLock(ctx, wanted)
	if err != nil || file == "" {
		return lock, err
	}
	return lock, lock.Write(file)
}

// inspectedBuilder is what `weft builder inspect -o json` prints.
type inspectedBuilder struct {
	Image       string              `json:"image"`
	Description string              `json:"description"`
	CreatedBy   builder.Creator     `json:"createdBy"`
	StackID     string              `json:"stackId,omitempty"`
	Lifecycle   builder.Lifecycle   `json:"lifecycle"`
	RunImages   []spec.RunImageName `json:"runImages"`
	Buildpacks  []spec.Info         `json:"buildpacks"`
	Order       spec.Order          `json:"order"`
	System      builder.System      `json:"system"`
	UID         int                 `json:"uid"`
	GID         int                 `json:"gid"`
}

func (a *app) inspectBuilder(ctx context.Context, image string, plain []string) error {
	m := &builderMaker{app: a, client: a.registryClient(plain)}
	img, err := m.image(ctx, image)
	if err != nil {
		return err
	}
	b, err := builder.Read(img, image)
	if err != nil {
		return err
	}
	i := inspectedBuilder{image, b.Metadata.Description, b.Metadata.CreatedBy, b.StackID, b.Metadata.Lifecycle, b.RunImages(), b.Metadata.Buildpacks, b.Order, b.System, b.UID, b.GID}
	return a.print().Result(i, func(page *output.Page) { builderPage(page, i) })
}

func builderPage(page *output.Page, i inspectedBuilder) {
	page.Line("%s", i.Image)
	if i.Description != "" {
		page.Line("  %s", i.Description)
	}
	page.Line("  made by    %s %s", i.CreatedBy.Name, i.CreatedBy.Version)
	page.Line("  lifecycle  %s, Platform API %s, Buildpack API %s", i.Lifecycle.Version, strings.Join(i.Lifecycle.APIs.Platform.Supported, " "), strings.Join(i.Lifecycle.APIs.Buildpack.Supported, " "))
	if i.StackID != "" {
		page.Line("  stack      %s", i.StackID)
	}
	page.Line("  user       %d:%d", i.UID, i.GID)
	for _, r := range i.RunImages {
		page.Line("  run image  %s", strings.Join(append([]string{r.Image}, r.Mirrors...), ", "))
	}
	var rows [][]output.Cell
	for _, b := range i.Buildpacks {
		rows = append(rows, output.Row(b.ID, b.Version, b.Homepage))
	}
	page.Table([]string{"BUILDPACK", "VERSION", "HOMEPAGE"}, rows)
	orderPage(page, i.Order)
}

func orderPage(page *output.Page, order spec.Order) {
	var rows [][]output.Cell
	for n, g := range order {
		for _, e := range g.Group {
			optional := ""
			if e.Optional {
				optional = "optional"
			}
			rows = append(rows, output.Row(fmt.Sprint(n+1), strings.TrimSuffix(e.String(), "@"), optional))
		}
	}
	page.Table([]string{"GROUP", "TRIED TOGETHER", ""}, rows)
}

// suggestion is a builder to begin with.
type suggestion struct {
	Builder string `json:"builder"`
	Vendor  string `json:"vendor"`
	For     string `json:"for"`
}

func (a *app) suggestBuilders() error {
	list := []suggestion{
		{"debian:full", "weft", "Go, Java, Node.js, Python and web pages; made on this machine of Debian packages, also the default without --builder"},
		{"paketobuildpacks/builder-jammy-base", "Paketo Buildpacks", "Java, Node.js, Python, Go, .NET, Ruby and others on Ubuntu"},
		{"paketobuildpacks/builder-jammy-tiny", "Paketo Buildpacks", "Java native images and Go on a small image"},
		{"heroku/builder:24", "Heroku", "Node.js, Python, Ruby, Java, Go, PHP and others on Ubuntu"},
		{"gcr.io/buildpacks/builder:google-22", "Google", "Go, Java, Node.js, Python, PHP, Ruby and .NET, also functions"},
	}
	return a.print().Result(list, func(page *output.Page) {
		var rows [][]output.Cell
		for _, s := range list {
			rows = append(rows, output.Row(s.Builder, s.Vendor, s.For))
		}
		page.Table([]string{"BUILDER", "FROM", "FOR"}, rows)
		page.Line("Use one with `weft build IMAGE --builder NAME`.")
	})
}
