// Package parser turns lines of text into the fields of a record: JSON, regular expressions, LTSV and logfmt, with times, types and decoders as
// Fluent Bit's parsers have them. Fields are written as MessagePack at once.
package parser

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/regex"
	"github.com/weft-dev/weft/logging/plugin"
)

// Parser is one parser of a configuration. It may be used by several goroutines.
type Parser struct {
	Name      string
	format    string
	regex     *regex.Regexp
	groups    []group // of the regular expression, in order
	time      *TimeFormat
	timeKey   string
	timeKeep  bool
	strict    bool
	skipEmpty bool
	noBare    bool
	types     map[string]byte
	decoders  []decoder
	cri       bool // the usual expression for container logs, which needs no engine
	now       func() time.Time
}

type group struct {
	name  string
	index int
	kind  byte // of types, 0 if none
	time  bool
}

// Types of fields.
const (
	typeString = 's'
	typeInt    = 'i'
	typeFloat  = 'f'
	typeBool   = 'b'
	typeHex    = 'x'
)

// criExpression is the parser cri as it is shipped and copied everywhere; its matches are cut out by hand.
const criExpression = `^(?<time>[^ ]+) (?<stream>stdout|stderr) (?<logtag>[^ ]*) (?<message>.*)$`

// New makes the parser of a section.
func New(s *config.Section, env func(string) (string, bool), now func() time.Time) (*Parser, error) {
	format := strings.ToLower(s.Value("format"))
	table := plugin.FluentBit().Plugin("parser", format)
	if table == nil {
		p, _ := s.Get("format")
		return nil, fault(s, p, "the parser's format is %q; there are json, regex, ltsv and logfmt", p.Value)
	}
	plain := &config.Section{Kind: s.Kind, Pos: s.Pos}
	parser := &Parser{Name: s.Value("name"), format: format, now: now}
	var faults []error
	if parser.Name == "" {
		faults = append(faults, fault(s, config.Property{}, "the parser does not say its name"))
	}
	for _, p := range s.Properties {
		switch key := strings.ToLower(p.Key); {
		case key == "name" || key == "format":
		case key == "decode_field" || key == "decode_field_as":
			d, err := newDecoder(p)
			if err != nil {
				faults = append(faults, fault(s, p, "%v", err))
			}
			parser.decoders = append(parser.decoders, d)
		case table.Option(key) == nil && plugin.FluentBit().Plugin("parser", "regex").Option(key) != nil:
			// of another format: without effect, as in the engine
		default:
			plain.Properties = append(plain.Properties, p)
		}
	}
	o := options.New(plain, table, env)
	parser.common(o)
	if format == "regex" {
		parser.compile(o)
	}
	if format == "logfmt" {
		parser.noBare = o.Bool("logfmt_no_bare_keys")
	}
	faults = append(faults, o.Done())
	return parser, errors.Join(faults...)
}

func fault(s *config.Section, p config.Property, format string, args ...any) error {
	pos := p.ValuePos
	if pos.Line == 0 {
		pos = s.Pos
	}
	return &config.Error{Pos: pos, Message: fmt.Sprintf(format, args...)}
}

func (p *Parser) common(o *options.Set) {
	p.timeKey = o.StringOr("time_key", "time")
	p.timeKeep = o.Bool("time_keep")
	p.strict = o.Bool("time_strict")
	p.skipEmpty = o.Bool("skip_empty_values")
	format := o.String("time_format")
	offset, zone, system := o.String("time_offset"), o.String("time_zone"), o.Bool("time_system_timezone")
	if format != "" {
		seconds := 0
		if offset != "" {
			n := 0
			if seconds, n = readZone([]byte(offset)); n < 0 {
				o.Failf("time_offset", "Time_Offset %q is not an offset; write +hhmm or -hhmm", offset)
			}
		}
		var location *time.Location
		switch {
		case zone != "":
			var err error
			if location, err = time.LoadLocation(zone); err != nil {
				o.Failf("time_zone", "Time_Zone %q is not known; write a name such as Europe/Berlin", zone)
			}
		case system:
			location = time.Local
		}
		f, err := NewTimeFormat(format, seconds, location)
		if err != nil {
			o.Failf("time_format", "%v", err)
		}
		p.time = f
	}
	if p.format != "json" {
		p.types = map[string]byte{}
		for _, word := range o.Words("types") {
			key, kind, _ := strings.Cut(word, ":")
			t, ok := map[string]byte{"string": typeString, "integer": typeInt, "float": typeFloat, "bool": typeBool, "hex": typeHex}[strings.ToLower(kind)]
			if !ok {
				o.Failf("types", "Types: %q is not key:type; types are string, integer, float, bool and hex", word)
			}
			p.types[key] = t
		}
	}
}

