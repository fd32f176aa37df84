package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/cmd/internal/kcltool"
	"github.com/weft-dev/weft/cmd/internal/kusion"
	"github.com/weft-dev/weft/kcl/mod"
	"github.com/weft-dev/weft/stack"
)

// encodeAs is a value as json (indented by four) or yaml.
func encodeAs(v any, format string) (string, error) {
	if format == "json" {
		text, err := json.MarshalIndent(v, "", "    ")
		return string(text) + "\n", err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	err := e.Encode(v)
	return b.String(), errors.Join(err, e.Close())
}

func (k *kusionTool) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Interact with the Kusion config", Long: "Read and change Kusion's configuration: the backends, where workspaces and releases are kept.",
		Example: "  kusion config list\n  kusion config set backends.pre.type local"}
	with := func(change bool, do func(*kusion.Config, []string) error) func(*cobra.Command, []string) error {
		return func(_ *cobra.Command, args []string) error {
			home, err := kusion.Home(k.app.getenv)
			if err != nil {
				return err
			}
			config, err := kusion.OpenConfig(home)
			if err != nil {
				return placed(err)
			}
			if err := do(config, args); err != nil || !change {
				return err
			}
			return config.Save()
		}
	}
	one := func(args []string) error {
		if len(args) != 1 {
			return errors.New("only one arg is accepted")
		}
		return nil
	}
	c.AddCommand(
		&cobra.Command{Use: "get", Short: "Get a config item", Example: "  kusion config get backends.current",
			RunE: with(false, func(config *kusion.Config, args []string) error {
				if err := one(args); err != nil {
					return err
				}
				v, err := config.Get(args[0])
				if err != nil {
					return err
				}
				if text, ok := v.(string); ok {
					k.print("%s", text)
					return nil
				}
				text, err := json.Marshal(v)
				k.print("%s", text)
				return err
			})},
		&cobra.Command{Use: "list", Short: "List all config items", Example: "  kusion config list",
			RunE: with(false, func(config *kusion.Config, args []string) error {
				if len(args) > 0 {
					return errors.New("no arg is accepted")
				}
				text, err := config.YAML()
				k.print("%s", text)
				return err
			})},
		&cobra.Command{Use: "set", Short: "Set a config item", Example: "  kusion config set backends.current pre\n  kusion config set backends.pre '{\"type\":\"local\",\"configs\":{\"path\":\"/srv/kusion\"}}'",
			RunE: with(true, func(config *kusion.Config, args []string) error {
				if len(args) != 2 {
					return errors.New("only two args are accepted")
				}
				if err := config.Set(args[0], args[1]); err != nil {
					return placed(err)
				}
				k.print("set config item %s successfully", args[0])
				return nil
			})},
		&cobra.Command{Use: "unset", Short: "Unset a config item", Example: "  kusion config unset backends.pre",
			RunE: with(true, func(config *kusion.Config, args []string) error {
				if err := one(args); err != nil {
					return err
				}
				if err := config.Unset(args[0]); err != nil {
					return err
				}
				k.print("unset config item %s successfully", args[0])
				return nil
			})},
	)
	return c
}

// maybeName is the one argument that a verb may have.
func maybeName(args []string) (string, error) {
	switch len(args) {
	case 0:
		return "", nil
	case 1:
		return args[0], nil
	}
	return "", errors.New("more than one args are not accepted")
}

func notDefault(name string) error {
	switch name {
	case "":
		return errors.New("empty workspace name")
	case stack.DefaultWorkspace:
		return errors.New("default workspace cannot be modified")
	}
	return nil
}

func (k *kusionTool) workspaceCommand() *cobra.Command {
	c := &cobra.Command{Use: "workspace", Short: "Workspace is a logical concept representing a target that stacks will be deployed to",
		Long:    "Workspaces are the targets of stacks: each configures the modules for its platform, and says where secrets are kept.",
		Example: "  kusion workspace create dev -f dev.yaml\n  kusion workspace switch dev"}
	c.AddCommand(k.workspaceCreate(), k.workspaceUpdate(),
		k.workspaceVerb("show", "Show a workspace configuration", "  kusion workspace show\n  kusion workspace show dev", func(w *kusion.Workspaces, name string) error {
			ws, err := w.Get(name)
			if err != nil {
				return placed(err)
			}
			text, err := ws.YAML()
			k.print("show configuration of workspace %s:\n%s", ws.Name, text)
			return err
		}),
		k.workspaceVerb("list", "List all workspace names", "  kusion workspace list", func(w *kusion.Workspaces, name string) error {
			if name != "" {
				return errors.New("no args accepted")
			}
			for _, n := range w.Names() {
				if n == w.Current() {
					k.print("* %s\n", n)
				} else {
					k.print("- %s\n", n)
				}
			}
			return nil
		}),
		k.workspaceVerb("delete", "Delete a workspace", "  kusion workspace delete dev", func(w *kusion.Workspaces, name string) error {
			if name == "" {
				name = w.Current()
			}
			if err := notDefault(name); err != nil {
				return err
			}
			if err := w.Delete(name); err != nil {
				return err
			}
			k.print("delete workspace %s successfully\n", name)
			return nil
		}),
		k.workspaceVerb("switch", "Switch the current workspace", "  kusion workspace switch dev", func(w *kusion.Workspaces, name string) error {
			if name == "" {
				return errors.New("empty workspace name")
			}
			if err := w.SetCurrent(name); err != nil {
				return err
			}
			k.print("switch current workspace to %s successfully\n", name)
			return nil
		}),
	)
	return c
}

