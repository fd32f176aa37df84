// Package lint checks configurations of Fluent Bit and Fluentd against the plugin table, each section alone and in its pipeline: what the engines
// would refuse, and what they would take without doing what was meant. It reads the model of package config, whether it came from a file or
// from resources.
package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
	"github.com/weft-dev/weft/logging/render"
	"github.com/weft-dev/weft/logging/resource"
)

// Finding is something wrong with a configuration.
type Finding struct {
	Pos      config.Position   `json:"-"`
	Place    string            `json:"place,omitempty"`
	Severity resource.Severity `json:"severity"`
	Reason   string            `json:"reason"`
	Message  string            `json:"message"`
	section  *config.Section
}

func (f Finding) Error() string {
	if place := f.Pos.String(); place != "" {
		return place + ": " + f.Message
	}
	return f.Message
}

type checker struct {
	findings []Finding
	loaded   bool // plugins come from files that nothing is known of
	known    *Checker
}

func (c *checker) add(s *config.Section, pos config.Position, severity resource.Severity, reason, format string, args ...any) {
	c.findings = append(c.findings, Finding{Pos: pos, Place: pos.String(), Severity: severity, Reason: reason, Message: fmt.Sprintf(format, args...), section: s})
}

func (c *checker) fail(s *config.Section, pos config.Position, reason, format string, args ...any) {
	c.add(s, pos, resource.Error, reason, format, args...)
}

func (c *checker) warn(s *config.Section, pos config.Position, reason, format string, args ...any) {
	c.add(s, pos, resource.Warning, reason, format, args...)
}

// File checks a configuration that was read from files.
func File(f *config.File) []Finding {
	c := &checker{}
	if f.Format == config.Fluentd {
		c.fluentd(f.Sections, "")
	} else {
		// Files named by plugins_file or a parsers_file that was not read may define more.
		c.loaded = len(f.All(config.Plugins)) > 0 || slices.ContainsFunc(f.All(config.Service), func(s *config.Section) bool { return s.Value("plugins_file") != "" })
		c.fluentBit(f.Sections, open{parsers: true})
	}
	return c.findings
}

// open says what may be defined elsewhere.
type open struct {
	parsers bool // parsers, so that one that is not found is only a warning
}

// Checker checks pipelines again and again, and keeps what it found in each section: a section is never changed once it is made.
type Checker struct {
	known map[*config.Section]*checked
	round int
}

// checked is what was found in one section alone.
type checked struct {
	findings []Finding
	round    int
}

// Begin begins a round. What no pipeline of the round before had is forgotten.
func (k *Checker) Begin() {
	if k.known == nil {
		k.known = map[*config.Section]*checked{}
	}
	for s, x := range k.known {
		if x.round != k.round {
			delete(k.known, s)
		}
	}
	k.round++
}

// Pipeline checks what was rendered of resources: each finding is told as a problem of its resource.
func (k *Checker) Pipeline(p *render.Pipeline) []resource.Problem {
	c := &checker{known: k}
	var sections []*config.Section
	of := map[*config.Section]*render.Entry{}
	for _, e := range p.Entries {
		for _, s := range e.Sections {
			sections = append(sections, s)
			of[s] = e
		}
	}
	c.fluentBit(sections, open{parsers: foreignParsers(sections)})
	var problems []resource.Problem
	for _, f := range c.findings {
		if e := of[f.section]; e != nil {
			problems = append(problems, e.Document.Problem(f.Severity, f.Reason, f.Pos.File, "%s", f.Message))
		}
	}
	return problems
}

// foreignParsers tells whether the service loads parsers from files that are not made of resources.
func foreignParsers(sections []*config.Section) bool {
	for _, s := range sections {
		if s.Kind != config.Service {
			continue
		}
		for _, file := range s.Values("parsers_file") {
			switch file {
			case "/fluent-bit/config/parsers.conf", "/fluent-bit/config/parsers_multiline.conf", "/fluent-bit/etc/parsers.conf":
			default:
				return true
			}
		}
	}
	return false
}

