package fluentd

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pattern"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/format"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/parse"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/tap"
	"github.com/weft-dev/weft/logging/plugin"
)

// Options are what an engine takes besides its configuration.
type Options struct {
	Log       *slog.Logger
	Logger    func(part, level string) *slog.Logger // for one part, such as output:stdout:stdout.0; level is its @log_level, "" for that of all
	Level     func(name string)                     // called with log_level of <system>; may be nil
	Env       func(string) (string, bool)
	Now       func() time.Time
	Positions *input.Positions
	Stdout    io.Writer
	Grace     time.Duration // for delivering what waits at the end
	Records   []flow.Batch  // come instead of what the configuration's inputs bring; the engine ends after them
	// Catch gets what reaches an output instead of the output itself: for tests of configurations. May be nil.
	Catch func(output string, b flow.Batch)
	Tap   *tap.Hub // where records can be watched; nil: nowhere
}

// worker is one worker of Fluentd with the labels that its sections see. All workers are in this one process.
type worker struct {
	id     int
	labels map[string]*router // "" is the top
}

type builder struct {
	options Options
	logger  func(part, level, prefix string) *slog.Logger
	out     io.Writer
	engine  *Engine
	root    string // root_dir
	counts  map[string]int
	paths   map[string]*part // of file buffers
	// positions are the pos_files of sources.
	positions map[string]*part
	ids       map[string]config.Position
	faults    []error
	later     []func() // once all labels are there
}

// New makes an engine of a configuration. The error joins all faults, each a *config.Error with its place.
func New(file *config.File, o Options) (*Engine, error) {
	events := &logEvents{queue: make(chan flow.Batch, mostLogEvents)}
	plain := o.Logger
	o.Log = events.logger(o.Log, "")
	b := &builder{options: o, out: o.Stdout, logger: func(part, level, prefix string) *slog.Logger { return events.logger(plain(part, level), prefix) }, counts: map[string]int{}, paths: map[string]*part{}, positions: map[string]*part{}, ids: map[string]config.Position{},
		engine: &Engine{log: o.Log, events: events, now: o.Now, grace: o.Grace, positions: o.Positions, tap: o.Tap}}
	sections := evaluator{env: o.Env}.evaluated(file.Sections, b.fail)
	name := ""
	if len(file.Read) > 0 {
		name = file.Read[0]
	}
	b.build(sections, name)
	if err := errors.Join(b.faults...); err != nil {
		return nil, err
	}
	return b.engine, nil
}

func (b *builder) fail(pos config.Position, format string, args ...any) {
	b.faults = append(b.faults, &config.Error{Pos: pos, Message: fmt.Sprintf(format, args...)})
}

// add takes faults that may be joined.
func (b *builder) add(err error) {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
	case errors.As(err, &joined):
		for _, e := range joined.Unwrap() {
			b.add(e)
		}
	default:
		b.faults = append(b.faults, err)
	}
}

func (b *builder) done(p *part) {
	b.add(p.set.Done())
	p.finish(p.set)
}

// mostWorkers bounds what <system> may ask for.
const mostWorkers = 256

func (b *builder) build(sections []*config.Section, file string) {
	count := b.system(sections)
	workers := make([]*worker, count)
	for i := range workers {
		workers[i] = &worker{id: i, labels: map[string]*router{}}
		b.router(workers[i], "")
	}
	b.engine.workers = workers
	sources := 0
	for _, s := range sections {
		switch s.Kind {
		case "worker":
			some, err := workersOf(s.Arg, workers)
			if err != nil {
				b.fail(s.Pos, "<worker %s>: %v", s.Arg, err)
				continue
			}
			for _, inner := range s.Sections {
				if inner.Kind == "source" {
					sources++
				}
				b.top(inner, some)
			}
		case "source":
			sources++
			b.top(s, workers)
		default:
			b.top(s, workers)
		}
	}
	for _, f := range b.later {
		f()
	}
	if b.options.Records != nil {
		b.replay(workers[0], sections) // the log makes no events: a test would find them among its own
	} else {
		b.engine.logTo = b.engine.events.destination(workers[0], b.options.Log)
	}
	if b.options.Records == nil && sources == 0 {
		b.fail(config.Position{File: file}, "the configuration has no <source>")
	}
}

// top reads a section that may stand at the top.
func (b *builder) top(s *config.Section, workers []*worker) {
	switch s.Kind {
	case "system":
	case config.Service: // of the command line
	case "source":
		if b.options.Records == nil {
			b.source(s, workers[0]) // one of the workers takes what would be spread over all
		}
	case "filter", "match":
		b.rule(s, "", workers)
	case "label":
		b.labelSection(s, workers)
	default:
		b.fail(s.Pos, "<%s> cannot stand here; there are source, filter, match, label, worker and system", s.Kind)
	}
}

