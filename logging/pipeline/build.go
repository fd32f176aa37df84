package pipeline

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/filter"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/multiline"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/output"
	"github.com/weft-dev/weft/logging/pipeline/parser"
	"github.com/weft-dev/weft/logging/pipeline/regex"
	"github.com/weft-dev/weft/logging/pipeline/storage"
	"github.com/weft-dev/weft/logging/pipeline/tap"
	"github.com/weft-dev/weft/logging/plugin"
)

// Options are what an engine takes besides its configuration.
type Options struct {
	Log       *slog.Logger                // nil: nothing is logged
	Level     *slog.LevelVar              // set by log_level of the service; may be nil
	Env       func(string) (string, bool) // nil: the process's environment
	Now       func() time.Time            // nil: the clock
	Positions *input.Positions            // where inputs of an earlier configuration stopped; may be nil
	Reload    func() error                // asks for a reload; nil if there is none
	Reloads   int                         // so far
	LogFile   bool                        // the caller opens Log_File of the service, if there is one
	Tap       *tap.Hub                    // where records can be watched; nil: nowhere
	Records   []flow.Batch                // come instead of what the configuration's inputs bring; the engine ends after them. For tests of configurations
	// Catch gets what reaches an output of a configuration of Fluentd, instead of the output itself; for tests of configurations. May be nil.
	Catch func(output string, b flow.Batch)
}

// service is the options of the service section.
type service struct {
	flush, grace      time.Duration
	httpServer        bool
	httpListen        string
	httpPort          int
	hotReload         bool
	healthCheck       bool
	hcErrors, hcRetry int
	hcPeriod          time.Duration
	storageMetrics    bool
	reload            func() error
	reloads           int
}

// New makes an engine of a configuration of Fluent Bit or Fluentd. The error joins all faults, each a *config.Error with its place.
func New(file *config.File, o Options) (*Engine, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Positions == nil {
		o.Positions = input.NewPositions()
	}
	b := &builder{file: file, options: o, env: environment(file, o.Env), counts: map[string]int{}, forwards: map[*outputPart]config.Position{},
		engine: &Engine{log: o.Log, now: o.Now, began: o.Now(), positions: o.Positions, tap: o.Tap}}
	b.build()
	if err := errors.Join(b.faults...); err != nil {
		for _, o := range b.engine.outputs {
			err = errors.Join(err, o.output.Close())
		}
		return nil, err
	}
	return b.engine, nil
}

// environment answers ${NAME}: what the file sets goes before the process's environment.
func environment(file *config.File, process func(string) (string, bool)) func(string) (string, bool) {
	if process == nil {
		process = os.LookupEnv
	}
	set := map[string]string{}
	for _, p := range file.Env {
		set[p.Key] = p.Value
	}
	return func(name string) (string, bool) {
		if v, ok := set[name]; ok {
			return v, true
		}
		return process(name)
	}
}

type builder struct {
	file      *config.File
	options   Options
	env       func(string) (string, bool)
	engine    *Engine
	parsers   parser.Set
	multiline multiline.Set
	counts    map[string]int
	inherited string                          // storage.type for inputs that have none
	joined    int                             // bytes of a message made of lines, 0 for any number
	metrics   []string                        // the tags of inputs that bring metrics
	forwards  map[*outputPart]config.Position // outputs that would get metrics from Fluent Bit and cannot here
	faults    []error
}

func (b *builder) fail(pos config.Position, format string, args ...any) {
	b.faults = append(b.faults, &config.Error{Pos: pos, Message: fmt.Sprintf(format, args...)})
}

func (b *builder) done(o *options.Set) {
	if err := o.Done(); err != nil {
		b.faults = append(b.faults, err)
	}
	for _, option := range o.Passed() {
		b.options.Log.Info("the option changes nothing here", "option", option.Key, "at", option.Pos.String())
	}
}

