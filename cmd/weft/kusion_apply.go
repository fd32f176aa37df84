package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weft-dev/weft/cmd/internal/kusion"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/source"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
	"github.com/weft-dev/weft/stack/terraform"
)

// engineCommands are the verbs that go through the engine.
func (k *kusionTool) engineCommands() []*cobra.Command {
	return []*cobra.Command{k.previewCommand(), k.applyCommand(), k.destroyCommand()}
}

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

// opened is a stack whose plan can be made.
type opened struct {
	meta    *meta
	session *session
	close   func()
}

// open evaluates a stack, or reads its Spec from a file, and opens its state.
func (k *kusionTool) open(ctx context.Context, f *evaluation, r sessionRequest) (*opened, error) {
	m, err := k.meta(f.meta)
	if err != nil {
		return nil, err
	}
	o, err := f.options(k.app)
	if err != nil {
		return nil, err
	}
	given, err := readSpecFile(f.specFile, m.place.Stack.Dir)
	if err != nil {
		return nil, err
	}
	return k.openSource(ctx, m, o, given, r)
}

// openSource opens a stack's state, on what a Spec says or, without one, its program. A request without a source of its own is for
// verbs that do not ask what is wanted.
func (k *kusionTool) openSource(ctx context.Context, m *meta, o source.Options, given *spec.Spec, r sessionRequest) (*opened, error) {
	o.Workspace = m.workspace.Name
	src, err := source.Kusion(o, m.place, m.backend, given)
	if err != nil {
		return nil, placed(err)
	}
	cleanup, err := k.choose(m)
	if err != nil {
		return nil, err
	}
	about := src.About()
	r.settings = settings{Form: about.Form, Root: m.place.Project.Dir, Name: about.Name, Namespace: about.Namespace, Registry: about.Registry}
	if r.operation != "destroy" && r.operation != "rollback" {
		r.source = src
	}
	if r.run.refresh == "" {
		r.run.refresh = "all"
	}
	r.run.force = true // upstream writes over what others set
	s, err := k.app.open(ctx, r)
	if err != nil {
		cleanup()
		return nil, err
	}
	return &opened{m, s, func() { s.Close(); cleanup() }}, nil
}

// readSpecFile reads a Spec, which has to lie in the stack's folder; nil for no file.
func readSpecFile(file, dir string) (*spec.Spec, error) {
	if file == "" {
		return nil, nil
	}
	full, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(full)
	if err != nil {
		return nil, fmt.Errorf("spec file not exist: %s", full)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("spec file must be a regular file: %s", full)
	}
	if rel, err := filepath.Rel(dir, full); err != nil || !filepath.IsLocal(rel) {
		return nil, errors.New("the spec file must be located in the working directory or its subdirectories of the stack")
	}
	if info.Size() > config.MaxSize {
		return nil, fmt.Errorf("%s is larger than %d MB", full, config.MaxSize>>20)
	}
	text, err := os.ReadFile(full)
	if err != nil {
		return nil, err
	}
	s, err := spec.ParseSpec(file, text)
	return s, placed(err)
}

// choose finds the cluster as upstream does: the one of the workspace's context, else, under the name kusion, that of $KUBECONFIG or
// ~/.kube/config. Flags go before all, and without any of these it is the embedded one.
func (k *kusionTool) choose(m *meta) (cleanup func(), err error) {
	a := k.app
	nothing := func() {}
	if a.foreign() {
		return nothing, nil
	}
	text := func(name string) string {
		if t := m.workspace.Context.Get(name); t != nil {
			return t.Text
		}
		return ""
	}
	if content := text("KUBECONFIG_CONTENT"); content != "" {
		f, err := os.CreateTemp("", "weft-kubeconfig-*")
		if err != nil {
			return nil, err
		}
		_, err = f.WriteString(content)
		a.kubeconfig = f.Name()
		return func() { os.Remove(f.Name()) }, errors.Join(err, f.Close())
	}
	if a.kubeconfig = text("KUBECONFIG_PATH"); a.kubeconfig != "" {
		if _, err := os.Stat(a.kubeconfig); err != nil {
			return nil, output.Advise(fmt.Errorf("the workspace %s names the cluster of %s: %w", m.workspace.Name, a.kubeconfig, errors.Unwrap(err)),
				"Change context.KUBECONFIG_PATH with `kusion workspace update`, or name a cluster with --kubeconfig.")
		}
		return nothing, nil
	}
	if a.called != "kusion" {
		return nothing, nil
	}
	candidates := filepath.SplitList(a.getenv("KUBECONFIG"))
	if home := a.getenv("HOME"); len(candidates) == 0 && home != "" {
		candidates = []string{filepath.Join(home, ".kube", "config")}
	}
	for _, file := range candidates {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			a.kubeconfig = file
			return nothing, nil
		}
	}
	return nothing, nil
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

