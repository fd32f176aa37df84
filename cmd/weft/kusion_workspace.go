package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/kusion"
	"github.com/weft-dev/weft/stack"
)

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
