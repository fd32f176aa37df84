package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/engine"
)

// planResult is what `weft plan -o json` prints.
type planResult struct {
	Name      string                `json:"name"`
	Namespace string                `json:"namespace"`
	Changed   bool                  `json:"changed"`
	Counts    map[engine.Action]int `json:"counts"`
	engine.Plan
}

func (a *app) planCommand() *cobra.Command {
	var src sourceFlags
	var state stateFlags
	var run runFlags
	var out string
	var detailed, all bool
	c := &cobra.Command{
		Use:   "plan [FOLDER|FILE]",
		Short: "Show what apply would do, with a cause for each resource",
		Long: `Compare what a project folder, a folder or file of Kubernetes manifests, or a Kusion stack describes with what exists, and show what
apply would do: for each resource the action, its cause, and the fields that change with the place where they are written. Nothing is changed.

Everything is checked before: unknown kinds, fields that do not fit the server's schema, resources that are there twice, circles.

With --out the plan is saved, encrypted, and "weft apply FILE" does exactly what was shown, or says why that does not hold any more.`,
		Example: `  weft plan examples/guestbook/dev
  weft plan -f k8s/ -n shop
  weft plan shop/dev --out dev.plan && weft apply dev.plan
  weft plan --detailed-exitcode    # 0: nothing to do, 2: changes, 1: an error`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.plan(c.Context(), path(args), src, state, run, out, all)
			if detailed {
				return detailedCode(err)
			}
			if errors.Is(err, errChanges) {
				return nil
			}
			return err
		},
	}
	src.add(c)
	state.add(c)
	run.add(c)
	c.Flags().StringVar(&out, "out", "", "`file` to save the plan to, encrypted")
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 2 if there are changes, and with 1 for wrong usage")
	c.Flags().BoolVar(&all, "all", false, "show what does not change too")
	return c
}