// kusionApply are the flags of apply.
type kusionApply struct {
	previewFlags
	yes, dryRun, watch bool
	timeout            int
}

func (k *kusionTool) applyCommand() *cobra.Command {
	f := &kusionApply{}
	c := &cobra.Command{
		Use:   "apply",
		Short: "Apply the operational intent of various resources to multiple runtimes",
		Long: `Bring the resources of a stack to what its program says: shows what will be done, asks, and does it. A release is written into the
backend, which upstream's kusion reads.`,
		Example: `  kusion apply -w shop/dev
  kusion apply -D name=test -D age=18 --yes
  kusion apply --spec-file spec.yaml
  kusion apply --yes --watch=false --timeout=120`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			return k.apply(c.Context(), f)
		},
	}
	f.add(c)
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "Automatically approve and perform the update after previewing it")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "Preview the execution effect (always successful) without actually applying the changes")
	c.Flags().BoolVar(&f.watch, "watch", true, "After creating/updating/deleting the requested object, watch for changes")
	c.Flags().IntVar(&f.timeout, "timeout", 0, "The timeout duration for kusion apply command, measured in second(s)")
	return c
}

// unlocked refuses a stack that upstream's kusion is working on.
func unlocked(m *meta) error {
	releases, err := m.backend.Releases(m.place.Project.Name, m.workspace.Name)
	if err != nil || releases.Latest() == 0 {
		return placed(err)
	}
	latest, err := releases.Get(releases.Latest())
	if err != nil {
		return placed(err)
	}
	if !latest.Phase.Final() {
		return output.Advise(fmt.Errorf("cannot create a new release of project: %s, workspace: %s. There is a release:%d in progress", m.place.Project.Name, m.workspace.Name, latest.Revision),
			"Wait until it is over; if nobody works on it any more, `kusion release unlock`.")
	}
	return nil
}

// request is what a run that changes something is opened with.
func (f *kusionApply) request(operation string, drain <-chan struct{}, progress *output.Progress) sessionRequest {
	r := sessionRequest{operation: operation, starts: true, drain: drain, progress: progress,
		apply: applyFlags{onFailure: "stop", wait: "all", timeout: 10 * time.Minute, retries: 4}}
	if !f.watch {
		r.apply.wait = "none"
	}
	if f.timeout > 0 {
		r.apply.timeout = time.Duration(f.timeout) * time.Second
	}
	return r
}

