package render

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/resource"
)

func fluentdFile(t *testing.T, text string) *config.File {
	t.Helper()
	f, err := config.Parse("fluent.conf", []byte(text), config.Options{Format: config.Fluentd})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}

// A plugin whose options have fields gets these, another one becomes a customPlugin.
func TestFluentdResources(t *testing.T) {
	documents, err := FluentdResources(fluentdFile(t, `
<system>
  workers 2
  log_level debug
</system>
<source>
  @type tail
  path /var/log/a.log
  tag app.a
  read_from_head true
  <parse>
    @type json
    time_key t
  </parse>
</source>
<source>
  @type syslog
  tag s
</source>
<filter app.*>
  @type grep
  <regexp>
    key level
    pattern /error/
  </regexp>
</filter>
<match app.*>
  @type forward
  <server>
    host a
    port 24224
  </server>
  <buffer tag>
    @type file
    path /buffers/a
    flush_interval 5s
  </buffer>
</match>
<match **>
  @type rewrite_tag_filter
  anything "#{Socket.gethostname}"
</match>
`), "mine", "logs", "example.test/fluentd")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, d := range documents {
		text, err := yaml.Marshal(map[string]any{d["kind"].(string): d["spec"]})
		if err != nil {
			t.Fatal(err)
		}
		got.Write(text)
	}
	want := `Fluentd:
  defaultFilterSelector:
    matchLabels:
      weft.dev/config: mine
  defaultOutputSelector:
    matchLabels:
      weft.dev/config: mine
  fluentdCfgSelector:
    matchLabels:
      weft.dev/config: mine
  globalInputs:
  - tail:
      parse:
        timeKey: t
        type: json
      path: /var/log/a.log
      readFromHead: true
      tag: app.a
  - customPlugin:
      config: |
        <source>
          @type  syslog
          tag  s
        </source>
  image: example.test/fluentd
  logLevel: debug
  workers: 2
Filter:
  filters:
  - grep:
      regexp:
      - key: level
        pattern: /error/
    tag: app.*
Output:
  outputs:
  - buffer:
      flushInterval: 5s
      path: /buffers/a
      tag: tag
      type: file
    forward:
      servers:
      - host: a
        port: "24224"
    tag: app.*
Output:
  outputs:
  - customPlugin:
      config: |
        <match **>
          @type  rewrite_tag_filter
          anything  "#{Socket.gethostname}"
        </match>
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

// Fields that would become more than was written are not used: a file buffer gets a path, so one without is a customPlugin.
func TestFluentdResourcesAddNothing(t *testing.T) {
	documents, err := FluentdResources(fluentdFile(t, "<match a>\n  @type stdout\n  <buffer>\n    @type file\n  </buffer>\n</match>"), "n", "ns", "i")
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(documents[1]["spec"])
	if err != nil || !strings.Contains(string(text), "customPlugin") {
		t.Errorf("%v\n%s", err, text)
	}
}

// What resources cannot hold is told with its place.
func TestFluentdResourcesRefuse(t *testing.T) {
	for text, want := range map[string]string{
		"<label @a>\n</label>": "fluent.conf:1:1: resources cannot hold <label @a>", "<worker 0>\n</worker>": "fluent.conf:1:1: resources cannot hold <worker 0>",
		"<source>\n  @type http\n  @label @a\n</source>":                                "fluent.conf:3:3: resources have no labels of their own",
		"<match a>\n  @type null\n</match>\n<filter b>\n  @type stdout\n</filter>":      "fluent.conf:1:1: resources cannot hold <match a> in this place",
		"<filter **>\n  @type stdout\n</filter>\n<filter b>\n  @type stdout\n</filter>": "fluent.conf:1:1: resources cannot hold <filter **> in this place",
		"<match a>\n  @type null\n</match>\n<match a>\n  @type stdout\n</match>":        "fluent.conf:1:1: resources cannot hold <match a> in this place",
		"<system>\n  umask 0\n</system>":                                                "fluent.conf:2:3: a Fluentd has no field for umask", "<system>\n  workers many\n</system>": "fluent.conf:2:11: workers:",
		"<system>\n  <log>\n  </log>\n</system>": "fluent.conf:2:3: a Fluentd has no field for <log>", "a b\n": "fluent.conf:1:1: resources cannot hold a outside",
	} {
		if _, err := FluentdResources(fluentdFile(t, text), "n", "ns", "i"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// Whatever is converted without an error is rendered as what it was: the same plugins with the same options, in the same order.
func TestFluentdResourcesComeBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(all ...string) string { return all[random.IntN(len(all))] }
	value := func() string {
		return pick("a", "b c", "5", "true", `"#{ENV['X']}"`, `"quoted # x"`, "[1,2]", "${tag}", "/x(y)/", "5s", "1m")
	}
	section := func(head, options string, n int) string {
		var b strings.Builder
		b.WriteString("<" + head + ">\n")
		for range n {
			fmt.Fprintf(&b, "  %s %s\n", pick(strings.Fields(options)...), value())
		}
		b.WriteString("  <" + pick("parse", "buffer", "buffer tag,time", "format", "inject", "server", "regexp", "record", "transport tls", "secondary") + ">\n")
		for range random.IntN(3) {
			fmt.Fprintf(&b, "    %s %s\n", pick("@type", "host", "key", "pattern", "path", "flush_interval", "time_key", "message", "port"), value())
		}
		kind, _, _ := strings.Cut(head, " ")
		section, _, _ := strings.Cut(strings.TrimPrefix(b.String()[strings.LastIndex(b.String(), "  <")+3:], "/"), ">")
		section, _, _ = strings.Cut(section, " ")
		fmt.Fprintf(&b, "  </%s>\n</%s>\n", section, kind)
		return b.String()
	}
	converted := 0
	for range 2000 {
		var text strings.Builder
		for range random.IntN(3) {
			text.WriteString(section("source", "tag path port bind @id", random.IntN(3)))
		}
		for i := range random.IntN(3) {
			text.WriteString(section(fmt.Sprintf("filter %s%d", pick("a.*", "b", "**"), i), "key_name enable_ruby reserve_data @id", random.IntN(3)))
		}
		for i := range random.IntN(3) {
			text.WriteString(section(fmt.Sprintf("match %s%d", pick("a.*", "b", "c d", "**"), i), "host port path log_level topics @id", random.IntN(3)))
		}
		conf := strings.ReplaceAll(text.String(), "<source>\n", "<source>\n  @type "+pick("tail", "forward", "http", "exec")+"\n")
		for _, kind := range []string{"filter", "match"} {
			lines := strings.SplitAfter(conf, "\n")
			for i, line := range lines {
				if strings.HasPrefix(line, "<"+kind+" ") {
					lines[i] = line + "  @type " + pick("grep", "parser", "stdout", "forward", "elasticsearch", "null", "record_transformer", "of_a_gem") + "\n"
				}
			}
			conf = strings.Join(lines, "")
		}
		f, err := config.Parse("fluent.conf", []byte(conf), config.Options{Format: config.Fluentd})
		if err != nil {
			continue
		}
		documents, err := FluentdResources(f, "n", "ns", "i")
		if err != nil {
			continue
		}
		converted++
		var all []*resource.Document
		for _, d := range documents {
			all = append(all, resource.New(d, nil))
		}
		var c Compiler
		r := c.Fluentd(resource.NewSet(all))[0]
		app, err := r.App()
		if err != nil {
			t.Fatalf("%v\n%s", err, conf)
		}
		back := fluentdFile(t, string(app))
		var got []*config.Section
		for _, s := range back.Sections {
			switch {
			case s.Kind == "label":
				got = append(got, s.Sections...)
			case s.Value("@type") != "label_router":
				got = append(got, s)
			}
		}
		if len(got) != len(f.Sections) {
			t.Fatalf("%d sections became %d:\n%s\n%s", len(f.Sections), len(got), conf, app)
		}
		for i := range got {
			if !equal(got[i], f.Sections[i]) {
				t.Fatalf("section %d differs:\n%s\n%s", i, conf, app)
			}
		}
	}
	if converted < 200 {
		t.Errorf("only %d of 2000 were converted", converted)
	}
}
