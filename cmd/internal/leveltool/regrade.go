package leveltool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/regrade"
)

// regraded is what `weft level regrade` did.
type regraded struct {
	Recovered string           `json:"recovered,omitempty"` // what became of a run that was interrupted: finished or undone
	Changes   []regrade.Change `json:"changes"`
	// Uncleared are members of Workspaces whom the change shuts out of them.
	Uncleared []regrade.Uncleared `json:"uncleared,omitempty"`
	Applied   bool                `json:"applied"`
}

// asked is what a user wants to get another level.
type asked struct{ kind, namespace, name, to string }

func (t Tool) regrade() *cobra.Command {
	var a asked
	var paths []string
	var only bool
	c := &cobra.Command{
		Use:   "regrade KIND NAME --to LEVEL",
		Short: "Give something another level, with the parents and children that must follow",
		Long: "Regrade changes the level of a namespace, a workspace, a node or a labelled object, and of as few others as the rules between them ask for: a workspace is not below\n" +
			"its namespaces, a namespace not below what is in it. All of it is one transaction: the namespaces are frozen, labelled, and released when every door has seen the\n" +
			"new levels; while it lasts only who is cleared for everything gets in. A run that is interrupted is finished or undone by the next one. Files (-f) are planned only.",
		Example: `  weft level regrade namespace payments --to secret --plan
  weft level regrade workspace shops --to internal.finance
  weft level regrade secret db -n payments --to internal -f levels/`,
		Args: cobra.ExactArgs(2),
	}
	c.Flags().StringVar(&a.to, "to", "", "the new `level`, as in secret or secret.finance")
	c.Flags().StringVarP(&a.namespace, "namespace", "n", "default", "`namespace` of the object")
	c.Flags().BoolVar(&only, "plan", false, "say what would change, and change nothing")
	c.Flags().StringArrayVarP(&paths, "file", "f", nil, "plan for the objects in this file or `folder`, or on standard input (-), instead of a cluster; can be repeated")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if a.to == "" {
			return output.Advise(output.Usagef("no level is given"), "Name it with --to.")
		}
		a.kind, a.name = args[0], args[1]
		ctx := cmd.Context()
		var done *regraded
		var err error
		if len(paths) > 0 {
			done, err = t.regradeFiles(ctx, a, paths)
		} else {
			done, err = t.regradeCluster(ctx, a, only)
		}
		if err != nil {
			return err
		}
		return t.Print().Result(done, func(p *output.Page) { regradePage(p, done) })
	}
	return c
}

func regradePage(p *output.Page, done *regraded) {
	if done.Recovered != "" {
		p.Line("a re-grading that had been interrupted was %s", done.Recovered)
	}
	if len(done.Changes) == 0 {
		p.Line("it has that level already")
		return
	}
	var rows [][]output.Cell
	for _, c := range done.Changes {
		rows = append(rows, output.Row(c.Object, c.From, c.To, c.Reason))
	}
	p.Table([]string{"object", "from", "to", "why"}, rows)
	if len(done.Uncleared) > 0 {
		p.Line("")
		p.Line("members who are no longer cleared for their workspace:")
		rows = nil
		for _, u := range done.Uncleared {
			rows = append(rows, output.Row(u.Workspace, u.Member, u.Cleared, u.Needs))
		}
		p.Table([]string{"workspace", "member", "cleared for", "needs"}, rows)
	}
	p.Line("")
	if done.Applied {
		p.Line("%s", p.Paint(output.Green, "done: every door has seen the new levels"))
		return
	}
	p.Line("nothing was changed")
}

func (a *asked) plan(r *level.Registry, things []regrade.Thing) (*regrade.Plan, error) {
	target, err := regrade.Find(things, a.kind, a.namespace, a.name)
	if err != nil {
		return nil, err
	}
	p, err := regrade.Make(r, things, target, a.to)
	if err != nil {
		return nil, fmt.Errorf("to %s: %w", a.to, err)
	}
	return p, nil
}