func (k *kusionTool) apply(ctx context.Context, f *kusionApply) error {
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(f.timeout)*time.Second, fmt.Errorf("failed to execute kusion apply as: timeout for %d seconds", f.timeout))
		defer cancel()
	}
	drained, drain, stop := k.app.gently(ctx)
	defer stop()
	progress := k.app.print().Progress()
	defer progress.Close()
	o, err := k.open(ctx, &f.evaluation, f.request("apply", drain, progress))
	if err != nil {
		return err
	}
	defer o.close()
	if err := unlocked(o.meta); err != nil {
		return err
	}
	if len(o.session.set.Resources) == 0 {
		k.print("\nNo resource found in this stack.\n")
		return nil
	}
	p, err := k.plan(ctx, o, f.ignoreFields)
	if err != nil {
		return err
	}
	if !p.Changed() {
		k.print("All resources are reconciled. No diff found\n")
		return nil
	}
	k.summary(o.meta, p)
	if f.detail && f.all {
		k.details(p, "all")
		if !f.yes {
			return nil
		}
	}
	if err := makeable(p); err != nil && !f.dryRun {
		return err
	}
	if agreed, err := k.agree(p, f.yes || f.dryRun, "apply"); err != nil || !agreed {
		return err
	}
	k.print("\nStart applying diffs ...\n")
	if f.dryRun {
		k.print("\nNOTE: Currently running in the --dry-run mode, the above configuration does not really take effect\n")
		return nil
	}
	result, err := o.session.run(drained, "apply", func(ctx context.Context) (*engine.Result, error) { return o.session.engine.Apply(ctx, p) })
	o.session.follow.close()
	if cause := context.Cause(ctx); err != nil && cause != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = errors.Join(cause, err)
	}
	if err != nil {
		return err
	}
	k.print("\nApply complete! Resources: %d created, %d updated, %d deleted.\n", result.Done[engine.Create]+result.Done[engine.CreateReplacement],
		result.Done[engine.Update]+result.Done[engine.Adopt]+result.Done[engine.Replace], result.Done[engine.Delete]+result.Done[engine.Forget])
	return nil
}

// makeable refuses a plan with resources that no driver can make, before anything is begun.
func makeable(p *engine.Plan) error {
	var ids []string
	for _, s := range p.Steps {
		if s.Type == source.TerraformType && s.Action != engine.NoOp {
			ids = append(ids, string(s.ID))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return fmt.Errorf("nothing was done, because of %s: %w", strings.Join(ids, ", "), terraform.ErrNotMade)
}

// agree asks whether to go on. Where nobody is there to answer, only --yes goes on.
func (k *kusionTool) agree(p *engine.Plan, yes bool, operation string) (bool, error) {
	if yes {
		return true, nil
	}
	if !k.interactive() {
		return false, fmt.Errorf("nobody is there to confirm this: use --yes")
	}
	reader := bufio.NewReader(k.app.in)
	for {
		answer, err := k.ask(reader, "Do you want to "+operation+" these diffs? (yes, details, or no)")
		if err != nil {
			return false, err
		}
		switch answer {
		case "yes":
			return true, nil
		case "details":
			if err := k.askDetails(reader, p); err != nil {
				return false, err
			}
		default:
			k.print("Operation %s canceled\n", operation)
			return false, nil
		}
	}
}

func (k *kusionTool) destroyCommand() *cobra.Command {
	f := changeFlags{watch: true}
	var noStyle bool
	e := &evaluation{}
	c := &cobra.Command{
		Use:   "destroy",
		Short: "Destroy resources within the stack.",
		Long: `Delete the resources that were applied of a stack, in the order in which nothing loses what it needs.

Namespaces, volumes and definitions stay, with what is in them, unless --allow-delete names their kinds.`,
		Example: `  kusion destroy -w shop/dev
  kusion destroy --yes --allow-delete Namespace`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			return k.change(c.Context(), e, "destroy", f, func(ctx context.Context, o *opened) (*engine.Plan, error) {
				return o.session.engine.Plan(ctx, nil)
			})
		},
	}
	e.meta.add(c)
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "Automatically approve and perform the update after previewing it")
	c.Flags().BoolVarP(&f.detail, "detail", "d", false, "Automatically show preview details after previewing it")
	c.Flags().BoolVar(&noStyle, "no-style", false, "no-style sets to RawOutput mode and disables all of styling")
	c.Flags().StringArrayVar(&f.allowDelete, "allow-delete", nil, "`kind` that may be deleted although data or other objects go with it: Namespace, PersistentVolume, PersistentVolumeClaim, CustomResourceDefinition")
	return c
}

// changeFlags are those of runs that do not ask what the program wants.
type changeFlags struct {
	yes, detail, watch bool
	allowDelete        []string
}

