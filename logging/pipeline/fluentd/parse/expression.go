package parse

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/regex"
)

const webTime = "%d/%b/%Y:%H:%M:%S %z"

// newRegexp reads the option expression.
func newRegexp(p *Parser, o *options.Set, s clock.Settings) {
	p.defaults(o, &s, "time", "")
	text := o.String("expression")
	if text == "" {
		o.Failf("expression", "the parser regexp needs an expression such as /^(?<user>[^ ]*) (?<message>.*)$/")
		return
	}
	p.byExpression(o, "expression", text)
}

func (p *Parser) byExpression(o *options.Set, key, text string) {
	r := expression(o, key, text)
	if r == nil {
		return
	}
	if !named(r) {
		o.Failf(key, "%s needs at least one group with a name, (?<name>...)", key)
	}
	p.parse = func(text []byte) ([]Parsed, error) {
		f, _, err := groups(r, text)
		if err != nil {
			return nil, err
		}
		return one(p.finish(f))
	}
}

func named(r *regex.Regexp) bool {
	for _, n := range r.Names() {
		if n != "" {
			return true
		}
	}
	return false
}

// groups are the named groups that took part in a match; end is where the match ends.
func groups(r *regex.Regexp, text []byte) (f fields, end int, err error) {
	m, err := r.Find(text, nil)
	if err != nil || m == nil {
		return nil, 0, ErrNoMatch
	}
	for i, name := range r.Names() {
		if name != "" && 2*i+1 < len(m) && m[2*i] >= 0 {
			f = f.with(name, record.AppendString(nil, text[m[2*i]:m[2*i+1]]))
		}
	}
	return f, m[1], nil
}

func newNginx(p *Parser, o *options.Set, s clock.Settings) {
	p.defaults(o, &s, "time", webTime)
	o.Ignore("expression")
	p.byExpression(o, "@type", `/^(?<remote>[^ ]*) (?<host>[^ ]*) (?<user>[^ ]*) \[(?<time>[^\]]*)\] "(?<method>\S+)(?: +(?<path>[^"]*?)(?: +\S*)?)?" `+
		`(?<code>[^ ]*) (?<size>[^ ]*)(?: "(?<referer>[^"]*)" "(?<agent>[^"]*)"(?:\s+"?(?<http_x_forwarded_for>[^"]*)"?)?)?$/`)
}

func newApacheError(p *Parser, o *options.Set, s clock.Settings) {
	p.defaults(o, &s, "time", "")
	o.Ignore("expression")
	p.byExpression(o, "@type", `/^\[[^ ]* (?<time>[^\]]*)\] \[(?<level>[^\]]*)\](?: \[pid (?<pid>[^\]]*)\])?(?: \[client (?<client>[^\]]*)\])? (?<message>.*)$/`)
}

const apacheLine = `/^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] "(?<method>\S+)(?: +(?<path>(?:[^"]|\\")*?)(?: +\S*)?)?" ` +
	`(?<code>[^ ]*) (?<size>[^ ]*)(?: "(?<referer>(?:[^"]|\\")*)" "(?<agent>(?:[^"]|\\")*)")?$/`

// newApache2 reads the combined form: - is no value, code and size are numbers, and every field is there.
func newApache2(p *Parser, o *options.Set, s clock.Settings) {
	s.Type, s.Format = "string", webTime
	p.defaults(o, &s, "time", webTime)
	r := expression(o, "@type", apacheLine)
	p.parse = func(text []byte) ([]Parsed, error) {
		f, _, err := groups(r, text)
		if err != nil {
			return nil, err
		}
		found := map[string][]byte{}
		for _, x := range f {
			found[x.key] = x.value
		}
		t, err := p.times.Read(found["time"])
		if err != nil {
			return nil, err
		}
		var out fields
		for _, key := range []string{"host", "user", "method", "path", "code", "size", "referer", "agent"} {
			out = append(out, field{key, apacheValue(key, found[key])})
		}
		if p.keepTime {
			out = append(out, field{"time", found["time"]})
		}
		return []Parsed{{Time: t, Timed: true, Body: out.body()}}, nil
	}
}

func apacheValue(key string, value []byte) []byte {
	text, ok := record.Text(value)
	switch {
	case !ok || string(text) == "-" && key != "method" && key != "path":
		return record.AppendNil(nil)
	case key == "code" && leadingInteger(text) == 0:
		return record.AppendNil(nil)
	case key == "code" || key == "size":
		return record.AppendInt(nil, leadingInteger(text))
	}
	return value
}

