// Package parse turns text into records as Fluentd's parser plugins do: what a <parse> section says, with times, types and values that mean
// nothing (lib/fluent/plugin/parser*.rb). It knows neither inputs nor filters.
package parse

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/regex"
	"github.com/weft-dev/weft/logging/plugin"
)

// ErrNoMatch says that text does not have the form that the parser reads.
var ErrNoMatch = errors.New("pattern not matched")

// Parsed is one record that was read.
type Parsed struct {
	Time  record.Time
	Timed bool   // the text, or the parser, gives a time
	Body  []byte // a map
}

// Parser reads text. It may be used by several goroutines.
type Parser struct {
	Type   string
	Passed []config.Property      // options of the section that change nothing
	First  func(line []byte) bool // multiline: tells whether a line begins a record; nil if the parser does not say
	parse  func(text []byte) ([]Parsed, error)

	types     map[string]func(value []byte) []byte
	null      *regex.Regexp
	nullEmpty bool
	timeKey   string
	keepTime  bool
	estimate  bool
	times     *clock.Reader
	now       func() time.Time
}

type maker func(p *Parser, o *options.Set, s clock.Settings)

func makers() map[string]maker {
	return map[string]maker{
		"json": newJSON, "regexp": newRegexp, "apache2": newApache2, "apache_error": newApacheError, "nginx": newNginx, "syslog": newSyslog,
		"csv": newCSV, "tsv": newTSV, "ltsv": newLTSV, "none": newNone, "msgpack": newMsgpack, "multiline": newMultiline,
	}
}

// Names are the parsers that are built in.
func Names() []string { return slices.Sorted(maps.Keys(makers())) }

// New makes the parser of a <parse> section; other is its type if the section names none. The error joins all faults of the section.
func New(s *config.Section, other string, now func() time.Time) (*Parser, error) {
	name, make, err := options.Chosen(s, "parser", other, makers())
	if err != nil {
		return nil, err
	}
	o := options.New(s, plugin.Fluentd().Groups["parse"], nil)
	p := &Parser{Type: name, timeKey: o.String("time_key"), keepTime: o.Bool("keep_time_key"), estimate: o.Bool("estimate_current_event"), nullEmpty: o.Bool("null_empty_string"), now: now}
	if text := o.String("null_value_pattern"); text != "" {
		p.null = expression(o, "null_value_pattern", text)
	}
	settings := clock.Read(o, "string")
	p.types = converters(o, settings, now)
	o.Ignore("@id", "@log_level")
	o.Pass("timeout", "json_parser", "stream_buffer_size", "parser_engine", "parser_type") // every expression ends by itself, and there is one engine of each parser
	p.Passed = o.Passed()
	make(p, o, settings)
	for _, child := range s.Sections {
		o.FailAt(child.Pos, "<%s> is not built into logagent inside of <parse>", child.Kind)
	}
	return p, o.Done()
}

// Parse reads text. Of a text with several records some may be bad: they are passed over, and the error is not nil only if there is none that is good.
func (p *Parser) Parse(text []byte) ([]Parsed, error) { return p.parse(text) }

// Map takes time and types out of a map that is there already.
func (p *Parser) Map(body []byte) (Parsed, error) { return p.finishMap(body) }

func expression(o *options.Set, key, text string) *regex.Regexp {
	r, err := regex.Compile(text)
	if err != nil {
		o.Failf(key, "%s: %v", key, err)
		return nil
	}
	return r
}

// readTimes makes the reader of times, once a parser has set what its format is.
func (p *Parser) readTimes(o *options.Set, s clock.Settings) *clock.Reader {
	r, err := clock.NewReader(s, p.now)
	if err != nil {
		o.Failf("time_format", "time_format: %v", err)
	}
	return r
}

// defaults sets what a parser has where the section says nothing.
func (p *Parser) defaults(o *options.Set, s *clock.Settings, timeKey, format string) {
	if !o.Has("time_key") {
		p.timeKey = timeKey
	}
	if s.Format == "" && s.Type == "string" {
		s.Format = format
	}
	p.times = p.readTimes(o, *s)
}

// fields are the pairs of a record that is being made.
type fields []field

type field struct {
	key   string
	value []byte
}

func (f fields) body() []byte {
	b := record.AppendMapHead(nil, len(f))
	for _, x := range f {
		b = append(record.AppendString(b, x.key), x.value...)
	}
	return b
}

// finish takes the time out of the fields and converts values.
func (p *Parser) finish(f fields) (Parsed, error) {
	at := slices.IndexFunc(f, func(x field) bool { return x.key == p.timeKey })
	if p.timeKey == "" {
		at = -1
	}
	out := Parsed{}
	if at >= 0 {
		t, err := p.times.Read(f[at].value)
		if err != nil {
			return out, err
		}
		out.Time, out.Timed = t, true
		if !p.keepTime {
			f = slices.Delete(f, at, at+1)
		}
	} else {
		p.estimated(&out)
	}
	for i := range f {
		f[i].value = p.convert(f[i].key, f[i].value)
	}
	out.Body = f.body()
	return out, nil
}

func (p *Parser) estimated(out *Parsed) {
	if p.estimate {
		out.Time, out.Timed = record.TimeOf(p.now()), true
	}
}

// convert is a value in the type that the section wants.
func (p *Parser) convert(key string, value []byte) []byte {
	if text, ok := record.Text(value); ok && (p.nullEmpty && len(text) == 0 || p.null != nil && p.null.Match(text)) {
		return record.AppendNil(nil)
	}
	if c := p.types[key]; c != nil && record.KindOf(value) != record.Nil {
		return c(value)
	}
	return value
}

// finishMap is finish for a map that is there already.
func (p *Parser) finishMap(body []byte) (Parsed, error) {
	if p.types == nil && p.null == nil && !p.nullEmpty {
		if _, ok := record.Get(body, p.timeKey); !ok || p.timeKey == "" {
			out := Parsed{Body: body}
			p.estimated(&out)
			return out, nil
		}
	}
	var f fields
	for r := record.FieldsOf(body); r.Next(); {
		f = append(f, field{string(r.Key), r.Value})
	}
	return p.finish(f)
}

func one(p Parsed, err error) ([]Parsed, error) {
	if err != nil {
		return nil, err
	}
	return []Parsed{p}, nil
}
