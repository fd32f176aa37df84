package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/stack/spec"
)

// previewFlags are those of preview, which apply has too.
type previewFlags struct {
	evaluation
	detail, all  bool
	output       string
	ignoreFields []string
}

func (f *previewFlags) add(c *cobra.Command) {
	f.evaluation.add(c)
	c.Flags().BoolVarP(&f.detail, "detail", "d", true, "Automatically show preview details with interactive options")
	c.Flags().BoolVarP(&f.all, "all", "a", false, "Automatically show all preview details, combined use with flag `--detail`")
	c.Flags().StringSliceVar(&f.ignoreFields, "ignore-fields", nil, "Ignore differences of target `fields`")
	c.Flags().StringVarP(&f.output, "output", "o", "", "Specify the output `format`: json")
	c.Flags().StringVar(&f.specFile, "spec-file", "", "Specify the spec `file` path as input, and the spec file must be located in the working directory or its subdirectories")
}

// ignored says whether a change is of a field that the user does not want to hear of.
func ignored(fields []string, path string) bool {
	return slices.ContainsFunc(fields, func(f string) bool {
		return path == f || strings.HasPrefix(path, f+".") || strings.HasPrefix(path, f+"[")
	})
}

// plan plans what a stack wants. Resources that differ in ignored fields alone are left as they are.
func (k *kusionTool) plan(ctx context.Context, o *opened, fields []string) (*engine.Plan, error) {
	p, err := o.session.engine.Plan(ctx, o.session.set.Resources)
	if err != nil || len(fields) == 0 {
		return p, err
	}
	var rest []engine.ID
	left := false
	for _, s := range p.Steps {
		if s.Action == engine.Update && !slices.ContainsFunc(s.Changes, func(c engine.Change) bool { return !ignored(fields, c.Path) }) {
			left = true
			continue
		}
		rest = append(rest, s.ID)
	}
	if !left {
		return p, nil
	}
	options := o.session.options
	options.Targets = rest
	if o.session.engine, err = engine.New(o.session.backend.State(), options); err != nil {
		return nil, err
	}
	return o.session.engine.Plan(ctx, o.session.set.Resources)
}

// kusionAction is an action as upstream calls it.
func kusionAction(s engine.Step) string {
	switch s.Action {
	case engine.Create, engine.CreateReplacement:
		return "Create"
	case engine.Update, engine.Adopt, engine.Replace:
		return "Update"
	case engine.Delete, engine.DeleteDeposed, engine.Forget:
		return "Delete"
	}
	return "UnChanged"
}

// summary prints the table of upstream's preview.
func (k *kusionTool) summary(m *meta, p *engine.Plan) {
	rows := [][]string{{"ID", "Action"}}
	for _, s := range p.Steps {
		rows = append(rows, []string{string(s.ID), kusionAction(s)})
	}
	k.print("Stack: %s\n", m.place.Stack.Name)
	k.table(rows)
	k.print("\n")
}

// details prints the fields of steps: of one, or of all.
func (k *kusionTool) details(p *engine.Plan, id string) {
	for _, s := range p.Steps {
		if id != "all" && string(s.ID) != id {
			continue
		}
		k.print("ID: %s\nPlan: %s (%s: %s)\nDiff: ", s.ID, kusionAction(s), s.Action, s.Cause)
		if len(s.Changes) == 0 {
			k.print("<EMPTY>\n\n")
			continue
		}
		k.print("\n")
		for _, c := range s.Changes {
			k.print("  %s: %s -> %s\n", c.Path, shown(c.Before), shown(c.After))
		}
		k.print("\n")
	}
}

// interactive says whether somebody is there to answer.
func (k *kusionTool) interactive() bool {
	in, ok := k.app.in.(*os.File)
	return ok && term.IsTerminal(int(in.Fd()))
}

// ask returns an answer; "" for none.
func (k *kusionTool) ask(reader *bufio.Reader, question string) (string, error) {
	k.print("%s ", question)
	answer, err := reader.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(answer), nil
}

// askDetails shows the details that the user asks for, until he has enough.
func (k *kusionTool) askDetails(reader *bufio.Reader, p *engine.Plan) error {
	for {
		answer, err := k.ask(reader, "Which diff detail do you want to see? (all, an ID, or cancel)")
		if err != nil || answer == "" || answer == "cancel" {
			return err
		}
		k.details(p, answer)
	}
}

// changeStep is a step in upstream's JSON of a preview, with the changed fields and the cause besides.
type changeStep struct {
	ID      string          `json:"id"`
	Action  string          `json:"action"`
	From    any             `json:"from,omitempty"`
	To      any             `json:"to,omitempty"`
	Cause   string          `json:"cause,omitempty"`
	Changes []engine.Change `json:"changes,omitempty"`
}

// previewJSON is upstream's JSON of a preview.
func (k *kusionTool) previewJSON(o *opened, p *engine.Plan) error {
	wanted := map[engine.ID]engine.Resource{}
	for _, r := range o.session.set.Resources {
		wanted[r.ID] = r
	}
	resource := func(id engine.ID, inputs map[string]any) any {
		return map[string]any{"id": id, "type": spec.Kubernetes, "attributes": inputs}
	}
	result := struct {
		StepKeys    []string              `json:"stepKeys"`
		ChangeSteps map[string]changeStep `json:"changeSteps"`
	}{[]string{}, map[string]changeStep{}}
	for _, s := range p.Steps {
		step := changeStep{ID: string(s.ID), Action: kusionAction(s), Cause: s.Cause, Changes: s.Changes}
		if r, ok := wanted[s.ID]; ok {
			step.To = resource(s.ID, showReferences(r.Inputs).(map[string]any))
		}
		if record := s.Record(); record != nil {
			step.From = resource(s.ID, showReferences(record.Inputs).(map[string]any))
		}
		result.StepKeys = append(result.StepKeys, step.ID)
		result.ChangeSteps[step.ID] = step
	}
	text, err := json.Marshal(result)
	k.print("%s\n", text)
	return err
}

// showReferences writes references as upstream's files do.
func showReferences(v any) any {
	switch v := v.(type) {
	case engine.Reference:
		return spec.PathTo(string(v.Resource), strings.Join(v.Path, "."))
	case map[string]any:
		m := make(map[string]any, len(v))
		for name, e := range v {
			m[name] = showReferences(e)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = showReferences(v[i])
		}
		return list
	}
	return v
}

func (k *kusionTool) previewCommand() *cobra.Command {
	f := &previewFlags{}
	c := &cobra.Command{
		Use:   "preview",
		Short: "Preview a series of resource changes within the stack",
		Long:  "Show what apply would do with the resources of a stack. Nothing is changed.",
		Example: `  kusion preview -w shop/dev
  kusion preview -D name=test -D age=18
  kusion preview --spec-file spec.yaml
  kusion preview -o json`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			o, err := k.open(c.Context(), &f.evaluation, sessionRequest{operation: "preview"})
			if err != nil {
				return err
			}
			defer o.close()
			p, err := k.plan(c.Context(), o, f.ignoreFields)
			if err != nil {
				return err
			}
			if f.output == "json" {
				return k.previewJSON(o, p)
			}
			if len(o.session.set.Resources) == 0 {
				k.print("\nNo resources found in the spec.\n")
			}
			if !p.Changed() {
				k.print("All resources are reconciled. No diff found\n")
				return nil
			}
			k.summary(o.meta, p)
			switch {
			case f.detail && f.all:
				k.details(p, "all")
			case f.detail && k.interactive():
				return k.askDetails(bufio.NewReader(k.app.in), p)
			}
			return nil
		},
	}
	f.add(c)
	return c
}
