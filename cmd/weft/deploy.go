package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/source"
	"github.com/weft-dev/weft/engine"
)

// applyResult is what `weft apply -o json` prints.
type applyResult struct {
	Name      string                `json:"name"`
	Operation string                `json:"operation"`
	Changed   bool                  `json:"changed"`
	Revision  uint64                `json:"revision,omitempty"` // 0: nothing was to do
	Done      map[engine.Action]int `json:"done"`
	Failed    map[engine.ID]string  `json:"failed,omitempty"`
	Skipped   []engine.ID           `json:"skipped,omitempty"`
	Rollback  *applyResult          `json:"rollback,omitempty"`
	Outputs   map[string]any        `json:"outputs,omitempty"`
	Seconds   float64               `json:"seconds"`
}

func (a *app) applyCommand() *cobra.Command {
	var f deployFlags
	c := &cobra.Command{
		Use:   "apply [FOLDER|FILE|PLAN]",
		Short: "Bring the cluster to what a source or a saved plan says",
		Long: `Plan as "weft plan" does, show the plan, and do it: build images, apply objects in the order in which they need each other, wait until all is
ready, then delete what is no longer wanted. On a terminal it asks before; --yes does not.

A saved plan is applied exactly as it was shown, or refused with the reason. The first interrupt lets what runs finish and begins nothing more, the
second cancels. What was done is in the state at any time: the next apply goes on from there.`,
		Example: `  weft apply examples/guestbook/dev
  weft apply -f k8s/ -n shop --yes
  weft apply dev.plan
  weft apply --on-failure rollback shop/prod`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if saved, err := readPlanFile(path(args)); err != nil || saved != nil {
				if err != nil {
					return err
				}
				return a.applySaved(c, path(args), saved, f)
			}
			return a.apply(c.Context(), path(args), f)
		},
	}
	f.add(c)
	return c
}

func (a *app) destroyCommand() *cobra.Command {
	var f deployFlags
	c := &cobra.Command{
		Use:   "destroy [FOLDER|FILE]",
		Short: "Delete everything that was applied",
		Long: `Delete what the state knows, in the order in which nothing loses what it needs. Namespaces, volumes and definitions stay unless their kinds are
allowed with --allow-delete, and what carries the annotation weft.dev/keep: "true" is left. It asks before; --yes does not.`,
		Example: `  weft destroy examples/guestbook/dev
  weft destroy --name shop -n shop --yes
  weft destroy --allow-delete PersistentVolumeClaim --yes examples/guestbook/dev`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c.Context(), "destroy", path(args), f, func(ctx context.Context, s *session) (*engine.Plan, error) {
				return s.engine.Plan(ctx, nil)
			})
		},
	}
	f.add(c)
	return c
}

// maxPlanFile bounds what is read as a saved plan, in bytes.
const maxPlanFile = 64 << 20

// readPlanFile returns the content of a saved plan, nil if the path is none.
func readPlanFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil //nolint:nilerr // reading it as a source tells what is wrong
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPlanFile+1))
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(data, []byte("weft-plan ")) {
		return nil, nil
	}
	if len(data) > maxPlanFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxPlanFile)
	}
	return data, nil
}

func (a *app) apply(ctx context.Context, path string, f deployFlags) error {
	reader, settings, err := a.readSource(ctx, path, f.source)
	if err != nil {
		return err
	}
	r := sessionRequest{operation: "apply", settings: settings, starts: true, source: reader}
	return a.deploy(ctx, f, r, a.open, func(ctx context.Context, s *session) (*engine.Plan, carrier, error) {
		p, err := s.engine.Plan(ctx, s.set.Resources)
		return p, s.engine.Apply, err
	})
}

func (a *app) applySaved(c *cobra.Command, file string, data []byte, f deployFlags) error {
	for _, name := range []string{"filename", "stack", "workspace", "argument", "module", "image", "name", "namespace", "registry", "refresh", "target",
		"force-conflicts", "adopt", "allow-delete", "create-namespaces"} {
		if c.Flags().Changed(name) {
			return output.Usagef("--%s: a saved plan is applied as it is", name)
		}
	}
	identity, err := a.identity(f.state.identity)
	if err != nil {
		return err
	}
	saved, where, err := openPlan(data, identity)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	r := sessionRequest{operation: "apply", settings: where, starts: true, amend: func(o *engine.Options) { o.Operation = saved.Plan.Operation }}
	return a.deploy(c.Context(), f, r, a.open, func(_ context.Context, s *session) (*engine.Plan, carrier, error) {
		return &saved.Plan, func(ctx context.Context, _ *engine.Plan) (*engine.Result, error) {
			return s.engine.ApplySaved(ctx, saved)
		}, nil
	})
}

// change is a run that needs the state and not the source: destroy and rollback.
func (a *app) change(ctx context.Context, operation, path string, f deployFlags, plan func(context.Context, *session) (*engine.Plan, error)) error {
	named := func(ctx context.Context, r sessionRequest) (*session, error) {
		return a.openNamed(ctx, r, path, f.source)
	}
	return a.deploy(ctx, f, sessionRequest{operation: operation}, named, func(ctx context.Context, s *session) (*engine.Plan, carrier, error) {
		p, err := plan(ctx, s)
		return p, s.engine.Apply, err
	})
}