func path(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// errChanges says that a plan is not empty.
var errChanges = errors.New("there are changes")

// detailedCode gives a plan's exit codes.
func detailedCode(err error) error {
	var usage *output.UsageError
	switch {
	case errors.Is(err, errChanges):
		return output.Exit{Code: 2}
	case errors.As(err, &usage):
		return errors.New(usage.Error())
	}
	return err
}

func (a *app) plan(ctx context.Context, path string, src sourceFlags, state stateFlags, run runFlags, out string, all bool) error {
	source, settings, err := a.readSource(ctx, path, src)
	if err != nil {
		return err
	}
	s, err := a.open(ctx, sessionRequest{operation: "plan", settings: settings, state: state, run: run, source: source,
		amend: func(o *engine.Options) { o.Operation = "apply" }})
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := s.engine.Plan(ctx, s.set.Resources)
	if err != nil {
		return err
	}
	if out != "" {
		data, err := s.engine.Encode(p, s.settings)
		if err != nil {
			return fmt.Errorf("save the plan: %w", err)
		}
		if err := writePrivate(out, data); err != nil {
			return fmt.Errorf("save the plan: %w", err)
		}
	}
	if err := a.printPlan(s, p, all, out); err != nil {
		return err
	}
	if p.Changed() {
		return errChanges
	}
	return nil
}

// writePrivate replaces a file that only its owner may read.
func writePrivate(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".plan-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (a *app) printPlan(s *session, p *engine.Plan, all bool, saved string) error {
	r := planResult{Name: s.settings.Name, Namespace: s.settings.Namespace, Changed: p.Changed(), Counts: p.Counts(), Plan: *p}
	return a.print().Result(r, func(page *output.Page) {
		planPage(page, p, all)
		if saved != "" {
			page.Line("Saved to %s: `weft apply %s` does exactly this.", saved, saved)
		}
	})
}

// signs stand before the lines of a plan.
var signs = map[engine.Action]struct {
	sign   string
	colour output.Colour
}{
	engine.Create: {"+", output.Green}, engine.Update: {"~", output.Yellow}, engine.Replace: {"-/+", output.Red}, engine.CreateReplacement: {"+/-", output.Red},
	engine.Delete: {"-", output.Red}, engine.DeleteDeposed: {"-", output.Red}, engine.Adopt: {">", output.Green}, engine.Forget: {"<", output.Yellow},
	engine.Retain: {"!", output.Yellow}, engine.NoOp: {" ", output.Faint},
}

// planPage has a line for each resource that changes, with the fields below it.
func planPage(page *output.Page, p *engine.Plan, all bool) {
	shown := 0
	for _, s := range p.Steps {
		if s.Action == engine.NoOp && !all {
			continue
		}
		shown++
		stepLines(page, s)
	}
	if shown > 0 {
		page.Line("")
	}
	page.Line("%s", planSummary(p))
}

func stepLines(page *output.Page, s engine.Step) {
	sign := signs[s.Action]
	line := page.Paint(sign.colour, fmt.Sprintf("%-3s %s %s", sign.sign, s.Action, s.ID)) + ": " + s.Cause
	if s.Origin != "" {
		line += "  " + page.Paint(output.Faint, s.Origin)
	}
	page.Line("%s", line)
	for _, c := range s.Changes {
		line := fmt.Sprintf("      %s: %s -> %s", c.Path, shown(c.Before), shown(c.After))
		if c.Origin != "" {
			line += "  " + page.Paint(output.Faint, c.Origin)
		}
		page.Line("%s", line)
	}
}

// maxShown is how much of a value is shown, in characters.
const maxShown = 120

// shown is a value as a plan shows it. Sensitive ones never are.
func shown(v any) string {
	switch t := v.(type) {
	case nil:
		return "(none)"
	case engine.Sensitive, engine.Unknown, engine.External:
		return fmt.Sprint(t)
	case engine.Reference:
		return "(" + t.String() + ")"
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	text := fmt.Sprint(v)
	if encoder.Encode(v) == nil {
		text = strings.TrimSpace(b.String())
	}
	if runes := []rune(text); len(runes) > maxShown {
		text = string(runes[:maxShown]) + "…"
	}
	return text
}

// planSummary says for example "2 to create, 1 to delete, 3 unchanged."
func planSummary(p *engine.Plan) string {
	counts := p.Counts()
	var parts []string
	for _, c := range []struct {
		actions []engine.Action
		words   string
	}{
		{[]engine.Action{engine.Create}, "to create"}, {[]engine.Action{engine.Adopt}, "to adopt"}, {[]engine.Action{engine.Update}, "to update"},
		{[]engine.Action{engine.Replace, engine.CreateReplacement}, "to replace"}, {[]engine.Action{engine.Delete, engine.DeleteDeposed}, "to delete"},
		{[]engine.Action{engine.Forget}, "to forget"}, {[]engine.Action{engine.Retain}, "kept though no longer wanted"}, {[]engine.Action{engine.NoOp}, "unchanged"},
	} {
		n := 0
		for _, action := range c.actions {
			n += counts[action]
		}
		if n > 0 {
			parts = append(parts, fmt.Sprint(n, " ", c.words))
		}
	}
	switch {
	case len(parts) == 0:
		return "Nothing to do: nothing is described and nothing is there."
	case !p.Changed():
		return "Nothing to do: " + strings.Join(parts, ", ") + "."
	}
	return "Plan: " + strings.Join(parts, ", ") + "."
}

func (a *app) graphCommand() *cobra.Command {
	var src sourceFlags
	var state stateFlags
	var dot bool
	c := &cobra.Command{
		Use:   "graph [FOLDER|FILE]",
		Short: "Show what depends on what",
		Example: `  weft graph examples/guestbook/dev
  weft graph --dot shop/dev | dot -Tsvg > shop.svg`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.openSource(c.Context(), "graph", path(args), src, state)
			if err != nil {
				return err
			}
			defer s.Close()
			return a.graph(s.set.Resources, dot)
		},
	}
	src.add(c)
	state.add(c)
	c.Flags().BoolVar(&dot, "dot", false, "print it in the language of Graphviz")
	return c
}

// graphNode is a resource in `weft graph -o json`.
type graphNode struct {
	ID     engine.ID   `json:"id"`
	Type   string      `json:"type"`
	Origin string      `json:"origin,omitempty"`
	Needs  []engine.ID `json:"needs"`
}

func (a *app) graph(resources []engine.Resource, dot bool) error {
	order, needs, err := engine.Order(resources)
	if err != nil {
		return err
	}
	byID := map[engine.ID]engine.Resource{}
	for _, r := range resources {
		byID[r.ID] = r
	}
	nodes := make([]graphNode, 0, len(order))
	for _, id := range order {
		sorted := slices.Clone(needs[id])
		slices.Sort(sorted)
		nodes = append(nodes, graphNode{id, byID[id].Type, byID[id].Origin, append([]engine.ID{}, sorted...)})
	}
	return a.print().Result(nodes, func(page *output.Page) {
		if dot {
			page.Line("digraph weft {")
			for _, n := range nodes {
				page.Line("  %q;", n.ID)
				for _, need := range n.Needs {
					page.Line("  %q -> %q;", n.ID, need)
				}
			}
			page.Line("}")
			return
		}
		for _, n := range nodes {
			page.Line("%s", n.ID)
			for _, need := range n.Needs {
				page.Line("  %s %s", page.Paint(output.Faint, "needs"), need)
			}
		}
	})
}

// openSource opens a session on a source for a verb that changes nothing.
func (a *app) openSource(ctx context.Context, operation, path string, src sourceFlags, state stateFlags) (*session, error) {
	source, settings, err := a.readSource(ctx, path, src)
	if err != nil {
		return nil, err
	}
	return a.open(ctx, sessionRequest{operation: operation, settings: settings, state: state, run: runFlags{refresh: "all"}, source: source})
}

// openNamed opens a session on the state of what a source is called; with --name nothing is read.
func (a *app) openNamed(ctx context.Context, r sessionRequest, path string, src sourceFlags) (*session, error) {
	if src.name != "" && path == "" && len(src.files) == 0 {
		r.settings = settings{Form: "name", Name: src.name, Namespace: src.namespace, Registry: src.registry}
		if dir, err := os.Getwd(); err == nil {
			r.settings.Root = dir
		}
	} else {
		_, s, err := a.readSource(ctx, path, src)
		if err != nil {
			return nil, err
		}
		r.settings = s
	}
	r.run.refresh = cmp.Or(r.run.refresh, "all")
	return a.open(ctx, r)
}