// newSyslog reads RFC 3164, RFC 5424, or both.
func newSyslog(p *Parser, o *options.Set, s clock.Settings) {
	form, priority := strings.ToLower(o.String("message_format")), o.Bool("with_priority")
	o.Ignore("support_colonless_ident")
	format5424 := o.String("rfc5424_time_format")
	if form == "rfc5424" && s.Format != "" {
		format5424 = s.Format
	}
	late := s
	late.Type, late.Format = "mixed", format5424
	late.Fallbacks = []string{"%Y-%m-%dT%H:%M:%S%z"}
	p.defaults(o, &s, "time", "%b %d %H:%M:%S")
	reader3164, reader5424 := p.times, p.readTimes(o, late)
	blanks := strings.Count(strings.Join(strings.Fields(s.Format), " "), " ")
	start, start5424 := "", ""
	if priority {
		start, start5424 = `<(?<pri>[0-9]{1,3})>`, `<(?<pri>[0-9]{1,3})>[1-9][0-9]{0,2} `
	}
	first := expression(o, "message_format", fmt.Sprintf(`/\A%s(?<time>[^ ]*(?: +[^ ]*){%d}) (?<host>[^ ]*) (?<ident>[^ :\[]*)(?:\[(?<pid>[0-9]+)\])?(?:[^:]*:)? *(?<message>.*)$/`, start, blanks))
	second := expression(o, "message_format", `/\A`+start5424+`(?<time>[^ ]+) (?<host>[!-~]{1,255}) (?<ident>[!-~]{1,48}) (?<pid>[!-~]{1,128}) (?<msgid>[!-~]{1,32}) `+
		`(?<extradata>(?:-|(?:\[.*?(?<!\\)\])+))(?: (?<message>.+))?\z/m`)
	if first == nil || second == nil {
		return
	}
	p.parse = func(text []byte) ([]Parsed, error) {
		r, reader := first, reader3164
		if form == "rfc5424" || form == "auto" && isRFC5424(text) {
			r, reader = second, reader5424
		}
		f, _, err := groups(r, text)
		if err != nil {
			return nil, err
		}
		of := *p
		of.times = reader
		for i := range f {
			if f[i].key == "pri" {
				f[i].value = toInteger(f[i].value)
			}
		}
		return one(of.finish(f))
	}
}

// isRFC5424 tells whether a version stands behind the priority.
func isRFC5424(text []byte) bool {
	end := bytes.IndexByte(text, '>')
	return len(text) > 0 && text[0] == '<' && end > 1 && end < 5 && end+1 < len(text) && text[end+1] >= '1' && text[end+1] <= '9'
}

// mostFormats is how many formatN there may be.
const mostFormats = 20

// newMultiline joins format1, format2 ... to one expression; format_firstline tells where a record begins.
func newMultiline(p *Parser, o *options.Set, s clock.Settings) {
	p.defaults(o, &s, "time", "")
	var all strings.Builder
	for n := 1; n <= mostFormats; n++ {
		key := "format" + strconv.Itoa(n)
		text := o.String(key)
		if !o.Has(key) {
			continue
		}
		if n > 1 && !o.Has("format"+strconv.Itoa(n-1)) {
			o.Failf(key, "format%d is missing before %s", n-1, key)
		}
		if len(text) < 2 || text[0] != '/' || text[len(text)-1] != '/' {
			o.Failf(key, "%s must be a regular expression between slashes", key)
			return
		}
		all.WriteString(text[1 : len(text)-1])
	}
	if first := o.String("format_firstline"); first != "" {
		if r := expression(o, "format_firstline", first); r != nil {
			p.First = r.Match
		}
	}
	unmatched := o.String("unmatched_lines") != ""
	r := expression(o, "format1", "/"+all.String()+"/m")
	if r == nil {
		return
	}
	if !named(r) {
		o.Failf("format1", "format1 and those that follow need at least one group with a name, (?<name>...)")
	}
	p.parse = func(text []byte) ([]Parsed, error) {
		var found []Parsed
		for {
			f, end, err := groups(r, text)
			if err == nil {
				var x Parsed
				if x, err = p.finish(f); err == nil {
					found = append(found, x)
				}
			}
			if err != nil && unmatched {
				found = append(found, Parsed{record.TimeOf(p.now()), true, fields{{"unmatched_line", record.AppendString(nil, text)}}.body()})
				return found, nil
			}
			if err != nil && len(found) == 0 {
				return nil, err
			}
			if text = bytes.TrimPrefix(text[end:], []byte("\n")); err != nil || end == 0 || len(text) == 0 {
				return found, nil
			}
		}
	}
}
