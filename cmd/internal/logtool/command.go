package logtool

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/logging"
	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/lint"
	"github.com/weft-dev/weft/logging/resource"
)

// Tool is the verbs and how they speak.
type Tool struct {
	Print func() *output.Printer
	Stdin io.Reader
	// Stdout is for what has no end; all else goes through Print.
	Stdout io.Writer
	// Kubectl is a command of kubectl against the chosen cluster, not yet started.
	Kubectl func(ctx context.Context, args ...string) (*exec.Cmd, error)
}

// Commands are the verbs of `weft log`.
func (t Tool) Commands() []*cobra.Command {
	return []*cobra.Command{t.render(), t.lint(), t.explain(), t.diff(), t.convert(), t.run(), t.test(), t.tap(), t.plugins()}
}

func (t Tool) loader(c *cobra.Command) *loader {
	l := &loader{stdin: t.Stdin}
	flags := c.Flags()
	flags.StringVarP(&l.namespace, "namespace", "n", "fluent", "`namespace` of the agents and of the Secrets of cluster-wide resources")
	flags.BoolVar(&l.strict, "strict", false, "take Secrets and ConfigMaps that are not among the files as missing")
	return l
}

// rendered is one configuration as JSON.
type rendered struct {
	Engine    string            `json:"engine"`
	Namespace string            `json:"namespace"`
	Secret    string            `json:"secret"`
	Hash      string            `json:"hash,omitempty"`
	Files     map[string]string `json:"files"`
}

func (t Tool) render() *cobra.Command {
	var folder string
	c := &cobra.Command{
		Use:   "render PATH...",
		Short: "Show the configurations that resources become",
		Long: "Render reads Fluent Operator's resources from files and folders and shows the files that the agents get. A resource with an error is left out and told\n" +
			"on standard error; the rest is rendered. Values of Secrets are shown as <NAMESPACE/NAME:KEY> unless --reveal is given.",
		Example: `  weft log render logging/
  weft log render logging/ --to /tmp/out
  kubectl get clusterinputs,clusteroutputs,clusterfluentbitconfigs -o yaml | weft log render -`,
		Args: cobra.MinimumNArgs(1),
	}
	l := t.loader(c)
	c.Flags().StringVar(&folder, "to", "", "write the files into this `folder` instead")
	c.Flags().BoolVar(&l.reveal, "reveal", false, "show the values of Secrets")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, result, err := t.planned(cmd, l, args)
		if err != nil {
			return err
		}
		s.remark(t.Print())
		all := []rendered{}
		for _, configuration := range result.Configurations {
			if configuration.Files == nil {
				continue
			}
			r := rendered{configuration.Engine, configuration.Namespace, configuration.Secret, configuration.Hash, map[string]string{}}
			for name, data := range configuration.Files {
				r.Files[name] = string(data)
			}
			all = append(all, r)
		}
		if folder != "" {
			if err := write(folder, all); err != nil {
				return err
			}
			t.Print().Remark("%d configurations written to %s", len(all), folder)
		} else if err := t.Print().Result(all, func(p *output.Page) { renderedPage(p, all) }); err != nil {
			return err
		}
		return t.tell(result.Problems)
	}
	return c
}

// planned reads resources and plans them.
func (t Tool) planned(cmd *cobra.Command, l *loader, args []string) (*source, *logging.Result, error) {
	s, err := l.load(cmd.Context(), args)
	if err != nil {
		return nil, nil, err
	}
	if s.documents == nil {
		return nil, nil, output.Advise(output.Usagef("%s is a configuration and no resource", args[0]), "`weft log convert` makes resources of it.")
	}
	result := l.plan(s)
	if len(result.Configurations) == 0 && len(result.Problems) == 0 {
		return nil, nil, output.Advise(fmt.Errorf("no ClusterFluentBitConfig, ClusterFluentdConfig or FluentdConfig is among the resources"), "Give the files that hold one too; it selects the others.")
	}
	return s, result, nil
}