func (b *builder) build() {
	if b.file.Format == config.Fluentd { // its sections are other things under partly the same names
		b.fluentd()
		return
	}
	b.service()
	var err error
	if b.parsers, err = parser.NewSet(b.file.Sections, b.env, b.options.Now); err != nil {
		b.faults = append(b.faults, err)
	}
	if b.multiline, err = multiline.NewSet(b.file.Sections, b.parsers, b.env, b.options.Now); err != nil {
		b.faults = append(b.faults, err)
	}
	for _, s := range b.file.Sections {
		switch s.Kind {
		case config.Input:
			if b.options.Records == nil {
				b.input(s)
			}
		case config.Filter:
			b.filter(s)
		case config.Output:
			b.output(s)
		case config.Custom, config.StreamTask, config.Plugins, config.Upstream:
			b.fail(s.Pos, "sections %q are not built into logagent", s.Kind)
		}
	}
	for o, pos := range b.forwards {
		for _, tag := range b.metrics {
			if o.takes(tag) {
				b.fail(pos, "the output %s of logagent sends no metrics, and its Match takes those with the tag %q; narrow it", o.plugin, tag)
			}
		}
	}
	e := b.engine
	e.router.filters, e.router.outputs = e.filters, e.outputs
	if b.options.Records != nil {
		b.replay()
	} else if len(b.file.All(config.Input)) == 0 {
		b.fail(config.Position{File: b.name()}, "the configuration has no input; add an [INPUT]")
	}
}

func (b *builder) name() string {
	if len(b.file.Read) > 0 {
		return b.file.Read[0]
	}
	return ""
}

func (b *builder) service() {
	section := &config.Section{Kind: config.Service, Pos: config.Position{File: b.name()}}
	for _, s := range b.file.All(config.Service) {
		section.Pos = s.Pos
		section.Properties = append(section.Properties, s.Properties...)
	}
	o := options.New(section, plugin.FluentBit().Plugin("service", "service"), b.env)
	e := b.engine
	s := &e.service
	s.flush = o.Duration("flush")
	if s.flush <= 0 {
		s.flush = time.Second
	}
	s.flush = max(s.flush, 10*time.Millisecond)
	s.grace = time.Duration(o.Int("grace")) * time.Second
	s.httpServer, s.httpListen, s.httpPort = o.Bool("http_server"), o.String("http_listen"), o.Int("http_port")
	if s.httpServer && !o.Has("http_listen") {
		s.httpListen = "127.0.0.1"
	}
	s.hotReload, s.healthCheck = o.Bool("hot_reload"), o.Bool("health_check")
	s.hcErrors, s.hcRetry, s.hcPeriod = o.Int("hc_errors_count"), o.Int("hc_retry_failure_count"), time.Duration(o.Int("hc_period"))*time.Second
	s.reload, s.reloads = b.options.Reload, b.options.Reloads
	if level, err := ParseLevel(o.String("log_level")); err != nil {
		o.Failf("log_level", "%v", err)
	} else if b.options.Level != nil && o.Has("log_level") {
		b.options.Level.Set(level)
	}
	e.base, e.cap = time.Duration(o.Int("scheduler.base"))*time.Second, time.Duration(o.Int("scheduler.cap"))*time.Second
	if e.base < time.Second || e.cap < e.base {
		o.Failf("scheduler.base", "scheduler.base must be at least 1 and at most scheduler.cap (in seconds)")
	}
	b.storage(o)
	b.joined = int(o.Size("multiline_buffer_limit")) // 0 for none
	// The files are read with the configuration; NaN is null in JSON, and chunks have checksums, whatever is asked for.
	o.Ignore("parsers_file", "json.convert_nan_to_null", "storage.checksum")
	if b.options.LogFile {
		o.Ignore("log_file")
	} else {
		o.Pass("log_file")
	}
	if o.Bool("json.escape_unicode") {
		o.Tell("json.escape_unicode") // texts are UTF-8, as off asks for
	}
	o.Pass("daemon", "hot_reload.ensure_thread_safety", "hot_reload.timeout", "coro_stack_size", "dns.mode", "dns.resolver", "dns.prefer_ipv4", "dns.prefer_ipv6", "storage.trim_files", "windows.maxstdio",
		"sp.convert_from_str_to_num")
	b.done(o)
}