func (p *Parser) compile(o *options.Set) {
	expression := o.String("regex")
	if expression == "" {
		return // told by Done
	}
	r, err := regex.Compile(expression)
	if err != nil {
		o.Failf("regex", "%v", err)
		return
	}
	p.regex = r
	names := r.Names()
	for i, name := range names {
		if name == "" || slices.Contains(names[:i], name) {
			continue
		}
		p.groups = append(p.groups, group{name, i, p.types[name], p.time != nil && name == p.timeKey})
	}
	if len(p.groups) == 0 {
		o.Failf("regex", "the expression names no group; write (?<name>...) for each field")
	}
	p.cri = expression == criExpression && len(p.types) == 0
}

// Parse appends the fields of text as a map. The time is zero if text has none. ok is false if text is not of this parser's form.
func (p *Parser) Parse(dst, text []byte) (out []byte, t record.Time, ok bool) {
	start := len(dst)
	switch p.format {
	case "regex":
		out, t, ok = p.parseRegex(dst, text)
	case "ltsv":
		out, t, ok = p.parseLTSV(dst, text)
	case "logfmt":
		out, t, ok = p.parseLogfmt(dst, text)
	default:
		out, t, ok = p.parseJSON(dst, text)
	}
	if !ok {
		return dst[:start], record.Time{}, false
	}
	if len(p.decoders) > 0 {
		out = p.decode(out, start)
	}
	return out, t, true
}

// readTime is the time that a field holds. ok is false if the field is to be left as it is.
func (p *Parser) readTime(text []byte) (record.Time, bool) {
	return p.time.Parse(text, p.clock())
}

func (p *Parser) clock() time.Time {
	if p.time.hasYear && p.time.hasMonth {
		return time.Time{}
	}
	return p.now()
}

func (p *Parser) parseRegex(dst, text []byte) ([]byte, record.Time, bool) {
	if p.cri {
		return p.parseCRI(dst, text)
	}
	var buffer [64]int
	found, err := p.regex.Find(text, buffer[:0])
	if err != nil || found == nil {
		return dst, record.Time{}, false
	}
	start, n := len(dst), 0
	dst = append(dst, 0x80)
	var t record.Time
	for i := range p.groups {
		g := &p.groups[i]
		var value []byte
		if from := found[2*g.index]; from >= 0 {
			value = text[from:found[2*g.index+1]]
		}
		if len(value) == 0 && p.skipEmpty {
			continue
		}
		if g.time {
			moment, ok := p.readTime(value)
			if !ok {
				if p.strict {
					continue
				}
			} else {
				t = moment
			}
			if ok && !p.timeKeep {
				continue
			}
		}
		dst = record.AppendString(dst, g.name)
		dst = appendTyped(dst, value, g.kind)
		n++
	}
	return record.CloseMap(dst, start, n), t, true
}

// parseCRI cuts a line of a container's log without an expression.
func (p *Parser) parseCRI(dst, text []byte) ([]byte, record.Time, bool) {
	line, ok := CutCRI(text)
	if !ok {
		return dst, record.Time{}, false
	}
	start, n := len(dst), 0
	dst = append(dst, 0x80)
	var t record.Time
	keep := true
	if p.time != nil && p.timeKey == "time" {
		moment, ok := p.readTime(line.Time)
		t = moment
		keep = ok && p.timeKeep || !ok && !p.strict
	}
	if keep {
		dst = record.AppendString(append(dst, "\xa4time"...), line.Time)
		n++
	}
	dst = record.AppendString(append(dst, "\xa6stream"...), line.Stream)
	n++
	if len(line.Flag) > 0 || !p.skipEmpty {
		dst = record.AppendString(append(dst, "\xa6logtag"...), line.Flag)
		n++
	}
	if len(line.Message) > 0 || !p.skipEmpty {
		dst = record.AppendString(append(dst, "\xa7message"...), line.Message)
		n++
	}
	return record.CloseMap(dst, start, n), t, true
}