func (k *kusionTool) workspaceVerb(use, short, example string, do func(*kusion.Workspaces, string) error) *cobra.Command {
	var backend string
	c := &cobra.Command{Use: use, Short: short, Example: example, RunE: func(_ *cobra.Command, args []string) error {
		name, err := maybeName(args)
		if err != nil {
			return err
		}
		w, err := k.workspaces(backend)
		if err != nil {
			return err
		}
		return do(w, name)
	}}
	c.Flags().StringVar(&backend, "backend", "", "the backend `name`")
	return c
}

func (k *kusionTool) workspaceFile(file, name string) (*stack.Workspace, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read file %s failed: %w", file, err)
	}
	ws, err := stack.ParseWorkspace(file, name, text)
	return ws, placed(err)
}

func (k *kusionTool) workspaceCreate() *cobra.Command {
	var file, backend string
	var current bool
	c := &cobra.Command{Use: "create", Short: "Create a new workspace", Long: "Make a workspace with a name and a configuration file in YAML.",
		Example: "  kusion workspace create dev -f dev.yaml\n  kusion workspace create dev -f dev.yaml --current",
		RunE: func(_ *cobra.Command, args []string) error {
			name, err := maybeName(args)
			if err != nil {
				return err
			}
			if err := notDefault(name); err != nil {
				return err
			}
			if file == "" {
				return errors.New("empty configuration file path")
			}
			w, err := k.workspaces(backend)
			if err != nil {
				return err
			}
			ws, err := k.workspaceFile(file, name)
			if err != nil {
				return err
			}
			if err := w.Put(ws, true); err != nil {
				return err
			}
			if current {
				if err := w.SetCurrent(name); err != nil {
					return err
				}
			}
			k.print("create workspace %s successfully\n", name)
			return nil
		}}
	c.Flags().StringVarP(&file, "file", "f", "", "the `path` of workspace configuration file")
	c.Flags().StringVar(&backend, "backend", "", "the backend `name`")
	c.Flags().BoolVar(&current, "current", false, "set the creating workspace as current")
	return c
}

func (k *kusionTool) workspaceUpdate() *cobra.Command {
	var file, backend, rename string
	var current bool
	c := &cobra.Command{Use: "update", Short: "Update a workspace configuration", Long: "Give a workspace another configuration or another name.",
		Example: "  kusion workspace update -f dev.yaml\n  kusion workspace update dev --rename dev-test",
		RunE: func(_ *cobra.Command, args []string) error {
			name, err := maybeName(args)
			if err != nil {
				return err
			}
			if rename != "" {
				if err := errors.Join(notDefault(rename), notDefault(name)); err != nil {
					return err
				}
			}
			if rename == "" && file == "" {
				return errors.New("new name or file path is required")
			}
			w, err := k.workspaces(backend)
			if err != nil {
				return err
			}
			if name == "" {
				name = w.Current()
			}
			var ws *stack.Workspace
			if file != "" { // before anything is changed
				if ws, err = k.workspaceFile(file, name); err != nil {
					return err
				}
			}
			if rename != "" {
				if err := w.Rename(name, rename); err != nil {
					return err
				}
				name = rename
			}
			if ws != nil {
				ws.Name = name
				if err := w.Put(ws, false); err != nil {
					return err
				}
			}
			if current {
				if err := w.SetCurrent(name); err != nil {
					return err
				}
			}
			k.print("update workspace %s successfully\n", name)
			return nil
		}}
	c.Flags().StringVarP(&file, "file", "f", "", "the `path` of workspace configuration file")
	c.Flags().StringVarP(&backend, "backend", "b", "", "the backend `name`")
	c.Flags().StringVarP(&rename, "rename", "r", "", "the new `name` of the workspace")
	c.Flags().BoolVar(&current, "current", false, "set the creating workspace as current")
	return c
}

