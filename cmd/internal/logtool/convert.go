package logtool

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/render"
)

func (t Tool) convert() *cobra.Command {
	var to, name string
	c := &cobra.Command{
		Use:   "convert FILE --to FORMAT",
		Short: "Turn a configuration into another form: classic, yaml, fluentd or resources",
		Long: "Convert reads a configuration of Fluent Bit (classic or YAML) or Fluentd and writes it in another form. --to resources makes Fluent Operator's resources, with a\n" +
			"customPlugin where a resource has no field for an option. What the wanted form cannot hold is an error; nothing is dropped. Comments are lost.",
		Example: `  weft log convert fluent-bit.conf --to yaml
  weft log convert fluent-bit.yaml --to classic
  weft log convert fluent-bit.conf --to resources > logging.yaml`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&to, "to", "", "`format`: classic, yaml, fluentd or resources (required)")
	c.Flags().StringVar(&name, "name", "fluent-bit-config", "`name` of the ClusterFluentBitConfig with --to resources")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		l := loader{stdin: t.Stdin}
		f, err := l.configuration(args[0])
		if err != nil {
			return err
		}
		text, err := converted(f, to, name)
		if err != nil {
			return err
		}
		return t.Print().Result(map[string]string{"text": string(text)}, func(p *output.Page) { _, _ = p.Write(text) })
	}
	return c
}

func converted(f *config.File, to, name string) ([]byte, error) {
	if to == "resources" {
		if f.Format == config.Fluentd {
			return nil, output.Usagef("resources are made of configurations of Fluent Bit; of Fluentd's write a customPlugin by hand")
		}
		documents, err := render.Resources(f, name)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		for i, d := range documents {
			text, err := yaml.Marshal(d)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				b.WriteString("---\n")
			}
			b.Write(text)
		}
		return []byte(b.String()), nil
	}
	format, err := formatOf(to)
	if err != nil {
		return nil, err
	}
	if (format == config.Fluentd) != (f.Format == config.Fluentd) {
		return nil, fmt.Errorf("a configuration of one engine cannot be turned into one of the other: their plugins differ")
	}
	return config.Write(f, format)
}
