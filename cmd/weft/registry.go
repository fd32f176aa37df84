package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/registry/server"
	"github.com/weft-dev/weft/store"
)

func (a *app) registryCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "registry",
		Short: "Look at the embedded cluster's registry and clean it up",
		Example: `  weft registry ls
  weft registry gc --dry-run`,
	}
	group(c)
	c.AddCommand(a.registryListCommand(), a.registryCollectCommand())
	return c
}

// openRegistry opens the registry of the state folder. The cluster may be running or not: the store is made for both.
func (a *app) openRegistry() (*server.Server, error) {
	c, err := a.cluster()
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(c.State, "data", "store") // where weft-node keeps it
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return nil, output.Advise(fmt.Errorf("there is no registry in %s", c.State), "It is made when the cluster starts: `weft up`.")
	}
	s, err := store.Open(folder)
	if err != nil {
		return nil, err
	}
	return server.New(server.Config{Storage: s.Registry()}), nil
}

func (a *app) registryListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls [REPOSITORY]",
		Aliases: []string{"list"},
		Short:   "List repositories, or the tags of one",
		Example: `  weft registry ls
  weft registry ls guestbook
  weft registry ls -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			reg, err := a.openRegistry()
			if err != nil {
				return err
			}
			list, err := reg.Inventory(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return a.print().Result(list, func(p *output.Page) { repositoriesPage(p, list) })
			}
			for _, r := range list {
				if r.Name == args[0] {
					return a.print().Result(r, func(p *output.Page) { tagsPage(p, r) })
				}
			}
			return output.Advise(fmt.Errorf("there is no repository %q", args[0]), "`weft registry ls` lists them.")
		},
	}
}

func repositoriesPage(p *output.Page, list []server.Repository) {
	if len(list) == 0 {
		p.Line("The registry is empty.")
		return
	}
	var rows [][]output.Cell
	for _, r := range list {
		rows = append(rows, output.Row(r.Name, fmt.Sprint(len(r.Tags)), fmt.Sprint(r.Manifests), fmt.Sprint(r.Untagged), output.Bytes(r.Bytes)))
	}
	p.Table([]string{"repository", "tags", "manifests", "untagged", "size"}, rows)
}

func tagsPage(p *output.Page, r server.Repository) {
	if len(r.Tags) == 0 {
		p.Line("%s has no tags.", r.Name)
		return
	}
	var rows [][]output.Cell
	for _, t := range r.Tags {
		rows = append(rows, output.Row(t.Name, string(t.Digest), t.MediaType))
	}
	p.Table([]string{"tag", "digest", "type"}, rows)
}

func (a *app) registryCollectCommand() *cobra.Command {
	policy := server.Policy{}
	ignoreCluster := false
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove images that no tag leads to and no pod uses",
		Long: `Remove the manifests that no tag leads to, directly, through an index or as the subject of a signature or the like, and then the blobs
that nothing needs any more. What was pushed or looked at within the grace period stays, so that a push in flight is safe.

What the cluster uses stays as well, whether a tag leads to it or not: the images of its containers, and those that Deployments, older ReplicaSets
("kubectl rollout undo"), StatefulSets, DaemonSets, Jobs and CronJobs name by digest. So the cluster has to run.`,
		Example: `  weft registry gc --dry-run
  weft registry gc --grace 24h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if policy.Grace < 0 {
				return output.Usagef("--grace: %s is negative", policy.Grace)
			}
			reg, err := a.openRegistry()
			if err != nil {
				return err
			}
			if !ignoreCluster {
				c, err := a.cluster()
				if err != nil {
					return err
				}
				if policy.Keep, err = imagesInUse(cmd.Context(), c); err != nil {
					return err
				}
			}
			report, err := collect(cmd.Context(), reg, policy)
			if err != nil {
				return err
			}
			return a.print().Result(report, func(p *output.Page) { collectionPage(p, report) })
		},
	}
	c.Flags().DurationVar(&policy.Grace, "grace", server.DefaultGrace, "keep what was used within this `time`")
	c.Flags().BoolVar(&ignoreCluster, "ignore-cluster", false, "do not ask the cluster what it uses: only tags count")
	c.Flags().BoolVar(&policy.DryRun, "dry-run", false, "only say what would be removed")
	return c
}

// collect runs a collection; it waits for changes that are under way, but not for ever.
func collect(ctx context.Context, reg *server.Server, policy server.Policy) (server.Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("the registry was busy for 5 minutes"))
	defer cancel()
	return reg.Collect(ctx, policy)
}

func collectionPage(p *output.Page, r server.Report) {
	verb := "Removed"
	if r.DryRun {
		verb = "Would remove"
	}
	for _, m := range r.Manifests {
		p.Line("%s", m)
	}
	p.Line("%s %d manifests and %d blobs: %s.", verb, len(r.Manifests), r.Blobs, output.Bytes(r.RemovedBytes))
}
