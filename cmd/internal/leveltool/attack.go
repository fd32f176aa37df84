package leveltool

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/attack"
	"github.com/weft-dev/weft/level/policy"
)

var registries = schema.GroupVersionResource{Group: api.Group, Version: api.Version, Resource: "registries"}

func (t Tool) attack() *cobra.Command {
	var mode, low, high, records string
	var yes bool
	c := &cobra.Command{
		Use:   "attack --mode MODE --yes",
		Short: "Try to get around levels in a cluster, and report what was seen",
		Long: "Attack runs a catalogue of attempts as a service account of the lowest level that is cluster-admin, and beside it requests that must stay allowed. It makes two\n" +
			"namespaces, a node object and a few objects named weft-attack, sets the doors of the Registry to Enforce while it runs, and removes and resets all that. In the\n" +
			"mode managed it applies the policies of `weft level policies` instead. Writes are dry runs, but one: a clearance is taken away while a stream is open. It is meant\n" +
			"for clusters to try things on. With the file into which a door writes its records each denial is shown with its own.",
		Example: `  weft level attack --mode in-process --yes
  weft --context test level attack --mode webhook --records /var/log/levels.jsonl --yes
  weft --context test level attack --mode managed --yes -o json`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&mode, "mode", string(attack.InProcess), "what enforces levels: in-process, webhook or managed")
	c.Flags().StringVar(&low, "low", "", "`label` of the attacker; the lowest level if empty")
	c.Flags().StringVar(&high, "high", "", "`label` of what is attacked; the highest level if empty")
	c.Flags().StringVar(&records, "records", "", "`file` of the door's records; in-process, that of the embedded cluster by default")
	c.Flags().BoolVar(&yes, "yes", false, "make objects in the cluster and set its doors")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		m := attack.Mode(mode)
		if !slices.Contains(attack.Modes, m) {
			return output.Usagef("--mode %q: expected in-process, webhook or managed", mode)
		}
		if !yes {
			return output.Advise(output.Usagef("attack makes objects in the cluster and sets its doors"), "Say --yes if that is wanted.")
		}
		results, err := t.attackCluster(cmd.Context(), m, low, high, t.recordsOf(m, records))
		if err != nil {
			return err
		}
		if err := t.Print().Result(results, func(p *output.Page) { attackPage(p, results) }); err != nil {
			return err
		}
		for _, r := range results {
			if !r.OK() {
				return output.Exit{Code: output.Failed}
			}
		}
		return nil
	}
	return c
}

// recordsOf is the file of a mode's records, empty if there is none.
func (t Tool) recordsOf(m attack.Mode, file string) string {
	if file == "" && m == attack.InProcess && t.Records != nil {
		if own, err := t.Records(); err == nil {
			file = own
		}
	}
	if _, err := os.Stat(file); err != nil {
		if file != "" {
			t.Print().Warn("what is written down is not shown: %v", err)
		}
		return ""
	}
	return file
}

// enforced are the settings with which a mode is tried: what belongs to another mode only audits.
func enforced(m attack.Mode) api.Doors {
	switch m {
	case attack.InProcess:
		return api.Doors{Authorizer: api.Enforce, Webhook: api.Audit, Admission: api.Enforce}
	case attack.Webhook:
		return api.Doors{Authorizer: api.Audit, Webhook: api.Enforce, Admission: api.Enforce}
	}
	return audited
}

var audited = api.Doors{Authorizer: api.Audit, Webhook: api.Audit, Admission: api.Audit}

// cleanUp is how long removing what was made may take, also after an interruption.
const cleanUp = 30 * time.Second

func (t Tool) attackCluster(ctx context.Context, m attack.Mode, low, high, records string) (results []attack.Result, err error) {
	if t.Cluster == nil {
		return nil, errors.New("no cluster is known")
	}
	config, err := t.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	registry, err := objects.Resource(registries).Get(ctx, api.RegistryName, metav1.GetOptions{})
	if err != nil {
		return nil, output.Advise(fmt.Errorf("the cluster has no Registry: %w", err), "Apply one first: it says which levels there are.")
	}
	levels, _, err := unstructured.NestedSlice(registry.Object, "spec", "levels")
	if err != nil || len(levels) < 2 {
		return nil, errors.New("the Registry has fewer than two levels: nothing can be above anything")
	}
	name := func(v any) string { m, _ := v.(map[string]any); s, _ := m["name"].(string); return s }
	stage, err := attack.NewStage(config, cmp.Or(low, name(levels[0])), cmp.Or(high, name(levels[len(levels)-1])))
	if err != nil {
		return nil, err
	}
	doors, _, _ := unstructured.NestedMap(registry.Object, "spec", "doors") // absent: all begin with Audit
	set := func(ctx context.Context, d api.Doors) error {
		body, err := json.Marshal(map[string]any{"spec": map[string]any{"doors": d}})
		if err != nil {
			return err
		}
		_, err = objects.Resource(registries).Patch(ctx, api.RegistryName, types.MergePatchType, body, metav1.PatchOptions{})
		return err
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		err = errors.Join(err, set(last, audited), stage.Remove(last))
		if doors != nil {
			body, bad := json.Marshal(map[string]any{"spec": map[string]any{"doors": doors}})
			if bad == nil {
				_, bad = objects.Resource(registries).Patch(last, api.RegistryName, types.MergePatchType, body, metav1.PatchOptions{})
			}
			err = errors.Join(err, bad)
		}
	}()
	if err := set(ctx, audited); err != nil {
		return nil, err
	}
	t.Print().Remark("making the stage: namespaces %s and %s", stage.LowSpace, stage.HighSpace)
	if err := stage.Prepare(ctx, true); err != nil {
		return nil, err
	}
	model, err := t.model(ctx)
	if err != nil {
		return nil, err
	}
	runner := &attack.Runner{Mode: m, Stage: stage, Model: model}
	if records != "" {
		runner.Records = attack.ChainRecords(records)
	}
	if m == attack.Managed {
		remove, failed := t.applyPolicies(ctx, objects)
		defer func() { err = errors.Join(err, remove()) }()
		if failed != nil {
			return nil, failed
		}
	} else if err := set(ctx, enforced(m)); err != nil {
		return nil, err
	}
	if err := runner.Await(ctx); err != nil {
		return nil, err
	}
	runner.Progress = func(r attack.Result) {
		if !r.OK() {
			t.Print().Warn("%d %s, %s: expected %s, seen %s", r.Number, r.Title, r.Attempt, r.Expected, r.Seen)
		}
	}
	return runner.Run(ctx)
}

