package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/supervise/control"
)

// downResult is what `weft down -o json` prints.
type downResult struct {
	State   string `json:"state"`
	Stopped bool   `json:"stopped"` // false: no cluster was there
	Purged  bool   `json:"purged"`
}

func (a *app) downCommand() *cobra.Command {
	var purge bool
	grace := 10 * time.Second
	c := &cobra.Command{
		Use:   "down",
		Short: "Stop the embedded Kubernetes",
		Long: `Stop the embedded Kubernetes and remove what it put on the machine: processes, mounts, cgroups and network namespaces. The state
folder with all data stays, and the next "weft up" goes on from there, unless --purge is given.

It also cleans up after a cluster that was killed.`,
		Example: `  weft down
  weft down --grace 1m   # pods get up to a minute to end
  weft down --purge      # remove the data too`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if grace < 0 {
				return output.Usagef("--grace: must not be negative, got %s", grace)
			}
			return a.down(c, grace, purge)
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "remove the state folder too, with all data")
	c.Flags().DurationVar(&grace, "grace", grace, "the longest that pods may take to end")
	return c
}

func (a *app) down(cmd *cobra.Command, grace time.Duration, purge bool) error {
	c, err := a.cluster()
	if err != nil {
		return err
	}
	result := downResult{State: c.State}
	progress := a.print().Progress()
	defer progress.Close()
	item := progress.Start("Kubernetes")
	result.Stopped, err = c.Stop(cmd.Context(), grace, func(s control.Status) {
		item.Wait(stoppingNote(s))
	})
	if err != nil {
		item.Fail("not stopped")
		return output.Advise(err, "`weft down` can be given again at any time.")
	}
	if result.Stopped {
		item.Done("stopped")
	} else {
		item.Skip("was not running")
	}
	if purge {
		item := progress.Start("Data")
		if err := c.Purge(); err != nil {
			item.Fail("not removed")
			return err
		}
		item.Done("removed")
		result.Purged = true
	}
	progress.Close()
	return a.print().Result(result, func(p *output.Page) {
		switch {
		case result.Purged:
			p.Line("%s is removed.", result.State)
		case result.Stopped:
			p.Line("Stopped. The data stays in %s.", result.State)
		default:
			p.Line("No cluster runs in %s.", result.State)
		}
	})
}

// stoppingNote names what still runs.
func stoppingNote(s control.Status) string {
	note := ""
	for _, c := range s.Components {
		if c.State == "stopped" || c.State == "failed" {
			continue
		}
		if note != "" {
			note += ", "
		}
		note += c.Name
	}
	if note == "" {
		return "stopping"
	}
	return "stopping " + note
}
