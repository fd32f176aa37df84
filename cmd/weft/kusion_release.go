package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/kusion"
	"github.com/weft-dev/weft/stack/spec"
)

func (k *kusionTool) releaseCommand() *cobra.Command {
	c := &cobra.Command{Use: "release", Short: "Manage Kusion release files", Long: "List, show and unlock the releases of a stack, and go back to one.",
		Example: "  kusion release list\n  kusion release show --revision=1"}
	c.AddCommand(k.releaseList(), k.releaseShow(), k.releaseUnlock(), k.releaseRollback())
	return c
}

func (k *kusionTool) releaseList() *cobra.Command {
	var f metaFlags
	c := &cobra.Command{Use: "list", Short: "List all releases of the current stack", Example: "  kusion release list --workspace=dev",
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			m, releases, err := k.releases(f)
			if err != nil {
				return err
			}
			if len(releases.Revisions()) == 0 {
				k.print("No releases found for project: %s, workspace: %s\n", m.place.Project.Name, m.workspace.Name)
				return nil
			}
			k.print("Releases for project: %s, workspace: %s\n\n", m.place.Project.Name, m.workspace.Name)
			k.print("%-10s %-15s %-30s\n", "Revision", "Phase", "Creation Time")
			k.print("------------------------------------------------------\n")
			for _, revision := range releases.Revisions() {
				r, err := releases.Get(revision)
				if err != nil {
					return placed(err)
				}
				k.print("%-10d %-15s %-30s\n", r.Revision, r.Phase, r.CreateTime.Format("2006-01-02 15:04:05"))
			}
			return nil
		}}
	f.add(c)
	return c
}

func (k *kusionTool) releases(f metaFlags) (*meta, *kusion.Releases, error) {
	m, err := k.meta(f)
	if err != nil {
		return nil, nil, err
	}
	r, err := m.backend.Releases(m.place.Project.Name, m.workspace.Name)
	return m, r, placed(err)
}

// showFlags name what is shown.
type showFlags struct{ project, workspace, backend, output string }

func (f *showFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.project, "project", "", "The project `name`")
	c.Flags().StringVar(&f.workspace, "workspace", "", "The workspace `name`")
	c.Flags().StringVar(&f.backend, "backend", "", "The backend to use, by its `name`")
	c.Flags().StringVarP(&f.output, "output", "o", "", "Specify the output `format`: json, else YAML")
}

func (k *kusionTool) releaseShow() *cobra.Command {
	var f showFlags
	var revision uint64
	c := &cobra.Command{Use: "show", Short: "Show details of a release of the current or specified stack", Example: "  kusion release show --revision=1 --project=shop --workspace=dev -o json",
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			b, project, workspace, err := k.names(f.project, f.workspace, f.backend)
			if err != nil {
				return err
			}
			releases, err := b.Releases(project, workspace)
			if err != nil {
				return placed(err)
			}
			wanted, of := revision, fmt.Sprintf("revision %d of project: %s, workspace: %s", revision, project, workspace)
			if wanted == 0 {
				wanted, of = releases.Latest(), fmt.Sprintf("project: %s, workspace: %s", project, workspace)
			}
			r, err := releases.Get(wanted)
			if err != nil {
				k.print("No release found for %s\n", of)
				return placed(err)
			}
			text, err := encodeAs(r, f.output)
			k.print("%s", text)
			if f.output != "json" {
				k.print("\n")
			}
			return err
		}}
	f.add(c)
	c.Flags().Uint64Var(&revision, "revision", 0, "The revision `number` of the release")
	return c
}

func (k *kusionTool) releaseUnlock() *cobra.Command {
	var f metaFlags
	c := &cobra.Command{Use: "unlock", Short: "Unlock the latest release file of the current stack",
		Long: `Say of the latest release that it failed, if upstream's kusion left it in progress, so that the next one may begin.

Weft's own runs are locked in another way, which ends with them.`,
		Example: "  kusion release unlock --workspace=dev",
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			m, releases, err := k.releases(f)
			if err != nil {
				return err
			}
			if releases.Latest() == 0 {
				k.print("No release file found for project: %s, workspace: %s\n", m.place.Project.Name, m.workspace.Name)
				return nil
			}
			r, err := releases.Get(releases.Latest())
			if err != nil {
				return placed(err)
			}
			if r.Phase.Final() {
				k.print("No need to update the release phase, current phase: %s\n", r.Phase)
				return nil
			}
			r.Phase, r.ModifiedTime = spec.Failed, time.Now()
			if err := releases.Put(r, false); err != nil {
				return err
			}
			k.print("Successfully update release phase to Failed, project: %s, workspace: %s, revision: %d\n", r.Project, r.Workspace, r.Revision)
			return nil
		}}
	f.add(c)
	return c
}