func (t Tool) regradeFiles(ctx context.Context, a asked, paths []string) (*regraded, error) {
	objects, err := t.read(ctx, paths)
	if err != nil {
		return nil, err
	}
	loaded, err := level.Load(objects)
	if err != nil {
		return nil, err
	}
	var things []regrade.Thing
	for _, o := range objects {
		k := o.GroupVersionKind()
		plural, _ := meta.UnsafeGuessKindToResource(k)
		things = append(things, regrade.Thing{Group: k.Group, Version: k.Version, Kind: k.Kind, Resource: plural.Resource, Namespace: o.GetNamespace(), Name: o.GetName(), Labels: o.GetLabels()})
	}
	p, err := a.plan(loaded.Model.Registry, things)
	if err != nil {
		return nil, err
	}
	return &regraded{Changes: p.Changes, Uncleared: p.Uncleared(loaded.Model, time.Now())}, nil
}

// attempts is how often a plan is made again when levels changed under it.
const attempts = 3

func (t Tool) regradeCluster(ctx context.Context, a asked, only bool) (*regraded, error) {
	d, err := t.doors(ctx)
	if err != nil {
		return nil, err
	}
	run := &regrade.Run{Objects: d.objects, Patience: settled, Say: t.Print().Remark}
	done := &regraded{}
	plan := func(ctx context.Context) (*regrade.Plan, error) {
		p, uncleared, err := t.planCluster(ctx, d, a)
		done.Uncleared = uncleared
		return p, err
	}
	if !only {
		if done.Recovered, err = run.Recover(ctx); err != nil {
			return nil, advised(err)
		}
	}
	for try := 1; ; try++ {
		p, err := plan(ctx)
		if err != nil {
			return nil, err
		}
		done.Changes = p.Changes
		if only || len(p.Changes) == 0 {
			return done, nil
		}
		reports, err := d.reports(ctx)
		if err != nil {
			return nil, err
		}
		if len(reports) == 0 {
			t.Print().Warn("no door has told anything: nothing is frozen while levels change")
		}
		err = run.Apply(ctx, p, plan)
		if errors.Is(err, regrade.ErrChanged) && try < attempts {
			continue
		}
		done.Applied = err == nil
		return done, advised(err)
	}
}

func advised(err error) error {
	var wait *regrade.WaitError
	switch {
	case errors.As(err, &wait) && wait.Phase == api.Freezing:
		return output.Advise(fmt.Errorf("%w; nothing was changed", err), "See `weft level status`. The Door object of a program that is no more can be deleted.")
	case errors.As(err, &wait):
		return output.Advise(err, "The new levels are set, and what was re-graded stays frozen. See `weft level status`, then run this again: it goes on.")
	case apierrors.IsAlreadyExists(err):
		return output.Advise(err, "Another re-grading is under way. Run this again when it is done; one that was interrupted is finished or undone by that.")
	}
	return err
}

// planCluster plans by what a cluster holds now, and says whom the plan shuts out of Workspaces.
func (t Tool) planCluster(ctx context.Context, d *doors, a asked) (*regrade.Plan, []regrade.Uncleared, error) {
	m, err := d.model(ctx)
	if err != nil {
		return nil, nil, err
	}
	things, err := t.things(ctx, d, a)
	if err != nil {
		return nil, nil, err
	}
	for i := range things {
		if x := &things[i]; x.Group == "" && x.Kind == "Namespace" {
			label, err := m.Registry.LabelOf(x.Labels)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", x, err)
			}
			m.Namespaces = append(m.Namespaces, level.Namespace{Name: x.Name, Label: label, Workspace: level.WorkspaceOf(x.Labels)})
		}
	}
	p, err := a.plan(m.Registry, things)
	if err != nil {
		return nil, nil, err
	}
	return p, p.Uncleared(m, time.Now()), nil
}