// change is a run that does not ask what the program wants: destroy and rollback.
func (k *kusionTool) change(ctx context.Context, e *evaluation, operation string, f changeFlags, plan func(context.Context, *opened) (*engine.Plan, error)) error {
	m, err := k.meta(e.meta)
	if err != nil {
		return err
	}
	if err := unlocked(m); err != nil {
		return err
	}
	drained, drain, stop := k.app.gently(ctx)
	defer stop()
	progress := k.app.print().Progress()
	defer progress.Close()
	r := (&kusionApply{watch: f.watch}).request(operation, drain, progress)
	r.starts, r.run.allowDelete = false, f.allowDelete
	o, err := k.openSource(ctx, m, source.Options{Getenv: k.app.getenv}, nil, r)
	if err != nil {
		return err
	}
	defer o.close()
	p, err := plan(ctx, o)
	if err != nil {
		return err
	}
	if !p.Changed() {
		if operation == "destroy" {
			k.print("No managed resources to destroy\n")
		} else {
			k.print("All resources are reconciled. No diff found\n")
		}
		return nil
	}
	k.summary(m, p)
	if f.detail {
		k.details(p, "all")
		return nil
	}
	if agreed, err := k.agree(p, f.yes, operation); err != nil || !agreed {
		return err
	}
	if operation == "destroy" {
		k.print("Start destroying resources......\n")
	}
	result, err := o.session.run(drained, operation, func(ctx context.Context) (*engine.Result, error) { return o.session.engine.Apply(ctx, p) })
	o.session.follow.close()
	if result == nil {
		return err
	}
	if told := k.record(o, operation, result.Revision, err != nil); told != nil {
		err = errors.Join(err, told)
	}
	if err != nil {
		return err
	}
	if operation == "destroy" {
		k.print("Destroy complete! Resources: %d deleted.\n", result.Done[engine.Delete]+result.Done[engine.Forget])
	} else {
		k.print("Rollback complete! The release is that of revision %d.\n", result.Revision)
	}
	return nil
}

// record writes the release of a run whose Spec was not evaluated: what exists of the releases before.
func (k *kusionTool) record(o *opened, operation string, revision uint64, failed bool) error {
	releases, err := o.meta.backend.Releases(o.meta.place.Project.Name, o.meta.workspace.Name)
	if err != nil {
		return placed(err)
	}
	made := map[string]bool{}
	for id := range o.session.backend.State().Records() {
		made[string(id)] = true
	}
	return releases.Record(kusion.Outcome{Project: o.meta.place.Project.Name, Stack: o.meta.place.Stack.Name, Workspace: o.meta.workspace.Name,
		Destroyed: operation == "destroy", Made: made, Failed: failed, Now: time.Now(), Revision: revision})
}

func (k *kusionTool) releaseRollback() *cobra.Command {
	var f changeFlags
	var revision uint64
	e := &evaluation{}
	c := &cobra.Command{
		Use:     "rollback",
		Short:   "Apply again what an earlier release wanted",
		Long:    "Plan and apply what an earlier release of the stack wanted, as a new release. The stack's program does not matter.",
		Example: "  kusion release rollback --revision 3 --yes",
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			m, releases, err := k.releases(e.meta)
			if err != nil {
				return err
			}
			old, err := releases.Get(revision)
			if err != nil {
				return fmt.Errorf("no release found for revision %d of project: %s, workspace: %s: %w", revision, m.place.Project.Name, m.workspace.Name, placed(err))
			}
			if old.Weft == nil || old.Stack != m.place.Stack.Name {
				return fmt.Errorf("the release %d was not made by Weft for the stack %s: apply its Spec, from `kusion release show --revision %d`, with --spec-file", revision, m.place.Stack.Name, revision)
			}
			return k.change(c.Context(), e, "rollback", f, func(ctx context.Context, o *opened) (*engine.Plan, error) {
				return o.session.engine.PlanRevision(ctx, old.Weft.Revision)
			})
		},
	}
	e.meta.add(c)
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "Automatically approve and perform the update after previewing it")
	c.Flags().BoolVar(&f.watch, "watch", true, "Wait until everything is ready")
	c.Flags().Uint64Var(&revision, "revision", 0, "The `number` of the release to go back to")
	return c
}
