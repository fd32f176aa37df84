package parse

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

func section(t testing.TB, options string) *config.Section {
	t.Helper()
	f, err := config.Parse("fluent.conf", []byte("<parse>\n"+options+"\n</parse>"), config.Options{Format: config.Fluentd})
	if err != nil {
		t.Fatal(err)
	}
	return f.Sections[0]
}

func now() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

// read gives what a parser makes of text: TIME {RECORD} for each record.
func read(p *Parser, text string) []string {
	found, err := p.Parse([]byte(text))
	if err != nil {
		if errors.Is(err, ErrNoMatch) {
			return []string{"no match"}
		}
		return []string{"error"}
	}
	var all []string
	for _, x := range found {
		at := "-"
		if x.Timed {
			at = x.Time.Std().Format(time.RFC3339Nano)
		}
		all = append(all, at+" "+string(record.AppendJSON(nil, x.Body)))
	}
	return all
}

const apacheText = `192.168.0.1 - - [28/Feb/2013:12:00:00 +0900] "GET /a?b HTTP/1.1" 200 777 "-" "Opera/12.0 \"x\""`

func TestParse(t *testing.T) {
	defer func(z *time.Location) { time.Local = z }(time.Local)
	time.Local = time.UTC
	const none = "estimate_current_event false\n"
	for name, c := range map[string]struct {
		options, text string
		want          []string
	}{
		"json":                 {none + "@type json", `{"a":1,"time":1500000000.25}`, []string{`2017-07-14T02:40:00.25Z {"a":1}`}},
		"json, text as time":   {"@type json\ntime_type string\ntime_format %Y-%m-%dT%H:%M:%S\nkeep_time_key true", `{"time":"2026-01-02T03:04:05"}`, []string{`2026-01-02T03:04:05Z {"time":"2026-01-02T03:04:05"}`}},
		"json, a list":         {none + "@type json", `[{"a":1},2,{"b":2}]`, []string{`- {"a":1}`, `- {"b":2}`}},
		"json, no object":      {"@type json", `7`, []string{"no match"}},
		"json, two":            {"@type json", `{} {}`, []string{"no match"}},
		"json, bad time":       {"@type json", `{"time":"soon"}`, []string{"error"}},
		"none":                 {"@type none\nmessage_key m", "x y", []string{`2026-06-01T00:00:00Z {"m":"x y"}`}},
		"regexp":               {none + "@type regexp\nexpression /^(?<a>\\w+)( (?<b>\\w+))?/\ntypes a:string,b:bool", "x", []string{`- {"a":"x"}`}},
		"regexp, types":        {none + "@type regexp\nexpression /^(?<i>\\S+) (?<f>\\S+) (?<b>\\S+) (?<l>\\S+) (?<t>\\S+)/\ntypes i:integer,f:float,b:bool,l:array:|,t:time:unixtime", "12x 1.5z YES a|b| 1500000000", []string{`- {"i":12,"f":1.5,"b":true,"l":["a","b"],"t":1500000000}`}},
		"regexp, case":         {none + "@type regexp\nexpression /^(?<a>ABC)/i", "abc", []string{`- {"a":"abc"}`}},
		"null values":          {none + "@type ltsv\nnull_value_pattern ^-$\nnull_empty_string true", "a:-\tb:\tc:x", []string{`- {"a":null,"b":null,"c":"x"}`}},
		"ltsv":                 {"@type ltsv", "time:2013-02-28 12:00:00\thost:1.2.3.4\tbad\treq:a:b", []string{`2013-02-28T12:00:00Z {"host":"1.2.3.4","req":"a:b"}`}},
		"ltsv, patterns":       {none + "@type ltsv\ndelimiter_pattern /\\s+/\nlabel_delimiter =", "a=1  b=2", []string{`- {"a":"1","b":"2"}`}},
		"csv":                  {none + "@type csv\nkeys a,b,c,d", `x,"y ""q"",z",,`, []string{`- {"a":"x","b":"y \"q\",z","c":null,"d":null}`}},
		"csv, quotes":          {none + "@type csv\nkeys a,b", `"",x`, []string{`- {"a":"","b":"x"}`}},
		"tsv":                  {"@type tsv\nkeys time,a,b\ntime_key time", "2013-02-28 12:00:00\tx\ty\tz", []string{`2013-02-28T12:00:00Z {"a":"x","b":"y\tz"}`}},
		"apache2":              {"@type apache2", apacheText, []string{`2013-02-28T03:00:00Z {"host":"192.168.0.1","user":null,"method":"GET","path":"/a?b","code":200,"size":777,"referer":null,"agent":"Opera/12.0 \\\"x\\\""}`}},
		"nginx":                {"@type nginx", `127.0.0.1 - - [28/Feb/2013:12:00:00 +0900] "GET / HTTP/1.1" 200 777 "-" "Opera"`, []string{`2013-02-28T03:00:00Z {"remote":"127.0.0.1","host":"-","user":"-","method":"GET","path":"/","code":"200","size":"777","referer":"-","agent":"Opera"}`}},
		"apache_error":         {none + "@type apache_error\ntime_key none", `[Wed Oct 11 14:32:52 2000] [error] [client 127.0.0.1] denied`, []string{`- {"time":"Oct 11 14:32:52 2000","level":"error","client":"127.0.0.1","message":"denied"}`}},
		"syslog":               {"@type syslog", "Feb 28 12:00:00 host prog[123]: hello: x", []string{`2026-02-28T12:00:00Z {"host":"host","ident":"prog","pid":"123","message":"hello: x"}`}},
		"syslog, priority":     {"@type syslog\nwith_priority true", "<6>Feb  8 12:00:00 host prog: x", []string{`2026-02-08T12:00:00Z {"pri":6,"host":"host","ident":"prog","message":"x"}`}},
		"syslog, rfc5424":      {"@type syslog\nmessage_format rfc5424\nwith_priority true", `<16>1 2017-02-06T13:14:15.003Z 192.168.0.1 fluentd - ID24224 [a@1 b="c"] Hi`, []string{`2017-02-06T13:14:15.003Z {"pri":16,"host":"192.168.0.1","ident":"fluentd","pid":"-","msgid":"ID24224","extradata":"[a@1 b=\"c\"]","message":"Hi"}`}},
		"syslog, which":        {"@type syslog\nmessage_format auto\nwith_priority true", `<16>1 2017-02-06T13:14:15Z h i - m - Hi`, []string{`2017-02-06T13:14:15Z {"pri":16,"host":"h","ident":"i","pid":"-","msgid":"m","extradata":"-","message":"Hi"}`}},
		"multiline":            {none + "@type multiline\nformat1 /^(?<a>\\w+)\\n/\nformat2 /(?<b>.*)$/", "one\ntwo\nthree", []string{`- {"a":"one","b":"two\nthree"}`}},
		"multiline, several":   {none + "@type multiline\nformat1 /^(?<a>\\w+) (?<b>\\w+)/", "one two\nthree four", []string{`- {"a":"one","b":"two"}`, `- {"a":"three","b":"four"}`}},
		"multiline, unmatched": {"@type multiline\nformat1 /^(?<a>x)/\nunmatched_lines true", "nope", []string{`2026-06-01T00:00:00Z {"unmatched_line":"nope"}`}},
	} {
		p, err := New(section(t, c.options), "", now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := read(p, c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	for _, c := range []struct{ options, want string }{
		{"@type grok", `fluent.conf:2:7: the parser "grok" is not built into logagent`},
		{"@type csv", "the parser needs keys"},
		{"@type regexp\nexpression /a/", "fluent.conf:3:12: expression needs at least one group with a name"},
		{"@type json\ntypes a:thing", `fluent.conf:3:7: types: there is no type "thing"`},
		{"@type json\ntimezone Nowhere", "fluent.conf:3:10: timezone"},
		{"@type multiline\nformat2 /(?<a>x)/", "fluent.conf:3:9: format1 is missing"},
	} {
		if _, err := New(section(t, c.options), "", now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.options, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	var parsers []*Parser
	for _, o := range []string{"@type json", "@type apache2", "@type nginx", "@type syslog\nmessage_format auto\nwith_priority true", "@type csv\nkeys a,b", "@type tsv\nkeys a,b", "@type ltsv\ndelimiter_pattern /\\s*/",
		"@type msgpack", "@type none", "@type apache_error", "@type multiline\nformat1 /(?<a>x*)/", "@type regexp\nexpression /(?<i>.*)/\ntypes i:integer"} {
		p, err := New(section(f, o), "", now)
		if err != nil {
			f.Fatal(err)
		}
		parsers = append(parsers, p)
	}
	f.Add([]byte(apacheText))
	f.Add([]byte(`[{"time":1},{"a":"b"}]`))
	f.Add([]byte("<16>1 2017-02-06T13:14:15Z h i - m [a b=\"\\]\"] Hi\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, p := range parsers {
			found, err := p.Parse(text)
			if err == nil && len(found) == 0 {
				t.Errorf("%s: neither a record nor an error", p.Type)
			}
			for _, x := range found {
				if n, err := record.Skip(x.Body); err != nil || n != len(x.Body) || record.KindOf(x.Body) != record.Map {
					t.Error(p.Type, fmt.Sprintf("%x", x.Body), err)
				}
			}
		}
	})
}
