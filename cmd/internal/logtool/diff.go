package logtool

import (
	"context"
	"maps"
	"slices"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/logging/config"
)

// change is a file that differs.
type change struct {
	File string `json:"file"`
	Diff string `json:"diff"`
}

func (t Tool) diff() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Compare what two sets of resources, or two configurations, become",
		Long:  "Diff renders both sides and compares the files line by line. Configuration files are read and written anew first, so that blanks and comments do not count.",
		Example: `  weft log diff before/ after/
  weft log diff fluent-bit.conf fluent-bit.yaml`,
		Args: cobra.ExactArgs(2),
	}
	l := t.loader(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var sides [2]map[string]string
		for i, path := range args {
			files, err := t.side(cmd.Context(), l, path)
			if err != nil {
				return err
			}
			sides[i] = files
		}
		names := maps.Clone(sides[0])
		maps.Copy(names, sides[1])
		changes := []change{}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if text := diff.Diff(args[0]+": "+name, []byte(sides[0][name]), args[1]+": "+name, []byte(sides[1][name])); len(text) > 0 {
				changes = append(changes, change{name, string(text)})
			}
		}
		return t.Print().Result(changes, func(p *output.Page) {
			if len(changes) == 0 {
				p.Line("no difference")
			}
			for _, c := range changes {
				_, _ = p.Write([]byte(c.Diff))
			}
		})
	}
	return c
}

// side are the files of one side by name.
func (t Tool) side(ctx context.Context, l *loader, path string) (map[string]string, error) {
	s, err := l.load(ctx, []string{path})
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, f := range s.files {
		format := config.YAML
		if f.Format == config.Fluentd {
			format = config.Fluentd
		}
		text, err := config.Write(f, format)
		if err != nil {
			return nil, err
		}
		files["configuration"] += string(text)
	}
	if s.documents == nil {
		return files, nil
	}
	result := l.plan(s)
	for _, c := range result.Configurations {
		for name, text := range c.Files {
			files[c.Namespace+"/"+c.Secret+"/"+name] = string(text)
		}
	}
	for _, p := range result.Problems {
		t.Print().Warn("%s: %v", path, p)
	}
	return files, nil
}
