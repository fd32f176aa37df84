package logtool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/logging/plugin"
)

// described is a plugin in the answer.
type described struct {
	Engine   string            `json:"engine"`
	Kind     string            `json:"kind"`
	Name     string            `json:"name"`
	Resource string            `json:"resourceField,omitempty"`
	Options  []describedOption `json:"options,omitempty"`
}

type describedOption struct {
	Key       string   `json:"key"`
	Field     string   `json:"resourceField,omitempty"`
	Type      string   `json:"type"`
	Default   string   `json:"default,omitempty"`
	Values    []string `json:"values,omitempty"`
	Required  bool     `json:"required,omitempty"`
	Sensitive bool     `json:"sensitive,omitempty"`
	Since     string   `json:"since,omitempty"`
}

func (t Tool) plugins() *cobra.Command {
	engine := "fluentbit"
	c := &cobra.Command{
		Use:   "plugins [KIND [NAME] | KIND/NAME | NAME]",
		Short: "Tell the plugins of an engine and their options",
		Example: `  weft log plugins
  weft log plugins output es
  weft log plugins tail -o json
  weft log plugins --engine fluentd output`,
		Args: cobra.MaximumNArgs(2),
	}
	c.Flags().StringVar(&engine, "engine", engine, "`engine`: fluentbit or fluentd")
	c.RunE = func(_ *cobra.Command, args []string) error {
		table := plugin.FluentBit()
		switch engine {
		case "fluentbit":
		case "fluentd":
			table = plugin.Fluentd()
		default:
			return output.Usagef("there is no engine %q; there are fluentbit and fluentd", engine)
		}
		want := strings.Join(args, "/")
		var chosen []*plugin.Plugin
		for _, p := range table.Plugins {
			if want == "" || want == p.Kind || strings.EqualFold(want, p.Name) || strings.EqualFold(want, p.Kind+"/"+p.Name) || want == p.Field {
				chosen = append(chosen, p)
			}
		}
		if len(chosen) == 0 {
			return output.Advise(fmt.Errorf("there is no plugin %q of %s", want, engine), "`weft log plugins` lists them.")
		}
		detailed := want != "" && !slices.Contains([]string{"input", "filter", "output", "processor", "parser", "custom"}, want)
		all := []described{}
		for _, p := range chosen {
			all = append(all, describe(table, p, detailed))
		}
		return t.Print().Result(all, func(page *output.Page) { pluginsPage(page, all, detailed) })
	}
	return c
}

func describe(table *plugin.Table, p *plugin.Plugin, detailed bool) described {
	d := described{Engine: table.Engine, Kind: p.Kind, Name: p.Name, Resource: p.Field}
	if !detailed {
		return d
	}
	for _, o := range p.All() {
		d.Options = append(d.Options, describedOption{o.Key, o.Field, o.Type, o.Default, o.Enum, o.Required || o.Needed, o.Sensitive, o.Since})
	}
	return d
}

func pluginsPage(p *output.Page, all []described, detailed bool) {
	if !detailed {
		var rows [][]output.Cell
		for _, d := range all {
			rows = append(rows, output.Row(d.Kind, d.Name, cmp.Or(d.Resource, "(customPlugin)")))
		}
		p.Table([]string{"KIND", "NAME", "FIELD IN RESOURCES"}, rows)
		return
	}
	for _, d := range all {
		p.Line("%s", p.Paint(output.Bold, d.Kind+" "+d.Name)+", in resources "+cmp.Or(d.Resource, "customPlugin"))
		var rows [][]output.Cell
		for _, o := range d.Options {
			var notes []string
			if o.Required {
				notes = append(notes, "required")
			}
			if o.Sensitive {
				notes = append(notes, "secret")
			}
			if o.Since != "" {
				notes = append(notes, "since "+o.Since)
			}
			if len(o.Values) > 0 {
				notes = append(notes, strings.Join(o.Values, "|"))
			}
			value := o.Default
			if len(value) > 40 {
				value = value[:37] + "..."
			}
			rows = append(rows, output.Row(o.Key, o.Field, o.Type, value, strings.Join(notes, ", ")))
		}
		p.Table([]string{"OPTION", "FIELD", "TYPE", "DEFAULT", "NOTES"}, rows)
	}
}