func (k *kusionTool) projectCommand() *cobra.Command {
	c := &cobra.Command{Use: "project", Short: "Project is a folder that contains a project.yaml file and is linked to a Git repository", Long: "Make and list projects.",
		Example: "  kusion project create --target shop\n  kusion project list"}
	var target string
	create := &cobra.Command{Use: "create", Short: "Create a new project", Long: "Write the project.yaml of a new project into an empty folder.",
		Example: "  kusion project create --target projects/shop",
		RunE: func(_ *cobra.Command, args []string) error {
			dir, name, err := newProject(target, args)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, stack.ProjectFile), []byte("name: "+name+"\n"), 0o644); err != nil {
				return err
			}
			k.print("Created project '%s' successfully\n", name)
			return nil
		}}
	create.Flags().StringVarP(&target, "target", "t", "", "specify the target `directory`")
	c.AddCommand(create, k.projectList())
	return c
}

// newProject is the folder of a project that is to be made, which is empty, and its name.
func newProject(target string, args []string) (dir, name string, err error) {
	if len(args) > 0 {
		return "", "", errors.New("no args accepted")
	}
	if dir, err = filepath.Abs(target); err != nil {
		return "", "", err
	}
	name = filepath.Base(dir)
	if fault := stack.CheckName(name); fault != "" {
		return "", "", fmt.Errorf("the project name %s, got %q", fault, name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", "", err
	}
	if len(files) > 0 {
		return "", "", errors.New("the target directory for project creation should be empty")
	}
	return dir, name, nil
}

func (k *kusionTool) projectList() *cobra.Command {
	var backend string
	var names []string
	var all bool
	c := &cobra.Command{Use: "list", Short: "List the applied projects", Long: "List the projects that have been applied in a workspace.",
		Example: "  kusion project list\n  kusion project list --all",
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			b, err := k.backend(backend)
			if err != nil {
				return err
			}
			workspaces, err := b.Workspaces()
			if err != nil {
				return placed(err)
			}
			projects, err := b.Projects()
			if err != nil {
				return err
			}
			if all {
				names = workspaces.Names()
			} else if len(names) == 0 {
				names = []string{workspaces.Current()}
			}
			for _, name := range names {
				if !workspaces.Has(name) {
					return fmt.Errorf("%w: %s", kusion.ErrWorkspaceMissing, name)
				}
			}
			if len(projects) == 0 {
				k.print("No projects found\n")
				return nil
			}
			slices.SortStableFunc(names, func(x, y string) int { // the current one first
				return strings.Compare(rank(x, workspaces.Current()), rank(y, workspaces.Current()))
			})
			for _, name := range names {
				if name == workspaces.Current() {
					k.print("Current Workspace: %s\n", name)
				} else {
					k.print("Workspace: %s\n", name)
				}
				if len(projects[name]) == 0 {
					k.print("  No projects found\n")
				}
				for _, p := range projects[name] {
					k.print("  - %s\n", p)
				}
				k.print("%s\n", strings.Repeat("-", 40))
			}
			return nil
		}}
	c.Flags().StringSliceVar(&names, "workspace", nil, "The `name` of the target workspace")
	c.Flags().StringVar(&backend, "backend", "", "The backend to use, by its `name`")
	c.Flags().BoolVarP(&all, "all", "a", false, "List all the projects in all the workspaces")
	return c
}

func rank(name, first string) string {
	if name == first {
		return "0"
	}
	return "1"
}

func (k *kusionTool) stackCommand() *cobra.Command {
	c := &cobra.Command{Use: "stack", Short: "Stack is a folder that contains a stack.yaml file within the corresponding project directory", Long: "Make stacks.",
		Example: "  kusion stack create dev"}
	var target, from string
	create := &cobra.Command{Use: "create", Short: "Create a new stack", Long: "Make a stack in a project's folder: stack.yaml, kcl.mod and main.k, or a copy of another stack.",
		Example: "  kusion stack create dev --target shop\n  kusion stack create prod --copy-from dev",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("only one argument is accepted")
			}
			return k.createStack(args[0], target, from)
		}}
	create.Flags().StringVarP(&target, "target", "t", "", "specify the target project `directory`")
	create.Flags().StringVar(&from, "copy-from", "", "specify the referenced stack `path` to copy from")
	c.AddCommand(create)
	return c
}

