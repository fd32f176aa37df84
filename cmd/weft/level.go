package main

import (
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/leveltool"
)

func (a *app) levelCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "level",
		Short: "Say what levels deny to whom, and why",
		Example: `  weft level can alice get secrets/db -n payments -f levels/ --why
  weft level matrix levels/
  weft level simulate levels/ --with new-clearances.yaml`,
	}
	group(c)
	c.AddCommand(leveltool.Tool{Print: a.print, Stdin: a.in, Cluster: a.managedCluster}.Commands()...)
	return c
}
