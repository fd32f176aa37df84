package leveltool

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/level/network"
	packets "github.com/weft-dev/weft/network"
)

func (t Tool) net() *cobra.Command {
	c := &cobra.Command{
		Use:   "net",
		Short: "Say which namespaces and pods reach which, and why",
		Long: "Net judges packets by the levels of namespaces, by the black and white lists in their annotations (level.weft.dev/network-deny, level.weft.dev/network-allow),\n" +
			"by isolation (kubesphere.io/network-isolate) and by the network policies among the objects. Of rules that disagree the first holds:\n" +
			"level, black list, white list, white list of levels, isolation.",
		Example: `  weft level net can shop/web payments/db --port 5432 -f cluster/ --why
  weft level net matrix cluster/
  weft level net diff old/ new/`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(t.netCan(), t.netMatrix(), t.netDiff(), t.netPolicies())
	return c
}

func (t Tool) network(ctx context.Context, paths []string) (*network.Source, error) {
	objects, err := t.read(ctx, paths)
	if err != nil {
		return nil, err
	}
	s, err := t.compile(objects, nil)
	if err != nil {
		return nil, err
	}
	source, err := network.Load(objects, s)
	if err != nil {
		return nil, err
	}
	for _, p := range source.Problems {
		t.Print().Warn("%v", p)
	}
	for _, f := range source.Rules.Findings() {
		t.Print().Warn("namespace %s, %s: %s %s", f.Namespace, f.Annotation, f.Entry, f.Message)
	}
	return source, nil
}

// reach is the answer of can.
type reach struct {
	Allowed  bool            `json:"allowed"`
	Rules    network.Verdict `json:"rules"`
	Policies string          `json:"policies,omitempty"`
	Order    []network.Rule  `json:"order"`
}

func (t Tool) netCan() *cobra.Command {
	var paths []string
	var port uint16
	var protocol string
	var why bool
	c := &cobra.Command{
		Use:   "can FROM TO",
		Short: "Say whether packets get from one namespace or pod to another",
		Long: "Can judges packets between NAMESPACE or NAMESPACE/POD and another; a workload's name stands for its pods. It ends with 1 if they do not get there. A namespace\n" +
			"alone is a pod in it without labels.",
		Example: `  weft level net can shop payments -f cluster/
  weft level net can shop/web payments/db --port 5432 -f cluster/ --why`,
		Args: cobra.ExactArgs(2),
	}
	c.Flags().StringArrayVarP(&paths, "file", "f", nil, "read objects from this file or `folder`, or from standard input (-); can be repeated")
	c.Flags().Uint16Var(&port, "port", 80, "target `port`, as the pod sees it")
	c.Flags().StringVar(&protocol, "protocol", "TCP", "TCP, UDP or SCTP")
	c.Flags().BoolVar(&why, "why", false, "show what policies say, and the order of the rules")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(paths) == 0 {
			return output.Advise(output.Usagef("no objects are given"), "Name files or folders with -f.")
		}
		proto, err := packets.ParseProtocol(protocol)
		if err != nil {
			return output.Usagef("--protocol: %v", err)
		}
		source, err := t.network(cmd.Context(), paths)
		if err != nil {
			return err
		}
		from, err := end(source, args[0])
		if err != nil {
			return err
		}
		to, err := end(source, args[1])
		if err != nil {
			return err
		}
		answer := reach{Rules: source.Rules.Judge(from.Namespace, to.Namespace), Order: network.Order}
		s := packets.NewSnapshot(source.Objects)
		a, b := s.Between(from, to, false)
		d := packets.Evaluate(s, a, b, proto, port)
		answer.Policies, answer.Allowed = d.String(), answer.Rules.Allowed && d.Allowed
		if err := t.Print().Result(answer, func(p *output.Page) { reachPage(p, answer, d, why) }); err != nil {
			return err
		}
		if !answer.Allowed {
			return output.Exit{Code: output.Failed}
		}
		return nil
	}
	return c
}

// end is a pod that is named, or one without labels of a namespace.
func end(source *network.Source, word string) (*packets.Pod, error) {
	namespace, name, named := strings.Cut(word, "/")
	if namespace == "" || named && name == "" {
		return nil, output.Advise(output.Usagef("%q names no namespace", word), "Write NAMESPACE or NAMESPACE/POD.")
	}
	if !named {
		return &packets.Pod{Namespace: namespace, Name: "(any)"}, nil
	}
	for i := range source.Objects.Pods {
		p := &source.Objects.Pods[i]
		if p.Namespace == namespace && (p.Name == name || strings.HasPrefix(p.Name, name+"-")) {
			return p, nil
		}
	}
	return nil, output.Advise(fmt.Errorf("there is no pod or workload %s among the objects", word), "Name one of them, or the namespace alone.")
}

func reachPage(p *output.Page, r reach, d packets.Decision, why bool) {
	word, colour, reason := "allowed", output.Green, fmt.Sprintf("%s (%s)", r.Rules.Reason, r.Rules.Rule)
	if !r.Allowed {
		word, colour = "denied", output.Red
		if r.Rules.Allowed {
			reason = d.Deciding().Reason
		}
	}
	p.Line("%s: %s", p.Paint(colour, word), reason)
	if !why {
		return
	}
	var order []string
	for _, rule := range r.Order {
		order = append(order, string(rule))
	}
	p.Table(nil, [][]output.Cell{output.Row("  rules", r.Rules.Reason, string(r.Rules.Rule)), output.Row("  policies", r.Policies, ""), output.Row("  order", strings.Join(order, " > "), "")})
}

