package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/kubernetes"
)

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (a *app) historyCommand() *cobra.Command {
	return a.stateVerb(&cobra.Command{
		Use:   "history [FOLDER|FILE]",
		Short: "List the revisions: what was applied, by whom, and what came of it",
		Example: `  weft history examples/guestbook/dev
  weft history --name shop -n shop -o json`,
	}, 0, func(_ context.Context, s *session, _ []string) error {
		revisions := s.backend.State().Revisions()
		return a.print().Result(revisions, func(page *output.Page) { historyPage(page, revisions) })
	})
}

func historyPage(page *output.Page, revisions []*engine.Revision) {
	if len(revisions) == 0 {
		page.Line("Nothing was applied yet.")
		return
	}
	colours := map[engine.Outcome]output.Colour{engine.Done: output.Green, engine.Failed: output.Red, engine.Interrupted: output.Yellow}
	var rows [][]output.Cell
	for _, r := range revisions {
		row := output.Row(fmt.Sprint(r.Number), r.Begun.Format(time.DateTime), r.Operation, string(r.Outcome), describeDone(r.Counts), r.By, firstLine(r.Error))
		row[3].Colour = colours[r.Outcome]
		rows = append(rows, row)
	}
	page.Table([]string{"revision", "begun (UTC)", "operation", "outcome", "what", "by", "error"}, rows)
}

func revisionNumber(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, output.Usagef("%q is no number of a revision; see `weft history`", text)
	}
	return n, nil
}

func (a *app) diffCommand() *cobra.Command {
	var from, to uint64
	return a.stateVerb(&cobra.Command{
		Use:   "diff REVISION REVISION [FOLDER|FILE]",
		Short: "Compare what two revisions wanted",
		Example: `  weft diff 3 5 examples/guestbook/dev
  weft diff 1 2 --name shop -o json`,
		PreRunE: func(_ *cobra.Command, args []string) (err error) {
			if from, err = revisionNumber(args[0]); err == nil {
				to, err = revisionNumber(args[1])
			}
			return err
		},
	}, 2, func(_ context.Context, s *session, _ []string) error {
		differences, err := s.backend.State().Diff(from, to)
		if err != nil {
			return err
		}
		return a.print().Result(differences, func(page *output.Page) {
			for _, d := range differences {
				sign := signs[d.Action]
				page.Line("%s", page.Paint(sign.colour, fmt.Sprintf("%-3s %s", sign.sign, d.ID)))
				for _, change := range d.Changes {
					page.Line("      %s: %s -> %s", change.Path, shown(change.Before), shown(change.After))
				}
			}
			if len(differences) == 0 {
				page.Line("Revisions %d and %d want the same.", from, to)
			}
		})
	})
}

func (a *app) rollbackCommand() *cobra.Command {
	var f deployFlags
	c := &cobra.Command{
		Use:   "rollback REVISION [FOLDER|FILE]",
		Short: "Apply again what an earlier revision wanted",
		Long: `Plan and apply what an earlier revision wanted, as a new revision. Images are those that the revision had: nothing is built anew, and what the
source says today does not matter.`,
		Example: `  weft rollback 3 examples/guestbook/dev
  weft rollback 1 --name shop -n shop --yes`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			number, err := revisionNumber(args[0])
			if err != nil {
				return err
			}
			return a.change(c.Context(), "rollback", path(args[1:]), f, func(ctx context.Context, s *session) (*engine.Plan, error) {
				return s.engine.PlanRevision(ctx, number)
			})
		},
	}
	f.add(c)
	return c
}

// driftResult is what `weft drift -o json` prints, once for each look.
type driftResult struct {
	Name    string        `json:"name"`
	At      time.Time     `json:"at"`
	Drifted bool          `json:"drifted"`
	Steps   []engine.Step `json:"steps"` // what apply would do about it
}

func (a *app) driftCommand() *cobra.Command {
	var src sourceFlags
	var state stateFlags
	var watch, detailed bool
	var interval time.Duration
	c := &cobra.Command{
		Use:   "drift [FOLDER|FILE]",
		Short: "Show what was changed outside since the last apply",
		Long: `Compare what the last revision wanted with what exists. What the source says today does not matter, and nothing is changed. With --watch it looks
again and again and prints whenever something is another than before.`,
		Example: `  weft drift examples/guestbook/dev
  weft drift --watch --interval 10s --name shop
  weft drift --detailed-exitcode    # 0: none, 2: something was changed, 1: an error`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if interval < time.Second {
				return output.Usagef("--interval: must be at least one second, got %s", interval)
			}
			err := a.drift(c.Context(), path(args), src, state, watch, interval)
			if detailed {
				return detailedCode(err)
			}
			if err == errChanges { //nolint:errorlint // it is returned as it is
				return nil
			}
			return err
		},
	}
	src.add(c)
	state.add(c)
	c.Flags().BoolVar(&watch, "watch", false, "look again and again until interrupted")
	c.Flags().DurationVar(&interval, "interval", 30*time.Second, "time between looks with --watch")
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 2 if something was changed, and with 1 for wrong usage")
	return c
}

func (a *app) drift(ctx context.Context, path string, src sourceFlags, state stateFlags, watch bool, interval time.Duration) error {
	before := "never looked"
	for {
		result, err := a.driftOnce(ctx, path, src, state)
		if watch && ctx.Err() != nil {
			return nil //nolint:nilerr // the interrupt that ends watching
		}
		switch {
		case err != nil && !watch:
			return err
		case err != nil:
			a.print().Warn("%v", err)
		default:
			if now := fmt.Sprint(result.Steps); now != before {
				before = now
				if err := a.print().Result(result, func(page *output.Page) { driftPage(page, result, watch) }); err != nil {
					return err
				}
			}
			if !watch {
				if result.Drifted {
					return errChanges
				}
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

func (a *app) driftOnce(ctx context.Context, path string, src sourceFlags, state stateFlags) (driftResult, error) {
	s, err := a.openNamed(ctx, sessionRequest{operation: "drift", state: state,
		kubeAmend: func(o *kubernetes.Options) { o.Force = true }}, path, src) // what others took over is to be shown, not refused
	if err != nil {
		return driftResult{}, err
	}
	defer s.Close()
	result := driftResult{Name: s.settings.Name, At: time.Now().UTC().Truncate(time.Second), Steps: []engine.Step{}}
	revisions := s.backend.State().Revisions()
	if len(revisions) == 0 {
		return result, nil
	}
	p, err := s.engine.PlanRevision(ctx, revisions[len(revisions)-1].Number)
	if err != nil {
		return result, err
	}
	for _, step := range p.Steps {
		if step.Action != engine.NoOp && step.Action != engine.Retain {
			result.Steps = append(result.Steps, step)
		}
	}
	result.Drifted = len(result.Steps) > 0
	return result, nil
}

func driftPage(page *output.Page, r driftResult, watch bool) {
	if watch {
		page.Line("%s", page.Paint(output.Bold, r.At.Format(time.DateTime)))
	}
	for _, s := range r.Steps {
		stepLines(page, s)
	}
	if !r.Drifted {
		page.Line("Everything of %s is as it was applied.", r.Name)
	}
}
