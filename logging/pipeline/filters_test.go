package pipeline_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/logging/pipeline"
)

// through runs lines of JSON through filters and gives what the file output writes.
func through(t *testing.T, lines, filters, want string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in.log"), lines)
	start(t, dir, `[INPUT]
    Name tail
    Path DIR/in.log
    Tag app.one
    Parser json
    Read_from_Head true
`+filters+`[OUTPUT]
    Name file
    Match *
    Path DIR
    File out
[PARSER]
    Name json
    Format json
    Time_Key time
    Time_Format %s
[PARSER]
    Name kv
    Format logfmt
[PARSER]
    Name num
    Format regex
    Regex ^(?<word>\w+) (?<n>\d+)$
    Types n:integer
`, pipeline.Options{})
	await(t, filepath.Join(dir, "out"), want)
}

func TestFilters(t *testing.T) {
	out := func(tag string, records ...string) string {
		var b strings.Builder
		for _, r := range records {
			fmt.Fprintf(&b, "%s: [5.000000000, %s]\n", tag, r)
		}
		return b.String()
	}
	in := `{"time":"5","log":"a 1","level":"info"}` + "\n" + `{"time":"5","log":"b 2","level":"debug","k":{"x":1}}` + "\n"
	for name, c := range map[string]struct{ filters, want string }{
		"grep":         {"[FILTER]\n    Name grep\n    Match *\n    Regex level ^info$\n", out("app.one", `{"log":"a 1","level":"info"}`)},
		"grep exclude": {"[FILTER]\n    Name grep\n    Match *\n    Exclude $level info\n", out("app.one", `{"log":"b 2","level":"debug","k":{"x":1}}`)},
		"grep or": {"[FILTER]\n    Name grep\n    Match *\n    Logical_Op or\n    Regex log ^a\n    Regex level debug\n",
			out("app.one", `{"log":"a 1","level":"info"}`, `{"log":"b 2","level":"debug","k":{"x":1}}`)},
		"other tag": {"[FILTER]\n    Name grep\n    Match other.*\n    Regex log ^none\n",
			out("app.one", `{"log":"a 1","level":"info"}`, `{"log":"b 2","level":"debug","k":{"x":1}}`)},
		"modify": {"[FILTER]\n    Name modify\n    Match *\n    Set a b c\n    Add level no\n    Rename log message\n    Remove k\n    Copy level severity\n    Move_To_Start severity\n",
			out("app.one", `{"severity":"info","message":"a 1","level":"info","a":"b c"}`, `{"severity":"debug","message":"b 2","level":"debug","a":"b c"}`)},
		"modify condition": {"[FILTER]\n    Name modify\n    Match *\n    Condition Key_Value_Equals level debug\n    Condition Key_Exists $k['x']\n    Set hit yes\n",
			out("app.one", `{"log":"a 1","level":"info"}`, `{"log":"b 2","level":"debug","k":{"x":1},"hit":"yes"}`)},
		"record_modifier": {"[FILTER]\n    Name record_modifier\n    Match *\n    Record host ${NOSUCH:-node}\n    Remove_key k\n",
			out("app.one", `{"log":"a 1","level":"info","host":"node"}`, `{"log":"b 2","level":"debug","host":"node"}`)},
		"allowlist": {"[FILTER]\n    Name record_modifier\n    Match *\n    Allowlist_key log\n", out("app.one", `{"log":"a 1"}`, `{"log":"b 2"}`)},
		"nest": {"[FILTER]\n    Name nest\n    Match *\n    Operation nest\n    Wildcard l*\n    Nest_under in\n    Add_prefix p_\n",
			out("app.one", `{"in":{"p_log":"a 1","p_level":"info"}}`, `{"k":{"x":1},"in":{"p_log":"b 2","p_level":"debug"}}`)},
		"lift": {"[FILTER]\n    Name nest\n    Match *\n    Operation lift\n    Nested_under k\n    Add_prefix k_\n",
			out("app.one", `{"log":"a 1","level":"info"}`, `{"log":"b 2","level":"debug","k_x":1}`)},
		"parser": {"[FILTER]\n    Name parser\n    Match *\n    Key_Name log\n    Parser num\n",
			out("app.one", `{"word":"a","n":1}`, `{"word":"b","n":2}`)},
		"parser reserve": {"[FILTER]\n    Name parser\n    Match *\n    Key_Name log\n    Parser num\n    Reserve_Data on\n    Preserve_Key on\n",
			out("app.one", `{"word":"a","n":1,"log":"a 1","level":"info"}`, `{"word":"b","n":2,"log":"b 2","level":"debug","k":{"x":1}}`)},
		"rewrite_tag": {"[FILTER]\n    Name rewrite_tag\n    Match app.*\n    Rule $level ^(in)fo new.$1.$TAG[1].$log false\n    Rule $nosuch . x false\n",
			out("app.one", `{"log":"b 2","level":"debug","k":{"x":1}}`) + out("new.in.one.a 1", `{"log":"a 1","level":"info"}`)},
		"throttle": {"[FILTER]\n    Name throttle\n    Match *\n    Rate 1\n    Window 1\n    Interval 1h\n", out("app.one", `{"log":"a 1","level":"info"}`)},
	} {
		t.Run(name, func(t *testing.T) { through(t, in, c.filters, c.want) })
	}
}

