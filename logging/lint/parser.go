package lint

import (
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
)

func (c *checker) parser(s *config.Section, table *plugin.Table) {
	if s.Value("name") == "" {
		c.fail(s, s.Pos, "MissingOption", "the parser does not say its name")
	}
	format, ok := s.Get("format")
	p := table.Plugin("parser", format.Value)
	if !ok || p == nil {
		c.fail(s, s.Pos, "UnknownPlugin", "the parser's format must be one of %s", strings.Join(table.Names("parser"), ", "))
		return
	}
	seen := map[string]bool{}
	for _, property := range s.Properties {
		key := strings.ToLower(property.Key)
		if key == "name" || key == "format" || strings.HasPrefix(key, "decode_field") {
			continue
		}
		o := p.Option(key)
		if o == nil {
			if known := table.Plugin("parser", "regex").Option(key); known == nil && key != "logfmt_no_bare_keys" {
				c.warn(s, property.Pos, "UnknownOption", "parsers have no option %q%s", property.Key, nearest(key, keys(p)))
			}
			continue
		}
		if err := o.Check(property.Value); err != nil {
			c.fail(s, at(property), "InvalidValue", "%s: %v", property.Key, err)
		}
		c.regexOption(s, o, property)
		seen[key] = true
	}
	if strings.EqualFold(format.Value, "regex") {
		if !seen["regex"] {
			c.fail(s, s.Pos, "MissingOption", "the parser needs the option Regex")
		} else if property, _ := s.Get("regex"); !strings.Contains(property.Value, "(?<") {
			c.fail(s, at(property), "InvalidRegex", "the expression names no group; write (?<name>...) for each field")
		}
	}
}

func (c *checker) multilineParser(s *config.Section, table *plugin.Table) {
	p := table.Plugin("multiline_parser", "regex")
	if s.Value("name") == "" {
		c.fail(s, s.Pos, "MissingOption", "the multiline parser does not say its name")
	}
	for _, property := range s.Properties {
		if key := strings.ToLower(property.Key); key != "name" && p.Option(key) == nil {
			c.fail(s, property.Pos, "UnknownOption", "multiline parsers have no option %q%s", property.Key, nearest(key, keys(p)))
		}
	}
	rules, err := config.Rules(s)
	if err != nil {
		property, _ := s.Get("rule")
		c.fail(s, at(property), "InvalidValue", "%v", err)
		return
	}
	states, start := map[string]bool{}, false
	for _, rule := range rules {
		for state := range strings.SplitSeq(rule[0], ",") {
			states[strings.TrimSpace(state)] = true
			start = start || strings.TrimSpace(state) == "start_state"
		}
	}
	rule, _ := s.Get("rule")
	for _, r := range rules {
		if !states[r[2]] {
			c.fail(s, at(rule), "InvalidValue", "a rule leads to the state %q, which no rule has", r[2])
		}
		c.regex(s, at(rule), r[1])
	}
	if len(rules) > 0 && !start {
		c.fail(s, at(rule), "InvalidValue", "no rule has the state start_state, with which every message begins")
	}
}

// builtIn are the multiline parsers that the engine brings.
var builtIn = []string{"docker", "cri", "java", "go", "python", "ruby"}

// shipped are the parsers of the file /fluent-bit/etc/parsers.conf in the engine's image.
var shipped = strings.Fields(`apache apache2 apache_error nginx k8s-nginx-ingress json logfmt docker docker-daemon syslog-rfc5424 syslog-rfc3164-local
	syslog-rfc3164 mongodb envoy istio-envoy-proxy cri kube-custom`)

// parsers checks that every parser that is named exists.
func (c *checker) parsers(sections []*config.Section, o open) {
	known, multiline := map[string]bool{}, map[string]bool{}
	for _, name := range builtIn {
		multiline[name] = true
	}
	for _, s := range sections {
		switch s.Kind {
		case config.Parser:
			known[s.Value("name")] = true
		case config.MultilineParser:
			multiline[s.Value("name")] = true
		case config.Service:
			if slices.Contains(s.Values("parsers_file"), "/fluent-bit/etc/parsers.conf") {
				for _, name := range shipped {
					known[name] = true
				}
			}
		}
	}
	check := func(s *config.Section, p config.Property, name string, in map[string]bool, kind string) {
		if name = strings.TrimSpace(name); name == "" || in[name] || strings.Contains(name, "${") {
			return
		}
		if o.parsers {
			c.warn(s, at(p), "ParserNotFound", "no %s %q is defined here; a parsers file that was not read must define it", kind, name)
			return
		}
		c.fail(s, at(p), "ParserNotFound", "there is no %s %q%s", kind, name, hint(name, in))
	}
	for _, s := range sections {
		if s.Kind != config.Input && s.Kind != config.Filter && s.Kind != config.MultilineParser {
			continue
		}
		for _, p := range s.Properties {
			switch key := strings.ToLower(p.Key); {
			case key == "multiline.parser":
				for name := range strings.SplitSeq(p.Value, ",") {
					check(s, p, name, multiline, "multiline parser")
				}
			case key == "parser" || key == "parser_firstline" || key == "docker_mode_parser" || key == "merge_parser" || key == "regex_parser" || strings.HasPrefix(key, "parser_") && isNumber(key[7:]):
				check(s, p, p.Value, known, "parser")
			}
		}
	}
}

func hint(name string, in map[string]bool) string {
	var names []string
	for n := range in {
		names = append(names, n)
	}
	slices.Sort(names)
	return nearest(name, names)
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// emitters: the names of the inputs that filters make for themselves must differ.
func (c *checker) emitters(sections []*config.Section) {
	seen := map[string]bool{}
	for _, s := range sections {
		if p, ok := s.Get("emitter_name"); ok && s.Kind == config.Filter {
			if seen[p.Value] {
				c.fail(s, at(p), "DuplicateEmitter", "the emitter %q exists already; the engine refuses a second", p.Value)
			}
			seen[p.Value] = true
		}
	}
}
