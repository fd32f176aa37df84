package logtool

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/render"
)

func (t Tool) convert() *cobra.Command {
	var to string
	var w wanted
	c := &cobra.Command{
		Use:   "convert FILE --to FORMAT",
		Short: "Turn a configuration into another form: classic, yaml, fluentd or resources",
		Long: "Convert reads a configuration of Fluent Bit (classic or YAML) or Fluentd (its language or YAML) and writes it in another form. --to resources makes Fluent Operator's resources, with a\n" +
			"customPlugin where a resource has no field for an option: of Fluent Bit's a ClusterFluentBitConfig, of Fluentd's a Fluentd, and what they select. What the wanted form\n" +
			"cannot hold is an error with its place; nothing is dropped. Comments are lost.",
		Example: `  weft log convert fluent-bit.conf --to yaml
  weft log convert fluent-bit.yaml --to classic
  weft log convert fluent-bit.conf --to resources > logging.yaml
  weft log convert fluent.conf --to yaml
  weft log convert fluent.conf --to resources --name fluentd --namespace logging > logging.yaml`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&to, "to", "", "`format`: classic, yaml, fluentd or resources (required)")
	c.Flags().StringVar(&w.name, "name", "", "`name` of the ClusterFluentBitConfig (fluent-bit-config) or Fluentd (fluentd) with --to resources")
	c.Flags().StringVarP(&w.namespace, "namespace", "n", "fluent", "`namespace` of the Fluentd with --to resources")
	c.Flags().StringVar(&w.image, "image", "weft.local/logagent:1", "`image` of the Fluentd with --to resources")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		l := loader{stdin: t.Stdin}
		f, err := l.configuration(args[0])
		if err != nil {
			return err
		}
		text, err := converted(f, to, w)
		if err != nil {
			return err
		}
		return t.Print().Result(map[string]string{"text": string(text)}, func(p *output.Page) { _, _ = p.Write(text) })
	}
	return c
}

// wanted is how resources are to be called.
type wanted struct{ name, namespace, image string }

func converted(f *config.File, to string, w wanted) ([]byte, error) {
	if to == "resources" {
		documents, err := w.resources(f)
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
	if f.Format == config.Fluentd && format == config.Classic || f.Format != config.Fluentd && format == config.Fluentd {
		return nil, fmt.Errorf("a configuration of one engine cannot be turned into one of the other: their plugins differ")
	}
	return config.Write(f, format)
}

func (w wanted) resources(f *config.File) ([]map[string]any, error) {
	if f.Format == config.Fluentd {
		return render.FluentdResources(f, cmp.Or(w.name, "fluentd"), w.namespace, w.image)
	}
	return render.Resources(f, cmp.Or(w.name, "fluent-bit-config"))
}
