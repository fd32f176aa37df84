package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/value"
)

func dict(pairs ...any) *value.Dict {
	d := value.NewDict(0)
	for i := 0; i < len(pairs); i += 2 {
		d.Set(pairs[i].(string), pairs[i+1].(value.Value))
	}
	return d
}

// The style of each text is libyaml's choice, with quotes around what another
// reader could take for something else than a string.
func TestYAMLStrings(t *testing.T) {
	for text, want := range map[string]string{
		"plain":        "plain",
		"two words":    "two words",
		"":             "''",
		"y":            "'y'",
		"Off":          "'Off'",
		"1.0":          "'1.0'",
		"1.2.3":        "'1.2.3'",
		"-dash":        "'-dash'",
		"it's":         "it's",
		"'quoted'":     "'''quoted'''",
		"a: b":         "'a: b'",
		"a:b":          "a:b",
		"a #b":         "'a #b'",
		"#a":           "'#a'",
		"tail ":        "'tail '",
		"tab\there":    `"tab\there"`,
		"line\n":       "|\n  line",
		"two\nlines":   "|-\n  two\n  lines",
		"keep\n\n":     "|+\n  keep\n",
		"gap\n\nend":   "|-\n  gap\n\n  end",
		" lead\nx":     "|2-\n   lead\n  x",
		"trail \nx":    `"trail \nx"`,
		"bell\x07":     `"bell\a"`,
		"grüße":        "grüße",
		"\u0085":       `"\N"`,
		"null":         "'null'",
		"0x1F":         "'0x1F'",
		"e5":           "e5",
		"inf":          "inf",
		"@at":          "'@at'",
		"{a}":          "'{a}'",
		"a, b":         "a, b",
		"https://x/y":  "https://x/y",
		"12:30":        "'12:30'",
		"=":            "=",
		"?":            "'?'",
		"~x":           "~x",
		"true story":   "true story",
		"back\\slash":  `back\slash`,
		"\"double\"":   `'"double"'`,
		"a\rb":         `"a\rb"`,
		"\ufeffmarker": `"\uFEFFmarker"`,
	} {
		got := plan.YAML(dict("k", value.Str(text)), plan.Options{})
		if got != "k: "+want+"\n" {
			t.Errorf("%q: got %q, want %q", text, got, "k: "+want+"\n")
		}
		var back map[string]any
		if err := yaml.Unmarshal([]byte(got), &back); err != nil {
			t.Errorf("%q: %v", text, err)
		} else if back["k"] != text && text != "y" && text != "\ufeffmarker" {
			t.Errorf("%q is read back as %v", text, back["k"])
		}
	}
}

func TestYAMLShapes(t *testing.T) {
	v := dict(
		"list", value.NewList(value.Int(1), value.NewList(value.Int(2), value.Int(3)), dict("a", value.Int(1), "b", value.Int(2))),
		"empty", value.NewList(), "nothing", dict(), "none", value.None, "gone", value.Undefined,
		"deep", dict("list", value.NewList(dict("text", value.Str("a\nb\n")))),
		"float", value.Float(3), "small", value.Float(1e-7), "big", value.Float(1e16), "fit", value.Float(0.00001),
		strings.Repeat("k", 129), dict("x", value.Int(1)),
		"with\nbreak", value.NewList(value.Int(1)),
		"y", value.Bool(true),
	)
	want := `list:
- 1
- - 2
  - 3
- a: 1
  b: 2
empty: []
nothing: {}
none: null
deep:
  list:
  - text: |
      a
      b
float: 3.0
small: 1e-7
big: 1e16
fit: 0.00001
? ` + strings.Repeat("k", 129) + `
: x: 1
? |-
  with
  break
: - 1
'y': true
`
	if got := plan.YAML(v, plan.Options{}); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestOptions(t *testing.T) {
	v := dict("b", value.None, "_h", value.Int(1), "a", dict("z", value.Int(1), "y", value.NewList(value.None, value.Int(1))))
	for _, c := range []struct {
		o    plan.Options
		want string
	}{
		{plan.Options{}, `{"b": null, "_h": 1, "a": {"z": 1, "y": [null, 1]}}`},
		{plan.Options{HidePrivate: true, SortKeys: true}, `{"a": {"y": [null, 1], "z": 1}, "b": null}`},
		{plan.Options{DropNone: true}, `{"_h": 1, "a": {"z": 1, "y": [1]}}`},
	} {
		if got := plan.JSON(v, c.o, 0); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.o, got, c.want)
		}
	}
	if _, err := plan.Select(v, []string{"a.x"}); err == nil || err.Error() != "invalid path select operand a.x, value not found" {
		t.Errorf("selecting what is not there gave %v", err)
	}
}

