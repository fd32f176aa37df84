package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
)

// verdict is the outcome of one check of the machine.
type verdict string

const (
	good    verdict = "good"
	limited verdict = "limited" // weft works, with less
	bad     verdict = "bad"     // weft does not work
)

// finding is what one check found.
type finding struct {
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Found   string  `json:"found"`
	Advice  string  `json:"advice,omitempty"` // what to do, when the verdict is not good
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what this machine can do for the embedded Kubernetes",
		Long: `Check this machine without changing anything: the programs, rights and kernel features that the embedded Kubernetes needs, and
the state folder. Each line that is not good says what is lost without it and how to get it.

The exit code is 1 when the embedded Kubernetes cannot run at all.`,
		Example: `  weft doctor
  weft doctor -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.cluster()
			if err != nil {
				return err
			}
			findings := examine(cmd.Context(), c)
			if err := a.print().Result(findings, func(p *output.Page) { doctorPage(p, findings) }); err != nil {
				return err
			}
			for _, f := range findings {
				if f.Verdict == bad {
					return output.Exit{Code: output.Failed}
				}
			}
			return nil
		},
	}
}

func doctorPage(p *output.Page, findings []finding) {
	marks := map[verdict]output.Cell{
		good:    {Text: "✓", Colour: output.Green},
		limited: {Text: "!", Colour: output.Yellow},
		bad:     {Text: "✗", Colour: output.Red},
	}
	var rows [][]output.Cell
	count := map[verdict]int{}
	for _, f := range findings {
		count[f.Verdict]++
		rows = append(rows, []output.Cell{marks[f.Verdict], {Text: f.Check}, {Text: f.Found}})
		if f.Verdict != good && f.Advice != "" {
			rows = append(rows, []output.Cell{{}, {}, {Text: f.Advice, Colour: output.Bold}})
		}
	}
	p.Table(nil, rows)
	p.Line("")
	switch {
	case count[bad] > 0:
		p.Line("The embedded Kubernetes cannot run here: %s.", plural(count[bad], "check failed", "checks failed"))
	case count[limited] > 0:
		p.Line("The embedded Kubernetes runs here with limits: %s attention.", plural(count[limited], "line needs", "lines need"))
	default:
		p.Line("Everything is there.")
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprint(n, " ", one)
	}
	return fmt.Sprint(n, " ", many)
}