func (k *kusionTool) createStack(name, target, from string) error {
	if fault := stack.CheckName(name); fault != "" {
		return fmt.Errorf("the stack name %s, got %q", fault, name)
	}
	project, err := filepath.Abs(target)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(project, stack.ProjectFile)); err != nil {
		return fmt.Errorf("invalid target project directory: %s has no %s", project, stack.ProjectFile)
	}
	dir := filepath.Join(project, name)
	if files, err := os.ReadDir(dir); err == nil && len(files) > 0 {
		return errors.New("not empty existing target directory for stack creation")
	}
	if from != "" {
		source := filepath.Join(project, from)
		if _, err := os.Stat(filepath.Join(source, stack.StackFile)); err != nil {
			return fmt.Errorf("invalid referenced stack directory: %s has no %s", source, stack.StackFile)
		}
		if err := copyStack(source, dir); err != nil {
			return err
		}
	} else if err := writeFiles(dir, map[string]string{"kcl.mod": newKCLMod, "main.k": fmt.Sprintf(newMain, "app", "app", "nginx:1.27")}); err != nil {
		return err
	}
	if err := writeFiles(dir, map[string]string{stack.StackFile: "name: " + name + "\n"}); err != nil {
		return err
	}
	k.print("Created stack '%s' under project directory '%s' successfully\n", name, project)
	return nil
}

// copyStack copies a stack's files but for stack.yaml.
func copyStack(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case e.Name() == stack.StackFile:
			return nil
		case !e.Type().IsRegular():
			return fmt.Errorf("%s is no regular file", path)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), content, 0o644)
	})
}

func writeFiles(dir string, files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// newKCLMod names the modules that a new stack uses; all are built in.
const newKCLMod = `[dependencies]
kam = { git = "https://github.com/KusionStack/kam.git", tag = "0.2.0" }
service = { oci = "oci://ghcr.io/kusionstack/service", tag = "0.1.0" }
network = { oci = "oci://ghcr.io/kusionstack/network", tag = "0.2.0" }
`

// newMain is the program of a new stack: the names of application and container, and the image.
const newMain = `import kam.v1.app_configuration as ac
import service
import service.container as c
import network as n

%s: ac.AppConfiguration {
    # What runs.
    workload: service.Service {
        containers: {
            %s: c.Container {
                image: %q
            }
        }
        replicas: 1
    }
    # What it needs besides.
    accessories: {
        network: n.Network {
            ports: [
                n.Port {
                    port: 8080
                    targetPort: 80
                }
            ]
        }
    }
}
`

func (k *kusionTool) initCommand() *cobra.Command {
	var target string
	c := &cobra.Command{Use: "init", Short: "Initialize the scaffolding for a demo project", Long: "Write a project with one stack into an empty folder.",
		Example: "  kusion init --target quickstart",
		RunE: func(_ *cobra.Command, args []string) error {
			dir, name, err := newProject(target, args)
			if err != nil {
				return err
			}
			err = writeFiles(dir, map[string]string{
				stack.ProjectFile: "name: " + name + "\n", "default/" + stack.StackFile: "name: default\n",
				"default/kcl.mod": newKCLMod, "default/main.k": fmt.Sprintf(newMain, "quickstart", "quickstart", "nginx:1.27"),
			})
			if err != nil {
				return err
			}
			k.print("Initiated demo project '%s' successfully\n", name)
			return nil
		}}
	c.Flags().StringVarP(&target, "target", "t", "", "specify the target `directory`")
	return c
}

func (k *kusionTool) modCommand() *cobra.Command {
	c := &cobra.Command{Use: "mod", Short: "Manage Kusion modules",
		Long: `List, add and fetch the modules of stacks. The modules of KusionStack are built in and work without being fetched; ` + "`--module NAME=FOLDER`" + `
of the verbs that evaluate a stack reads one from a folder.`,
		Example: "  kusion mod list\n  kusion mod add mysql"}
	c.AddCommand(k.modList(), k.modAdd(), k.modPull(), k.modLogin())
	return c
}

func (k *kusionTool) modList() *cobra.Command {
	var f metaFlags
	c := &cobra.Command{Use: "list", Short: "List kusion modules in the current workspace", Example: "  kusion mod list --workspace dev",
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			w, err := k.workspaces(f.backend)
			if err != nil {
				return err
			}
			ws, err := w.Get(f.workspace)
			if err != nil {
				return placed(err)
			}
			rows := [][]string{{"Name", "Version", "URL"}}
			for _, m := range ws.Modules {
				rows = append(rows, []string{m.Name, m.Version, m.Path})
			}
			k.table(rows)
			return nil
		}}
	f.add(c)
	return c
}

// table prints columns with two spaces between them.
func (k *kusionTool) table(rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		k.print("%s\n", strings.TrimRight(line.String(), " "))
	}
}