func (k *kusionTool) resourceCommand() *cobra.Command {
	c := &cobra.Command{Use: "resource", Short: "Observe Kusion resource information", Long: "Show the resources of a project.", Example: "  kusion resource graph --project shop"}
	c.AddCommand(k.resourceGraph(), k.resourceShow())
	return c
}

func (k *kusionTool) resourceShow() *cobra.Command {
	var f showFlags
	var id string
	c := &cobra.Command{Use: "show", Short: "Show details of a resource of the current or specified stack", Example: "  kusion resource show --id=v1:Namespace:shop --project=shop --workspace=dev",
		RunE: func(c *cobra.Command, args []string) error {
			if id == "" {
				return errors.New("resource ID is required")
			}
			if err := noArgs(c, args); err != nil {
				return err
			}
			b, project, workspace, err := k.names(f.project, f.workspace, f.backend)
			if err != nil {
				return err
			}
			releases, err := b.Releases(project, workspace)
			if err != nil {
				return placed(err)
			}
			r, err := releases.Get(releases.Latest())
			if errors.Is(err, kusion.ErrReleaseMissing) {
				return fmt.Errorf("no release found for project: %s, workspace: %s", project, workspace)
			}
			if err != nil {
				return placed(err)
			}
			find := func(list []spec.Resource) *spec.Resource {
				for i := range list {
					if list[i].ID == id {
						return &list[i]
					}
				}
				return nil
			}
			if r.Spec == nil || find(r.Spec.Resources) == nil {
				return fmt.Errorf("no resource found for ID %s in project: %s, workspace: %s", id, project, workspace)
			}
			wanted, err := encodeAs(find(r.Spec.Resources), f.output)
			if err != nil {
				return err
			}
			is := find(r.State.Resources)
			if is == nil {
				is = &spec.Resource{}
			}
			state, err := encodeAs(is, f.output)
			k.print("# Resource Spec:\n%s\n# Resource State:\n%s\n", strings.TrimSuffix(wanted, "\n"), strings.TrimSuffix(state, "\n"))
			return err
		}}
	f.add(c)
	c.Flags().StringVar(&id, "id", "", "The resource `ID`")
	return c
}

// graph is upstream's file of a project's resources in a workspace (api.kusion.io/v1 Graph).
type graph struct {
	Project   string         `json:"Project"`
	Workspace string         `json:"Workspace"`
	Resources graphResources `json:"Resources"`
}

type graphResources struct {
	Workload   map[string]*graphResource `json:"WorkloadResources"`
	Dependency map[string]*graphResource `json:"DependencyResources"`
	Other      map[string]*graphResource `json:"OtherResources"`
}

type graphResource struct {
	ID              string   `json:"ID"`
	Type            string   `json:"Type"`
	Name            string   `json:"Name"`
	CloudResourceID string   `json:"CloudResourceID"`
	Status          string   `json:"Status"`
	Dependents      []string `json:"Dependents"`
	Dependencies    []string `json:"Dependencies"`
}

