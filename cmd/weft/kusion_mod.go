package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/kcltool"
	"github.com/weft-dev/weft/kcl/mod"
	"github.com/weft-dev/weft/stack"
)

func (k *kusionTool) modCommand() *cobra.Command {
	c := &cobra.Command{Use: "mod", Short: "Manage Kusion modules",
		Long: `Begin, list, add, fetch and push the modules of stacks. The modules of KusionStack are built in and work without being fetched; ` + "`--module NAME=FOLDER`" + `
of the verbs that evaluate a stack reads one from a folder.`,
		Example: "  kusion mod list\n  kusion mod add mysql"}
	c.AddCommand(k.modInit(), k.modList(), k.modAdd(), k.modPull(), k.modPush(), k.modLogin())
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
	getenv := func(name string) (string, bool) {
		value := k.app.getenv(name)
		return value, value != ""
	}
	t := &kcltool.Tool{In: k.app.in, Out: k.app.out, Err: k.app.err, Getenv: getenv, Dir: dir, Version: ownVersions().Weft}
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