func (b *builder) labelSection(s *config.Section, workers []*worker) {
	if !strings.HasPrefix(s.Arg, "@") || s.Arg == "@ROOT" {
		b.fail(s.Pos, "<label %s>: the name of a label begins with @ and is not @ROOT", s.Arg)
		return
	}
	for _, w := range workers {
		if w.labels[s.Arg] != nil {
			b.fail(s.Pos, "the label %s is there twice; write it once", s.Arg)
			return
		}
		b.router(w, s.Arg)
	}
	for _, inner := range s.Sections {
		if inner.Kind != "filter" && inner.Kind != "match" {
			b.fail(inner.Pos, "<%s> cannot stand inside of <label>; there are filter and match", inner.Kind)
			continue
		}
		b.rule(inner, s.Arg, workers)
	}
}

func (b *builder) router(w *worker, label string) {
	name := label
	if name == "" {
		name = "@ROOT"
	}
	r := &router{name: label, part: &part{kind: "router", plugin: "router", name: name, log: b.logger("router:"+name, "", ""), worker: w}}
	w.labels[label] = r
	b.engine.routers = append(b.engine.routers, r)
}

// rule adds a <filter> or <match> to a label of some workers.
func (b *builder) rule(s *config.Section, label string, workers []*worker) {
	p, err := pattern.Parse(s.Arg)
	if err != nil {
		b.fail(s.Pos, "<%s %s>: %v", s.Kind, s.Arg, err)
		return
	}
	r := rule{pattern: p}
	if s.Kind == "filter" {
		if r.filter = b.filter(s, workers[0]); r.filter == nil {
			return
		}
	} else if r.output, _ = b.output(s, workers[0]); r.output == nil {
		return
	}
	for _, w := range workers {
		w.labels[label].rules = append(w.labels[label].rules, r)
	}
}

// workersOf reads the argument of <worker>: a number, or a range.
func workersOf(arg string, all []*worker) ([]*worker, error) {
	from, to, isRange := strings.Cut(arg, "-")
	if !isRange {
		to = from
	}
	first, err1 := strconv.Atoi(strings.TrimSpace(from))
	last, err2 := strconv.Atoi(strings.TrimSpace(to))
	switch {
	case err1 != nil || err2 != nil || first > last || first < 0:
		return nil, errors.New("it needs the number of a worker, or a range such as 0-2")
	case last >= len(all):
		return nil, fmt.Errorf("there are %d workers, counted from 0; set workers in <system>", len(all))
	}
	return all[first : last+1], nil
}

// system reads <system>, and gives the number of workers.
func (b *builder) system(sections []*config.Section) int {
	count := 1
	for _, s := range sections {
		if s.Kind != "system" {
			continue
		}
		for _, p := range s.Properties {
			switch p.Key {
			case "workers":
				n, err := strconv.Atoi(p.Value)
				if err != nil || n < 1 || n > mostWorkers {
					b.fail(p.ValuePos, "workers must be from 1 to %d", mostWorkers)
					continue
				}
				count = n
			case "root_dir":
				b.root = p.Value
			case "log_level":
				if !slices.Contains([]string{"fatal", "error", "warn", "info", "debug", "trace"}, p.Value) {
					b.fail(p.ValuePos, "there is no log_level %q; there are fatal, error, warn, info, debug and trace", p.Value)
				} else if b.options.Level != nil {
					b.options.Level(p.Value)
				}
			case "with_source_only":
				if on, err := config.ParseBool(p.Value); err != nil || on || p.Value == "" {
					b.fail(p.ValuePos, "with_source_only is not built into logagent")
				}
			case "process_name", "suppress_repeated_stacktrace", "emit_error_log_interval", "suppress_config_dump", "log_event_verbose", "ignore_repeated_log_interval",
				"ignore_same_log_interval", "enable_input_metrics", "enable_size_metrics", "enable_msgpack_time_support", "strict_config_value", "disable_shared_socket",
				"file_permission", "dir_permission", "enable_get_dump", "restart_worker_interval", "config_include_dir":
				// they tune the process or its own log in ways that have no meaning here
				b.options.Log.Info("the option changes nothing here", "option", p.Key, "at", p.Pos.String())
			case "rpc_endpoint": // the operator's configurations all have it; a reload comes by SIGHUP or by a changed file
				b.options.Log.Info("rpc_endpoint is not served; SIGHUP reads the configuration anew", "at", p.Pos.String())
			default:
				b.fail(p.Pos, "the option %q of <system> is not built into logagent; remove it, or use Fluentd for this configuration", p.Key)
			}
		}
		for _, inner := range s.Sections {
			if inner.Kind != "log" && inner.Kind != "metrics" {
				b.fail(inner.Pos, "<%s> is not built into logagent inside of <system>", inner.Kind)
				continue
			}
			b.options.Log.Info("the section changes nothing here: the log goes to standard error, metrics are always served", "section", inner.Kind, "at", inner.Pos.String())
		}
	}
	return count
}