func TestTOML(t *testing.T) {
	v := dict("name", value.Str("x"), "server", dict("port", value.Int(1), "tls", dict("on", value.Bool(true))),
		"item", value.NewList(dict("a", value.Int(1)), dict("a", value.Int(2))), "none", value.None, "size", value.Float(2))
	got, err := plan.TOML([]value.Value{v}, plan.Options{})
	want := `name = "x"
size = 2.0

[server]
  port = 1
  [server.tls]
    on = true

[[item]]
  a = 1

[[item]]
  a = 2

`
	if err != nil || got != want {
		t.Errorf("%v, got:\n%s\nwant:\n%s", err, got, want)
	}
	if _, err := plan.TOML([]value.Value{value.Int(1)}, plan.Options{}); err == nil {
		t.Error("a number became a TOML document")
	}
}

func TestReadJSONErrors(t *testing.T) {
	for text, want := range map[string]string{
		``:                       "EOF while parsing a value at line 1 column 0",
		`{"a": 1,}`:              "trailing comma at line 1 column 9",
		`{"a": nope}`:            "expected ident at line 1 column 8",
		"[1,\n 2 3]":             "expected `,` or `]` at line 2 column 4",
		`{a: 1}`:                 "key must be a string at line 1 column 2",
		`1 2`:                    "trailing characters at line 1 column 3",
		`"abc`:                   "EOF while parsing a string at line 1 column 4",
		strings.Repeat("[", 200): "recursion limit exceeded at line 1 column 128",
	} {
		if _, err := plan.ReadJSON(text); err == nil || err.Error() != want {
			t.Errorf("%.20q: got %v, want %s", text, err, want)
		}
	}
}

func TestReadYAML(t *testing.T) {
	v, err := plan.ReadYAML("a: 0x10\nb: 010\nc: 1.5\nd: 1e3\ne: ~\nf: 'x'\n1: one\nbase: &b {p: 1}\nuse:\n  <<: *b\n  q: 2\n")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"a": 16, "b": "010", "c": 1.5, "d": 1000.0, "e": null, "f": "x", "1": "one", "base": {"p": 1}, "use": {"q": 2, "p": 1}}`
	if got := plan.JSON(v, plan.Options{}, 0); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for _, next := range []string{"ba", "cb", "dc", "ed", "fe", "gf", "hg"} {
		bomb += next[:1] + ": &" + next[:1] + " [" + strings.Repeat("*"+next[1:]+",", 10) + "]\n"
	}
	if _, err := plan.ReadYAML(bomb); err == nil {
		t.Error("a bomb of aliases was read")
	}
}

func FuzzReadJSON(f *testing.F) {
	for _, s := range []string{`{"a": [1, 2.5, "x\u00e9", null, true]}`, `[`, `"\ud800"`, `-`, `1e999`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := plan.ReadJSON(s)
		if err != nil {
			return
		}
		again, err := plan.ReadJSON(plan.JSON(v, plan.Options{}, 2))
		if err != nil || !value.Equal(v, again) {
			t.Fatalf("%q: written and read again: %v", s, err)
		}
	})
}

func FuzzReadYAML(f *testing.F) {
	for _, s := range []string{"a: 1\n", "- x\n- [a, b]\n", "a: &x 1\nb: *x\n", "? [a]\n: b", "|\n  x", "%YAML 1.2\n---\n", "!!int x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("%q takes too long", s)) }).Stop()
		docs, err := plan.ReadYAMLStream(s)
		if err != nil {
			return
		}
		for _, v := range docs {
			again, err := plan.ReadYAML(plan.YAML(v, plan.Options{}))
			if err != nil {
				t.Fatalf("%q: written as %q and not read again: %v", s, plan.YAML(v, plan.Options{}), err)
			}
			if !value.Equal(v, again) {
				t.Fatalf("%q: written as %q and read as %s", s, plan.YAML(v, plan.Options{}), value.Text(again))
			}
		}
	})
}
