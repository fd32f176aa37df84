package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/kusion"
	"github.com/weft-dev/weft/cmd/internal/source"
	"github.com/weft-dev/weft/stack"
	"github.com/weft-dev/weft/stack/spec"
)

// kusionCommand is the command tree of Kusion's own verbs (KusionStack/kusion v0.15), under `weft kusion` and under the name kusion.
// Flags, texts on standard output and exit codes are upstream's: 0, or 1 for every error.
func kusionCommand(a *app) *cobra.Command {
	k := &kusionTool{app: a}
	root := &cobra.Command{
		Use:   "kusion",
		Short: "Kusion's own verbs: generate, preview, apply, destroy, release, workspace ...",
		Long: `Deploy Kusion's projects: a project's folder has a project.yaml, each of its stacks a stack.yaml and a program in KCL.

The verbs are upstream's with their flags. What they do goes through Weft's engine, so that ` + "`weft plan`" + `, ` + "`weft drift`" + `,
` + "`weft rollback`" + ` and the rest work on the same stacks.`,
		Example: `  kusion init --target shop
  kusion preview -w shop/default
  kusion apply -w shop/default --yes
  kusion release list -w shop/default`,
		SilenceErrors:    true,
		SilenceUsage:     true,
		PersistentPreRun: a.begin,
	}
	if a.called == "kusion" {
		a.options.AddFlags(root.PersistentFlags())
		root.PersistentFlags().Lookup("output").Hidden = true // verbs have their own
		root.PersistentFlags().StringVar(&a.state, "state", "", "state `folder` of the embedded cluster (default $WEFT_STATE, else ~/.local/state/weft)")
		root.PersistentFlags().StringVar(&a.kubeconfig, "kubeconfig", "", "use the cluster of this kubeconfig `file`")
		root.PersistentFlags().StringVar(&a.context, "context", "", "use this `context` of the kubeconfig")
	}
	root.AddCommand(k.initCommand(), k.configCommand(), k.workspaceCommand(), k.projectCommand(), k.stackCommand(), k.generateCommand(),
		k.resourceCommand(), k.modCommand(), k.releaseCommand(), k.versionCommand())
	root.AddCommand(k.engineCommands()...)
	k.codes(root)
	return root
}

// kusionTool holds what Kusion's verbs share.
type kusionTool struct{ app *app }

// codes gives every command upstream's exit code 1 for wrong usage, and groups upstream's answer to a word that is no verb.
func (k *kusionTool) codes(c *cobra.Command) {
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		k.app.started = true
		return fmt.Errorf("%w\nSee '%s -h' for help and examples", err, c.CommandPath())
	})
	if c.HasSubCommands() {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return fmt.Errorf("unknown command %q for %q\nSee '%s -h' for help and examples", args[0], c.CommandPath(), c.CommandPath())
		}
	}
	for _, sub := range c.Commands() {
		k.codes(sub)
	}
}

func (k *kusionTool) print(format string, args ...any) {
	fmt.Fprintf(k.app.out, format, args...)
}

// noArgs refuses arguments as upstream does.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("Unexpected args: %v\nSee '%s -h' for help and examples", args, c.CommandPath()) //nolint:staticcheck // upstream's text
	}
	return nil
}

// backend opens the backend of a name, the current one for "".
func (k *kusionTool) backend(name string) (*kusion.Backend, error) {
	home, err := kusion.Home(k.app.getenv)
	if err != nil {
		return nil, err
	}
	b, err := kusion.OpenBackend(home, name)
	return b, placed(err)
}

func (k *kusionTool) workspaces(backend string) (*kusion.Workspaces, error) {
	b, err := k.backend(backend)
	if err != nil {
		return nil, err
	}
	w, err := b.Workspaces()
	return w, placed(err)
}

// metaFlags say which stack is meant, where it is, and in which workspace.
type metaFlags struct{ workspace, backend, workdir string }

func (f *metaFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.workspace, "workspace", "", "The `name` of target workspace to operate in.")
	c.Flags().StringVar(&f.backend, "backend", "", "The backend to use, by its `name` in the configuration.")
	c.Flags().StringVarP(&f.workdir, "workdir", "w", "", "The work `directory` to run Kusion CLI.")
}

// meta is what the flags mean.
type meta struct {
	place     *kusion.Place
	backend   *kusion.Backend
	workspace *stack.Workspace
}

func (k *kusionTool) meta(f metaFlags) (*meta, error) {
	dir := f.workdir
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return nil, err
		}
	}
	m := &meta{}
	var err error
	if m.place, err = kusion.Find(dir, ""); err != nil {
		return nil, placed(err)
	}
	if m.backend, err = k.backend(f.backend); err != nil {
		return nil, err
	}
	workspaces, err := m.backend.Workspaces()
	if err != nil {
		return nil, placed(err)
	}
	m.workspace, err = workspaces.Get(f.workspace)
	return m, placed(err)
}

