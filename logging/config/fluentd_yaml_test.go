package config

import (
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// A configuration of Fluentd written in YAML reads as what it was. What YAML has no place for is told with its place.
func TestFluentdInYAML(t *testing.T) {
	text, err := Write(parsed(t, "fluent.conf", `<system>
  workers 2
</system>
<source>
  @type tail
  tag a
  read_from_head on
  <parse>
    @type json
  </parse>
</source>
<label @x>
  <filter a.** b>
    @type grep
    <regexp>
      key k
      pattern /^a: "b"#c$/
    </regexp>
    <regexp>
      key l
      pattern x
    </regexp>
  </filter>
  <match **>
    @type stdout
    host "#{ENV['H']}:1"
    <buffer tag,time>
    </buffer>
    <inject>
    </inject>
  </match>
</label>
`), YAML)
	want := `system:
  workers: 2
config:
  - source:
      $type: tail
      tag: a
      read_from_head: "on"
      parse:
        $type: json
  - label:
      $name: "@x"
      config:
        - filter:
            $tag: "a.** b"
            $type: grep
            regexp:
              - key: k
                pattern: "/^a: \"b\"#c$/"
              - key: l
                pattern: x
        - match:
            $tag: "**"
            $type: stdout
            host: !fluent/s "#{ENV['H']}:1"
            buffer:
              $arg: "tag,time"
            inject: {}
`
	if err != nil || string(text) != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, text, want)
	}
	for text, want := range map[string]string{
		"a b\n":                             "fluent.conf:1:1: ",
		"<match a>\n  k 1\n  k 2\n</match>": `fluent.conf:3:3: "k" stands twice`,
		"<match a>\n  k 1\n  <k>\n  </k>\n</match>": `fluent.conf:1:1: "k" stands twice`,
		"<other>\n</other>":                         "fluent.conf:1:1: Fluentd's YAML format has no place for <other>",
		"<label @a>\n  k 1\n</label>":               `fluent.conf:2:3: Fluentd's YAML format has no place for "k"`,
		"<system>\n</system>\n<system>\n</system>":  "",
		"<match a>\n  $tag b\n</match>":             `fluent.conf:2:3: "$tag" cannot be a name`,
	} {
		if _, err := Write(parsed(t, "fluent.conf", text), YAML); want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func parsed(t *testing.T, name, text string) *File {
	t.Helper()
	f, err := Parse(name, []byte(text), Options{Format: Fluentd})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// FuzzFluentdYAML: what is written in YAML reads as what it was.
func FuzzFluentdYAML(f *testing.F) {
	seeds, _ := filepath.Glob("testdata/*.txtar")
	for _, name := range seeds {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	f.Add([]byte("<match a>\n  k \"#{x}\\n\" # c\n  l 010\n  m ~\n  n 1_000\n  o null\n  p 'q'\n  q off\n  r 2001-01-01\n  s .inf\n  t 0x1F\n  u \"\"\n  v\n  w [1]\n  x {\"a\":1}\n</match>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o := Options{Format: Fluentd, Open: func(string) ([]byte, error) { return nil, fs.ErrNotExist }, Glob: func(string) ([]string, error) { return nil, nil }}
		first, err := Parse("f.conf", data, o)
		if err != nil || len(first.Read) > 1 {
			return
		}
		text, err := Write(first, YAML)
		if err != nil {
			return
		}
		second, err := Parse("f.yaml", text, o)
		if err != nil {
			t.Fatalf("%v\n%s\nwas\n%s", err, text, data)
		}
		slices.SortStableFunc(first.Sections, func(a, b *Section) int { return systemFirst(a) - systemFirst(b) })
		if a, b := said(first.Sections, true), said(second.Sections, true); !reflect.DeepEqual(a, b) {
			t.Fatalf("%s\nbecame\n%s\n%v\n%v", data, text, a, b)
		}
	})
}

func systemFirst(s *Section) int {
	if s.Kind == "system" {
		return 0
	}
	return 1
}

// said is what sections say: inside of a plugin those of one kind together.
func said(sections []*Section, ordered bool) []any {
	sections = slices.Clone(sections)
	if !ordered {
		slices.SortStableFunc(sections, func(a, b *Section) int { return strings.Compare(a.Kind, b.Kind) })
	}
	var all []any
	for _, s := range sections {
		one := []any{s.Kind, s.Arg}
		for _, p := range s.Properties {
			one = append(one, p.Key, p.Value, p.Embedded)
		}
		all = append(all, append(one, said(s.Sections, s.Kind == "label" || s.Kind == "worker")))
	}
	return all
}
