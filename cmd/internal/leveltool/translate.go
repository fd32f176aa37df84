package leveltool

import (
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/level/talk"
)

func (t Tool) translate() *cobra.Command {
	c := &cobra.Command{
		Use:   "translate PATH...",
		Short: "Make of manifests of graded management on KubeSphere what they meant",
		Long: "Translate reads manifests with kubernetes.io/level as they were published, most of which an API server refuses or which do nothing, and prints objects that hold what they\n" +
			"meant, with the reasons as comments: a Registry of the numbers, clearances of users, levels spelled out in node affinities, peers in network policies. What needs no\n" +
			"change is printed as it is. All manifests that share levels have to be given together.",
		Example: `  weft level translate examples/levels/talk
  weft level translate manifests/ | weft level enable -`,
		Args: cobra.MinimumNArgs(1),
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		objects, err := t.read(cmd.Context(), args)
		if err != nil {
			return err
		}
		pieces, err := talk.Translate(objects)
		if err != nil {
			return err
		}
		return t.Print().Result(pieces, func(p *output.Page) {
			for _, piece := range pieces {
				p.Line("---")
				for _, note := range piece.Notes {
					p.Line("# %s", note)
				}
				data, err := yaml.Marshal(piece.Object.Object)
				if err != nil {
					continue // maps of texts and lists always can be written
				}
				p.Line("%s", data[:len(data)-1])
			}
		})
	}
	return c
}
