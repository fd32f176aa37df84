package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/supervise/control"
)

// version is set by the linker in releases.
var version = ""

// versions is what `weft version -o json` prints.
type versions struct {
	Weft       string `json:"weft"`
	Commit     string `json:"commit,omitempty"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	Kubernetes string `json:"kubernetes,omitempty"` // of the running cluster
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of weft and of the running cluster",
		Example: `  weft version
  weft version -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := ownVersions()
			if c, err := a.cluster(); err == nil {
				if s, err := c.Status(cmd.Context()); err == nil && s.Phase != control.Stopped {
					v.Kubernetes = s.Kubernetes
				}
			}
			return a.print().Result(v, func(p *output.Page) {
				rows := [][]output.Cell{output.Row("weft", v.Weft)}
				if v.Commit != "" {
					rows = append(rows, output.Row("commit", v.Commit))
				}
				rows = append(rows, output.Row("Go", v.Go), output.Row("platform", v.Platform))
				if v.Kubernetes == "" {
					rows = append(rows, output.Row("Kubernetes", "(not running)"))
				} else {
					rows = append(rows, output.Row("Kubernetes", v.Kubernetes))
				}
				p.Table(nil, rows)
			})
		},
	}
}

func ownVersions() versions {
	v := versions{Weft: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Weft == "" {
		v.Weft = info.Main.Version
	}
	modified := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				modified = " (modified)"
			}
		}
	}
	if v.Commit != "" {
		v.Commit += modified
	}
	return v
}
