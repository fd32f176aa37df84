package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/kusion"
	"github.com/weft-dev/weft/stack"
)

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
