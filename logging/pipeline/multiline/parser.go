// Package multiline joins lines that belong together: stack traces, lines that a container's runtime has cut, and what rules of one's own
// describe. It works like Fluent Bit's multiline core and knows neither files nor filters.
package multiline

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/parser"
	"github.com/weft-dev/weft/logging/pipeline/regex"
)

// Parser says which lines belong together. It may be shared by streams.
type Parser struct {
	Name       string
	kind       string // regex, endswith, equal
	parser     *parser.Parser
	keyContent string
	keyPattern string
	keyGroup   string
	match      string
	negate     bool
	rules      []rule
	timeout    time.Duration
	cri        bool
}

type rule struct {
	from  []string
	start bool
	regex *regex.Regexp
	next  []int // rules that may follow
}

// Set is the multiline parsers of a configuration by name, with those that are built in.
type Set map[string]*Parser

// NewSet makes the multiline parsers of a configuration's sections.
func NewSet(sections []*config.Section, parsers parser.Set, env func(string) (string, bool), now func() time.Time) (Set, error) {
	set, err := builtIn(now)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, s := range sections {
		if s.Kind != config.MultilineParser {
			continue
		}
		p, err := newParser(s, parsers, env)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		set[p.Name] = p
	}
	return set, errors.Join(faults...)
}

func newParser(s *config.Section, parsers parser.Set, env func(string) (string, bool)) (*Parser, error) {
	p := &Parser{Name: s.Value("name"), kind: "regex", timeout: 4 * time.Second}
	var faults []error
	fail := func(at config.Property, format string, args ...any) {
		pos := at.ValuePos
		if pos.Line == 0 {
			pos = s.Pos
		}
		faults = append(faults, &config.Error{Pos: pos, Message: fmt.Sprintf(format, args...)})
	}
	if p.Name == "" {
		fail(config.Property{}, "the multiline parser does not say its name")
	}
	for _, x := range s.Properties {
		value := config.Expand(x.Value, env)
		switch strings.ToLower(x.Key) {
		case "name", "rule":
		case "type":
			switch p.kind = strings.ToLower(value); p.kind {
			case "regex", "endswith", "equal":
			case "eq":
				p.kind = "equal"
			default:
				fail(x, "there is no type %q; there are regex, endswith and equal", value)
			}
		case "parser":
			if p.parser = parsers[value]; p.parser == nil {
				fail(x, "there is no parser %q", value)
			}
		case "key_content":
			p.keyContent = value
		case "key_pattern":
			p.keyPattern = value
		case "key_group":
			p.keyGroup = value
		case "match_string":
			p.match = value
		case "negate":
			var err error
			if p.negate, err = config.ParseBool(value); err != nil {
				fail(x, "Negate: %v", err)
			}
		case "flush_timeout":
			ms, err := strconv.Atoi(value)
			if err != nil || ms < 1 {
				fail(x, "Flush_Timeout %q is not a number of milliseconds above 0", value)
			}
			p.timeout = time.Duration(ms) * time.Millisecond
		default:
			fail(x, "multiline parsers have no option %q", x.Key)
		}
	}
	at, _ := s.Get("rule")
	rules, err := config.Rules(s)
	if err != nil {
		fail(at, "%v", err)
	}
	if err := p.compile(rules); err != nil {
		fail(at, "%v", err)
	}
	if p.kind != "regex" && p.match == "" {
		fail(config.Property{}, "the type %s needs Match_String", p.kind)
	}
	return p, errors.Join(faults...)
}

func (p *Parser) compile(rules [][3]string) error {
	if p.kind != "regex" {
		return nil
	}
	if len(rules) == 0 {
		return errors.New("the type regex needs rules")
	}
	starts := false
	for _, r := range rules {
		compiled, err := regex.Compile(r[1])
		if err != nil {
			return err
		}
		made := rule{regex: compiled}
		for state := range strings.SplitSeq(r[0], ",") {
			state = strings.TrimSpace(state)
			made.from = append(made.from, state)
			made.start = made.start || state == "start_state"
		}
		starts = starts || made.start
		p.rules = append(p.rules, made)
	}
	if !starts {
		return errors.New("no rule has the state start_state, with which every message begins")
	}
	for i, r := range rules {
		next := strings.TrimSpace(r[2])
		for j := range p.rules {
			if slices.Contains(p.rules[j].from, next) {
				p.rules[i].next = append(p.rules[i].next, j)
			}
		}
		if next != "" && len(p.rules[i].next) == 0 {
			return fmt.Errorf("a rule leads to the state %q, which no rule has", next)
		}
	}
	return nil
}

