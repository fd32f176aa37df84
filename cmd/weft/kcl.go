package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/kcltool"
	"github.com/weft-dev/weft/cmd/internal/output"
)

// kclCommand is `weft kcl`, the verbs of the small program kcl.
func (a *app) kclCommand() *cobra.Command {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	t := &kcltool.Tool{
		In: a.in, Out: a.out, Err: a.err, Getenv: os.LookupEnv, Dir: dir, Version: ownVersions().Weft,
	}
	cmd := t.Command("kcl")
	var wrap func(*cobra.Command)
	wrap = func(c *cobra.Command) {
		if run := c.RunE; run != nil {
			c.RunE = func(c *cobra.Command, args []string) error {
				err := run(c, args)
				var printed *kcltool.Failure
				if errors.As(err, &printed) {
					return output.Exit{Code: printed.Code}
				}
				return err
			}
		}
		for _, sub := range c.Commands() {
			wrap(sub)
		}
	}
	wrap(cmd)
	return cmd
}
