package leveltool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/cmd/internal/output"
)

// down is after how long without a word a door counts as down (api.DoorReport, Renewed).
const down = 15 * time.Second

// States of doors that they do not tell themselves.
const (
	doorDown   = "Down"   // it tells nothing any more
	doorBehind = "Behind" // it judges by a Registry that was changed since
)

// catchUp is how long a door may take to follow the Registry before it is told that it is behind.
const catchUp = 3 * time.Second

// status is what is known of levels in a cluster.
type status struct {
	Levels []string     `json:"levels"` // the lowest first
	Set    api.Doors    `json:"settings"`
	Doors  []doorStatus `json:"doors"`
	// Workspaces are those with a ceiling, or with pods.
	Workspaces []workspaceStatus `json:"workspaces,omitempty"`
}

type workspaceStatus struct {
	Name       string     `json:"name"`
	Namespaces int32      `json:"namespaces"` // that hold pods
	Used       api.Amount `json:"used"`
	Ceiling    api.Amount `json:"ceiling"`
}

type doorStatus struct {
	Name  string `json:"name"`
	State string `json:"state"` // Ready, Stale, Off, Behind or Down
	api.DoorReport
}

func (t Tool) status() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how the doors of levels are, and whom they denied what",
		Long: "Status shows each door with what it does with a denial, whether it follows the cluster, and the requests that it denied, or would have denied; and what the\n" +
			"pods of workspaces request beside their ceilings. It ends with 1 if a door is down, open, behind the Registry, or has lost sight of the cluster.",
		Example: `  weft level status
  weft level status -o json`,
		Args: cobra.NoArgs,
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := t.doors(cmd.Context())
		if err != nil {
			return err
		}
		found, err := d.status(cmd.Context())
		if err != nil {
			return err
		}
		if err := t.Print().Result(found, func(p *output.Page) { statusPage(p, found) }); err != nil {
			return err
		}
		for _, x := range found.Doors {
			if x.State != string(api.DoorReady) {
				return output.Exit{Code: output.Failed}
			}
		}
		return nil
	}
	return c
}