// carrier carries a plan out.
type carrier func(context.Context, *engine.Plan) (*engine.Result, error)

// deploy is what all runs have in common: open a session, plan, ask, apply and tell the result. The first interrupt drains.
func (a *app) deploy(ctx context.Context, f deployFlags, r sessionRequest, open func(context.Context, sessionRequest) (*session, error),
	plan func(context.Context, *session) (*engine.Plan, carrier, error)) error {
	began := time.Now()
	drained, drain, stop := a.gently(ctx)
	defer stop()
	progress := a.print().Progress()
	defer progress.Close()
	r.state, r.run, r.apply, r.drain, r.progress = f.state, f.run, f.apply, drain, progress
	s, err := open(ctx, r)
	if err != nil {
		return err
	}
	defer s.Close()
	p, carry, err := plan(ctx, s)
	if err != nil {
		return err
	}
	if err := a.agree(s, p, f.apply.yes, r.operation == "destroy"); err != nil {
		return err
	}
	return a.carryOut(drained, s, p.Operation, began, func(ctx context.Context) (*engine.Result, error) { return carry(ctx, p) })
}

// agree shows the plan on standard error and asks, where somebody is there to answer. Without anybody a run that must be confirmed is
// refused.
func (a *app) agree(s *session, p *engine.Plan, yes, must bool) error {
	if err := makeable(p); err != nil {
		return err
	}
	page := &output.Page{}
	planPage(page, p, false)
	for line := range strings.Lines(page.String()) {
		a.print().Remark("%s", strings.TrimRight(line, "\n"))
	}
	if yes || !p.Changed() {
		return nil
	}
	in, isFile := a.in.(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) {
		if must {
			return output.Usagef("--yes: nobody is there to confirm that this is wanted")
		}
		return nil
	}
	a.print().Say("Do this? [y/N]")
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done")
}

// carryOut applies, tells the source what came of it, and prints the result.
func (a *app) carryOut(ctx context.Context, s *session, operation string, began time.Time, apply func(context.Context) (*engine.Result, error)) error {
	result, err := s.run(ctx, operation, apply)
	if result == nil {
		return err
	}
	r := s.resultOf(result)
	r.Operation = operation
	r.Seconds = time.Since(began).Seconds()
	if s.set != nil && err == nil {
		if r.Outputs, err = s.engine.Outputs(s.set.Outputs); err != nil {
			return err
		}
	}
	s.follow.close()
	if err != nil && a.print().Format() == output.Text {
		return err
	}
	return errors.Join(a.print().Result(r, func(page *output.Page) { applyPage(page, r) }), err)
}

// run applies under the lock and tells the source.
func (s *session) run(ctx context.Context, operation string, apply func(context.Context) (*engine.Result, error)) (*engine.Result, error) {
	ctx, stop := s.watchLock(ctx)
	defer stop()
	result, err := apply(ctx)
	s.follow.end(err)
	if s.set != nil && s.set.Done != nil && result != nil {
		told := s.set.Done(context.WithoutCancel(ctx), source.Run{Operation: operation, Revision: result.Revision, Err: err, Records: s.backend.State().Records()})
		err = errors.Join(err, told)
	}
	return result, err
}

func (s *session) resultOf(result *engine.Result) applyResult {
	r := applyResult{Name: s.settings.Name, Revision: result.Revision, Changed: result.Revision > 0, Done: result.Done, Skipped: result.Skipped}
	if len(result.Failed) > 0 {
		r.Failed = map[engine.ID]string{}
		for id, err := range result.Failed {
			r.Failed[id] = err.Error()
		}
	}
	if result.Rollback != nil {
		back := s.resultOf(result.Rollback)
		r.Rollback = &back
	}
	return r
}

func applyPage(page *output.Page, r applyResult) {
	if !r.Changed {
		page.Line("Nothing has changed: %s (%.2f s).", describeDone(r.Done), r.Seconds)
	} else {
		page.Line("%s is at revision %d (%s): %s (%.1f s).", r.Name, r.Revision, r.Operation, describeDone(r.Done), r.Seconds)
	}
	for _, name := range sortedNames(r.Outputs) {
		page.Line("%s = %s", name, shown(r.Outputs[name]))
	}
}

// describeDone says for example "2 created, 1 unchanged".
func describeDone(done map[engine.Action]int) string {
	var parts []string
	for _, action := range []engine.Action{engine.Create, engine.Adopt, engine.Update, engine.Replace, engine.CreateReplacement, engine.Delete, engine.Forget, engine.Retain, engine.NoOp} {
		if n := done[action]; n > 0 {
			parts = append(parts, fmt.Sprint(n, " ", words[action].done))
		}
	}
	if len(parts) == 0 {
		return "no resources"
	}
	return strings.Join(parts, ", ")
}
