package fluentd

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/buffer"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/plugin"
)

// safeBuffer is an output that may be read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// trial is an engine with what it prints and logs.
type trial struct {
	engine    *Engine
	out, said safeBuffer
	stop      context.CancelFunc
	ended     chan error
}

func file(t *testing.T, text string) *config.File {
	t.Helper()
	f, err := config.Parse("fluent.conf", []byte(text), config.Options{Format: config.Fluentd})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (x *trial) options(records []flow.Batch) Options {
	log := slog.New(slog.NewTextHandler(&x.said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return Options{Log: log, Logger: func(part, _ string) *slog.Logger { return log.With("part", part) },
		Env: func(name string) (string, bool) { return map[string]string{"HERE": "there"}[name], name == "HERE" },
		Now: time.Now, Positions: input.NewPositions(), Stdout: &x.out, Grace: 10 * time.Second, Records: records}
}

// batch is one record of a test.
func batch(t *testing.T, tag, body string) flow.Batch {
	t.Helper()
	packed, _, err := record.FromJSON(nil, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return flow.Batch{Tag: tag, Count: 1, Data: record.AppendEvent(nil, record.Time{Sec: 1767323045, Nsec: 5}, nil, packed)} // 2026-01-02 03:04:05
}

// play sends records, written TAG {JSON}, through a configuration and gives what it printed.
func play(t *testing.T, text string, records ...string) (out, said string) {
	t.Helper()
	x := &trial{}
	all := []flow.Batch{}
	for _, r := range records {
		tag, body, _ := strings.Cut(r, " ")
		all = append(all, batch(t, tag, body))
	}
	e, err := New(file(t, text), x.options(all))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return x.out.String(), x.said.String()
}

// start runs a configuration until the test ends.
func start(t *testing.T, text string) *trial {
	t.Helper()
	x := &trial{ended: make(chan error, 1)}
	e, err := New(file(t, text), x.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	x.run(t, e)
	return x
}

// run runs an engine until the test ends.
func (x *trial) run(t *testing.T, e *Engine) {
	t.Helper()
	x.engine = e
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	go func() { x.ended <- e.Run(ctx) }()
	t.Cleanup(func() { x.end(t) })
}

// safeTime is a clock that a test sets.
type safeTime struct{ at atomic.Pointer[time.Time] }

func (s *safeTime) set(t time.Time) { s.at.Store(&t) }
func (s *safeTime) now() time.Time  { return *s.at.Load() }

// testPart is a part that reads its options and logs nothing.
func testPart(t *testing.T, s *config.Section, kind, name string) *part {
	t.Helper()
	return &part{kind: kind, plugin: name, name: name, section: s, log: slog.New(slog.DiscardHandler), set: options.New(s, plugin.Fluentd().Plugin(kind, name), nil)}
}

func (x *trial) end(t *testing.T) {
	t.Helper()
	if x.stop == nil {
		return
	}
	x.stop()
	x.stop = nil
	if err := <-x.ended; err != nil {
		t.Error(err)
	}
}

// await waits until the test's condition holds.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
	}
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// lines are the printed lines without their time.
func lines(out string) []string {
	var all []string
	for line := range strings.Lines(out) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 4)
		all = append(all, words[len(words)-1])
		if len(words) == 4 {
			all[len(all)-1] = words[3]
		}
	}
	return all
}

func TestStdoutPrintsAsUpstream(t *testing.T) {
	defer func(z *time.Location) { time.Local = z }(time.Local)
	time.Local = time.FixedZone("", 9*3600)
	out, _ := play(t, "<match **>\n@type stdout\n</match>", `a.b {"x":1,"y":"ü\n","z":null,"l":[1.5,true]}`)
	if want := "2026-01-02 12:04:05.000000005 +0900 a.b: {\"x\":1,\"y\":\"ü\\n\",\"z\":null,\"l\":[1.5,true]}\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestRouting(t *testing.T) {
	const conf = `
<match a.*>
  @type stdout
  <format>
    @type single_value
    message_key first
  </format>
</match>
<match a.**>
  @type relabel
  @label @REST
</match>
<filter **>
  @type record_transformer
  <record>
    late yes
  </record>
</filter>
<match c>
  @type copy
  <store>
    @type relabel
    @label @REST
  </store>
  <store ignore_error>
    @type stdout
  </store>
</match>
<match back>
  @type relabel
  @label @LOOP
</match>
<label @REST>
  <filter a.b.c>
    @type grep
    <exclude>
      key drop
      pattern .
    </exclude>
  </filter>
  <match **>
    @type stdout
  </match>
</label>
<label @LOOP>
  <match **>
    @type relabel
    @label @ROOT
  </match>
</label>`
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"the first match wins":                    {`a.b {"first":"one"}`, []string{"one"}},
		"a label takes it":                        {`a.b.c {"k":1}`, []string{`a.b.c: {"k":1}`}},
		"filters of a label":                      {`a.b.c {"drop":1}`, nil},
		"filters stand before the match":          {`c {"k":1}`, []string{`c: {"k":1,"late":"yes"}`, `c: {"k":1,"late":"yes"}`}},
		"no match":                                {`z {"k":1}`, nil},
		"labels in a circle end, and are told of": {`back {"k":1}`, nil},
	} {
		out, said := play(t, conf, c.in)
		if got := lines(out); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		if name == "no match" && !strings.Contains(said, "no patterns matched") || strings.Contains(name, "circle") && !strings.Contains(said, "circle") {
			t.Errorf("%s: nothing is said: %s", name, said)
		}
	}
}

func TestWorkersHaveTheirOwnRules(t *testing.T) {
	out, _ := play(t, `
<system>
  workers 2
</system>
<worker 1>
  <match a>
    @type null
  </match>
</worker>
<worker 0>
  <filter a>
    @type record_transformer
    <record>
      worker zero
    </record>
  </filter>
</worker>
<match a>
  @type stdout
</match>`, `a {}`)
	if got := lines(out); !slices.Equal(got, []string{`a: {"worker":"zero"}`}) {
		t.Errorf("got %q", got)
	}
}

func TestRecordTransformer(t *testing.T) {
	host := hostname()
	for name, c := range map[string]struct{ options, in, want string }{
		"placeholders": {`<record>
			a ${tag} ${tag_parts[0]} ${tag_parts[-1]} ${tag_parts[9]}.
			b ${tag_prefix[1]}/${tag_suffix[1]}/${tag_prefix[-1]}/${tag_suffix[-2]}
			c ${hostname}
			d ${record["k"]}-${record["no"]}
			</record>`, `t.u.v {"k":7}`, `t.u.v: {"k":7,"a":"t.u.v t v .","b":"t.u/u.v/t.u.v/u.v","c":"` + host + `","d":"7-"}`},
		"types are kept": {`<record>
			n ${record["n"]}
			m ${record["m"]}
			x ${record["x"]}
			s "${record["n"]} "
			</record>`, `t {"n":1.5,"m":{"a":[1]}}`, ""},
		"old names are unknown": {"<record>\na __A_B__\n</record>", `t {}`, `t: {"a":null}`},
		"as text":               {"auto_typecast false\n<record>\nn ${record[\"n\"]}\n</record>", `t {"n":1}`, `t: {"n":"1"}`},
		"trees": {`<record>
			o {"${tag}":{"x":"${tag_parts[0]}","y":[1,null,"${hostname}"]}}
			</record>`, `t {}`, `t: {"o":{"t":{"x":"t","y":[1,null,"` + host + `"]}}}`},
		"a field keeps its place": {"<record>\nb new\nz last\n</record>", `t {"a":1,"b":2,"c":3}`, `t: {"a":1,"b":"new","c":3,"z":"last"}`},
		"renew":                   {"renew_record true\nkeep_keys a,c\n<record>\nb ${record[\"b\"]}\n</record>", `t {"a":1,"b":2,"c":3,"d":4}`, `t: {"a":1,"c":3,"b":2}`},
		"remove":                  {"remove_keys a,$.b.c,$['b']['d']\n<record>\na gone\n</record>", `t {"b":{"c":1,"d":2,"e":3}}`, `t: {"b":{"e":3}}`},
		"paths of Ruby": {"enable_ruby true\n<record>\na ${record[\"k\"][\"p\"]}\nb x${ record.dig('k', \"p\") }\nc ${tag_parts[0]}\nd __X_Y__\n</record>", `t {"k":{"p":[1]}}`,
			`t: {"k":{"p":[1]},"a":[1],"b":"x[1]","c":"t","d":"__X_Y__"}`},
	} {
		conf := "<filter **>\n@type record_transformer\n" + strings.ReplaceAll(c.options, "\t", "") + "\n</filter>\n<match **>\n@type stdout\n</match>"
		if name == "types are kept" {
			conf = strings.ReplaceAll(conf, `"${record["n"]} "`, `${record["n"]}!`)
			c.want = `t: {"n":1.5,"m":{"a":[1]},"x":null,"s":"1.5!"}`
		}
		out, said := play(t, conf, c.in)
		if got := lines(out); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: got %q, want %q; %s", name, got, c.want, said)
		}
	}
	out, _ := play(t, "<filter **>\n@type record_transformer\nrenew_time_key at\nremove_keys at\n</filter>\n<match **>\n@type stdout\n<format>\n@type out_file\ntime_type unixtime\n</format>\n</match>", `t {"at":1500000000.5,"k":1}`)
	if want := "1500000000\tt\t{\"k\":1}\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestGrep(t *testing.T) {
	for name, c := range map[string]struct {
		rules string
		kept  string // of the numbers 1 to 4
	}{
		"regexp":             {"<regexp>\nkey a\npattern /^x/\n</regexp>", "12"},
		"two regexps":        {"<regexp>\nkey a\npattern /^x/\n</regexp>\n<regexp>\nkey $.k.b\npattern 1\n</regexp>", "1"},
		"exclude":            {"<exclude>\nkey a\npattern /X/i\n</exclude>", "34"},
		"two excludes":       {"<exclude>\nkey a\npattern ^x\n</exclude>\n<exclude>\nkey $.k.b\npattern 2\n</exclude>", "4"},
		"or of regexps":      {"<or>\n<regexp>\nkey a\npattern xy\n</regexp>\n<regexp>\nkey $.k.b\npattern 2\n</regexp>\n</or>", "123"},
		"and of excludes":    {"<and>\n<exclude>\nkey a\npattern ^x\n</exclude>\n<exclude>\nkey $.k.b\npattern 2\n</exclude>\n</and>", "134"},
		"missing is nothing": {"<regexp>\nkey a\npattern /^$/\n</regexp>", "4"},
		"old form":           {"regexp1 a ^x\nexclude1 n 2", "1"},
	} {
		out, _ := play(t, "<filter **>\n@type grep\n"+c.rules+"\n</filter>\n<match **>\n@type stdout\n<format>\n@type single_value\nmessage_key n\nadd_newline false\n</format>\n</match>",
			`t {"n":1,"a":"xy","k":{"b":1}}`, `t {"n":2,"a":"x","k":{"b":2}}`, `t {"n":3,"a":"y","k":{"b":2}}`, `t {"n":4}`)
		if out != c.kept {
			t.Errorf("%s: got %q, want %q", name, out, c.kept)
		}
	}
}

