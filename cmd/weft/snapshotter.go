package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/snapshotterd"
)

// snapshotterCommand is the noun snapshotter.
func (a *app) snapshotterCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "snapshotter",
		Short: "Let containerd mount images before they are downloaded",
		Example: `  weft up --snapshotter weft
  weft snapshotter run --root /var/lib/weft/snapshotter
  weft snapshotter manifests --image registry.example.com/lazyd:v1 | kubectl apply -f -`,
	}
	group(c)
	run := snapshotterd.Command("run", "lazy", "keeper")
	run.Example = "  weft snapshotter run --root /var/lib/weft/snapshotter --metrics 127.0.0.1:9110"
	remove := snapshotterd.RemoveCommand("lazy", "keeper")
	remove.Example = "  weft snapshotter remove --root /var/lib/weft/snapshotter --files"
	for _, cmd := range []*cobra.Command{run, remove} {
		do := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			err := do(cmd, args)
			var usage *snapshotterd.UsageError
			if errors.As(err, &usage) {
				return output.Usagef("%w", usage)
			}
			return err
		}
	}
	c.AddCommand(run, remove, a.snapshotterManifestsCommand())
	return c
}
