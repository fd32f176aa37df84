package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/seal"
)

func (a *app) stateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "state",
		Short: "Look at the state and mend it",
		Long: `The state says which resources were applied, as what, and in which revisions. It is kept in the state folder of the embedded cluster, in the
cluster itself for others, or where --backend says.`,
		Example: `  weft state list examples/guestbook/dev
  weft state show Deployment/default/guestbook examples/guestbook/dev`,
	}
	group(c)
	c.AddCommand(a.stateListCommand(), a.stateShowCommand(), a.stateMoveCommand(), a.stateRemoveCommand(), a.stateImportCommand(), a.stateRekeyCommand(), a.stateUnlockCommand())
	return c
}

// stateVerb makes a verb that works on an opened state. The arguments behind the first n name the source.
func (a *app) stateVerb(c *cobra.Command, n int, do func(ctx context.Context, s *session, args []string) error) *cobra.Command {
	var src sourceFlags
	var state stateFlags
	c.Args = cobra.RangeArgs(n, n+1)
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := a.openNamed(c.Context(), sessionRequest{operation: strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" "), state: state}, path(args[n:]), src)
		if err != nil {
			return err
		}
		defer s.Close()
		return do(c.Context(), s, args[:n])
	}
	src.add(c)
	state.add(c)
	return c
}

// stateItem is a resource in `weft state list -o json`.
type stateItem struct {
	ID       engine.ID `json:"id"`
	Type     string    `json:"type"`
	Identity string    `json:"identity,omitempty"`
	Pending  string    `json:"pending,omitempty"` // an operation that was begun and whose end is not known
}

func (a *app) stateListCommand() *cobra.Command {
	return a.stateVerb(&cobra.Command{
		Use:   "list [FOLDER|FILE]",
		Short: "List what the state knows",
		Example: `  weft state list examples/guestbook/dev
  weft state list --name shop -o json`,
	}, 0, func(_ context.Context, s *session, _ []string) error {
		state := s.backend.State()
		records, pending := state.Records(), state.Pending()
		items := []stateItem{}
		for _, id := range slices.Sorted(maps.Keys(records)) {
			item := stateItem{ID: id, Type: records[id].Type, Identity: records[id].Identity}
			if op := pending[id]; op != nil {
				item.Pending = string(op.Action)
			}
			items = append(items, item)
		}
		for _, id := range slices.Sorted(maps.Keys(pending)) {
			if records[id] == nil {
				items = append(items, stateItem{ID: id, Type: pending[id].Record.Type, Pending: string(pending[id].Action)})
			}
		}
		return a.print().Result(items, func(page *output.Page) {
			var rows [][]output.Cell
			for _, i := range items {
				rows = append(rows, output.Row(string(i.ID), i.Type, i.Identity, i.Pending))
			}
			if len(rows) == 0 {
				page.Line("The state knows nothing.")
				return
			}
			page.Table([]string{"id", "type", "identity", "pending"}, rows)
		})
	})
}

func (a *app) stateShowCommand() *cobra.Command {
	return a.stateVerb(&cobra.Command{
		Use:   "show ID [FOLDER|FILE]",
		Short: "Show what the state knows of a resource; secrets stay hidden",
		Example: `  weft state show Deployment/default/guestbook examples/guestbook/dev
  weft state show image/guestbook examples/guestbook/dev -o yaml`,
	}, 1, func(_ context.Context, s *session, args []string) error {
		record := s.backend.State().Record(engine.ID(args[0]))
		if record == nil {
			return output.Advise(fmt.Errorf("the state has no %q", args[0]), "See `weft state list`.")
		}
		return a.print().Result(record, func(page *output.Page) {
			page.Line("%s (%s) %s", record.ID, record.Type, record.Identity)
			for _, need := range record.DependsOn {
				page.Line("  needs %s", need)
			}
			for _, tree := range []struct {
				name   string
				values map[string]any
			}{{"inputs", record.Inputs}, {"outputs", record.Outputs}} {
				page.Line("%s:", tree.name)
				for _, key := range sortedNames(tree.values) {
					page.Line("  %s: %s", key, shown(tree.values[key]))
				}
			}
		})
	})
}

// changedResult is what verbs print that change the state alone.
type changedResult struct {
	Changed bool   `json:"changed"`
	What    string `json:"what"`
}

func (a *app) changed(format string, args ...any) error {
	r := changedResult{true, fmt.Sprintf(format, args...)}
	return a.print().Result(r, func(page *output.Page) { page.Line("%s", r.What) })
}

func (a *app) stateMoveCommand() *cobra.Command {
	return a.stateVerb(&cobra.Command{
		Use:     "mv ID NEW [FOLDER|FILE]",
		Short:   "Give what the state knows another id: the resource was renamed and is the same",
		Example: `  weft state mv image/web image/shop examples/guestbook/dev`,
	}, 2, func(_ context.Context, s *session, args []string) error {
		if err := s.backend.State().Move(engine.ID(args[0]), engine.ID(args[1])); err != nil {
			return err
		}
		return a.changed("%s is %s now.", args[0], args[1])
	})
}

