package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
)

// names lists the tools under whose names weft answers, for example through a link bin/kusion -> weft. A name without a command is
// known and refused with a sentence, so that a script never runs a weft verb by accident.
var names = map[string]struct {
	of      string // what the tool belongs to
	command func(*app) *cobra.Command
}{
	"kusion":      {of: "Kusion", command: kusionCommand},
	"dtm":         {of: "DevStream"},
	"pack":        {of: "Cloud Native Buildpacks", command: packCommand},
	"nydusify":    {of: "Nydus", command: nydusifyCommand},
	"nydus-image": {of: "Nydus", command: nydusImageCommand},
	"ofn":         {of: "OpenFunction"},
}

// command returns the command tree for the name under which the program was started: weft's own for every unknown name.
func (a *app) command(name string) (*cobra.Command, error) {
	a.called = name
	entry, known := names[name]
	switch {
	case !known:
		a.called = "weft"
		return a.root(), nil
	case entry.command == nil:
		return nil, output.Advise(fmt.Errorf("this build of weft does not answer as %s (%s) yet", name, entry.of), "Start it as weft: see `weft --help`.")
	}
	return entry.command(a), nil
}