// graphOf makes the graph of a release.
func graphOf(r *spec.Release) *graph {
	g := &graph{Project: r.Project, Workspace: r.Workspace, Resources: graphResources{map[string]*graphResource{}, map[string]*graphResource{}, map[string]*graphResource{}}}
	if r.Spec == nil {
		return g
	}
	made := map[string]bool{}
	for _, s := range r.State.Resources {
		made[s.ID] = true
	}
	needed := map[string]bool{}
	dependents := map[string][]string{}
	for _, s := range r.Spec.Resources {
		for _, id := range s.DependsOn {
			dependents[id] = append(dependents[id], s.ID)
			needed[id] = needed[id] || s.Workload()
		}
	}
	for _, s := range r.Spec.Resources {
		node := &graphResource{ID: s.ID, Status: "Apply failed", Dependencies: s.DependsOn, Dependents: dependents[s.ID]}
		if made[s.ID] {
			node.Status = "Apply succeeded | Reconciled"
		}
		parts := strings.Split(s.ID, ":")
		switch {
		case s.Type == spec.Kubernetes && len(parts) == 3:
			node.Type, node.Name = spec.Kubernetes+":"+parts[0]+":"+parts[1], parts[2]
		case s.Type == spec.Kubernetes && len(parts) == 4:
			node.Type, node.Name = spec.Kubernetes+":"+parts[0]+":"+parts[1], parts[2]+"/"+parts[3]
		case len(parts) == 4:
			node.Type, node.Name = parts[1]+":"+parts[2], parts[3]
		}
		switch {
		case s.Workload():
			g.Resources.Workload[s.ID] = node
		case needed[s.ID]:
			g.Resources.Dependency[s.ID] = node
		default:
			g.Resources.Other[s.ID] = node
		}
	}
	return g
}

func (k *kusionTool) resourceGraph() *cobra.Command {
	var project, backend, format string
	var names []string
	var all bool
	c := &cobra.Command{Use: "graph", Short: "Display a graph of all the resources' information of the target project and target workspaces",
		Example: "  kusion resource graph --project quickstart --workspace=dev,default -o json",
		RunE: func(c *cobra.Command, args []string) error {
			if project == "" {
				return errors.New("project is a must")
			}
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
			if all {
				names = workspaces.Names()
			} else if len(names) == 0 {
				names = []string{workspaces.Current()}
			}
			found := false
			for _, name := range names {
				if !workspaces.Has(name) {
					return fmt.Errorf("%w: %s", kusion.ErrWorkspaceMissing, name)
				}
				g, err := k.graph(b, project, name)
				if err != nil {
					return err
				}
				if g == nil {
					continue
				}
				found = true
				if format == "json" {
					text, err := json.Marshal(g)
					if err != nil {
						return err
					}
					k.print("%s\n", text)
					continue
				}
				k.showGraph(g)
			}
			if !found {
				k.print("No graph found for project: %s in workspace %s\n", project, names)
			}
			return nil
		}}
	c.Flags().StringVar(&project, "project", "", "The `name` of the target project")
	c.Flags().StringSliceVar(&names, "workspace", nil, "The `name` of the target workspace")
	c.Flags().StringVar(&backend, "backend", "", "The backend to use, by its `name`")
	c.Flags().StringVarP(&format, "output", "o", "", "Specify the output `format`, json only")
	c.Flags().BoolVarP(&all, "all", "a", false, "Display all the resources of all the workspaces")
	return c
}

// graph is that of the latest release, or the one that upstream wrote; nil if there is neither.
func (k *kusionTool) graph(b *kusion.Backend, project, workspace string) (*graph, error) {
	releases, err := b.Releases(project, workspace)
	if err != nil {
		return nil, placed(err)
	}
	if releases.Latest() > 0 {
		r, err := releases.Get(releases.Latest())
		if err != nil {
			return nil, placed(err)
		}
		return graphOf(r), nil
	}
	path := b.GraphPath(project, workspace)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	g := &graph{}
	if err := json.Unmarshal(text, g); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

func (k *kusionTool) showGraph(g *graph) {
	k.print("Displaying resource graph in the project %s...\n\nWorkspace: %s\n\n", g.Project, g.Workspace)
	row := func(id, kind, name, cloud, status string) {
		k.print("%s\n", strings.TrimRight(fmt.Sprintf("%-55s %-30s %-30s %-30s %-30s", id, kind, name, cloud, status), " "))
	}
	for i, part := range []struct {
		title string
		list  map[string]*graphResource
	}{{"Workload", g.Resources.Workload}, {"Dependency", g.Resources.Dependency}, {"Other", g.Resources.Other}} {
		if i > 0 {
			k.print("\n")
		}
		k.print("%s Resources:\n", part.title)
		row("ID", "Kind", "Name", "CloudResourceID", "Status")
		for _, id := range slices.Sorted(maps.Keys(part.list)) {
			r := part.list[id]
			row(r.ID, r.Type, r.Name, r.CloudResourceID, r.Status)
		}
	}
}