func (a *app) stateRemoveCommand() *cobra.Command {
	return a.stateVerb(&cobra.Command{
		Use:     "rm ID [FOLDER|FILE]",
		Short:   "Forget a resource; the resource itself is left alone",
		Example: `  weft state rm ConfigMap/default/theirs examples/guestbook/dev`,
	}, 1, func(_ context.Context, s *session, args []string) error {
		if err := s.backend.State().Forget(engine.ID(args[0])); err != nil {
			return err
		}
		return a.changed("%s is forgotten; it still exists.", args[0])
	})
}

func (a *app) stateImportCommand() *cobra.Command {
	var src sourceFlags
	var state stateFlags
	var run runFlags
	c := &cobra.Command{
		Use:   "import ID [FOLDER|FILE]",
		Short: "Take something that exists into the state, as the source describes it",
		Long: `Take over one resource that the source describes and that exists already, with what it needs. Fields that kubectl or Kusion applied before become
weft's, so that a field removed from the source goes from the object. Nothing is created.`,
		Example: `  weft state import Deployment/default/guestbook examples/guestbook/dev`,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			run.targets = []string{args[0]}
			return a.importResource(c.Context(), engine.ID(args[0]), path(args[1:]), src, state, run)
		},
	}
	src.add(c)
	state.add(c)
	c.Flags().BoolVar(&run.force, "force-conflicts", false, "take over fields that other managers have set")
	c.Flags().BoolVar(&run.adopt, "adopt", false, "take over objects that belong to another owner")
	return c
}

func (a *app) importResource(ctx context.Context, id engine.ID, path string, src sourceFlags, state stateFlags, run runFlags) error {
	source, settings, err := a.readSource(ctx, path, src)
	if err != nil {
		return err
	}
	run.refresh = "all"
	s, err := a.open(ctx, sessionRequest{operation: "import", settings: settings, state: state, run: run, apply: applyFlags{wait: "none", retries: 4}, source: source})
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := s.engine.Plan(ctx, s.set.Resources)
	if err != nil {
		return err
	}
	for _, step := range p.Steps {
		switch {
		case step.Action == engine.Create:
			return fmt.Errorf("%s does not exist: there is nothing to import", step.ID)
		case step.ID == id && step.Action != engine.Adopt:
			return fmt.Errorf("%s is in the state already", id)
		}
	}
	if _, err := s.engine.Apply(ctx, p); err != nil {
		return err
	}
	return a.changed("%s is imported.", id)
}

func (a *app) stateRekeyCommand() *cobra.Command {
	var to []string
	var newIdentity string
	c := a.stateVerb(&cobra.Command{
		Use:   "rekey [FOLDER|FILE]",
		Short: "Encrypt the state's secrets anew, to other keys",
		Long: `Encrypt everything sensitive in the state to the recipients given with --to, and to no others. Your own key has to be among them if you want to
read it further. Copies of the old state can still be read with the old keys.`,
		Example: `  weft state rekey --to age1me... --to age1colleague... examples/guestbook/dev`,
	}, 0, func(_ context.Context, s *session, _ []string) error {
		if len(to) == 0 {
			return output.Usagef("--to: name at least one age public key")
		}
		identity, err := a.identity(newIdentity)
		if err != nil {
			return err
		}
		keys, err := seal.New(to, []string{identity})
		if err != nil {
			return &output.UsageError{Err: err}
		}
		own, err := seal.New(nil, []string{identity})
		if err != nil {
			return err
		}
		if !slices.Contains(keys.Recipients(), own.Recipients()[0]) {
			a.print().Warn("your own key %s is not among the recipients: you will not be able to read the state any more", own.Recipients()[0])
		}
		if err := s.backend.State().Rekey(keys, keys.Recipients()); err != nil {
			return err
		}
		return a.changed("The state is encrypted to %d recipients.", len(keys.Recipients()))
	})
	c.Flags().StringArrayVar(&to, "to", nil, "age public `key` to encrypt to; may be given again")
	c.Flags().StringVar(&newIdentity, "new-identity", "", "`file` with your own new age key, if it changes too")
	return c
}

func (a *app) stateUnlockCommand() *cobra.Command {
	var src sourceFlags
	var state stateFlags
	var force bool
	c := &cobra.Command{
		Use:   "unlock [FOLDER|FILE]",
		Short: "Show who works on the state, and take the lock away from a holder that is gone",
		Long: `A lock in a folder is freed by the kernel when its holder ends. A lock in a cluster ends when its holder has not renewed it for some time; --force
takes it away at once. A holder that lives on begins nothing more and cannot write the state.`,
		Example: `  weft state unlock --name shop --context staging
  weft state unlock --name shop --context staging --force`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.unlock(c.Context(), path(args), src, state, force)
			if errors.Is(err, errNotLocked) {
				return a.print().Result(changedResult{false, "Nobody works on the state."}, func(page *output.Page) { page.Line("Nobody works on the state.") })
			}
			return err
		},
	}
	src.add(c)
	state.add(c)
	c.Flags().BoolVar(&force, "force", false, "take the lock away")
	return c
}

var errNotLocked = errors.New("nobody works on the state")
