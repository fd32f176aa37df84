package logtool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/logging"
	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline"
)

func (t Tool) run() *cobra.Command {
	var level, engine string
	c := &cobra.Command{
		Use:   "run PATH...",
		Short: "Run a pipeline here, of a configuration of Fluent Bit or Fluentd, or of resources",
		Long: "Run executes the configuration in this process until it is interrupted or its inputs end. Of resources it runs what a ClusterFluentBitConfig selects, or\n" +
			"the configuration of a Fluentd. What the outputs print goes to standard output, what the pipeline says to standard error. A plugin that is not built is refused by name.",
		Example: `  weft log run fluent-bit.conf
  weft log run fluent.conf
  weft log run logging/ --log-level debug
  weft log run logging/ --engine fluentd`,
		Args: cobra.MinimumNArgs(1),
	}
	l := t.loader(c)
	c.Flags().StringVar(&level, "log-level", "info", "`level`: off, error, warn, info, debug or trace")
	c.Flags().StringVar(&engine, "engine", "", "of resources for both engines, run those of this `engine`: fluentbit or fluentd")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		l.reveal = true
		if engine != "" && engineName(engine) == "" {
			return output.Usagef("--engine: there is no engine %q; there are fluentbit and fluentd", engine)
		}
		s, err := l.load(cmd.Context(), args)
		if err != nil {
			return err
		}
		file, err := t.runnable(l, s, engine)
		if err != nil {
			return err
		}
		at, err := pipeline.ParseLevel(level)
		if err != nil {
			return output.Usagef("--log-level: %v", err)
		}
		v := new(slog.LevelVar)
		v.Set(at)
		engine, err := pipeline.New(file, pipeline.Options{Log: pipeline.NewLogger(os.Stderr, v)})
		if err != nil {
			return faults(err)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return engine.Run(ctx)
	}
	return c
}

// engineName is how an engine is called in sentences; "" if there is none of this name.
func engineName(engine string) string {
	return map[string]string{"fluentbit": "Fluent Bit", "fluentd": "Fluentd"}[engine]
}

// runnable is the one configuration that files make, or the one that resources make, for an engine if it is not "".
func (t Tool) runnable(l *loader, s *source, engine string) (*config.File, error) {
	if s.documents == nil {
		if len(s.files) != 1 {
			return nil, output.Usagef("give one configuration; it includes others by itself")
		}
		if engine != "" {
			return nil, output.Usagef("an engine is chosen of resources only; this is a configuration")
		}
		return s.files[0], nil
	}
	result := l.plan(s)
	s.remark(t.Print())
	if err := t.tell(result.Problems); err != nil && len(result.Configurations) == 0 {
		return nil, err
	}
	var found *logging.Configuration
	for _, c := range result.Configurations {
		if c.Files == nil || engine != "" && c.Engine != engine {
			continue
		}
		if found != nil {
			advice := "Give the files of one."
			if found.Engine != c.Engine {
				advice = "Choose an engine: --engine of `weft log run`, engine: in a file of tests."
			}
			return nil, output.Advise(fmt.Errorf("the resources make several configurations (%s/%s of %s and %s/%s of %s)", found.Namespace, found.Secret, engineName(found.Engine),
				c.Namespace, c.Secret, engineName(c.Engine)), advice)
		}
		found = c
	}
	if found == nil {
		of := "that can be run"
		if engine != "" {
			of = "of " + engineName(engine) + " that can be run"
		}
		return nil, output.Advise(errors.New("the resources make no configuration "+of), "`weft log lint` tells what is wrong.")
	}
	if found.Engine == "fluentd" {
		return fluentdRendering(found)
	}
	return rendering(found)
}

// fluentdRendering reads a rendered configuration of Fluentd with what it includes.
func fluentdRendering(c *logging.Configuration) (*config.File, error) {
	const main = "fluent.conf"
	open := func(name string) ([]byte, error) {
		if data, ok := c.Files[path.Base(name)]; ok && path.Dir(name) == "/fluentd/etc" {
			return data, nil
		}
		return os.ReadFile(name)
	}
	return config.Parse(c.Namespace+"/"+c.Secret+"/"+main, c.Files[main], config.Options{Open: open, Format: config.Fluentd})
}

// rendering reads a rendered configuration of Fluent Bit as the agent does.
func rendering(c *logging.Configuration) (*config.File, error) {
	name := "fluent-bit.conf"
	if c.Files["fluent-bit.yaml"] != nil {
		name = "fluent-bit.yaml"
	}
	open := func(name string) ([]byte, error) {
		if data, ok := c.Files[path.Base(name)]; ok && (strings.HasPrefix(name, "/fluent-bit/config/") || path.Base(name) == name) {
			return data, nil
		}
		return os.ReadFile(name)
	}
	f, err := config.Parse(c.Namespace+"/"+c.Secret+"/"+name, c.Files[name], config.Options{Open: open, Parsers: true, MissingParsers: func(string) bool { return true }})
	if err != nil {
		return nil, err
	}
	for _, parsers := range []string{"parsers.conf", "parsers_multiline.conf"} { // of resources' parsers, whether the service names the files or not
		if len(c.Files[parsers]) == 0 || contains(f, parsers) {
			continue
		}
		p, err := config.Parse(parsers, c.Files[parsers], config.Options{Format: config.Classic})
		if err != nil {
			return nil, err
		}
		f.Sections = append(f.Sections, p.Sections...)
	}
	return f, nil
}

func contains(f *config.File, name string) bool {
	for _, read := range f.Read {
		if path.Base(read) == name {
			return true
		}
	}
	return false
}

// play runs records through a configuration and gives what each output got.
func play(ctx context.Context, file *config.File, o pipeline.Options) error {
	engine, err := pipeline.New(file, o)
	if err != nil {
		return faults(err)
	}
	return engine.Run(ctx)
}

// faults shows the places of a configuration's faults.
func faults(err error) error {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return placed(err)
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, placed(e))
	}
	return errors.Join(all...)
}

func placed(err error) error {
	var fault *config.Error
	if errors.As(err, &fault) {
		return &output.Problem{What: fault.Message, File: fault.Pos.File, Line: fault.Pos.Line, Column: fault.Pos.Column}
	}
	return err
}
