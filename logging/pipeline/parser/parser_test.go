package parser

import (
	"fmt"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

var now = func() time.Time { return time.Date(2024, 3, 4, 5, 6, 7, 0, time.UTC) }

func make1(t testing.TB, pairs ...string) *Parser {
	t.Helper()
	s := &config.Section{Kind: config.Parser}
	s.Add("name", "p")
	for i := 0; i < len(pairs); i += 2 {
		s.Add(pairs[i], pairs[i+1])
	}
	p, err := New(s, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func result(p *Parser, text string) string {
	out, at, ok := p.Parse(nil, []byte(text))
	if !ok {
		return "no"
	}
	return fmt.Sprintf("%d.%09d %s", at.Sec, at.Nsec, record.AppendJSON(nil, out))
}

func TestParsers(t *testing.T) {
	for _, c := range []struct {
		pairs      []string
		text, want string
	}{
		{[]string{"format", "json"}, `{"a":1}`, `0.000000000 {"a":1}`},
		{[]string{"format", "json"}, `{"a":1} x`, `no`},
		{[]string{"format", "json"}, `[1]`, `no`},
		{[]string{"format", "json", "time_key", "t", "time_format", "%Y-%m-%d %H:%M:%S.%L %z"}, `{"a":1,"t":"2024-02-29 12:00:00.25 +0100","b":2}`, `1709204400.250000000 {"a":1,"b":2}`},
		{[]string{"format", "json", "time_key", "t", "time_format", "%s", "time_keep", "on"}, `{"t":"7"}`, `7.000000000 {"t":"7"}`},
		{[]string{"format", "json", "decode_field_as", "json x"}, `{"x":"{\"y\":1}","z":"{"}`, `0.000000000 {"x":{"y":1},"z":"{"}`},
		{[]string{"format", "json", "decode_field", "json x"}, `{"x":"{\"y\":1}","z":2}`, `0.000000000 {"x":"{\"y\":1}","z":2,"y":1}`},
		{[]string{"format", "json", "decode_field_as", "escaped x"}, `{"x":"a\\nb"}`, `0.000000000 {"x":"a\nb"}`},
		{[]string{"format", "regex", "regex", `^(?<a>\w*) (?<n>\S+) (?<f>\S+) (?<b>\S+) (?<h>\S+)$`, "types", "n:integer f:float b:bool h:hex"}, "x -12x 1.5 TRUE 0xff", `0.000000000 {"a":"x","n":-12,"f":1.5,"b":true,"h":255}`},
		{[]string{"format", "regex", "regex", `^(?<a>\w*) (?<b>.*)$`}, " x", `0.000000000 {"b":"x"}`},
		{[]string{"format", "regex", "regex", `^(?<a>\w*) (?<b>.*)$`, "skip_empty_values", "off"}, " x", `0.000000000 {"a":"","b":"x"}`},
		{[]string{"format", "regex", "regex", `^(?<time>.*)$`, "time_format", "%b %d %H:%M:%S"}, "Feb  3 04:05:06", `1706933106.000000000 {}`},
		{[]string{"format", "regex", "regex", `^(?<time>.*)$`, "time_format", "%H:%M", "time_offset", "+0100"}, "04:05", `1709521500.000000000 {}`},
		{[]string{"format", "regex", "regex", `^(?<time>.*)$`, "time_format", "%d/%b/%Y:%H:%M:%S", "time_zone", "Europe/Berlin"}, "01/Jul/2024:12:00:00", `1719828000.000000000 {}`},
		{[]string{"format", "regex", "regex", `^(?<time>.*)$`, "time_format", "%Y", "time_keep", "on"}, "x", `0.000000000 {}`},
		{[]string{"format", "regex", "regex", criExpression, "time_format", "%Y-%m-%dT%H:%M:%S.%L%z"}, "2024-01-01T00:00:00.123456789+02:00 stderr F a b", `1704060000.123456789 {"stream":"stderr","logtag":"F","message":"a b"}`},
		{[]string{"format", "regex", "regex", criExpression}, "x stdoutF a", "no"},
		{[]string{"format", "ltsv"}, "a:1\tb:x:y\tc:\r\n", `0.000000000 {"a":"1","b":"x:y","c":""}`},
		{[]string{"format", "logfmt"}, `a=1 b="x \"y\"" c d= e=""`, `0.000000000 {"a":"1","b":"x \"y\"","c":true,"d":true,"e":""}`},
		{[]string{"format", "logfmt", "logfmt_no_bare_keys", "on"}, `a=1 b`, "no"},
	} {
		if got := result(make1(t, c.pairs...), c.text); got != c.want {
			t.Errorf("%q on %q:\n%s, want\n%s", c.pairs, c.text, got, c.want)
		}
	}
}

// The quick way for containers' lines gives what the expression gives.
func FuzzCRI(f *testing.F) {
	quick := make1(f, "format", "regex", "regex", criExpression, "time_format", "%Y-%m-%dT%H:%M:%S.%L%z", "time_keep", "on")
	slow := *quick
	slow.cri = false
	for _, s := range []string{"2024-01-01T00:00:00.1Z stdout F x", "x stderr  y", "a stdout P ", " stdout F x", "a stdout F x\ny", "a b stdout F", "a stdout F\nx y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for i := range text {
			if text[i] == '\n' || text[i] >= 0x80 {
				return // lines have no breaks
			}
		}
		if a, b := result(quick, text), result(&slow, text); a != b {
			t.Fatalf("%q: %s, and by the expression %s", text, a, b)
		}
	})
}

func FuzzParse(f *testing.F) {
	parsers := []*Parser{make1(f, "format", "json", "time_key", "t", "time_format", "%d/%b/%Y:%H:%M:%S %z", "decode_field", "json x", "decode_field_as", "escaped_utf8 y"),
		make1(f, "format", "ltsv", "types", "a:integer b:float c:hex d:bool"), make1(f, "format", "logfmt", "time_key", "t", "time_format", "%Y-%j %p %I")}
	for _, s := range []string{`{"t":"01/Jul/2024:12:00:00 +0100","x":"{\"a\":1}","y":"\\n"}`, "a:1\tb:2", `a=1 t="2024-100 PM 11"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range parsers {
			out, _, ok := p.Parse(nil, []byte(text))
			if !ok {
				continue
			}
			if n, err := record.Skip(out); err != nil || n != len(out) || record.KindOf(out) != record.Map {
				t.Fatalf("%s on %q: %x, %v", p.format, text, out, err)
			}
		}
	})
}

func FuzzTime(f *testing.F) {
	f.Add("%Y-%m-%dT%H:%M:%S.%L%z", "2024-01-01T00:00:00.5Z")
	f.Add("%a %b %e %T %Z %Y", "Mon Jan  1 00:00:00 CET 2024")
	f.Fuzz(func(t *testing.T, format, text string) {
		tf, err := NewTimeFormat(format, 0, nil)
		if err != nil {
			return
		}
		if at, ok := tf.Parse([]byte(text), now()); ok && at.Nsec >= 1e9 {
			t.Fatalf("%q in %q: %v", text, format, at)
		}
	})
}