// aliases are other names of plugins.
var aliases = map[string]string{"input dummy": "sample"}

// find makes the part of a section whose plugin is built in; nil, with a fault, if it is not.
func (b *builder) find(s *config.Section, kind string, built []string, w *worker) *part {
	name := s.Plugin()
	pos := s.Pos
	if p, ok := s.Get("@type"); ok {
		pos = p.ValuePos
	}
	if other, ok := aliases[kind+" "+name]; ok {
		name = other
	}
	table := plugin.Fluentd().Plugin(kind, name)
	switch {
	case name == "":
		b.fail(s.Pos, "<%s> needs @type; logagent has %s", s.Kind, strings.Join(built, ", "))
		return nil
	case !slices.Contains(built, name) || table == nil:
		b.fail(pos, "the %s %q of Fluentd is not built into logagent, which has %s; use Fluentd for this configuration", kind, name, strings.Join(built, ", "))
		return nil
	}
	return b.newPart(s, kind, name, table, w)
}

func (b *builder) newPart(s *config.Section, kind, name string, table *plugin.Plugin, w *worker) *part {
	p := &part{kind: kind, plugin: name, section: s, worker: w, hub: b.options.Tap, set: options.New(s, table, nil)}
	p.name = name + "." + strconv.Itoa(b.counts[kind+name])
	b.counts[kind+name]++
	if id := s.Value("@id"); id != "" {
		if other, ok := b.ids[id]; ok {
			b.fail(s.Pos, "the @id %q is used at %s as well; each must be unique", id, other)
		}
		b.ids[id] = s.Pos
		p.name = id
	}
	prefix := ""
	if s.Value("@id") != "" {
		prefix = "[" + p.name + "] "
	}
	p.set.Ignore("@id", "@label", "type")
	p.log = b.logger(kind+":"+name+":"+p.name, p.set.String("@log_level"), prefix)
	b.engine.parts = append(b.engine.parts, p)
	return p
}

// Names are the plugins that are built in.
func Names() (inputsBuilt, filtersBuilt, outputsBuilt []string) {
	return names(inputs()), names(filters()), names(outputs())
}

func names[T any](built map[string]T) []string { return slices.Sorted(maps.Keys(built)) }

func (b *builder) filter(s *config.Section, w *worker) *filterPart {
	p := b.find(s, config.Filter, names(filters()), w)
	if p == nil {
		return nil
	}
	f := &filterPart{p, filters()[p.plugin](b, p)}
	b.done(p)
	return f
}

// output makes the output of a <match> or <store>.
func (b *builder) output(s *config.Section, w *worker) (target, *part) {
	p := b.find(s, config.Output, names(outputs()), w)
	if p == nil {
		return nil, nil
	}
	if b.options.Catch != nil && p.plugin != "copy" && p.plugin != "relabel" && p.plugin != "label_router" {
		return &caught{p, b.options.Catch}, p
	}
	t := outputs()[p.plugin](b, p)
	b.done(p)
	if t != nil && b.options.Tap != nil {
		t = &shown{t, p}
	}
	return t, p
}

// label is the router that @label names.
func (b *builder) label(p *part, name config.Property) *router {
	label := name.Value
	if label == "@ROOT" {
		label = ""
	}
	r := p.worker.labels[label]
	if r == nil {
		b.fail(name.ValuePos, "there is no <label %s>", name.Value)
	}
	return r
}

func (b *builder) parser(p *part, other string) *parse.Parser {
	s := p.child("parse")
	if s == nil {
		s = &config.Section{Kind: "parse", Pos: p.section.Pos}
		if other == "" {
			p.set.FailAt(p.section.Pos, "%s needs a <parse> section", p.plugin)
			other = "none"
		}
	}
	made, err := parse.New(s, other, b.options.Now)
	if err != nil {
		p.set.Join(err)
	} else {
		p.tell(made.Passed)
	}
	return made
}

func (b *builder) formatter(p *part, other string) *format.Formatter {
	made, err := format.New(p.child("format"), other)
	if err != nil {
		p.set.Join(err)
	} else {
		p.tell(made.Passed)
	}
	return made
}