func TestParserFilter(t *testing.T) {
	const regexp = "<parse>\n@type regexp\nexpression /^(?<time>\\d+) (?<user>[^ ]*) (?<n>\\d+)$/\ntime_type unixtime\ntypes n:integer\n</parse>"
	for name, c := range map[string]struct {
		options, in string
		want        []string
	}{
		"fields":       {regexp, `t {"log":"1500000000 bob 7","x":1}`, []string{`1500000000 t {"user":"bob","n":7}`}},
		"reserved":     {"reserve_data true\nreserve_time true\nremove_key_name_field true\n" + regexp, `t {"log":"1500000000 bob 7","x":1}`, []string{`1767323045 t {"x":1,"user":"bob","n":7}`}},
		"prefix":       {"inject_key_prefix p_\n" + regexp, `t {"log":"1500000000 bob 7"}`, []string{`1500000000 t {"p_user":"bob","p_n":7}`}},
		"hash":         {"reserve_data true\nhash_value_field h\n" + regexp, `t {"log":"1500000000 bob 7"}`, []string{`1500000000 t {"log":"1500000000 bob 7","h":{"user":"bob","n":7}}`}},
		"no match":     {regexp, `t {"log":"zzz"}`, []string{`1767323045 t {"log":"zzz"} in @ERROR`}},
		"kept":         {"reserve_data true\nemit_invalid_record_to_error false\n" + regexp, `t {"log":"zzz"}`, []string{`1767323045 t {"log":"zzz"}`}},
		"missing":      {regexp, `t {"x":1}`, []string{`1767323045 t {"x":1} in @ERROR`}},
		"array of two": {"<parse>\n@type json\n</parse>", `t {"log":"[{\"a\":1,\"time\":1500000000},{\"b\":2,\"time\":1500000001}]"}`, []string{`1500000000 t {"a":1}`, `1500000001 t {"b":2}`}},
	} {
		if name == "array of two" {
			c.options = strings.ReplaceAll(c.options, "</parse>", "</parse>")
		}
		out, said := play(t, "<filter **>\n@type parser\nkey_name log\n"+c.options+"\n</filter>\n<match **>\n@type stdout\n<format>\n@type out_file\ntime_type unixtime\ndelimiter SPACE\n</format>\n</match>\n"+
			"<label @ERROR>\n<match **>\n@type stdout\n<format>\n@type out_file\ntime_type unixtime\ndelimiter SPACE\n</format>\n<inject>\ntag_key _error\n</inject>\n</match>\n</label>", c.in)
		got := strings.Split(strings.TrimSpace(out), "\n")
		for i := range got {
			if before, ok := strings.CutSuffix(got[i], `,"_error":"t"}`); ok {
				got[i] = before + "} in @ERROR"
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q; %s", name, got, c.want, said)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct{ conf, want string }{
		"plugin":         {"<source>\n@type sample\ntag a\n</source>\n<match **>\n  @type mongo\n</match>", `fluent.conf:6:9: the output "mongo" of Fluentd is not built into logagent`},
		"option":         {"<source>\n@type sample\ntag a\nrat 2\n</source>", `fluent.conf:4:5: sample has no option "rat"`},
		"ruby":           {"<source>\n@type sample\ntag \"#{`id`}\"\n</source>", "fluent.conf:3:5: tag: #{`id`} is Ruby, which logagent does not run"},
		"ruby in record": {"<filter **>\n@type record_transformer\nenable_ruby\n<record>\na ${Time.now}\n</record>\n</filter>", "fluent.conf:5:3: a: ${Time.now} is Ruby"},
		"label":          {"<source>\n@type sample\ntag a\n@label @NO\n</source>", "fluent.conf:4:8: there is no <label @NO>"},
		"no type":        {"<match **>\n</match>", "fluent.conf:1:1: <match> needs @type"},
		"buffer":         {"<match **>\n@type file\npath /tmp/x\n<buffer tag>\n@type memory\n</buffer>\n</match>", `fluent.conf:3:6: path "/tmp/x_**.log": it has no placeholder for the tag`},
		"shared buffer":  {"<match a>\n@type stdout\n<buffer>\n@type file\npath /tmp/b\n</buffer>\n</match>\n<match b>\n@type stdout\n<buffer>\n@type file\npath /tmp/b\n</buffer>\n</match>", "fluent.conf:12:6: stdout.0 at fluent.conf:1:1 uses the same path"},
		"pattern":        {"<match /a>\n@type null\n</match>", "fluent.conf:1:1: <match /a>: the pattern"},
		"regexp":         {"<filter **>\n@type grep\n<regexp>\nkey a\npattern /(/\n</regexp>\n</filter>", "fluent.conf:5:9: regular expression"},
		"section":        {"<match **>\n@type stdout\n<what>\n</what>\n</match>", "fluent.conf:3:1: <what> is not built into logagent inside of output stdout"},
		"id":             {"<match a>\n@type null\n@id x\n</match>\n<match b>\n@type null\n@id x\n</match>", `fluent.conf:5:1: the @id "x" is used at fluent.conf:1:1`},
		"worker":         {"<worker 3>\n<match a>\n@type null\n</match>\n</worker>", "fluent.conf:1:1: <worker 3>: there are 1 workers"},
	} {
		x := &trial{}
		_, err := New(file(t, c.conf), x.options(nil))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	out, _ := play(t, "<filter **>\n@type record_transformer\n<record>\na \"#{ENV['HERE']}/#{ENV['NO'] || 'other'}/#{ENV.fetch(\"NO\", \"x\")}/#{worker_id}\"\nh \"#{Socket.gethostname}\"\n</record>\n</filter>\n<match **>\n@type stdout\n</match>", "t {}")
	if got := lines(out); !slices.Equal(got, []string{`t: {"a":"there/other/x/0","h":"` + hostname() + `"}`}) {
		t.Errorf("got %q", got)
	}
}

func TestTailParsesLines(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a.log")
	text := "start one\n  at x\n  at y\nstart two\nstart three\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	x := start(t, `
<source>
  @type tail
  path `+dir+`/*.log
  pos_file `+dir+`/pos
  tag app.*
  path_key from
  read_from_head true
  multiline_flush_interval 0.2s
  <parse>
    @type multiline
    format_firstline /^start/
    format1 /^start (?<name>\w+)(?<rest>.*)/
  </parse>
</source>
<match app.**>
  @type stdout
</match>`)
	tag := "app." + strings.Trim(strings.ReplaceAll(name, "/", "."), ".")
	want := []string{tag + `: {"name":"one","rest":"\n  at x\n  at y","from":"` + name + `"}`, tag + `: {"name":"two","rest":"","from":"` + name + `"}`, tag + `: {"name":"three","rest":"","from":"` + name + `"}`}
	await(t, "three messages", func() bool { return len(lines(x.out.String())) >= 3 })
	x.end(t)
	if got := lines(x.out.String()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A message that waits for more lines is sent at the end, without a flush interval.
func TestTailEndsWithWhatItHolds(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte("start one\nstart two\n  more\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	x := start(t, "<source>\n@type tail\npath "+dir+"/a.log\ntag t\nread_from_head true\n<parse>\n@type multiline\nformat_firstline /^start/\nformat1 /^start (?<all>.*)/\n</parse>\n</source>\n<match t>\n@type stdout\n</match>")
	await(t, "the first message", func() bool { return strings.Contains(x.out.String(), "one") })
	x.end(t)
	if got := lines(x.out.String()); !slices.Equal(got, []string{`t: {"all":"one"}`, `t: {"all":"two\n  more"}`}) {
		t.Errorf("got %q", got)
	}
}

func FuzzPlaceholders(f *testing.F) {
	f.Add("/var/log/${tag[1]}/%Y/${k}.${chunk_id}", "a.b", "v")
	f.Add("${tag}${$.k.x}", "../a", "/../..")
	f.Add(`${record["k"]}${tag_parts[-1]}__A__`, "a..b", "\x00")
	f.Fuzz(func(t *testing.T, text, tag, value string) {
		keys := &chunking{tag: true, time: true, timekey: time.Hour, zone: time.UTC, names: []string{"k"}}
		tmpl := &template{text, keys}
		if tmpl.check(false) == nil {
			got, err := tmpl.expand(&buffer.Chunk{ID: "id", Key: buffer.Key{Tag: tag, Time: 3600, Timed: true, Vars: map[string]string{"k": value}}})
			if err == nil && strings.Count(got, "../") > strings.Count(text, "../") {
				t.Errorf("%q with %q and %q leads away: %q", text, tag, value, got)
			}
		}
		log := slog.New(slog.DiscardHandler)
		for _, ruby := range []bool{false, true} {
			p := &part{log: log, set: options.New(&config.Section{}, plugin.Fluentd().Plugin("filter", "record_transformer"), nil)}
			m := moulder{p, config.Property{Key: "k"}, ruby, true}
			out := m.value(text).fill(nil, &event{tag: tag, parts: strings.Split(tag, "."), body: record.EmptyMap})
			if n, err := record.Skip(out); err != nil || n != len(out) {
				t.Errorf("%q becomes %x: %v", text, out, err)
			}
		}
		e := evaluator{env: func(string) (string, bool) { return value, true }}
		if got, use, err := e.value(config.Property{Value: text}); err == nil && use && !strings.Contains(text, "#{") && got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	})
}
