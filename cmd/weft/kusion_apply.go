package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/kusion"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/source"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/stack/terraform"
)

// engineCommands are the verbs that go through the engine.
func (k *kusionTool) engineCommands() []*cobra.Command {
	return []*cobra.Command{k.previewCommand(), k.applyCommand(), k.destroyCommand()}
}

// kusionApply are the flags of apply.
type kusionApply struct {
	previewFlags
	yes, dryRun, watch bool
	timeout            int
	forward            int // port; 0 for none
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
  kusion apply --yes --watch=false --timeout=120
  kusion apply --yes --port-forward=8080`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := noArgs(c, args); err != nil {
				return err
			}
			if f.forward < 0 || f.forward > 65535 {
				return fmt.Errorf("invalid port number to forward: %d, must be between 1 and 65535", f.forward)
			}
			return k.apply(c.Context(), f)
		},
	}
	f.add(c)
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "Automatically approve and perform the update after previewing it")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "Preview the execution effect (always successful) without actually applying the changes")
	c.Flags().BoolVar(&f.watch, "watch", true, "After creating/updating/deleting the requested object, watch for changes")
	c.Flags().IntVar(&f.timeout, "timeout", 0, "The timeout duration for kusion apply command, measured in second(s)")
	c.Flags().IntVar(&f.forward, "port-forward", 0, "Forward the specified port from local to service, until interrupted")
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
	if f.forward > 0 { // found out before anything is done
		if _, _, err := forwardable(o.session.set.Resources, f.forward); err != nil {
			return err
		}
	}
	p, err := k.plan(ctx, o, f.ignoreFields)
	if err != nil {
		return err
	}
	if !p.Changed() {
		k.print("All resources are reconciled. No diff found\n")
		return k.forwarded(ctx, o, f)
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
		return k.forwarded(ctx, o, f)
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
	return k.forwarded(ctx, o, f)
}

// forwarded ends an apply with what --port-forward asks for.
func (k *kusionTool) forwarded(ctx context.Context, o *opened, f *kusionApply) error {
	switch {
	case f.forward == 0:
		return nil
	case f.dryRun:
		k.print("NOTE: Portforward doesn't work in DryRun mode\n")
		return nil
	}
	return k.forward(ctx, o, f.forward)
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