func appendTyped(dst, value []byte, kind byte) []byte {
	switch kind {
	case typeInt:
		return record.AppendInt(dst, leadingInt(value))
	case typeFloat:
		return record.AppendFloat(dst, leadingFloat(value))
	case typeHex:
		digits := strings.TrimPrefix(strings.TrimPrefix(string(value), "0x"), "0X")
		n := 0
		for n < len(digits) && strings.IndexByte("0123456789abcdefABCDEF", digits[n]) >= 0 {
			n++
		}
		v, _ := strconv.ParseUint(digits[:n], 16, 64) // too large becomes the largest, nothing becomes 0, as strtoull has it
		return record.AppendUint(dst, v)
	case typeBool:
		switch {
		case len(value) >= 4 && strings.EqualFold(string(value[:4]), "true"):
			return record.AppendBool(dst, true)
		case len(value) >= 5 && strings.EqualFold(string(value[:5]), "false"):
			return record.AppendBool(dst, false)
		}
	}
	return record.AppendString(dst, value)
}

// leadingInt reads the number that text begins with; text without one is 0, as atoll has it.
func leadingInt(text []byte) int64 {
	at := 0
	for at < len(text) && (text[at] == ' ' || text[at] >= '\t' && text[at] <= '\r') {
		at++
	}
	end := at
	if end < len(text) && (text[end] == '-' || text[end] == '+') {
		end++
	}
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	n, _ := strconv.ParseInt(string(text[at:end]), 10, 64)
	return n
}

func leadingFloat(text []byte) float64 {
	s := strings.TrimSpace(string(text))
	for end := min(len(s), 64); end > 0; end-- {
		if f, err := strconv.ParseFloat(s[:end], 64); err == nil {
			return f
		}
	}
	return 0
}

func (p *Parser) parseJSON(dst, text []byte) ([]byte, record.Time, bool) {
	start := len(dst)
	dst, n, err := record.FromJSON(dst, text)
	if err != nil || record.KindOf(dst[start:]) != record.Map {
		return dst, record.Time{}, false
	}
	if tail := text[n:]; len(tail) > 0 && strings.TrimSpace(string(tail)) != "" {
		return dst, record.Time{}, false
	}
	if p.time == nil {
		return dst, record.Time{}, true
	}
	fields := record.FieldsOf(dst[start:])
	at := 0
	for ; fields.Next(); at += len(fields.Raw) {
		if string(fields.Key) != p.timeKey {
			continue
		}
		value, ok := record.Text(fields.Value)
		if !ok {
			return dst, record.Time{}, true
		}
		t, ok := p.readTime(value)
		if !ok || p.timeKeep {
			return dst, t, true
		}
		return removeField(dst, start, at, len(fields.Raw), fields.Count), t, true
	}
	return dst, record.Time{}, true
}

// removeField takes out the pair that lies at bytes behind the head of a map.
func removeField(dst []byte, start, at, size, count int) []byte {
	head, _ := record.ReadHead(dst[start:])
	from := start + head.Size + at
	dst = append(dst[:from], dst[from+size:]...)
	var exact [5]byte
	h := record.AppendMapHead(exact[:0], count-1)
	if len(h) < head.Size {
		copy(dst[start+len(h):], dst[start+head.Size:])
		dst = dst[:len(dst)-(head.Size-len(h))]
	}
	copy(dst[start:], h)
	return dst
}

// Time reads a time in the parser's format.
func (p *Parser) Time(text []byte) (record.Time, bool) {
	if p.time == nil {
		return record.Time{}, false
	}
	return p.readTime(text)
}
