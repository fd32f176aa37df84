package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/supervise/control"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what the embedded Kubernetes does",
		Example: `  weft status
  weft status -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.cluster()
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return a.print().Result(s, func(p *output.Page) { statusPage(p, s, time.Now()) })
		},
	}
}

func statusPage(p *output.Page, s control.Status, now time.Time) {
	colour := output.Yellow
	switch s.Phase {
	case control.Ready:
		colour = output.Green
	case control.Failed:
		colour = output.Red
	}
	facts := [][]output.Cell{
		{{Text: "Cluster"}, {Text: string(s.Phase), Colour: colour}},
		output.Row("State", s.State),
	}
	fact := func(name, value string) {
		if value != "" {
			facts = append(facts, output.Row(name, value))
		}
	}
	if s.Phase == control.Stopped {
		p.Table(nil, facts)
		p.Line("Start it with `weft up`.")
		return
	}
	fact("Error", s.Error)
	fact("Kubernetes", s.Kubernetes)
	fact("Mode", describeMode(s.Mode))
	fact("Running for", age(now, s.StartedAt))
	fact("Supervisor", fmt.Sprintf("process %d", s.PID))
	fact("API", s.API)
	fact("Registry", s.Registry)
	fact("Kubeconfig", s.Kubeconfig)
	for _, m := range s.Missing {
		fact("Missing", m)
	}
	p.Table(nil, facts)
	if len(s.Components) > 0 {
		p.Line("")
		p.Table([]string{"component", "state", "pid", "restarts", "for", "last error"}, componentRows(s.Components, now))
	}
	if len(s.LoadBalancers) > 0 {
		p.Line("")
		p.Table([]string{"service", "port", "address"}, balancerRows(s.LoadBalancers))
	}
}

func componentRows(components []control.Component, now time.Time) [][]output.Cell {
	var rows [][]output.Cell
	for _, c := range components {
		colour := output.Yellow
		switch c.State {
		case "running":
			colour = output.Green
		case "failed":
			colour = output.Red
		}
		pid := ""
		if c.PID != 0 {
			pid = fmt.Sprint(c.PID)
		}
		row := output.Row(c.Name, c.State, pid, fmt.Sprint(c.Restarts), age(now, c.Since), c.LastError)
		row[1].Colour = colour
		rows = append(rows, row)
	}
	return rows
}

func balancerRows(balancers []control.LoadBalancer) [][]output.Cell {
	var rows [][]output.Cell
	for _, b := range balancers {
		text := "http://" + b.Address
		switch {
		case b.Protocol == "UDP":
			text = b.Address + " (UDP)"
		case b.Port == 443:
			text = "https://" + b.Address
		}
		address := output.Cell{Text: text, Colour: output.Bold}
		if b.Error != "" {
			address = output.Cell{Text: b.Error, Colour: output.Red}
		}
		rows = append(rows, append(output.Row(b.Namespace+"/"+b.Service, fmt.Sprint(b.Port)), address))
	}
	return rows
}

// age writes a time span as people say it, for example 3m12s.
func age(now, since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return now.Sub(since).Round(time.Second).String()
}