// model is what the cluster's levels are now.
func (t Tool) model(ctx context.Context) (*level.Model, error) {
	all, err := t.objects(ctx, nil)
	if err != nil {
		return nil, err
	}
	loaded, err := level.Load(all)
	if err != nil {
		return nil, err
	}
	return loaded.Model, nil
}

// applyPolicies makes the policies of what is in the cluster, and returns how to remove them.
func (t Tool) applyPolicies(ctx context.Context, objects dynamic.Interface) (remove func() error, err error) {
	remove = func() error { return nil }
	var all []manifest.Object
	for _, from := range []struct{ group, version, resource, labelled string }{
		{api.Group, api.Version, "registries", ""}, {api.Group, api.Version, "clearances", ""}, {api.Group, api.Version, "workspaces", ""}, {"", "v1", "namespaces", ""}, {"", "v1", "nodes", ""},
		{"", "v1", "secrets", api.LevelLabel}, {"", "v1", "configmaps", api.LevelLabel}, {"", "v1", "services", api.LevelLabel}, {"", "v1", "pods", api.LevelLabel}, {"", "v1", "persistentvolumes", api.LevelLabel},
		{"", "v1", "persistentvolumeclaims", api.LevelLabel}, {"", "v1", "serviceaccounts", api.LevelLabel}, {"storage.k8s.io", "v1", "storageclasses", api.LevelLabel}, {"scheduling.k8s.io", "v1", "priorityclasses", api.LevelLabel},
	} {
		list, err := objects.Resource(schema.GroupVersionResource{Group: from.group, Version: from.version, Resource: from.resource}).List(ctx, metav1.ListOptions{LabelSelector: from.labelled})
		if err != nil {
			return remove, fmt.Errorf("reading %s: %w", from.resource, err)
		}
		for i := range list.Items {
			u := list.Items[i].DeepCopy()
			unstructured.RemoveNestedField(u.Object, "status")
			unstructured.RemoveNestedField(u.Object, "metadata", "managedFields")
			all = append(all, manifest.New(u, "cluster"))
		}
	}
	loaded, err := level.Load(all)
	if err != nil {
		return remove, err
	}
	made, err := policy.Compile(loaded.Model, policy.Options{Now: time.Now(), Setting: api.Enforce})
	if err != nil {
		return remove, err
	}
	var done []func(context.Context) error
	remove = func() error {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		var errs []error
		for i := len(done) - 1; i >= 0; i-- {
			errs = append(errs, done[i](last))
		}
		return errors.Join(errs...)
	}
	for _, u := range made.Objects {
		kind := u.GroupVersionKind()
		resource := map[string]string{"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "ValidatingAdmissionPolicy": "validatingadmissionpolicies", "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
			"MutatingAdmissionPolicy": "mutatingadmissionpolicies", "MutatingAdmissionPolicyBinding": "mutatingadmissionpolicybindings"}[kind.Kind]
		to := objects.Resource(schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: resource})
		if _, err := to.Create(ctx, u, metav1.CreateOptions{}); err != nil {
			return remove, fmt.Errorf("%s %s: %w", kind.Kind, u.GetName(), err)
		}
		done = append(done, func(ctx context.Context) error { return to.Delete(ctx, u.GetName(), metav1.DeleteOptions{}) })
	}
	return remove, nil
}

func attackPage(p *output.Page, results []attack.Result) {
	rows := [][]output.Cell{}
	good, recorded := 0, false
	for _, r := range results {
		recorded = recorded || r.Record != ""
	}
	for _, r := range results {
		number, colour := "", output.Green
		if r.Number > 0 {
			number = strconv.Itoa(r.Number)
		}
		if r.OK() {
			good++
		} else {
			colour = output.Red
		}
		row := append(output.Row(number, r.Title, r.Attempt, string(r.Expected)), output.Cell{Text: string(r.Seen), Colour: colour}, output.Cell{Text: r.Cause, Colour: output.Faint})
		if recorded {
			row = append(row, output.Cell{Text: r.Record, Colour: output.Faint})
		}
		rows = append(rows, row)
	}
	heads := []string{"#", "item", "attempt", "expected", "seen", "cause"}
	if recorded {
		heads = append(heads, "record")
	}
	p.Table(heads, rows)
	p.Line("%d of %d as expected", good, len(results))
}
