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
	var level string
	c := &cobra.Command{
		Use:   "run PATH...",
		Short: "Run a pipeline here, of a configuration of Fluent Bit or Fluentd, or of resources",
		Long: "Run executes the configuration in this process until it is interrupted or its inputs end. Of resources it runs what a ClusterFluentBitConfig selects. What the outputs\n" +
			"print goes to standard output, what the pipeline says to standard error. A plugin that is not built is refused by name.",
		Example: `  weft log run fluent-bit.conf
  weft log run fluent.conf
  weft log run logging/ --log-level debug`,
		Args: cobra.MinimumNArgs(1),
	}
	l := t.loader(c)
	c.Flags().StringVar(&level, "log-level", "info", "`level`: off, error, warn, info, debug or trace")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		l.reveal = true
		s, err := l.load(cmd.Context(), args)
		if err != nil {
			return err
		}
		file, err := t.runnable(l, s)
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

// runnable is the one configuration that files make, or the one of Fluent Bit that resources make.
func (t Tool) runnable(l *loader, s *source) (*config.File, error) {
	if s.documents == nil {
		if len(s.files) != 1 {
			return nil, output.Usagef("give one configuration; it includes others by itself")
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
		if c.Engine != "fluentbit" || c.Files == nil {
			continue
		}
		if found != nil {
			return nil, output.Advise(fmt.Errorf("the resources make several configurations (%s/%s and %s/%s)", found.Namespace, found.Secret, c.Namespace, c.Secret), "Give the files of one.")
		}
		found = c
	}
	if found == nil {
		return nil, output.Advise(errors.New("the resources make no configuration of Fluent Bit that can be run"), "`weft log lint` tells what is wrong.")
	}
	return rendering(found)
}

// rendering reads a rendered configuration as the agent does.
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