// Router checks a rendered Fluentd configuration.
func Router(r *render.Router) []resource.Problem {
	c := &checker{}
	of := map[*config.Section]*resource.Document{}
	var all []*render.Element
	all = append(all, r.Sources...)
	for _, l := range r.Labels {
		all = append(all, l.Elements...)
	}
	buffers := map[string]*resource.Document{}
	var problems []resource.Problem
	var sources []*config.Section
	for _, e := range all {
		of[e.Section] = e.Document
		if e.Section.Text == "" {
			c.fluentdPlugin(e.Section, e.Section)
		} else {
			problems = append(problems, custom(e)...)
		}
		if e.Section.Kind == "source" {
			sources = append(sources, e.Section)
		}
		for _, b := range e.Section.Sections {
			path := b.Value("path")
			if b.Kind != "buffer" || path == "" {
				continue
			}
			if other := buffers[path]; other != nil {
				c.fail(e.Section, b.Properties[0].Pos, "DuplicateBuffer", "the buffer's path %s is that of an output of %s; give each output its own path", path, other)
			}
			buffers[path] = cmp.Or(buffers[path], e.Document)
		}
	}
	c.ports(sources, fluentdPorts)
	for _, f := range c.findings {
		if d := of[f.section]; d != nil {
			problems = append(problems, d.Problem(f.Severity, f.Reason, f.Pos.File, "%s", f.Message))
		}
	}
	return problems
}

// custom checks a customPlugin, whose text has lines of its own.
func custom(e *render.Element) []resource.Problem {
	parsed, err := config.Parse("", []byte(e.Section.Text), config.Options{Format: config.Fluentd})
	if err != nil {
		return nil // told when it was rendered
	}
	c := &checker{}
	for _, s := range parsed.Sections {
		c.fluentdPlugin(s, s)
	}
	var problems []resource.Problem
	for _, f := range c.findings {
		problems = append(problems, e.Document.Problem(f.Severity, f.Reason, e.Section.Pos.File, "line %d: %s", f.Pos.Line, f.Message))
	}
	return problems
}

// fluentBit checks the sections of Fluent Bit.
func (c *checker) fluentBit(sections []*config.Section, o open) {
	for _, s := range sections {
		if c.known == nil {
			c.section(s)
			continue
		}
		x := c.known.known[s]
		if x == nil {
			alone := &checker{}
			alone.section(s)
			x = &checked{findings: alone.findings}
			c.known.known[s] = x
		}
		x.round = c.known.round
		c.findings = append(c.findings, x.findings...)
	}
	c.parsers(sections, o)
	c.emitters(sections)
	c.ports(listeners(sections), fluentBitPorts)
	c.reach(sections)
}

// section checks one section alone.
func (c *checker) section(s *config.Section) {
	table := plugin.FluentBit()
	switch s.Kind {
	case config.Service:
		c.options(s, table.Plugin("service", "service"), s)
	case config.Input, config.Filter, config.Output, config.Custom:
		c.plugin(s, table, s.Kind, s)
	case config.Parser:
		c.parser(s, table)
	case config.MultilineParser:
		c.multilineParser(s, table)
	case config.Plugins, config.StreamTask, config.Upstream, config.Extensions:
	default:
		c.warn(s, s.Pos, "UnknownSection", "the engine has no use for a section %s", strings.ToUpper(s.Kind))
	}
}

// plugin checks one input, filter, output or processor.
func (c *checker) plugin(s *config.Section, table *plugin.Table, kind string, report *config.Section) {
	name, ok := s.Get("name")
	if !ok {
		c.fail(report, s.Pos, "MissingOption", "the %s does not say its name", kind)
		return
	}
	p := table.Plugin(kind, name.Value)
	if p == nil && kind == "processor" { // every filter can be a processor
		p = table.Plugin("filter", name.Value)
	}
	if p == nil {
		if strings.Contains(name.Value, "${") {
			return
		}
		severity := resource.Error
		if c.loaded {
			severity = resource.Warning
		}
		c.add(report, at(name), severity, "UnknownPlugin", "there is no %s %q%s", kind, name.Value, nearest(name.Value, table.Names(kind)))
		return
	}
	c.options(s, p, report)
	if kind == config.Filter && s.Value("match") == "" && s.Value("match_regex") == "" {
		c.fail(report, s.Pos, "MissingOption", "the filter has neither match nor match_regex; the engine refuses it")
	}
	for _, child := range s.Sections {
		if child.Kind == config.Processor {
			c.plugin(child, table, "processor", report)
		}
	}
}

