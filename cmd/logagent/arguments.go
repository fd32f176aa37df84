package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline"
	"github.com/weft-dev/weft/logging/pipeline/filter"
	"github.com/weft-dev/weft/logging/pipeline/fluentd"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/output"
)

// command is the command line, which as in Fluent Bit is also a way to write a configuration: -i tail -p path=x -o stdout.
type command struct {
	files     []string // the first that is there is the configuration
	sections  []*config.Section
	service   *config.Section
	logFile   string
	level     slog.Level
	levelSet  bool
	dryRun    bool
	help      bool
	version   bool
	hotReload bool
	watch     bool
	tap       string // a socket
	tapRead   string
	tapQuery  string
}

// option is one option of the command line.
type option struct {
	short, long string
	value       string // what stands for its value in the help; "" if it takes none
	about       string
	apply       func(c *command, value string) error
}

func service(key string) func(*command, string) error {
	return func(c *command, value string) error {
		c.service.Properties = append(c.service.Properties, config.Property{Key: key, Value: value, Pos: commandLine, ValuePos: commandLine})
		return nil
	}
}

func flag(set func(*command)) func(*command, string) error {
	return func(c *command, _ string) error {
		set(c)
		return nil
	}
}

var commandLine = config.Position{File: "command line", Line: 1, Column: 1}

func options() []option {
	begin := func(kind string) func(*command, string) error {
		return func(c *command, name string) error {
			s := &config.Section{Kind: kind, Pos: commandLine}
			s.Properties = append(s.Properties, config.Property{Key: "name", Value: name, Pos: commandLine, ValuePos: commandLine})
			c.sections = append(c.sections, s)
			return nil
		}
	}
	return []option{
		{"c", "config", "FILE", "the configuration, classic, YAML or Fluentd's, or a folder with a fluent-bit.yaml, fluent-bit.conf or fluent.conf; given again, what to take where that is missing", func(c *command, v string) error { c.files = append(c.files, v); return nil }},
		{"i", "input", "INPUT", "begins an input", begin(config.Input)},
		{"F", "filter", "FILTER", "begins a filter", begin(config.Filter)},
		{"o", "output", "OUTPUT", "begins an output", begin(config.Output)},
		{"p", "prop", "KEY=VALUE", "an option of the input, filter or output before it", (*command).property},
		{"m", "match", "PATTERN", "the same as -p match=PATTERN", func(c *command, v string) error { return c.property("match=" + v) }},
		{"t", "tag", "TAG", "the same as -p tag=TAG", func(c *command, v string) error { return c.property("tag=" + v) }},
		{"R", "parser", "FILE", "a file of parsers", service("parsers_file")},
		{"f", "flush", "SECONDS", "time between two deliveries (1)", service("flush")},
		{"b", "storage_path", "PATH", "a folder for chunks of inputs with storage.type filesystem", service("storage.path")},
		{"D", "dry-run", "", "checks the configuration and ends", flag(func(c *command) { c.dryRun = true })},
		{"H", "http", "", "serves health and metrics", func(c *command, _ string) error { return service("http_server")(c, "on") }},
		{"L", "listen", "ADDRESS", "where -H listens (127.0.0.1)", service("http_listen")},
		{"P", "port", "PORT", "the port of -H (2020)", service("http_port")},
		{"l", "log_file", "FILE", "writes the log there instead of to standard error", func(c *command, v string) error { c.logFile = v; return nil }},
		{"v", "verbose", "", "says more; twice: even more", func(c *command, _ string) error {
			if c.level <= slog.LevelDebug {
				c.level = pipeline.LevelTrace
			} else {
				c.level = slog.LevelDebug
			}
			c.levelSet = true
			return nil
		}},
		{"q", "quiet", "", "says nothing", flag(func(c *command) { c.level, c.levelSet = pipeline.LevelOff, true })},
		{"Y", "enable-hot-reload", "", "reads the configuration anew on SIGHUP", flag(func(c *command) { c.hotReload = true })},
		{"", "watch", "", "reads the configuration anew when one of its files changes", flag(func(c *command) { c.watch, c.hotReload = true, true })},
		{"", "tap", "SOCKET", "lets the same user watch records there, with `weft log tap`", func(c *command, v string) error { c.tap = v; return nil }},
		{"", "tap-read", "SOCKET", "prints what an agent with --tap shows, and runs nothing", func(c *command, v string) error { c.tapRead = v; return nil }},
		{"", "tap-query", "QUERY", "with --tap-read: point, tag, where and rate, as of a URL; without it the points", func(c *command, v string) error { c.tapQuery = v; return nil }},
		{"g", "grace", "SECONDS", "time to deliver what waits at the end (5)", service("grace")},
		{"h", "help", "", "shows this", flag(func(c *command) { c.help = true })},
		{"V", "version", "", "shows the version", flag(func(c *command) { c.version = true })},
	}
}

