package leveltool

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/level"
)

// Tool is the verbs and how they speak.
type Tool struct {
	Print func() *output.Printer
	Stdin io.Reader
	// Cluster is how to reach the cluster that a user means; nil where there is none.
	Cluster func(context.Context) (*rest.Config, error)
	// Off opens the door of the embedded API server, or closes it; nil where there is none.
	Off func(bool) error
	// Records is the file of audit records of the embedded API server; nil where there is none.
	Records func() (string, error)
}

// Commands are the verbs of `weft level`.
func (t Tool) Commands() []*cobra.Command {
	return []*cobra.Command{t.can(), t.matrix(), t.simulate(), t.policies(), t.translate(), t.net(), t.enable(), t.status(), t.off(), t.regrade(), t.audit(), t.attack()}
}

var verbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate", "bind", "escalate", "approve", "sign", "use", "*"}

func (t Tool) can() *cobra.Command {
	var paths, groups []string
	var namespace, subresource string
	var everywhere, why bool
	c := &cobra.Command{
		Use:   "can USER VERB RESOURCE[/NAME]",
		Short: "Say whether levels deny a request, and why",
		Long: "Can judges a request by the levels and clearances in files, or else by those of the cluster, as an API server with levels would. It ends with 1 if levels deny it.\n" +
			"Levels never allow: what they do not deny is decided by the roles of the cluster. A service account is written system:serviceaccount:NAMESPACE:NAME.",
		Example: `  weft level can alice get secrets/db -n payments --why
  weft level can alice get secrets/db -n payments -f levels/
  weft level can bob create pods --subresource exec -n payments -f levels/ --why
  kubectl get registries,clearances,namespaces,nodes -o yaml | weft level can carol list pods -A -f -`,
		Args: cobra.ExactArgs(3),
	}
	flags := c.Flags()
	flags.StringArrayVarP(&paths, "file", "f", nil, "read objects from this file or `folder`, or from standard input (-), instead of the cluster; can be repeated")
	flags.StringArrayVar(&groups, "group", nil, "`group` that the user belongs to; can be repeated")
	flags.StringVarP(&namespace, "namespace", "n", "default", "`namespace` of the request")
	flags.BoolVarP(&everywhere, "all-namespaces", "A", false, "the request spans all namespaces")
	flags.StringVar(&subresource, "subresource", "", "for example log, exec or `token`")
	flags.BoolVar(&why, "why", false, "show where the labels come from")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if args[0] == "" || args[1] == "" {
			return output.Usagef("user and verb must not be empty")
		}
		if !slices.Contains(verbs, args[1]) && !strings.HasPrefix(args[1], "impersonate") {
			t.Print().Warn("%q is no verb of Kubernetes' own; it is judged as a change", args[1])
		}
		s, err := t.snapshot(cmd.Context(), paths)
		if err != nil {
			return err
		}
		word, name, _ := strings.Cut(args[2], "/")
		kind, namespaced := s.KindOf(word)
		if kind.Resource == "" {
			return output.Advise(output.Usagef("%q names no resource", args[2]), "Write for example secrets or secrets/db.")
		}
		r := level.Request{Verb: args[1], Group: kind.Group, Resource: kind.Resource, Subresource: subresource, Namespace: namespace, Name: name}
		if everywhere || !namespaced {
			r.Namespace = ""
		}
		subject := s.Resolve(args[0], slices.Concat(groups, implied(args[0])))
		e := s.Explain(subject, s.Decide(subject, &r))
		if err := t.Print().Result(e, func(p *output.Page) { answer(p, e, why) }); err != nil {
			return err
		}
		if e.Decision == "denied" {
			return output.Exit{Code: output.Failed}
		}
		return nil
	}
	return c
}

// implied are the groups that every authenticated user of that name is in.
func implied(user string) []string {
	all := []string{"system:authenticated"}
	if strings.HasPrefix(user, "system:node:") {
		all = append(all, "system:nodes")
	}
	return all
}

func answer(p *output.Page, e level.Explanation, why bool) {
	colour := output.Green
	if e.Decision == "denied" {
		colour = output.Red
	}
	p.Line("%s: %s (%s)", p.Paint(colour, e.Decision), e.Reason, e.Cause)
	if !why {
		return
	}
	target := e.Target
	if e.Lowest != "" {
		target = e.Lowest + " to " + e.Target
	}
	rows := [][]output.Cell{
		output.Row("  subject", strings.Join(e.Subject, " or "), "by "+string(e.Source)),
		output.Row("  access", e.Access, "mode "+string(e.Mode)),
		output.Row("  target", target, "by "+string(e.Origin)),
		output.Row("  door", string(e.Door), ""),
	}
	p.Table(nil, slices.DeleteFunc(rows, func(row []output.Cell) bool { return row[1].Text == "" }))
}