// options checks names, values and number of a section's properties.
func (c *checker) options(s *config.Section, p *plugin.Plugin, report *config.Section) {
	seen := map[string]bool{}
	for _, property := range s.Properties {
		key := strings.ToLower(property.Key)
		if key == "name" && p.Kind != "service" {
			continue
		}
		o := p.Option(key)
		if o == nil && p.Kind == "service" { // the engine passes over it
			c.warn(report, property.Pos, "UnknownOption", "the service has no option %q%s", property.Key, nearest(key, keys(p)))
			continue
		}
		if o == nil {
			c.fail(report, property.Pos, "UnknownOption", "%s has no option %q%s", p.Name, property.Key, nearest(key, keys(p)))
			continue
		}
		if o.Refused {
			c.fail(report, property.Pos, "UnknownOption", "%s has no option %q in the engine", p.Name, property.Key)
			continue
		}
		if property.Tree == nil {
			if err := o.Check(property.Value); err != nil {
				c.fail(report, at(property), "InvalidValue", "%s: %v", property.Key, err)
			}
			c.regexOption(report, o, property)
		}
		if seen[key] && !o.Many() && o.Type != "prefix" && !many[key] {
			c.fail(report, property.Pos, "SetTwice", "%s is set twice; the engine takes one value", property.Key)
		}
		seen[key] = true
	}
	for _, o := range p.Options {
		key := strings.ToLower(o.Key)
		if (o.Needed || o.Required) && key != "" && o.Group == "" && !seen[key] && !alternatives(p, key, seen) {
			c.fail(report, s.Pos, "MissingOption", "%s needs the option %s%s", p.Name, o.Key, fieldOf(o))
		}
	}
}

// many are options that may be repeated though the engine's own description does not say so.
var many = map[string]bool{"parsers_file": true, "plugins_file": true, "streams_file": true}

// alternatives tells whether another option stands for a missing one.
func alternatives(p *plugin.Plugin, key string, seen map[string]bool) bool {
	instead := map[string][]string{
		"cloudwatch_logs log_group_name": {"log_group_template"}, "azure_blob shared_key": {"sas_token", "emulator_mode", "configuration_endpoint_url"},
		"azure_blob account_name": {"configuration_endpoint_url"}, "azure_blob container_name": {"configuration_endpoint_url"},
		"loki host": {"host"}, "influxdb host": {"host"}, "prometheus_exporter host": {"host"}, "prometheus_remote_write host": {"host"},
	}[p.Name+" "+key]
	if key == "host" { // has a default in the engine
		return true
	}
	if p.Name == "s3" && key == "region" || p.Name == "log_to_metrics" && key != "metric_description" && key != "tag" {
		return true
	}
	return slices.ContainsFunc(instead, func(k string) bool { return seen[k] })
}

func fieldOf(o *plugin.Option) string {
	if o.Field == "" || strings.EqualFold(o.Field, o.Key) {
		return ""
	}
	return " (in resources " + o.Field + ")"
}

func keys(p *plugin.Plugin) []string {
	var all []string
	for _, o := range p.All() {
		if !strings.HasPrefix(o.Key, "@") { // Fluentd's own
			all = append(all, strings.ToLower(o.Key))
		}
	}
	return all
}

// proposal is how what nearest says begins if it found a name that differs in little.
const proposal = "; is "

// nearest proposes a name that differs in little; else it lists the names if they are few.
func nearest(name string, names []string) string {
	best, distance := "", len(name)/3+1
	for _, n := range names {
		if d := edits(strings.ToLower(name), n, distance); d < distance || d == distance && best == "" {
			best, distance = n, d
		}
	}
	if best != "" {
		return proposal + best + " meant?"
	}
	if len(names) > 0 && len(names) <= 12 {
		return "; there are " + strings.Join(names, ", ")
	}
	return ""
}

// edits is the number of inserted, deleted and changed bytes between two words, or more than limit.
func edits(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit || len(a) > 64 {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost = 1 + min(last, row[j], row[j+1])
			}
			last, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// at is the place of a property's value, or of its key where that is all that is known.
func at(p config.Property) config.Position {
	if p.ValuePos.Line == 0 {
		return p.Pos
	}
	return p.ValuePos
}