// netRow is a sender of the matrix.
type netRow struct {
	From string                     `json:"from"`
	To   map[string]network.Verdict `json:"to"`
}

func (t Tool) netMatrix() *cobra.Command {
	c := &cobra.Command{
		Use:     "matrix PATH...",
		Short:   "Show which namespaces reach which",
		Long:    "Matrix shows a row for each sender and a column for each receiver: + where packets pass, else the rule that refuses them (L level, B black list, I isolation).",
		Example: "  weft level net matrix cluster/\n  kubectl get registries,clearances,workspaces,namespaces -o yaml | weft level net matrix -",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := t.network(cmd.Context(), args)
			if err != nil {
				return err
			}
			names := source.Rules.Names()
			rows := []netRow{}
			for _, from := range names {
				r := netRow{from, map[string]network.Verdict{}}
				for _, to := range names {
					r.To[to] = source.Rules.Judge(from, to)
				}
				rows = append(rows, r)
			}
			return t.Print().Result(rows, func(p *output.Page) { netPage(p, names, rows) })
		},
	}
	return c
}

func netPage(p *output.Page, names []string, rows []netRow) {
	head := []output.Cell{{Text: "FROM \\ TO", Colour: output.Faint}}
	for _, n := range names {
		head = append(head, output.Cell{Text: n, Colour: output.Bold})
	}
	table := [][]output.Cell{head}
	for _, r := range rows {
		cells := output.Row(r.From)
		for _, n := range names {
			v := r.To[n]
			cell := output.Cell{Text: "+", Colour: output.Green}
			if !v.Allowed {
				cell = output.Cell{Text: string(v.Rule[0]), Colour: output.Red}
			}
			cells = append(cells, cell)
		}
		table = append(table, cells)
	}
	p.Table(nil, table)
}

func (t Tool) netDiff() *cobra.Command {
	return &cobra.Command{
		Use:     "diff OLD NEW",
		Short:   "Show between which namespaces a change opens or closes the way",
		Example: "  weft level net diff cluster/ changed/",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := t.network(cmd.Context(), args[:1])
			if err != nil {
				return err
			}
			after, err := t.network(cmd.Context(), args[1:])
			if err != nil {
				return err
			}
			pairs := network.Compare(before.Rules, after.Rules)
			return t.Print().Result(pairs, func(p *output.Page) {
				if len(pairs) == 0 {
					p.Line("nothing changes between any namespaces")
				}
				for _, pair := range pairs {
					word := p.Paint(output.Red, "closed")
					if pair.After.Allowed {
						word = p.Paint(output.Green, "opened")
					}
					p.Line("%s: %s to %s: %s (%s)", word, pair.From, pair.To, pair.After.Reason, pair.After.Rule)
				}
			})
		},
	}
}

func (t Tool) netPolicies() *cobra.Command {
	var form string
	var ranges []string
	c := &cobra.Command{
		Use:   "policies PATH...",
		Short: "Print network policies that make the cluster do what the rules say",
		Long: "Policies compiles levels, lists and isolation. ClusterNetworkPolicies stand before the policies of namespaces, which cannot open what these close. NetworkPolicies,\n" +
			"for clusters that know no others, only add to each other: those of a namespace that open more are told as warnings.",
		Example: "  weft level net policies cluster/ | kubectl apply --server-side -f -\n  weft level net policies cluster/ --form NetworkPolicy --pod-range 10.244.0.0/16",
		Args:    cobra.MinimumNArgs(1),
	}
	c.Flags().StringVar(&form, "form", "ClusterNetworkPolicy", "ClusterNetworkPolicy or NetworkPolicy")
	c.Flags().StringArrayVar(&ranges, "pod-range", nil, "`range` of the pods' addresses, from outside of which packets pass (NetworkPolicy only); can be repeated")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var prefixes []netip.Prefix
		for _, text := range ranges {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return output.Usagef("--pod-range %s: expected a range such as 10.244.0.0/16", strconv.Quote(text))
			}
			prefixes = append(prefixes, p)
		}
		if form != "ClusterNetworkPolicy" && form != "NetworkPolicy" {
			return output.Usagef("--form %q: expected ClusterNetworkPolicy or NetworkPolicy", form)
		}
		source, err := t.network(cmd.Context(), args)
		if err != nil {
			return err
		}
		all := []any{}
		objects := source.Objects
		if form == "NetworkPolicy" {
			made := source.Rules.Policies(prefixes)
			for _, p := range made {
				all = append(all, p)
			}
			objects.Policies = append(objects.Policies, made...)
		} else {
			made, err := source.Rules.ClusterPolicies()
			if err != nil {
				return err
			}
			for _, p := range made {
				all = append(all, p)
			}
			objects.Cluster = append(objects.Cluster, made...)
		}
		for _, b := range source.Rules.Check(objects, packets.TCP, 80) {
			t.Print().Warn("packets still get from %s to %s, though %s: %s", b.From, b.To, b.Wanted.Reason, b.Decision.Ingress.Reason)
		}
		return t.Print().Result(all, func(p *output.Page) {
			for _, one := range all {
				data, err := yaml.Marshal(one)
				if err != nil {
					continue // what was compiled always can be written
				}
				p.Line("---\n%s", data)
			}
		})
	}
	return c
}
