package fluentd

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/weft-dev/weft/logging/config"
)

// The few expressions of Ruby that configurations commonly use, and that mean a plain value.
var (
	rubyEnv     = regexp.MustCompile(`^ENV\[\s*(?:'([^']*)'|"([^"]*)")\s*\](?:\s*\|\|\s*(?:'([^']*)'|"([^"]*)"|(use_nil|use_default)))?$`)
	rubyFetch   = regexp.MustCompile(`^ENV\.fetch\(?\s*(?:'([^']*)'|"([^"]*)")\s*(?:,\s*(?:'([^']*)'|"([^"]*)"))?\s*\)?$`)
	rubyHost    = regexp.MustCompile(`^(?:Socket\.gethostname|hostname)$`)
	rubyWorker  = regexp.MustCompile(`^worker_id$`)
	rubyLiteral = regexp.MustCompile(`^(?:'([^'\\#]*)'|"([^"\\#]*)")$`)
)

// evaluator replaces #{...} by what it means, where that is known without Ruby.
type evaluator struct {
	env    func(string) (string, bool)
	worker int
}

// value is the value of a property; use is false if it stands for "not set".
func (e evaluator) value(p config.Property) (text string, use bool, err error) {
	var b strings.Builder
	rest := p.Value
	for {
		before, after, found := strings.Cut(rest, "#{")
		b.WriteString(before)
		if !found {
			return b.String(), true, nil
		}
		code, tail, closed := cutRuby(after)
		if !closed {
			return "", false, fmt.Errorf("the Ruby expression #{%.60s is not closed", after)
		}
		out, use, known := e.expression(strings.TrimSpace(code))
		if !known {
			return "", false, fmt.Errorf("#{%.200s} is Ruby, which logagent does not run; it knows ENV['NAME'], ENV['NAME'] || 'other', ENV.fetch('NAME', 'other'), "+
				"Socket.gethostname, hostname and worker_id. Use Fluentd for this configuration", code)
		}
		if !use {
			return "", false, nil
		}
		b.WriteString(out)
		rest = tail
	}
}

// cutRuby cuts at the brace that ends the expression: braces inside of quotes do not count.
func cutRuby(text string) (code, rest string, closed bool) {
	depth := 0
	var quote byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case c == '}':
			return text[:i], text[i+1:], true
		}
	}
	return "", "", false
}

func (e evaluator) expression(code string) (text string, use, known bool) {
	if m := rubyEnv.FindStringSubmatch(code); m != nil {
		if v, ok := e.env(m[1] + m[2]); ok {
			return v, true, true
		}
		return m[3] + m[4], m[5] == "", true
	}
	if m := rubyFetch.FindStringSubmatch(code); m != nil {
		if v, ok := e.env(m[1] + m[2]); ok {
			return v, true, true
		}
		return m[3] + m[4], true, strings.Contains(code, ",") // without another value the engine would not start
	}
	if m := rubyLiteral.FindStringSubmatch(code); m != nil {
		return m[1] + m[2], true, true
	}
	switch {
	case rubyHost.MatchString(code):
		return hostname(), true, true
	case rubyWorker.MatchString(code):
		return fmt.Sprint(e.worker), true, true
	case code == "use_nil" || code == "use_default":
		return "", false, true
	}
	return "", false, false
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// evaluated is a copy of sections with all expressions replaced. Faults are handed to fail.
func (e evaluator) evaluated(sections []*config.Section, fail func(pos config.Position, format string, args ...any)) []*config.Section {
	all := make([]*config.Section, 0, len(sections))
	for _, s := range sections {
		copied := *s
		copied.Properties = nil
		for _, p := range s.Properties {
			if p.Embedded {
				text, use, err := e.value(p)
				if err != nil {
					fail(p.ValuePos, "%s: %v", p.Key, err)
					text, use = p.Value, true // so that nothing else is said of the option
				}
				if !use {
					continue
				}
				p.Value, p.Embedded = text, false
			}
			copied.Properties = append(copied.Properties, p)
		}
		if strings.Contains(s.Arg, "#{") {
			text, use, err := e.value(config.Property{Value: s.Arg})
			if err != nil || !use {
				fail(s.Pos, "<%s %s>: %v", s.Kind, s.Arg, err)
			}
			copied.Arg = text
		}
		copied.Sections = e.evaluated(s.Sections, fail)
		all = append(all, &copied)
	}
	return all
}
