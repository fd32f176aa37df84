package main

import (
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/logtool"
)

func (a *app) logCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "log",
		Short: "Render, check and explain log pipelines",
		Example: `  weft log lint logging/
  weft log render logging/
  weft log explain logging/ --tag kube.var.log.containers.web-1_shop_web-0.log --record-namespace shop`,
	}
	group(c)
	c.AddCommand(logtool.Tool{Print: a.print, Stdin: a.in}.Commands()...)
	return c
}