// model is the Registry, the clearances and the workspaces of a cluster.
func (d *doors) model(ctx context.Context) (*level.Model, error) {
	registry, err := d.registry(ctx)
	if err != nil {
		return nil, err
	}
	objects := []manifest.Object{manifest.New(registry, "cluster")}
	for _, resource := range []string{"clearances", "workspaces"} {
		list, err := d.objects.Resource(registries.GroupVersion().WithResource(resource)).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", resource, err)
		}
		for i := range list.Items {
			objects = append(objects, manifest.New(&list.Items[i], "cluster"))
		}
	}
	loaded, _, err := level.LoadRest(objects) // what is wrong with a clearance does not keep anybody from re-grading
	if err != nil {
		return nil, err
	}
	return loaded.Model, nil
}

// things are all namespaces and workspaces of a cluster, what carries a level, and what is asked for.
func (t Tool) things(ctx context.Context, d *doors, a asked) ([]regrade.Thing, error) {
	finder, err := discovery.NewDiscoveryClientForConfig(d.config)
	if err != nil {
		return nil, err
	}
	client, err := metadata.NewForConfig(d.config)
	if err != nil {
		return nil, err
	}
	kinds, err := finder.ServerPreferredResources()
	if discovery.IsGroupDiscoveryFailedError(err) {
		t.Print().Warn("objects of these kinds are not looked at: %v", err)
	} else if err != nil {
		return nil, err
	}
	var all []regrade.Thing
	word, group, qualified := strings.Cut(strings.ToLower(a.kind), ".")
	for _, list := range kinds {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, k := range list.APIResources {
			if !slices.Contains(k.Verbs, "list") || !slices.Contains(k.Verbs, "patch") {
				continue
			}
			of := kindOfThings{client.Resource(gv.WithResource(k.Name)), gv.WithKind(k.Kind), k.Name}
			if gv.Group == "" && k.Name == "namespaces" || k.Name == "workspaces" {
				err = of.list(ctx, &all, "")
			} else {
				err = errors.Join(of.list(ctx, &all, api.LevelLabel), of.list(ctx, &all, api.TalkLabel+",!"+api.LevelLabel))
				if err == nil && (strings.ToLower(k.Kind) == word || k.Name == word) && (!qualified || gv.Group == group) {
					err = of.get(ctx, &all, k.Namespaced, a)
				}
			}
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", k.Name, err)
			}
		}
	}
	return all, nil
}

// kindOfThings reads what there is of a kind.
type kindOfThings struct {
	objects  metadata.Getter
	kind     schema.GroupVersionKind
	resource string
}

func (k *kindOfThings) thing(o *metav1.PartialObjectMetadata) regrade.Thing {
	return regrade.Thing{Group: k.kind.Group, Version: k.kind.Version, Kind: k.kind.Kind, Resource: k.resource, Namespace: o.Namespace, Name: o.Name, UID: string(o.UID), Labels: o.Labels}
}

func (k *kindOfThings) list(ctx context.Context, to *[]regrade.Thing, selector string) error {
	for next := ""; ; {
		page, err := k.objects.List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: 500, Continue: next})
		if err != nil {
			return err
		}
		for i := range page.Items {
			*to = append(*to, k.thing(&page.Items[i]))
		}
		if next = page.Continue; next == "" {
			return nil
		}
	}
}

// get adds what is asked for, if it carries no level and so was not among those that do.
func (k *kindOfThings) get(ctx context.Context, to *[]regrade.Thing, namespaced bool, a asked) error {
	var from metadata.ResourceInterface = k.objects
	if namespaced {
		from = k.objects.Namespace(a.namespace)
	}
	o, err := from.Get(ctx, a.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if thing := k.thing(o); !slices.ContainsFunc(*to, func(t regrade.Thing) bool { return t.UID == thing.UID }) {
		*to = append(*to, thing)
	}
	return nil
}