func (b *builder) storage(o *options.Set) {
	e := b.engine
	e.maxUp = int64(o.Int("storage.max_chunks_up"))
	e.service.storageMetrics = o.Bool("storage.metrics")
	full := strings.EqualFold(o.String("storage.sync"), "full")
	// What an earlier run left is always among what is delivered at the end.
	o.Ignore("storage.backlog.flush_on_shutdown")
	// Who writes storage.type here means the inputs: they have it also without storage.inherit, which Fluent Bit asks for besides.
	if !o.Has("storage.inherit") || o.Bool("storage.inherit") {
		b.inherited = strings.ToLower(b.serviceValue("storage.type"))
		o.Ignore("storage.type")
	} else {
		o.Pass("storage.type")
	}
	e.removeDamaged = o.Bool("storage.delete_irrecoverable_chunks")
	if o.Has("storage.backlog.mem_limit") {
		e.backlogLimit = o.Size("storage.backlog.mem_limit")
	}
	keep, rejected, limit := o.Bool("storage.keep.rejected"), o.String("storage.rejected.path"), o.Size("storage.rejected.limit")
	path := o.String("storage.path")
	if path == "" {
		return
	}
	folder, err := storage.Open(path, full)
	if err != nil {
		o.Failf("storage.path", "%v", err)
		return
	}
	e.folder = folder
	if keep {
		if rejected == "" {
			rejected = "rejected"
		}
		e.rejected, e.rejectedLimit = path+"/"+rejected, limit
	}
}

// serviceValue is an option of the service that other sections inherit.
func (b *builder) serviceValue(key string) string {
	for _, s := range b.file.All(config.Service) {
		if v := s.Value(key); v != "" {
			return config.Expand(v, b.env)
		}
	}
	return ""
}

// plugin finds the plugin of a section, and its number among those of its name.
func (b *builder) plugin(s *config.Section, kind string, built []string) (o *options.Set, plug string, name string) {
	p, ok := s.Get("name")
	if !ok {
		b.fail(s.Pos, "the %s does not say its Name", kind)
		return nil, "", ""
	}
	plug = strings.ToLower(config.Expand(p.Value, b.env))
	pos := p.ValuePos
	if pos.Line == 0 {
		pos = s.Pos
	}
	known := plugin.FluentBit().Plugin(kind, plug)
	if known == nil {
		b.fail(pos, "there is no %s %q; logagent has %s", kind, plug, strings.Join(built, ", "))
		return nil, "", ""
	}
	if !slices.Contains(built, plug) {
		b.fail(pos, "the %s %q is not built into logagent, which has %s; use Fluent Bit for this configuration", kind, plug, strings.Join(built, ", "))
		return nil, "", ""
	}
	number := b.counts[kind+plug]
	b.counts[kind+plug]++
	return options.New(s, known, b.env), plug, plug + "." + strconv.Itoa(number)
}

func (b *builder) host(log *slog.Logger) flow.Host {
	return flow.Host{Log: log, Now: b.options.Now}
}

func (b *builder) input(s *config.Section) {
	o, plug, name := b.plugin(s, config.Input, input.Names())
	if o == nil {
		return
	}
	e := b.engine
	in := e.newInput(plug, name)
	in.alias = o.String("alias")
	in.log = b.logger(o, "input:"+plug+":"+in.title())
	if limit := o.Size("mem_buf_limit"); limit > 0 {
		in.limit = limit
	}
	kind := strings.ToLower(o.String("storage.type"))
	if !o.Has("storage.type") && b.inherited != "" {
		kind = b.inherited
	}
	switch kind {
	case "filesystem":
		in.filesystem = true
		if e.folder == nil {
			o.Failf("storage.type", "storage.type filesystem needs storage.path in the [SERVICE] section")
		}
	case "memrb":
		in.ring = true
	case "", "memory":
	default:
		o.Failf("storage.type", "there is no storage.type %q; there are memory and filesystem", kind)
	}
	in.rate = newGate(o)
	in.pauseUp = o.Bool("storage.pause_on_chunks_overlimit")
	o.Pass("threaded", "thread.ring_buffer.capacity", "thread.ring_buffer.window") // each input has a thread of its own where it needs one
	if !o.Bool("routable") && o.Has("routable") {
		o.Failf("routable", "an input whose records go nowhere is not built into logagent; remove the input")
	}
	host := input.Host{Host: b.host(in.log), Name: in.title(), Tag: o.StringOr("tag", name), Parsers: b.parsers, Multiline: b.multiline, Positions: b.options.Positions,
		Metrics: b.engine.metricsText, MaxMessage: b.joined}
	if !o.Has("tag") {
		host.Tag = name
	}
	if plug == "fluentbit_metrics" {
		b.metrics = append(b.metrics, host.Tag)
	}
	made, err := input.New(plug, o, host)
	if err != nil {
		b.fail(s.Pos, "%v", err)
	}
	b.done(o)
	in.input = made
	in.processors = b.processors(s)
	e.inputs = append(e.inputs, in)
}