func parseArguments(args []string) (*command, error) {
	c := &command{service: &config.Section{Kind: config.Service, Pos: commandLine}}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		var found *option
		value, has := "", false
		switch {
		case strings.HasPrefix(arg, "--"):
			name := arg[2:]
			name, value, has = strings.Cut(name, "=")
			found = lookup(func(o option) bool { return o.long == name })
		case len(arg) > 1 && arg[0] == '-':
			found = lookup(func(o option) bool { return o.short == arg[1:2] })
			if found != nil && len(arg) > 2 {
				if found.value == "" { // -vv
					args[i] = "-" + arg[2:]
					i--
				} else {
					value, has = arg[2:], true
				}
			}
		}
		if found == nil {
			return nil, fmt.Errorf("there is no option %q", arg)
		}
		if found.value != "" && !has {
			if i++; i >= len(args) {
				return nil, fmt.Errorf("%s needs a value: %s", arg, found.value)
			}
			value = args[i]
		}
		if err := found.apply(c, value); err != nil {
			return nil, err
		}
	}
	if !c.help && !c.version && c.tapRead == "" && len(c.files) == 0 && len(c.sections) == 0 {
		return nil, fmt.Errorf("nothing to do: name a configuration with -c, or inputs and outputs with -i and -o")
	}
	return c, nil
}

func lookup(is func(option) bool) *option {
	for _, o := range options() {
		if is(o) {
			return &o
		}
	}
	return nil
}

func (c *command) property(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return fmt.Errorf("-p %q is not KEY=VALUE", text)
	}
	if len(c.sections) == 0 {
		return fmt.Errorf("-p %s stands before any -i, -F or -o", text)
	}
	s := c.sections[len(c.sections)-1]
	s.Properties = append(s.Properties, config.Property{Key: key, Value: value, Pos: commandLine, ValuePos: commandLine})
	return nil
}

func help() string {
	var b strings.Builder
	b.WriteString(`Usage: logagent -c FILE
       logagent -i INPUT [-p KEY=VALUE]... [-F FILTER -m PATTERN [-p KEY=VALUE]...] -o OUTPUT [-p KEY=VALUE]...

Runs log pipelines: the configurations of Fluent Bit, classic and YAML, and of Fluentd.

Options
`)
	for _, o := range options() {
		name := "--" + o.long
		if o.short != "" {
			name = "-" + o.short + ", " + name
		}
		if o.value != "" {
			name += "=" + o.value
		}
		fmt.Fprintf(&b, "  %-30s %s\n", name, o.about)
	}
	b.WriteString("\nBuilt in for Fluent Bit's configurations\n")
	for _, list := range []struct {
		kind  string
		names []string
	}{{"inputs", input.Names()}, {"filters", filter.Names()}, {"outputs", output.Names()}} {
		fmt.Fprintf(&b, "  %-8s %s\n", list.kind, strings.Join(list.names, " "))
	}
	b.WriteString("\nBuilt in for Fluentd's configurations\n")
	inputs, filters, outputs := fluentd.Names()
	for _, list := range []struct {
		kind  string
		names []string
	}{{"inputs", inputs}, {"filters", filters}, {"outputs", outputs}} {
		fmt.Fprintf(&b, "  %-8s %s\n", list.kind, strings.Join(list.names, " "))
	}
	b.WriteString(`
Examples
  logagent -i tail -p path=/var/log/*.log -p read_from_head=true -o stdout -p format=json_lines
  logagent --dry-run -c fluent-bit.conf
  logagent -c fluent.conf
`)
	return b.String()
}
