package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/leveltool"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/supervise/control"
)

func (a *app) levelCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "level",
		Short: "Say what levels deny to whom, and why; put them into a cluster",
		Example: `  weft level can alice get secrets/db -n payments -f levels/ --why
  weft level matrix levels/
  weft level simulate levels/ --with new-clearances.yaml
  weft level enable levels/
  weft level audit`,
	}
	group(c)
	c.AddCommand(a.levelWebhookCommand())
	c.AddCommand(leveltool.Tool{Print: a.print, Stdin: a.in, Cluster: a.managedCluster, Off: a.levelsOff, Records: a.levelRecords}.Commands()...)
	return c
}

// levelsOff opens the door of levels of the embedded API server, or closes it: who may write the state folder holds the machine anyway.
func (a *app) levelsOff(off bool) error {
	c, err := a.cluster()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.State, control.MarkName)); err != nil {
		return output.Advise(fmt.Errorf("%s is no state folder of a cluster", c.State), "Name it with --state.")
	}
	file := filepath.Join(c.State, control.LevelsOff)
	if off {
		return os.WriteFile(file, nil, 0o600)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// levelRecords is the chain of audit records of the embedded API server.
func (a *app) levelRecords() (string, error) {
	c, err := a.cluster()
	if err != nil {
		return "", err
	}
	return filepath.Join(c.State, control.LevelsAudit), nil
}