// logger is the log of one part, at the level and with as few repetitions as its section asks for.
func (b *builder) logger(o *options.Set, part string) *slog.Logger {
	level := ""
	if o.Has("log_level") {
		level = o.String("log_level")
	}
	log := partLogger(b.options.Log, part, level)
	if interval := o.Duration("log_suppress_interval"); interval > 0 {
		return slog.New(&suppressor{Handler: log.Handler(), said: &said{interval: interval, now: b.options.Now}})
	}
	return log
}

// processors are the filters that an input or output has of its own.
func (b *builder) processors(s *config.Section) []*filterPart {
	var all []*filterPart
	for _, child := range s.Sections {
		if child.Kind != config.Processor {
			continue
		}
		if child.Arg != "" && !strings.EqualFold(child.Arg, "logs") {
			b.fail(child.Pos, "processors of %s are not built into logagent; there are those of logs", child.Arg)
			continue
		}
		if f := b.part(child); f != nil {
			all = append(all, f)
		}
	}
	return all
}

// part makes a filter.
func (b *builder) part(s *config.Section) *filterPart {
	o, plug, name := b.plugin(s, config.Filter, filter.Names())
	if o == nil {
		return nil
	}
	f := &filterPart{name: name, plugin: plug, alias: o.String("alias")}
	f.log = b.logger(o, "filter:"+plug+":"+f.title())
	o.Ignore("match", "match_regex")
	host := filter.Host{Host: b.host(f.log), Name: f.title(), Parsers: b.parsers, Multiline: b.multiline, MaxMessage: b.joined}
	host.Emitter = func(name string, limit int64, filesystem bool) flow.Sink {
		if filesystem && b.engine.folder == nil {
			o.Failf("emitter_storage.type", "an emitter on the filesystem needs storage.path in the [SERVICE] section")
		}
		return b.engine.emitter(f, name, limit, filesystem)
	}
	made, err := filter.New(plug, o, host)
	if err != nil {
		b.fail(s.Pos, "%v", err)
	}
	b.done(o)
	f.filter = made
	return f
}

func (b *builder) filter(s *config.Section) {
	f := b.part(s)
	if f == nil {
		return
	}
	if f.selector = b.selector(s); f.pattern == "" && f.regex == nil {
		b.fail(s.Pos, "the filter has neither Match nor Match_Regex; write Match * for all records")
	}
	b.engine.filters = append(b.engine.filters, f)
}

func (b *builder) selector(s *config.Section) selector {
	found := selector{pattern: config.Expand(s.Value("match"), b.env)}
	if p, ok := s.Get("match_regex"); ok {
		r, err := regex.Compile(config.Expand(p.Value, b.env))
		if err != nil {
			b.fail(p.Pos, "Match_Regex: %v", err)
		}
		found.regex = r
	}
	return found
}

func (b *builder) output(s *config.Section) {
	o, plug, name := b.plugin(s, config.Output, output.Names())
	if o == nil {
		return
	}
	p := &outputPart{engine: b.engine, name: name, plugin: plug, alias: o.String("alias"), timers: map[*delivery]*time.Timer{}}
	p.log = b.logger(o, "output:"+plug+":"+p.title())
	p.selector = b.selector(s)
	p.workers = max(1, o.IntOr("workers", 1))
	p.maxDisk = o.Size("storage.total_limit_size")
	p.retries = retries(o)
	o.Ignore("match", "match_regex")
	made, err := output.New(plug, o, output.Host{Host: b.host(p.log), Name: p.title()})
	if err != nil {
		b.fail(s.Pos, "%v", err)
	}
	b.done(o)
	p.output = made
	if plug == "forward" {
		b.forwards[p] = s.Pos
	}
	p.processors = b.processors(s)
	p.start()
	b.engine.outputs = append(b.engine.outputs, p)
}

// retries reads Retry_Limit: a number, no_limits (False), or no_retries.
func retries(o *options.Set) int {
	switch v := strings.ToLower(o.String("retry_limit")); v {
	case "no_limits", "false", "off", "no":
		return noLimit
	case "no_retries":
		return 0
	case "":
		return 1
	default:
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			o.Failf("retry_limit", "Retry_Limit %q is not a number, no_limits or no_retries", v)
		}
		if n == 0 {
			return 1
		}
		return n
	}
}