// row is a place of the matrix.
type row struct {
	Place   string            `json:"place"`
	Level   string            `json:"level"`
	Answers map[string]string `json:"answers"` // by subject: r, c and w for what is not denied
}

func (t Tool) matrix() *cobra.Command {
	var accounts bool
	c := &cobra.Command{
		Use:   "matrix [PATH...]",
		Short: "Show what levels leave to whom, everywhere",
		Long: "Matrix shows for each namespace, and each object with a label of its own, what levels do not deny to each subject that has a clearance:\n" +
			"r reads, c creates, w changes, - nothing. Without a path the cluster is read.",
		Example: `  weft level matrix
  weft level matrix levels/
  weft level matrix levels/ --accounts -o json`,
		Args: cobra.ArbitraryArgs,
	}
	c.Flags().BoolVar(&accounts, "accounts", false, "with the service accounts of each namespace")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := t.snapshot(cmd.Context(), args)
		if err != nil {
			return err
		}
		subjects := s.Named(accounts)
		all := []row{}
		for _, spot := range s.Spots() {
			r := row{Place: spot.String(), Answers: map[string]string{}}
			for _, n := range subjects {
				subject, letters := s.Subject(n), ""
				for a := level.Read; a <= level.Change; a++ {
					d := s.At(subject, spot, a)
					if !d.Denied {
						letters += string("rcw"[a])
					}
					if d.Cause != level.Exempt {
						r.Level = s.Registry().Format(d.Target.High)
					}
				}
				r.Answers[n.String()] = letters
			}
			all = append(all, r)
		}
		return t.Print().Result(all, func(p *output.Page) { matrixPage(p, subjects, all) })
	}
	return c
}

func matrixPage(p *output.Page, subjects []level.SubjectName, all []row) {
	headings := []output.Cell{{Text: "PLACE", Colour: output.Faint}, {Text: "LEVEL", Colour: output.Faint}}
	for _, n := range subjects {
		headings = append(headings, output.Cell{Text: n.String(), Colour: output.Bold}) // names keep their case
	}
	rows := [][]output.Cell{headings}
	for _, r := range all {
		cells := output.Row(r.Place, r.Level)
		for _, n := range subjects {
			text, colour := r.Answers[n.String()], output.Green
			if text == "" {
				text, colour = "-", output.Red
			}
			cells = append(cells, output.Cell{Text: text, Colour: colour})
		}
		rows = append(rows, cells)
	}
	p.Table(nil, rows)
}

func (t Tool) simulate() *cobra.Command {
	var with, without []string
	var accounts bool
	c := &cobra.Command{
		Use:   "simulate [PATH...] --with CHANGE",
		Short: "Show which answers a change turns round",
		Long: "Simulate reads objects, puts those of --with in their place or beside them, takes those of --without away, and tells whose requests are denied afterwards\n" +
			"that were not before, and the reverse. Without a path the objects are those of the cluster, in which nothing is changed.",
		Example: `  weft level simulate --with new-clearances.yaml
  weft level simulate levels/ --with new-clearances.yaml
  weft level simulate levels/ --without clearances/alice.yaml -o json`,
		Args: cobra.ArbitraryArgs,
	}
	c.Flags().StringArrayVar(&with, "with", nil, "`file` or folder with changed and added objects; can be repeated")
	c.Flags().StringArrayVar(&without, "without", nil, "`file` or folder with objects that are removed; can be repeated")
	c.Flags().BoolVar(&accounts, "accounts", false, "with the service accounts of each namespace")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(with)+len(without) == 0 {
			return output.Advise(output.Usagef("no change is given"), "Name changed objects with --with, removed ones with --without.")
		}
		before, after, err := t.change(cmd.Context(), args, with, without)
		if err != nil {
			return err
		}
		all := level.Compare(before, after, accounts)
		return t.Print().Result(all, func(p *output.Page) { differencesPage(p, all) })
	}
	return c
}

func differencesPage(p *output.Page, all []level.Difference) {
	if len(all) == 0 {
		p.Line("nothing changes for anybody")
	}
	for _, d := range all {
		what := p.Paint(output.Green, "no longer denied")
		if d.Denied {
			what = p.Paint(output.Red, "newly denied")
		}
		p.Line("%s: %s, %s %s: %s (%s)", what, d.Subject, d.Access, d.Spot, d.Reason, d.Cause)
	}
	if n := len(all); n > 0 {
		denied := 0
		for _, d := range all {
			if d.Denied {
				denied++
			}
		}
		p.Line("%s", fmt.Sprintf("%d newly denied, %d no longer denied", denied, n-denied))
	}
}