// An output gets what one input brings in its order, also when each record has another tag.
func TestTagsKeepTheirOrder(t *testing.T) {
	dir := t.TempDir()
	var lines, want strings.Builder
	for c := 'a'; c <= 'z'; c++ {
		fmt.Fprintf(&lines, "%c\n", c)
		fmt.Fprintf(&want, "{\"log\":\"%c\"}\n", c)
	}
	write(t, filepath.Join(dir, "in.log"), lines.String())
	start(t, dir, `[INPUT]
    Name tail
    Path DIR/in.log
    Tag t
    Read_from_Head true
[FILTER]
    Name rewrite_tag
    Match t
    Rule $log ^(.)$ new.$1 false
[OUTPUT]
    Name file
    Match new.*
    Path DIR
    File out
    Format plain
`, pipeline.Options{})
	await(t, filepath.Join(dir, "out"), want.String())
}

func TestRulesInACircleEnd(t *testing.T) {
	dir := t.TempDir()
	engine := start(t, dir, `[INPUT]
    Name dummy
    Tag a
    Samples 1
    Flush_On_Startup on
[FILTER]
    Name rewrite_tag
    Match *
    Rule $message . b false
[FILTER]
    Name rewrite_tag
    Match *
    Rule $message . a false
[OUTPUT]
    Name null
    Match *
`, pipeline.Options{})
	if err := engine.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestMultiline(t *testing.T) {
	for name, c := range map[string]struct{ option, in, want string }{
		"cri": {"    multiline.parser docker, cri\n",
			"2024-01-01T00:00:00.5Z stdout P one \n2024-01-01T00:00:00.6Z stderr F other\n2024-01-01T00:00:01Z stdout F two\nplain\n",
			`{"time":"2024-01-01T00:00:00.6Z","stream":"stderr","_p":"F","log":"other"}` + "\n" +
				`{"time":"2024-01-01T00:00:00.5Z","stream":"stdout","_p":"P","log":"one two"}` + "\n" + `{"log":"plain"}` + "\n"},
		"docker": {"    multiline.parser docker\n", `{"log":"a","stream":"stdout"}` + "\n" + `{"log":"b\n","stream":"stdout"}` + "\n", `{"log":"ab\n","stream":"stdout"}` + "\n"},
		"java": {"    multiline.parser java\n", "x\nException in thread: java.lang.Error: no\n    at a.b(C.java:1)\n    at d\ny\n",
			`{"log":"x\n"}` + "\n" + `{"log":"Exception in thread: java.lang.Error: no\n    at a.b(C.java:1)\n    at d\n"}` + "\n" + `{"log":"y\n"}` + "\n"},
		"rules": {"    multiline.parser mine\n", "1 a\n + b\n2 c\n", `{"log":"1 a\n + b\n"}` + "\n" + `{"log":"2 c\n"}` + "\n"},
		"older": {"    Multiline on\n    Parser_Firstline first\n", "1 a\n + b\n2 c\n", `{"n":"1","text":"a\n + b"}` + "\n" + `{"n":"2","text":"c"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "a.log"), c.in)
			start(t, dir, strings.Replace(tailToFile, "    Tag t\n", "    Tag t\n"+c.option, 1)+`[MULTILINE_PARSER]
    Name mine
    Type regex
    Flush_Timeout 300
    Rule "start_state" "/^\d/" "cont"
    Rule "cont" "/^ \+/" "cont"
[PARSER]
    Name first
    Format regex
    Regex ^(?<n>\d) (?<text>.*)$
`, pipeline.Options{})
			await(t, filepath.Join(dir, "out"), c.want)
		})
	}
}

func TestMultilineFilter(t *testing.T) {
	through(t, `{"time":"5","log":"Traceback (most recent call last):"}`+"\n"+`{"time":"5","log":"  File x"}`+"\n"+`{"time":"5","log":"    code"}`+"\n"+`{"time":"5","log":"E: bad"}`+"\n"+`{"time":"5","log":"next"}`+"\n",
		"[FILTER]\n    Name multiline\n    Match *\n    multiline.key_content log\n    multiline.parser python\n    flush_ms 100\n",
		"app.one: [5.000000000, {\"log\":\"Traceback (most recent call last):\\n  File x\\n    code\\nE: bad\"}]\napp.one: [5.000000000, {\"log\":\"next\"}]\n")
}

// multiline_buffer_limit bounds what lines are joined to, by the filter and by tail.
func TestMultilineBufferLimit(t *testing.T) {
	lines := `{"time":"5","log":"Traceback (most recent call last):"}` + "\n" + `{"time":"5","log":"  File x"}` + "\n" + `{"time":"5","log":"next"}` + "\n"
	for limit, want := range map[string]string{"": "  File x", "    multiline_buffer_limit 40\n": "  Fil"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "in.log"), lines)
		service := "[SERVICE]\n    Flush 0.05\n" + limit
		start(t, dir, service+"[INPUT]\n    Name tail\n    Path DIR/in.log\n    Read_from_Head true\n    Parser json\n[FILTER]\n    Name multiline\n    Match *\n    multiline.key_content log\n    multiline.parser python\n    flush_ms 100\n"+
			strings.Replace(toFile, "    File out\n", "    File out\n    Format template\n    Template {log}\n", 1), pipeline.Options{})
		awaitThat(t, func() string {
			first, _, _ := strings.Cut(read(filepath.Join(dir, "out")), "next")
			return strings.TrimRight(first, "\n")
		}, "Traceback (most recent call last):\n"+want)
		dir = t.TempDir()
		write(t, filepath.Join(dir, "in.log"), "Traceback (most recent call last):\n  File x\nnext\n")
		start(t, dir, service+"[INPUT]\n    Name tail\n    Path DIR/in.log\n    Read_from_Head true\n    multiline.parser python\n"+
			strings.Replace(toFile, "    File out\n", "    File out\n    Format template\n    Template {log}\n", 1), pipeline.Options{})
		awaitThat(t, func() string {
			first, _, _ := strings.Cut(read(filepath.Join(dir, "out")), "next")
			return strings.TrimRight(first, "\n")
		}, "Traceback (most recent call last):\n"+want)
	}
}
