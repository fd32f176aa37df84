package leveltool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/door"
)

// settled is how long a door may take to do what the Registry says.
const settled = 30 * time.Second

// The names of doors on the command line, which are those in the Registry.
const (
	authorizerDoor = "authorizer"
	webhookDoor    = "webhook"
	admissionDoor  = "admission"
)

func (t Tool) enable() *cobra.Command {
	var name, setting string
	c := &cobra.Command{
		Use:   "enable [PATH...]",
		Short: "Put levels into a cluster, and say what a door does with a denial",
		Long: "Enable installs the kinds of levels, applies the objects in files, and sets a door. A door begins with Audit: it lets everything through and remembers\n" +
			"whom it would have denied what, see `weft level status`. It is not set to Enforce while a component of the cluster, or you, are among them.",
		Example: `  weft level enable levels/
  weft level enable --setting Warn
  weft level enable --setting Enforce
  weft level enable --door admission --setting Enforce`,
	}
	c.Flags().StringVar(&name, "door", authorizerDoor, "authorizer (in the embedded API server), webhook, or admission (of what is written, in either)")
	c.Flags().StringVar(&setting, "setting", "", "Audit, Warn or Enforce; by default the Registry is left as it is")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s := api.DoorSetting(setting)
		if s != "" && s != api.Audit && s != api.Warn && s != api.Enforce {
			return output.Advise(output.Usagef("there is no setting %q", setting), "Use Audit, Warn or Enforce.")
		}
		if name != authorizerDoor && name != webhookDoor && name != admissionDoor {
			return output.Advise(output.Usagef("there is no door %q", name), "Use authorizer, webhook or admission.")
		}
		var objects []manifest.Object
		if len(args) > 0 {
			var err error
			if objects, err = t.read(cmd.Context(), args); err != nil {
				return err
			}
			if slices.ContainsFunc(objects, func(o manifest.Object) bool { return last(o) == 1 }) { // else the labels are those of the cluster's
				if _, err := level.Load(objects); err != nil { // before anything is changed
					return err
				}
			}
		}
		d, err := t.doors(cmd.Context())
		if err != nil {
			return err
		}
		if err := d.install(cmd.Context(), objects); err != nil {
			return err
		}
		if s != "" {
			if err := d.set(cmd.Context(), name, s); err != nil {
				return err
			}
		}
		found, err := d.firstStatus(cmd.Context())
		if err != nil {
			return err
		}
		return t.Print().Result(found, func(p *output.Page) { statusPage(p, found) })
	}
	return c
}

// doors are the doors of a cluster.
type doors struct {
	config  *rest.Config
	objects dynamic.Interface
}

func (t Tool) doors(ctx context.Context) (*doors, error) {
	if t.Cluster == nil {
		return nil, errors.New("no cluster is known")
	}
	config, err := t.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.QPS = -1 // a re-grading looks at every kind that there is
	config.WarningHandler = rest.NoWarnings{}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &doors{config, objects}, nil
}

// install applies the definitions and the objects. Levels without a Registry would be no levels.
func (d *doors) install(ctx context.Context, objects []manifest.Object) error {
	client, err := kube.New(d.config)
	if err != nil {
		return err
	}
	definitions, err := level.Definitions()
	if err != nil {
		return err
	}
	for _, o := range definitions {
		if _, err := client.ApplyObject(ctx, o, true, true); err != nil {
			return err
		}
	}
	if err := client.Wait(ctx, definitions, nil); err != nil {
		return err
	}
	client.Refresh()
	// The Registry goes last: clearances are there when it begins to count.
	slices.SortStableFunc(objects, func(a, b manifest.Object) int { return last(a) - last(b) })
	for _, o := range objects {
		if err := applied(ctx, client, o); err != nil {
			return err
		}
	}
	if _, err := d.registry(ctx); err != nil {
		return err
	}
	return nil
}

