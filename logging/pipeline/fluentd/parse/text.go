package parse

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

func newNone(p *Parser, o *options.Set, _ clock.Settings) {
	key := o.String("message_key")
	p.parse = func(text []byte) ([]Parsed, error) {
		out := Parsed{Body: fields{{key, record.AppendString(nil, text)}}.body()}
		p.estimated(&out)
		return []Parsed{out}, nil
	}
}

func newJSON(p *Parser, o *options.Set, s clock.Settings) {
	if !o.Has("time_type") && !o.Has("time_format") {
		s.Type = "float"
	}
	p.defaults(o, &s, "time", "")
	p.parse = func(text []byte) ([]Parsed, error) {
		value, n, err := record.FromJSON(nil, text)
		if err != nil || len(bytes.TrimSpace(text[n:])) > 0 {
			return nil, ErrNoMatch
		}
		return p.values(value)
	}
}

// values are the records of a map, or of an array of maps.
func (p *Parser) values(value []byte) ([]Parsed, error) {
	switch record.KindOf(value) {
	case record.Map:
		return one(p.finishMap(value))
	case record.Array:
	default:
		return nil, ErrNoMatch
	}
	var all []Parsed
	last := ErrNoMatch
	for i := record.ItemsOf(value); i.Next(); {
		if record.KindOf(i.Value) != record.Map {
			continue
		}
		x, err := p.finishMap(i.Value)
		if err != nil {
			last = err
			continue
		}
		all = append(all, x)
	}
	if len(all) == 0 {
		return nil, last
	}
	return all, nil
}

func newMsgpack(p *Parser, o *options.Set, s clock.Settings) {
	p.defaults(o, &s, "", "")
	p.parse = func(data []byte) ([]Parsed, error) {
		var all []Parsed
		for len(data) > 0 {
			n, err := record.Skip(data)
			if err != nil {
				return all, fmt.Errorf("%w: %w", ErrNoMatch, err)
			}
			more, err := p.values(data[:n])
			if err != nil {
				return all, err
			}
			all, data = append(all, more...), data[n:]
		}
		if len(all) == 0 {
			return nil, ErrNoMatch
		}
		return all, nil
	}
}

func keys(o *options.Set) []string {
	names := o.Array("keys")
	if len(names) == 0 {
		o.Failf("keys", "the parser needs keys: the names of its fields, separated by commas")
	}
	return names
}

func newCSV(p *Parser, o *options.Set, s clock.Settings) {
	names, delimiter := keys(o), o.StringOr("delimiter", ",")
	if len([]rune(delimiter)) != 1 || strings.ContainsAny(delimiter, "\"\r\n") {
		o.Failf("delimiter", "delimiter %q must be one character", delimiter)
		return
	}
	p.defaults(o, &s, "", "")
	p.parse = func(text []byte) ([]Parsed, error) {
		r := csv.NewReader(bytes.NewReader(text))
		r.Comma, r.FieldsPerRecord = []rune(delimiter)[0], -1
		values, err := r.Read()
		if err != nil {
			return nil, ErrNoMatch
		}
		quoted := quotedEmpty(text, values, r)
		var f fields
		for i, name := range names {
			value := record.AppendNil(nil)
			if i < len(values) && (values[i] != "" || quoted[i]) {
				value = record.AppendString(nil, values[i])
			}
			f = append(f, field{name, value})
		}
		return one(p.finish(f))
	}
}

// quotedEmpty tells which empty values stand in quotes: the others are no values.
func quotedEmpty(text []byte, values []string, r *csv.Reader) []bool {
	all := make([]bool, len(values))
	lines := bytes.Split(text, []byte("\n"))
	for i, v := range values {
		if v != "" {
			continue
		}
		line, column := r.FieldPos(i)
		if line-1 < len(lines) && column-1 < len(lines[line-1]) {
			all[i] = lines[line-1][column-1] == '"'
		}
	}
	return all
}

func newTSV(p *Parser, o *options.Set, s clock.Settings) {
	names, delimiter := keys(o), o.StringOr("delimiter", "\t")
	p.defaults(o, &s, "", "")
	p.parse = func(text []byte) ([]Parsed, error) {
		values := strings.SplitN(string(text), delimiter, max(len(names), 1))
		var f fields
		for i, name := range names {
			value := record.AppendNil(nil)
			if i < len(values) {
				value = record.AppendString(nil, values[i])
			}
			f = append(f, field{name, value})
		}
		return one(p.finish(f))
	}
}

func newLTSV(p *Parser, o *options.Set, s clock.Settings) {
	delimiter, label := o.StringOr("delimiter", "\t"), o.StringOr("label_delimiter", ":")
	split := func(text []byte) [][]byte { return bytes.Split(text, []byte(delimiter)) }
	if pattern := o.String("delimiter_pattern"); pattern != "" {
		if r := expression(o, "delimiter_pattern", pattern); r != nil {
			split = func(text []byte) [][]byte {
				var parts [][]byte
				for at, rest := 0, text; ; {
					m, err := r.Find(rest[at:], nil)
					if err != nil || m == nil {
						return append(parts, rest)
					}
					if m[1] == 0 { // nothing between: go on behind the next byte
						if at++; at >= len(rest) {
							return append(parts, rest)
						}
						continue
					}
					parts = append(parts, rest[:at+m[0]])
					rest, at = rest[at+m[1]:], 0
				}
			}
		}
	}
	p.defaults(o, &s, "time", "")
	p.parse = func(text []byte) ([]Parsed, error) {
		var f fields
		for _, pair := range split(text) {
			key, value, ok := bytes.Cut(pair, []byte(label))
			if !ok {
				continue
			}
			f = f.with(string(key), record.AppendString(nil, value))
		}
		return one(p.finish(f))
	}
}

// with sets a field: a later value goes before an earlier one.
func (f fields) with(key string, value []byte) fields {
	for i := range f {
		if f[i].key == key {
			f[i].value = value
			return f
		}
	}
	return append(f, field{key, value})
}
