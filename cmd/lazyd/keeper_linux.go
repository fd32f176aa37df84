package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/lazy/keeper"
)

// keeperCommand is the process that keeps what must not be lost while others come and go. Package lazy starts it.
func keeperCommand() *cobra.Command {
	var o keeper.Options
	c := &cobra.Command{
		Use:    "keeper FOLDER",
		Short:  "Hold the descriptors and events of lazily mounted images; started by snapshotter",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = args[0]
			o.Say = func(format string, args ...any) {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s %s\n", time.Now().UTC().Format(time.RFC3339), fmt.Sprintf(format, args...))
			}
			return keeper.Run(o)
		},
	}
	c.Flags().StringVar(&o.Cgroup, "cgroup", "", "`name` of a control group of its own; a second process, which holds the same descriptors, gets NAME-holder")
	c.Flags().DurationVar(&o.Deadline, "deadline", 35*time.Second, "a read that nobody answers for this long fails")
	return c
}
