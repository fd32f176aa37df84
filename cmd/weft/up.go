package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/supervise/control"
)

func (a *app) upCommand() *cobra.Command {
	var src sourceFlags
	var state stateFlags
	timeout := 5 * time.Minute
	c := &cobra.Command{
		Use:   "up [FOLDER]",
		Short: "Start the embedded Kubernetes, or build and run the project in a folder",
		Long: `Without a folder: start the embedded Kubernetes in the background, or find the one that runs, and wait until it is ready. Everything
of it lies in the state folder. Two state folders are two clusters.

With a folder: plan and apply it as "weft apply" does: build the images of the project from source, push them, apply its objects, wait until
everything is ready, and print the address. What is no longer described is removed, with the exception of namespaces and volumes. A second run
changes only what differs. The folder's weft.yaml says which images are built from what; without one the image named like the folder is.

With --kubeconfig or --context the project goes to that cluster, and the images to --registry.`,
		Example: `  weft up
  weft up examples/guestbook/dev
  weft up --state /srv/second
  weft up --context staging --registry ghcr.io/me examples/guestbook/dev`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "overlayfs", "weft"}, a.snapshotter) {
				return output.Usagef("--snapshotter: %q is none of overlayfs, weft", a.snapshotter)
			}
			if timeout <= 0 {
				return output.Usagef("--timeout: must be positive, got %s", timeout)
			}
			if len(args) == 1 || len(src.files) > 0 {
				return a.upProject(c.Context(), path(args), src, state, timeout)
			}
			if a.foreign() {
				return output.Usagef("--kubeconfig and --context name another cluster, which needs no start: name a project folder")
			}
			return a.upCluster(c.Context())
		},
	}
	src.add(c)
	state.add(c)
	c.Flags().StringVar(&a.snapshotter, "snapshotter", "", "what makes pods' files of images when the cluster starts: overlayfs unpacks them, weft mounts those with an EROFS or Nydus form at once (default: the last one, at first weft)")
	c.Flags().DurationVar(&timeout, "timeout", timeout, "how long objects may take to become ready")
	return c
}

func (a *app) upCluster(ctx context.Context) error {
	status, already, err := a.startCluster(ctx)
	if err != nil {
		return err
	}
	return a.print().Result(status, func(p *output.Page) {
		verb := "is ready"
		if already {
			verb = "runs already"
		}
		p.Line("Kubernetes %s %s (%s).", status.Kubernetes, p.Paint(output.Green, verb), describeMode(status.Mode))
		for _, m := range status.Missing {
			p.Line("%s %s", p.Paint(output.Yellow, "Missing:"), m)
		}
		p.Line("Try `weft kubectl get pods -A`, `weft status`, and at the end `weft down`.")
	})
}

// startCluster starts the embedded cluster with progress, or finds it running.
func (a *app) startCluster(ctx context.Context) (status control.Status, already bool, err error) {
	c, err := a.cluster()
	if err != nil {
		return status, false, err
	}
	if a.snapshotter != "" {
		c.Flags = append(c.Flags, "--snapshotter", a.snapshotter)
	}
	progress := a.print().Progress()
	defer progress.Close()
	follow := &startProgress{progress: progress}
	already, err = c.Start(ctx, func(s control.Status) {
		status = s
		follow.show(s)
	})
	if already {
		status, err = c.Status(ctx)
	}
	if errors.Is(err, errInterrupted) {
		return status, false, output.Advise(fmt.Errorf("%w while the cluster was starting", err), "`weft up` begins again; `weft down` removes what is left.")
	}
	return status, already, err
}

// startProgress shows the steps of a start as they are passed.
type startProgress struct {
	progress *output.Progress
	item     *output.Item
	steps    int
}

func (f *startProgress) show(s control.Status) {
	if f.item == nil {
		f.item = f.progress.Start("Kubernetes")
	}
	for ; f.steps < len(s.Steps); f.steps++ {
		step := s.Steps[f.steps]
		f.progress.Passed(step.Name, time.Duration(step.Seconds*float64(time.Second)))
	}
	switch s.Phase {
	case control.Starting:
		f.item.Wait(waitingFor(s))
	case control.Ready:
		f.item.Done("ready")
	case control.Failed:
		f.item.Fail("failed")
	case control.Stopping:
		f.item.Wait("interrupted, stopping what was started")
	}
}

// waitingFor names the components that are not running yet.
func waitingFor(s control.Status) string {
	var note string
	for _, c := range s.Components {
		if c.State == "running" {
			continue
		}
		if note != "" {
			note += ", "
		}
		note += c.Name
		if c.Restarts > 0 {
			note += fmt.Sprintf(" (restarted %d times: %s)", c.Restarts, c.LastError)
		}
	}
	if note == "" {
		return "starting"
	}
	return "waiting for " + note
}

func describeMode(m control.Mode) string {
	if m == control.ModeAPI {
		return "API, controllers and scheduler only; pods do not run"
	}
	return "with a node that runs pods"
}