// builtIn are the parsers that the engine brings (src/multiline): lines of container runtimes, and stack traces.
func builtIn(now func() time.Time) (Set, error) {
	at := `/^[\t ]+(?:eval )?at /`
	definitions := map[string][][3]string{
		"java": {
			{"start_state, java_start_exception", `/(.)(?:Exception|Error|Throwable|V8 errors stack trace)[:\r\n]/`, "java_after_exception"},
			{"java_after_exception", `/^[\t ]*nested exception is:[\t ]*/`, "java_start_exception"},
			{"java_after_exception", `/^[\r\n]*$/`, "java_after_exception"},
			{"java_after_exception, java", at, "java"},
			{"java_after_exception, java", `/^[\t ]+--- End of inner exception stack trace ---$/`, "java"},
			{"java_after_exception, java", `/^--- End of stack trace from previous location where exception was thrown ---$/`, "java"},
			{"java_after_exception, java", `/^[\t ]*(?:Caused by|Suppressed):/`, "java_after_exception"},
			{"java_after_exception, java", `/^[\t ]*... \d+ (?:more|common frames omitted)/`, "java"},
		},
		"go": {
			{"start_state", `/\bpanic: /`, "go_after_panic"},
			{"start_state", `/http: panic serving/`, "go_goroutine"},
			{"go_after_panic", `/^$/`, "go_goroutine"},
			{"go_after_panic, go_after_signal, go_frame_1", `/^$/`, "go_goroutine"},
			{"go_after_panic", `/^\[signal /`, "go_after_signal"},
			{"go_goroutine", `/^goroutine \d+ \[[^\]]+\]:$/`, "go_frame_1"},
			{"go_frame_1", `/^(?:[^\s.:]+\.)*[^\s.():]+\(|^created by /`, "go_frame_2"},
			{"go_frame_2", `/^\s/`, "go_frame_1"},
		},
		"python": {
			{"start_state", `/^Traceback \(most recent call last\):$/`, "python"},
			{"python", `/^[\t ]+File /`, "python_code"},
			{"python_code", `/[^\t ]/`, "python"},
			{"python", `/^(?:[^\s.():]+\.)*[^\s.():]+:/`, "start_state"},
		},
		"ruby": {
			{"start_state, ruby_start_exception", `/^.+:\d+:in\s+.*/`, "ruby_after_exception"},
			{"ruby_after_exception, ruby", `/^\s+from\s+.*:\d+:in\s+.*/`, "ruby"},
		},
	}
	set := Set{}
	for name, rules := range definitions {
		p := &Parser{Name: name, kind: "regex", timeout: 4 * time.Second}
		if err := p.compile(rules); err != nil {
			return nil, fmt.Errorf("multiline parser %s: %w", name, err)
		}
		set[name] = p
	}
	section := func(pairs ...string) *config.Section {
		s := &config.Section{Kind: config.Parser}
		for i := 0; i < len(pairs); i += 2 {
			s.Add(pairs[i], pairs[i+1])
		}
		return s
	}
	docker, err := parser.New(section("name", "docker", "format", "json", "time_key", "time", "time_format", "%Y-%m-%dT%H:%M:%S.%L", "time_keep", "on"), nil, now)
	if err != nil {
		return nil, err
	}
	cri, err := parser.New(section("name", "cri", "format", "regex", "regex", `^(?<time>.+?) (?<stream>stdout|stderr) (?<_p>F|P) (?<log>.*)$`,
		"time_key", "time", "time_format", "%Y-%m-%dT%H:%M:%S.%L%z", "time_keep", "on", "skip_empty_values", "off"), nil, now)
	if err != nil {
		return nil, err
	}
	set["docker"] = &Parser{Name: "docker", kind: "endswith", parser: docker, keyContent: "log", keyGroup: "stream", match: "\n", timeout: 4 * time.Second}
	set["cri"] = &Parser{Name: "cri", kind: "equal", parser: cri, keyContent: "log", keyPattern: "_p", keyGroup: "stream", match: "F", timeout: 4 * time.Second, cri: true}
	return set, nil
}