// firstStatus waits a moment for the first word of a door.
func (d *doors) firstStatus(ctx context.Context) (*status, error) {
	for deadline := time.Now().Add(catchUp); ; {
		found, err := d.status(ctx)
		if err != nil || len(found.Doors) > 0 || time.Now().After(deadline) {
			return found, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (d *doors) status(ctx context.Context) (*status, error) {
	u, err := d.registry(ctx)
	if err != nil {
		return nil, err
	}
	var r api.Registry
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &r); err != nil {
		return nil, fmt.Errorf("the Registry: %w", err)
	}
	found := &status{Levels: []string{}, Set: r.Spec.Doors, Doors: []doorStatus{}}
	for _, l := range r.Spec.Levels {
		found.Levels = append(found.Levels, l.Name)
	}
	if found.Doors, err = d.states(ctx, u.GetResourceVersion()); err != nil {
		return nil, err
	}
	found.Workspaces, err = d.workspaces(ctx)
	return found, err
}

// states are how doors are, seen against the Registry that they should judge by. One that is behind gets a moment to catch up.
func (d *doors) states(ctx context.Context, registry string) ([]doorStatus, error) {
	for deadline := time.Now().Add(catchUp); ; {
		reports, err := d.reports(ctx)
		if err != nil {
			return nil, err
		}
		all, late := []doorStatus{}, false
		for i := range reports {
			state := against(stateOf(&reports[i].Report, time.Now()), reports[i].Report.Registry, registry)
			late = late || state == doorBehind
			all = append(all, doorStatus{reports[i].Name, state, reports[i].Report})
		}
		if !late || time.Now().After(deadline) {
			return all, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// against says that a door which is well judges by another Registry than there is.
func against(state, told, registry string) string {
	if state == string(api.DoorReady) && told != registry {
		return doorBehind
	}
	return state
}

// workspaces are those of a cluster that have a ceiling or pods.
func (d *doors) workspaces(ctx context.Context) ([]workspaceStatus, error) {
	list, err := d.objects.Resource(registries.GroupVersion().WithResource("workspaces")).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading workspaces: %w", err)
	}
	var all []workspaceStatus
	for i := range list.Items {
		var w api.Workspace
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &w); err != nil {
			return nil, fmt.Errorf("workspace %s: %w", list.Items[i].GetName(), err)
		}
		if w.Spec.Ceiling != (api.Amount{}) || w.Status.Namespaces > 0 {
			all = append(all, workspaceStatus{w.Name, w.Status.Namespaces, w.Status.Used, w.Spec.Ceiling})
		}
	}
	return all, nil
}

func stateOf(r *api.DoorReport, now time.Time) string {
	if now.Sub(r.Renewed.Time) > down {
		return doorDown
	}
	return string(r.State)
}

func statusPage(p *output.Page, s *status) {
	p.Line("levels: %s", strings.Join(s.Levels, " < "))
	if len(s.Doors) == 0 {
		p.Line("no door has told anything yet")
	}
	rows := [][]output.Cell{}
	for _, x := range s.Doors {
		colour := output.Green
		if x.State != string(api.DoorReady) {
			colour = output.Red
		}
		problems := strings.Join(x.Problems, "; ")
		rows = append(rows, append(output.Row(x.Name, string(x.Setting)), output.Cell{Text: x.State, Colour: colour}, output.Cell{Text: problems}))
	}
	if len(rows) > 0 {
		p.Line("")
		p.Table([]string{"door", "setting", "state", "problems"}, rows)
	}
	if len(s.Workspaces) > 0 {
		p.Line("")
		p.Line("what the pods of workspaces request, and may:")
		rows = rows[:0]
		for _, w := range s.Workspaces {
			rows = append(rows, append(output.Row(w.Name), of(w.Used.CPU, w.Ceiling.CPU), of(w.Used.Memory, w.Ceiling.Memory), of(w.Used.Pods, w.Ceiling.Pods)))
		}
		p.Table([]string{"workspace", "cpu", "memory", "pods"}, rows)
	}
	denials := [][]output.Cell{}
	var more int64
	for _, x := range s.Doors {
		more += x.MoreDenied
		for _, d := range x.Denied {
			who := d.User
			if d.Component {
				who += " (component)"
			}
			denials = append(denials, output.Row(x.Name, who, d.Verb, what(d), d.Namespace, d.Field, d.Cause, fmt.Sprint(d.Count)))
		}
	}
	if len(denials) > 0 {
		p.Line("")
		p.Line("denied, or let through though levels are against it:")
		p.Table([]string{"door", "user", "verb", "what", "namespace", "field", "cause", "times"}, denials)
	}
	if more > 0 {
		p.Line("and %d more", more)
	}
}

// of is an amount and its ceiling; red if it is above it, as it is after the ceiling was lowered.
func of(used, ceiling *resource.Quantity) output.Cell {
	var none resource.Quantity
	if used == nil {
		used = &none
	}
	if ceiling == nil {
		return output.Cell{Text: used.String()}
	}
	c := output.Cell{Text: used.String() + " of " + ceiling.String()}
	if used.Cmp(*ceiling) > 0 {
		c.Colour = output.Red
	}
	return c
}

// what is the resource of a denial.
func what(d api.Denial) string {
	w := d.Resource
	if d.Group != "" {
		w += "." + d.Group
	}
	if d.Subresource != "" {
		w += "/" + d.Subresource
	}
	if w == "" {
		return "-"
	}
	return w
}

func (t Tool) off() *cobra.Command {
	var undo bool
	c := &cobra.Command{
		Use:   "off",
		Short: "Open the door of the embedded API server, to end a lock-out",
		Long: "Off lets every request through the door of levels in the embedded API server, whatever the Registry says, within a second. It needs no right in the cluster, but\n" +
			"the state folder. With --undo the door closes again. Elsewhere, delete the WebhookConfiguration or the authorizer's entry as an administrator of the machine.",
		Example: `  weft level off
  weft level off --undo`,
		Args: cobra.NoArgs,
	}
	c.Flags().BoolVar(&undo, "undo", false, "close the door again")
	c.RunE = func(*cobra.Command, []string) error {
		if t.Off == nil {
			return errors.New("there is no embedded cluster here")
		}
		if err := t.Off(!undo); err != nil {
			return err
		}
		text := "the door of levels is open until `weft level off --undo`"
		if undo {
			text = "the door of levels does what the Registry says"
		}
		return t.Print().Result(map[string]bool{"off": !undo}, func(p *output.Page) { p.Line("%s", text) })
	}
	return c
}