// applied applies an object. A pod in a namespace that is just made has to wait for the account that a controller makes there.
func applied(ctx context.Context, client *kube.Client, o manifest.Object) error {
	ctx, stop := context.WithTimeout(ctx, settled)
	defer stop()
	for {
		_, err := client.ApplyObject(ctx, o, false, true)
		if err == nil || o.GetKind() != "Pod" || !strings.Contains(err.Error(), "error looking up service account") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func last(o manifest.Object) int {
	if o.GetKind() == "Registry" {
		return 1
	}
	return 0
}

func (d *doors) registry(ctx context.Context) (*unstructured.Unstructured, error) {
	u, err := d.objects.Resource(registries).Get(ctx, api.RegistryName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, output.Advise(errors.New("the cluster has no Registry, so it has no levels"), "Write one, see docs/levels.md, and name its file: weft level enable FILE.")
	}
	return u, err
}

// set sets a door, after a look at whom it would deny if it is to enforce, and waits until it does.
func (d *doors) set(ctx context.Context, name string, setting api.DoorSetting) error {
	body := fmt.Sprintf(`{"spec":{"doors":{%q:%q}}}`, name, setting)
	report, err := d.report(ctx, name)
	if err != nil {
		return err
	}
	if setting == api.Enforce {
		// What we do here ourselves must be in the report, too: who may not change the Registry could never undo this.
		_, err := d.objects.Resource(registries).Patch(ctx, api.RegistryName, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "weft", DryRun: []string{metav1.DryRunAll}})
		if err == nil && report != nil {
			report, err = d.next(ctx, name, report)
		}
		if err != nil {
			return err
		}
		if err := d.ready(ctx, name, report); err != nil {
			return err
		}
	}
	changed, err := d.objects.Resource(registries).Patch(ctx, api.RegistryName, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "weft"})
	if err != nil || report == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, settled)
	defer cancel()
	for {
		report, err := d.report(ctx, name)
		switch {
		case err == nil && report != nil && report.Setting == setting && report.Registry == changed.GetResourceVersion():
			return nil
		case apierrors.IsForbidden(err): // it enforces, and even its report is above us
			return nil
		}
		select {
		case <-ctx.Done():
			return output.Advise(fmt.Errorf("the door %s does not do what the Registry says: %w", name, ctx.Err()), "See `weft level status`.")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// next is a report that was begun after this call: the second one from now, for one may be under way.
func (d *doors) next(ctx context.Context, name string, report *api.DoorReport) (*api.DoorReport, error) {
	ctx, cancel := context.WithTimeout(ctx, settled)
	defer cancel()
	for seen := 0; seen < 2; {
		select {
		case <-ctx.Done():
			return report, nil // it is down, and ready says so
		case <-time.After(200 * time.Millisecond):
		}
		now, err := d.report(ctx, name)
		if err != nil {
			return nil, err
		}
		if now != nil && !now.Renewed.Equal(&report.Renewed) {
			report = now
			seen++
		}
	}
	return report, nil
}

// ready says why a door must not enforce yet.
func (d *doors) ready(ctx context.Context, name string, report *api.DoorReport) error {
	if report == nil {
		return output.Advise(fmt.Errorf("there is no door %s in this cluster, or it has never told anything", name), "See `weft level status`.")
	}
	if state := stateOf(report, time.Now()); state != string(api.DoorReady) {
		return output.Advise(fmt.Errorf("the door %s is %s", name, strings.ToLower(state)), "See `weft level status`.")
	}
	clients, err := kubernetes.NewForConfig(d.config)
	if err != nil {
		return err
	}
	review, err := clients.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("asking who you are: %w", err)
	}
	me := review.Status.UserInfo.Username
	var components []string
	for _, x := range report.Denied {
		switch {
		case x.User == me && x.Field == "": // else something that is named is too high, whoever names it
			return output.Advise(fmt.Errorf("you (%s) would be denied to %s %s: enforcing would lock you out", me, x.Verb, what(x)),
				"Write a Clearance for yourself, or name yourself in spec.exempt of the Registry. `weft level off` ends a lock-out.")
		case x.Component && !slices.Contains(components, x.User):
			components = append(components, x.User)
		}
	}
	if len(components) > 0 {
		return output.Advise(fmt.Errorf("components of the cluster would be denied: %s", strings.Join(components, ", ")), "See `weft level status`; clear them, or name them in spec.exempt of the Registry.")
	}
	return nil
}

// report is what a door tells; nil if it never told anything.
func (d *doors) report(ctx context.Context, name string) (*api.DoorReport, error) {
	all, err := d.reports(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		if x.Name == name || name == webhookDoor && x.Report.Kind == string(door.Webhook) || name == admissionDoor && x.Report.Kind == string(door.Admission) {
			return &x.Report, nil
		}
	}
	return nil, nil
}

func (d *doors) reports(ctx context.Context) ([]api.Door, error) {
	list, err := d.objects.Resource(door.Resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading what doors tell: %w", err)
	}
	all := make([]api.Door, len(list.Items))
	for i := range list.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &all[i]); err != nil {
			return nil, fmt.Errorf("door %s: %w", list.Items[i].GetName(), err)
		}
	}
	return all, nil
}
