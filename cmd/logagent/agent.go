package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/tap"
)

var errConfig = errors.New("the configuration cannot be used")

// agent runs one pipeline after the other: a new one for each reload.
type agent struct {
	command *command
	log     *slog.Logger
	level   *slog.LevelVar
	stderr  io.Writer
	out     *logOutput
	asked   chan chan error // reloads asked for over HTTP

	hub *tap.Hub // nil without --tap

	mu   sync.Mutex
	read []string // the files of the configuration that was read last
}

// files are those whose change leads to a reload.
func (a *agent) files() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.read
}

// tell prints the faults of a configuration, a line each.
func (a *agent) tell(err error) {
	fmt.Fprintln(a.stderr, err)
}

// load reads the configuration file and adds what the command line says.
func (a *agent) load() (*config.File, error) {
	c := a.command
	file := &config.File{Format: config.Classic, Read: []string{commandLine.File}}
	if len(c.files) > 0 {
		name, err := first(c.files)
		if err != nil {
			return nil, err
		}
		if file, err = config.Load(name, config.Options{Parsers: true, MissingParsers: a.missing}); err != nil {
			return nil, err
		}
	}
	if file.Format == config.Fluentd && len(c.sections) > 0 {
		return nil, fmt.Errorf("%s is a configuration of Fluentd; inputs, filters and outputs of the command line are those of Fluent Bit, and cannot be added to it", file.Read[0])
	}
	file.Sections = append(file.Sections, c.service)
	file.Sections = append(file.Sections, c.sections...)
	for _, p := range c.service.Properties {
		if p.Key != "parsers_file" {
			continue
		}
		parsers, err := config.Load(p.Value, config.Options{})
		if err != nil {
			return nil, err
		}
		file.Sections = append(file.Sections, parsers.Sections...)
	}
	a.mu.Lock()
	a.read = file.Read
	a.mu.Unlock()
	for _, s := range c.sections {
		_, match := s.Get("match")
		_, regex := s.Get("match_regex")
		if s.Kind == config.Output && !match && !regex {
			s.Add("match", "*")
		}
	}
	return file, nil
}

// missing lets a parsers file of the engine's image be absent: its parsers are built in.
func (a *agent) missing(name string) bool {
	return filepath.Dir(name) == "/fluent-bit/etc"
}

func (a *agent) engine(positions *input.Positions, reloads int) (*pipeline.Engine, error) {
	file, err := a.load()
	if err != nil {
		return nil, err
	}
	o := pipeline.Options{Log: a.log, Positions: positions, Reloads: reloads, Tap: a.hub, LogFile: a.command.logFile == ""}
	if !a.command.levelSet {
		o.Level = a.level
	}
	if a.hot(file) && a.asked != nil {
		o.Reload = a.ask
	}
	if a.command.logFile != "" || a.command.dryRun { // the command line goes before the service
		return pipeline.New(file, o)
	}
	log, err := openLog(file)
	if err != nil {
		return nil, err
	}
	old := a.out.use(log)
	engine, err := pipeline.New(file, o)
	if err != nil {
		old = a.out.use(old) // the pipeline before goes on, with its log
	}
	if old != nil {
		if failed := old.Close(); failed != nil {
			a.log.Error("closing a file of the log", "error", failed)
		}
	}
	return engine, err
}

// hot tells whether reloading is allowed.
func (a *agent) hot(file *config.File) bool {
	if a.command.hotReload || file.Format == config.Fluentd { // Fluentd reads its configuration anew on SIGHUP, without being asked to
		return true
	}
	for _, s := range file.All(config.Service) {
		if on, err := config.ParseBool(s.Value("hot_reload")); err == nil && on {
			return true
		}
	}
	return false
}

// ask hands a reload that came over HTTP to run and waits for what comes of it.
func (a *agent) ask() error {
	answer := make(chan error, 1)
	a.asked <- answer
	return <-answer
}

// run runs the pipeline until ctx ends. A reload reads the configuration first: one that cannot be used changes nothing.
func (a *agent) run(ctx context.Context, hangup chan os.Signal) error {
	a.asked = make(chan chan error)
	if a.command.tap != "" {
		stop, err := a.showRecords()
		if err != nil {
			return fmt.Errorf("--tap: %w", err)
		}
		defer stop()
	}
	positions := input.NewPositions()
	engine, err := a.engine(positions, 0)
	if err != nil {
		a.tell(err)
		return errConfig
	}
	if a.command.watch {
		ctx, stop := context.WithCancel(ctx)
		var watching sync.WaitGroup
		defer watching.Wait()
		defer stop()
		watching.Go(func() { watch(ctx, a.files, hangup) })
	}
	for reloads := 0; ; reloads++ {
		next, err := a.until(ctx, engine, hangup, positions, reloads)
		if err != nil || next == nil {
			return err
		}
		engine = next
	}
}

// showRecords opens the socket of --tap.
func (a *agent) showRecords() (stop func(), err error) {
	l, err := tap.Listen(a.command.tap)
	if err != nil {
		return nil, err
	}
	a.hub = new(tap.Hub)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := tap.Serve(l, a.hub, pipeline.Match); err != nil {
			a.log.Error("records are not shown any more", "error", err)
		}
	})
	return func() {
		l.Close()
		serving.Wait()
	}, nil
}

// readTap prints what another agent shows.
func readTap(ctx context.Context, c *command, stdout io.Writer) error {
	query, err := url.ParseQuery(c.tapQuery)
	if err != nil {
		return fmt.Errorf("--tap-query: %w", err)
	}
	path := "records"
	if c.tapQuery == "" {
		path = "points"
	}
	answer, err := tap.Ask(ctx, c.tapRead, path, query)
	if err != nil {
		return err
	}
	defer answer.Close()
	_, err = io.Copy(stdout, answer)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// until runs one pipeline until it ends or the next one is ready.
func (a *agent) until(ctx context.Context, engine *pipeline.Engine, hangup <-chan os.Signal, positions *input.Positions, reloads int) (*pipeline.Engine, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(running) }()
	reload := func() (*pipeline.Engine, error) {
		next, err := a.engine(positions, reloads+1)
		if err != nil {
			a.log.Error("the configuration is not reloaded; the pipeline goes on as it is", "error", err)
		}
		return next, err
	}
	for {
		var next *pipeline.Engine
		select {
		case err := <-ended:
			return nil, err
		case <-hangup:
			if file, err := a.load(); err == nil && !a.hot(file) {
				a.log.Warn("SIGHUP: reloading is not enabled; start with --enable-hot-reload or set Hot_Reload on")
				continue
			}
			next, _ = reload() // its error was logged
		case answer := <-a.asked:
			var err error
			next, err = reload()
			answer <- err
		}
		if next == nil {
			continue
		}
		a.log.Info("the configuration is reloaded")
		stop()
		if err := <-ended; err != nil {
			a.log.Error("the pipeline before the reload", "error", err)
		}
		return next, nil
	}
}