// names are the project and workspace that releases are asked of, by name or by the folder that one is in.
func (k *kusionTool) names(project, workspace, backend string) (*kusion.Backend, string, string, error) {
	b, err := k.backend(backend)
	if err != nil {
		return nil, "", "", err
	}
	workspaces, err := b.Workspaces()
	if err != nil {
		return nil, "", "", placed(err)
	}
	if workspace == "" {
		workspace = workspaces.Current()
	} else if !workspaces.Has(workspace) {
		return nil, "", "", fmt.Errorf("%w: %s", kusion.ErrWorkspaceMissing, workspace)
	}
	if project == "" {
		dir, err := os.Getwd()
		if err != nil {
			return nil, "", "", err
		}
		place, err := kusion.Find(dir, "")
		if err != nil {
			return nil, "", "", placed(err)
		}
		project = place.Project.Name
	}
	return b, project, workspace, nil
}

// evaluation are the flags of verbs that evaluate a stack.
type evaluation struct {
	meta      metaFlags
	arguments []string
	modules   []string
	images    []string
	specFile  string
	noStyle   bool
}

func (e *evaluation) add(c *cobra.Command) {
	e.meta.add(c)
	c.Flags().StringArrayVarP(&e.arguments, "argument", "D", nil, "Specify arguments on the command line, as `name=value`")
	c.Flags().BoolVar(&e.noStyle, "no-style", false, "no-style sets to RawOutput mode and disables all of styling")
	c.Flags().StringArrayVar(&e.modules, "module", nil, "`NAME=FOLDER` that a module is read from; may be given again")
	c.Flags().StringArrayVar(&e.images, "image", nil, "`OLD=NEW`: use another image than the one that is written; may be given again")
}

// options are what the source of a stack is opened with.
func (e *evaluation) options(a *app) (source.Options, error) {
	for _, value := range e.arguments {
		if !strings.Contains(value, "=") {
			return source.Options{}, fmt.Errorf("value %s is invalid format", value)
		}
	}
	o := source.Options{Workspace: e.meta.workspace, Arguments: e.arguments, Getenv: a.getenv}
	var err error
	if o.Images, err = kusionPairs("--image", e.images); err != nil {
		return o, err
	}
	o.Modules, err = kusionPairs("--module", e.modules)
	return o, err
}

func kusionPairs(flag string, list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, item := range list {
		key, value, ok := strings.Cut(item, "=")
		if !ok || key == "" || value == "" {
			return nil, fmt.Errorf("%s: expected OLD=NEW, got %q", flag, item)
		}
		m[key] = value
	}
	return m, nil
}

// spec evaluates a stack.
func (k *kusionTool) spec(c *cobra.Command, m *meta, e *evaluation) (*spec.Spec, error) {
	o, err := e.options(k.app)
	if err != nil {
		return nil, err
	}
	s, warnings, err := m.place.Evaluate(c.Context(), kusion.Options{Workspace: m.workspace, Arguments: o.Arguments, Modules: o.Modules, Getenv: k.app.getenv})
	for _, w := range warnings {
		k.app.print().Warn("%s", w)
	}
	return s, placed(err)
}

func (k *kusionTool) generateCommand() *cobra.Command {
	e := &evaluation{}
	var file string
	c := &cobra.Command{
		Use:   "generate",
		Short: "Generate and print the resulting Spec resources of target Stack",
		Long: `Make the Spec of a stack, which lists the resources that its applications come to, and write it to standard output or to a file.

The stack is that of the folder, or of the nearest folder above it that has a stack.yaml. A Spec holds the values of secrets as they are
written in the program.`,
		Example: `  kusion generate
  kusion generate -o /tmp/spec.yaml --workspace dev
  kusion generate -D name=test -D age=18`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			m, err := k.meta(e.meta)
			if err != nil {
				return err
			}
			s, err := k.spec(c, m, e)
			if err != nil {
				return err
			}
			text, err := s.YAML()
			if err != nil {
				return err
			}
			if file == "" {
				k.print("%s\n", text)
				return nil
			}
			return os.WriteFile(file, append(text, '\n'), 0o600)
		},
	}
	e.add(c)
	c.Flags().StringVarP(&file, "output", "o", "", "`File` to write generated Spec resources to")
	return c
}

func (k *kusionTool) versionCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the Kusion version information for the current context",
		Example: "  kusion version\n  kusion version -o json",
		RunE: func(_ *cobra.Command, _ []string) error {
			if format != "" && format != "json" {
				return fmt.Errorf("invalid output type, output must be 'json'")
			}
			v := ownVersions()
			info := map[string]any{
				"releaseVersion": cmp.Or(v.Weft, "default-version") + " (weft)",
				"gitInfo":        map[string]any{"commit": v.Commit},
				"buildInfo":      map[string]any{"goVersion": v.Go, "platform": v.Platform},
			}
			text, err := encodeAs(info, cmp.Or(format, "yaml"))
			if err != nil {
				return err
			}
			k.print("%s\n", strings.TrimRight(text, "\n"))
			return nil
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "", "Output `format`: json")
	return c
}