func (k *kusionTool) modAdd() *cobra.Command {
	var f metaFlags
	c := &cobra.Command{Use: "add MODULE_NAME", Short: "Add a module from a workspace", Long: "Write a module, as the workspace names it, into the stack's kcl.mod.",
		Example: "  kusion mod add mysql --workspace dev",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("accepts 1 arg(s), received %d", len(args))
			}
			m, err := k.meta(f)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(m.workspace.Modules, func(c stack.ModuleConfig) bool { return c.Name == args[0] })
			if i < 0 {
				return fmt.Errorf("module: %s not found in the workspace: %s", args[0], m.workspace.Name)
			}
			config := m.workspace.Modules[i]
			file, err := mod.Load(m.place.Stack.Dir)
			if err != nil {
				return err
			}
			d := mod.Dependency{Name: config.Name, Tag: config.Version}
			switch {
			case strings.HasPrefix(config.Path, "oci://"):
				d.OCI = config.Path
			case strings.HasPrefix(config.Path, "git://") || strings.HasSuffix(config.Path, ".git"):
				d.Git = config.Path
			case filepath.IsAbs(config.Path):
				d.Path, d.Tag = config.Path, ""
			default:
				return fmt.Errorf("invalid module path: %s", config.Path)
			}
			file.File.Dependencies = slices.DeleteFunc(file.File.Dependencies, func(old mod.Dependency) bool { return old.Name == d.Name })
			file.File.Dependencies = append(file.File.Dependencies, d)
			return file.Save()
		}}
	f.add(c)
	return c
}

// kcl runs a verb of KCL in a folder.
func (k *kusionTool) kcl(c *cobra.Command, dir string, args ...string) error {
	t := &kcltool.Tool{In: k.app.in, Out: k.app.out, Err: k.app.err, Getenv: os.LookupEnv, Dir: dir, Version: ownVersions().Weft}
	cmd := t.Command("kcl")
	cmd.SetArgs(args)
	return cmd.ExecuteContext(c.Context())
}

func (k *kusionTool) modPull() *cobra.Command {
	var host, user, password string
	c := &cobra.Command{Use: "pull [FOLDER]", Short: "Pull kusion modules", Long: "Fetch the modules that the kcl.mod of a folder names and that are not on this machine.",
		Example: "  kusion mod pull",
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := maybeName(args)
			if err != nil {
				return err
			}
			if dir, err = filepath.Abs(dir); err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(dir, mod.FileName)); err != nil {
				return fmt.Errorf("no kcl.mod file found at path %s", dir)
			}
			if host != "" && user != "" && password != "" {
				if err := k.kcl(c, dir, "registry", "login", host, "-u", user, "-p", password); err != nil {
					return err
				}
			}
			return k.kcl(c, dir, "mod", "update")
		}}
	c.Flags().StringVar(&host, "host", k.app.getenv("KUSION_MODULE_REGISTRY_HOST"), "The `host` of kusion module oci registry.")
	c.Flags().StringVar(&user, "username", k.app.getenv("KUSION_MODULE_REGISTRY_USERNAME"), "The username of kusion module oci registry.")
	c.Flags().StringVar(&password, "password", "", "The password of kusion module oci registry (default $KUSION_MODULE_REGISTRY_PASSWORD).")
	c.PreRun = func(*cobra.Command, []string) {
		if password == "" {
			password = k.app.getenv("KUSION_MODULE_REGISTRY_PASSWORD")
		}
	}
	return c
}

func (k *kusionTool) modLogin() *cobra.Command {
	var user, password string
	c := &cobra.Command{Use: "login REGISTRY", Short: "Login to an oci registry for kusion modules", Long: "Keep the credentials of a registry in the Docker configuration.",
		Example: "  kusion mod login ghcr.io --username me --password secret",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("less or more than one arg is not accepted")
			}
			if user == "" {
				user = k.app.getenv("KUSION_MODULE_REGISTRY_USERNAME")
			}
			if password == "" {
				password = k.app.getenv("KUSION_MODULE_REGISTRY_PASSWORD")
			}
			switch {
			case user == "":
				return errors.New("empty kusion module registry username")
			case password == "":
				return errors.New("empty kusion module registry password")
			}
			dir, err := os.Getwd()
			if err != nil {
				return err
			}
			return k.kcl(c, dir, "registry", "login", args[0], "-u", user, "-p", password)
		}}
	c.Flags().StringVar(&user, "username", "", "The username of kusion module oci registry.")
	c.Flags().StringVar(&password, "password", "", "The password of kusion module oci registry.")
	return c
}