func write(folder string, all []rendered) error {
	for _, r := range all {
		at := filepath.Join(folder, r.Namespace, r.Secret)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		for name, text := range r.Files {
			if err := os.WriteFile(filepath.Join(at, filepath.Base(name)), []byte(text), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

func renderedPage(p *output.Page, all []rendered) {
	for _, r := range all {
		for _, name := range slices.Sorted(maps.Keys(r.Files)) {
			if r.Files[name] == "" {
				continue
			}
			p.Line("%s", p.Paint(output.Bold, fmt.Sprintf("# %s/%s: %s", r.Namespace, r.Secret, name)))
			p.Line("%s", strings.TrimSuffix(r.Files[name], "\n"))
		}
	}
}

// tell prints problems on standard error and gives exit code 1 if one is an error.
func (t Tool) tell(problems []resource.Problem) error {
	failed := false
	for _, p := range problems {
		if p.Severity == resource.Error {
			failed = true
			t.Print().Error(problem(p))
		} else {
			t.Print().Warn("%v", p)
		}
	}
	if failed {
		return output.Exit{Code: output.Failed}
	}
	return nil
}

func problem(p resource.Problem) error {
	what := p.Resource + ": " + p.Message
	if p.Field != "" {
		what = p.Resource + ": " + p.Field + ": " + p.Message
	}
	if p.Place != "" {
		what = p.Place + ": " + what
	}
	return fmt.Errorf("%s", what)
}

// finding is a line of lint's answer.
type finding struct {
	Place    string            `json:"place,omitempty"`
	Resource string            `json:"resource,omitempty"`
	Field    string            `json:"field,omitempty"`
	Severity resource.Severity `json:"severity"`
	Reason   string            `json:"reason"`
	Message  string            `json:"message"`
}

func (t Tool) lint() *cobra.Command {
	c := &cobra.Command{
		Use:   "lint PATH...",
		Short: "Check resources, or configurations of Fluent Bit and Fluentd",
		Long: "Lint checks each resource alone and in its pipeline, or the configuration files of an engine (classic, YAML, Fluentd): unknown options, wrong types,\n" +
			"missing options, references to nothing, parsers that do not exist, ports taken twice, outputs that no record reaches, regular expressions that do not\n" +
			"compile or that explode. It ends with 1 if there is an error.",
		Example: `  weft log lint logging/
  weft log lint /etc/fluent-bit/fluent-bit.conf
  weft log lint fluent.conf -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	l := t.loader(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := l.load(cmd.Context(), args)
		if err != nil {
			return err
		}
		all := []finding{}
		for _, f := range s.files {
			for _, x := range lint.File(f) {
				all = append(all, finding{Place: x.Place, Severity: x.Severity, Reason: x.Reason, Message: x.Message})
			}
		}
		if s.documents != nil {
			result := l.plan(s)
			for _, p := range result.Problems {
				all = append(all, finding{p.Place, p.Resource, p.Field, p.Severity, p.Reason, p.Message})
			}
		}
		s.remark(t.Print())
		if err := t.Print().Result(all, func(p *output.Page) { findingsPage(p, all) }); err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(f finding) bool { return f.Severity == resource.Error }) {
			return output.Exit{Code: output.Failed}
		}
		return nil
	}
	return c
}

func findingsPage(p *output.Page, all []finding) {
	if len(all) == 0 {
		p.Line("%s", p.Paint(output.Green, "nothing is wrong"))
	}
	for _, f := range all {
		colour := output.Red
		if f.Severity == resource.Warning {
			colour = output.Yellow
		}
		parts := slices.DeleteFunc([]string{f.Place, f.Resource, f.Field, f.Message}, func(s string) bool { return s == "" })
		p.Line("%s: %s (%s)", p.Paint(colour, string(f.Severity)), strings.Join(parts, ": "), f.Reason)
	}
}

func formatOf(name string) (config.Format, error) {
	switch strings.ToLower(name) {
	case "classic", "conf":
		return config.Classic, nil
	case "yaml":
		return config.YAML, nil
	case "fluentd":
		return config.Fluentd, nil
	}
	return "", output.Usagef("there is no format %q; there are classic, yaml, fluentd and resources", name)
}
